"""How many of the Tennessee Eastman process's faults are found, at a fixed rate of false alarms?

Learns on d00 alone: 500 healthy rows of 52 variables, 3 minutes apart. Each model's threshold is
the quantile of its scores on d00_te, another healthy run, that leaves 1 % (and 5 %) of its rows
above: the figure of the literature. Then the share of rows 161 on of every dXX_te that are above
it, and, honestly, of its rows 1 to 160, which come before the fault.

    python benchmarks/tep.py --data FOLDER [--seeds 0 1 2] [--quick] [--check] [--json FILE]

FOLDER holds d00, d00_te and any dXX_te, .csv or .csv.gz, with a header, one column a variable
(a column `sample` is a row number, and is left out).
"""

import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from _detection import (
    F64,
    Figures,
    Found,
    Given,
    LayoutError,
    learn,
    main,
    numbers,
    read_csv,
    say,
    score,
    stretch,
)

from models.contract import Stretch
from models.settings import (
    DetectorSettings,
    EnsembleSettings,
    EwmaSettings,
    GruSettings,
    LstmSettings,
    PcaSettings,
    TrainingSettings,
)

TICK_MS = 180_000
BEFORE = 160  # rows of a test run before its fault
HARD = (3, 9, 15)  # barely move the process: reported apart, as is usual
RATES = (1, 5)  # % of d00_te's rows over the threshold
ROW_NUMBER = "sample"


@dataclass(frozen=True, slots=True)
class Runs:
    """What the folder holds."""

    names: tuple[str, ...]  # of the variables
    healthy: Stretch  # d00
    other: Stretch  # d00_te
    faults: Mapping[int, Stretch]  # dXX_te


def read(folder: Path) -> Runs:
    """The runs of a folder. Raises LayoutError."""
    files = {
        match[1]: path
        for path in sorted(folder.iterdir())
        if (match := re.fullmatch(r"(d\d+(?:_te)?)\.csv(?:\.gz)?", path.name))
    }
    wanted = [name for name in ("d00", "d00_te") if name not in files]
    faults = {int(name[1:3]): name for name in files if name.endswith("_te") and name != "d00_te"}
    if wanted or not faults:
        missing = ", ".join(wanted) or "any dXX_te of a fault"
        raise LayoutError(
            f"{folder}: no {missing} (.csv or .csv.gz); {len(files)} files of that kind"
        )
    healthy = read_csv(files["d00"])
    names = tuple(name for name in healthy if name != ROW_NUMBER)

    def run(name: str) -> Stretch:
        value = numbers(files[name], names, read_csv(files[name]))
        return stretch(name, value, tick_ms=TICK_MS)

    runs = {number: run(name) for number, name in sorted(faults.items())}
    short = [each.asset for each in runs.values() if len(each) <= BEFORE]
    if short:
        raise LayoutError(f"{folder}: want more than {BEFORE} rows in {', '.join(short)}")
    return Runs(names, run("d00"), run("d00_te"), runs)


def figures(healthy: F64, faults: Mapping[int, F64]) -> dict[str, float]:
    """The metrics from the scores of d00_te and of each fault's run; percent."""
    found: dict[str, float] = {}
    for rate in RATES:
        threshold = np.quantile(healthy, 1 - rate / 100)
        over = {number: scores > threshold for number, scores in faults.items()}
        detected = {number: 100 * float(over[number][BEFORE:].mean()) for number in faults}
        for name, some in (
            ("", [detected[number] for number in faults if number not in HARD]),
            ("_hard", [detected[number] for number in faults if number in HARD]),
        ):
            if some:
                found[f"fdr_far{rate}{name}"] = statistics.fmean(some)
        early = np.concatenate([over[number][:BEFORE] for number in faults])
        found[f"prefault_far{rate}"] = 100 * float(early.mean())
        found |= {f"fault_{number}_far{rate}": value for number, value in detected.items()}
    return found


SPANS = (1, 3, 8, 20)  # ticks
WHITENED = EwmaSettings(spans=SPANS, lags=3, warmup_ticks=0)
GRU = GruSettings(spans=SPANS, lags=3, hidden=32, warmup_ticks=0)
LEAD = "whitened lags"
BASELINES: dict[str, DetectorSettings] = {
    "PCA T2": PcaSettings(statistics=("t2",), warmup_ticks=0),
    "PCA SPE": PcaSettings(statistics=("spe",), warmup_ticks=0),
    "EWMA-Mahalanobis": EwmaSettings(spans=SPANS, warmup_ticks=0),
    LEAD: WHITENED,
}
NETWORKS: dict[str, DetectorSettings] = {
    "ensemble of GRU and whitened lags": EnsembleSettings(members=(GRU, WHITENED), warmup_ticks=0),
    "GRU": GRU,
    "LSTM": LstmSettings(spans=SPANS, lags=3, hidden=32, warmup_ticks=0),
}


def measure(given: Given) -> Found:
    """Train and score every model."""
    runs = read(given.data)
    judged = [runs.other, *runs.faults.values()]
    found: dict[str, Sequence[Figures]] = {}
    for name, settings in {**BASELINES, **NETWORKS}.items():
        each = []
        for seed in given.seeds[:1] if name in BASELINES else given.seeds:
            say(f"{name}, seed {seed}")
            training = TrainingSettings(seed=seed, epochs=3 if given.quick else 40, device="cpu")
            bundle = learn([runs.healthy], runs.names, settings, training).bundle
            scores = score(bundle, judged)
            raw = [one.raw.astype(np.float64) for one in scores]
            each.append(figures(raw[0], dict(zip(runs.faults, raw[1:], strict=True))))
        found[name] = each
        if name == LEAD or (name in NETWORKS and not given.quick):
            given.proofs.add(name, bundle, judged, scores)
    chosen = {name: settings.model_dump() for name, settings in NETWORKS.items()}
    return Found(lead=LEAD, baselines=tuple(BASELINES), models=found, chosen=chosen)


if __name__ == "__main__":
    main("tep", __doc__ or "", measure)

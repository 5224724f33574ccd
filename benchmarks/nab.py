"""How early are failures seen in temperatures that wander (Numenta Anomaly Benchmark)?

The temperature series of NAB's realKnownCause, each followed once, online. Learnt from their
probation alone, the first 15 % of the rows (at most 750), which NAB does not score. A frame is the
mean of an hour: one kind, one model and one threshold for all series, which is the greatest
surprise of the probation: no label is looked at.
An alarm is one row, where the product raises it; it may come again once the surprise has been at
rest for a day.

    python benchmarks/nab.py --data FOLDER [--seeds 0 1 2] [--quick] [--check] [--json FILE]

FOLDER holds labels.json (name: {windows: [[first, last], ...]}) and <name>.csv or .csv.gz with
columns timestamp and value. Series whose name has no "temperature" in it are left out.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from _detection import (
    Bool,
    Figures,
    Found,
    Given,
    LayoutError,
    alarmed,
    learn,
    main,
    numbers,
    part,
    read_csv,
    say,
    score,
    stretch,
    together,
)
from _nab import PROFILES, Truth, points, probation
from numpy.typing import NDArray

from models.bundle import Bundle
from models.calibration import LEAST_FRAMES
from models.contract import Stretch
from models.settings import DetectorSettings, EwmaSettings, GruSettings, TrainingSettings
from models.training import Trained
from monitor.core.plan import AlarmSettings
from monitor.core.records import Scores, ScoreState

HOUR_S = 3600
DAY = 24  # frames
WHAT = "temperature"


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One series, and its rows as frames."""

    name: str
    truth: Truth
    rows: int  # of a frame
    frames: Stretch
    learnt: int  # frames of the probation

    def at(self, raised: Bool) -> Bool:
        """Frames [T] as rows: a frame is known with its last row."""
        flags = np.zeros(self.truth.rows, np.bool_)
        flags[(np.flatnonzero(raised) + 1) * self.rows - 1] = True
        return flags


def read(folder: Path) -> list[Series]:
    """The labelled temperature series of a folder. Raises LayoutError."""
    labels = folder / "labels.json"
    try:
        windows = {name: each["windows"] for name, each in json.loads(labels.read_text()).items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LayoutError(f"{labels}: want {{name: {{windows: ...}}}}: {error}") from error
    series = []
    for path in sorted(folder.glob("*.csv*")):
        name = path.name.removesuffix(".gz").removesuffix(".csv")
        if name in windows and WHAT in name:
            series.append(_series(path, name, windows[name]))
    if not any(each.truth.windows for each in series):
        raise LayoutError(f"{folder}: no labelled series with {WHAT!r} in its name has a window")
    if sum(each.learnt for each in series) < 2 * LEAST_FRAMES:
        raise LayoutError(
            f"{folder}: want {2 * LEAST_FRAMES} hours of probation in all, got "
            f"{', '.join(f'{each.learnt} of {each.name}' for each in series)}"
        )
    return series


def _series(path: Path, name: str, windows: Sequence[Sequence[str]]) -> Series:
    columns = read_csv(path)
    if not {"timestamp", "value"} <= columns.keys():
        raise LayoutError(f"{path}: want columns timestamp and value, got {', '.join(columns)}")
    value = numbers(path, ["value"], columns)[:, 0]
    if len(value) < 2:
        raise LayoutError(f"{path}: want two rows or more, got {len(value)}")
    try:
        stamp = columns["timestamp"].astype("datetime64[s]")
    except ValueError as error:
        raise LayoutError(f"{path}: want times in timestamp: {error}") from error
    step_s = float(np.median(np.diff(stamp).astype(np.int64)))
    rows = max(round(HOUR_S / step_s), 1)
    whole = len(value) // rows
    hours = value[: whole * rows].reshape(whole, rows).mean(axis=1)
    return Series(
        name=name,
        truth=Truth(_rows(stamp, windows), len(value)),
        rows=rows,
        frames=stretch(name, hours[:, None], tick_ms=1000 * HOUR_S),
        learnt=probation(len(value)) // rows,
    )


def _rows(
    stamp: NDArray[np.datetime64], windows: Sequence[Sequence[str]]
) -> tuple[tuple[int, int], ...]:
    """First and last row of each window; stamps may come twice, when clocks are put back."""
    edges = np.array(windows, dtype="datetime64[s]").reshape(-1, 2)
    return tuple(
        (int(np.argmax(stamp == first)), int(np.argmax(stamp == last))) for first, last in edges
    )


def threshold(bundle: Bundle, series: Sequence[Series]) -> float:
    """The greatest surprise of the probation, followed as it is live."""
    scores = score(bundle, [part(each.frames, 0, each.learnt) for each in series])
    surprises = [each.surprise[each.state == ScoreState.OK] for each in scores]
    return max(float(surprise.max(initial=0.0)) for surprise in surprises)


def measured(limit: float, series: Sequence[Series], scores: Sequence[Scores]) -> Figures:
    """The metrics, with that threshold."""
    frames = [each.frames for each in series]
    alarm = AlarmSettings(off_delay_s=DAY * HOUR_S)
    active = alarmed(alarm, limit, frames, scores)
    raised = [flags & ~np.concatenate([[False], flags[:-1]]) for flags in active]
    found = [(each.truth, each.at(flags)) for each, flags in zip(series, raised, strict=True)]
    return {name: points(found, profile) for name, profile in PROFILES.items()}


DRIFT = 14 * DAY  # slow enough for a failure of some days to show
LEAD = "half-day mean, drifting level and spread"
MODELS: dict[str, DetectorSettings] = {
    LEAD: EwmaSettings(spans=(DAY // 2,), level_span=DRIFT, spread_span=DRIFT, warmup_ticks=DAY),
    "half-day mean, drifting level": EwmaSettings(
        spans=(DAY // 2,), level_span=DRIFT, warmup_ticks=DAY
    ),
    "EWMA-Mahalanobis": EwmaSettings(spans=(1, 4, 16), warmup_ticks=DAY),
}
BASELINES = ("EWMA-Mahalanobis",)
NETWORKS: dict[str, DetectorSettings] = {
    "GRU": GruSettings(hidden=16, spans=(1, 4, 16), warmup_ticks=DAY),
}
JOINED = "the first and a GRU"


def measure(given: Given) -> Found:
    """Train and score every model."""
    series = read(given.data)
    frames = [each.frames for each in series]
    healthy = [part(each.frames, 0, each.learnt) for each in series]
    found: dict[str, list[Figures]] = {}
    limits: dict[str, float] = {}

    def judge(name: str, *members: Trained) -> None:
        bundle = together(*([member] for member in members))[0]
        scores = score(bundle, frames)
        limits[name] = threshold(bundle, series)
        found.setdefault(name, []).append(measured(limits[name], series, scores))
        if len(found[name]) == 1 and name in {LEAD, JOINED}:
            given.proofs.add(name, bundle, frames, scores)

    lead = learn(healthy, ["value"], MODELS[LEAD])
    judge(LEAD, lead)
    for name, settings in MODELS.items():
        if name != LEAD:
            judge(name, learn(healthy, ["value"], settings))
    for seed in given.seeds:
        training = TrainingSettings(
            seed=seed, epochs=2 if given.quick else 40, chunk_ticks=24, device="cpu"
        )
        for name, settings in NETWORKS.items():
            say(f"{name}, seed {seed}")
            network = learn(healthy, ["value"], settings, training)
            judge(name, network)
            judge(JOINED, lead, network)
    chosen = {"lead": MODELS[LEAD].model_dump(mode="json"), "thresholds": limits}
    return Found(lead=LEAD, baselines=BASELINES, models=found, chosen=chosen)


if __name__ == "__main__":
    main("nab", __doc__ or "", measure)

"""How well is a fault of a water-circulation test bed told from its health (SKAB v0.9)?

Of each recording the first 400 rows are learnt from, without labels, and the rest is judged: its
rows are right or wrong by the labels, counted over all recordings. The flags are the product's own
alarms. Threshold and return ratio, one pair for all recordings, are chosen leave-one-file-out: each
recording is judged with the pair that does best for all the others. Where an alarm begins or
ends is also a changepoint, scored by NAB windows of 60 s.

All recordings are of one machine. The sensors of each are scaled by its first rows. What has no
network learns from those alone; networks and their judges learn from the first rows of all
recordings, and of those of all the calibrations are made. The ensemble in the lead is shown
without each of its members, too.

    python benchmarks/skab.py --data FOLDER [--seeds 0 1 2] [--quick] [--check] [--json FILE]

FOLDER holds folders (valve1, valve2, other, whatever they are called) of .csv or .csv.gz files,
separated by semicolons, with a header: datetime, anomaly, changepoint, and one column a sensor.
Files without anomaly and changepoint are left out.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from _detection import (
    F64,
    Bool,
    Figures,
    Found,
    Given,
    LayoutError,
    alarmed,
    learn,
    main,
    part,
    read_csv,
    say,
    score,
    stretch,
    together,
)
from numpy.typing import NDArray

from models.contract import Stretch
from models.scaling import Scaling
from models.settings import (
    DetectorSettings,
    EwmaSettings,
    GruSettings,
    LstmSettings,
    MaskedGruSettings,
    PcaSettings,
    TrainingSettings,
)
from models.training import Trained
from monitor.core.plan import AlarmSettings
from monitor.core.records import Scores

TICK_MS = 1000
LEARNT = 400  # rows of each recording
WINDOW_S = 60.0  # in which a changepoint counts as found
QUICK_FILES = 3
WHEN, LABEL, CHANGE = "datetime", "anomaly", "changepoint"

THRESHOLDS = tuple(round(1.07**power, 2) for power in range(20))  # surprise 1.0 to 3.6
RATIOS = (0.0, 0.3, 0.5)  # return_ratio
CHOICES = tuple(itertools.product(THRESHOLDS, RATIOS))
QUICK_CHOICES = tuple(itertools.product(THRESHOLDS[::4], RATIOS))

# NAB's standard profile: weights of what is found, false and missed
FOUND, FALSE, MISSED = 1.0, -0.11, -1.0


@dataclass(frozen=True, slots=True)
class Recording:
    """One file."""

    rows: Stretch  # each sensor in deviations of its first rows, about their mean
    names: tuple[str, ...]  # of the sensors
    second: F64  # [T] since its first row
    label: Bool  # [T] a fault is on
    change: Bool  # [T] a fault begins or ends, or changes


def read(folder: Path) -> list[Recording]:
    """All recordings below a folder. Raises LayoutError."""
    paths = sorted(path for kind in ("*.csv", "*.csv.gz") for path in folder.glob(f"*/{kind}"))
    found = [recording for path in paths if (recording := _read(path)) is not None]
    if not found:
        raise LayoutError(
            f"{folder}: no folder in it holds .csv or .csv.gz files with columns {WHEN}, {LABEL} "
            f"and {CHANGE}, separated by semicolons ({len(paths)} files of that kind)"
        )
    for one in found:
        if one.names != found[0].names:
            raise LayoutError(
                f"{one.rows.asset}: want the sensors of {found[0].rows.asset}, "
                f"{', '.join(found[0].names)}; got {', '.join(one.names)}"
            )
    return found


def _read(path: Path) -> Recording | None:
    columns = read_csv(path, delimiter=";")
    if WHEN not in columns:
        raise LayoutError(f"{path}: want a column {WHEN}, got {', '.join(columns)}")
    if LABEL not in columns or CHANGE not in columns:
        return None  # a recording of health alone
    names = tuple(name for name in columns if name not in {WHEN, LABEL, CHANGE})
    value = np.stack([columns[name].astype(np.float64) for name in names], axis=1)
    if len(value) <= LEARNT:
        raise LayoutError(f"{path}: want more than {LEARNT} rows, got {len(value)}")
    when = columns[WHEN].astype("datetime64[ms]").astype(np.int64) / 1000
    rows = stretch(f"{path.parent.name}/{path.name.split('.')[0]}", value, tick_ms=TICK_MS)
    scaling = Scaling.fit([part(rows, 0, LEARNT)])
    scaled, _ = scaling.apply(rows.value, rows.valid)
    return Recording(
        rows=replace(rows, value=np.where(rows.valid, scaled, np.nan)),
        names=names,
        second=when - when[0],
        label=columns[LABEL] == 1,
        change=columns[CHANGE] == 1,
    )


# ---- figures ----------------------------------------------------------------------------------


def counts(label: Bool, flag: Bool) -> NDArray[np.int64]:
    """Rows that are rightly flagged, wrongly flagged, missed, rightly not flagged: [4]."""
    right = np.array([label & flag, ~label & flag, label & ~flag, ~label & ~flag])
    return np.asarray(right.sum(axis=1), np.int64)


def f1(counted: NDArray[np.int64]) -> F64:
    """Of counts [..., 4]; 0 where nothing is labelled or flagged."""
    hit, false, missed = (counted[..., n].astype(np.float64) for n in range(3))
    return np.asarray(hit / np.maximum(hit + (false + missed) / 2, 0.5))


def nab(recordings: Sequence[Recording], flags: Sequence[Bool]) -> float | None:
    """NAB's standard score of the changepoints, in points; None where there are none.

    100 is every one found at once and nothing else, 0 is nothing found. Of what is found in a
    window only the first counts, the earlier the better (a scaled tanh, as in the leaderboard).
    """
    total, points = 0.0, 0.0
    for recording, flag in zip(recordings, flags, strict=True):
        judged = slice(LEARNT, None)
        second = recording.second[judged] - recording.second[LEARNT]
        at = second[np.diff(flag[judged].astype(np.int8), prepend=0) != 0]
        begins = second[recording.change[judged]]
        ends = begins + WINDOW_S
        begins = np.maximum(begins, np.append(-np.inf, ends[:-1]))  # windows do not overlap
        inside = np.zeros(len(at), np.bool_)
        for begin, end in zip(begins, ends, strict=True):
            own = (at >= begin) & (at <= end)
            inside |= own
            points += _worth((at[own][0] - begin) / max(end - begin, 1e-9)) if own.any() else MISSED
        points += FALSE * np.count_nonzero(~inside)
        total += len(begins)
    return float(100 * (points - MISSED * total) / ((FOUND - MISSED) * total)) if total else None


def _worth(place: float) -> float:
    """Of a changepoint found at this share (0..1) of its window."""
    half = (FOUND - FALSE) / 2
    steep = np.pi / 2  # of the leaderboard's curve, from -pi/2 to pi/2
    return float(half + FALSE - half * np.tanh((2 * place - 1) * steep) / np.tanh(steep))


def figures(
    recordings: Sequence[Recording],
    scores: Sequence[Scores],
    choices: Sequence[tuple[float, float]],
) -> tuple[Figures, list[tuple[float, float]]]:
    """The metrics, and the choice (threshold, return ratio) that each recording is judged with."""
    stretches = [recording.rows for recording in recordings]
    flags: list[list[Bool]] = []  # of each choice and recording
    for threshold, ratio in choices:
        say(f"alarms at a surprise of {threshold:g}, return ratio {ratio:g}")
        flags.append(alarmed(AlarmSettings(return_ratio=ratio), threshold, stretches, scores))
    labels = [recording.label[LEARNT:] for recording in recordings]
    counted = np.array(
        [
            [counts(label, flag[LEARNT:]) for label, flag in zip(labels, own, strict=True)]
            for own in flags
        ]
    )
    chosen = leave_one_out(counted)
    taken = counted[chosen, np.arange(len(recordings))].sum(0)
    hit, false, missed, quiet = (float(count) for count in taken)
    found = {
        "f1": float(f1(taken)),
        "far": 100 * false / max(false + quiet, 1.0),
        "mar": 100 * missed / max(hit + missed, 1.0),
    }
    own = [flags[choice][number] for number, choice in enumerate(chosen)]
    if (points := nab(recordings, own)) is not None:
        found["nab_standard"] = points
    return found, [choices[choice] for choice in chosen]


def leave_one_out(counted: NDArray[np.int64]) -> list[int]:
    """For each recording the best choice for all others; counts [choices, recordings, 4].

    Best is the highest F1, averaged over a threshold and the ones just below and above it: a peak
    that its neighbours do not share is chance.
    """
    if counted.shape[1] == 1:
        return [len(counted) // 2]  # there is no other recording to choose with
    others = f1(counted.sum(1, keepdims=True) - counted)
    by_threshold = others.reshape(-1, len(RATIOS), counted.shape[1])
    padded = np.pad(by_threshold, ((1, 1), (0, 0), (0, 0)), "edge")
    smooth = (padded[:-2] + padded[1:-1] + padded[2:]) / 3
    best: list[int] = smooth.reshape(others.shape).argmax(0).tolist()
    return best


# ---- models -----------------------------------------------------------------------------------

SPAN = 20  # ticks
BASELINES: dict[str, DetectorSettings] = {
    "EWMA-Mahalanobis": EwmaSettings(spans=(SPAN,), warmup_ticks=0),
    "PCA T2 and SPE": PcaSettings(span=SPAN, warmup_ticks=0),
}
NETWORKS: dict[str, DetectorSettings] = {
    "masked GRU": MaskedGruSettings(spans=(SPAN,), hidden=32, warmup_ticks=0),
    "masked GRU, discriminator": MaskedGruSettings(
        spans=(SPAN,), judge="discriminator", hidden=32, warmup_ticks=0
    ),
    "GRU": GruSettings(spans=(SPAN,), hidden=32, warmup_ticks=0),
    "LSTM": LstmSettings(spans=(SPAN,), hidden=32, warmup_ticks=0),
}
LEAD, REST = "ensemble", "ensemble without networks"
MEMBERS = (*BASELINES, "masked GRU")
ENSEMBLES = {
    LEAD: MEMBERS,
    REST: tuple(BASELINES),
    "ensemble with a discriminator": (*MEMBERS, "masked GRU, discriminator"),
    **{
        f"ensemble without {out}": tuple(member for member in MEMBERS if member != out)
        for out in BASELINES
    },
}


def measure(given: Given) -> Found:
    """Train and judge every model."""
    recordings, choices = read(given.data), CHOICES
    if given.quick:
        recordings, choices = recordings[:QUICK_FILES], QUICK_CHOICES
    steady = {name: learnt(recordings, settings) for name, settings in BASELINES.items()}
    found: dict[str, list[Figures]] = {}
    chosen: dict[str, object] = {}
    for seed in given.seeds:
        training = TrainingSettings(seed=seed, epochs=2 if given.quick else 40, device="cpu")
        trained = {**steady}
        for name, settings in NETWORKS.items():
            first = [part(one.rows, 0, LEARNT) for one in recordings]
            of_all = learn(first, recordings[0].names, settings, training)
            trained[name] = [of_all] * len(recordings)
        for name in (*ENSEMBLES, *trained):
            if name in {REST, *steady} and name in found:
                continue  # chance plays no part in it
            bundles = together(*(trained[member] for member in ENSEMBLES.get(name, (name,))))
            scores = [
                score(bundle, [one.rows])[0]
                for bundle, one in zip(bundles, recordings, strict=True)
            ]
            metrics, taken = figures(recordings, scores, choices)
            found.setdefault(name, []).append(metrics)
            chosen[name] = sorted({choice: taken.count(choice) for choice in taken}.items())
            if seed == given.seeds[0] and name in {LEAD, *NETWORKS}:
                for bundle, one, own in zip(bundles, recordings, scores, strict=True):
                    given.proofs.add(name, bundle, [one.rows], [own])
    return Found(lead=LEAD, baselines=(*BASELINES, REST), models=found, chosen=chosen)


def learnt(recordings: Sequence[Recording], settings: DetectorSettings) -> list[Trained]:
    """From the first rows of each recording by itself."""
    found = []
    for one in recordings:
        say(f"{settings.type}: {one.rows.asset}")
        first = [part(one.rows, 0, LEARNT)]
        found.append(learn(first, one.names, settings))
    return found


if __name__ == "__main__":
    main("skab", __doc__ or "", measure)

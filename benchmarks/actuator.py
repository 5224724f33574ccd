"""Do damaged hydraulic actuators score above healthy ones that were never seen?

Learnt from the strokes of act_1 and act_2, two healthy units, each judged by a calibration of the
other. A frame is 25 samples; a channel is the standard deviation of a sensor within it, so where a
unit is mounted or how warm it is plays no part: on the level of its angle alone, the two healthy
units are told apart without fail, and so would any third be. Of the sensors the angle is used, how
fast the actuator travels: of all that the recordings hold, it differs least between the two units
learnt from. The first frames of a stroke, when converter and valve start, are not scored. A
stroke's score is the mean surprise of its frames.

    python benchmarks/actuator.py --data FOLDER [--seeds 0 1 2] [--quick] [--check] [--json FILE]

FOLDER holds act_<n>.npz with x [strokes, samples, sensors], columns [sensors] and damage ("none",
or what is damaged); act_1 and act_2, one other healthy unit or more, and damaged ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from _detection import (
    F64,
    Figures,
    Found,
    Given,
    LayoutError,
    learn,
    main,
    say,
    score,
    stretch,
    together,
)
from scipy.stats import rankdata

from models.contract import Stretch
from models.settings import (
    DetectorSettings,
    EwmaSettings,
    GruSettings,
    PcaSettings,
    TrainingSettings,
)
from models.training import Trained
from monitor.core.records import Scores

LEARNT = ("act_1", "act_2")
HEALTHY = "none"
SENSORS = ("Angle",)
EVERYTHING = ("Accel_1", "Accel_2", "Accel_3", "Angle", "PG_1", "PG_2")
SAMPLES = 25  # of a frame
STARTUP = 4  # frames of a stroke that are not scored: converter and valve start
TICK_MS = 1000  # the recordings do not say
QUICK = 12  # strokes of a unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One actuator."""

    name: str
    damaged: bool
    strokes: tuple[Stretch, ...]


def read(folder: Path, sensors: Sequence[str], *, strokes: int | None = None) -> list[Unit]:
    """The units of a folder, by name. Raises LayoutError."""
    units = [_unit(path, sensors, strokes=strokes) for path in sorted(folder.glob("act_*.npz"))]
    names = [unit.name for unit in units]
    others = [unit for unit in units if unit.name not in LEARNT]
    if not set(LEARNT) <= set(names) or {unit.damaged for unit in others} != {False, True}:
        raise LayoutError(
            f"{folder}: want {' and '.join(LEARNT)}, another healthy unit and a damaged one, "
            f"got {', '.join(names) or 'no act_<n>.npz'}"
        )
    return units


def _unit(path: Path, sensors: Sequence[str], *, strokes: int | None) -> Unit:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            columns = arrays["columns"].tolist()
            samples = arrays["x"][:strokes]
            damage = str(arrays["damage"])
    except (OSError, KeyError, ValueError, BadZipFile) as error:
        raise LayoutError(f"{path}: want arrays x, columns and damage: {error}") from error
    absent = [sensor for sensor in sensors if sensor not in columns]
    if absent or samples.ndim != 3 or samples.shape[1] < (STARTUP + 1) * SAMPLES:
        raise LayoutError(
            f"{path}: want x [strokes, samples, sensors] with {', '.join(sensors)} and "
            f"{(STARTUP + 1) * SAMPLES} samples or more, got {list(samples.shape)} of "
            f"{', '.join(columns)}"
        )
    picked = samples[:, :, [columns.index(sensor) for sensor in sensors]].astype(np.float64)
    frames = picked.shape[1] // SAMPLES
    shape = (len(picked), frames, SAMPLES, len(sensors))
    moved: F64 = picked[:, : frames * SAMPLES].reshape(shape).std(axis=2)
    name = path.stem
    return Unit(
        name=name,
        damaged=damage != HEALTHY,
        strokes=tuple(stretch(name, each[STARTUP:], tick_ms=TICK_MS) for each in moved),
    )


def figures(damaged: F64, healthy: F64) -> dict[str, float]:
    """The metrics from scores of damaged strokes and of strokes of unseen healthy units."""
    ranks = rankdata(np.concatenate([damaged, healthy]))
    count = len(damaged)
    above = ranks[:count].sum() - count * (count + 1) / 2
    return {
        "auc": float(above / (count * len(healthy))),
        "far_at_full_detection": 100 * float((healthy >= damaged.min()).mean()),
    }


def measured(units: Sequence[Unit], scores: Sequence[Sequence[Scores]]) -> Figures:
    """The metrics, from the scores of each unit's strokes."""
    means: Mapping[bool, list[float]] = {False: [], True: []}
    for unit, strokes in zip(units, scores, strict=True):
        means[unit.damaged] += [float(np.nanmean(stroke.surprise)) for stroke in strokes]
    return figures(np.array(means[True]), np.array(means[False]))


SPANS = (1, 4)  # a movement lasts 14 frames or so
LEAD = "EWMA-Mahalanobis of the travel"
MODELS: dict[str, tuple[DetectorSettings, tuple[str, ...]]] = {
    LEAD: (EwmaSettings(spans=SPANS, warmup_ticks=0), SENSORS),
    "EWMA-Mahalanobis, 10 lags": (EwmaSettings(spans=SPANS, lags=10, warmup_ticks=0), SENSORS),
    "nearest example": (EwmaSettings(spans=SPANS, judge="nearest", warmup_ticks=0), SENSORS),
    "EWMA-Mahalanobis, all sensors": (EwmaSettings(spans=SPANS, warmup_ticks=0), EVERYTHING),
    "PCA T2 and SPE, all sensors": (PcaSettings(warmup_ticks=0), EVERYTHING),
}
BASELINES = ("EWMA-Mahalanobis, all sensors", "PCA T2 and SPE, all sensors")
NETWORKS: dict[str, tuple[DetectorSettings, tuple[str, ...]]] = {
    "GRU": (GruSettings(hidden=16, spans=SPANS, warmup_ticks=0), SENSORS),
}
JOINED = "the first and a GRU"


def measure(given: Given) -> Found:
    """Train and score every model."""
    found: dict[str, list[Figures]] = {}
    kept: dict[str, Trained] = {}

    def judge(name: str, units: Sequence[Unit], *members: Trained) -> None:
        bundle = together(*([member] for member in members))[0]
        unseen = [unit for unit in units if unit.name not in LEARNT]
        scores = [score(bundle, unit.strokes) for unit in unseen]
        found.setdefault(name, []).append(measured(unseen, scores))
        if len(found[name]) == 1 and name in {LEAD, JOINED}:
            for unit, own in zip(unseen, scores, strict=True):
                given.proofs.add(name, bundle, unit.strokes, own)

    for name, (settings, sensors) in (MODELS | NETWORKS).items():
        units = read(given.data, sensors, strokes=QUICK if given.quick else None)
        healthy = [each for unit in units if unit.name in LEARNT for each in unit.strokes]
        for seed in given.seeds if name in NETWORKS else given.seeds[:1]:
            say(f"{name}, seed {seed}")
            training = TrainingSettings(
                seed=seed, epochs=2 if given.quick else 20, chunk_ticks=20, device="cpu"
            )
            kept[name] = learn(healthy, sensors, settings, training)
            judge(name, units, kept[name])
            if name in NETWORKS:
                judge(JOINED, units, kept[LEAD], kept[name])
    chosen = {"sensors": list(SENSORS), "samples_of_a_frame": SAMPLES, "startup_frames": STARTUP}
    return Found(lead=LEAD, baselines=BASELINES, models=found, chosen=chosen)


if __name__ == "__main__":
    main("actuator", __doc__ or "", measure)

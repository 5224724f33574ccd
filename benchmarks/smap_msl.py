"""How well do scores rank the anomalies of spacecraft telemetry (NASA's SMAP and MSL)?

One model a channel (of networks, one for all), learnt from the channel's train array and scored on
its test array by VUS-PR, whose tolerance is the dominant period of the test array: the TSB-AD
benchmark's measure. Column 0 is the measurement; the others, commands as 0 or 1, are left out. All
arrays are scaled to -1..1, train and test apart, so a level says nothing: models that know a fixed
level are at a loss here.

    python benchmarks/smap_msl.py --data FOLDER [--seeds 0 1 2] [--quick] [--check] [--json FILE]

FOLDER holds <CRAFT>_<channel>.npz with train [T, C], test [T, C] and label [T]. Where it has
tsb_ad_reference.csv and tsb_ad_u_reference.csv (columns craft, channel), the means over the
channels that TSB-AD has as multivariate and as univariate series are given apart.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
    part,
    read_csv,
    say,
    score,
    stretch,
    together,
)
from _vus import period, vus_pr
from numpy.typing import NDArray

from models.bundle import Bundle
from models.contract import Stretch
from models.scaling import Scaling
from models.settings import DetectorSettings, EwmaSettings, GruSettings, TrainingSettings
from models.training import Trained

TICK_MS = 60_000
STILL = 0.02  # 1 % of the range that arrays are scaled to: what is taken for their resolution
LISTS = {
    "vus_pr_multivariate": "tsb_ad_reference.csv",
    "vus_pr_univariate": "tsb_ad_u_reference.csv",
}
STEPPED = 1000  # frames of each channel that are proven
QUICK = 2  # channels


@dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry:
    """One channel."""

    name: str
    train: F64  # [T]
    test: F64  # [T]
    label: NDArray[np.integer]  # [T] of the test array


def read(folder: Path) -> list[Telemetry]:
    """The channels of a folder that have anomalies, by name. Raises LayoutError."""
    paths = sorted(folder.glob("*_*.npz"))
    if not paths:
        raise LayoutError(f"{folder}: no <CRAFT>_<channel>.npz")
    channels = [_channel(path) for path in paths]
    found = [each for each in channels if each.label.any() and not each.label.all()]
    if not found:
        raise LayoutError(f"{folder}: no channel of {len(channels)} has anomalous and other rows")
    return found


def _channel(path: Path) -> Telemetry:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            train, test = (arrays[name].astype(np.float64) for name in ("train", "test"))
            label = arrays["label"].astype(np.int64)
    except (OSError, KeyError, ValueError, BadZipFile) as error:
        raise LayoutError(f"{path}: want arrays train, test and label: {error}") from error
    if train.ndim != 2 or test.ndim != 2 or label.shape != (len(test),):
        shapes = ", ".join(str(list(each.shape)) for each in (train, test, label))
        raise LayoutError(f"{path}: want train [T, C], test [T, C] and label [T], got {shapes}")
    value = train[:, 0].copy()
    if value.std() < STILL:  # it hardly moves: no model is made of nothing, or of the last digit
        value[::2] += STILL
        value[1::2] -= STILL
    return Telemetry(name=path.stem, train=value, test=test[:, 0], label=label)


def lists(folder: Path) -> dict[str, set[str]]:
    """The channels that a mean of its own is asked for, by metric; none where there is no list."""
    found = {}
    for metric, name in LISTS.items():
        if (folder / name).exists():
            columns = read_csv(folder / name)
            rows = zip(columns["craft"].tolist(), columns["channel"].tolist(), strict=True)
            found[metric] = {f"{craft}_{channel}" for craft, channel in rows}
    return found


def figures(vus: Mapping[str, float], wanted: Mapping[str, set[str]]) -> dict[str, float]:
    """The metrics from each channel's VUS-PR; means over channels that are there."""
    some = {
        metric: [value for name, value in vus.items() if name in names]
        for metric, names in wanted.items()
    }
    means = {metric: statistics.fmean(values) for metric, values in some.items() if values}
    return means | {"vus_pr": statistics.fmean(vus.values())}


SPANS = (1, 4, 16, 64)
DRIFT = 64  # ticks: as slow as the slowest scale
WARMUP = 2 * DRIFT  # what a drifting level started at is forgotten, but for 2 %
NEAREST = EwmaSettings(
    spans=SPANS, level_span=DRIFT, judge="nearest", score_span=16, warmup_ticks=WARMUP
)

LEAD = "nearest example, drifting level"
MODELS: dict[str, DetectorSettings] = {
    LEAD: NEAREST,
    "EWMA-Mahalanobis": EwmaSettings(spans=SPANS, warmup_ticks=WARMUP),
    "nearest example, fixed level": NEAREST.model_copy(update={"level_span": None}),
    "Mahalanobis, drifting level": NEAREST.model_copy(update={"judge": "distance"}),
}
BASELINES = ("EWMA-Mahalanobis",)
NETWORK = "GRU, one for all channels"
JOINED = "nearest example and the GRU"
GRU = GruSettings(hidden=32, spans=SPANS, score_span=16, warmup_ticks=WARMUP)


def measure(given: Given) -> Found:
    """Train and score every model."""
    channels = read(given.data)
    wanted = lists(given.data)
    if given.quick:
        channels = channels[:QUICK]
    runs = [scaled(channel) for channel in channels]
    trains, tests = [train for train, _ in runs], [test for _, test in runs]
    found: dict[str, list[Figures]] = {}
    of_lead: dict[str, float] = {}  # by channel

    def judge(name: str, bundles: Sequence[Bundle]) -> None:
        """Each channel's test array by its own bundle."""
        vus = {}
        for channel, test, bundle in zip(channels, tests, bundles, strict=True):
            say(f"{name}: {channel.name}")
            scores = score(bundle, [test])
            raw = scores[0].raw.astype(np.float64)
            vus[channel.name] = vus_pr(channel.label, raw, period(channel.test))
            if name in {LEAD, JOINED} and name not in found:
                given.proofs.add(name, bundle, [part(test, 0, STEPPED)], scores)
        if name == LEAD:
            of_lead.update(vus)
        found.setdefault(name, []).append(figures(vus, wanted))

    steady: dict[str, list[Trained]] = {}
    for name, settings in MODELS.items():  # chance plays no part: one run says what three would
        say(name)
        steady[name] = [learn([train], ["value"], settings) for train in trains]
        judge(name, [trained.bundle for trained in steady[name]])
    for seed in given.seeds:
        say(f"{NETWORK}, seed {seed}")
        training = TrainingSettings(seed=seed, epochs=2 if given.quick else 20, device="cpu")
        network = [learn(trains, ["value"], GRU, training)] * len(trains)
        judge(NETWORK, [trained.bundle for trained in network])
        judge(JOINED, together(steady[LEAD], network))
    chosen = {"lead": NEAREST.model_dump(mode="json"), "channels": of_lead}
    return Found(lead=LEAD, baselines=BASELINES, models=found, chosen=chosen)


def scaled(channel: Telemetry) -> tuple[Stretch, Stretch]:
    """Train and test array in deviations of the train array, about its mean."""
    train, test = (
        stretch(channel.name, value[:, None], tick_ms=TICK_MS)
        for value in (channel.train, channel.test)
    )
    scaling = Scaling.fit([train])

    def apply(one: Stretch) -> Stretch:
        return replace(one, value=scaling.apply(one.value, one.valid)[0].astype(np.float64))

    return apply(train), apply(test)


if __name__ == "__main__":
    main("smap_msl", __doc__ or "", measure)

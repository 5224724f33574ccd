"""What every detection benchmark needs: the product's own way from arrays to scores and alarms.

Arrays become stretches, ``models.training.train`` makes a bundle of them, and frames go through the
live step's Scorer and Alarms (monitor/core): nothing here computes a score of its own. A row of a
recording is one frame. ``Proofs`` shows that the scores that figures are made of and those of the
live step, one tick at a time, are the same bits, and that a frame costs the same however much came
before.

A script of this kind has a function from what was given on the command line to ``Found``, and hands
it to ``main``, which prints the table and keeps the figures.
"""

import argparse
import gc
import hashlib
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from _machine import RESULTS, table, write
from numpy.typing import NDArray
from pyarrow import ArrowInvalid, csv

from models.bundle import Bundle, Channel, weights_bytes
from models.calibration import Calibration
from models.contract import Stretch
from models.ensemble import Ensemble, members_of
from models.runtime import use_one_thread
from models.settings import DetectorSettings, TrainingSettings
from models.training import Epoch, Trained, train
from monitor.core.alarms import Alarms
from monitor.core.holding import Frames
from monitor.core.modes import RunState
from monitor.core.plan import MILLISECOND, AlarmSettings, ChannelSettings, KindSettings
from monitor.core.records import Scores, Transition
from monitor.core.scoring import Scorer

# T rows of a recording, C channels, R rows of all recordings

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Bool = NDArray[np.bool_]
Figures = Mapping[str, float]

KIND = "machine"
YOUNG, OLD = 1_000, 100_000  # frames that came before the ones that are timed
AGEING_LIMIT = 1.1  # a frame after OLD may cost so many times one after YOUNG
PAIRS = 1_000  # of such frames that are timed, in turn
BLOCK = 1_000  # frames of one asset scored at once on the way there


class LayoutError(Exception):
    """The folder does not hold what this benchmark reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What was asked for on the command line."""

    data: Path
    seeds: tuple[int, ...]
    quick: bool  # a small part, with few epochs: does it still run?
    proofs: "Proofs"  # of equality and constant cost, where asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Figures by model: one mapping a seed, or only one where chance plays no part."""

    lead: str  # the model whose figures are the benchmark's
    baselines: tuple[str, ...]  # models without a network
    models: Mapping[str, Sequence[Figures]]
    chosen: Mapping[str, object]  # settings, for the record


# ---- arrays to stretches ---------------------------------------------------------------------


def read_csv(path: Path, *, delimiter: str = ",") -> dict[str, NDArray[np.generic]]:
    """The columns of a .csv or .csv.gz by name; empty cells are NaN. Raises LayoutError."""
    try:
        found = csv.read_csv(path, parse_options=csv.ParseOptions(delimiter=delimiter))
    except (ArrowInvalid, OSError) as error:
        raise LayoutError(f"{path}: cannot be read as a table: {error}") from error
    columns = zip(found.column_names, found.columns, strict=True)
    return {name: column.to_numpy(zero_copy_only=False) for name, column in columns}


def numbers(path: Path, names: Sequence[str], columns: Mapping[str, NDArray[np.generic]]) -> F64:
    """The named columns of a table side by side, float64 [T, C]. Raises LayoutError."""
    if absent := [name for name in names if name not in columns]:
        raise LayoutError(f"{path}: want columns {', '.join(absent)}, got {', '.join(columns)}")
    try:
        return np.stack([columns[name].astype(np.float64) for name in names], axis=1)
    except (ValueError, TypeError) as error:
        raise LayoutError(f"{path}: want numbers in {', '.join(names)}: {error}") from error


def stretch(asset: str, value: F64, *, tick_ms: int, valid: Bool | None = None) -> Stretch:
    """Rows [T, C] as frames one tick apart; NaN is not valid, nor what ``valid`` [T, C] excludes.

    The ticks only say that no row is missing: no model sees them.
    """
    seen = np.isfinite(value) if valid is None else valid & np.isfinite(value)
    return Stretch(
        asset=asset,
        tick=np.arange(1, len(value) + 1, dtype=np.int64) * (tick_ms * MILLISECOND),
        value=np.where(seen, value, np.nan),
        valid=seen,
    )


def part(whole: Stretch, start: int, end: int | None = None) -> Stretch:
    """Some of the rows."""
    rows = slice(start, end)
    return replace(whole, tick=whole.tick[rows], value=whole.value[rows], valid=whole.valid[rows])


# ---- stretches to a bundle -------------------------------------------------------------------


def learn(
    stretches: Sequence[Stretch],
    names: Sequence[str],
    settings: DetectorSettings,
    training: TrainingSettings | None = None,
) -> Trained:
    """A bundle from healthy stretches: ``models.training.train``, whose progress is told.

    Raises LayoutError where they are too few, or say nothing.
    """
    try:
        return train(
            stretches,
            [Channel(name=name, unit=None, aggregate="last") for name in names],
            settings,
            training or TrainingSettings(device="cpu"),
            progress=_told,
        )
    except ValueError as error:
        raise LayoutError(f"{', '.join({each.asset for each in stretches})}: {error}") from error


def together(*members: Sequence[Trained]) -> list[Bundle]:
    """Bundles for several machines of one build, each too short of history for a tail of its own.

    A member is what was learnt of each machine, or for each the same, learnt of all; several
    members become ensembles. Each member has one calibration, from the cross-fitted scores of all
    machines, and so have the bundles.
    """
    raw = [_healthy(trained) for trained in members]
    bundles = []
    for own in zip(*members, strict=True):
        parts = [trained.bundle for trained in own]
        card, detector = parts[0].card, parts[0].detector
        joint = raw[0]
        if len(parts) > 1:
            residual = [one for part in parts for one in members_of(part.detector)]
            detector = Ensemble(residual, warmup_ticks=card.warmup_ticks)
            detector.calibrate(raw)
            joint = detector.join(raw)
        digest = hashlib.sha256(weights_bytes(detector)).hexdigest()
        change = {"calibration": Calibration.fit(joint), "weights_sha256": digest}
        bundles.append(Bundle(card.model_copy(update=change), detector))
    return bundles


def _healthy(trained: Sequence[Trained]) -> F32:
    """The cross-fitted raw scores of all machines, in order of machine and tick."""
    different = {id(each): each for each in trained}.values()
    held_out = [one for each in different for one in each.held_out]
    counts = [~one.warming & (one.coverage > 0) for one in held_out]
    tick = np.concatenate([one.tick[own] for one, own in zip(held_out, counts, strict=True)])
    asset = np.repeat([one.asset for one in held_out], [int(own.sum()) for own in counts])
    raw = np.concatenate([each.healthy[0] for each in different])
    ordered: F32 = raw[np.lexsort((tick, asset))]
    return ordered


def _told(now: Epoch) -> None:
    say(
        f"fit {now.fit} of {now.fits}, epoch {now.epoch} of {now.epochs}: "
        f"{now.training_loss:.3f}, held out {now.validation_loss:.3f}"
    )


def say(text: str) -> None:
    """One line of progress, written over the last one; nothing where nobody looks."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


# ---- a bundle to scores and alarms ------------------------------------------------------------


def kind_of(
    names: Sequence[str], *, tick_ms: int, alarm: AlarmSettings | None = None
) -> KindSettings:
    """The settings of a kind of machine with these channels."""
    return KindSettings(
        tick_ms=tick_ms,
        channels={name: ChannelSettings() for name in names},
        alarm=alarm or AlarmSettings(),
    )


def frames_of(stretches: Sequence[Stretch]) -> Frames:
    """Closed frames of as many assets, each from its own beginning."""
    lengths = [len(each) for each in stretches]
    valid = np.concatenate([each.valid for each in stretches])
    return Frames(
        asset=np.repeat(np.arange(len(lengths)), lengths),
        tick=np.concatenate([each.tick for each in stretches]),
        value=np.concatenate([each.value for each in stretches]),
        age=np.zeros(valid.shape, np.float32),
        valid=valid,
        forced=np.zeros(valid.shape, np.bool_),
        quality=np.zeros(valid.shape, np.uint8),
        fresh=np.concatenate([np.arange(length) == 0 for length in lengths]),
    )


class Live:
    """The live step's scoring, of frames as they come."""

    def __init__(self, bundle: Bundle, assets: int) -> None:
        names = [channel.name for channel in bundle.card.channels]
        kind = kind_of(names, tick_ms=bundle.card.tick_ms)
        self._scorer = Scorer(KIND, kind, np.arange(assets, dtype=np.int32), bundle)

    def score(self, frames: Frames) -> Scores:
        """Scores of the frames, row for row."""
        running = np.full(len(frames), RunState.RUNNING, np.uint8)
        return self._scorer.score(frames, running, frames.valid)


def score(bundle: Bundle, stretches: Sequence[Stretch]) -> list[Scores]:
    """Scores of whole recordings, each from a state that has seen nothing."""
    found = Live(bundle, len(stretches)).score(frames_of(stretches))
    return [_rows(found, found.asset == asset) for asset in range(len(stretches))]


def alarmed(
    alarm: AlarmSettings, threshold: float, stretches: Sequence[Stretch], scores: Sequence[Scores]
) -> list[Bool]:
    """Where an alarm is active [T] in each recording, by the product's own alarms."""
    names = scores[0].channels
    steps = {int(step) for each in stretches for step in np.diff(each.tick)}
    kind = kind_of(names, tick_ms=min(steps) // MILLISECOND, alarm=alarm)
    assets = [str(number) for number in range(len(stretches))]
    alarms = Alarms(kind, assets, site="benchmark", threshold=threshold)
    numbers = np.arange(len(stretches), dtype=np.int32)
    lengths = [len(each) for each in scores]
    joined = replace(Scores.join(scores), asset=np.repeat(numbers, lengths))
    flags = [np.zeros(length, np.bool_) for length in lengths]
    for event in alarms.step(frames_of(stretches), joined):
        number = int(event.asset)
        at = int(np.searchsorted(stretches[number].tick, event.tick))
        flags[number][at:] = event.transition is Transition.RAISED
    return flags


def _rows(scores: Scores, rows: Bool) -> Scores:
    columns: dict[str, Any] = {
        name: column[rows]
        for name in scores.__slots__
        if isinstance(column := getattr(scores, name), np.ndarray)
    }
    return replace(scores, **columns)


# ---- proofs -----------------------------------------------------------------------------------


class Proofs:
    """What ``--check`` proves of each model; nothing, where it was not asked for."""

    def __init__(self, *, wanted: bool, quick: bool) -> None:
        self.wanted = wanted
        self.young, self.old = (YOUNG // 10, YOUNG) if quick else (YOUNG, OLD)
        self.pairs = PAIRS // 10 if quick else PAIRS
        self.found: dict[str, dict[str, float]] = {}  # model: frames compared, ratio of costs

    def add(
        self,
        model: str,
        bundle: Bundle,
        stretches: Sequence[Stretch],
        submitted: Sequence[Scores],
    ) -> None:
        """The scores that figures are made of are those of the live step, tick by tick, to the bit.

        For the first bundle of a model also: what a frame after many costs, in times of one after
        few. Raises AssertionError where a bit differs.
        """
        if not self.wanted:
            return
        say(f"{model}: tick by tick")
        compared = agree(bundle, stretches, submitted)
        if model not in self.found:
            say(f"{model}: {self.old:,} frames")
            ratio = ageing(bundle, stretches[0], young=self.young, old=self.old, pairs=self.pairs)
            self.found[model] = {"frames": 0, "ageing": ratio}
        self.found[model]["frames"] += compared

    def __str__(self) -> str:
        return "\n".join(
            f"{model}: {one['frames']:,.0f} frames, scored at once and stepped one by one, give "
            f"the same bits; a frame after {self.old:,} others costs {one['ageing']:.2f} times "
            f"one after {self.young:,}."
            for model, one in self.found.items()
        )

    @property
    def aged(self) -> list[str]:
        """The models whose frames cost more and more."""
        return [model for model, one in self.found.items() if one["ageing"] > AGEING_LIMIT]


def agree(bundle: Bundle, stretches: Sequence[Stretch], submitted: Sequence[Scores]) -> int:
    """The scores of recordings against Scorer, one tick a call for all recordings.

    ``submitted`` may go on further than the stretches: what comes later moves no score.
    Gives how many frames were compared. Raises AssertionError where a bit differs.
    """
    frames = frames_of(stretches)
    live = Live(bundle, len(stretches))
    ticks = np.concatenate([np.arange(len(each)) for each in stretches])
    order = np.argsort(ticks, kind="stable")
    counts = np.bincount(ticks)
    pieces = [live.score(frames.rows(rows)) for rows in np.split(order, np.cumsum(counts)[:-1])]
    stepped = Scores.join(pieces)
    for asset, (each, whole) in enumerate(zip(stretches, submitted, strict=True)):
        own = _rows(stepped, stepped.asset == asset)
        for what in ("raw", "surprise", "blame", "coverage", "state", "expected", "spread"):
            one, other = getattr(whole, what)[: len(own)], getattr(own, what)
            if not np.array_equal(one, other, equal_nan=True):
                raise AssertionError(f"{each.asset}: {what} differs, submitted and stepped")
    return len(frames)


def ageing(
    bundle: Bundle, recording: Stretch, *, young: int = YOUNG, old: int = OLD, pairs: int = PAIRS
) -> float:
    """What one frame costs after ``old`` others, in times of one after ``young``.

    The median of pairs, a frame of each in turn: whatever else the computer does meets both, and
    moved this by 2 % on two cores with a load of 5. The recording is played again and again.
    """
    lives = {}
    for age in (young, old):
        live = lives[age] = Live(bundle, 1)
        for start in range(0, age, BLOCK):
            live.score(_again(recording, start, min(start + BLOCK, age)))
    ratios = []
    for number in range(pairs):
        spent = {}
        for age in (young, old) if number % 2 else (old, young):
            frame = _again(recording, age + number, age + number + 1)
            gc.disable()
            before = time.thread_time()
            lives[age].score(frame)
            spent[age] = time.thread_time() - before
            gc.enable()
        ratios.append(spent[old] / spent[young])
    return statistics.median(ratios)


def _again(recording: Stretch, start: int, end: int) -> Frames:
    """Frames start to end of a recording that begins anew whenever it is over."""
    numbers = np.arange(start, end)
    rows = numbers % len(recording)
    step = recording.tick[1] - recording.tick[0]
    played = Stretch(
        asset=recording.asset,
        tick=(numbers + 1) * step,
        value=recording.value[rows],
        valid=recording.valid[rows],
    )
    return replace(frames_of([played]), fresh=numbers == 0)


# ---- figures ----------------------------------------------------------------------------------


def main(name: str, description: str, measure: Callable[[Given], Found]) -> None:
    """Read the command line, measure, print the table, keep the figures."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="SEED")
    parser.add_argument("--quick", action="store_true", help="small and once: does it still run?")
    parser.add_argument("--check", action="store_true", help="prove equality and constant cost")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the figures there")
    given = parser.parse_args()
    use_one_thread()
    asked = Given(
        data=given.data,
        seeds=tuple(given.seeds[:1] if given.quick else given.seeds),
        quick=given.quick,
        proofs=Proofs(wanted=given.check, quick=given.quick),
    )
    if not asked.data.is_dir():
        sys.exit(f"{parser.prog}: {asked.data}: no such folder")
    try:
        found = measure(asked)
    except LayoutError as error:
        sys.exit(f"{parser.prog}: {error}")
    say("")
    print(_figures(found))
    cpu_s = sum(os.times()[:4])
    print(f"\n{cpu_s:.0f} s of CPU, seeds {' '.join(map(str, asked.seeds))}.\n{asked.proofs}")
    if given.json or not given.quick:
        write(given.json or RESULTS / f"{name}.json", _kept(name, asked, found, cpu_s))
    if asked.proofs.aged and not given.quick:
        sys.exit(
            f"{', '.join(asked.proofs.aged)}: want at most {AGEING_LIMIT} times the cost; is the "
            "computer busy? Run it again."
        )


def mean(figures: Sequence[Figures]) -> dict[str, float]:
    """Of all seeds."""
    return {name: statistics.fmean(each[name] for each in figures) for name in figures[0]}


def _figures(found: Found) -> str:
    """One column a model, the leading one in front; mean, and the spread where there is one."""
    models = [found.lead, *(model for model in found.models if model != found.lead)]
    rows = [
        [
            name,
            *(
                _cell([each[name] for each in found.models[model] if name in each])
                for model in models
            ),
        ]
        for name in found.models[found.lead][0]
    ]
    return table(("", *models), rows)


def _cell(values: Sequence[float]) -> str:
    if not values:
        return ""  # what this model does not say
    middle, least, most = map(_shown, (statistics.fmean(values), min(values), max(values)))
    return middle if least == most else f"{middle} ({least} to {most})"


def _shown(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.1f}"


def _kept(name: str, given: Given, found: Found, cpu_s: float) -> dict[str, object]:
    lead = found.models[found.lead]
    others = {model: mean(figures) for model, figures in found.models.items()}
    return {
        "set": name,
        "seeds": list(given.seeds),
        "model": found.lead,
        "metrics": mean(lead),
        "spread": dict(_spread(lead)),
        "baselines": {model: others[model] for model in found.baselines if model != found.lead},
        "ablations": {
            model: {"metrics": others[model], "spread": dict(_spread(figures))}
            for model, figures in found.models.items()
            if model not in (found.lead, *found.baselines)
        },
        "chosen": dict(found.chosen),
        **({"proofs": given.proofs.found} if given.proofs.wanted else {}),
        "cpu_s": round(cpu_s, 1),
    }


def _spread(figures: Sequence[Figures]) -> Iterator[tuple[str, list[float]]]:
    for name in figures[0]:
        values = [each[name] for each in figures]
        yield name, [min(values), max(values)]

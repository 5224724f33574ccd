"""Machines, what goes wrong in them, and the product's own way over them: for simulated.py.

Training and commissioning (what `train` and `adopt` do), the step over many units side by side, and
a rolling z-score over the frames it made.
"""

import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectors.batch import Notice, NoticeKind, Samples
from models.adoption import adopt
from models.bundle import Bundle
from models.training import Epoch
from monitor.core.conditions import Conditions
from monitor.core.pipeline import Pipeline
from monitor.core.plan import SECOND, AlarmSettings, Asset, KindSettings, Plan
from monitor.core.records import AlarmEvent, Scores, ScoreState, Transition
from monitor.history.backfill import backfill
from monitor.history.learning import stretches
from monitor.live.clock import SystemClock
from monitor.site import plant
from monitor.site.config import load
from monitor.site.healthy import numbered
from monitor.site.simulate import watcher
from monitor.site.simulate.chance import even, key
from monitor.site.simulate.faults import FAULTS, Family, Fault
from monitor.site.simulate.machines import KINDS
from monitor.site.simulate.recordings import Form, Recordings, tree
from monitor.site.simulate.recordings import write as record
from monitor.site.simulate.unit import DAY_MS, Unit

# A assets, T ticks of one asset, C channels, R frames

F64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

BEGIN_MS = 20_454 * DAY_MS  # 2026-01-01
PERIOD_MS = 60_000
RECEIVED = (BEGIN_MS + 1000 * DAY_MS) * 1_000_000  # ns, after all of it
BUDGET = 1.0  # false alarms of an asset in 30 days
SETTLED_DAYS = 2  # healthy, before the fault of a trial, which begins within the day after
AFTER_DAYS = 2  # that a trial is watched after the end of its fault
BATCH_DAYS = 4
LOST = 0.1  # of the samples, when degraded
WINDOW = 1440  # ticks of the rolling z-score
LEAST_SEEN = 60  # of them


@dataclass(frozen=True, slots=True)
class Trial:
    """A unit that nobody has learnt from; with one fault, or none."""

    unit: Unit
    fault: Fault | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """An alarm that was raised."""

    tick: int  # ns since 1970 UTC
    end: int | None  # when it returned; None: it stands at the end
    alarm_class: str  # process, instrument, ...
    point: str
    blame: tuple[str, ...]  # channels, the largest share first
    by_z: tuple[str, ...] = ()  # channels, the largest rolling z-score at that tick first


# ---- training ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Model:
    """What is compared: a model, and what its machines are scaled by."""

    settings: Mapping[str, Any]
    scaling: str = "own"  # or pooled


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much of everything, for one seed and kind of machine."""

    learnt: int  # units that a model learns from
    learnt_days: int
    epochs: int
    commissioned_days: int  # healthy, of each unit that is watched, before it is
    healthy: int  # units
    healthy_days: int
    trials: int  # of each fault
    few: int  # healthy units, for other models and when degraded
    few_trials: int


def learn(
    kind: str, model: Model, size: Size, folder: Path, *, seed: int, name: str
) -> tuple[Bundle, KindSettings]:
    """What `watchkeeper simulate --recordings` and `watchkeeper train` give."""
    what = Recordings(
        machines={kind: size.learnt},
        seed=seed,
        begin_ms=BEGIN_MS,
        days=size.learnt_days,
        period_ms=PERIOD_MS,
        healthy_ms=BEGIN_MS + size.learnt_days * DAY_MS,
        form=Form.PARQUET,
    )
    if not folder.exists():
        record(what, folder, progress=lambda _name, _share: None)
    made = tree(what, list(what.units()))
    made["site"]["alarm_budget"] = {"per_asset_30_days": BUDGET, "per_site_week": 1000}
    made["kinds"][kind]["training"] |= {
        "model": dict(model.settings),
        "fit": {
            "epochs": size.epochs, "device": "cpu", "seed": seed, "scaling": model.scaling,
        },
    }  # fmt: skip
    made["kinds"][kind]["model"] = {"bundle": f"models/{name}", "device": "cpu"}
    path = folder / watcher.FILE
    path.write_text(watcher.yaml(made, "The benchmark's."), encoding="utf-8")
    config = load(path)

    def told(now: Epoch) -> None:
        say(f"{kind}: {name}, fit {now.fit} of {now.fits}, epoch {now.epoch} of {now.epochs}")

    plant.learn(config, kind, clock=SystemClock(), progress=told, should_stop=lambda: False)
    bundle = Bundle.load(folder / "models" / name)
    return bundle, config.plan(*numbered(config)).kinds[kind]


def commission(
    bundle: Bundle, kind: str, settings: KindSettings, units: Sequence[Unit], *, days: int
) -> Bundle:
    """What `watchkeeper adopt` does of these units, from the healthy days before they are watched.

    Before their faults, too: a unit is the same machine before as after.
    """
    shown = batches(units, begin_ms=BEGIN_MS - days * DAY_MS, days=days)
    found, _ = stretches(plan_of(kind, settings, units), shown, received=RECEIVED)
    return adopt(bundle, found).bundle


# ---- scoring -----------------------------------------------------------------------------------


def plan_of(kind: str, settings: KindSettings, units: Sequence[Unit]) -> Plan:
    """All these units as the assets of one site, with a source of its own each."""
    channels = list(settings.channels)
    assets = [
        Asset(
            name=unit.name,
            id=number,
            kind=kind,
            tags={
                channel: (number * len(channels) + column, "simulated")
                for column, channel in enumerate(channels)
            },
        )
        for number, unit in enumerate(units)
    ]
    return Plan(site="simulated", kinds={kind: settings}, assets=tuple(assets))


def batches(
    units: Sequence[Unit],
    dead: Sequence[int | None] | None = None,
    *,
    begin_ms: int = BEGIN_MS,
    days: float,
    lost: float = 0.0,
) -> Iterator[Samples | Notice]:
    """What they show, all of them side by side; ``dead``: the channel of each that never comes."""
    end_ms = begin_ms + round(days * DAY_MS)
    for start in range(begin_ms, end_ms, BATCH_DAYS * DAY_MS):
        times = np.arange(start, min(start + BATCH_DAYS * DAY_MS, end_ms), PERIOD_MS)
        parts = []
        for number, unit in enumerate(units):
            shown = unit.values(times)
            there = np.isfinite(shown)
            if lost:
                chance = even(key(BEGIN_MS, unit.name, "lost"), np.arange(shown.size) + start)
                there &= chance.reshape(shown.shape) >= lost
            if dead is not None and (column := dead[number]) is not None:
                there[:, column] = False
            row, channel = np.nonzero(there)
            tag = number * shown.shape[1] + channel
            parts.append((tag, times[row], shown[row, channel]))
        tag, time_ms, value = (np.concatenate(column) for column in zip(*parts, strict=True))
        yield Samples(
            source="simulated",
            tag=tag.astype(np.int32),
            time=time_ms.astype(np.int64) * 1_000_000,
            value=value.astype(np.float64),
            status=np.zeros(len(tag), np.uint32),
            flags=np.zeros(len(tag), np.uint8),
        )
    yield Notice(source="simulated", kind=NoticeKind.ENDED)


def watch(
    bundle: Bundle,
    kind: str,
    settings: KindSettings,
    units: Sequence[Unit],
    dead: Sequence[int | None] | None = None,
    *,
    days: float,
    lost: float = 0.0,
) -> tuple[list[AlarmEvent], list[Scores]]:
    """The step over some units: what was raised and returned, and all frames."""
    pipeline = Pipeline(plan_of(kind, settings, units), {kind: bundle})
    events: list[AlarmEvent] = []
    frames: list[Scores] = []
    for number, results in enumerate(
        backfill(pipeline, batches(units, dead, days=days, lost=lost), received=RECEIVED)
    ):
        say(f"{kind}: {len(units)} units, day {(number + 1) * BATCH_DAYS} of {days:g}")
        events += results.alarms
        frames += results.scores
    return events, frames


def raised(events: Sequence[AlarmEvent]) -> dict[str, list[Event]]:
    """By asset."""
    ends = {e.id: e.tick for e in events if e.transition is Transition.RETURNED}
    found = defaultdict(list)
    for one in events:
        if one.transition is Transition.RAISED:
            end, told = ends.get(one.id), str(one.alarm_class)
            found[one.asset].append(Event(one.tick, end, told, one.point, tuple(one.blame)))
    return found


# ---- the rolling z-score -----------------------------------------------------------------------


def rolling(value_TC: F64, counts_T: Bool) -> F64:
    """How many spreads of the last day's running frames a value is from their mean, [T, C]."""
    z = np.zeros_like(value_TC)
    rows = np.flatnonzero(counts_T)
    known = np.isfinite(value_TC[rows])
    seen = np.where(known, value_TC[rows], 0.0)
    x = np.where(known, seen - seen.sum(axis=0) / np.maximum(known.sum(axis=0), 1), 0.0)
    sums = [
        np.concatenate([np.zeros((1, x.shape[1])), np.cumsum(part, axis=0)])
        for part in (known, x, x * x)
    ]
    at = np.arange(len(rows))
    since = np.maximum(at - WINDOW, 0)
    count, total, squares = (part[at] - part[since] for part in sums)
    few = count < LEAST_SEEN
    mean = total / np.where(few, 1, count)
    spread = np.sqrt(np.maximum(squares / np.where(few, 1, count) - mean**2, 1e-12))
    z[rows] = np.where(few | ~known, 0.0, np.abs(x - mean) / spread)
    return z


@dataclass(frozen=True, slots=True)
class Trace:
    """What the rolling z-score makes of one asset."""

    tick: NDArray[np.int64]  # [T] ns since 1970 UTC
    z: F64  # [T, C]
    counts: Bool  # [T] the machine runs
    channels: tuple[str, ...]

    def largest(self, row: int) -> tuple[str, ...]:
        """The channels, the one that is farthest from its mean first."""
        return tuple(self.channels[column] for column in np.argsort(-self.z[row], kind="stable"))


def traces_of(frames: Sequence[Scores], units: Sequence[Unit]) -> dict[str, Trace]:
    """Of each asset, by name."""
    whole = Scores.join(list(frames))
    order = np.argsort(whole.asset, kind="stable")
    bounds = np.searchsorted(whole.asset[order], np.arange(len(units) + 1))
    traces = {}
    for unit, (start, end) in zip(units, pairwise(bounds), strict=True):
        rows = order[start:end]
        counts = ~np.isin(whole.state[rows], (ScoreState.OFF, ScoreState.BLIND))
        z = rolling(whole.value[rows].astype(np.float64), counts)
        traces[unit.name] = Trace(whole.tick[rows], z, counts, tuple(whole.channels))
    return traces


def of_rolling(
    traces: Mapping[str, Trace], alarm: AlarmSettings, limit: float
) -> dict[str, list[Event]]:
    """Its alarms, by asset."""
    return {
        name: [
            Event(start, end, "process", "z", trace.largest(row))
            for row, start, end in spells(
                trace.tick, trace.z.max(axis=1), trace.counts, alarm, limit
            )
        ]
        for name, trace in traces.items()
    }


def beside_rolling(
    events: Mapping[str, Sequence[Event]], traces: Mapping[str, Trace]
) -> dict[str, list[Event]]:
    """Alarms of a model, each with whom the rolling z-score would blame at that tick."""
    return {
        name: [
            replace(one, by_z=trace.largest(int(np.searchsorted(trace.tick, one.tick))))
            for one in events.get(name, [])
        ]
        for name, trace in traces.items()
    }


def spells(
    tick: NDArray[np.int64], z: F64, counts: Bool, alarm: AlarmSettings, threshold: float
) -> list[tuple[int, int, int | None]]:
    """The frame at which an alarm is raised, and its ticks, with the delays of the product."""
    conditions = Conditions(
        np.array([round(alarm.on_delay_s * SECOND)]), np.array([round(alarm.off_delay_s * SECOND)])
    )
    entered = counts & (z >= threshold)
    changes = conditions.step(
        np.zeros(len(tick), np.int64),
        tick,
        says=counts,
        entered=entered,
        left=counts & (z < alarm.clear_ratio * threshold),
        fresh=np.arange(len(tick)) == 0,
    )
    ends = [int(tick[change.row]) for change in changes if not change.active]
    begins = [(change.row, int(tick[change.row])) for change in changes if change.active]
    return [(*one, end) for one, end in zip_longest(begins, ends)]


# ---- what is tried -----------------------------------------------------------------------------


def trials_of(kind: str, count: int, *, seed: int) -> list[Trial]:
    """So many units with each fault."""
    found = []
    channels = list(KINDS[kind].instruments)
    for name, what in FAULTS.items():
        if what.family is Family.PROCESS and name not in KINDS[kind].faults:
            continue
        for number in range(count):
            own = key(seed, kind, name, number)
            onset_ms = BEGIN_MS + SETTLED_DAYS * DAY_MS + int(even(own, 0)[0] * 1440) * 60_000
            fault = Fault(
                name=name,
                onset_ms=onset_ms,
                end_ms=onset_ms + what.lasts_ms,
                severity=0.7 + 0.8 * float(even(own, 1)[0]),
                channel=channels[int(even(own, 2)[0] * len(channels))]
                if what.family is Family.INSTRUMENT
                else None,
            )
            unit = Unit(kind, f"{name}_{number}", seed=seed, faults=[fault], period_ms=PERIOD_MS)
            found.append(Trial(unit, fault))
    return found


def watched_days(trial: Trial) -> float:
    """From the begin until a while after the fault, whenever it began."""
    assert trial.fault is not None
    return SETTLED_DAYS + 1 + trial.fault.kind.lasts_ms / DAY_MS + AFTER_DAYS


def dead_of(trial: Trial) -> int:
    """A channel that is not the fault's, and does not say whether the machine runs."""
    spared = () if trial.fault is None else trial.unit.channels_of(trial.fault)
    kind = trial.unit.kind
    others = [
        column
        for column, channel in enumerate(kind.instruments)
        if channel not in spared and (kind.running is None or channel != kind.running[0])
    ]
    chosen = even(key(BEGIN_MS, trial.unit.name, "dead"), 0)[0]
    return others[int(chosen * len(others))]


def say(text: str) -> None:
    """One line of progress, written over the last one; nothing where nobody looks."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)

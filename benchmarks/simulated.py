"""False alarms, faults found, delays and blame on the simulated plant, by the product's own code.

    python benchmarks/simulated.py [--quick] [--model gru] [--json FILE]

For each kind of machine a model is trained from recordings of healthy units (`simulate
--recordings`, then what `train` does). Other units, which it never saw, are then scored by the step
itself, samples in and alarms out: healthy ones for their false alarms, and units with one labelled
fault each. All of it again with a tenth of the samples missing and one channel dead. Beside it: PCA
and EWMA in the place of the network, and a rolling z-score with the same delays.

What counts: a fault is detected when a process alarm (of a fault of an instrument: any alarm) is
raised from its onset until GRACE_H after its end. Blame is that of the alarm at that moment, and
right where it names a channel of the label. A fault of an instrument is called one when an alarm of
class instrument on its channel is raised in that time.
"""

import argparse
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from _machine import RESULTS, table, write
from numpy.typing import NDArray
from scipy.stats import chi2, poisson

from connectors.batch import Notice, NoticeKind, Samples
from models.bundle import Bundle
from models.runtime import use_one_thread
from models.training import Epoch
from monitor.core.conditions import Conditions
from monitor.core.pipeline import Pipeline
from monitor.core.plan import SECOND, AlarmSettings, Asset, KindSettings, Plan
from monitor.core.records import AlarmEvent, Scores, ScoreState, Transition
from monitor.history.backfill import backfill
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

SEED = 20_260_101
BEGIN_MS = 20_454 * DAY_MS  # 2026-01-01
PERIOD_MS = 60_000
BUDGET = 1.0  # false alarms of an asset in 30 days
SETTLED_DAYS = 2  # healthy, before the fault of a trial
TRIAL_DAYS = 8.25  # of which the longest faults last five
AT_ONCE = 26  # units that are scored side by side
GRACE_H = 0.5  # after the end of a fault, in which an alarm is still its own
BATCH_DAYS = 4
LOST = 0.1  # of the samples, when degraded
WINDOW = 1440  # ticks of the rolling z-score
LEAST_SEEN = 60  # of them
ROLLING = "rolling z-score"
BASELINES = ("pca", "ewma")


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much of everything."""

    kinds: tuple[str, ...]
    learnt: int  # units that a model learns from
    learnt_days: int
    epochs: int
    healthy: int  # units of each kind
    healthy_days: int
    trials: int  # of each fault and kind of machine
    sample: float  # share of the healthy units for baselines, and when degraded


FULL = Size(
    kinds=tuple(KINDS),
    learnt=12,
    learnt_days=10,
    epochs=20,
    healthy=78,
    healthy_days=30,
    trials=6,
    sample=0.33,
)
QUICK = Size(
    kinds=("pump", "tank"),
    learnt=2,
    learnt_days=3,
    epochs=2,
    healthy=2,
    healthy_days=3,
    trials=1,
    sample=1.0,
)


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


@dataclass(slots=True)
class Tally:
    """What one model did in all kinds of machines."""

    months: float = 0.0  # healthy ones
    alarmed_months: float = 0.0  # of them, under a process alarm
    false: list[Event] = field(default_factory=list)
    trials: list[tuple[Trial, list[Event]]] = field(default_factory=list)


# ---- training ----------------------------------------------------------------------------------


def learn(kind: str, model: str, size: Size, folder: Path) -> tuple[Bundle, KindSettings]:
    """What `watchkeeper simulate --recordings` and `watchkeeper train` give."""
    what = Recordings(
        machines={kind: size.learnt},
        seed=SEED,
        begin_ms=BEGIN_MS,
        days=size.learnt_days,
        period_ms=PERIOD_MS,
        healthy_ms=BEGIN_MS + size.learnt_days * DAY_MS,
        form=Form.PARQUET,
    )
    if not folder.exists():
        record(what, folder, progress=lambda _name, _share: None)
    made = tree(what, list(what.units()))
    made["kinds"][kind]["training"] |= {
        "model": {"type": model},
        "fit": {"epochs": size.epochs, "device": "cpu"},
    }
    made["kinds"][kind]["model"] = {"bundle": f"models/{kind}_{model}", "device": "cpu"}
    path = folder / watcher.FILE
    path.write_text(watcher.yaml(made, "The benchmark's."), encoding="utf-8")
    config = load(path)

    def told(now: Epoch) -> None:
        say(f"{kind}: {model}, fit {now.fit} of {now.fits}, epoch {now.epoch} of {now.epochs}")

    plant.learn(config, kind, clock=SystemClock(), progress=told, should_stop=lambda: False)
    bundle = Bundle.load(folder / "models" / f"{kind}_{model}")
    return bundle, config.plan(*numbered(config)).kinds[kind]


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
    units: Sequence[Unit], dead: Sequence[int | None], *, days: float, lost: float
) -> Iterator[Samples | Notice]:
    """What they show, all of them side by side; ``dead``: the channel of each that never comes."""
    end_ms = BEGIN_MS + round(days * DAY_MS)
    for start in range(BEGIN_MS, end_ms, BATCH_DAYS * DAY_MS):
        times = np.arange(start, min(start + BATCH_DAYS * DAY_MS, end_ms), PERIOD_MS)
        parts = []
        for number, unit in enumerate(units):
            shown = unit.values(times)
            there = np.isfinite(shown)
            if lost:
                chance = even(key(SEED, unit.name, "lost"), np.arange(shown.size) + start)
                there &= chance.reshape(shown.shape) >= lost
            if (column := dead[number]) is not None:
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
    dead: Sequence[int | None],
    *,
    days: float,
    lost: float,
) -> tuple[list[AlarmEvent], list[Scores]]:
    """The step over some units: what was raised and returned, and all frames."""
    pipeline = Pipeline(plan_of(kind, settings, units), {kind: bundle})
    received = (BEGIN_MS + 1000 * DAY_MS) * 1_000_000
    events: list[AlarmEvent] = []
    frames: list[Scores] = []
    for number, results in enumerate(
        backfill(pipeline, batches(units, dead, days=days, lost=lost), received=received)
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


def traces_of(frames: Sequence[Scores], units: Sequence[Unit]) -> Iterator[Trace]:
    """Of each asset, in order."""
    whole = Scores.join(list(frames))
    order = np.argsort(whole.asset, kind="stable")
    bounds = np.searchsorted(whole.asset[order], np.arange(len(units) + 1))
    for start, end in pairwise(bounds):
        rows = order[start:end]
        counts = ~np.isin(whole.state[rows], (ScoreState.OFF, ScoreState.BLIND))
        yield Trace(whole.tick[rows], rolling(whole.value[rows].astype(np.float64), counts), counts)


def of_rolling(
    frames: Sequence[Scores], units: Sequence[Unit], alarm: AlarmSettings, limit: float
) -> dict[str, list[Event]]:
    """Its alarms, by asset."""
    names = np.array(frames[0].channels)
    return {
        unit.name: [
            Event(start, end, "process", "z", tuple(names[np.argsort(-trace.z[row])]))
            for row, start, end in spells(
                trace.tick, trace.z.max(axis=1), trace.counts, alarm, limit
            )
        ]
        for unit, trace in zip(units, traces_of(frames, units), strict=True)
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


def limit_of_rolling(bundle: Bundle, kind: str, settings: KindSettings, size: Size) -> float:
    """The lowest one at which the units that were learnt from keep the budget."""
    units = [
        Unit(kind, f"{kind}_{number}", seed=SEED, period_ms=PERIOD_MS)
        for number in range(1, size.learnt + 1)
    ]
    alive = [None] * len(units)
    _, frames = watch(bundle, kind, settings, units, alive, days=size.learnt_days, lost=0.0)
    found = [(one.tick, one.z.max(axis=1), one.counts) for one in traces_of(frames, units)]
    months = sum(counts.sum() for _, _, counts in found) * PERIOD_MS / DAY_MS / 30
    low, high = 1.0, 1000.0
    for _ in range(30):
        middle = float(np.sqrt(low * high))
        alarms = sum(len(spells(*one, settings.alarm, middle)) for one in found)
        low, high = (middle, high) if alarms > BUDGET * months else (low, middle)
    return high


# ---- what is tried -----------------------------------------------------------------------------


def trials_of(kind: str, size: Size) -> list[Trial]:
    """Units with one fault each."""
    found = []
    channels = list(KINDS[kind].instruments)
    for name, what in FAULTS.items():
        if what.family is Family.PROCESS and name not in KINDS[kind].faults:
            continue
        for number in range(size.trials):
            own = key(SEED, kind, name, number)
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
            unit = Unit(kind, f"{name}_{number}", seed=SEED, faults=[fault], period_ms=PERIOD_MS)
            found.append(Trial(unit, fault))
    return found


def dead_of(trial: Trial) -> int:
    """A channel that is not the fault's, and does not say whether the machine runs."""
    spared = () if trial.fault is None else trial.unit.channels_of(trial.fault)
    kind = trial.unit.kind
    others = [
        column
        for column, channel in enumerate(kind.instruments)
        if channel not in spared and (kind.running is None or channel != kind.running[0])
    ]
    chosen = even(key(SEED, trial.unit.name, "dead"), 0)[0]
    return others[int(chosen * len(others))]


def groups_of(kind: str, size: Size, healthy: int) -> list[tuple[float, list[Trial]]]:
    """What is watched side by side, and for how many days: the healthy, then those with faults."""
    trials = [
        Trial(Unit(kind, f"healthy_{number}", seed=SEED, period_ms=PERIOD_MS))
        for number in range(healthy)
    ]
    parts = [trials[at : at + AT_ONCE] for at in range(0, healthy, AT_ONCE)]
    return [*((size.healthy_days, part) for part in parts), (TRIAL_DAYS, trials_of(kind, size))]


def measure(
    size: Size, models: Sequence[str], folder: Path
) -> tuple[dict[str, Tally], dict[str, Tally]]:
    """By model: all of it, and all of it degraded.

    The first model leads: it sees all healthy units, and the rolling z-score its frames.
    """
    whole: dict[str, Tally] = {name: Tally() for name in (*models, ROLLING)}
    degraded: dict[str, Tally] = {name: Tally() for name in (*models, ROLLING)}
    for kind in size.kinds:
        some = max(round(size.healthy * size.sample), 1)
        limit = 0.0
        for model in models:
            leads = model == models[0]
            bundle, settings = learn(kind, model, size, folder / kind)
            if leads:
                limit = limit_of_rolling(bundle, kind, settings, size)
            for tallies, lost, healthy in (
                (whole, 0.0, size.healthy if leads else some),
                (degraded, LOST, some),
            ):
                for days, trials in groups_of(kind, size, healthy):
                    units = [trial.unit for trial in trials]
                    dead = [dead_of(trial) if lost else None for trial in trials]
                    events, frames = watch(
                        bundle, kind, settings, units, dead, days=days, lost=lost
                    )
                    keep(tallies[model], trials, raised(events), days)
                    if leads:
                        rolled = of_rolling(frames, units, settings.alarm, limit)
                        keep(tallies[ROLLING], trials, rolled, days)
            say("")
            print(f"{kind}: {model} done, {time.process_time():.0f} s of CPU", file=sys.stderr)
    return whole, degraded


def keep(
    tally: Tally, trials: Sequence[Trial], events: Mapping[str, list[Event]], days: float
) -> None:
    """Add what came of some trials."""
    for trial in trials:
        own = events.get(trial.unit.name, [])
        if trial.fault is None:
            tally.months += days / 30
            tally.false += own
            over = (BEGIN_MS + days * DAY_MS) * 1e6
            spent = [(one.end or over) - one.tick for one in own if one.alarm_class == "process"]
            tally.alarmed_months += sum(spent) / 1e6 / DAY_MS / 30
        else:
            tally.trials.append((trial, own))


# ---- figures -----------------------------------------------------------------------------------


def figures(tally: Tally) -> dict[str, float | None]:
    """Everything, named plainly; shares from 0 to 1."""
    process = [event for event in tally.false if event.alarm_class == "process"]
    low, high = garwood(len(process))
    allowed = int(poisson.ppf(0.975, BUDGET * tally.months))
    found: dict[str, float | None] = {
        "healthy_asset_months": tally.months,
        "false_alarms": len(process),
        "false_alarms_per_asset_month": len(process) / tally.months,
        "false_alarms_per_asset_month_low": low / tally.months,
        "false_alarms_per_asset_month_high": high / tally.months,
        "healthy_time_in_alarm": tally.alarmed_months / tally.months,
        "false_alarms_allowed": allowed,
        "budget_held": float(len(process) <= allowed),
        "false_instrument_alarms_per_asset_month": (len(tally.false) - len(process)) / tally.months,
    }
    for family in Family:
        own = [one for one in tally.trials if one[0].fault and one[0].fault.kind.family is family]
        found |= of_family(family, own)
    for name in FAULTS:
        own = [one for one in tally.trials if one[0].fault and one[0].fault.name == name]
        delays = [delay for trial, events in own if (delay := delay_h(trial, events)) is not None]
        found[f"detected_{name}"] = len(delays) / len(own) if own else None
        found[f"delay_h_median_{name}"] = float(np.median(delays)) if delays else None
        found[f"delay_h_p95_{name}"] = float(np.percentile(delays, 95)) if delays else None
    return found


def of_family(
    family: Family, trials: Sequence[tuple[Trial, list[Event]]]
) -> dict[str, float | None]:
    """Shares of the faults of a family."""
    hits = [(trial, hit) for trial, events in trials if (hit := first(trial, events)) is not None]
    right = [
        [channel in trial.unit.channels_of(fault_of(trial)) for channel in hit.blame[:2]]
        for trial, hit in hits
        if hit.alarm_class == "process"
    ]
    found: dict[str, float | None] = {
        f"{family}_faults": len(trials),
        f"{family}_detected": share([bool(first(*one)) for one in trials]),
        f"{family}_blame_first": share([one[0] for one in right]),
        f"{family}_blame_first_two": share([any(one) for one in right]),
    }
    if family is Family.INSTRUMENT:
        called = [
            any(
                event.alarm_class == "instrument"
                and event.point.split()[0] == fault_of(trial).channel
                for event in within(trial, events)
            )
            for trial, events in trials
        ]
        process = [
            any(event.alarm_class == "process" for event in within(trial, events))
            for trial, events in trials
        ]
        found["instrument_called_instrument"] = share(called)
        found["instrument_called_process_too"] = share(process)
    return found


def fault_of(trial: Trial) -> Fault:
    """Of a trial that has one."""
    assert trial.fault is not None
    return trial.fault


def within(trial: Trial, events: Sequence[Event]) -> list[Event]:
    """The alarms that are the fault's."""
    fault = fault_of(trial)
    until_ms = fault.end_ms + GRACE_H * 3_600_000
    return [one for one in events if fault.onset_ms <= one.tick / 1e6 <= until_ms]


def first(trial: Trial, events: Sequence[Event]) -> Event | None:
    """The alarm that detects a fault."""
    any_class = fault_of(trial).kind.family is Family.INSTRUMENT
    own = [one for one in within(trial, events) if any_class or one.alarm_class == "process"]
    return min(own, key=lambda one: one.tick, default=None)


def delay_h(trial: Trial, events: Sequence[Event]) -> float | None:
    """From the onset to the alarm that detects it."""
    hit = first(trial, events)
    return None if hit is None else (hit.tick / 1e6 - fault_of(trial).onset_ms) / 3_600_000


def share(flags: Sequence[bool]) -> float | None:
    """Of those that are true; None of nothing."""
    return sum(flags) / len(flags) if flags else None


def garwood(count: int) -> tuple[float, float]:
    """The 95 % interval of what was to be expected where so many were counted (Garwood, 1936)."""
    low = float(chi2.ppf(0.025, 2 * count)) / 2 if count else 0.0
    return low, float(chi2.ppf(0.975, 2 * count + 2)) / 2


# ---- the command -------------------------------------------------------------------------------


def say(text: str) -> None:
    """One line of progress, written over the last one; nothing where nobody looks."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def cell(value: float | None) -> str:
    """A figure in a table."""
    return "-" if value is None else f"{value:.3g}"


def main() -> None:
    """Read the command line, measure, print tables, keep the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="gru", help="what leads the table")
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), help="of machines; all")
    parser.add_argument("--quick", action="store_true", help="small: does it still run?")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the figures there")
    given = parser.parse_args()
    use_one_thread()
    size = QUICK if given.quick else FULL
    if given.kinds:
        size = Size(
            **{name: getattr(size, name) for name in size.__slots__} | {"kinds": tuple(given.kinds)}
        )
    models = [given.model, *(name for name in BASELINES if name != given.model)]
    begun = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        whole, degraded = measure(size, models, Path(folder))
    say("")
    results = {name: figures(tally) for name, tally in whole.items()}
    worse = {name: figures(tally) for name, tally in degraded.items()}
    for title, found in (
        ("", results),
        ("\nA tenth of the samples missing, one channel dead", worse),
    ):
        print(title)
        names = [name for name in found[models[0]] if not name.endswith(tuple(FAULTS))]
        print(table(("", *found), [[n, *(cell(one[n]) for one in found.values())] for n in names]))
    print()
    lead = results[models[0]]
    print(
        table(
            (f"{models[0]}: fault", "detected", "median h", "95 % h", "degraded"),
            [
                [
                    name,
                    *(
                        cell(lead[f"{what}_{name}"])
                        for what in ("detected", "delay_h_median", "delay_h_p95")
                    ),
                    cell(worse[models[0]][f"detected_{name}"]),
                ]
                for name in FAULTS
            ],
        )
    )
    cpu_s = time.process_time() - begun
    print(f"\n{cpu_s:.0f} s of CPU.")
    content: dict[str, Any] = {
        "set": "simulated",
        "model": models[0],
        "budget_per_asset_month": BUDGET,
        "metrics": results[models[0]],
        "metrics_degraded": worse[models[0]],
        "baselines": {name: results[name] for name in results if name != models[0]},
        "baselines_degraded": {name: worse[name] for name in worse if name != models[0]},
        "cpu_s": round(cpu_s, 1),
    }
    if given.json or not given.quick:
        write(given.json or RESULTS / "simulated.json", content)


if __name__ == "__main__":
    main()

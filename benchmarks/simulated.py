"""False alarms, faults found, delays and blame on the simulated plant, by the product's own code.

    python benchmarks/simulated.py [--seeds 0 1 2] [--kinds pump tank] [--quick] [--json FILE]

For each kind of machine a model is trained from recordings of healthy units (`simulate
--recordings`, then what `train` does). Other units, which it never saw, are commissioned: their own
scaling is learnt from ten healthy days before (what `adopt` does). Then they are scored by the step
itself, samples in and alarms out: healthy ones for their false alarms, and units with one labelled
fault each. All of it again with a tenth of the samples missing and one channel dead. Beside the
model that leads: a network with the same advantage and without it, EWMA, PCA, and a rolling z-score
with the same delays.

What counts: a fault is detected when a process alarm (of a fault of an instrument: any alarm) is
raised from its onset until GRACE_H after its end. Blame is that of the alarm at that moment, and
right where it names a channel of the label. Beside it stands how often a channel that is drawn by
chance would be right (by_chance), and the one with the largest rolling z-score at the moments of
the same alarms (by_z). A fault of an instrument is called one when an alarm of class instrument on
its channel is raised in that time. Process alarms that are raised later, until AFTER_DAYS after the
end of a fault, when all is well again, stand as after_repair.

The figures are of all seeds together, with the least and most of single seeds. They are kept after
each piece of work: what is cut short still says what was done.
"""

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from _machine import RESULTS, table, write
from _simulated import (
    AFTER_DAYS,
    BEGIN_MS,
    BUDGET,
    LEAST_SEEN,
    LOST,
    PERIOD_MS,
    WINDOW,
    Event,
    Model,
    Size,
    Trace,
    Trial,
    beside_rolling,
    commission,
    dead_of,
    learn,
    of_rolling,
    raised,
    rolling,
    say,
    spells,
    traces_of,
    trials_of,
    watch,
    watched_days,
)
from scipy.stats import chi2, poisson

from models.bundle import Bundle
from models.runtime import use_one_thread
from monitor.core.plan import KindSettings
from monitor.site.simulate.faults import FAULTS, Family, Fault
from monitor.site.simulate.machines import KINDS
from monitor.site.simulate.recordings import MODEL
from monitor.site.simulate.unit import DAY_MS, Unit

__all__ = [
    "LEAST_SEEN",
    "WINDOW",
    "Event",
    "Trace",
    "Trial",
    "rolling",
    "spells",
]  # that tests ask for

SHORT_DAYS = 6.0  # a trial of most faults; of those that last five days, twice of it
GRACE_H = 0.5  # after the end of a fault, in which an alarm is still its own
GRU = {"type": "gru", "hidden": 16, "score_span": 16}
MODELS = {
    "ewma, lags": Model(MODEL),  # what people get
    "gru": Model(GRU),
    "gru, pooled": Model(GRU, scaling="pooled"),
    "ewma": Model({"type": "ewma"}),
    "pca": Model({"type": "pca"}),
}
ROLLING = "rolling z-score"
SPREAD = ("false_alarms_per_asset_month", "process_detected", "process_blame_first")
FULL = Size(
    learnt=12,
    learnt_days=10,
    epochs=5,
    commissioned_days=10,
    healthy=26,
    healthy_days=30,
    trials=3,
    few=8,
    few_trials=1,
)
QUICK = Size(
    learnt=2,
    learnt_days=3,
    epochs=2,
    commissioned_days=2,
    healthy=2,
    healthy_days=3,
    trials=1,
    few=2,
    few_trials=1,
)


@dataclass(slots=True)
class Tally:
    """What one model did in all kinds of machines, of one seed or of all."""

    months: float = 0.0  # healthy ones
    alarmed_months: float = 0.0  # of them, under a process alarm
    false: list[Event] = field(default_factory=list)
    trials: list[tuple[Trial, list[Event]]] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        """What another one did, too."""
        self.months += other.months
        self.alarmed_months += other.alarmed_months
        self.false += other.false
        self.trials += other.trials


@dataclass(frozen=True, slots=True)
class Piece:
    """What is done at once: one model, of one kind of machine and seed."""

    seed: int
    kind: str
    model: str


Tallies = dict[tuple[str, bool, int], Tally]  # by model, whether degraded, and seed


# ---- measuring ---------------------------------------------------------------------------------


def limit_of_rolling(
    bundle: Bundle, kind: str, settings: KindSettings, size: Size, *, seed: int
) -> float:
    """The lowest one at which the units that were learnt from keep the budget."""
    units = [
        Unit(kind, f"{kind}_{number}", seed=seed, period_ms=PERIOD_MS)
        for number in range(1, size.learnt + 1)
    ]
    _, frames = watch(bundle, kind, settings, units, days=size.learnt_days)
    traces = traces_of(frames, units).values()
    found = [(one.tick, one.z.max(axis=1), one.counts) for one in traces]
    months = sum(counts.sum() for _, _, counts in found) * PERIOD_MS / DAY_MS / 30
    low, high = 1.0, 1000.0
    for _ in range(30):
        middle = float(np.sqrt(low * high))
        alarms = sum(len(spells(*one, settings.alarm, middle)) for one in found)
        low, high = (middle, high) if alarms > BUDGET * months else (low, middle)
    return high


def groups_of(
    kind: str, size: Size, *, seed: int, healthy: int, trials: int
) -> list[tuple[float, list[Trial]]]:
    """What is watched side by side, and for how many days: the healthy, then those with faults."""
    whole = [
        Trial(Unit(kind, f"healthy_{number}", seed=seed, period_ms=PERIOD_MS))
        for number in range(healthy)
    ]
    faulty = trials_of(kind, trials, seed=seed)
    lengths = sorted({watched_days(trial) for trial in faulty})
    parts = [(days, [one for one in faulty if watched_days(one) == days]) for days in lengths]
    long = [(days, own) for days, own in parts if days > SHORT_DAYS]
    short = [one for days, own in parts if days <= SHORT_DAYS for one in own]
    return [(size.healthy_days, whole), (SHORT_DAYS, short), *long]


def measure(piece: Piece, size: Size, folder: Path, tallies: Tallies, *, leads: bool) -> None:
    """Do one piece; the model that leads sees all, and the rolling z-score its frames."""
    kind, seed, model = piece.kind, piece.seed, MODELS[piece.model]
    bundle, settings = learn(
        kind, model, size, folder / f"{kind}_{seed}", seed=seed, name=piece.model.replace(", ", "_")
    )
    limit = limit_of_rolling(bundle, kind, settings, size, seed=seed) if leads else 0.0
    for degraded in (False, True):
        much = leads and not degraded
        for days, trials in groups_of(
            kind,
            size,
            seed=seed,
            healthy=size.healthy if much else size.few,
            trials=size.trials if leads and not degraded else size.few_trials,
        ):
            units = [trial.unit for trial in trials]
            own = (
                commission(bundle, kind, settings, units, days=size.commissioned_days)
                if model.scaling == "own"
                else bundle
            )
            dead = [dead_of(trial) for trial in trials] if degraded else None
            lost = LOST if degraded else 0.0
            events, frames = watch(own, kind, settings, units, dead, days=days, lost=lost)
            found = raised(events)
            if leads:
                traces = traces_of(frames, units)
                found = beside_rolling(found, traces)
                rolled = of_rolling(traces, settings.alarm, limit)
                keep(tallies.setdefault((ROLLING, degraded, seed), Tally()), trials, rolled, days)
            keep(tallies.setdefault((piece.model, degraded, seed), Tally()), trials, found, days)


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
    allowed = int(poisson.ppf(0.95, BUDGET * tally.months))  # the upper 95 % bound of that many
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
    blamed = [(trial, hit) for trial, hit in hits if hit.alarm_class == "process"]
    found: dict[str, float | None] = {
        f"{family}_faults": len(trials),
        f"{family}_detected": share([bool(first(*one)) for one in trials]),
        f"{family}_alarms_after_repair": sum(len(after(*one)) for one in trials),
    }
    for words, count in (("first", 1), ("first_two", 2)):
        found |= {
            f"{family}_blame_{words}": share(
                [labelled(trial, hit.blame[:count]) for trial, hit in blamed]
            ),
            f"{family}_blame_{words}_by_chance": share(
                [by_chance(trial, count) for trial, _ in blamed]
            ),
            f"{family}_blame_{words}_by_z": share(
                [labelled(trial, hit.by_z[:count]) for trial, hit in blamed if hit.by_z]
            ),
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


def labelled(trial: Trial, channels: Sequence[str]) -> bool:
    """Whether one of these is in the label of its fault."""
    return not set(trial.unit.channels_of(fault_of(trial))).isdisjoint(channels)


def by_chance(trial: Trial, count: int) -> float:
    """How likely one of so many channels that are drawn at random is in the label."""
    channels = len(trial.unit.kind.instruments)
    others = channels - len(trial.unit.channels_of(fault_of(trial)))
    return 1 - math.comb(others, count) / math.comb(channels, count)


def fault_of(trial: Trial) -> Fault:
    """Of a trial that has one."""
    assert trial.fault is not None
    return trial.fault


def within(trial: Trial, events: Sequence[Event]) -> list[Event]:
    """The alarms that are the fault's."""
    fault = fault_of(trial)
    until_ms = fault.end_ms + GRACE_H * 3_600_000
    return [one for one in events if fault.onset_ms <= one.tick / 1e6 <= until_ms]


def after(trial: Trial, events: Sequence[Event]) -> list[Event]:
    """The process alarms of a machine that is well again."""
    end_ms = fault_of(trial).end_ms
    later = end_ms + GRACE_H * 3_600_000, end_ms + AFTER_DAYS * DAY_MS
    return [
        one
        for one in events
        if one.alarm_class == "process" and later[0] < one.tick / 1e6 <= later[1]
    ]


def first(trial: Trial, events: Sequence[Event]) -> Event | None:
    """The alarm that detects a fault."""
    any_class = fault_of(trial).kind.family is Family.INSTRUMENT
    own = [one for one in within(trial, events) if any_class or one.alarm_class == "process"]
    return min(own, key=lambda one: one.tick, default=None)


def delay_h(trial: Trial, events: Sequence[Event]) -> float | None:
    """From the onset to the alarm that detects it."""
    hit = first(trial, events)
    return None if hit is None else (hit.tick / 1e6 - fault_of(trial).onset_ms) / 3_600_000


def share(flags: Sequence[float]) -> float | None:
    """Of those that are true, or the mean of chances; None of nothing."""
    return sum(flags) / len(flags) if flags else None


def garwood(count: int) -> tuple[float, float]:
    """The 95 % interval of what was to be expected where so many were counted (Garwood, 1936)."""
    low = float(chi2.ppf(0.025, 2 * count)) / 2 if count else 0.0
    return low, float(chi2.ppf(0.975, 2 * count + 2)) / 2


# ---- the command -------------------------------------------------------------------------------


def cell(value: float | None) -> str:
    """A figure in a table."""
    return "-" if value is None else f"{value:.3g}"


def joined(tallies: Tallies, *, degraded: bool) -> dict[str, dict[str, float | None]]:
    """The figures of each model over all seeds; and the least and most of a single one."""
    found = {}
    for name in dict.fromkeys(model for model, is_so, _ in tallies if is_so == degraded):
        whole = Tally()
        own = [
            tally
            for (model, is_so, _), tally in tallies.items()
            if (model, is_so) == (name, degraded)
        ]
        for tally in own:
            whole.add(tally)
        found[name] = figures(whole)
        singles = [figures(tally) for tally in own]
        for metric in SPREAD:
            values = [value for one in singles if (value := one[metric]) is not None]
            found[name][f"{metric}_least"] = min(values, default=None)
            found[name][f"{metric}_most"] = max(values, default=None)
    return found


def content(
    tallies: Tallies, lead: str, done: Sequence[Piece], pieces: Sequence[Piece]
) -> dict[str, Any]:
    """All figures there are, as they are kept."""
    whole, worse = joined(tallies, degraded=False), joined(tallies, degraded=True)
    seeds = {
        seed: figures(tally)
        for (model, degraded, seed), tally in tallies.items()
        if model == lead and not degraded
    }
    return {
        "set": "simulated",
        "model": lead,
        "budget_per_asset_month": BUDGET,
        "complete": len(done) == len(pieces),
        "done": [f"{one.model}: {one.kind}, seed {one.seed}" for one in done],
        "metrics": whole[lead],
        "metrics_degraded": worse[lead],
        "metrics_by_seed": seeds,
        "baselines": {name: found for name, found in whole.items() if name != lead},
        "baselines_degraded": {name: found for name, found in worse.items() if name != lead},
        "cpu_s": round(time.process_time(), 1),
    }


def show(found: Mapping[str, Any]) -> None:
    """The figures as tables."""
    for title, own, rest in (
        ("", "metrics", "baselines"),
        (
            "\nA tenth of the samples missing, one channel dead",
            "metrics_degraded",
            "baselines_degraded",
        ),
    ):
        print(title)
        columns = {found["model"]: found[own], **found[rest]}
        names = [name for name in found[own] if not name.endswith(tuple(FAULTS))]
        rows = [[name, *(cell(one[name]) for one in columns.values())] for name in names]
        print(table(("", *columns), rows))
    lead, worse = found["metrics"], found["metrics_degraded"]
    wanted = ("detected", "delay_h_median", "delay_h_p95")
    rows = [
        [name, *(cell(lead[f"{what}_{name}"]) for what in wanted), cell(worse[f"detected_{name}"])]
        for name in FAULTS
    ]
    print()
    print(table((f"{found['model']}: fault", "detected", "median h", "95 % h", "degraded"), rows))
    print(f"\n{found['cpu_s']:.0f} s of CPU.")


def main() -> None:
    """Read the command line, measure, print tables, keep the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument(
        "--models", nargs="+", choices=list(MODELS), default=list(MODELS), help="the first leads"
    )
    parser.add_argument("--quick", action="store_true", help="small: does it still run?")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the figures there")
    given = parser.parse_args()
    use_one_thread()
    size, seeds = (QUICK, given.seeds[:1]) if given.quick else (FULL, given.seeds)
    lead = given.models[0]
    pieces = [
        Piece(seed, kind, model) for model in given.models for seed in seeds for kind in given.kinds
    ]
    done: list[Piece] = []
    tallies: Tallies = {}
    path = given.json or (None if given.quick else RESULTS / "simulated.json")
    with tempfile.TemporaryDirectory() as folder:
        for piece in pieces:
            measure(piece, size, Path(folder), tallies, leads=piece.model == lead)
            done.append(piece)
            say("")
            print(f"{piece} done, {time.process_time():.0f} s of CPU", file=sys.stderr, flush=True)
            if path is not None:
                write(path, content(tallies, lead, done, pieces))
    show(content(tallies, lead, done, pieces))


if __name__ == "__main__":
    main()

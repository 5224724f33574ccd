"""Are these measurements fit to learn from? What is odd about them, what it means, what to do.

Made from what training would learn from: the same samples, the same frames. A finding is of one
channel, on one machine or several; a few are of the history as a whole.
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from models.calibration import LEAST_FRAMES
from models.contract import Stretch
from monitor.core.plan import SECOND, Plan
from monitor.core.words import duration
from monitor.history import signals
from monitor.history.signals import Severity, Sign, Signal
from monitor.history.stamps import Stamps

DAY_S = 86_400
WANTED_DAYS = 30.0  # of all machines together: less cannot say what happens once a month
WEEK = 7.0  # days: what changes with the day of the week is seen once
TWIN = 0.995  # correlation of values and of their moves: two sensors in one place have less


class Advice(NamedTuple):
    """What an issue means for the model, and what to do about it."""

    means: str
    do: str


ISSUES: Mapping[str, Advice] = MappingProxyType(
    {
        "nothing ran": Advice(
            "there is nothing to learn from: no model can be made",
            "correct `running` (its channel and limits, in the channel's unit), or choose other "
            "times (training.since, until) or machines",
        ),
        "little history": Advice(
            "what happens once a month cannot be told from what never happens: the threshold is "
            "provisional, and slow cycles of load and weather are unknown to the model",
            "give a longer history (training.since), or more machines of the kind",
        ),
        "one machine": Advice(
            "how machines of one kind differ cannot be seen: each block of time is judged by a "
            "model of the others, which know this machine",
            "add the history of others of its kind, if there are any",
        ),
        "nothing": Advice(
            "the model learns nothing of this machine",
            "look at its source, its tags and training.since; at running, if it never counts as "
            "running; or leave it out of training.assets",
        ),
        "interrupted": Advice(
            "after each gap the model warms up anew, and nothing is learnt of that time",
            "look at the source for what is missing; raise gap_ticks where gaps are short",
        ),
        "gaps": Advice(
            "the model learns little of it, and does without it most of the time",
            "look at its quality codes, at stale_s and at the sensor; mostly away: model: false",
        ),
        "constant": Advice(
            "it teaches nothing, and its first move will be an alarm",
            "look whether the sensor is connected; a setpoint or an unused one: model: false",
        ),
        "stuck": Advice(
            "the model learns that standing still is healthy, and will not mind a frozen sensor",
            "leave that time out (training.since, training.until), and look at the sensor",
        ),
        "coarse": Advice(
            "what is smaller than a step of it is not seen, and each step looks sudden",
            "bring it with more digits, or with a smaller range of the transmitter",
        ),
        "counter": Advice(
            "every value to come lies outside what was learnt: an alarm without an end",
            "model: false; or bring its rate in place of its count",
        ),
        "few levels": Advice(
            "a mean and a spread do not describe a switch: each change of it is a surprise",
            "model: false; where it says that the machine runs, name it in running",
        ),
        "twin": Advice(
            "the same evidence counts twice, and blame is shared between the two",
            "model: false for one of them",
        ),
        "straight lines": Advice(
            "between their ends nothing was measured: the model learns to expect a smoothness that "
            "live values will not have, and each of them is a surprise",
            "ask the historian for raw values, without interpolation",
        ),
        "held": Advice(
            "between reports it is known to its deadband only: small faults hide in it",
            "ask for a smaller deadband, or for raw values; where the instrument is as slow as "
            "that, a tick_ms nearer to its pace",
        ),
        "spikes": Advice(
            "they widen what counts as healthy, and raise the threshold",
            "look at the wiring and the converter, or leave those hours out; limits on this "
            "channel want an on_delay_s",
        ),
        "clamped": Advice(
            "beyond that value it shows nothing, and a fault there stays unseen",
            "look at the range of the transmitter and of the converter; if it is a state, as zero "
            "while standing, say so with running",
        ),
        "several modes": Advice(
            "one model learns all of them; one that is rare in the history is strange later",
            "see that the history holds each way the machine is run, several times; one that needs "
            "no watching can be told with running",
        ),
        "stamps repeat": Advice(
            "of samples with one stamp only the last counts: clocks or exports cut their stamps",
            "export with fractions of seconds, or set time_format to what the file holds",
        ),
        "stamps go back": Advice(
            "what is older than its frame is late and lost; a clock was set, or files overlap",
            "look at the clock of the source (NTP), and at what wrote the files",
        ),
        "an hour": Advice(
            "a clock on local time loses or repeats an hour twice a year",
            "look at timezone of the source; better, have stamps in UTC",
        ),
    }
)

CHECKS: Mapping[str, signals.Check] = MappingProxyType(
    {
        "gaps": signals.gaps,
        "constant": signals.constant,
        "few levels": signals.few_levels,
        "coarse": signals.coarse,
        "counter": signals.counter,
        "stuck": signals.stuck,
        "straight lines": signals.lines,
        "held": signals.held,
        "spikes": signals.spikes,
        "clamped": signals.clamped,
        "several modes": signals.modes,
    }
)
OF_COUNTERS = ("gaps", "counter")  # what else may be odd about one does not matter


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is odd."""

    issue: str  # a key of ISSUES
    severity: Severity
    channel: str | None  # None: the history as a whole
    assets: tuple[str, ...]  # on which machines
    words: str  # the evidence, of the machine on which there is most of it
    share: float  # of the frames that are concerned, there


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was found for one kind, the worst first."""

    kind: str
    assets: tuple[str, ...]
    channels: tuple[str, ...]  # that the model sees
    frames: int
    days: float  # of frames, of all machines together
    findings: tuple[Finding, ...]

    def count(self, severity: Severity) -> int:
        """How many findings of one severity."""
        return Counter(finding.severity for finding in self.findings)[severity]


def report(plan: Plan, stretches: Sequence[Stretch], stamps: Mapping[int, Stamps]) -> Report:
    """What is odd about the history of a plan with one kind.

    ``stretches`` are those that learning.stretches() makes, ``stamps`` those of its tags.
    """
    ((name, kind),) = plan.kinds.items()
    channels = tuple(channel for channel, of in kind.channels.items() if of.model)
    tick_s = kind.tick_ms / 1000
    own: dict[str, list[Stretch]] = defaultdict(list)
    for stretch in stretches:
        own[stretch.asset].append(stretch)
    signs: list[tuple[str, str | None, str, Sign]] = []  # issue, channel, asset, what was seen
    for asset, runs in own.items():
        signs += [(*found[:2], asset, found[2]) for found in _of_machine(channels, runs, tick_s)]
    for machine in plan.assets:
        for tag in dict.fromkeys(kind.tag_of(channel) for channel in channels):
            seen = stamps.get(machine.tags[tag][0]) if tag in machine.tags else None
            signs += [(issue, tag, machine.name, sign) for issue, sign in _of_clock(seen)]
    frames = sum(map(len, stretches))
    days = frames * tick_s / DAY_S
    absent = [asset.name for asset in plan.assets if asset.name not in own]
    findings = [*_of_history(own, absent, frames, days), *_joined(signs, len(own))]
    order = list(Severity)
    return Report(
        kind=name,
        assets=tuple(own),
        channels=channels,
        frames=frames,
        days=days,
        findings=tuple(sorted(findings, key=lambda found: order.index(found.severity))),
    )


def _of_machine(
    channels: Sequence[str], runs: Sequence[Stretch], tick_s: float
) -> Iterator[tuple[str, str | None, Sign]]:
    """What is odd about one machine: issue, channel, evidence."""
    if (sign := _interrupted(runs, tick_s)) is not None:
        yield "interrupted", None, sign
    analog = []
    for number, channel in enumerate(channels):
        signal = Signal.of(runs, number, tick_s=tick_s)
        found = {
            issue: sign for issue, check in CHECKS.items() if (sign := check(signal)) is not None
        }
        if "counter" in found:
            found = {issue: sign for issue, sign in found.items() if issue in OF_COUNTERS}
        elif signal.analog:
            analog.append(number)
        yield from ((issue, channel, sign) for issue, sign in found.items())
    alike = signals.twins(runs, analog)
    for second in range(len(analog)):
        for first in np.flatnonzero(alike[second, :second] >= TWIN).tolist():
            words = f"as {channels[analog[first]]} (correlation {alike[second, first]:.4f})"
            yield "twin", channels[analog[second]], Sign(Severity.WARNING, words, 1.0)


def _interrupted(runs: Sequence[Stretch], tick_s: float) -> Sign | None:
    """Time between the stretches of one machine: gaps, or the machine stood."""
    ordered = sorted(runs, key=lambda run: int(run.tick[0]))
    between = [
        (int(after.tick[0]) - int(before.tick[-1])) / SECOND - tick_s
        for before, after in itertools.pairwise(ordered)
    ]
    span = (int(ordered[-1].tick[-1]) - int(ordered[0].tick[0])) / SECOND + tick_s
    share = sum(between) / span
    if share < 0.02:
        return None
    words = (
        f"no frames {share:.0%} of the time, {len(between)} times, at the longest "
        f"{duration(max(between))}: gaps, or it did not run"
    )
    return Sign(Severity.WARNING if share > 0.5 else Severity.NOTE, words, share)


def _of_clock(stamps: Stamps | None) -> Iterator[tuple[str, Sign]]:
    """What is odd about the stamps of one tag."""
    if stamps is None or not stamps.count:
        return
    for issue, count in (("stamps repeat", stamps.repeated), ("stamps go back", stamps.backwards)):
        share = count / stamps.count
        if share > 1e-3:
            severity = Severity.WARNING if share > 0.05 else Severity.NOTE
            yield issue, Sign(severity, f"{count:,} of {stamps.count:,} samples", share)
    if hours := stamps.hours():
        when = datetime.fromtimestamp(hours[0] // SECOND, UTC).isoformat(sep=" ")
        words = f"{len(hours)} {'jump' if len(hours) == 1 else 'jumps'} of just an hour, at {when}"
        yield "an hour", Sign(Severity.WARNING, words, len(hours) / stamps.count)


def _of_history(
    own: Mapping[str, Sequence[Stretch]], absent: Sequence[str], frames: int, days: float
) -> Iterator[Finding]:
    """What is odd about all of it."""
    if absent or not own:
        yield Finding(
            issue="nothing" if own else "nothing ran",
            severity=Severity.WARNING if own else Severity.SEVERE,
            channel=None,
            assets=tuple(absent),
            words="no frame in which it ran" if own else "no frame in which a machine ran",
            share=1.0,
        )
    if not own:
        return
    ticks = [tick for runs in own.values() for run in runs for tick in (run.tick[0], run.tick[-1])]
    span = float(max(ticks) - min(ticks)) / SECOND / DAY_S
    if days < WANTED_DAYS or span < WEEK:
        yield Finding(
            issue="little history",
            severity=Severity.SEVERE if frames < 2 * LEAST_FRAMES else Severity.WARNING,
            channel=None,
            assets=tuple(own),
            words=f"{duration(days * DAY_S)} of machines that ran, of {WANTED_DAYS:g} days wanted, "
            f"within {duration(span * DAY_S)}",
            share=1.0,
        )
    if len(own) == 1:
        (asset,) = own
        yield Finding(
            issue="one machine",
            severity=Severity.NOTE,
            channel=None,
            assets=(asset,),
            words=f"{asset} alone",
            share=1.0,
        )


def _joined(signs: Sequence[tuple[str, str | None, str, Sign]], machines: int) -> list[Finding]:
    """One finding for an issue of a channel, however many machines have it.

    A channel that a few machines lack is not severe: for them it is masked.
    """
    groups: dict[tuple[str, str | None], list[tuple[str, Sign]]] = defaultdict(list)
    for issue, channel, asset, sign in signs:
        groups[issue, channel].append((asset, sign))
    order = list(Severity)
    findings = []
    for (issue, channel), seen in groups.items():
        asset, worst = min(seen, key=lambda one: (order.index(one[1].severity), -one[1].share))
        lacking = issue == "gaps" and 2 * len(seen) < machines
        findings.append(
            Finding(
                issue=issue,
                severity=max(worst.severity, Severity.WARNING, key=order.index)
                if lacking
                else worst.severity,
                channel=channel,
                assets=(asset, *(other for other, _ in seen if other != asset)),
                words=worst.words,
                share=worst.share,
            )
        )
    return findings

"""From history to a model: frames of healthy machines, cut into stretches, and a threshold.

The frames come from the same code that makes them live. A stretch ends at a gap and wherever the
machine does not run, as the live state would.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from connectors.batch import Notice, NoticeKind, Samples
from models.bundle import Channel
from models.contract import Stretch
from models.training import HeldOut
from monitor.core.aggregate import changes
from monitor.core.conditions import Conditions
from monitor.core.frames import FrameBuilder, Frames
from monitor.core.modes import RunStates, scored
from monitor.core.pipeline import SlotMap, hear
from monitor.core.plan import SECOND, AlarmSettings, KindSettings, Plan
from monitor.core.sensors import Sensors
from monitor.core.settling import Settling

# R frames, C channels of the kind that the model sees

BEYOND_SEEN = 1.0  # surprise, one decade rarer than the worst healthy episode: see choose_threshold


def channels_of(kind: KindSettings) -> list[Channel]:
    """The channels the model of a kind sees, in order."""
    return [
        Channel(name=name, unit=channel.unit, aggregate=channel.how)
        for name, channel in kind.channels.items()
        if channel.model
    ]


@dataclass(slots=True, kw_only=True)
class Read:
    """What became of the samples of one source while history was read."""

    taken: int = 0
    rejected: Counter[str] = field(default_factory=Counter)  # by reason
    examples: dict[str, str] = field(default_factory=dict)  # of them, by reason

    @property
    def received(self) -> int:
        """All that came."""
        return self.taken + self.rejected.total()


def stretches(
    plan: Plan, batches: Iterable[Samples | Notice], *, received: int
) -> tuple[list[Stretch], dict[str, Read]]:
    """The unbroken runs of all assets of a plan with one kind, and what was read of each source.

    Frames that would not be scored live (off, starting, stopping) are left out.
    """
    ((_, kind),) = plan.kinds.items()
    builder, running = FrameBuilder(kind, plan.assets), RunStates(kind, len(plan.assets))
    slots, settling = SlotMap(plan), Settling(kind, len(plan.assets))
    sensors = Sensors(kind, len(plan.assets), health={})
    builder.listen(received)
    parts: dict[int, list[tuple[Frames, NDArray[np.bool_]]]] = defaultdict(list)
    read: dict[str, Read] = defaultdict(Read)

    def close() -> None:
        frames, _ = builder.close(received)
        if len(frames):
            states = running.of(frames)
            judged = sensors.judge(frames, states)
            counts, seen = scored(states), settling.evidence(frames, judged)
            value = np.where(seen, frames.value, np.nan)
            frames = replace(frames, valid=seen, value=value)  # as the model is shown it live
            for row in np.unique(frames.asset).tolist():
                mine = frames.asset == row
                parts[row].append((frames.rows(mine), counts[mine]))

    for batch in batches:
        if isinstance(batch, Samples):
            number, slot = slots.of(batch.source, batch.tag)
            known = number >= 0
            intake = builder.push(
                batch.source,
                slot[known],
                batch.time[known],
                batch.value[known],
                batch.status[known],
                flags=batch.flags[known],
                received=received,
                now=received,
            )
            read[batch.source].rejected.update(intake.rejected)
            read[batch.source].taken += int(known.sum()) - sum(intake.rejected.values())
        else:
            hear(batch, [builder], received=received, now=received)
            if batch.kind is NoticeKind.REJECTED:
                read[batch.source].rejected[batch.reason] += batch.count
                read[batch.source].examples.setdefault(batch.reason, batch.example)
        close()
    close()

    seen = np.flatnonzero([channel.model for channel in kind.channels.values()])
    return [
        stretch
        for row, pieces in sorted(parts.items())
        for stretch in _cut(plan.assets[row].name, pieces, seen)
    ], dict(read)


def _cut(
    asset: str, pieces: Sequence[tuple[Frames, NDArray[np.bool_]]], seen: NDArray[np.intp]
) -> list[Stretch]:
    """The stretches of one asset: begun by a gap or a start, ended by a gap or a stop."""
    frames = Frames.join([frames for frames, _ in pieces])
    counts = np.concatenate([counts for _, counts in pieces])
    begins = frames.fresh | ~np.append([False], counts)[:-1] | ~counts
    runs = np.split(np.arange(len(frames)), np.flatnonzero(begins))
    return [
        Stretch(
            asset=asset,
            tick=frames.tick[run],
            value=frames.value[run][:, seen],
            valid=frames.valid[run][:, seen],
        )
        for run in runs
        if len(run) and counts[run[0]]
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """A surprise to alarm at, and how much healthy history stands behind it."""

    value: float
    healthy_s: float  # of scored frames


def choose_threshold(
    held_out: Sequence[HeldOut], alarm: AlarmSettings, *, tick_ms: int
) -> Threshold:
    """The most extreme threshold that the healthy history supports.

    The real on-delay and off-delay run over scores of units the model never saw, from one stretch
    of a unit into its next, as they do live. The threshold is one decade (a surprise of 1) above
    the lowest at which not one alarm is raised: how often a healthy machine alarms beyond that, the
    history is too short to tell, so whoever uses it should mark it provisional.
    """
    seen = np.unique(np.concatenate([stretch.surprise for stretch in held_out]))
    low, high = -1, len(seen)  # seen[low] raises an alarm, seen[high] does not
    while high - low > 1:
        middle = (low + high) // 2
        if _raises(held_out, alarm, float(seen[middle])):
            low = middle
        else:
            high = middle
    worst = float(seen[low]) if low >= 0 else 0.0
    frames = sum(int((~one.warming & (one.coverage > 0)).sum()) for one in held_out)
    return Threshold(value=worst + BEYOND_SEEN, healthy_s=frames * tick_ms / 1000)


def _raises(held_out: Sequence[HeldOut], alarm: AlarmSettings, threshold: float) -> bool:
    """Whether any asset raises an alarm at this threshold."""
    in_order = sorted(held_out, key=lambda stretch: (stretch.asset, int(stretch.tick[0])))
    surprise = np.concatenate([stretch.surprise for stretch in in_order])
    coverage = np.concatenate([stretch.coverage for stretch in in_order])
    warming = np.concatenate([stretch.warming for stretch in in_order])
    lengths = [len(stretch.tick) for stretch in in_order]
    names, asset = np.unique([stretch.asset for stretch in in_order], return_inverse=True)
    counts = ~warming & (coverage > 0) & (coverage >= alarm.min_coverage)
    entered = counts & (surprise >= threshold)
    conditions = Conditions(
        np.full(len(names), round(alarm.on_delay_s * SECOND)),
        np.full(len(names), round(alarm.off_delay_s * SECOND)),
    )
    found = conditions.step(
        np.repeat(asset, lengths),
        np.concatenate([stretch.tick for stretch in in_order]),
        says=counts,
        entered=entered,
        left=counts & ~entered,
        fresh=changes(np.repeat(np.arange(len(in_order)), lengths)),
    )
    return bool(found)

"""From history to what a model learns from: frames of healthy machines, cut into stretches.

The frames come from the same code that makes them live. A stretch ends at a gap and wherever the
machine does not run, as the live state would.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from connectors.batch import Notice, NoticeKind, Samples
from models.bundle import Channel
from models.contract import Stretch
from monitor.core.frames import FrameBuilder
from monitor.core.holding import Frames
from monitor.core.modes import RunStates, scored
from monitor.core.plan import KindSettings, Plan
from monitor.core.sensors import Sensors
from monitor.core.settling import Settling
from monitor.core.slots import SlotMap, hear

# R frames, C channels of the kind that the model sees


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

    Frames that would not be scored live (off, starting, stopping) are left out; and the last ones
    before a stop, as long as the machine takes to stop: it was on its way down, and said it ran.
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
    coastdown_s = 0.0 if kind.running is None else kind.running.coastdown_s
    coasting = math.ceil(1000 * coastdown_s / kind.tick_ms)
    return [
        stretch
        for row, pieces in sorted(parts.items())
        for stretch in _cut(plan.assets[row].name, pieces, seen, coasting)
    ], dict(read)


def _cut(
    asset: str,
    pieces: Sequence[tuple[Frames, NDArray[np.bool_]]],
    seen: NDArray[np.intp],
    coasting: int,
) -> list[Stretch]:
    """The stretches of one asset: begun by a gap or a start, ended by a gap or a stop.

    ``coasting``: frames before a stop in which the machine was already stopping.
    """
    frames = Frames.join([frames for frames, _ in pieces])
    counts = np.concatenate([counts for _, counts in pieces])
    for stop in np.flatnonzero(counts[:-1] & ~counts[1:] & ~frames.fresh[1:]) + 1:
        counts[max(stop - coasting, 0) : stop] = False
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

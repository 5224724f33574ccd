"""Episodes: what would have been alarms, found in scores by the alarm step itself.

Frames follow each other: a healthy excursion is many frames over a threshold, and one alarm. So
alarms are counted, never frames.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from connectors.batch import I64
from monitor.core.aggregate import Bool
from monitor.core.crossings import ProcessConditions
from monitor.core.plan import AlarmSettings

# T frames, B blocks

BLOCK = 32  # frames: what is looked at or passed over as a whole


@dataclass(frozen=True)
class Trace:
    """The scores of one asset, in order of tick."""

    asset: str
    tick: I64  # [T] ns since 1970 UTC
    surprise: NDArray[np.float32]  # [T]
    counts: Bool  # [T] says something: scored, past the warm-up, enough of it valid
    tick_ns: int  # distance of frames with no gap between them

    @cached_property
    def fresh(self) -> Bool:
        """Which frames come after a gap [T]."""
        return np.append([True], np.diff(self.tick) > self.tick_ns)[: len(self.tick)]

    @cached_property
    def highest(self) -> NDArray[np.float32]:
        """The highest surprise that counts of each block [B]; -inf where nothing counts."""
        said = np.where(self.counts, self.surprise, np.float32(-np.inf))
        short = -len(said) % BLOCK
        padded = np.append(said, np.full(short, -np.inf, said.dtype))
        highest: NDArray[np.float32] = padded.reshape(-1, BLOCK).max(1)
        return highest

    def part(self, rows: slice) -> "Trace":
        """Some rows of it."""
        return Trace(
            self.asset, self.tick[rows], self.surprise[rows], self.counts[rows], self.tick_ns
        )

    @property
    def watched_s(self) -> float:
        """How long it was judged, in s."""
        return int(self.counts.sum()) * self.tick_ns / 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """One alarm that would have been."""

    asset: str
    raised: int  # ns since 1970 UTC
    returned: int | None  # ns; None: it stands at the end
    peak: float  # the highest surprise while it stood
    rows: slice  # of its trace: from where its timer began to where it returned


def episodes(trace: Trace, alarm: AlarmSettings, threshold: float) -> list[Episode]:
    """What one asset would have alarmed, in order of time."""
    found: list[Episode] = []
    rows = [row for row, _ in _changes(trace, alarm, threshold)]  # raised, returned, raised, ...
    for raised, returned in zip_longest(rows[::2], rows[1::2]):
        end = len(trace.tick) if returned is None else returned + 1
        before = slice(found[-1].rows.stop if found else 0, raised)
        against = trace.counts[before] & (trace.surprise[before] < threshold)
        begin = before.start + (int(np.flatnonzero(against)[-1]) + 1 if against.any() else 0)
        found.append(
            Episode(
                asset=trace.asset,
                raised=int(trace.tick[raised]),
                returned=None if returned is None else int(trace.tick[returned]),
                peak=float(trace.surprise[raised:end][trace.counts[raised:end]].max()),
                rows=slice(begin, end),
            )
        )
    return found


def count(traces: Sequence[Trace], alarm: AlarmSettings, threshold: float) -> int:
    """How many alarms all assets would have raised."""
    return sum(active for trace in traces for _, active in _changes(trace, alarm, threshold))


def held(trace: Trace, alarm: AlarmSettings, episode: Episode) -> float:
    """The highest threshold at which an episode still raises an alarm: the level it held.

    With no on-delay that is its peak. A spike shorter than the on-delay does not count.
    """
    part = trace.part(episode.rows)
    levels = np.unique(part.surprise[part.counts])
    low, high = 0, len(levels)  # levels[low] raises an alarm: found at a threshold not above it
    while high - low > 1:
        middle = (low + high) // 2
        if next(_changes(part, alarm, float(levels[middle])), None) is None:
            high = middle
        else:
            low = middle
    return float(levels[low])


def _changes(trace: Trace, alarm: AlarmSettings, threshold: float) -> Iterator[tuple[int, bool]]:
    """The row of each raise and each return, in turn, and whether it is a raise.

    Blocks in which nothing can begin are passed over, as the step would.
    """
    point = ProcessConditions(alarm, threshold, 1)
    hot = np.flatnonzero(trace.highest >= threshold)
    block = 0
    while True:
        if not point.busy[0]:
            place = np.searchsorted(hot, block)
            if place == len(hot):
                return
            block = int(hot[place])
        start = block * BLOCK
        pick = slice(start, start + BLOCK)
        tick = trace.tick[pick]
        if not len(tick):
            return
        for change, *_ in point.step(
            asset=np.zeros(len(tick), np.intp),
            tick=tick,
            surprise=trace.surprise[pick],
            counts=trace.counts[pick],
            fresh=trace.fresh[pick],
        ):
            yield start + change.row, change.active
        block += 1

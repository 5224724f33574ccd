"""Many samples of one tick become one value: mean, extremes, rms and the like, without a loop.

Used by the frames. Samples come sorted by tag and time; a group is what one tag sampled in one
tick. Bad samples are never aggregated, but they tell that the tag is no longer good.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectors.batch import F64, I64, QUALITY_BAD, U32, forced, quality, usable
from monitor.core.plan import Aggregate

# n samples, m groups, A assets, G tags, C channels

NEVER = (
    np.iinfo(np.int64).min // 4
)  # so far back that adding or subtracting a delay cannot overflow
FOREVER = np.iinfo(np.int64).max // 4

Bool = NDArray[np.bool_]
Index = NDArray[np.intp]


class Groups:
    """Samples sorted by tag and time, in groups of one tag and one tick.

    ``slot`` [n] is asset row * ``tags`` + tag, ``tick`` [n] the number of the tick.
    """

    def __init__(
        self, *, slot: Index, tick: I64, time: I64, value: F64, status: U32, tags: int
    ) -> None:
        count = len(slot)
        self._sample_time, self._sample_value = time, value
        self._starts = np.flatnonzero(changes(slot) | changes(tick))
        self._lengths = np.diff(np.append(self._starts, count))
        self._usable = usable(status)
        slot = slot[self._starts]
        self._slot = slot
        self.row, self.tag, self.tick = slot // tags, slot % tags, tick[self._starts]
        ends = self._starts + self._lengths - 1
        self.last_usable = self._usable[ends]
        self.last_quality = np.minimum(quality(status[ends]), QUALITY_BAD).astype(np.uint8)
        last = self._reduce(np.maximum, np.where(self._usable, np.arange(count), -1))
        self.any_usable = last >= 0
        self.last_value = np.where(self.any_usable, value[last], np.nan) if count else ends * np.nan
        self.last_time = np.where(self.any_usable, time[last], NEVER) if count else ends
        by_hand = forced(status)
        self.any_forced = self._reduce(np.logical_or, by_hand)
        self.last_forced = self.any_usable & by_hand[last] if count else self.any_forced
        self._count = self._reduce(np.add, self._usable.astype(np.int64))

    def value(self, how: Aggregate, held_AC: F64, column: Index, tick: int) -> F64:
        """One value a group [m], NaN where no sample is usable.

        ``held_AC`` [A, C] is what stood before these samples, ``column`` [m] the channel that a
        group feeds, ``tick`` the length of a tick in ns.
        """
        value = np.where(self._usable, self._sample_value, 0.0)
        with np.errstate(invalid="ignore", divide="ignore"):
            match how:
                case Aggregate.LAST:
                    result = self.last_value
                case Aggregate.MEAN:
                    result = self._reduce(np.add, value) / self._count
                case Aggregate.TIME_MEAN:
                    result = self._time_mean(held_AC[self.row, column], tick)
                case Aggregate.MIN:
                    result = self._extreme(np.minimum, np.inf)
                case Aggregate.MAX:
                    result = self._extreme(np.maximum, -np.inf)
                case Aggregate.RMS:
                    result = np.sqrt(self._reduce(np.add, value * value) / self._count)
                case Aggregate.STD:
                    mean = self._reduce(np.add, value) / self._count
                    apart = np.where(self._usable, value - np.repeat(mean, self._lengths), 0.0)
                    result = np.sqrt(self._reduce(np.add, apart * apart) / self._count)
        return np.asarray(result, np.float64)

    def _extreme(self, how: np.ufunc, neutral: float) -> F64:
        extreme = self._reduce(how, np.where(self._usable, self._sample_value, neutral))
        return np.where(self.any_usable, extreme, np.nan)

    def _reduce(self, how: np.ufunc, column: NDArray[Any]) -> NDArray[Any]:
        return how.reduceat(column, self._starts) if len(self._starts) else column

    def _time_mean(self, held: F64, tick: int) -> F64:
        """The mean weighted by how long each value stood, the one before until the first sample."""
        end = self.tick * tick
        time, value = self._sample_time, self._sample_value
        index = np.flatnonzero(self._usable)
        group = np.repeat(np.arange(len(self._starts)), self._lengths)[index]
        until = end[group]
        until[:-1] = np.where(group[1:] == group[:-1], time[index[1:]], until[:-1])
        stood = until - time[index]
        total = np.zeros(len(end))
        np.add.at(total, group, stood * value[index])
        # What stood before: the last value of the tick before, unless it went bad, else what is
        # held.
        earlier = np.append([np.nan], np.where(self.last_usable, self.last_value, np.nan))[:-1]
        before = np.where(changes(self._slot), held, earlier)
        first = np.zeros(len(end), np.int64)
        first[group[::-1]] = time[index[::-1]]  # the first of each group is written last
        gap = np.where(np.isnan(before), 0, first - (end - tick))
        total += np.where(gap > 0, np.nan_to_num(before) * gap, 0.0)
        duration = end - first + gap
        mean = np.where(duration > 0, total / np.maximum(duration, 1), self.last_value)
        return np.where(self.any_usable, mean, np.nan)


def changes(column: NDArray[Any]) -> Bool:
    """Where a value differs from the one before; the first always does."""
    changes = np.ones(len(column), np.bool_)
    changes[1:] = column[1:] != column[:-1]
    return changes


def ends(column: NDArray[Any]) -> Index:
    """The index of the last of each run of equal values."""
    last = np.ones(len(column), np.bool_)
    last[:-1] = column[1:] != column[:-1]
    return np.flatnonzero(last)


def ranges(first: I64, length: I64) -> I64:
    """first[0], first[0] + 1, ... length[0] of them, then the same from first[1], and so on."""
    offset = np.cumsum(length) - length
    return np.repeat(first - offset, length) + np.arange(int(length.sum()))


def last_true(flag: Bool) -> Index:
    """The index of the last True up to each place along the first axis, -1 where there is none."""
    index = np.arange(len(flag)).reshape(-1, *[1] * (flag.ndim - 1))
    return np.maximum.accumulate(np.where(flag, index, -1), axis=0)


def common(old: Sequence[Any], new: Sequence[Any]) -> tuple[Index, Index]:
    """Where the names that both hold stand in ``old`` and in ``new``."""
    place = {name: index for index, name in enumerate(new)}
    both = [(index, place[name]) for index, name in enumerate(old) if name in place]
    pairs = np.array(both, np.intp).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def layers(
    hows: Sequence[Aggregate], tag_of_C: Sequence[int], tags: int
) -> list[tuple[Aggregate, Index]]:
    """The channels in as few layers as hold each tag at most once, all of one aggregate.

    Of each layer the aggregate, and the channel that each tag feeds [G], -1 for none.
    """
    found: list[tuple[Aggregate, Index]] = []
    for channel, (how, tag) in enumerate(zip(hows, tag_of_C, strict=True)):
        free = [column_G for other, column_G in found if other is how and column_G[tag] < 0]
        if not free:
            free = [np.full(tags, -1, np.intp)]
            found.append((how, free[0]))
        free[0][tag] = channel
    return found

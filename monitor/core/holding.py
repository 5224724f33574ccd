"""What each channel shows in a frame: what was sampled in its tick, else what was last known.

The second half of closing frames: `frames.py` says which there are, this what stands in them. A
channel without a sample in a tick holds its last value; a bad sample ends that, and says nothing
about when the value was known. How old what is held may be is the channel's `stale_s`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectors.batch import F64, I64, U8, U32, forced, quality, usable
from monitor.core.aggregate import NEVER, Bool, Groups, Index, layers
from monitor.core.by_asset import ByAsset
from monitor.core.plan import MILLISECOND, SECOND, Aggregate, KindSettings
from monitor.core.vouching import Vouched

# A assets, G tags (or features of a tag's blocks) and C channels of one kind; R frames, n samples,
# m groups (one tag, one tick)

# Aggregates of one sample that are the sample
ONE_IS_ITSELF = tuple(how for how in Aggregate if how not in (Aggregate.RMS, Aggregate.STD))


@dataclass(frozen=True, slots=True, kw_only=True)
class Frames:
    """Closed frames of one kind, in order of asset and tick."""

    asset: Index  # [R] row of the asset in its kind
    tick: I64  # [R] ns since 1970 UTC
    value: F64  # [R, C] in the channel's unit; NaN where not valid
    age: NDArray[np.float32]  # [R, C] s since the value was last known
    valid: Bool  # [R, C]
    forced: Bool  # [R, C] set by hand: shown, but no evidence of the process
    quality: U8  # [R, C] of the last sample, as OPC UA severity: 0 good, 1 uncertain, 2 bad
    fresh: Bool  # [R] the first frame of an asset, or the first after a gap

    def __len__(self) -> int:
        """Count of frames."""
        return len(self.tick)

    def rows(self, index: Index | Bool) -> "Frames":
        """Some of the frames."""
        return Frames(**{name: getattr(self, name)[index] for name in _COLUMNS})

    @staticmethod
    def join(parts: Sequence["Frames"]) -> "Frames":
        """Frames one after the other, for one asset. Raises ValueError for none."""
        return Frames(
            **{name: np.concatenate([getattr(part, name) for part in parts]) for name in _COLUMNS}
        )


_COLUMNS = tuple(column.name for column in fields(Frames))


@dataclass(slots=True)
class _Columns:
    """What each channel shows in a tick without samples."""

    value: F64
    ok: Bool  # the last sample was usable
    forced: Bool  # the last usable sample was set by hand
    quality: U8  # of the last sample
    time: I64  # of the last usable sample


class Held(_Columns):
    """What is held for the channels of all assets of one kind: columns [A, C].

    ``tag_of_C``: which of so many ``tags`` feeds each channel.
    """

    def __init__(self, kind: KindSettings, assets: int, tag_of_C: Sequence[int], tags: int) -> None:
        shape = assets, len(kind.channels)
        super().__init__(
            np.full(shape, np.nan),
            np.zeros(shape, np.bool_),
            np.zeros(shape, np.bool_),
            np.zeros(shape, np.uint8),
            np.full(shape, NEVER, np.int64),
        )
        self._channels = tuple(kind.channels.values())
        self._tick = kind.tick_ms * MILLISECOND
        self._stale_C = np.array([round(c.stale_s * SECOND) for c in self._channels])
        self._tag_of_C, self._tags = tag_of_C, tags
        self._layers = layers([c.aggregate for c in self._channels], tag_of_C, tags)

    def stand(self, slot: Index, time: I64, value: F64, status: U32) -> None:
        """After a gap a source says what is now: that is held, though the frame of it is closed."""
        order = np.argsort(time, kind="stable")
        row, tag = slot[order] // self._tags, slot[order] % self._tags
        time, value, status = time[order], value[order], status[order]
        for column, channel in enumerate(self._channels):
            if channel.aggregate in ONE_IS_ITSELF:
                mine = tag == self._tag_of_C[column]
                self.ok[row[mine], column] = usable(status[mine])
                self.quality[row[mine], column] = quality(status[mine])
                mine &= usable(status)
                self.value[row[mine], column] = value[mine]
                self.time[row[mine], column] = time[mine]
                self.forced[row[mine], column] = forced(status[mine])

    def fill(
        self, groups: Groups, row: Index, tick: I64, fresh: Bool, *, vouched: Vouched
    ) -> Frames:
        """The values of the frames: what was sampled in a tick, else what was last known.

        Rows [R] and the numbers of ticks [R] in order; ``fresh`` [R] as in Frames.
        """
        count_R, count_C = len(row), len(self._tag_of_C)
        instant = tick * self._tick
        # A tick number fits beside its asset in one integer: the grid is sorted by it, so groups
        # find their frame.
        base, span = tick.min(), tick.max() - tick.min() + 1
        frame_of = np.searchsorted(
            row * span + (tick - base), groups.row * span + groups.tick - base
        )

        shown = np.full((count_R, count_C), np.nan)
        nowhere = np.zeros((count_R, count_C), np.bool_)
        shown_ok, sampled, shown_forced = nowhere.copy(), nowhere.copy(), nowhere.copy()
        never = np.full((count_R, count_C), NEVER, np.int64)
        severity = np.zeros((count_R, count_C), np.uint8)
        carry = _Columns(shown.copy(), nowhere.copy(), nowhere.copy(), severity, never)
        held_AC = np.where(self.ok, self.value, np.nan)
        for how, column_G in self._layers:
            column = column_G[groups.tag]
            value = groups.value(how, held_AC, column, self._tick)
            stands = how in (Aggregate.LAST, Aggregate.TIME_MEAN)
            mine = np.flatnonzero(column >= 0)
            at = frame_of[mine] * count_C + column[mine]  # in the raveled [R, C]
            ends_it = how is Aggregate.LAST
            sampled.ravel()[at] = True
            shown.ravel()[at] = value[mine]
            shown_ok.ravel()[at] = (groups.last_usable if ends_it else groups.any_usable)[mine]
            shown_forced.ravel()[at] = (groups.last_forced if ends_it else groups.any_forced)[mine]
            carry.value.ravel()[at] = (groups.last_value if stands else value)[mine]
            carry.ok.ravel()[at] = groups.last_usable[mine]
            carry.quality.ravel()[at] = groups.last_quality[mine]
            carry.forced.ravel()[at] = (groups.last_forced if stands else groups.any_forced)[mine]
            carry.time.ravel()[at] = groups.last_time[mine]

        # Where nothing was sampled, look back: to an earlier frame of the asset, else to what is
        # held. Bad samples say nothing about when it was known.
        by = ByAsset(row)
        stood, stood_ok, stood_forced, stood_quality = by.latest(
            sampled,
            (carry.value, self.value),
            (carry.ok, self.ok),
            (carry.forced, self.forced),
            (carry.quality, self.quality),
        )
        (known,) = by.latest(carry.time != NEVER, (carry.time, self.time))
        for held, now in (
            (self.value, stood),
            (self.ok, stood_ok),
            (self.forced, stood_forced),
            (self.quality, stood_quality),
            (self.time, known),
        ):
            by.keep(held, by.ends(now))

        value = np.where(sampled, shown, stood)
        ok = np.where(sampled, shown_ok, stood_ok)
        if vouched:
            also = vouched.until(row, instant, known)
            since = np.where(ok, np.maximum(known, also), known)
        else:
            since = known
        age = instant[:, None] - since
        valid = ok & (age <= self._stale_C)
        return Frames(
            asset=row,
            tick=instant,
            value=np.where(valid, value, np.nan),
            age=(age / SECOND).astype(np.float32),
            valid=valid,
            forced=valid & np.where(sampled, shown_forced, stood_forced),
            quality=stood_quality,
            fresh=fresh,
        )

    def snapshot(self) -> dict[str, Any]:
        """What the next frames depend on."""
        return {name: getattr(self, name).copy() for name in _NAMES}

    def restore(
        self, tree: Mapping[str, Any], old: tuple[Index, Index], new: tuple[Index, Index]
    ) -> None:
        """Take back what ``snapshot`` gave: assets and channels ``old`` of it are ``new`` here."""
        for name in _NAMES:
            if name in tree:  # else an earlier version wrote it
                getattr(self, name)[np.ix_(*new)] = tree[name][np.ix_(*old)]


_NAMES = tuple(field.name for field in fields(_Columns))

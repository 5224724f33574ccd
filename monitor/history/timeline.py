"""Time for drawing: gaps cut out, as many points as a picture can show.

A machine that is recorded for 3 s every half minute would be an empty picture on a plain time axis.
Here stretches without frames are cut out, whatever their length, and leave a mark. Pure: arrays in,
arrays out.
"""

from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from connectors.batch import F64, I64
from monitor.core.plan import SECOND

# N rows in order of time (a frame, a minute or an hour each), S segments between gaps, B buckets

WIDTH = 1500  # buckets across the picture: about one a pixel
GAP_SHARE = 0.012  # of the picture's width: the mark of one gap, at the most
GAPS_SHARE = 0.25  # of the picture's width: all marks together, at the most
MARKS = 10  # labels below the picture, at the most

Index = NDArray[np.intp]
Bool = NDArray[np.bool_]
Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Timeline:
    """Where each moment stands, 0 at the left to 1 at the right. A segment covers (start, end]."""

    start: I64  # [S] ns since 1970 UTC
    end: I64  # [S] ns since 1970 UTC
    left: F64  # [S]
    right: F64  # [S]

    @staticmethod
    def of(start: I64, end: I64) -> "Timeline":
        """From rows that cover (start, end] each, [N] ns since 1970 UTC; N is at least 1."""
        breaks = np.flatnonzero(start[1:] > end[:-1])
        start = start[np.append([0], breaks + 1)]
        end = end[np.append(breaks, [len(end) - 1])]
        gap = min(GAP_SHARE, GAPS_SHARE / max(len(breaks), 1))
        share = (end - start) / (end - start).sum() * (1 - gap * len(breaks))
        left = np.append([0.0], np.cumsum(share + gap)[:-1])
        return Timeline(start=start, end=end, left=left, right=left + share)

    def at(self, moment: I64 | int) -> F64:
        """Positions of moments; within a gap in between, before and after at the ends."""
        knots = np.stack([self.start, self.end], axis=1).ravel()
        places = np.stack([self.left, self.right], axis=1).ravel()
        since = np.asarray(moment) - knots[0]  # float64 has no room for ns since 1970
        found: F64 = np.interp(since, knots - knots[0], places)
        return found

    def gaps(self) -> list[Span]:
        """From where to where each gap's mark stands."""
        return list(zip(self.right[:-1].tolist(), self.left[1:].tolist(), strict=True))

    @property
    def gaps_s(self) -> float:
        """How much time is cut out, in seconds."""
        return float((self.start[1:] - self.end[:-1]).sum() / SECOND)

    def marks(self, zone: ZoneInfo) -> list[tuple[float, str]]:
        """Positions and labels of round times and of where segments begin, not too close."""
        covered_s = float((self.end - self.start).sum() / SECOND)
        step = next((step for step in _STEPS_S if covered_s / step < MARKS), _STEPS_S[-1]) * SECOND
        offset = nearest_second(int(self.start[0]), zone).utcoffset()
        shift = round(offset.total_seconds()) * SECOND if offset is not None else 0
        moments = self.start.tolist()
        if len(moments) <= MARKS:
            for start, end in zip(self.start.tolist(), self.end.tolist(), strict=True):
                first = -(-(start + shift) // step) * step - shift
                moments += range(first, end, step)
        shown = "%H:%M:%S" if step < 60 * SECOND or len(self.start) > 1 else "%H:%M"
        days = {
            nearest_second(int(moment), zone).date() for moment in (self.start[0], self.end[-1])
        }
        by_day = step >= _DAY_S * SECOND
        if by_day:
            shown = "%d %b\n%Y"
        elif len(days) > 1:
            shown = f"%d %b\n{shown}"
        marks: list[tuple[float, str]] = []
        for moment in moments:  # segments first: where one begins says more than a round time
            place = float(self.at(moment))
            if all(abs(place - other) >= 1 / MARKS for other, _ in marks):
                read = nearest(moment, zone, 60 * SECOND if by_day else SECOND)
                sharp = step > 2 * _DAY_S * SECOND or (read.hour, read.minute) == (0, 0)
                marks.append(
                    (place, read.strftime("%d %b\n%H:%M" if by_day and not sharp else shown))
                )
        return sorted(marks)


# What a clock or a calendar calls round, in seconds.
_HOUR_S, _DAY_S = 3600, 86_400
_STEPS_S = (
    *(1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800),
    *(_HOUR_S, 2 * _HOUR_S, 3 * _HOUR_S, 6 * _HOUR_S, 12 * _HOUR_S, _DAY_S, 2 * _DAY_S, 7 * _DAY_S),
    *(14 * _DAY_S, 28 * _DAY_S, 91 * _DAY_S, 182 * _DAY_S, 364 * _DAY_S),
)


def nearest_second(moment: int, zone: ZoneInfo) -> datetime:
    """A time in ns since 1970 UTC as the site's people read it."""
    return nearest(moment, zone, SECOND)


def nearest(moment: int, zone: ZoneInfo, unit: int) -> datetime:
    """The same to the nearest ``unit``, ns, of whole seconds."""
    return datetime.fromtimestamp((moment + unit // 2) // unit * unit // SECOND, zone)


@dataclass(frozen=True, slots=True)
class Buckets:
    """Rows that share a pixel, and what is to be seen of them: the lowest and the highest."""

    first: Index  # [B] the first row of each
    left: F64  # [B] positions
    right: F64  # [B]

    @staticmethod
    def of(timeline: Timeline, start: I64, end: I64) -> "Buckets":
        """Of the rows the timeline was made from. One row each where there is room."""
        right = timeline.at(end)
        pixel = np.minimum((right * WIDTH).astype(np.intp), WIDTH - 1)
        first = np.flatnonzero(np.append([True], np.diff(pixel) > 0))
        if len(end) <= WIDTH:
            first = np.arange(len(end))
        last = np.append(first[1:], [len(end)]) - 1
        return Buckets(first=first, left=timeline.at(start[first]), right=right[last])

    def low(self, value: NDArray[np.float32]) -> NDArray[np.float32]:
        """The least of each bucket [B, ...] of values [N, ...]; NaN where there is nothing else."""
        found: NDArray[np.float32] = np.fmin.reduceat(value, self.first, axis=0)
        return found

    def high(self, value: NDArray[np.float32]) -> NDArray[np.float32]:
        """The largest of each bucket [B, ...] of values [N, ...]; NaN as above."""
        found: NDArray[np.float32] = np.fmax.reduceat(value, self.first, axis=0)
        return found

    def mean(self, value: NDArray[np.float32]) -> NDArray[np.float32]:
        """The mean of each bucket [B] of values [N], each row alike; NaN as above."""
        there = np.isfinite(value)
        total = np.add.reduceat(np.where(there, value, 0), self.first)
        count = np.add.reduceat(there.astype(np.float32), self.first)
        found: NDArray[np.float32] = np.full(len(count), np.nan, np.float32)
        np.divide(total, count, out=found, where=count > 0)
        return found

    def any(self, chosen: Bool) -> Bool:
        """Buckets with a row that is chosen [N]."""
        found: Bool = np.logical_or.reduceat(chosen, self.first)
        return found

    def peaks(self, value: NDArray[np.float32]) -> Index:
        """The row with the largest value [N] of each bucket [B]; NaN counts as the least."""
        filled = np.where(np.isnan(value), -np.inf, value)
        order = np.lexsort((-filled, np.repeat(self.first, np.diff(self.first, append=len(value)))))
        found: Index = order[self.first]
        return found

    def breaks(self) -> Index:
        """The buckets before which a gap can be seen: lines end there."""
        return 1 + np.flatnonzero(self.left[1:] - self.right[:-1] > 1 / WIDTH)

    def trace(self, *columns: NDArray[np.float32]) -> list[F64]:
        """Position and columns [B], as a line is drawn: cut open at gaps by NaN."""
        middle, breaks = (self.left + self.right) / 2, self.breaks()
        cut = [np.insert(column.astype(np.float64), breaks, np.nan) for column in columns]
        return [np.insert(middle, breaks, np.nan), *cut]

    def steps(self, *columns: NDArray[np.float32]) -> list[F64]:
        """Both edges of each bucket, and columns [B] at both: cut open at gaps as above."""
        edges, breaks = np.stack([self.left, self.right], axis=1).ravel(), 2 * self.breaks()
        drawn = (edges, *(np.repeat(column.astype(np.float64), 2) for column in columns))
        return [np.insert(column, breaks, np.nan) for column in drawn]

    def spans(self, chosen: Bool) -> list[Span]:
        """From where to where rows are chosen [N], neighbours as one; gaps divide."""
        shown = self.any(chosen)
        apart = np.zeros(len(shown), bool)
        apart[self.breaks()] = True
        begins = shown & (~np.append([False], shown[:-1]) | apart)
        ends = shown & (~np.append(shown[1:], [False]) | np.append(apart[1:], [True]))
        return list(zip(self.left[begins].tolist(), self.right[ends].tolist(), strict=True))

"""Frames by asset: what each saw before, and what is held for those that come.

Used wherever something is remembered of an asset from frame to frame. Frames come in order of asset
and tick; what is remembered stands in arrays with one row an asset. Most records bring one frame an
asset, or as many of each: both are views then, not copies.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitor.core.aggregate import Bool, Index, changes, last_true

# R frames, N assets among them, A assets, C channels

Array = NDArray[Any]


class ByAsset:
    """Where the frames of each asset begin and end; ``row`` [R], at least one, in order."""

    def __init__(self, row: Index) -> None:
        self.row = row
        self.first = np.flatnonzero(changes(row))  # [N]
        self.last = np.append(self.first[1:], len(row)) - 1  # [N]
        self.lengths = self.last - self.first + 1  # [N]
        self._single = len(self.first) == len(row)
        self._opening = np.repeat(self.first, self.lengths)[:, None]

    def held(self, held: Array) -> Array:
        """What is held [A, ...] of each frame's asset [R, ...]: a copy."""
        if self._single and len(held) == len(self.row):  # all of them, each once
            return held.copy()
        return held.take(self.row, axis=0)

    def ends(self, now: Array) -> Array:
        """The last frame of each asset [N, ...] of [R, ...]."""
        return now if self._single else now[self.last]

    def keep(self, held: Array, end: Array) -> None:
        """Hold [A, ...] what the last frames have [N, ...]."""
        if len(held) == len(self.last):
            held[:] = end
        else:
            held[self.row[self.last]] = end

    def previous(self, now: Array, held: Array) -> Array:
        """A column [R, ...] one frame earlier."""
        if self._single:
            return self.held(held)
        before = np.concatenate([now[:1], now[:-1]])
        before[self.first] = held[self.row[self.first]]
        return before

    def latest(self, there: Bool, *columns: tuple[Array, Array]) -> list[Array]:
        """Each column [R, C] as of the latest frame, this one too, in which it is ``there`` [R, C].

        A column comes with what is held [A, C], for where there was none in these frames.
        """
        if bool(there.all()):
            return [now for now, _ in columns]
        if self._single:
            return [np.where(there, now, self.held(held)) for now, held in columns]
        return self._at(last_true(there), columns)

    def before(self, there: Bool, *columns: tuple[Array, Array]) -> list[Array]:
        """The same, without this frame."""
        if self._single:
            return [self.held(held) for _, held in columns]
        back = last_true(there)
        return self._at(np.concatenate([np.full_like(back[:1], -1), back[:-1]]), columns)

    def since(self, anew: Bool, grows: Array, held: Array) -> Array:
        """What was added up [R, C] since it began ``anew``, on top of what is held [A, C].

        Exact for whole numbers, however the frames are cut.
        """
        if self._single:
            return np.where(anew, 0, self.held(held) + grows)
        total = np.cumsum(grows, axis=0)
        start = total[self.first] - grows[self.first] - held[self.row[self.first]]
        back = last_true(anew)
        at = back * grows.shape[1] + np.arange(grows.shape[1])
        start = np.repeat(start, self.lengths, axis=0)
        since: Array = total - np.where(back >= self._opening, total.ravel()[at], start)
        return since

    def ticks(self) -> Iterator[tuple[Index | slice, Index | slice]]:
        """One frame of each asset after the other: which of the N have one, and where it stands."""
        most = int(self.lengths.max())
        if most * len(self.first) == len(self.row):
            yield from ((slice(None), slice(n, None, most)) for n in range(most))
        else:
            for n in range(most):
                which = np.flatnonzero(self.lengths > n)
                yield which, self.first[which] + n

    def _at(self, back: Index, columns: tuple[tuple[Array, Array], ...]) -> list[Array]:
        """Each column as of the frames ``back`` [R, C]; what is held, where they are another's."""
        within = back >= self._opening
        at = back * back.shape[1] + np.arange(back.shape[1])
        return [np.where(within, now.ravel()[at], self.held(held)) for now, held in columns]

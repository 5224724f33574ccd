"""Which channels an alarm came from, all in all: blame over the time for which it stood.

Beside the process alarms. Blame of one frame says what disagrees in that frame; an episode moves
from channel to channel, and what returns at its end has little to say. So the frames whose surprise
is at or over the threshold while the alarm stands are gathered, and their mean is told when it
returns. A frame costs the same whatever came before.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectors.batch import I64
from monitor.core.aggregate import NEVER, Bool, Index
from monitor.core.conditions import Change

# R rows, A assets, C channels


class EpisodeBlame:
    """The blame of each asset's alarm since it was raised, added up."""

    def __init__(self, assets: int, channels: int) -> None:
        self._sum_AC = np.zeros((assets, channels))

    def step(
        self,
        asset: Index,
        blame_RC: NDArray[np.float32],
        *,
        over: Bool,
        raised_A: I64,
        changes: Sequence[Change],
    ) -> dict[int, NDArray[np.float32]]:
        """The mean blame [C] of each alarm that returns, by its row; none where nothing was seen.

        Rows [R] in order of asset and tick. ``over`` [R] marks those that count and are at or over
        the threshold, ``raised_A`` says since when an alarm stood before them, NEVER where none.
        """
        stands_A = raised_A != NEVER
        if not (changes or bool(stands_A.any())):
            return {}
        told, begin = {}, 0
        for change in sorted(changes, key=lambda one: one.row):
            self._gather(asset, blame_RC, over, stands_A, slice(begin, change.row))
            begin, a = change.row, change.point
            if not change.active and (total := self._sum_AC[a].sum()) > 0:
                told[change.row] = (self._sum_AC[a] / total).astype(np.float32)
            stands_A[a], self._sum_AC[a] = change.active, 0.0
        self._gather(asset, blame_RC, over, stands_A, slice(begin, len(asset)))
        return told

    def _gather(
        self, asset: Index, blame_RC: NDArray[np.float32], over: Bool, stands_A: Bool, rows: slice
    ) -> None:
        """Add row after row, so that the sums do not depend on how rows come together."""
        at = np.flatnonzero(over[rows] & stands_A[asset[rows]]) + rows.start
        np.add.at(self._sum_AC, asset[at], blame_RC[at])

    def snapshot(self) -> dict[str, Any]:
        """What the next means depend on."""
        return {"sum": self._sum_AC.copy()}

    def restore(
        self, tree: Mapping[str, Any], old: tuple[Index, Index], new: tuple[Index, Index]
    ) -> None:
        """Take back what ``snapshot`` gave: assets and channels ``old`` of it are ``new`` here."""
        self._sum_AC[np.ix_(*new)] = tree["sum"][np.ix_(*old)]

"""Which side of a broken relation moved: how far each channel went lately, against its habit.

Between scores and alarms. Blame says which channel disagrees with the others, not which of them
left its place: a valve that opens further for the same flow accuses the flow as much as the
opening. When an alarm is raised, each channel's blame is weighed by how far its value has moved in
the last hour of frames, in what it moves by in such a time otherwise. Only then: hours later what
moves is something else, so the blame of a frame stays the model's.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitor.core.aggregate import Bool, Index
from monitor.core.by_asset import ByAsset
from monitor.core.records import Scores

# R frames, N assets among them, A assets, C channels

F64 = NDArray[np.float64]

LATELY, BEFORE, USUAL = (2.0 / (ticks + 1.0) for ticks in (16, 60, 4320))  # weights of a new frame
LEAST = 0.02  # spreads that a channel may always move by: one that never moved is no proof
TINY = float(np.finfo(np.float64).tiny)


class Moving:
    """What each channel is about now, was about before, and how far apart that usually is."""

    def __init__(self, assets: int, channels: int) -> None:
        self._now_AC = np.full((assets, channels), np.nan)
        self._before_AC = np.full((assets, channels), np.nan)
        self._usual_AC = np.zeros((assets, channels))

    def step(
        self, asset: Index, scores: Scores, *, counts: Bool, fresh: Bool, at: Sequence[int]
    ) -> dict[int, F64]:
        """How far each channel [C] had moved at the rows ``at``, in its usual way.

        Rows [R] in order of asset and tick, row for row those of ``scores``; ``counts`` marks those
        that say something, ``fresh`` those after a gap, where what was before is forgotten.
        """
        if not len(asset):
            return {}
        by = ByAsset(asset)
        mine = asset[by.first]
        now_NC, before_NC = self._now_AC[mine], self._before_AC[mine]
        usual_NC = self._usual_AC[mine]
        moved_RC = np.zeros(scores.value.shape)
        for which, place in by.ticks():
            now, before, usual = now_NC[which], before_NC[which], usual_NC[which]
            now[fresh[place]] = np.nan
            value = scores.value[place].astype(np.float64)
            there = counts[place, None] & np.isfinite(value)
            begins = there & np.isnan(now)
            now, before = np.where(begins, value, now), np.where(begins, value, before)
            now = np.where(there, now + LATELY * (value - now), now)
            before = np.where(there, before + BEFORE * (value - before), before)
            far = np.abs(now - before)
            usual = np.where(there & ~begins, usual + USUAL * (far - usual), usual)
            now_NC[which], before_NC[which], usual_NC[which] = now, before, usual
            habit = np.maximum(usual + LEAST * scores.spread[place], TINY)
            moved_RC[place] = np.where(there, far / habit, 0.0)
        self._now_AC[mine], self._before_AC[mine] = now_NC, before_NC
        self._usual_AC[mine] = usual_NC
        return {row: moved_RC[row] for row in at}

    def snapshot(self) -> dict[str, Any]:
        """What the next weights depend on."""
        return {
            "now": self._now_AC.copy(),
            "before": self._before_AC.copy(),
            "usual": self._usual_AC.copy(),
        }

    def restore(
        self, tree: Mapping[str, Any], old: tuple[Index, Index], new: tuple[Index, Index]
    ) -> None:
        """Take back what ``snapshot`` gave: assets and channels ``old`` of it are ``new`` here."""
        self._now_AC[np.ix_(*new)] = tree["now"][np.ix_(*old)]
        self._before_AC[np.ix_(*new)] = tree["before"][np.ix_(*old)]
        self._usual_AC[np.ix_(*new)] = tree["usual"][np.ix_(*old)]


def weighed(blame_C: NDArray[np.float32], moved_C: F64) -> NDArray[np.float32]:
    """Blame [C] by how far each channel moved; it sums to 1. As it was where none moved."""
    weight_C = blame_C * moved_C
    total = weight_C.sum()
    return (weight_C / total).astype(np.float32) if total > 0 else blame_C

"""Sensors that have just come back: their jump is not the machine's.

Between the frames and the scoring. A channel that was away for longer than it may be stale comes
back with whatever the machine has become meanwhile, or with a transmitter that is still warming up.
For settle_s the model does not see it; it is shown, and stands against plain limits, at once.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from monitor.core.aggregate import NEVER, Bool, Index, changes, ends, last_true
from monitor.core.frames import Frames
from monitor.core.plan import SECOND, KindSettings

# R frames, A assets, C channels


class Settling:
    """When each channel was valid last, and since when it is back."""

    def __init__(self, kind: KindSettings, assets: int) -> None:
        channels = kind.channels.values()
        self._stale_C = np.array([round(c.stale_s * SECOND) for c in channels])
        self._settle_C = np.array([round(c.settle_s * SECOND) for c in channels])
        self._valid_AC = np.full((assets, len(channels)), NEVER, np.int64)
        self._back_AC = np.full((assets, len(channels)), NEVER, np.int64)

    def evidence(self, frames: Frames) -> Bool:
        """What the model may see [R, C]: valid, not set by hand, and not just back."""
        seen: Bool = frames.valid & ~frames.forced & ~self.of(frames)
        return seen

    def of(self, frames: Frames) -> Bool:
        """Where a channel is valid but has been back for less than settle_s: [R, C].

        A frame that is fresh has no before: the model starts anew with what is there.
        """
        row, tick = frames.asset, frames.tick[:, None]
        first = changes(row)
        opening = last_true(first)[:, None]

        seen = last_true(frames.valid)
        before = np.concatenate([np.full_like(seen[:1], -1), seen[:-1]])  # this frame
        within = before >= opening
        known = np.where(within, frames.tick[before], self._valid_AC[row])
        away = (tick - known > self._stale_C) & (known != NEVER)
        returns = frames.valid & away & ~frames.fresh[:, None]

        back = last_true(returns)
        since = np.where(back >= opening, frames.tick[back], self._back_AC[row])
        last = ends(row)
        self._back_AC[row[last]] = since[last]
        newest = np.where(seen >= opening, frames.tick[seen], self._valid_AC[row])
        self._valid_AC[row[last]] = newest[last]
        settling: Bool = frames.valid & (tick - since < self._settle_C)
        return settling

    def snapshot(self) -> dict[str, Any]:
        """What the next frames depend on."""
        return {"valid": self._valid_AC.copy(), "back": self._back_AC.copy()}

    def restore(
        self, tree: Mapping[str, Any], old: tuple[Index, Index], new: tuple[Index, Index]
    ) -> None:
        """Take back what ``snapshot`` gave: assets and channels ``old`` of it are ``new`` here."""
        self._valid_AC[np.ix_(*new)] = tree["valid"][np.ix_(*old)]
        self._back_AC[np.ix_(*new)] = tree["back"][np.ix_(*old)]

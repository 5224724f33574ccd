"""Sensors that have just come back: their jump is not the machine's.

Between the sensors and the scoring. A channel that was away for longer than it may be stale comes
back with whatever the machine has become meanwhile, or with a transmitter that is still warming up;
so does one whose instrument was at fault. For settle_s the model does not see it; it is shown, and
stands against plain limits, at once.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from monitor.core.aggregate import NEVER, Bool, Index
from monitor.core.by_asset import ByAsset
from monitor.core.holding import Frames
from monitor.core.plan import SECOND, KindSettings
from monitor.core.sensors import Judged

# R frames, A assets, C channels


class Settling:
    """When each channel was sound last, when at fault, and since when it is back."""

    def __init__(self, kind: KindSettings, assets: int) -> None:
        channels = kind.channels.values()
        self._stale_C = np.array([round(c.stale_s * SECOND) for c in channels])
        self._settle_C = np.array([round(c.settle_s * SECOND) for c in channels])
        self._valid_AC = np.full((assets, len(channels)), NEVER, np.int64)
        self._failed_AC = np.full((assets, len(channels)), NEVER, np.int64)
        self._back_AC = np.full((assets, len(channels)), NEVER, np.int64)

    def evidence(self, frames: Frames, judged: Judged) -> Bool:
        """What the model may see [R, C]: valid, good as far as is known, and not just back."""
        sound = frames.valid & ~judged.faulty
        seen: Bool = frames.valid & ~frames.forced & ~judged.hidden & ~self.of(frames, sound)
        return seen

    def of(self, frames: Frames, sound: Bool) -> Bool:
        """Where a channel is sound but has been back for less than settle_s: [R, C].

        ``sound`` [R, C]: valid, and its instrument not at fault. A frame that is fresh has no
        before: the model starts anew with what is there.
        """
        by, tick = ByAsset(frames.asset), frames.tick[:, None]
        ticks = np.broadcast_to(tick, sound.shape)
        (known,) = by.before(sound, (ticks, self._valid_AC))  # this frame
        away = (tick - known > self._stale_C) & (known != NEVER)
        fault = frames.valid & ~sound
        (failed,) = by.latest(fault, (ticks, self._failed_AC))
        returns = sound & (away | ((failed > known) & (known != NEVER))) & ~frames.fresh[:, None]
        (since,) = by.latest(returns, (ticks, self._back_AC))
        (newest,) = by.latest(sound, (ticks, self._valid_AC))
        for held, now in (
            (self._back_AC, since),
            (self._failed_AC, failed),
            (self._valid_AC, newest),
        ):
            by.keep(held, by.ends(now))
        settling: Bool = sound & (tick - since < self._settle_C)
        return settling

    def snapshot(self) -> dict[str, Any]:
        """What the next frames depend on."""
        return {
            "valid": self._valid_AC.copy(),
            "failed": self._failed_AC.copy(),
            "back": self._back_AC.copy(),
        }

    def restore(
        self, tree: Mapping[str, Any], old: tuple[Index, Index], new: tuple[Index, Index]
    ) -> None:
        """Take back what ``snapshot`` gave: assets and channels ``old`` of it are ``new`` here."""
        self._valid_AC[np.ix_(*new)] = tree["valid"][np.ix_(*old)]
        if "failed" in tree:  # else an earlier version wrote it
            self._failed_AC[np.ix_(*new)] = tree["failed"][np.ix_(*old)]
        self._back_AC[np.ix_(*new)] = tree["back"][np.ix_(*old)]

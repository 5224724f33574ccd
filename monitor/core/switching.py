"""A machine that seems to stop, and nothing else in it does: its running tag is not to be believed.

Before the run states. A tag that tells that the machine runs may be set to another unit (1450 rpm
become 24 Hz) or fail towards zero: it falls below its limit at once, further than ever in health
from one tick to the next, and no other channel stirs from three ticks before to ten after. A
machine that truly stops moves something else by then. Until that is known the machine counts as
off, and is not scored; then the tag is called off, and the state is unknown: scoring goes on.

Said only where at least two other channels are restless in health (models/instruments.py), and
known all that time: else nothing could tell.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from models.instruments import Health
from monitor.core.aggregate import NEVER, Bool, Index
from monitor.core.by_asset import ByAsset
from monitor.core.holding import Frames
from monitor.core.plan import MILLISECOND, KindSettings
from monitor.core.sensors import JUMP, PROBATION_TICKS, SPIKE_TICKS, bounds_of

# R frames, A assets, C channels

WITNESSES = 2  # other channels that would have stirred


class LoneStops:
    """Which assets of one kind have stopped according to their running tag alone."""

    def __init__(self, kind: KindSettings, assets: int, health: Mapping[str, Health]) -> None:
        self._tick = kind.tick_ms * MILLISECOND
        bounds = [bounds_of(c, health.get(name), kind) for name, c in kind.channels.items()]
        names = list(kind.channels)
        self._stir_C = np.array([one.stir for one in bounds])
        self.column, self._above, self._jump = 0, 0.0, np.inf
        others = np.zeros(len(names), np.bool_)
        if kind.running is not None:
            tag = kind.tag_of(kind.running.channel)
            others[:] = [
                np.isfinite(one.stir) and kind.tag_of(name) != tag
                for name, one in zip(names, bounds, strict=True)
            ]
            self.column, self._above = names.index(kind.running.channel), kind.running.above
            self._jump = JUMP * bounds[self.column].jump
        self._others = np.flatnonzero(others)
        self.of_use = len(self._others) >= WITNESSES and bool(np.isfinite(self._jump))
        self._value = np.full((assets, len(names)), np.nan)  # of the last frame
        self._number = np.full((assets, 1), NEVER, np.int64)  # of its tick
        self._stirred = np.full((assets, 1), NEVER, np.int64)  # tick in which another did
        self._begun = np.full((assets, 1), NEVER, np.int64)  # tick of the last change of state
        self._lone = np.zeros((assets, 1), np.bool_)  # it was a sudden stop
        self._stirs = np.zeros((assets, 1), np.int64)  # ticks soon after it in which others stirred

    def of(self, frames: Frames) -> Bool:
        """Where the running tag is below its limit and not to be believed [R]."""
        if not self.of_use:
            return np.zeros(len(frames), np.bool_)
        by = ByAsset(frames.asset)
        number = (frames.tick // self._tick)[:, None]
        follows = (by.previous(number, self._number) == number - 1) & ~frames.fresh[:, None]
        value = frames.value
        before = by.previous(value, self._value)
        with np.errstate(over="ignore"):  # two huge values may be infinitely far apart
            change = np.where(follows, np.abs(value - before), np.nan)
        theirs = change[:, self._others]
        moves = (theirs > self._stir_C[self._others]).any(axis=1, keepdims=True)
        moves |= (~np.isnan(theirs)).sum(axis=1, keepdims=True) < WITNESSES  # nobody could tell
        mine = slice(self.column, self.column + 1)
        on = value[:, mine] > self._above
        stops = (change[:, mine] > self._jump) & (before[:, mine] > self._above) & ~on
        (stirred,) = by.latest(moves, (number, self._stirred))
        alone = stops & (number - stirred > SPIKE_TICKS)
        anew = stops | on
        begun, lone = by.latest(anew, (number, self._begun), (alone, self._lone))
        soon = moves & (number - begun <= PROBATION_TICKS)
        stirs = by.since(anew, soon.astype(np.int64), self._stirs)
        for held, now in (
            (self._value, value),
            (self._number, number),
            (self._stirred, stirred),
            (self._begun, begun),
            (self._lone, lone),
            (self._stirs, stirs),
        ):
            by.keep(held, by.ends(now))
        found = lone & (stirs == 0) & (number - begun >= PROBATION_TICKS)
        return np.asarray(found[:, 0])

    def snapshot(self) -> dict[str, Any]:
        """What the next frames depend on."""
        return {
            "value": self._value.copy(),
            "number": self._number.copy(),
            "stirred": self._stirred.copy(),
            "begun": self._begun.copy(),
            "lone": self._lone.copy(),
            "stirs": self._stirs.copy(),
        }

    def restore(
        self, tree: Mapping[str, Any], old: tuple[Index, Index], new: tuple[Index, Index]
    ) -> None:
        """Take back what ``snapshot`` gave: assets and channels ``old`` of it are ``new`` here."""
        self._value[np.ix_(*new)] = tree["value"][np.ix_(*old)]
        for mine, name in (
            (self._number, "number"),
            (self._stirred, "stirred"),
            (self._begun, "begun"),
            (self._lone, "lone"),
            (self._stirs, "stirs"),
        ):
            mine[new[0]] = tree[name][old[0]]

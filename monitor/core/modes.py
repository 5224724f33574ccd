"""Run state: is the machine running, and for how long?

Between the frames and the scoring. A frame of a machine that is off, starting or stopping is not
scored. When the channel that tells is not valid, or not to be believed, the state is unknown and
scoring goes on: a broken sensor must not switch the monitor off.
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitor.core.aggregate import NEVER, Bool, Index, changes, ends, last_true
from monitor.core.holding import Frames
from monitor.core.plan import SECOND, KindSettings

# R frames, A assets


class RunState(IntEnum):
    """What a machine does."""

    RUNNING = 0
    STARTING = 1
    STOPPING = 2
    OFF = 3
    UNKNOWN = 4


def scored(state: NDArray[np.uint8]) -> Bool:
    """Whether a machine in this state [R] is scored: running, or unknown."""
    counts: Bool = (state == RunState.RUNNING) | (state == RunState.UNKNOWN)
    return counts


class RunStates:
    """The run state of all assets of one kind."""

    def __init__(self, kind: KindSettings, assets: int) -> None:
        self._settings = kind.running
        self._column = (
            list(kind.channels).index(kind.running.channel) if kind.running is not None else 0
        )
        self._state_A = np.full(assets, RunState.UNKNOWN, np.uint8)
        self._since_A = np.full(assets, NEVER, np.int64)  # ns, when the run or the stop began

    def of(self, frames: Frames, doubted: Bool | None = None) -> NDArray[np.uint8]:
        """The RunState of each frame [R]. Without a condition every machine is running.

        ``doubted`` [R]: the channel that tells is not to be believed.
        """
        settings = self._settings
        if settings is None:
            return np.full(len(frames), RunState.RUNNING, np.uint8)
        row, tick = frames.asset, frames.tick
        valid = frames.valid[:, self._column]
        if doubted is not None:
            valid = valid & ~doubted
        on = frames.value[:, self._column] > settings.above  # NaN, where not valid, is not above
        first = changes(row)
        known = last_true(valid)
        seen = np.where(on, RunState.RUNNING, RunState.OFF)[known]
        seen = np.where(known >= last_true(first), seen, self._state_A[row])

        # A run or a stop begins where the last that is known changes; after a gap it begins anew.
        before = np.append([RunState.UNKNOWN], seen)[:-1]
        before[first] = self._state_A[row[first]]
        begins = (seen != before) | frames.fresh
        began = last_true(begins | first)
        since = np.where(begins[began], tick[began], self._since_A[row])

        last = ends(row)
        self._state_A[row[last]], self._since_A[row[last]] = seen[last], since[last]

        starting = (seen == RunState.RUNNING) & (tick - since < settings.startup_s * SECOND)
        stopping = (seen == RunState.OFF) & (tick - since < settings.coastdown_s * SECOND)
        state = np.select(
            [~valid, starting, stopping],
            [RunState.UNKNOWN, RunState.STARTING, RunState.STOPPING],
            seen,
        )
        return state.astype(np.uint8)

    def snapshot(self) -> dict[str, Any]:
        """What the next states depend on."""
        return {"state": self._state_A.copy(), "since": self._since_A.copy()}

    def restore(self, tree: Mapping[str, Any], old_A: Index, new_A: Index) -> None:
        """Take back what ``snapshot`` gave: row ``old_A[i]`` of it is row ``new_A[i]`` here."""
        self._state_A[new_A] = tree["state"][old_A]
        self._since_A[new_A] = tree["since"][old_A]

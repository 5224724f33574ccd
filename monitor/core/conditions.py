"""On-delay and off-delay for many points at once: the one state machine behind every kind of alarm.

A condition becomes active when it was entered without a break for the on-delay, and normal again
when it was left without a break for the off-delay (ISA-18.2 / IEC 62682 on-delay and off-delay
timers). Between "entered" and "left" lies the deadband, in which nothing changes but both timers
start anew.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from connectors.batch import I64
from monitor.core.aggregate import FOREVER, NEVER, Bool, Index

# P points, R rows


@dataclass(frozen=True, slots=True)
class Change:
    """One point became active, or normal again."""

    row: int  # of the arrays given to step
    point: int
    active: bool
    raised: int  # ns, the tick it became active at


class Conditions:
    """The conditions of P points, with one on-delay and off-delay each, in ns."""

    def __init__(self, on_delay_P: I64, off_delay_P: I64) -> None:
        self._on_delay_P, self._off_delay_P = on_delay_P, off_delay_P
        self._since_P = np.full(len(on_delay_P), FOREVER, np.int64)  # the timer that runs, if one
        self._raised_P = np.full(len(on_delay_P), NEVER, np.int64)  # NEVER: normal

    @property
    def active(self) -> Bool:
        """Which points are active [P]."""
        active: Bool = self._raised_P != NEVER
        return active

    def step(
        self, point: Index, tick: I64, *, entered: Bool, left: Bool, fresh: Bool
    ) -> list[Change]:
        """Rows [R] in order of tick within each point; gives the changes in order of row.

        A row that says nothing (not scored, not valid) is neither ``entered`` nor ``left``.
        ``fresh`` marks rows after a gap: what was before them counts for no timer.
        """
        changes = []
        # Only points that are active, or may become so, have anything to time.
        busy_P = self.active | (self._since_P != FOREVER)
        busy_P[point[entered]] = True
        for row in np.flatnonzero(busy_P[point]).tolist():
            p, now = int(point[row]), int(tick[row])
            active = self._raised_P[p] != NEVER
            moves = bool(left[row]) if active else bool(entered[row])
            if fresh[row] or not moves:
                self._since_P[p] = FOREVER
            if not moves:
                continue
            self._since_P[p] = min(int(self._since_P[p]), now)
            delay = self._off_delay_P[p] if active else self._on_delay_P[p]
            if now - self._since_P[p] < delay:
                continue
            raised = int(self._raised_P[p]) if active else now
            self._raised_P[p] = NEVER if active else now
            self._since_P[p] = FOREVER
            changes.append(Change(row, p, not active, raised))
        return changes

    def snapshot(self) -> dict[str, Any]:
        """What the next changes depend on."""
        return {"since": self._since_P.copy(), "raised": self._raised_P.copy()}

    def restore(self, tree: Mapping[str, Any], old_P: Index, new_P: Index) -> None:
        """Take back what ``snapshot`` gave: point ``old_P[i]`` of it is point ``new_P[i]`` here."""
        self._since_P[new_P] = tree["since"][old_P]
        self._raised_P[new_P] = tree["raised"][old_P]

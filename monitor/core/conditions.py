"""On-delay and off-delay for many points at once: the one state machine behind every kind of alarm.

A condition becomes active when it was entered for the on-delay, and normal again when it was left
for the off-delay (ISA-18.2 / IEC 62682 on-delay and off-delay timers). Between "entered" and "left"
lies the deadband, in which nothing changes.

What a timer counts is time that was watched. To a timer that waits for a point to be entered, or to
be left, each row of the point is one of three:

- It speaks for it. The first one starts the timer at 0. Each further one adds the time since the
  row before it, if that one spoke for it, too, and there is no gap between them.
- It speaks against it: the deadband, or the other side. The timer is back at 0, and stopped.
- It says nothing: the machine is off, the model blind or warming, the value not valid. The timer
  pauses: it keeps what it has, and the time to the next row does not count. So it is with a gap.

The change comes with the row at which the timer reaches the delay: a delay of 0 with the first row.
So a machine in cycles shorter than the delay is heard, after as much running as the delay says.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectors.batch import I64
from monitor.core.aggregate import NEVER, Bool, Index

# P points, R rows

F32 = NDArray[np.float32]


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
        self._ran_P = np.zeros(len(on_delay_P), np.int64)  # ns that the timer has counted
        self._last_P = np.full(len(on_delay_P), NEVER, np.int64)  # the last row, if it spoke for it
        self._raised_P = np.full(len(on_delay_P), NEVER, np.int64)  # NEVER: normal

    @property
    def active(self) -> Bool:
        """Which points are active [P]."""
        active: Bool = self._raised_P != NEVER
        return active

    @property
    def raised(self) -> I64:
        """Since when each is active [P], ns; NEVER: it is normal. A copy."""
        return self._raised_P.copy()

    @property
    def busy(self) -> Bool:
        """Which points are active, or may become so: only theirs is there anything to time [P]."""
        busy: Bool = self.active | (self._ran_P > 0) | (self._last_P != NEVER)
        return busy

    def step(
        self, point: Index, tick: I64, *, says: Bool, entered: Bool, left: Bool, fresh: Bool
    ) -> list[Change]:
        """Rows [R] in order of tick within each point; gives the changes in order of row.

        Only a row that ``says`` something can be ``entered`` or ``left``, and not both; neither is
        the deadband. ``fresh`` marks rows after a gap.
        """
        changes = []
        busy_P = self.busy
        busy_P[point[entered]] = True
        for row in np.flatnonzero(busy_P[point]).tolist():
            p, now = int(point[row]), int(tick[row])
            active = self._raised_P[p] != NEVER
            last, self._last_P[p] = self._last_P[p], NEVER
            if not (left[row] if active else entered[row]):
                if says[row]:
                    self._ran_P[p] = 0
                continue
            if last != NEVER and not fresh[row]:
                self._ran_P[p] += now - last
            if self._ran_P[p] < (self._off_delay_P[p] if active else self._on_delay_P[p]):
                self._last_P[p] = now
                continue
            raised = int(self._raised_P[p]) if active else now
            self._raised_P[p] = NEVER if active else now
            self._ran_P[p] = 0
            changes.append(Change(row, p, not active, raised))
        return changes

    def settle(self, raised_P: I64) -> None:
        """Let exactly these be active, since then [P]; NEVER is normal.

        Where that is news the timer starts anew.
        """
        news = self._raised_P != raised_P
        self._raised_P[news] = raised_P[news]
        self._ran_P[news], self._last_P[news] = 0, NEVER

    def snapshot(self) -> dict[str, Any]:
        """What the next changes depend on."""
        return {
            "ran": self._ran_P.copy(),
            "last": self._last_P.copy(),
            "raised": self._raised_P.copy(),
        }

    def restore(self, tree: Mapping[str, Any], old_P: Index, new_P: Index) -> None:
        """Take back what ``snapshot`` gave: point ``old_P[i]`` of it is point ``new_P[i]`` here.

        A snapshot from before timers could pause says what is active; its timers start anew.
        """
        self._raised_P[new_P] = tree["raised"][old_P]
        if "ran" in tree:
            self._ran_P[new_P] = tree["ran"][old_P]
            self._last_P[new_P] = tree["last"][old_P]


class Peaks:
    """The highest value of each of P points since it was last at rest; 0 at rest."""

    def __init__(self, points: int) -> None:
        self._peak_P = np.zeros(points, np.float32)

    @property
    def busy(self) -> Bool:
        """Which points are not at rest [P]."""
        busy: Bool = self._peak_P > 0
        return busy

    def step(self, point: Index, value: F32, *, says: Bool, rest: Bool) -> F32:
        """The peak at each row [R], itself counted; rows in order of tick within each point.

        Only a row that ``says`` something can raise it or, where it is at ``rest``, end it.
        """
        peak_R = np.zeros(len(point), np.float32)
        busy_P = self.busy
        busy_P[point[says & ~rest]] = True
        for row in np.flatnonzero(busy_P[point]).tolist():
            p = point[row]
            if says[row]:
                self._peak_P[p] = 0.0 if rest[row] else max(self._peak_P[p], value[row])
            peak_R[row] = self._peak_P[p]
        return peak_R

    def snapshot(self) -> F32:
        """What the next peaks depend on."""
        return self._peak_P.copy()

    def restore(self, peak_P: F32, old_P: Index, new_P: Index) -> None:
        """Take back what ``snapshot`` gave: point ``old_P[i]`` of it is point ``new_P[i]`` here."""
        self._peak_P[new_P] = peak_P[old_P]

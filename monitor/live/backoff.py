"""How long to wait before trying again: longer each time, never all at once, never too often."""

import random
from collections.abc import Callable

FIRST_S, LONGEST_S = 0.5, 60.0


class Backoff:
    """Doubles from ``first_s`` to ``longest_s``; jitter keeps peers apart."""

    def __init__(self, *, first_s: float = FIRST_S, longest_s: float = LONGEST_S) -> None:
        self._first_s, self._longest_s = first_s, longest_s
        self._full_s = first_s

    def next_s(self, asked_s: float | None = None) -> float:
        """Seconds to wait now; at least what the peer asked for, if it did."""
        full = min(self._longest_s, self._full_s)
        self._full_s = 2 * full
        return max(asked_s or 0.0, full * random.uniform(0.5, 1.0))  # noqa: S311 - no secret

    def reset(self) -> None:
        """It worked: start from the shortest wait again."""
        self._full_s = self._first_s


class Allowance:
    """So many attempts a minute in the long run, of which ``saved`` may come at once.

    A bucket that leaks: each attempt fills it by one, and time empties it.
    """

    def __init__(self, *, per_minute: float, saved: int, now: Callable[[], float]) -> None:
        """``now`` gives seconds that only grow."""
        self._each_s, self._saved, self._now = 60.0 / per_minute, saved, now
        self._level, self._looked = 0.0, now()

    def take_s(self) -> float:
        """Take one; seconds to wait before it is made."""
        now = self._now()
        self._level = max(0.0, self._level - (now - self._looked) / self._each_s) + 1.0
        self._looked = now
        return max(0.0, (self._level - self._saved) * self._each_s)

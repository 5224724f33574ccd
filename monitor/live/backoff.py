"""How long to wait before trying again: longer each time, and never all at once."""

import random

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

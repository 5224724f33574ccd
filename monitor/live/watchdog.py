"""Whether a peer still lives: our own judgement, whatever the client library believes.

It asks how old the last sign of life is. Time in which nobody listened says nothing of the peer:
our disk was full, or this whole process stood still.
"""

from collections.abc import Callable

from connectors.contract import Watched

LOOKS = 4  # in the time that a peer has: its loss is known a quarter later, at the latest
LOOK_S = 1.0  # the longest time from one look to the next


class Watchdog:
    """Counts how long a source that is listened to has been without a sign of life."""

    def __init__(
        self, source: Watched, *, listening: Callable[[], bool], now: Callable[[], float]
    ) -> None:
        """``now`` is the clock of ``source.heard``: s of ``time.monotonic``."""
        self._source, self._listening, self._now = source, listening, now
        self._heard, self._looked = source.heard, now()
        self.silent_s = 0.0

    @property
    def limit_s(self) -> float:
        """After so long the peer is lost."""
        return self._source.watchdog_s

    def left_s(self) -> float:
        """Look; after how many seconds to look again. 0: the peer is lost."""
        now, look_s = self._now(), min(LOOK_S, self.limit_s / LOOKS)
        passed, self._looked = now - self._looked, now
        if (heard := self._source.heard) != self._heard:
            self._heard, self.silent_s = heard, min(max(now - heard, 0.0), passed)
        elif self._listening():
            self.silent_s += min(passed, 2 * look_s)  # more: we were not running ourselves
        left = self.limit_s - self.silent_s
        return min(look_s, left) if left > 0 else 0.0

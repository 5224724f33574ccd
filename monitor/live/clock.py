"""Wall time, handed in: the one place where the running service asks what time it is."""

import time
from typing import Protocol


class Clock(Protocol):
    """Tells wall time. Tests hold one in their hand."""

    def now(self) -> int:
        """Wall time, ns since 1970 UTC."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> int:
        """Wall time, ns since 1970 UTC."""
        return time.time_ns()

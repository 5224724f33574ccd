"""How long it takes from receipt to a result: a histogram that only grows, and what was of late."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

# Upper bounds in s: from one group commit (20 ms) to a step that has fallen far behind.
BOUNDS = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Counts in each bucket, the last one without bound, and the sum of all, s. Never changes."""

    counts: tuple[int, ...] = field(default=(0,) * (len(BOUNDS) + 1))
    total_s: float = 0.0

    def plus(self, seconds: Sequence[float]) -> "Latency":
        """With these added; a bound belongs to the bucket below it, as Prometheus counts.

        Less than nothing, by a clock that was put back, counts as nothing.
        """
        seconds = [max(0.0, one) for one in seconds]
        place = np.searchsorted(BOUNDS, seconds)
        more = np.bincount(place, minlength=len(self.counts)).tolist()
        return Latency(
            counts=tuple(a + b for a, b in zip(self.counts, more, strict=True)),
            total_s=self.total_s + sum(seconds),
        )


NO_PERCENTILES: Mapping[str, float | None] = {"p50": None, "p99": None}


def percentiles(values: Iterable[float]) -> Mapping[str, float | None]:
    """The 50th and the 99th; None where there are no values."""
    kept = sorted(values)
    if not kept:
        return NO_PERCENTILES
    last = len(kept) - 1
    return {"p50": kept[int(0.50 * last)], "p99": kept[int(0.99 * last)]}

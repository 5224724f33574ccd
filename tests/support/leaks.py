"""Does something grow without an end? What a process holds, and the trend of it."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SETTLED = 0.25  # of the time is left out: caches fill, the first snapshot is taken
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Held:
    """What a process holds at an instant."""

    at_s: float
    bytes: int  # of memory that is resident
    files: int  # open, sockets and pipes included

    @classmethod
    def by(cls, pid: int, at_s: float) -> "Held":
        """Of a process that runs."""
        here = Path(f"/proc/{pid}")
        pages = int((here / "statm").read_text(encoding="ascii").split()[1])
        return cls(at_s, pages * PAGE, len(list((here / "fd").iterdir())))


def growth(times: Sequence[float], values: Sequence[float], *, settled: float = SETTLED) -> float:
    """How much values grow from ``settled`` of the time to its end, in their unit.

    The slope of the straight line that fits best (least squares), times the length of that time.
    """
    at, value = np.asarray(times, float), np.asarray(values, float)
    late = at >= at[0] + settled * (at[-1] - at[0])
    at, value = at[late], value[late]
    if len(at) < 3:
        raise ValueError(f"growth: want 3 values after the first {settled:.0%}, got {len(at)}")
    middle = at - at.mean()
    return float(middle @ value / (middle @ middle) * (at[-1] - at[0]))


def share(times: Sequence[float], values: Sequence[float], *, settled: float = SETTLED) -> float:
    """The same as a share of the mean of that time."""
    late = [
        v
        for t, v in zip(times, values, strict=True)
        if t >= times[0] + settled * (times[-1] - times[0])
    ]
    return growth(times, values, settled=settled) / float(np.mean(late))

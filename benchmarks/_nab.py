"""The Numenta Anomaly Benchmark's score: early alarms in windows are worth most, others cost.

Lavin and Ahmad, "Evaluating real-time anomaly detection algorithms", ICMLA 2015, and NAB's code for
what the paper leaves open. In a window, the earliest alarm earns s(p) / s(-1), with s(p) = 2 / (1 +
exp(5 p)) - 1 and p = -(rows left in the window) / (rows of the window), its own counted as left; a
window without one costs the weight of a miss. An alarm elsewhere costs the weight of a false one,
times -s(rows past the last window / (rows of that window - 1)); all of it before the first window.
What falls into the probation, the first 15 % of the rows (of at most 5,000), does not count. 100 is
what the best detector could reach, 0 is what one that never speaks gets.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# T rows of a recording

F64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

PROBATION_SHARE, PROBATION_ROWS = 0.15, 5_000
STEEPNESS = 5.0
FAR = 3.0  # windows past the last one: an alarm there costs all it can


@dataclass(frozen=True, slots=True)
class Profile:
    """What a false alarm and a missed window cost; a window found at once earns 1."""

    false: float
    missed: float


STANDARD = Profile(false=0.11, missed=1.0)
LOW_FP = Profile(false=0.22, missed=1.0)
PROFILES = {"standard": STANDARD, "low_fp": LOW_FP}


def probation(rows: int) -> int:
    """How many rows at the start are not scored: what a detector may learn from."""
    return int(min(PROBATION_SHARE * rows, PROBATION_SHARE * PROBATION_ROWS))


@dataclass(frozen=True, slots=True)
class Truth:
    """One recording's windows: first and last row of each, in order, and its count of rows."""

    windows: tuple[tuple[int, int], ...]
    rows: int


def points(recordings: Sequence[tuple[Truth, Bool]], profile: Profile) -> float:
    """NAB points of alarms [T] in all recordings together.

    Raises ValueError where no recording has a window.
    """
    count = sum(len(truth.windows) for truth, _ in recordings)
    if count == 0:
        raise ValueError("NAB: no recording has a window to be found")
    silent = -profile.missed * count
    earned = sum(_earned(truth, alarm, profile) for truth, alarm in recordings)
    return 100 * (earned - silent) / (count - silent)


def _earned(truth: Truth, alarm: Bool, profile: Profile) -> float:
    row = np.arange(truth.rows)
    counts = alarm & (row >= probation(truth.rows))
    outside = counts.copy()
    worth = np.full(truth.rows, -1.0)
    total = 0.0
    for first, last in truth.windows:
        length = last - first + 1
        worth[last + 1 :] = _sigmoid((row[last + 1 :] - last) / max(length - 1, 1))
        outside[first : last + 1] = False
        inside = row[first : last + 1][counts[first : last + 1]]
        if len(inside):
            left = last - int(inside[0]) + 1
            total += float(_sigmoid(np.array(-left / length)) / _sigmoid(np.array(-1.0)))
        else:
            total -= profile.missed
    return total + profile.false * float(worth[outside].sum())


def _sigmoid(position: F64) -> F64:
    shape: F64 = 2.0 / (1.0 + np.exp(STEEPNESS * np.minimum(position, FAR))) - 1.0
    return np.where(position > FAR, -1.0, shape)

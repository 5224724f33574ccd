"""What is odd about one measured signal: each check looks at one channel of one machine.

Robust statistics only, so that what is looked for does not hide itself: medians, quantiles, counts
of equal values. Limits are wide; a healthy signal passes all of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from models.contract import Stretch
from monitor.core.words import duration

# N valid frames of one channel in order, K values that it held in turn, C channels

F64 = NDArray[np.float64]

LEAST = 200  # valid frames: fewer say nothing but that they are few
LEVELS = 10  # up to so many different values: a switch, a mode, a count of something
LINE = 4  # frames in one straight line, at least: three are in a row by chance too often
STUCK = (
    50  # times as long unchanged as usual; of 30,000 exponential times the longest is 16 medians
)
SPIKE = 12.0  # robust deviations from the values around it
VALLEY = 0.2  # of the lower of two peaks: between the turning points of a sine it is 0.4
GRID = 256  # points that a density is looked at


class Severity(StrEnum):
    """How much a finding harms a model; in this order."""

    SEVERE = "severe"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Sign:
    """What a check saw."""

    severity: Severity
    words: str  # the evidence, with its numbers
    share: float  # of the frames that are concerned


@dataclass(frozen=True)
class Signal:
    """One channel of one machine."""

    value: F64  # [N] in its unit
    joins: NDArray[np.bool_]  # [N] whether the frame before is the one a tick earlier
    frames: int  # of the machine, also where this channel was not valid
    missing: int  # the longest run of frames in which it was not
    tick_s: float

    @classmethod
    def of(cls, stretches: Sequence[Stretch], channel: int, *, tick_s: float) -> "Signal":
        """A column of one machine's stretches."""
        valid = np.concatenate([stretch.valid[:, channel] for stretch in stretches])
        value = np.concatenate([stretch.value[:, channel] for stretch in stretches])
        follows = following(stretches)
        before = np.append(False, valid[:-1]) & follows
        begins, lengths = runs(~follows | (valid != np.append(False, valid[:-1])))
        missing = lengths[~valid[begins]]
        return cls(value[valid], before[valid], len(valid), int(missing.max(initial=0)), tick_s)

    @cached_property
    def moves(self) -> F64:
        """From one frame to the next, within runs."""
        return np.diff(self.value)[self.joins[1:]]

    @cached_property
    def levels(self) -> F64:
        """The different values, rising."""
        return np.unique(self.value)

    @cached_property
    def step(self) -> float:
        """Its resolution, where all its values are whole multiples of one; else 0."""
        apart = np.diff(self.levels)
        apart = apart[apart > self.fuzz]
        if not len(apart):
            return 0.0
        step = float(np.quantile(apart, 0.05))
        multiples = (self.levels - self.levels[0]) / step
        return step if float(np.abs(multiples - np.round(multiples)).max()) < 0.01 else 0.0

    @cached_property
    def fuzz(self) -> float:
        """How far apart equal values may be by rounding alone."""
        return 1e-9 * float(np.abs(self.value).max(initial=0.0))

    @cached_property
    def analog(self) -> bool:
        """Whether it can be judged as a measured quantity: long enough, and with many values."""
        return len(self.value) >= LEAST and len(self.levels) > LEVELS

    @cached_property
    def holds(self) -> tuple[F64, NDArray[np.intp]]:
        """Each value as it was held, and for how many frames: [K] each."""
        moved = np.append(True, np.diff(self.value) != 0)
        begins, lengths = runs(moved | ~self.joins)
        return self.value[begins], lengths

    def lasts(self, frames: float) -> str:
        """A count of frames as a length of time."""
        return duration(frames * self.tick_s)


def following(stretches: Sequence[Stretch]) -> NDArray[np.bool_]:
    """Of each frame of all stretches, whether the one before is of the same stretch."""
    follows = np.ones(sum(map(len, stretches)), np.bool_)
    follows[np.cumsum([0, *map(len, stretches[:-1])])] = False
    return follows


def runs(begins: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Where each run begins, and how long it is; the first flag counts as set."""
    at = np.flatnonzero(np.append(True, begins[1:]))
    return at, np.diff(np.append(at, len(begins)))


def gaps(signal: Signal) -> Sign | None:
    """Frames in which the machine ran and the channel was not valid."""
    share = 1 - len(signal.value) / signal.frames
    if share < 0.01:
        return None
    limits = ((0.5, Severity.SEVERE), (0.1, Severity.WARNING), (0.0, Severity.NOTE))
    severity = next(severity for limit, severity in limits if share >= limit)
    longest = signal.lasts(signal.missing)
    return Sign(severity, f"not valid {share:.1%} of the time, at the longest {longest}", share)


def constant(signal: Signal) -> Sign | None:
    """One value all the time."""
    if len(signal.value) < LEAST or len(signal.levels) > 1:
        return None
    return Sign(Severity.WARNING, f"always {signal.levels[0]:g}", 1.0)


def stuck(signal: Signal) -> Sign | None:
    """One value for far longer than usual."""
    if not signal.analog:
        return None
    _, lengths = signal.holds
    usual, longest = float(np.median(lengths)), int(lengths.max())
    share = longest / len(signal.value)
    if longest < STUCK * usual or share < 0.005:
        return None
    words = f"once the same for {signal.lasts(longest)}, mostly for {signal.lasts(usual)}"
    return Sign(Severity.WARNING, words, share)


def counter(signal: Signal) -> Sign | None:
    """It goes one way only, but for a few resets."""
    if not signal.analog:
        return None
    up, down = int((signal.moves > 0).sum()), int((signal.moves < 0).sum())
    against, along = min(up, down), max(up, down)
    if along < 30 or against > min(3, along / 200):
        return None
    way = "rises" if up > down else "falls"
    words = f"only {way}, {along} times" + (f", {against} resets" if against else "")
    return Sign(Severity.SEVERE, words, 1.0)


def few_levels(signal: Signal) -> Sign | None:
    """A handful of values: a switch, a mode, a word in numbers."""
    if len(signal.value) < LEAST or not 1 < len(signal.levels) <= LEVELS or _steps(signal):
        return None
    shown = ", ".join(f"{level:g}" for level in signal.levels)
    return Sign(Severity.WARNING, f"{len(signal.levels)} values only: {shown}", 1.0)


def coarse(signal: Signal) -> Sign | None:
    """A measured quantity that moves over few steps of its instrument."""
    if len(signal.value) < LEAST or len(signal.levels) > LEVELS or not _steps(signal):
        return None
    words = f"{len(signal.levels)} steps of {signal.step:.3g} are all it moves over"
    return Sign(Severity.NOTE, words, 1.0)


def _steps(signal: Signal) -> bool:
    """Whether it goes from a level to the next, as what is measured does, and a switch does not."""
    moved = np.abs(signal.moves[signal.moves != 0])
    return len(signal.levels) > 3 and bool(np.median(moved) <= 1.5 * signal.step)


def lines(signal: Signal) -> Sign | None:
    """Straight lines from point to point, as a historian draws between what it kept."""
    if not signal.analog:
        return None
    joined = signal.joins[1:] & np.append(False, signal.joins[1:-1])
    bend = np.abs(np.append(0.0, np.diff(signal.value, 2)))  # at the end of two steps
    slope = np.abs(np.diff(signal.value))
    fuzz = max(signal.fuzz, 1.01 * signal.step)  # both ends of a bend may be rounded
    straight = joined & (bend <= fuzz) & (slope > 4 * fuzz)
    begins, lengths = runs(np.append(True, np.diff(straight)))
    long = lengths[straight[begins]] + 2  # of the frames, of which a bend takes three
    share = min(float(long[long >= LINE].sum()) / len(signal.value), 1.0)
    if share < 0.3:
        return None
    return Sign(Severity.WARNING, f"straight lines {share:.0%} of the time", share)


def held(signal: Signal) -> Sign | None:
    """It keeps its value from report to report, though its instrument can show less of a change."""
    if not signal.analog or not len(signal.moves):
        return None
    moved = np.abs(signal.moves[signal.moves != 0])
    share = 1 - len(moved) / len(signal.moves)
    if share < 0.5 or not len(moved) or np.median(moved) <= 1.5 * signal.step:
        return None  # a coarse instrument, of which each step is a real one
    _, lengths = signal.holds
    usual = float(np.median(lengths))
    regular = float((np.abs(lengths - usual) <= 1).mean()) > 0.8
    how = "a new value each" if regular else "reported on change, mostly after"
    severity = Severity.WARNING if share > 0.9 else Severity.NOTE
    words = f"unchanged in {share:.0%} of the frames: {how} {signal.lasts(usual)}"
    return Sign(severity, words, share)


def spikes(signal: Signal) -> Sign | None:
    """Single values far from those before and after."""
    if not signal.analog:
        return None
    value, lengths = signal.holds
    if len(value) < 50:
        return None
    near = sliding_window_view(np.pad(value, 2, mode="edge"), 5)
    off = np.abs(value - np.median(near, axis=1))
    # as far off as that, and back to where it was: the end of a steep slope is no spike
    back = np.abs(near[:, :2, None] - near[:, None, 3:]).min((1, 2)) < 0.3 * off
    usual = max(  # what its own noise, its slopes and its resolution make of it
        float(np.quantile(off, 0.95)) / 2, float(np.median(np.abs(np.diff(value)))), signal.step
    )
    wild = (off > SPIKE * usual) & back
    if not wild.any():
        return None
    share = float(lengths[wild].sum() / len(signal.value))
    worst = float(off[wild].max() / usual)
    severity = Severity.WARNING if share > 1e-3 else Severity.NOTE
    count = int(wild.sum())
    words = f"{count} {'spike' if count == 1 else 'spikes'}, the largest {worst:.0f} deviations"
    return Sign(severity, words, share)


def clamped(signal: Signal) -> Sign | None:
    """It lies at one end of its range, again and again, far more often than next to it."""
    if not signal.analog:
        return None
    low, high = float(signal.levels[0]), float(signal.levels[-1])
    near = max(0.02 * (high - low), 1.01 * signal.step)
    held_values, _ = signal.holds
    for end, inward in ((high, -1.0), (low, 1.0)):
        at = float((signal.value == end).mean())
        beside = np.abs(signal.value - end)
        next_to = float(((beside > 0) & (beside <= near)).mean())
        visits = int((held_values == end).sum())
        if at >= 0.01 and at > 3 * next_to and visits >= 3:
            where = "highest" if inward < 0 else "lowest"
            return Sign(Severity.WARNING, f"at its {where} ({end:g}) {at:.1%} of the time", at)
    return None


def modes(signal: Signal) -> Sign | None:
    """Two ranges of values with hardly anything between: it is run in several ways."""
    if not signal.analog:
        return None
    low, high = np.quantile(signal.value, (0.002, 0.998))
    deviation = float(np.std(signal.value))
    quartiles = np.quantile(signal.value, (0.25, 0.75))
    width = min(deviation, float(np.diff(quartiles)[0]) / 1.34 or deviation)
    if high <= low or width <= 0:
        return None
    # Silverman, 1986, for as few as count: neighbours in time are no new evidence
    bandwidth = max(0.9 * width * min(len(signal.value), 1000) ** -0.2, (high - low) / GRID)
    density, edges = np.histogram(signal.value, bins=GRID, range=(float(low), float(high)))
    reach = np.arange(-GRID, GRID + 1) * (edges[1] - edges[0]) / bandwidth
    smooth = np.convolve(np.pad(density, GRID), np.exp(-0.5 * reach**2), mode="valid")
    left, right = np.maximum.accumulate(smooth), np.maximum.accumulate(smooth[::-1])[::-1]
    depth = smooth / np.minimum(left, right)
    split = float(edges[int(depth.argmin())])
    upper = signal.value > split
    minor = float(min(upper.mean(), 1 - upper.mean()))
    changes = int((np.diff(upper) != 0).sum())
    if depth.min() > VALLEY or minor < 0.02 or len(signal.value) < 20 * (changes + 1):
        return None
    around = (float(np.median(signal.value[~upper])), float(np.median(signal.value[upper])))
    words = (
        f"around {around[0]:.4g} {1 - upper.mean():.0%} of the time, around {around[1]:.4g} "
        f"{upper.mean():.0%}; {changes} {'change' if changes == 1 else 'changes'}"
    )
    return Sign(Severity.NOTE if minor >= 0.1 and changes >= 4 else Severity.WARNING, words, minor)


Check = Callable[[Signal], Sign | None]


def twins(stretches: Sequence[Stretch], channels: Sequence[int]) -> F64:
    """How nearly each two channels [C, C] are one: the smaller correlation of values and of moves.

    Over the frames in which both are valid; 0 where one of them never moves.
    """
    value = np.concatenate([stretch.value[:, channels] for stretch in stretches])
    valid = np.concatenate([stretch.valid[:, channels] for stretch in stretches])
    moves = np.diff(value, axis=0)
    both = valid[1:] & valid[:-1] & following(stretches)[1:, None]
    return np.minimum(np.abs(_correlation(value, valid)), np.abs(_correlation(moves, both)))


def _correlation(value: F64, valid: NDArray[np.bool_]) -> F64:
    """Of each two columns, over the rows in which both are valid."""
    seen = valid.astype(np.float64)
    own = np.maximum(seen.sum(0), 1)
    filled = np.where(valid, value, 0.0)
    filled = np.where(valid, value - filled.sum(0) / own, 0.0)  # or the squares lose digits
    filled /= np.maximum(np.abs(filled).max(0, initial=0.0), np.finfo(np.float64).tiny)
    both = np.maximum(seen.T @ seen, 1)
    mean = filled.T @ seen / both  # [i, j] of column i, where j is valid too
    variance = np.maximum((filled**2).T @ seen / both - mean**2, 0.0)
    shared = filled.T @ filled / both - mean * mean.T
    size = np.sqrt(variance * variance.T)
    alike: F64 = np.divide(shared, size, out=np.zeros_like(size), where=size > 1e-12)
    return alike

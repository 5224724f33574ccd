"""Instrument or process: each channel is judged by itself, before the model sees it.

Between the frames and the model. A verdict says what is wrong with an instrument; most hide the
channel from the model, which goes on with the others and a lower coverage. What is only suspected
is hidden, too, until it is known: a sudden change that may be a spike for three ticks, a rest that
is longer than any in health until it is called frozen. So between onset and verdict the model is
shown no more than the first tick or two of a failing sensor.

What is called still, quiet and sudden follows from the health on the model's card, and is said only
of channels that are restless there (models/instruments.py): a set point rests for hours. A rest
counts while the machine runs, the source says the value anew (or vouches for it), and another
channel moves. A drift, and a shift that other channels share, are left to the model: from the
signal alone they cannot be told from the process. docs/decisions/0042-instrument-or-process.md.

The words are those of NAMUR NE 107, the tests those of the data validation that plants know
(frozen, spike, jump, noise, range), made causal and O(1) a tick.
"""

import math
from collections.abc import Mapping
from dataclasses import astuple, dataclass, fields
from enum import IntEnum, StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectors.batch import F64, I64, QUALITY_BAD, QUALITY_UNCERTAIN, U8
from models.instruments import ALPHA, NOISE_TICKS, Health
from monitor.core.aggregate import NEVER, Bool, Index, changes
from monitor.core.frames import Frames
from monitor.core.modes import scored
from monitor.core.plan import MILLISECOND, SECOND, ChannelSettings, KindSettings

# R frames, n of them (one an asset), A assets, C channels

REST = 3.0  # times the longest rest in health, and REST_TICKS more: frozen
REST_TICKS = 10
DOUBT = 1.5  # times the longest rest in health, and DOUBT_TICKS more: hidden, nothing said yet
DOUBT_TICKS = 3
COLLAPSE = 1 / 3  # of the lowest noise in health
JUMP = 2.0  # times the largest change in health, from a tick to the next
SPIKE_TICKS = 3  # a jump that is back within so many ticks was a spike
SPIKE_MEMORY = 300  # ticks after which a spike is all but forgotten (e-folding)
SPIKES, SPIKES_OVER = 2.5, 1.0  # so many of late: it spikes; fewer: it does so no more
OFFSET_S = 86_400  # after so long an offset is the new normal, and the model's to judge
KNOWN_TICKS = 1.5  # age of a value that was sampled, or vouched for, in this tick


class Verdict(IntEnum):
    """What is wrong with an instrument, as far as its own signal tells."""

    GOOD = 0
    UNCERTAIN = 1  # its source is not sure
    SPIKES = 2
    QUIET = 3  # its noise has gone
    OFFSET = 4  # it jumped, and nothing else did
    FROZEN = 5
    CLAMPED = 6  # frozen at an end of its range
    OUT_OF_RANGE = 7
    FORCED = 8  # set by hand
    STALE = 9
    BAD = 10  # its source says so


class Word(StrEnum):
    """What an instrument asks for, in the words of NAMUR NE 107."""

    FAILURE = "failure"
    CHECK = "function check"
    OUT_OF_SPECIFICATION = "out of specification"
    MAINTENANCE = "maintenance required"


WORDS = tuple(Word)
WORD_OF: Mapping[Verdict, Word] = {
    Verdict.UNCERTAIN: Word.OUT_OF_SPECIFICATION,
    Verdict.SPIKES: Word.MAINTENANCE,
    Verdict.QUIET: Word.OUT_OF_SPECIFICATION,
    Verdict.OFFSET: Word.OUT_OF_SPECIFICATION,
    Verdict.FROZEN: Word.FAILURE,
    Verdict.CLAMPED: Word.FAILURE,
    Verdict.OUT_OF_RANGE: Word.OUT_OF_SPECIFICATION,
    Verdict.FORCED: Word.CHECK,
    Verdict.STALE: Word.FAILURE,
    Verdict.BAD: Word.FAILURE,
}
# In which the value still speaks of the process: the model sees it.
SEEN = (Verdict.GOOD, Verdict.UNCERTAIN, Verdict.SPIKES)


def in_words(verdict: Verdict, channel: ChannelSettings, value: float) -> str:
    """What is wrong with an instrument that shows ``value``."""
    shown = f"{value:.6g} {channel.unit or ''}".rstrip()
    low, high = channel.sensor.range or (math.nan, math.nan)
    return {
        Verdict.GOOD: "is good",
        Verdict.UNCERTAIN: "is uncertain, its source says",
        Verdict.SPIKES: "shows spikes again and again, now",
        Verdict.QUIET: "has lost the noise that it has in health,",
        Verdict.OFFSET: f"jumped to {shown}, and nothing else did,",
        Verdict.FROZEN: f"is frozen at {shown} while others move,",
        Verdict.CLAMPED: f"rests at {shown}, the end of its range,",
        Verdict.OUT_OF_RANGE: f"is {shown}, out of its range {low:g} to {high:g},",
        Verdict.FORCED: f"is set to {shown} by hand,",
        Verdict.STALE: f"has given no value for {channel.stale_s:g} s and more,",
        Verdict.BAD: "is bad, its source says",
    }[verdict]


@dataclass(frozen=True, slots=True)
class Judged:
    """What was found, row for row of the frames."""

    verdict: U8  # [R, C] Verdict
    hidden: Bool  # [R, C] by verdict or on suspicion: nothing the model may see
    faulty: Bool  # [R, C] by verdict: what comes after it has come back


@dataclass(slots=True)
class _Signals:
    """What is remembered of each channel: arrays [A, C]."""

    value: F64  # last known; NaN before the first
    tick: I64  # number of the tick it was known in
    ever: Bool  # whether it was ever valid
    rest: F64  # ticks since it moved, as far as they count
    noise: F64  # mean change from tick to tick
    changes: I64  # how many changes it is made of
    stirred: I64  # number of the tick of the last change beyond all in health
    doubt: I64  # ticks since a jump that may be a spike; 0: none
    anchor: F64  # value before that jump
    spikes: F64  # of late
    spiking: Bool
    offset: F64  # how far off it jumped; 0: it did not
    since: I64  # number of the tick that it did

    @classmethod
    def new(cls, assets: int, channels: int) -> "_Signals":
        shape = assets, channels
        never, zero = np.full(shape, NEVER, np.int64), np.zeros(shape)
        return cls(
            value=np.full(shape, np.nan),
            tick=never.copy(),
            ever=np.zeros(shape, np.bool_),
            rest=zero.copy(),
            noise=zero.copy(),
            changes=np.zeros(shape, np.int64),
            stirred=never.copy(),
            doubt=np.zeros(shape, np.int64),
            anchor=zero.copy(),
            spikes=zero.copy(),
            spiking=np.zeros(shape, np.bool_),
            offset=zero.copy(),
            since=never.copy(),
        )

    def take(self, asset: Index) -> "_Signals":
        return _Signals(*(getattr(self, name)[asset] for name in _NAMES))

    def put(self, asset: Index, rows: "_Signals") -> None:
        for name in _NAMES:
            getattr(self, name)[asset] = getattr(rows, name)


_NAMES = tuple(field.name for field in fields(_Signals))


@dataclass(frozen=True, slots=True)
class Bounds:
    """Beyond which something is said of one channel; infinite, or no noise, where nothing is."""

    low: float  # of its range
    high: float
    frozen: float  # ticks
    doubt: float  # ticks
    quiet: float  # mean change from tick to tick, in its unit
    jump: float  # the largest change in health, in its unit
    still: float  # ticks: the most that one sample adds to a rest


def bounds_of(channel: ChannelSettings, health: Health | None, kind: KindSettings) -> Bounds:
    """From what the model has seen of its health, and what the settings say instead."""
    sensor, inf = channel.sensor, math.inf
    low, high = (-inf, inf) if sensor.range is None else sensor.range
    frozen = inf if isinstance(sensor.frozen_s, str) else sensor.frozen_s * 1000 / kind.tick_ms
    if health is None or not health.restless:
        return Bounds(low, high, frozen, doubt=inf, quiet=0.0, jump=inf, still=1.0)
    if sensor.frozen_s == "auto":
        frozen = REST * health.still + REST_TICKS
    return Bounds(
        low,
        high,
        frozen,
        doubt=inf if sensor.frozen_s == "off" else DOUBT * health.still + DOUBT_TICKS,
        quiet=COLLAPSE * health.quiet if sensor.noise else 0.0,
        jump=health.jump if sensor.jump else inf,
        still=health.still,
    )


class Sensors:
    """The instruments of all assets of one kind.

    ``health`` is what the kind's model has seen of each channel; of one that it has not, only what
    the source or a setting says is judged.
    """

    def __init__(self, kind: KindSettings, assets: int, health: Mapping[str, Health]) -> None:
        self._tick = kind.tick_ms * MILLISECOND
        self._signals = _Signals.new(assets, len(kind.channels))
        bounds = [bounds_of(c, health.get(name), kind) for name, c in kind.channels.items()]
        columns = np.array([astuple(one) for one in bounds], np.float64).T
        (
            self._low_C,
            self._high_C,
            self._frozen_C,
            self._doubt_C,
            self._quiet_C,
            self._jump_C,
            self._still_C,
        ) = columns
        self._alone = len(kind.channels) == 1

    def judge(self, frames: Frames, running: NDArray[np.uint8]) -> Judged:
        """The verdict on each channel of each frame; ``running`` [R] are the RunStates."""
        verdict = np.zeros(frames.value.shape, np.uint8)
        hidden = np.zeros(frames.value.shape, np.bool_)
        runs = scored(running)
        starts = np.flatnonzero(changes(frames.asset))
        lengths = np.diff(np.append(starts, len(frames)))
        for tick in range(int(lengths.max(initial=0))):  # all assets at once, tick after tick
            rows = starts[lengths > tick] + tick
            verdict[rows], hidden[rows] = self._step(frames.rows(rows), runs[rows])
        return Judged(verdict, hidden, ~_SEEN[verdict])

    def _step(self, now: Frames, runs: Bool) -> tuple[U8, Bool]:
        """One frame of each of n assets."""
        s = self._signals.take(now.asset)
        number = (now.tick // self._tick)[:, None]
        age = now.age <= KNOWN_TICKS * self._tick / SECOND
        known = now.valid & ~now.forced & age & runs[:, None]
        step = number - s.tick
        follows = known & (step == 1) & ~now.fresh[:, None]
        delta = now.value - s.value
        change = np.abs(delta)
        moved = known & (change != 0)  # NaN, for the first one, is a move

        self._rest(s, known, moved, step)
        sudden = follows & (change > JUMP * self._jump_C)
        s.stirred = np.where(follows & (change > self._jump_C), number, s.stirred)
        hushed = (s.doubt > 0) | sudden
        self._noise(s, follows & ~hushed, change)
        self._jump(s, value=now.value, delta=delta, known=known, sudden=sudden, number=number)
        s.spikes = np.where(runs[:, None], s.spikes * (1 - 1 / SPIKE_MEMORY), s.spikes)
        s.spiking = s.spikes > np.where(s.spiking, SPIKES_OVER, SPIKES)
        s.value = np.where(known, now.value, s.value)
        s.tick = np.where(known, number, s.tick)
        s.ever |= now.valid
        self._signals.put(now.asset, s)

        beyond = now.valid & ((now.value < self._low_C) | (now.value > self._high_C))
        at_end = (now.value == self._low_C) | (now.value == self._high_C)
        frozen = now.valid & (s.rest > self._frozen_C)
        verdict = np.select(
            [
                ~now.valid & (now.quality == QUALITY_BAD),
                ~now.valid & s.ever,
                now.forced,
                beyond & ~frozen,
                frozen & (at_end | beyond),
                frozen,
                now.valid & (s.offset != 0),
                now.valid & (s.changes > 2 * NOISE_TICKS) & (s.noise < self._quiet_C),
                now.valid & s.spiking,
                now.valid & (now.quality == QUALITY_UNCERTAIN),
            ],
            _ORDER,
            Verdict.GOOD,
        ).astype(np.uint8)
        hidden = ~_SEEN[verdict] | (s.doubt > 0) | (s.rest > self._doubt_C)
        return verdict, hidden

    def _rest(self, s: _Signals, known: Bool, moved: Bool, step: I64) -> None:
        """A rest grows by what is known of it, while another channel moves."""
        others = self._alone | (moved.sum(axis=1, keepdims=True) > moved)
        grows = np.where(known & others, np.clip(step, 1, self._still_C), 0)
        s.rest = np.where(moved, 0, s.rest + grows)

    def _noise(self, s: _Signals, counts: Bool, change: F64) -> None:
        """The mean change from tick to tick, without jumps."""
        first = counts & (s.changes == 0)
        mean = s.noise + ALPHA * (change - s.noise)
        s.noise = np.where(first, change, np.where(counts, mean, s.noise))
        s.changes = s.changes + counts

    def _jump(
        self, s: _Signals, *, value: F64, delta: F64, known: Bool, sudden: Bool, number: I64
    ) -> None:
        """A jump is doubted at first; then it was a spike, an offset, or shared with others."""
        in_doubt, off = s.doubt > 0, s.offset != 0
        back = in_doubt & known & (np.abs(value - s.anchor) <= JUMP * self._jump_C)
        s.spikes = s.spikes + back
        stays = in_doubt & ~back & (s.doubt >= SPIKE_TICKS)
        stirred = number - s.stirred <= 2 * SPIKE_TICKS
        shared = stirred.sum(axis=1, keepdims=True) > stirred
        becomes = stays & known & ~shared

        begins = sudden & ~in_doubt & ~off
        s.doubt = np.where(begins, 1, np.where(in_doubt & ~back & ~stays, s.doubt + 1, 0))
        s.offset = np.where(becomes, value - s.anchor, s.offset)
        s.since = np.where(becomes, number, s.since)
        s.anchor = np.where(begins, s.value, s.anchor)

        again = off & sudden
        s.offset = np.where(again, s.offset + delta, s.offset)
        level = np.maximum(JUMP * self._jump_C, np.abs(delta) / 2)
        over = (again & (np.abs(s.offset) <= level)) | (
            off & (number - s.since > OFFSET_S * SECOND // self._tick)
        )
        s.offset = np.where(over, 0.0, s.offset)

    # ---- snapshot -------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """What the next verdicts depend on."""
        return {name: getattr(self._signals, name).copy() for name in _NAMES}

    def restore(
        self, tree: Mapping[str, Any], old: tuple[Index, Index], new: tuple[Index, Index]
    ) -> None:
        """Take back what ``snapshot`` gave: assets and channels ``old`` of it are ``new`` here."""
        for name in _NAMES:
            getattr(self._signals, name)[np.ix_(*new)] = tree[name][np.ix_(*old)]


_ORDER = (
    Verdict.BAD,
    Verdict.STALE,
    Verdict.FORCED,
    Verdict.OUT_OF_RANGE,
    Verdict.CLAMPED,
    Verdict.FROZEN,
    Verdict.OFFSET,
    Verdict.QUIET,
    Verdict.SPIKES,
    Verdict.UNCERTAIN,
)
_SEEN = np.array([verdict in SEEN for verdict in Verdict])

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
signal alone they cannot be told from the process. docs/decisions/0041-instrument-or-process.md.

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
from models.instruments import ALPHA, NEAR_TICKS, NOISE_TICKS, Health
from monitor.core.aggregate import NEVER, Bool, Index
from monitor.core.by_asset import ByAsset
from monitor.core.holding import Frames
from monitor.core.modes import scored
from monitor.core.plan import MILLISECOND, SECOND, ChannelSettings, KindSettings

# R frames, A assets, C channels

REST = 3.0  # times the longest rest in health, and REST_TICKS more: frozen
REST_TICKS = 10
DOUBT = 1.5  # times the longest rest in health, and DOUBT_TICKS more: hidden, nothing said yet
DOUBT_TICKS = 3
COLLAPSE = 0.8  # of the lowest noise in health; healthy units that nobody saw stay above 0.9
JUMP = 2.0  # times the largest change in health while no other channel stirs: sudden
NOISES = 5.0  # times the noise of late, too: a machine in trouble is not as quiet as it was
TRUST_TICKS = 60  # after a jump that others share no other is doubted: the machine is on the move
SPIKE_TICKS = 3  # a jump that is back within so many ticks was a spike
SPIKE_DECAY = 1 - 1 / 300  # a tick: a spike is half forgotten after 200
FORGOTTEN = 1e-2  # of a spike
STIR_TICKS = SPIKE_TICKS + NEAR_TICKS  # another channel that stirred so lately shares a jump
PROBATION_TICKS = 10  # a jump that stays is hidden for so long before the channel is called off
STRIKES = 2  # changes beyond all in health, of its own: an offset that moves so is the machine's
SPIKES, SPIKES_OVER = 2.5, 1.0  # so many of late: it spikes; fewer: it does so no more
OFFSET_S = 86_400  # after so long an offset is the new normal, and the model's to judge
FURTHEST = float(np.finfo(np.float64).max) / 4  # a change whose bend can be told
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
    UNIT = 11  # its source says that it means something else now, and nobody has looked


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
    Verdict.UNIT: Word.CHECK,
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
        Verdict.UNIT: f"is {shown} in another unit or range than before, its source says,",
    }[verdict]


@dataclass(frozen=True, slots=True)
class Judged:
    """What was found, row for row of the frames."""

    verdict: U8  # [R, C] Verdict
    hidden: Bool  # [R, C] by verdict or on suspicion: nothing the model may see
    faulty: Bool  # [R, C] by verdict, but for set by hand: what comes after it has come back


@dataclass(slots=True)
class _Signals:
    """What is remembered of each channel: arrays [A, C]."""

    value: F64  # last known; NaN before the first
    tick: I64  # number of the tick it was known in
    ever: Bool  # whether it was ever valid
    rest: F64  # ticks since it moved, as far as they count
    step: F64  # the change to it; NaN after a jump, or if it did not follow
    noise: F64  # mean bend: of how far two changes are apart
    bends: I64  # how many it is made of
    stirred: I64  # number of the tick of the last rare change
    doubt: I64  # ticks since a jump that may be a spike; 0: none
    anchor: F64  # value before the last jump that was doubted; NaN: it went back
    landed: F64  # where that jump went, if it was the machine's
    spikes: F64  # of late; 0: none
    spiking: Bool
    offset: F64  # how far off it jumped; 0: it did not
    since: I64  # number of the tick that it did
    strikes: I64  # changes beyond all in health since then, of its own
    trust: I64  # number of the tick until which no jump is doubted
    unit: Bool  # it changed, and nobody has looked


_NAMES = tuple(field.name for field in fields(_Signals))


@dataclass(frozen=True, slots=True)
class Bounds:
    """Beyond which something is said of one channel; infinite, or no noise, where nothing is."""

    low: float  # of its range
    high: float
    frozen: float  # ticks
    doubt: float  # ticks
    quiet: float  # mean bend, in its unit
    stir: float  # change in its unit that other channels may have to do with
    jump: float  # the largest change in health, in its unit
    still: float  # ticks: the most that one sample adds to a rest


def bounds_of(channel: ChannelSettings, health: Health | None, kind: KindSettings) -> Bounds:
    """From what the model has seen of its health, and what the settings say instead."""
    sensor, inf = channel.sensor, math.inf
    low, high = (-inf, inf) if sensor.range is None else sensor.range
    frozen = inf if isinstance(sensor.frozen_s, str) else sensor.frozen_s * 1000 / kind.tick_ms
    if health is None or not health.restless:
        return Bounds(low, high, frozen, doubt=inf, quiet=0.0, stir=inf, jump=inf, still=1.0)
    if sensor.frozen_s == "auto":
        frozen = REST * health.still + REST_TICKS
    return Bounds(
        low,
        high,
        frozen,
        doubt=inf if sensor.frozen_s == "off" else DOUBT * health.still + DOUBT_TICKS,
        quiet=COLLAPSE * health.quiet if sensor.noise else 0.0,
        stir=health.stir,
        jump=health.jump if sensor.jump else inf,
        still=health.still,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Moves:
    """How the channels moved since they were known last: [R, C]."""

    number: I64  # [R, 1] of the tick
    known: Bool  # said, or vouched for, in this tick, while the machine runs
    shown: F64
    before: F64  # the last that was known; NaN before the first
    tick: I64  # number of the tick of that
    change: F64  # how far apart the two are
    moved: Bool
    follows: Bool  # known in this tick and in the one before


@dataclass(frozen=True, slots=True)
class _Jumps:
    """What is thought of jumps: [R, C]."""

    doubted: Bool  # may be a spike
    off: Bool  # was none, and no other channel jumped
    spiking: Bool


@dataclass(frozen=True, slots=True)
class _Life:
    """What the life of one channel's jumps depends on, frame for frame."""

    row: list[int]
    number: list[int]  # of the tick
    known: list[bool]
    value: list[float]
    before: list[float]
    sudden: list[bool]  # further than twice the furthest in health
    beyond: list[bool]  # further than the furthest in health
    shared: list[bool]  # another channel stirred of late


class Sensors:
    """The instruments of all assets of one kind.

    ``health`` is what the kind's model has seen of each channel; of one that it has not, only what
    the source or a setting says is judged.
    """

    def __init__(self, kind: KindSettings, assets: int, health: Mapping[str, Health]) -> None:
        self._tick = kind.tick_ms * MILLISECOND
        shape = assets, len(kind.channels)
        self._signals = _Signals(
            value=np.full(shape, np.nan),
            tick=np.full(shape, NEVER),
            ever=np.zeros(shape, np.bool_),
            rest=np.zeros(shape),
            step=np.full(shape, np.nan),
            noise=np.zeros(shape),
            bends=np.zeros(shape, np.int64),
            stirred=np.full(shape, NEVER),
            doubt=np.zeros(shape, np.int64),
            anchor=np.full(shape, np.nan),
            landed=np.full(shape, np.nan),
            spikes=np.zeros(shape),
            spiking=np.zeros(shape, np.bool_),
            offset=np.zeros(shape),
            since=np.full(shape, NEVER),
            strikes=np.zeros(shape, np.int64),
            trust=np.full(shape, NEVER),
            unit=np.zeros(shape, np.bool_),
        )
        self._busy_AC = np.zeros(shape, np.bool_)  # whose jumps are of interest still
        bounds = [bounds_of(c, health.get(name), kind) for name, c in kind.channels.items()]
        columns = np.array([astuple(one) for one in bounds], np.float64).T
        (
            self._low_C,
            self._high_C,
            self._frozen_C,
            self._doubt_C,
            self._quiet_C,
            self._stir_C,
            self._jump_C,
            self._still_C,
        ) = columns
        self._resting_C = np.minimum(self._frozen_C, self._doubt_C)
        self._smooth_C = np.minimum(JUMP * self._jump_C, FURTHEST)
        self._ranged = bool(np.isfinite([self._low_C, self._high_C]).any())
        self._alone = len(kind.channels) == 1
        self._learnt = any(math.isfinite(one.frozen) or one.quiet for one in bounds)
        self._learnt |= any(math.isfinite(one.jump) for one in bounds)

    def unit_changed(self, which_AC: Bool) -> None:
        """The unit of these is not what it was."""
        self._signals.unit |= which_AC

    def unit_known(self, which_AC: Bool) -> None:
        """The unit of these is again what it was, or somebody has looked."""
        self._signals.unit &= ~which_AC

    def beside(self, frames: Frames) -> Bool:
        """Where a value is not in its unit, or not in its range [R, C]: it tells nothing."""
        beyond = (frames.value < self._low_C) | (frames.value > self._high_C)
        beside: Bool = self._signals.unit[frames.asset] | beyond
        return beside

    def judge(
        self, frames: Frames, running: NDArray[np.uint8], alone: Bool | None = None
    ) -> Judged:
        """The verdict on each channel of each frame; ``running`` [R] are the RunStates.

        ``alone`` [R, C]: what is known to have jumped by itself, from other evidence.
        """
        nothing = np.zeros(frames.value.shape, np.bool_)
        if not len(frames):
            return Judged(nothing.astype(np.uint8), nothing, nothing)
        s, by = self._signals, ByAsset(frames.asset)
        valid, value = frames.valid, frames.value
        (ever,) = by.latest(valid, (valid, s.ever))
        by.keep(s.ever, by.ends(ever))
        frozen, quiet, beyond, at_end, hidden = nothing, nothing, nothing, nothing, nothing
        jumps = _Jumps(nothing, nothing, nothing)
        if self._learnt:
            moves = self._moves(frames, scored(running), by)
            rest = self._rest(moves, by)
            noise, counted = self._noise(moves, rest, by)
            jumps = self._jumps(moves, noise, by)
            quiet = (counted > 2 * NOISE_TICKS) & (noise < self._quiet_C)
            hidden = jumps.doubted
            if bool((rest > self._resting_C).any()):
                frozen = rest > self._frozen_C
                hidden = hidden | (rest > self._doubt_C)
        if self._ranged:
            beyond = (value < self._low_C) | (value > self._high_C)
            at_end = (value <= self._low_C) | (value >= self._high_C)

        verdict = np.zeros(value.shape, np.uint8)
        for what, where in (  # the last that holds counts
            (Verdict.UNCERTAIN, valid & (frames.quality == QUALITY_UNCERTAIN)),
            (Verdict.SPIKES, valid & jumps.spiking),
            (Verdict.QUIET, valid & quiet),
            (Verdict.OFFSET, valid & (jumps.off if alone is None else jumps.off | alone)),
            (Verdict.FROZEN, valid & frozen),
            (Verdict.OUT_OF_RANGE, valid & beyond),
            (Verdict.CLAMPED, valid & frozen & at_end),
            (Verdict.UNIT, valid & by.held(s.unit)),
            (Verdict.FORCED, frames.forced),
            (Verdict.STALE, ~valid & ever),
            (Verdict.BAD, ~valid & (frames.quality == QUALITY_BAD)),
        ):
            verdict[where] = what
        if not bool(verdict.any()):
            return Judged(verdict, hidden, nothing)
        unseen = ~_SEEN[verdict]
        return Judged(verdict, hidden | unseen, unseen & ~frames.forced)

    def _moves(self, frames: Frames, runs: Bool, by: ByAsset) -> _Moves:
        """How each channel moved since it was known last."""
        s = self._signals
        number = (frames.tick // self._tick)[:, None]
        fresh_enough = frames.age <= KNOWN_TICKS * self._tick / SECOND
        known = frames.valid & ~frames.forced & fresh_enough & runs[:, None]
        numbers = np.broadcast_to(number, known.shape)
        before, tick = by.before(known, (frames.value, s.value), (numbers, s.tick))
        with np.errstate(over="ignore"):  # two huge values may be infinitely far apart
            change = np.abs(frames.value - before)
        moves = _Moves(
            number=number,
            known=known,
            shown=frames.value,
            before=before,
            tick=tick,
            change=change,
            moved=known & (change != 0),  # NaN, for the first one, is a move
            follows=known & (tick == number - 1) & ~frames.fresh[:, None],
        )
        now = by.ends(known)
        by.keep(s.value, np.where(now, by.ends(frames.value), by.ends(before)))
        by.keep(s.tick, np.where(now, by.ends(number), by.ends(tick)))
        return moves

    def _rest(self, moves: _Moves, by: ByAsset) -> F64:
        """Ticks without a move [R, C]: as far as known, and while another channel moves."""
        s, moved = self._signals, moves.moved
        counts = moves.known & ~moved
        if not self._alone and bool(counts.any()):
            counts &= moved.any(axis=1, keepdims=True)
        at = np.flatnonzero(counts)
        row, channel = divmod(at, moved.shape[1])
        grows = np.zeros(moved.shape)
        ticks = moves.number[row, 0] - moves.tick.ravel()[at]
        grows.ravel()[at] = np.clip(ticks, 1, self._still_C[channel])
        rest = by.since(moved, grows, s.rest)
        by.keep(s.rest, by.ends(rest))
        return rest

    def _noise(self, moves: _Moves, rest: F64, by: ByAsset) -> tuple[F64, I64]:
        """The mean bend [R, C], without jumps and long rests; of how many."""
        s = self._signals
        smooth = moves.follows & (moves.change <= self._smooth_C)
        step = np.where(smooth, moves.shown - moves.before, np.nan)
        bend = np.abs(step - by.previous(step, s.step))
        counts = ~np.isnan(bend) & (rest <= self._still_C)
        counted = by.since(np.zeros_like(counts), counts.astype(np.int64), s.bends)
        weight = np.where(counts, np.where(counted == 1, 1.0, ALPHA), 0.0)
        bend = np.where(counts, bend, 0.0)
        noise = np.empty_like(bend)
        mean = s.noise[by.row[by.first]]
        for which, now in by.ticks():  # of all assets side by side
            mean[which] += weight[now] * (bend[now] - mean[which])
            noise[now] = mean[which]
        by.keep(s.noise, mean)
        by.keep(s.step, by.ends(step))
        by.keep(s.bends, by.ends(counted))
        return noise, counted

    def _jumps(self, moves: _Moves, noise: F64, by: ByAsset) -> _Jumps:
        """What became of jumps: a loop over the channels that have one, of late or in doubt."""
        s, channels = self._signals, moves.known.shape[1]
        stirs = moves.follows & (moves.change > self._stir_C)
        sudden = beyond = moves.follows & (moves.change > self._jump_C)
        if bool(beyond.any()):
            sudden = beyond & (moves.change > np.fmax(JUMP * self._jump_C, NOISES * noise))
        busy_NC = np.logical_or.reduceat(sudden, by.first) | self._busy_AC[by.row[by.first]]
        jumps = _Jumps(*(np.zeros(moves.known.shape, np.bool_) for _ in range(3)))
        of_interest = busy_NC.any(axis=1)
        if bool(of_interest.any()):
            rows = np.flatnonzero(np.repeat(of_interest, by.lengths))
            theirs = ByAsset(by.row[rows])
            numbers = np.broadcast_to(moves.number[rows], (len(rows), channels))
            (stirred,) = theirs.latest(stirs[rows], (numbers, s.stirred))
            recent = moves.number[rows] - stirred <= STIR_TICKS
            shared = recent.sum(axis=1, keepdims=True) > recent
            for begin, end, busy_C in zip(
                theirs.first.tolist(),
                (theirs.last + 1).tolist(),
                busy_NC[of_interest],
                strict=True,
            ):
                here = rows[begin:end]
                for channel in np.flatnonzero(busy_C).tolist():
                    life = _Life(
                        row=here.tolist(),
                        number=moves.number[here, 0].tolist(),
                        known=moves.known[here, channel].tolist(),
                        value=moves.shown[here, channel].tolist(),
                        before=moves.before[here, channel].tolist(),
                        sudden=sudden[here, channel].tolist(),
                        beyond=beyond[here, channel].tolist(),
                        shared=shared[begin:end, channel].tolist(),
                    )
                    self._follow(int(theirs.row[begin]), channel, life, jumps)
        at, column = np.divmod(np.flatnonzero(stirs), channels)
        s.stirred[by.row[at], column] = moves.number[at, 0]  # in order: the last one stays
        return jumps

    def _follow(  # noqa: C901 - the whole of a jump's life in one place
        self, asset: int, channel: int, life: _Life, jumps: _Jumps
    ) -> None:
        """A jump is doubted at first; then it was a spike, an offset, or shared with others."""
        s, at = self._signals, (asset, channel)
        level = JUMP * float(self._jump_C[channel])
        doubt, anchor, spikes = int(s.doubt[at]), float(s.anchor[at]), float(s.spikes[at])
        spiking, offset, since = bool(s.spiking[at]), float(s.offset[at]), int(s.since[at])
        strikes, trust, landed = int(s.strikes[at]), int(s.trust[at]), float(s.landed[at])
        for i, row in enumerate(life.row):
            known, jumped, number = life.known[i], life.sudden[i], life.number[i]
            value, shared = life.value[i], life.shared[i]
            step = value - life.before[i]
            back = known and abs(value - anchor) <= level
            if doubt or offset:
                strikes += int(life.beyond[i] and not shared and not back)
            if doubt and back:
                spikes += doubt <= SPIKE_TICKS
                doubt, anchor = 0, math.nan
            elif doubt and (strikes or (shared and doubt >= SPIKE_TICKS)):
                doubt, landed, trust = 0, value, number + TRUST_TICKS
            elif doubt and doubt < PROBATION_TICKS:
                doubt += 1
            elif doubt:
                doubt, offset, since = 0, value - anchor if known else 0.0, number
            elif offset and jumped:
                offset = _left(offset + step, least=max(level, abs(step) / 2))
                anchor = anchor if offset else math.nan
            elif jumped and back and abs(life.before[i] - landed) <= level:
                anchor = math.nan  # the way back is as good as the way there
            elif jumped and number > trust:
                doubt, anchor, strikes = 1, life.before[i], 0
            if strikes >= STRIKES and offset:
                offset, landed, trust = 0.0, value, number + TRUST_TICKS
            elif number - since > OFFSET_S * SECOND // self._tick:
                offset = 0.0
            spikes = spikes * SPIKE_DECAY if spikes > FORGOTTEN else 0.0
            spiking = spikes > (SPIKES_OVER if spiking else SPIKES)
            jumps.doubted[row, channel] = doubt > 0
            jumps.off[row, channel] = offset != 0
            jumps.spiking[row, channel] = spiking
        s.doubt[at], s.anchor[at], s.spikes[at] = doubt, anchor, spikes
        s.spiking[at], s.offset[at], s.since[at] = spiking, offset, since
        s.strikes[at], s.trust[at], s.landed[at] = strikes, trust, landed
        self._busy_AC[at] = bool(doubt or offset or spikes)

    # ---- snapshot -------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """What the next verdicts depend on."""
        return {name: getattr(self._signals, name).copy() for name in _NAMES}

    def restore(
        self, tree: Mapping[str, Any], old: tuple[Index, Index], new: tuple[Index, Index]
    ) -> None:
        """Take back what ``snapshot`` gave: assets and channels ``old`` of it are ``new`` here."""
        for name in _NAMES:
            if name in tree:  # else an earlier version wrote it
                getattr(self._signals, name)[np.ix_(*new)] = tree[name][np.ix_(*old)]
        s = self._signals
        self._busy_AC = (s.doubt > 0) | (s.offset != 0) | (s.spikes > 0)


def _left(offset: float, *, least: float) -> float:
    """What is left of an offset; nothing where it is less than this."""
    return offset if abs(offset) > least else 0.0


_SEEN = np.array([verdict in SEEN for verdict in Verdict])

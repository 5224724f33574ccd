"""Samples to frames: all channels of an asset on a regular grid of ticks.

First stop of the step. Ticks lie on multiples of the kind's tick since 1970; the frame at T covers
(T - tick, T]. A frame closes when every source of its asset has passed T + lateness, or says
nothing for idle_s. Until then its samples wait here; what comes after is late. A channel without a
sample in a tick holds what was last known, and its age says for how long.
docs/decisions/0010-frames.md gives the reasons.

The result depends on the samples, not on how they were cut into batches, as long as none is late.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from connectors.batch import F64, I64, U8, U32, Flag
from monitor.core.aggregate import (
    FOREVER,
    NEVER,
    Bool,
    Groups,
    Index,
    changes,
    common,
    ends,
    ranges,
)
from monitor.core.holding import Frames, Held
from monitor.core.missing import SourceGap
from monitor.core.plan import MILLISECOND, SECOND, Asset, KindSettings
from monitor.core.records import Gap
from monitor.core.repeats import MOST_KNOWN, Repeats
from monitor.core.vouching import Feeds, Span, Vouched
from monitor.core.waiting import MOST_WAITING, Waiting, to_close

# A assets, S sources, G tags (or features of a tag's blocks) and C channels of one kind; R frames,
# n samples, m groups (one tag, one tick)


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """What became of a batch: which samples came too late, and how many were refused, by reason."""

    sound: Bool  # [n] not refused
    late: Bool  # [n]
    duplicate: int
    rejected: Mapping[str, int]


class FrameBuilder:
    """The open frames of all assets of one kind.

    ``stored`` and ``duplicate`` count, per source, the samples that stand in frames (closed or
    open) and the repeats found among them; late and refused ones are counted by the caller from
    ``push``. At most ``most_waiting`` samples wait for their frames: beyond that, the assets with
    the most of them close frames early, and ``outrun`` counts, per source, how often one of its
    assets did so. Of at most ``most_known`` samples in closed frames it is known that they came.
    """

    def __init__(
        self,
        kind: KindSettings,
        assets: Sequence[Asset],
        *,
        most_waiting: int = MOST_WAITING,
        most_known: int = MOST_KNOWN,
    ) -> None:
        self.kind = kind
        self.assets = tuple(asset.name for asset in assets)
        self.tags = tuple(slot.name for slot in kind.slots)
        self.sources = tuple(sorted({source for a in assets for _, source in a.tags.values()}))
        count_A, count_S, count_C = len(assets), len(self.sources), len(kind.channels)
        row_of = {name: row for row, name in enumerate(self.sources)}

        self._tick = kind.tick_ms * MILLISECOND
        self._lateness = kind.lateness_ms * MILLISECOND
        self._idle = round(kind.idle_s * SECOND)
        self._ahead = round(kind.max_ahead_s * SECOND)
        self._remember = round(kind.remember_s * SECOND)
        self._oldest = round(kind.oldest.timestamp()) * SECOND
        self._tag_of_C = [kind.slots.index(kind.slot_of(channel)) for channel in kind.channels]
        self._source_AG = np.array(
            [[row_of[asset.tags[slot.tag][1]] for slot in kind.slots] for asset in assets], np.intp
        ).reshape(count_A, len(self.tags))
        names_AG = np.array(self.sources, np.object_)[self._source_AG]
        numbers = [[asset.tags[slot.tag][0] for slot in kind.slots] for asset in assets]
        number_AG = np.array(numbers, np.intp).reshape(count_A, len(self.tags))
        # Any of the channels that a tag feeds: all of them hold samples of the same stamp.
        self._channel_of_G = [self._tag_of_C.index(tag) for tag in range(len(self.tags))]
        self._uses_SA = np.zeros((count_S, count_A), np.bool_)
        self._uses_SA[self._source_AG.T, np.arange(count_A)] = True

        self._watermark_SA = np.full((count_S, count_A), NEVER, np.int64)
        self._heard_SA = np.full((count_S, count_A), FOREVER, np.int64)
        self._ended_S = np.zeros(count_S, np.bool_)
        self._vouched = Vouched(Feeds(names_AG, number_AG, np.array(self._tag_of_C)), self._tick)
        self._most_waiting = most_waiting
        self._repeats = Repeats(self._floor, most=most_known)
        self._last_A = np.full(count_A, NEVER, np.int64)  # number of the last closed tick
        self._held = Held(kind, count_A, self._tag_of_C, len(self.tags))
        self._open = Waiting.none()
        self._nothing = Frames(
            asset=np.empty(0, np.intp),
            tick=np.empty(0, np.int64),
            value=np.empty((0, count_C)),
            age=np.empty((0, count_C), np.float32),
            valid=np.empty((0, count_C), np.bool_),
            forced=np.empty((0, count_C), np.bool_),
            quality=np.empty((0, count_C), np.uint8),
            fresh=np.empty(0, np.bool_),
        )
        self._stored_S = np.zeros(count_S, np.int64)
        self._duplicate_S = np.zeros(count_S, np.int64)
        self._outrun_S = np.zeros(count_S, np.int64)

    # ---- in -------------------------------------------------------------------------------------

    def push(
        self,
        source: str,
        slot: Index,
        time: I64,
        value: F64,
        status: U32,
        *,
        flags: U8,
        received: int,
        now: int,
    ) -> Intake:
        """Take samples of one source: slot [n] is asset row * G + tag, the rest as in Samples.

        ``received`` is wall time in ns: stamps more than max_ahead_s past it, or before ``oldest``,
        are refused before they can move anything: a source with a wrong clock counts as silent, or
        it would hold its assets back for ever. ``now`` is the time that silence is counted in, in
        ns since whenever.
        """
        s = self.sources.index(source)
        row = slot // len(self.tags)
        ahead = time > received + self._ahead
        ancient = time < self._oldest
        sound = ~(ahead | ancient)
        self._heard_SA[s, row[sound]] = now
        self._ended_S[s] &= not sound.any()
        behind = sound & (self._tick_of(time) <= self._last_A[row])
        live = sound & (flags & Flag.REPLAYED == 0)
        answers = behind.copy()
        answers[live] &= self._vouched.heard(slot[live], time[live])
        late = behind.copy()
        late[behind] = ~self._repeats.among(slot[behind], time[behind])
        keep = sound & ~behind
        if bool(behind.any()):
            held_AG = self._held.time[:, self._channel_of_G]
            self._repeats.note(slot[late], time[late])
            self._vouched.late(slot[late], time[late], held_AG)
            newest = answers & live & (time > held_AG.ravel()[slot])
            self._held.stand(slot[newest], time[newest], value[newest], status[newest])
        if bool(keep.any()):
            batch = Waiting(slot, np.full(len(slot), s), time, value, status).take(keep)
            self._open = Waiting.join([self._open, batch])
            np.maximum.at(self._watermark_SA[s], row[keep], batch.time - 1)  # its instant may go on
        rejected = {"ahead": int(ahead.sum()), "ancient": int(ancient.sum())}
        return Intake(
            sound=sound,
            late=late,
            duplicate=int((behind & ~late).sum()),
            rejected={reason: count for reason, count in rejected.items() if count},
        )

    def alive(
        self,
        source: str,
        since: int,
        until: int,
        *,
        tags: tuple[int, ...] = (),
        received: int,
        now: int,
    ) -> None:
        """The source vouches for (since, until]: what did not change then stayed as it was.

        ``tags``: of these alone. As for samples, nothing is believed of what lies more than
        max_ahead_s past ``received``.
        """
        until = min(until, received + self._ahead)
        if source not in self.sources or since > until:
            return
        s = self.sources.index(source)
        self._heard_SA[s] = now
        self._ended_S[s] = False
        if not tags:
            self._watermark_SA[s] = np.maximum(self._watermark_SA[s], until)
        self._vouched.add(Span(source, tags, since, until))

    def missing(self, gap: SourceGap, *, received: int) -> None:
        """The source said what is missing, or was read from history; it vouches beside it."""
        if gap.source in self.sources:
            self._vouched.gap(replace(gap, until=min(gap.until, received + self._ahead)))

    def ended(self, source: str) -> None:
        """Nothing more will come from this source: it holds no frame back."""
        if source in self.sources:
            self._ended_S[self.sources.index(source)] = True

    def listen(self, now: int) -> None:
        """Silence counts from here: whoever spoke before could not be heard."""
        self._heard_SA[:] = now

    def await_new(self, now: int) -> None:
        """Silence of whoever was never heard counts from here; that of the others goes on."""
        np.minimum(self._heard_SA, now, out=self._heard_SA)

    # ---- out ------------------------------------------------------------------------------------

    def close(self, now: int) -> tuple[Frames, list[Gap]]:
        """Every frame that is complete by now, and the gaps found between them."""
        last_A = self._last_A.copy()
        limit_A = self._limits(now)
        open_tick = self._tick_of(self._open.time)
        open_row = self._open.slot // len(self.tags)
        limit_A = self._hurried(limit_A, open_row, open_tick)
        ripe = open_tick <= limit_A[open_row]
        next_A = np.full(len(self.assets), FOREVER, np.int64)
        np.minimum.at(next_A, open_row[~ripe], open_tick[~ripe])

        groups = self._group(self._open.take(ripe))
        row, tick, fresh = self._grid(groups, limit_A, next_A)
        if not len(row):
            if bool((last_A == NEVER).all()):  # else the next frame does it
                self._forget(limit_A)
            return self._nothing, []
        frames = self._held.fill(groups, row, tick, fresh, vouched=self._vouched)

        self._open = self._open.take(~ripe)
        last = ends(row)
        self._last_A[row[last]] = tick[last]
        self._forget(limit_A)
        before = np.append([NEVER], tick)[:-1]
        starts = changes(row)
        before[starts] = last_A[row[starts]]
        gaps = [
            Gap(
                asset=self.assets[row[i]],
                since=int(before[i]) * self._tick,
                until=int(tick[i]) * self._tick,
            )
            for i in np.flatnonzero(fresh & (before != NEVER))
        ]
        return frames, gaps

    @property
    def stored(self) -> Mapping[str, int]:
        """Samples per source that stand in frames, closed or still open."""
        open_S = np.bincount(self._open.source, minlength=len(self.sources))
        return dict(zip(self.sources, (self._stored_S + open_S).tolist(), strict=True))

    @property
    def duplicate(self) -> Mapping[str, int]:
        """Repeats per source found when their frame closed."""
        return dict(zip(self.sources, self._duplicate_S.tolist(), strict=True))

    @property
    def outrun(self) -> Mapping[str, int]:
        """How often frames closed without waiting for a source, because too many samples waited."""
        return dict(zip(self.sources, self._outrun_S.tolist(), strict=True))

    @property
    def forgotten(self) -> int:
        """Samples of which it was forgotten before remember_s that they came: a repeat is late."""
        return self._repeats.forgotten

    @property
    def forced(self) -> list[tuple[str, str]]:
        """The channels that hold a value that was set by hand: asset and channel."""
        names = list(self.kind.channels)
        return [
            (self.assets[row], names[column])
            for row, column in np.argwhere(self._held.forced & self._held.ok).tolist()
        ]

    # ---- how ------------------------------------------------------------------------------------

    def _tick_of(self, time: I64) -> I64:
        """The number of the tick whose frame covers each time: rounded up."""
        ticks: I64 = -(-time // self._tick)
        return ticks

    def _floor(self, slot: Index) -> I64:
        """Of which time on repeats are told from late samples, in ns [n]."""
        floor: I64 = self._last_A[slot // len(self.tags)] * self._tick - self._remember
        return floor

    def _forget(self, limit_A: I64) -> None:
        """Let go of what was vouched for, as far as no frame will ask for it."""
        begun_A = self._last_A != NEVER  # an asset that has not will begin after its limit
        self._vouched.forget(
            np.where(begun_A, self._last_A, limit_A) * self._tick,
            self._held.time[:, self._channel_of_G],
            self._held.ok[:, self._channel_of_G],
        )

    def _hurried(self, limit_A: I64, row: Index, tick: I64) -> I64:
        """The limits, further on where too many samples wait; what comes for those is late."""
        early_A = to_close(row, tick, len(self.assets), most=self._most_waiting)
        hurried_A = early_A > limit_A
        if bool(hurried_A.any()):
            behind_SA = self._watermark_SA - self._lateness < early_A * self._tick
            self._outrun_S += (behind_SA & self._uses_SA & hurried_A).sum(axis=1)
        return np.maximum(limit_A, early_A)

    def _limits(self, now: int) -> I64:
        """The number of the last tick of each asset that no source holds back."""
        silent = now - self._heard_SA > self._idle
        passed = np.where(
            self._uses_SA & ~self._ended_S[:, None] & ~silent, self._watermark_SA, np.int64(FOREVER)
        )
        limit: I64 = (passed.min(axis=0, initial=FOREVER) - self._lateness) // self._tick
        return limit

    def _group(self, ripe: Waiting) -> Groups:
        """Sort by tag and time, drop repeats (the first journaled counts), and mark the ticks."""
        order = np.lexsort(
            (ripe.time, ripe.slot)
        )  # stable: equal tag and time stay in journal order
        ripe = ripe.take(order)
        repeat = np.zeros(len(ripe.slot), np.bool_)
        repeat[1:] = (ripe.slot[1:] == ripe.slot[:-1]) & (ripe.time[1:] == ripe.time[:-1])
        sources = len(self.sources)
        if bool(repeat.any()):
            self._duplicate_S += np.bincount(ripe.source[repeat], minlength=sources)
            ripe = ripe.take(~repeat)
        self._stored_S += np.bincount(ripe.source, minlength=sources)
        self._repeats.note(ripe.slot, ripe.time)
        return Groups(
            slot=ripe.slot,
            tick=self._tick_of(ripe.time),
            time=ripe.time,
            value=ripe.value,
            status=ripe.status,
            tags=len(self.tags),
        )

    def _grid(self, groups: Groups, limit_A: I64, next_A: I64) -> tuple[Index, I64, Bool]:
        """Which frames to close: row [R], tick number [R], fresh [R], in order of row and tick.

        Every tick with evidence (a sample, or a source that vouches for it) makes a frame; ticks
        between two pieces of evidence are filled, unless they are more than gap_ticks apart. Ticks
        after the last evidence are filled once the next is known to be near enough: whether it is a
        gap cannot change any more.
        """
        row, tick = self._evidence(groups, limit_A, next_A)
        first = changes(row)
        before = np.append([NEVER], tick)[:-1]
        before[first] = self._last_A[row[first]]
        fresh = tick - before > self.kind.gap_ticks
        start = np.where(fresh, tick, before + 1)

        newest_A = self._last_A.copy()
        newest_A[row] = tick  # in order: the last one stays
        tail = np.flatnonzero(
            (newest_A != NEVER) & (next_A - newest_A <= self.kind.gap_ticks) & (limit_A > newest_A)
        )
        row = np.concatenate([row, tail])
        start = np.concatenate([start, newest_A[tail] + 1])
        end = np.concatenate([tick, limit_A[tail]])
        fresh = np.concatenate([fresh, np.zeros(len(tail), np.bool_)])

        order = np.lexsort((start, row))
        row, start, end, fresh = row[order], start[order], end[order], fresh[order]
        length = end - start + 1
        is_fresh = np.zeros(int(length.sum()), np.bool_)
        is_fresh[(np.cumsum(length) - length)[fresh]] = True
        return np.repeat(row, length), ranges(start, length), is_fresh

    def _evidence(self, groups: Groups, limit_A: I64, next_A: I64) -> tuple[Index, I64]:
        """Ticks up to the limits with a sample or a vouching source, sorted, each once.

        What is vouched for beyond a limit brings ``next_A`` nearer.
        """
        first_A = np.where(self._last_A == NEVER, FOREVER, self._last_A + 1)
        np.minimum.at(first_A, groups.row, groups.tick)
        row, tick, beyond_A = self._vouched.ticks(first_A, limit_A)
        np.minimum(next_A, beyond_A, out=next_A)
        row, tick = np.concatenate([groups.row, row]), np.concatenate([groups.tick, tick])
        order = np.lexsort((tick, row))
        row, tick = row[order], tick[order]
        new = changes(row) | changes(tick)
        return row[new], tick[new]

    # ---- snapshot -------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """Everything that the next frames depend on, as arrays and JSON values."""
        return {
            "assets": list(self.assets),
            "tags": list(self.tags),
            "sources": list(self.sources),
            "channels": list(self.kind.channels),
            "tick": self._tick,
            "watermark": self._watermark_SA.copy(),
            "heard": self._heard_SA.copy(),
            "ended": self._ended_S.copy(),
            "alive": self._vouched.snapshot(),
            "last": self._last_A.copy(),
            "held": self._held.snapshot(),
            "open": {
                "slot": self._open.slot.copy(),
                "source": self._open.source.copy(),
                "time": self._open.time.copy(),
                "value": self._open.value.copy(),
                "status": self._open.status.copy(),
            },
            "closed": self._repeats.snapshot(),
            "stored": self._stored_S.copy(),
            "duplicate": self._duplicate_S.copy(),
            "outrun": self._outrun_S.copy(),
        }

    def restore(self, tree: Mapping[str, Any]) -> None:
        """Take back what ``snapshot`` gave; what the plan no longer names is left behind."""
        tags, sources = len(self.tags), len(self.sources)
        old_A, new_A = common(tree["assets"], self.assets)
        old_S, new_S = common(tree["sources"], self.sources)
        old_C, new_C = common(tree["channels"], list(self.kind.channels))
        for mine, name in ((self._watermark_SA, "watermark"), (self._heard_SA, "heard")):
            mine[np.ix_(new_S, new_A)] = tree[name][np.ix_(old_S, old_A)]
        for mine_S, name in (
            (self._ended_S, "ended"),
            (self._stored_S, "stored"),
            (self._duplicate_S, "duplicate"),
            (self._outrun_S, "outrun"),
        ):
            if name in tree:  # else an earlier version wrote it
                mine_S[new_S] = tree[name][old_S]
        self._held.restore(tree["held"], (old_A, old_C), (new_A, new_C))
        last = tree["last"][old_A]
        self._last_A[new_A] = np.where(last == NEVER, NEVER, last * tree["tick"] // self._tick)

        source_of = np.full(len(tree["sources"]), sources)
        source_of[old_S] = new_S
        slot_of_AG = np.full((len(tree["assets"]), len(tree["tags"])), -1)
        old_G, new_G = common(tree["tags"], self.tags)
        self._vouched.restore(tree["alive"], tree["sources"], (old_A, old_G), (new_A, new_G))
        slot_of_AG[np.ix_(old_A, old_G)] = new_A[:, None] * tags + new_G
        slot_of = slot_of_AG.ravel()
        opened = Waiting(**tree["open"])
        opened.slot, opened.source = slot_of[opened.slot], source_of[opened.source]
        self._open = opened.take((opened.slot >= 0) & (opened.source < sources))
        self._repeats.restore(tree["closed"], slot_of)

"""Messages of a server to batches: what is said of them, their samples, and what is vouched for.

Beside the listening, which brings the messages and decides when the batches are handed on.
"""

import logging
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from asyncua import ua

from connectors.batch import BAD, Flag, Notice, NoticeKind
from connectors.contract import Batch
from connectors.opcua.progress import Message
from connectors.opcua.settings import Settings
from connectors.opcua.subscription import Subscription
from connectors.opcua.units import Meanings
from connectors.opcua.values import (
    BAD_NODE_ID_INVALID,
    BAD_NODE_ID_UNKNOWN,
    SEMANTICS_CHANGED,
    STRANGER,
    Wave,
    is_da_quality,
    nanoseconds,
)
from connectors.stamps import OLDEST_NS

logger = logging.getLogger(__name__)

NODE_FAULTS = (BAD_NODE_ID_UNKNOWN, BAD_NODE_ID_INVALID)
CODE = 0xFFFF_0000  # of a status: what is wrong, without flags and info bits
LAST_SEQUENCE = 2**32 - 1  # then comes 1: Part 4, 7.5


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer to a publish request, or a message published once more."""

    subscription: Subscription
    content: ua.NotificationMessage
    more: bool  # others are waiting: it vouches for nothing yet


@dataclass(frozen=True, slots=True)
class Made:
    """What was made of a wave."""

    said: list[Notice]  # what was missed or changed before the samples
    live: list[Batch]  # samples, and until when everything is known, last
    acknowledged: list[Message]
    doom: str  # why nothing will come after it; empty: nothing ended


class Waves:
    """What has come so far of the subscriptions of one opening."""

    def __init__(
        self,
        source: str,
        settings: Settings,
        subscriptions: Sequence[Subscription],
        meanings: Meanings,
        totals: Counter[str],
    ) -> None:
        """``subscriptions`` may change while it runs; ``totals`` are counted on."""
        self.until = 0  # ns, the server's clock: everything up to here has come
        self.vouches = settings.silence == "steady"
        self.last_publish = 0  # ns, the server's clock
        self._source, self._settings, self._totals = source, settings, totals
        self._subscriptions, self._meanings = subscriptions, meanings
        self._missing_until = 0  # ns, the server's clock: nothing is vouched for before
        self._away: dict[int, int] = {}  # tags that were out of reach, until when
        self._last: dict[int, int] = {}  # the time of the last sample of each tag, ns

    @property
    def known(self) -> int:
        """``until``, by the server's clock as it goes now: it may have been set back."""
        vouched = [one.vouched for one in self._subscriptions]
        return min((self.until if one is None else one for one in vouched), default=self.until)

    def gaps(
        self,
        whose: Sequence[Subscription],
        since: int,
        until: int,
        *,
        reason: str = "no subscription of ours was there",
    ) -> list[Notice]:
        """What these had to say from ``since`` to ``until`` has not come, or not for certain."""
        if not whose:
            return []
        self._totals["gaps_total"] += 1
        self._missing_until = max(self._missing_until, until)
        everything = len(whose) == len(self._subscriptions)
        return [
            Notice(
                source=self._source,
                kind=NoticeKind.GAP,
                since=min(since, until),
                until=until,
                tags=() if everything else tuple(sorted(tag for one in whose for tag in one.tags)),
                reason=reason,
            )
        ]

    def out_of_reach(self, now: int) -> None:
        """The nodes that are bad cannot be had before ``now``, in ns of the server's clock."""
        for one in self._subscriptions if self.vouches else ():
            self._away |= dict.fromkeys(one.bad, now)

    def moved(self, tags: Sequence[int], now: int) -> list[Notice]:
        """These become other nodes: what is held of them is known no longer, until they speak."""
        if not tags or not self.vouches:
            return []
        self._away |= dict.fromkeys(tags, now)
        since, whose, reason = min(self.known, now), tuple(sorted(tags)), "another node is watched"
        return [
            Notice(
                source=self._source,
                kind=NoticeKind.GAP,
                since=since,
                until=now,
                tags=whose,
                reason=reason,
            )
        ]

    def semantics(self, answers: Iterable[Answer]) -> dict[Subscription, set[int]]:
        """The tags of which the server says that their meaning changed."""
        found: dict[Subscription, set[int]] = {}
        for answer in answers:
            for part in answer.content.NotificationData or ():
                if not isinstance(part, ua.DataChangeNotification):
                    continue
                for item in part.MonitoredItems or ():
                    status = item.Value.StatusCode
                    if status is not None and status.value & SEMANTICS_CHANGED:
                        one = answer.subscription
                        tag = one.handles.get(item.ClientHandle)
                        if tag is not None:
                            found.setdefault(one, set()).add(tag)
        return found

    def same_meaning(self, tags: Iterable[int]) -> list[Notice]:
        """The server says that the meaning of these changed, and its properties are the same."""
        whose = tuple(sorted(tags))
        if not whose:
            return []
        reason = "the server says so; its unit and range are the same"
        return [
            Notice(source=self._source, kind=NoticeKind.UNIT_CHANGED, tags=whose, reason=reason)
        ]

    def made(self, answers: Iterable[Answer], wave: Wave, said: list[Notice]) -> Made:
        """The answers as batches; ``said`` comes first."""
        acknowledged, doom = [], ""
        for answer in answers:
            one, content = answer.subscription, answer.content
            published = nanoseconds(content.PublishTime) or 0
            if published < OLDEST_NS:  # a clock that lost its time
                published = time.time_ns()
            if one.overran:
                said += self._ran_over(one, published)
            if content.NotificationData:
                said += self._left_out(one, int(content.SequenceNumber), published)
                acknowledged.append((one.id, one.sequence))
            for part in content.NotificationData or ():
                if isinstance(part, ua.DataChangeNotification):
                    handles = one.handles
                    wave.take(
                        (
                            (handles.get(item.ClientHandle, STRANGER), item.Value)
                            for item in part.MonitoredItems or ()
                        ),
                        published=published,
                        ahead_s=self._settings.clock_ahead_s,
                        after=self._away,
                    )
                elif isinstance(part, ua.StatusChangeNotification) and not part.Status.is_good():
                    # A good one says "transferred", to whoever took it over, too.
                    doom = f"the server ended a subscription: {part.Status.name}"
            if not answer.more:
                one.vouch(published)
            self.last_publish = max(self.last_publish, published)
        self._look_at(wave)
        said += wave.rejections(self._source)
        said += wave.overflows(self._source, self._last, self.until)
        self._last.update(zip(wave.tag, wave.time, strict=True))
        self._count(said)
        return Made(said, self._live(wave), acknowledged, doom)

    def _live(self, wave: Wave) -> list[Batch]:
        """The samples, and what is vouched for now."""
        since = self.until
        self.until = max(since, self.known)
        live: list[Batch] = []
        if wave.tag:
            live.append(wave.samples(self._source, meant=self._meanings.meant))
        since = max(since, self._missing_until)
        if self.until > since and self.vouches:
            live.append(
                Notice(source=self._source, kind=NoticeKind.ALIVE, since=since, until=self.until)
            )
        return live

    def _ran_over(self, one: Subscription, published: int) -> list[Notice]:
        """What the queues could not hold while nobody asked: some servers drop it in silence."""
        since = self.until if one.vouched is None else one.vouched
        kept = one.holds_s * 1e9 if self._settings.queue_keeps == "newest" else 0.0
        until = published - round(kept)
        if until <= since:
            return []  # sent while there were still requests of ours
        one.overran = False
        reason = f"nobody asked for longer than the {one.holds_s:g} s that the server's queues hold"
        return self.gaps([one], since, until, reason=reason)

    def _left_out(self, one: Subscription, sequence: int, published: int) -> list[Notice]:
        """Count on; a number that was left out is a message that we shall never see."""
        left_out = (sequence - one.sequence - 1) % LAST_SEQUENCE
        one.sequence = sequence
        if not left_out:
            return []
        return self.gaps([one], self.until if one.vouched is None else one.vouched, published)

    def _look_at(self, wave: Wave) -> None:
        """Notice what is odd: nodes that went or came, qualities of OPC DA, untrue stamps."""
        status = np.array(wave.status, np.uint32)
        if bool(is_da_quality(status).any()):
            if not self._totals["da_quality_total"]:
                logger.warning(
                    "Source %s: the server sends qualities of OPC DA as status codes; they are "
                    "read as such, but its 0 (bad) cannot be told from good.",
                    self._source,
                )
            self._totals["da_quality_total"] += int(is_da_quality(status).sum())
        restamped = np.flatnonzero(np.array(wave.flags, np.uint8) & Flag.RESTAMPED)
        if len(restamped):
            if not self._totals["restamped_total"]:
                logger.warning(
                    "Source %s: stamps that cannot be true, first of tag %d: the server's time "
                    "stands for them. Look at the clocks of the devices behind it.",
                    *(self._source, wave.tag[restamped[0]]),
                )
            self._totals["restamped_total"] += len(restamped)
        faulty = np.isin(status & CODE, NODE_FAULTS)
        if not bool(faulty.any()) and not any(one.bad for one in self._subscriptions):
            return
        last = {
            tag: (at, code) for tag, at, code in zip(wave.tag, wave.time, wave.status, strict=True)
        }
        for one in self._subscriptions:
            mine = {tag: seen for tag, seen in last.items() if tag in one.tags}
            bad = {tag: code for tag, (_, code) in mine.items() if code & CODE in NODE_FAULTS}
            if self.vouches:
                self._away |= {tag: mine[tag][0] for tag in bad}
            good = [tag for tag, (_, code) in mine.items() if code < BAD]
            one.note_bad(bad, good=good)

    def _count(self, said: Iterable[Notice]) -> None:
        for notice in said:
            if notice.kind is NoticeKind.REJECTED:
                self._totals["rejected_total"] += notice.count
            elif notice.kind is NoticeKind.OVERFLOW:
                self._totals["overflow_total"] += len(notice.tags)
            elif notice.kind in (NoticeKind.UNIT_CHANGED, NoticeKind.UNIT_RESTORED):
                self._totals["unit_changed_total"] += len(notice.tags)

"""From an open link to batches: publish requests out, messages in, in waves.

A wave is everything that has come by the time somebody asks: one batch of samples, whatever the
number of messages. Only so many requests are on their way, and none is sent while nobody asks: the
server's queues hold the rest.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from asyncua import ua

from connectors.batch import BAD, Notice, NoticeKind
from connectors.contract import Batch, LostError
from connectors.opcua.link import FAILURES, Facts, Link, readable
from connectors.opcua.progress import Kept, Position, Unacknowledged
from connectors.opcua.settings import Settings
from connectors.opcua.subscription import Subscription
from connectors.opcua.values import (
    BAD_NODE_ID_INVALID,
    BAD_NODE_ID_UNKNOWN,
    Wave,
    is_da_quality,
    nanoseconds,
)

logger = logging.getLogger(__name__)

NODE_FAULTS = (BAD_NODE_ID_UNKNOWN, BAD_NODE_ID_INVALID)
CODE = 0xFFFF_0000  # of a status: what is wrong, without flags and info bits
LAST_SEQUENCE = 2**32 - 1  # then comes 1: Part 4, 7.5
MOST_BAD_KEPT = 100  # a subscription with more bad nodes is made anew: positions stay small


@dataclass(frozen=True, slots=True)
class _Message:
    """One answer to a publish request, or a message published once more."""

    subscription: Subscription
    content: ua.NotificationMessage
    more: bool  # others are waiting: it vouches for nothing yet


class Listening:
    """What is listened to between one opening and the closing that follows."""

    def __init__(
        self,
        source: str,
        settings: Settings,
        link: Link,
        subscriptions: Sequence[Subscription],
        totals: Counter[str],
    ) -> None:
        """``totals`` are counted on from one opening to the next."""
        self.subscriptions = subscriptions
        self.unacknowledged = Unacknowledged()
        self.last_publish = 0  # ns, the server's clock
        self._source, self._settings, self._link, self._totals = source, settings, link, totals
        self._requests: list[asyncio.Task[ua.PublishResponse]] = []
        # Part 4, 5.14.1: a request for each, and one more; nobody answers without a subscription
        self._depth = len(subscriptions) + 1 if subscriptions else 0
        self._vouches = settings.silence == "steady"
        self._away: dict[int, int] = {}  # tags that were out of reach, until when
        self._until = 0  # ns, the server's clock: everything up to here has come
        self._started = 0
        self._first: list[Batch] = []
        self._unheard: set[Subscription] = set()  # taken over, and silent since
        self._doom = ""  # why the next wave will not come
        self._asked = self._retried = asyncio.get_running_loop().time()

    # ---- opening --------------------------------------------------------------------------------

    async def start(self, resume: Position | None, *, take_over: bool) -> None:
        """Take over what the server still has, make the rest, and say what was missed meanwhile."""
        facts = await self._link.facts()
        self._started = facts.started
        taken = await self._take_over(resume, facts) if take_over else {}
        self._unheard = set(taken)
        fresh = [one for one in self.subscriptions if one not in taken]
        for one in fresh:
            await one.create(self._link, facts)
        now = (await self._link.facts()).now if fresh else facts.now
        wave, said = Wave(), []
        if resume is None or not taken:
            self._until = now
        else:
            self._until = resume.until
        if resume is not None:
            said += self._gaps(fresh, resume.until, now)
        messages = []
        for one, held in taken.items():
            one.vouched = self._until
            contents = [await self._link.republish(one.id, n) for n in held]
            messages += [_Message(one, message, more=True) for message in contents if message]
            if None in contents:
                said += self._gaps([one], self._until, now)
        for one in self.subscriptions if self._vouches else ():
            self._away |= dict.fromkeys(one.bad, now)
            if one in fresh:
                for tag, status in one.bad.items():
                    wave.add(tag, now, np.nan, status)
        self._first = self._batches(messages, wave, said)

    async def _take_over(
        self, resume: Position | None, facts: Facts
    ) -> dict[Subscription, list[int]]:
        """What the server still has of ours, and the messages it holds that we have not stored."""
        if resume is None or not facts.started or facts.started != resume.started:
            return {}
        kept = {one.key: one for one in resume.kept}
        wanted = [(one, kept[one.key]) for one in self.subscriptions if one.key in kept]
        if not wanted:
            return {}
        try:
            held = await self._link.transfer([one.id for _, one in wanted])
        except ua.UaError as error:
            logger.info("Source %s: the server hands over no subscription: %s", self._source, error)
            return {}
        taken = {}
        for (one, before), available in zip(wanted, held, strict=True):
            if available is None:
                continue
            await one.take_over(self._link, before)
            ahead = {n: (n - before.sequence) % LAST_SEQUENCE for n in available}
            stored = [n for n, distance in ahead.items() if distance == 0 or distance >= 1 << 31]
            self.unacknowledged.stored((one.id, n) for n in stored)
            taken[one] = sorted(available - set(stored), key=ahead.__getitem__)
        return taken

    def _gaps(self, whose: Sequence[Subscription], since: int, until: int) -> list[Notice]:
        """Nobody listened to these from ``since`` to ``until``.

        This is where history can be asked for what was missed, once it can be.
        """
        if not whose:
            return []
        self._totals["gaps_total"] += 1
        everything = len(whose) == len(self.subscriptions)
        tags = () if everything else tuple(sorted(tag for one in whose for tag in one.tags))
        return [
            Notice(
                source=self._source,
                kind=NoticeKind.GAP,
                since=min(since, until),
                until=until,
                tags=tags,
                reason="no subscription of ours was there",
            )
        ]

    @property
    def ended(self) -> bool:
        """Whether the link is known to be gone."""
        return bool(self._doom) or self._link.lost.done()

    @property
    def in_vain(self) -> bool:
        """Whether the link ended before a subscription that was taken over said anything.

        Some servers (asyncua's) hand over what they then can no longer send.
        """
        return bool(self._doom) and bool(self._unheard)

    # ---- listening ------------------------------------------------------------------------------

    async def batches(self) -> AsyncIterator[Batch]:
        """Wave after wave. Raises LostError."""
        first, self._first = self._first, []
        for batch in first:
            yield batch
        while True:
            for batch in await self._next():
                yield batch

    async def _next(self) -> list[Batch]:
        """The next wave, or nothing where there was none; sees to nodes that are to be retried."""
        clock = asyncio.get_running_loop().time
        self._check()
        for one in self.subscriptions:  # while nobody asked, nobody could hear it
            one.heard += clock() - self._asked
        self._ask()
        retry_at = self._retried + self._settings.retry_s
        due = [one.heard + one.patience_s for one in self.subscriptions]
        if not due or any(one.bad for one in self.subscriptions):
            due.append(retry_at)
        signs: list[asyncio.Future[Any]] = [*self._requests, self._link.lost]
        await asyncio.wait(
            signs,
            timeout=max(min(due) - clock(), 0),
            return_when=asyncio.FIRST_COMPLETED,
        )
        self._asked = clock()
        answered = [one for one in self._requests if one.done()]
        self._requests = [one for one in self._requests if one not in answered]
        wave = self._batches(self._messages(answered), Wave(), [])
        if not answered:
            self._look_for_silence()
        if clock() >= retry_at:
            await self._retry()
        return wave

    def _ask(self) -> None:
        """Send as many requests as there should be on their way."""
        while len(self._requests) < self._depth:
            self._requests.append(self._link.publish(self.unacknowledged.ripe()))

    def _messages(self, answered: Iterable[asyncio.Task[ua.PublishResponse]]) -> list[_Message]:
        """What was answered; an answer that is an error is what nothing comes after."""
        messages = []
        known = {one.id: one for one in self.subscriptions}
        for request in answered:
            try:
                with readable():
                    answer = request.result()
                    answer.ResponseHeader.ServiceResult.check()
            except ua.uaerrors.BadTimeout:
                continue  # of this request alone: another is sent
            except ua.uaerrors.BadTooManyPublishRequests as error:
                self._depth -= 1
                self._doom = "" if self._depth else str(error)
            except FAILURES as error:
                self._doom = self._doom or str(error) or type(error).__name__
            else:
                result = answer.Parameters
                subscription = known.get(int(result.SubscriptionId))
                if subscription is not None:
                    self._unheard.discard(subscription)
                    content = result.NotificationMessage
                    messages.append(_Message(subscription, content, more=result.MoreNotifications))
        return messages

    def _look_for_silence(self) -> None:
        """Nothing came: is the link gone, or a subscription silent beyond its time?"""
        if self._link.lost.done():
            self._doom = self._doom or str(self._link.lost.result()) or "it answers no more"
        now = asyncio.get_running_loop().time()
        for one in self.subscriptions:
            if not self._doom and now >= one.heard + one.patience_s:
                self._doom = (
                    f"no sign of life for {one.patience_s:g} s, where one was due every "
                    f"{one.publishing_ms * one.keepalive_count / 1000:g} s"
                )

    def _check(self) -> None:
        """Raise LostError where no more will come."""
        if self._doom:
            raise LostError(
                f"source {self._source}: lost {self._settings.url}: {self._doom}",
                connector=self._source,
            )

    async def _retry(self) -> None:
        """Try the nodes that were bad, by the namespaces of now."""
        self._retried = asyncio.get_running_loop().time()
        try:
            with readable():
                facts = await self._link.facts()
                for one in self.subscriptions:
                    if one.bad:
                        one.note_bad({}, good=await one.retry(self._link, facts))
        except FAILURES as error:
            self._doom = self._doom or str(error) or type(error).__name__

    # ---- waves ----------------------------------------------------------------------------------

    def _batches(self, messages: list[_Message], wave: Wave, said: list[Notice]) -> list[Batch]:
        """The messages as batches: notices, samples, and until when everything is known, last."""
        acknowledged = []
        for message in messages:
            one, content = message.subscription, message.content
            published = nanoseconds(content.PublishTime) or time.time_ns()
            if content.NotificationData:
                said += self._missing(one, int(content.SequenceNumber), published)
                acknowledged.append((one.id, one.sequence))
            for part in content.NotificationData or ():
                if isinstance(part, ua.DataChangeNotification):
                    items = part.MonitoredItems or ()
                    wave.take(items, published=published, known=one.tags, after=self._away)
                elif isinstance(part, ua.StatusChangeNotification) and not part.Status.is_good():
                    # A good one says "transferred", to whoever took it over, too.
                    self._doom = f"the server ended a subscription: {part.Status.name}"
            if not message.more:
                one.vouch(published)
            one.heard = asyncio.get_running_loop().time()
            self.last_publish = max(self.last_publish, published)

        self._look_at(wave)
        said += wave.notices(self._source)
        self._count(said)
        since, vouched = self._until, [one.vouched for one in self.subscriptions]
        known = min((since if until is None else until for until in vouched), default=since)
        self._until = max(since, known)
        position = self._position()
        batches: list[Batch] = [*said]
        if wave.tag:
            batches.append(wave.samples(self._source, position))
        if self._until > since and self._vouches:
            batches.append(
                Notice(
                    source=self._source, kind=NoticeKind.ALIVE, since=since, until=self._until
                )
            )  # fmt: skip
        if batches:
            batches[-1] = replace(batches[-1], position=position)
            self.unacknowledged.hand_on(position, acknowledged)
        return batches

    def _missing(self, one: Subscription, sequence: int, published: int) -> list[Notice]:
        """Count on; a number that was left out is a message that we shall never see."""
        left_out = (sequence - one.sequence - 1) % LAST_SEQUENCE
        one.sequence = sequence
        if not left_out:
            return []
        return self._gaps([one], self._until if one.vouched is None else one.vouched, published)

    def _look_at(self, wave: Wave) -> None:
        """Notice nodes that went, or came back, and servers that send qualities of OPC DA."""
        status = np.array(wave.status, np.uint32)
        if bool(is_da_quality(status).any()):
            if not self._totals["da_quality_total"]:
                logger.warning(
                    "Source %s: the server sends qualities of OPC DA as status codes; they are "
                    "read as such, but its 0 (bad) cannot be told from good.",
                    self._source,
                )
            self._totals["da_quality_total"] += int(is_da_quality(status).sum())
        faulty = np.isin(status & CODE, NODE_FAULTS)
        if not bool(faulty.any()) and not any(one.bad for one in self.subscriptions):
            return
        last = {
            tag: (at, code) for tag, at, code in zip(wave.tag, wave.time, wave.status, strict=True)
        }
        for one in self.subscriptions:
            mine = {tag: seen for tag, seen in last.items() if tag in one.tags}
            bad = {tag: code for tag, (_, code) in mine.items() if code & CODE in NODE_FAULTS}
            if self._vouches:
                self._away |= {tag: mine[tag][0] for tag in bad}
            good = [tag for tag, (_, code) in mine.items() if code < BAD]
            one.note_bad(bad, good=good)

    def _count(self, said: Iterable[Notice]) -> None:
        for notice in said:
            if notice.kind is NoticeKind.REJECTED:
                self._totals["rejected_total"] += notice.count
            elif notice.kind is NoticeKind.OVERFLOW:
                self._totals["overflow_total"] += len(notice.tags)
            elif notice.kind is NoticeKind.UNIT_CHANGED:
                self._totals["unit_changed_total"] += len(notice.tags)

    def _position(self) -> str:
        kept: list[Kept] = [
            one.kept() for one in self.subscriptions if len(one.bad) <= MOST_BAD_KEPT
        ]
        return Position(until=self._until, started=self._started, kept=tuple(kept)).text()

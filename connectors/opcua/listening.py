"""From an open link to batches: publish requests out, messages in, in waves.

A wave is everything that has come by the time somebody asks: one batch of samples, whatever the
number of messages. Only so many requests are on their way, and none is sent while nobody asks, nor
while history is to come before them: the server's queues hold the rest.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from asyncua import ua

from connectors.batch import Notice
from connectors.contract import Batch, LostError
from connectors.opcua.history import Piece
from connectors.opcua.link import ENDS, FAILURES, Facts, Link, readable
from connectors.opcua.order import Order
from connectors.opcua.progress import Position
from connectors.opcua.settings import RateClass, Settings
from connectors.opcua.subscription import Subscription, Watched, nodes_of
from connectors.opcua.units import Meanings
from connectors.opcua.values import Wave, nanoseconds
from connectors.opcua.waves import LAST_SEQUENCE, Answer, Waves
from connectors.stamps import OLDEST_NS

logger = logging.getLogger(__name__)

MOST_BAD_KEPT = 100  # a subscription with more bad nodes is made anew: positions stay small

Rates = Mapping[RateClass, Watched]


class Listening:
    """What is listened to between one opening and the closing that follows."""

    def __init__(
        self,
        source: str,
        settings: Settings,
        link: Link,
        rates: Rates,
        *,
        meanings: Meanings,
        totals: Counter[str],
    ) -> None:
        """``rates``: the tags by rate class. ``meanings`` and ``totals`` outlive an opening."""
        self.subscriptions = [Subscription(source, settings, rate, tags)
                              for rate, tags in rates.items()]  # fmt: skip
        self.skew_s = 0.0  # of the server's clock, ahead of ours
        self.waves = Waves(source, settings, self.subscriptions, meanings, totals)
        self.order = Order(source, settings, link, meanings, totals)
        self._source, self._settings, self._link = source, settings, link
        self._meanings, self._totals = meanings, totals
        self._requests: list[asyncio.Task[ua.PublishResponse]] = []
        self._first: list[Batch] = []
        self._moved: list[Notice] = []  # tags become other nodes: said before their values
        self._coming: list[Subscription] = []  # being made: they may be heard before they are whole
        self._unheard: set[Subscription] = set()  # taken over, and silent since
        self.in_vain = 0  # the start of a run of the server that hands over and sends nothing then
        self._most = 1 << 16  # publish requests that the server takes
        self._changing = asyncio.Lock()  # items are made or deleted
        self._started = 0
        self._ahead = 0  # ns, the server's clock, of ours, when it last spoke
        self._doom = ""  # why the next wave will not come
        self._asking = False  # whether requests are on their way and somebody waits for them
        self._asked = self._retried = self._answered = asyncio.get_running_loop().time()

    # ---- opening --------------------------------------------------------------------------------

    async def start(self, resume: Position | None, *, in_vain: int) -> None:
        """Take over what the server still has, make the rest, and say what was missed meanwhile.

        ``in_vain``: the start of a run of the server that hands over and then sends nothing.
        """
        facts = await self._facts()
        self._started = facts.started
        said: list[Notice] = []
        for one in self.subscriptions:
            said += await self._meant(one.tags, facts)
        taken = {} if facts.started == in_vain else await self._take_over(resume, facts)
        fresh = [one for one in self.subscriptions if one not in taken]
        for one in fresh:
            await one.create(self._link, facts)
        now = (await self._facts()).now if fresh else facts.now
        wave = Wave()
        since = now if resume is None else resume.since(now, ahead=self._ahead)
        self.waves.until = since if taken else now
        if resume is not None:
            said += self.waves.gaps(fresh, since, now)
        messages = []
        for one, held in taken.items():
            one.vouched = self.waves.until
            one.overran = now - since > one.holds_s * 1e9
            contents = [await self._link.republish(one.id, n) for n in held]
            messages += [Answer(one, message, more=True) for message in contents if message]
            if None in contents:
                said += self.waves.gaps([one], one.vouched, now)
            await one.probe(self._link)
        self._unheard = set(taken)
        for one in fresh:
            one.vouched = now
            if self.waves.vouches:
                for tag, status in one.bad.items():
                    wave.add(tag, now, np.nan, status)
        self.waves.out_of_reach(now)
        self.order.begin(self._now(), () if resume is None else resume.missed)
        said += await self._changed(messages)
        self._first = self._handed_on(messages, wave, said)

    async def _facts(self) -> Facts:
        """What the server says of itself; a clock that is far from ours is said, once."""
        facts = await self._link.facts()
        before, self.skew_s = self.skew_s, facts.skew_s
        self._ahead = round(facts.skew_s * 1e9)
        if abs(facts.skew_s) > self._settings.clock_ahead_s >= abs(before):
            logger.warning(
                "Source %s: the server's clock is %.0f s %s of ours. Stamps are its own: set the "
                "clocks of both by one time server.",
                *(self._source, abs(facts.skew_s), "ahead" if facts.skew_s > 0 else "behind"),
            )
        return facts

    async def _meant(self, tags: Watched, facts: Facts) -> list[Notice]:
        """Read what these tags mean; returns what changed."""
        refs = {tag: ref for tag, (ref, _) in tags.items()}
        try:
            return await self._meanings.read(self._link, facts, nodes_of(tags, facts), refs)
        except ENDS:
            raise
        except ua.UaError as error:  # it has data nevertheless
            logger.warning("Source %s: the server tells no units: %s", self._source, error)
            return []

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
            held = await self._link.transfer([before.id for _, before in wanted])
        except ua.UaError as error:
            logger.info("Source %s: the server hands over no subscription: %s", self._source, error)
            return {}
        taken = {}
        for (one, before), available in zip(wanted, held, strict=True):
            if available is None or not await one.take_over(self._link, before, facts):
                continue
            ahead = {n: (n - before.sequence) % LAST_SEQUENCE for n in available}
            stored = [n for n, distance in ahead.items() if distance == 0 or distance >= 1 << 31]
            self.order.unacknowledged.stored((one.id, n) for n in stored)
            taken[one] = sorted(available - set(stored), key=ahead.__getitem__)
        return taken

    async def retune(self, rates: Rates) -> None:
        """Watch these tags from now on; what stays as it is misses nothing."""
        try:
            with readable():
                await self._retune(rates)
        except FAILURES as error:  # opened anew, it is as wanted
            self._fall(error)

    async def _retune(self, rates: Rates) -> None:
        async with self._changing:
            facts = await self._facts()
            have = {one.rate: one for one in self.subscriptions}
            was = {tag: ref.address for one in have.values() for tag, (ref, _) in one.tags.items()}
            self._moved += self.waves.moved(
                [tag for tags in rates.values() for tag, (ref, _) in tags.items()
                 if was.get(tag, ref.address) != ref.address],
                facts.now,
            )  # fmt: skip
            for rate, tags in rates.items():
                one = have.pop(rate, None)
                before = {} if one is None else one.tags
                other = {tag: pair for tag, pair in tags.items() if before.get(tag) != pair}
                self._meanings.forget((before.keys() - tags.keys()) | other.keys())
                await self._meant(other, facts)  # before their values come
                if one is not None:
                    await one.retune(self._link, facts, tags)
                    continue
                one = Subscription(self._source, self._settings, rate, tags)
                one.vouched = self.waves.known
                self._coming = [one]
                try:
                    await one.create(self._link, facts)
                    self.subscriptions.append(one)
                finally:
                    self._coming = []
            for one in have.values():
                self.subscriptions.remove(one)
                self._unheard.discard(one)
                self._meanings.forget(one.tags)
                await self._link.delete_subscription(one.id)

    # ---- how it stands --------------------------------------------------------------------------

    @property
    def ended(self) -> bool:
        """Whether the link is known to be gone."""
        return bool(self._doom) or self._link.lost.done()

    @property
    def patience_s(self) -> float:
        """After how long without any sign of life it is dead."""
        return max(
            (one.patience_s for one in self.subscriptions), default=self._settings.lifetime_s
        )

    @property
    def heard(self) -> float:
        """When the last sign of life came, s of the loop's clock; time when nobody asked is out."""
        last = max([self._answered, *(one.heard for one in self.subscriptions)])
        return last if self._asking else last + asyncio.get_running_loop().time() - self._asked

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
        if self.order.waits:
            return await self._read_alone()
        if self.order.holds:
            return self.order.let_go()
        idle = clock() - self._asked  # while nobody asked, nobody could hear it
        self._answered += idle
        for one in self.subscriptions:
            one.heard += idle
            one.overran |= idle > one.holds_s
        self._ask()
        retry_at = self._retried + self._settings.retry_s
        due = [one.heard + self._patience_s(one) for one in self.subscriptions]
        if not due or any(one.bad for one in self.subscriptions):
            due.append(retry_at)
        signs: list[asyncio.Future[Any]] = [*self._requests, self._link.lost, *self._reading()]
        self._asked, self._asking = clock(), True
        try:
            timeout = max(min(due) - clock(), 0)
            await asyncio.wait(signs, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._asked, self._asking = clock(), False
        answered = [one for one in self._requests if one.done()]
        self._requests = [one for one in self._requests if one not in answered]
        read = self._read()
        messages = self._messages(answered)
        said = await self._changed(messages)
        await self._hear({message.subscription for message in messages} & self._unheard)
        if not answered:
            said += await self._look_for_silence()
        moved, self._moved = self._moved, []
        batches = read + moved + self._handed_on(messages, Wave(), said)
        if clock() >= retry_at:
            await self._retry()
        return batches

    def _ask(self) -> None:
        """Send as many requests as there should be on their way."""
        while len(self._requests) < self._depth:
            self._requests.append(self._link.publish(self.order.unacknowledged.ripe()))

    @property
    def _depth(self) -> int:
        """Part 4, 5.14.1: a request for each, and one more; without any, nobody would answer."""
        return min(len(self.subscriptions) + 1, self._most) if self.subscriptions else 0

    def _messages(self, answered: Iterable[asyncio.Task[ua.PublishResponse]]) -> list[Answer]:
        """What was answered; an answer that is an error is what nothing comes after."""
        messages = []
        known = {one.id: one for one in (*self.subscriptions, *self._coming)}
        for request in answered:
            try:
                with readable():
                    answer = request.result()
                    answer.ResponseHeader.ServiceResult.check()
            except ua.uaerrors.BadTimeout:
                continue  # of this request alone: another is sent
            except ua.uaerrors.BadTooManyPublishRequests as error:
                self._most = self._depth - 1
                self._doom = "" if self._most else str(error)
            except FAILURES as error:
                self._fall(error)
            else:
                self._answered = asyncio.get_running_loop().time()
                said = nanoseconds(answer.ResponseHeader.Timestamp) or 0
                if said >= OLDEST_NS:
                    self._ahead = said - time.time_ns()
                result = answer.Parameters
                subscription = known.get(int(result.SubscriptionId))
                if subscription is not None:
                    subscription.heard = self._answered
                    content = result.NotificationMessage
                    messages.append(Answer(subscription, content, more=result.MoreNotifications))
        return messages

    def _fall(self, error: Exception) -> None:
        self._doom = self._doom or str(error) or type(error).__name__

    async def _changed(self, messages: Iterable[Answer]) -> list[Notice]:
        """Read anew what tags mean of which the server says that it changed."""
        said: list[Notice] = []
        try:
            with readable():
                for one, tags in self.waves.semantics(messages).items():
                    facts = await self._facts()
                    told = await self._meant({tag: one.tags[tag] for tag in tags}, facts)
                    rest = tags.difference(*(notice.tags for notice in told))
                    said += [*told, *self.waves.same_meaning(rest)]
        except FAILURES as error:
            self._fall(error)
        return said

    async def _hear(self, proved: set[Subscription]) -> None:
        """These were taken over, and say something."""
        self._unheard -= proved
        try:
            with readable():
                for one in proved:
                    await one.end_probe(self._link)
        except FAILURES as error:
            self._fall(error)

    def _patience_s(self, one: Subscription) -> float:
        return one.probe_s if one in self._unheard else one.patience_s

    async def _look_for_silence(self) -> list[Notice]:
        """Nothing came: is the link gone, or a subscription silent beyond its time?

        One that was taken over, and keeps silent when it is asked to say something, is made anew:
        some servers (asyncua's) hand over what they then can no longer send.
        """
        if self._link.lost.done():
            self._doom = self._doom or str(self._link.lost.result()) or "it answers no more"
        now = asyncio.get_running_loop().time()
        late = [one for one in self.subscriptions if now >= one.heard + self._patience_s(one)]
        if not late or self._doom:
            return []
        for one in late:
            if one not in self._unheard:
                self._doom = (
                    f"no sign of life for {one.patience_s:g} s, where one was due every "
                    f"{one.publishing_ms * one.keepalive_count / 1000:g} s"
                )
                return []
        try:
            with readable():
                async with self._changing:
                    return await self._make_anew([one for one in late if one in self._unheard])
        except FAILURES as error:
            self._fall(error)
        return []

    async def _make_anew(self, silent: Sequence[Subscription]) -> list[Notice]:
        facts = await self._facts()
        since = min(self.waves.known if one.vouched is None else one.vouched for one in silent)
        for one in silent:
            await self._link.delete_subscription(one.id)
            await one.create(self._link, facts)
            self._unheard.discard(one)
        now = (await self._facts()).now
        for one in silent:
            one.vouched = now
        self._totals["in_vain_total"] += len(silent)
        self.in_vain = facts.started
        logger.info(
            "Source %s: the server handed over %d subscriptions and sends nothing of them: they "
            "are made anew.",
            *(self._source, len(silent)),
        )
        return self.waves.gaps(silent, since, now)

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
                async with self._changing:
                    facts = await self._facts()
                    for one in self.subscriptions:
                        if one.bad:
                            good = await one.retry(self._link, facts)
                            one.note_bad({}, good=good)
                            await self._meant({tag: one.tags[tag] for tag in good}, facts)
        except FAILURES as error:
            self._fall(error)

    # ---- handing on -----------------------------------------------------------------------------

    def _handed_on(self, messages: Sequence[Answer], wave: Wave, said: list[Notice]) -> list[Batch]:
        """What may be handed on of a wave: what was missed first, the rest once history came."""
        made = self.waves.made(messages, wave, said)
        self._doom = self._doom or made.doom
        bridged_s = min((one.bridged_s for one in self.subscriptions), default=0.0)
        return self.order.take(made, self._now(), wait_s=bridged_s)

    def _now(self) -> Position:
        """Where to go on once all that came is stored, but for what is still to be read."""
        kept = tuple(one.kept() for one in self.subscriptions if len(one.bad) <= MOST_BAD_KEPT)
        until, ahead = self.waves.known, self._ahead
        return Position(until=until, started=self._started, kept=kept, ahead=ahead)

    def _reading(self) -> list[asyncio.Task[Piece]]:
        """The piece of history that is being read, if there is something to read."""
        return [] if self._doom else self.order.reading(self.subscriptions)

    async def _read_alone(self) -> list[Batch]:
        """The next piece, while the server's queues hold what is new."""
        signs: list[asyncio.Future[Any]] = [self._link.lost, *self._reading()]
        timeout = self.order.patience_s
        await asyncio.wait(signs, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if self._link.lost.done():
            await self._look_for_silence()
        return self._read()

    def _read(self) -> list[Batch]:
        """What was read of history by now."""
        try:
            return self.order.read()
        except FAILURES as error:
            self._fall(error)
            return []

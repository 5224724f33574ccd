"""Measurements from a broker, each message acknowledged once it is safe in the journal."""

import asyncio
import logging
import re
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel

from connectors.batch import Notice, NoticeKind
from connectors.contract import Batch, LostError, NotReadyError, TagRef
from connectors.mqtt.link import Link
from connectors.mqtt.pump import Options, Received
from connectors.mqtt.settings import ReadingSettings

log = logging.getLogger(__name__)

GATHER_S = 0.02  # how long the first message waits for company: a batch has its price
LOOK_S = 0.005  # no company in this time: then none is coming, it waits for an acknowledgement
SPARE_S = 1.0  # beyond twice the keep-alive: it is looked at every half second
LOST = "/lost"
POSITION = re.compile(f"([0-9]+)/[0-9]+/([0-9]+)({LOST})?", re.ASCII)
BATCH_BYTES = 1 << 20  # about: one batch more would wait for the disk anyway


class Decodes(Protocol):
    """Makes batches of messages: see ``decode.Decoder``, of measurements, for what each means."""

    messages: int
    bytes: int
    rejected: int
    unwanted: int
    empty: int
    maybe_duplicate: int
    without_guarantee: int
    restamped: int
    topics: tuple[str, ...]
    strays: set[str]

    def reading(self, tags: Sequence[TagRef]) -> Mapping[str, Any]:
        """How each topic would be read for these tags. Raises RefusedError."""
        ...

    def use(self, reading: Mapping[str, Any]) -> None:
        """Read what comes from now on like this."""
        ...

    @property
    def unheard(self) -> int:
        """How many topics never gave anything."""
        ...

    def decode(self, messages: Sequence[Received], position: str) -> Sequence[Batch]:
        """Batches of messages, the last with the position; none where nobody wanted them."""
        ...


class Source:
    """One session at one broker: at QoS 1, kept by the broker while we are away.

    A position is ``<link>/<message>/<ns>``: which link since the first one ever, up to which of its
    messages, and when that one came. Where ``/lost`` follows, what was published since then is lost
    until a new session stands: a gap that is not over.

    A broker that no longer knows our session has made a new one by the time it says so. That one is
    ended, the gap is said and committed, and only then another session is made: whenever we are
    killed, the next start finds either no session or the gap in its position.
    """

    Settings: ClassVar[type[BaseModel]] = ReadingSettings

    def __init__(
        self,
        name: str,
        settings: ReadingSettings,
        tags: Sequence[TagRef],
        *,
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        self.name = name
        self._settings = settings
        self._tags = tags
        self._now = now
        self._changed = asyncio.Event()
        self._decoder: Decodes | None = None
        self._link: Link | None = None
        self._number = 0  # of the link
        self._message = 0  # of the link's messages, the last one taken
        self._unacknowledged: deque[tuple[int, list[int]]] = deque()  # up to which message, packets
        self._lost: int | None = None  # since when everything is lost, until the next session
        self._lost_known = asyncio.Event()  # that is in the journal
        self._since: int | None = None  # when our first session began
        self._opened = 0.0  # s of time.monotonic
        self._gaps = self._links = self._unsubscribed = 0
        self._told_not_ours = False

    async def open(self, *, resume: str | None) -> None:
        """See Source of the contract. RefusedError only for settings that no broker can serve."""
        await self.close()
        if self._decoder is None:
            self._decoder = await asyncio.to_thread(self._made, self._tags)
        before, last, lost = _parsed(resume)
        self._number = max(before, self._number)
        last = self._since if last is None else last
        self._lost = last if lost or not self._settings.keeps_session else None
        self._lost_known.clear()
        link = await self._connected(expects_session=last is not None and self._lost is None)
        if not link.is_open and link.error is None:  # there was none, and none is made yet
            self._lost = last
            await self._let_go()

    async def batches(self) -> AsyncIterator[Batch]:
        """See Source of the contract."""
        decoder = self._decoder
        assert decoder is not None, "open() first"  # noqa: S101 (the caller's own mistake)
        if self._link is None:
            yield (gap := self._gap(over=False))
            await self._lost_known.wait()
            self._lost = gap.until
            try:
                await self._connected(expects_session=False)
            except NotReadyError as error:
                raise LostError(str(error), connector=self.name) from error
        link = self._link
        assert link is not None  # noqa: S101 - as above
        if self._lost is not None:
            self._gaps += 1
            yield self._gap(over=True)
            self._lost = None
        while True:
            await self._company(link)
            taken = link.take(self._settings.batch_messages, BATCH_BYTES)
            self._message += len(taken)
            packets = [one.packet for one in taken if one.packet]
            position = f"{self._number}/{self._message}/{taken[-1].came}"
            made = await self._decoded(decoder, taken, position)
            if made:
                self._unacknowledged.append((self._message, packets))
            elif self._unacknowledged:  # nobody wanted them: acknowledged in their turn
                self._unacknowledged[-1][1].extend(packets)
            else:
                link.acknowledge(packets)
            if decoder.strays:
                self._give_up(link, decoder.strays)
            for batch in made:
                yield batch

    async def accepted(self, position: str) -> None:
        """See Source of the contract. What an earlier link brought comes again by itself."""
        if position.endswith(LOST):
            self._lost_known.set()
        number, message, *_ = position.split("/")
        if self._link is None or int(number) != self._number:
            return
        packets: list[int] = []
        while self._unacknowledged and self._unacknowledged[0][0] <= int(message):
            packets += self._unacknowledged.popleft()[1]
        self._link.acknowledge(packets)

    async def retune(self, tags: Sequence[TagRef]) -> None:
        """See Retunable of the contract. What came for tags that are wanted no more is unwanted.

        Returns when the broker has answered; where the link is lost, or that takes longer than
        ``timeout_s``, before it has.
        """
        if self._decoder is None:
            self._decoder = await asyncio.to_thread(self._made, tags)
        else:
            self._decoder.use(await asyncio.to_thread(self._decoder.reading, tags))
        self._tags = tags
        if self._link is not None:
            await self._link.want(self._decoder.topics)

    @property
    def watchdog_s(self) -> float:
        """See Watched of the contract. The link itself gives up a little earlier, and says why."""
        return 2.0 * self._settings.keepalive_s + SPARE_S

    @property
    def heard(self) -> float:
        """See Watched of the contract: the last bytes of the broker, be it a PINGRESP."""
        return max(self._opened, 0.0 if self._link is None else self._link.heard)

    def status(self) -> Mapping[str, int | float | str]:
        """See Source of the contract."""
        link, decoder = self._link, self._decoder
        there = link is not None and link.is_open
        found: dict[str, int | float | str] = {
            "connected": int(there),
            "links_total": self._links,
            "gaps_total": self._gaps,
            "unsubscribed_total": self._unsubscribed,
            "buffered_bytes": 0 if link is None else link.inbox_bytes,
            "unacknowledged": sum(len(packets) for _, packets in self._unacknowledged),
        }
        if link is not None:
            found["session_present"] = int(link.session_present)
            found["topics_refused"] = len(link.refused)
        if decoder is not None:
            found |= {
                "topics": len(decoder.topics),
                "topics_unheard": decoder.unheard,
                "messages_total": decoder.messages,
                "bytes_total": decoder.bytes,
                "rejected_total": decoder.rejected,
                "empty_total": decoder.empty,
                "restamped_total": decoder.restamped,
                "maybe_duplicate_total": decoder.maybe_duplicate,
                "unwanted_total": decoder.unwanted,
                "without_guarantee_total": decoder.without_guarantee,
            }
        return found

    async def close(self) -> None:
        """See Source of the contract."""
        await self._let_go()

    def _made(self, tags: Sequence[TagRef]) -> "Decodes":
        """The decoder; msgspec is imported only here, once it is needed."""
        from connectors.mqtt.decode import Decoder  # noqa: PLC0415 (see above)

        return Decoder(self.name, self._settings, tags)

    async def _decoded(
        self, decoder: "Decodes", taken: Sequence[Received], position: str
    ) -> Sequence[Batch]:
        """What messages gave: a subclass whose decoder takes long uses a thread."""
        return decoder.decode(taken, position)

    async def _let_go(self) -> None:
        link, self._link = self._link, None
        self._unacknowledged.clear()
        if link is not None:
            await link.close()

    async def _connected(self, *, expects_session: bool) -> Link:
        """A new link, subscribed to all topics. Raises NotReadyError, RefusedError."""
        decoder, settings = self._decoder, self._settings
        assert decoder is not None  # noqa: S101 - open() makes it
        self._number, self._message = self._number + 1, 0
        self._opened = time.monotonic()
        self._link = link = Link(
            self.name,
            settings,
            Options(
                keeps_session=True,
                expects_session=expects_session,
                session_expiry_s=settings.session_expiry_s,
                receive_maximum=settings.receive_maximum,
                inbox_bytes=settings.buffer_mb * 1e6,
                packet_bytes=settings.packet_bytes,
            ),
            changed=self._changed.set,
            now=self._now,
        )
        await link.open(decoder.topics)
        await link.want(decoder.topics)  # they may have changed meanwhile
        if link.is_open:
            self._links += 1
            self._since = self._since or self._now()
        return link

    def _give_up(self, link: Link, strays: set[str]) -> None:
        """End subscriptions that a kept session still holds, of an earlier configuration.

        Addresses have no wildcards: what comes on a topic was subscribed by just that name.
        """
        count = link.give_up(strays - {""})
        strays.clear()
        self._unsubscribed += count
        if count:
            log.info("%s: %d topics are not configured any more: unsubscribed.", self.name, count)
        if link.not_ours and not self._told_not_ours:
            self._told_not_ours = True
            log.warning(
                "%s: %r comes although we never subscribed to it: another client of our name "
                "did, with wildcards. It is counted as unwanted_total. Take another client_id, or "
                "let that client unsubscribe.",
                self.name,
                link.not_ours[0],
            )

    async def _company(self, link: Link) -> None:
        """Wait for a message, and a little longer while more come. Raises what ended the link."""
        while not link.inbox:
            self._changed.clear()
            link.listen()
            if link.inbox:
                break
            if link.error is not None:
                raise link.error
            await self._changed.wait()
        clock = asyncio.get_running_loop().time
        here, until = 0, clock() + GATHER_S
        while here < link.inbox < self._settings.batch_messages and clock() < until:
            here = link.inbox
            await asyncio.sleep(LOOK_S)

    def _gap(self, *, over: bool) -> Notice:
        now = self._now()
        assert self._lost is not None  # noqa: S101 - whoever calls has looked
        return Notice(
            source=self.name,
            kind=NoticeKind.GAP,
            since=min(self._lost, now),
            until=now,
            reason="the broker no longer knew our session: what was published meanwhile is lost",
            position=f"{self._number}/0/{now}{'' if over else LOST}",
        )


def _parsed(position: str | None) -> tuple[int, int | None, bool]:
    """Link and time of a position, and whether all since is lost; of one not ours, nothing."""
    found = POSITION.fullmatch(position or "")
    return (int(found[1]), int(found[2]), bool(found[3])) if found else (0, None, False)

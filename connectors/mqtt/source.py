"""Measurements from a broker, each message acknowledged once it is safe in the journal."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel

from connectors.batch import Notice, NoticeKind
from connectors.contract import Batch, TagRef
from connectors.mqtt.link import Link
from connectors.mqtt.pump import Options
from connectors.mqtt.settings import ReadingSettings

if TYPE_CHECKING:
    from connectors.mqtt.decode import Decoder

log = logging.getLogger(__name__)

GATHER_S = 0.02  # how long the first message waits for company: a batch has its price
LOOK_S = 0.005  # no company in this time: then none is coming, it waits for an acknowledgement
BATCH_BYTES = 1 << 20  # about: one batch more would wait for the disk anyway


class Source:
    """One session at one broker: at QoS 1, kept by the broker while we are away.

    A position is ``<link>/<message>/<ns>``: which link since the first one ever, up to which of its
    messages, and when that one came.
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
        self._decoder: Decoder | None = None
        self._link: Link | None = None
        self._number = 0  # of the link
        self._last: int | None = None  # when the last message came that is in the journal
        self._message = 0  # of the link's messages, the last one taken
        self._unacknowledged: deque[tuple[int, list[int]]] = deque()  # up to which message, packets
        self._forgotten = False  # the broker did not know our session, and nobody was told yet
        self._gaps = 0
        self._links = 0

    async def open(self, *, resume: str | None) -> None:
        """See Source of the contract. RefusedError only for settings that no broker can serve."""
        await self.close()
        if self._decoder is None:
            self._decoder = await asyncio.to_thread(_decoder, self.name, self._settings, self._tags)
        before, _, last = _parsed(resume)
        self._number, self._message = max(before, self._number) + 1, 0
        self._unacknowledged.clear()
        self._link = link = Link(
            self.name,
            self._settings,
            Options(
                keeps_session=True,
                session_expiry_s=self._settings.session_expiry_s,
                receive_maximum=self._settings.receive_maximum,
                inbox_bytes=self._settings.buffer_mb * 1e6,
            ),
            changed=self._changed.set,
            now=self._now,
        )
        # A topic that was wanted once and is not any more stays subscribed in a kept session: what
        # comes of it is counted as unwanted and acknowledged.
        try:
            await link.open(self._decoder.topics)
        finally:  # the next link finds the session that this one made
            if resume is not None and link.session_is_new:
                self._forgotten = True
        self._links += 1
        self._last = last

    async def batches(self) -> AsyncIterator[Batch]:
        """See Source of the contract."""
        link, decoder = self._link, self._decoder
        assert link is not None, "open() first"  # noqa: S101 (the caller's own mistake)
        assert decoder is not None  # noqa: S101 (as above)
        if self._forgotten:
            self._forgotten = False
            self._gaps += 1
            yield self._missed(self._last)
        while True:
            await self._company(link)
            taken = link.take(self._settings.batch_messages, BATCH_BYTES)
            self._message += len(taken)
            packets = [one.packet for one in taken if one.packet]
            position = f"{self._number}/{self._message}/{taken[-1].came}"
            made = decoder.decode(taken, position)
            if made:
                self._unacknowledged.append((self._message, packets))
            elif self._unacknowledged:  # nobody wanted them: acknowledged in their turn
                self._unacknowledged[-1][1].extend(packets)
            else:
                link.acknowledge(packets)
            for batch in made:
                yield batch

    async def accepted(self, position: str) -> None:
        """See Source of the contract. What an earlier link brought comes again by itself."""
        number, message, _ = _parsed(position)
        if self._link is None or number != self._number:
            return
        packets: list[int] = []
        while self._unacknowledged and self._unacknowledged[0][0] <= message:
            packets += self._unacknowledged.popleft()[1]
        self._link.acknowledge(packets)

    def status(self) -> Mapping[str, int | float | str]:
        """See Source of the contract."""
        link, decoder = self._link, self._decoder
        there = link is not None and link.is_open
        found: dict[str, int | float | str] = {
            "connected": int(there),
            "links_total": self._links,
            "gaps_total": self._gaps,
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
                "maybe_duplicate_total": decoder.maybe_duplicate,
                "unwanted_total": decoder.unwanted,
                "without_guarantee_total": decoder.without_guarantee,
            }
        return found

    async def close(self) -> None:
        """See Source of the contract."""
        link, self._link = self._link, None
        self._unacknowledged.clear()
        if link is not None:
            await link.close()

    async def _company(self, link: Link) -> None:
        """Wait for a message, and a little longer while more come. Raises what ended the link."""
        while not link.inbox:
            self._changed.clear()
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

    def _missed(self, last: int | None) -> Notice:
        now = self._now()
        return Notice(
            source=self.name,
            kind=NoticeKind.GAP,
            since=now if last is None else min(last, now),
            until=now,
            reason="the broker no longer knew our session: what was published meanwhile is lost",
            position=f"{self._number}/0/{now}",
        )


def _decoder(name: str, settings: ReadingSettings, tags: Sequence[TagRef]) -> "Decoder":
    """Make the decoder; msgspec is imported only here, once it is needed."""
    from connectors.mqtt.decode import Decoder  # noqa: PLC0415 (see above)

    return Decoder(name, settings, tags)


def _parsed(position: str | None) -> tuple[int, int, int | None]:
    """Link, message and time of a position; of one that is not ours, nothing."""
    parts = (position or "").split("/")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() for part in parts):
        return 0, 0, None
    link, message, came = map(int, parts)
    return link, message, came

"""From a source into the journal: committed first, acknowledged to the source only then.

What one link gives, from its opening to its end. While the disk is full, or the step is too far
behind, nothing more is read from any source. When to open, and what to do when a link is lost, is
the supervisor's.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from connectors.batch import Notice, NoticeKind, Pictures
from connectors.contract import Batch, ConnectorError, LostError, Source
from monitor.core.records import Record
from monitor.live.backoff import Backoff
from monitor.live.calls import FaultyError, bugs_named, seen
from monitor.live.clock import Clock
from monitor.live.threads import in_thread, submitted
from monitor.state.database import Transaction
from monitor.state.errors import StorageError
from monitor.state.journal import Journal, encode
from monitor.state.pictures import PictureStore
from monitor.state.writer import Writer

logger = logging.getLogger(__name__)

IN_FLIGHT = 8  # batches of one source on their way to the disk: enough to fill a group commit
BEHIND_BYTES = 1 << 20  # of journal that the step may be behind: more would only wait on the disk
ACCEPTED_S = 30.0  # for accepted(), which only takes note: more is a hang
AGAIN_S = 5.0  # between two tries while the disk takes nothing: queues at the peers fill meanwhile
PICTURE_BYTES = 512  # about what the journal is told of a picture
LOOK_S = 0.02  # how often to look whether the step has caught up: as long as it steps at once


class Behind:
    """How far the step is behind the journal; holds all sources back while that is too far.

    A recording is read faster than it is scored: without a bound it would lie in the journal twice
    over. A live source never gets here unless the step cannot keep up at all.
    """

    def __init__(self, reached: Callable[[], int], *, bound: int = BEHIND_BYTES) -> None:
        """``reached`` tells the record up to which the step has come."""
        self._reached, self._bound = reached, bound
        self._rows: deque[tuple[Future[int], int]] = deque()  # number and bytes of each
        self._bytes = 0

    def add(self, number: Future[int], size: int) -> None:
        """A record of ``size`` bytes is on its way into the journal."""
        self._rows.append((number, size))
        self._bytes += size

    async def room(self) -> None:
        """Wait until the step is near enough."""
        while self.too_far:  # noqa: ASYNC110 - the step is a thread, and does not call
            await asyncio.sleep(LOOK_S)

    @property
    def too_far(self) -> bool:
        """Whether more is to be stepped than the bound."""
        reached = self._reached()
        while self._rows and _is_past(self._rows[0][0], reached):
            self._bytes -= self._rows.popleft()[1]
        return self._bytes > self._bound


def _is_past(number: Future[int], reached: int) -> bool:
    """Whether a record was stepped, or will never be: it was not stored."""
    if not number.done():
        return False
    return number.cancelled() or number.exception() is not None or number.result() <= reached


@dataclass(slots=True)
class _InFlight:
    """A batch on its way to the disk."""

    batch: Batch
    received: int  # ns since 1970 UTC
    size: int  # bytes
    append: Callable[[Transaction], int]  # puts it into the journal; its number there
    future: Future[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureDesk:
    """Where the files of pictures go, and how much may wait there to be inspected."""

    store: PictureStore
    bound: Callable[[], float]  # bytes
    taken: Callable[[], None]  # called, in the event loop, whenever more waits


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Where all sources put what they give."""

    journal: Journal
    writer: Writer
    clock: Clock
    behind: Behind
    committed: Callable[[], None]  # called, in the event loop, whenever the journal has grown
    pictures: PictureDesk
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep  # s, between two tries to write


class Intake:
    """Takes in what an open source gives, until it says that nothing more will come."""

    def __init__(self, source: Source, *, desk: Desk, taken: Callable[[Batch, int], None]) -> None:
        """``taken`` is called with each batch that is in the journal, and when it was received."""
        self.held = ""  # why nothing is taken: our own disk; "": it is
        self._source, self._desk, self._taken = source, desk, taken
        self._asking = False  # the source for its next batch

    def is_listening(self) -> bool:
        """Whether the source is asked for more, so that its peer can be heard at all."""
        return self._asking and not self.held

    async def run(self) -> None:
        """Commit batch after batch, in order, and acknowledge each once it is safe.

        Ends after the notice ENDED. Raises what the source raises, LostError where it ends without
        that notice, and FaultyError. However it ends, what is in the journal is acknowledged.
        """
        waiting: deque[_InFlight] = deque()
        try:
            with bugs_named(self._source.name):
                batches = self._source.batches()
            while True:
                batch = await self._next(batches, waiting)
                await self._take(batch, waiting)
                if isinstance(batch, Notice) and batch.kind is NoticeKind.ENDED:
                    break
            while waiting:
                await self._acknowledge(waiting)
        finally:
            await self._finish(waiting)

    async def _next(self, batches: AsyncIterator[Batch], waiting: deque[_InFlight]) -> Batch:
        """The next batch; what is committed meanwhile is acknowledged.

        Some peers send no more before they hear that what they sent is safe.
        """
        name = self._source.name
        coming = asyncio.ensure_future(anext(batches, None))
        coming.add_done_callback(seen)
        self._asking = True
        try:
            while waiting and not coming.done():
                stored = asyncio.wrap_future(waiting[0].future)
                stored.add_done_callback(seen)
                await asyncio.wait((coming, stored), return_when=asyncio.FIRST_COMPLETED)
                if stored.done():
                    await self._acknowledge(waiting)
            with bugs_named(name):
                batch = await coming
        finally:
            self._asking = False
            coming.cancel()
            await asyncio.wait((coming,))
        if batch is None:
            raise LostError(f"source {name}: it ended, and did not say so.", connector=name)
        if not isinstance(batch, Batch):
            raise FaultyError(f"source {name}: gave a {type(batch).__name__}.", connector=name)
        return batch

    async def _take(self, batch: Batch, waiting: deque[_InFlight]) -> None:
        """Send a batch on its way, once there is room, and acknowledge those that arrived."""
        while waiting and self._desk.behind.too_far:
            await self._acknowledge(waiting)
        await self._desk.behind.room()
        if isinstance(batch, Pictures):
            while waiting:  # to have room for pictures may take long
                await self._acknowledge(waiting)
            await self._keep(batch)
        received = self._desk.clock.now()
        with bugs_named(self._source.name):  # a field that cannot be stored
            append, size = self._appending(batch, received)
        before = waiting[-1].future if waiting else None
        future = await self._submit(append, size, before)
        waiting.append(_InFlight(batch, received, size, append, future))
        while len(waiting) >= IN_FLIGHT or (waiting and waiting[0].future.done()):
            await self._acknowledge(waiting)

    async def _keep(self, pictures: Pictures) -> None:
        """Have the files of pictures on the disk, once what waits there leaves room for them."""
        store, backoff = self._desk.pictures.store, Backoff(longest_s=AGAIN_S)
        while True:
            try:
                wait = await in_thread(store.waiting_bytes)
                if wait <= (bound := self._desk.pictures.bound()):
                    for content in pictures.content:
                        await in_thread(partial(store.keep, content))
                    break
                why = f"{wait / 1e6:.0f} MB of pictures wait to be inspected, of {bound / 1e6:.0f}"
            except StorageError as error:
                why = str(error)
            self._hold(why)
            await self._desk.sleep(backoff.next_s())
        self._hold("")

    def _appending(self, batch: Batch, received: int) -> tuple[Callable[[Transaction], int], int]:
        """How a batch gets into the journal, and how many bytes that takes."""
        journal, store = self._desk.journal, self._desk.pictures.store
        if isinstance(batch, Pictures):

            def note(tx: Transaction) -> int:
                taken = store.take(tx, batch, received=received)
                return journal.append(tx, Record(received, taken))

            return note, PICTURE_BYTES * len(batch)
        row = encode(Record(received, batch))
        return lambda tx: journal.append(tx, row), len(row.body)

    async def _submit(
        self, append: Callable[[Transaction], int], size: int, before: Future[int] | None
    ) -> Future[int]:
        """Have a batch committed, but never if the one before was not: nothing may overtake."""

        def in_order(tx: Transaction) -> int:
            if before is not None and before.done():
                before.result()
            return append(tx)

        future = await submitted(self._desk.writer, in_order, size=size)
        self._desk.behind.add(future, size)
        return future

    async def _acknowledge(self, waiting: deque[_InFlight]) -> None:
        """Wait until the first is committed, then tell; while the disk takes nothing, try again."""
        backoff = Backoff(longest_s=AGAIN_S)
        while True:
            first = waiting[0]
            try:
                await asyncio.wrap_future(first.future)
                break
            except StorageError as error:
                self._hold(str(error))
                await self._desk.sleep(backoff.next_s())
            before = None
            for one in waiting:  # none of them was committed after the first was not
                one.future = before = await self._submit(one.append, one.size, before)
        self._hold("")
        await self._tell(waiting.popleft())

    async def _tell(self, one: _InFlight) -> None:
        """It is in the journal: whoever wants to know, and the source, may know."""
        self._desk.committed()
        if isinstance(one.batch, Pictures):
            self._desk.pictures.taken()
        self._taken(one.batch, one.received)
        if one.batch.position is not None:
            with bugs_named(self._source.name):
                async with asyncio.timeout(ACCEPTED_S):
                    await self._source.accepted(one.batch.position)

    async def _finish(self, waiting: deque[_InFlight]) -> None:
        """What is on its way gets there, or fails, before anyone asks where the journal ends.

        What got there is acknowledged: else its peer sends it once more.
        """
        on_the_way = [asyncio.wrap_future(one.future) for one in waiting]
        await asyncio.gather(*on_the_way, return_exceptions=True)
        with suppress(ConnectorError):  # of a link that is gone: it comes again
            while waiting and not waiting[0].future.cancelled():
                if waiting[0].future.exception() is not None:
                    break
                await self._tell(waiting.popleft())

    def _hold(self, reason: str) -> None:
        """Say that nothing is taken, or that it is again; once each."""
        before, self.held = self.held, reason
        if reason and not before:
            logger.warning("Source %s waits, and is tried again: %s", self._source.name, reason)
        elif before and not reason:
            logger.info("Source %s goes on.", self._source.name)

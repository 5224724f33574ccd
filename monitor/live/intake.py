"""From a source into the journal: committed first, acknowledged to the source only then.

One task a source, in the event loop. A source that cannot be reached is tried again for good; one
that refuses is given up, said so, and stops nobody else. While the disk takes nothing, or the step
is too far behind, nothing more is read from any source.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

import numpy as np

from connectors.batch import Notice, NoticeKind, Pictures, Samples, Waveforms, usable
from connectors.contract import Batch, LostError, MismatchError, NotReadyError, RefusedError, Source
from monitor.core.records import Record
from monitor.live.backoff import Backoff
from monitor.live.clock import Clock
from monitor.live.reasons import Reasons
from monitor.live.threads import in_thread, submitted
from monitor.state.database import Transaction
from monitor.state.errors import StorageError
from monitor.state.journal import Journal, Row, encode
from monitor.state.writer import Writer

logger = logging.getLogger(__name__)

IN_FLIGHT = 8  # batches of one source on their way to the disk: enough to fill a group commit
BEHIND_BYTES = 1 << 20  # of journal that the step may be behind: more would only wait on the disk
LOOK_S = 0.02  # how often to look whether the step has caught up: as long as it steps at once


class SourceState(StrEnum):
    """How a source stands."""

    WAITING = "waiting"  # not reached yet, or lost: tried again
    RUNNING = "running"
    ENDED = "ended"  # it said that nothing more will come
    REFUSED = "refused"  # it will not serve us as configured


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


def _seen(future: asyncio.Future[int]) -> None:
    """Whoever acknowledges looks at the error, if there is one; asyncio need not speak of it."""
    if not future.cancelled():
        future.exception()


def _is_past(number: Future[int], reached: int) -> bool:
    """Whether a record was stepped, or will never be: it was not stored."""
    if not number.done():
        return False
    return number.cancelled() or number.exception() is not None or number.result() <= reached


@dataclass(slots=True)
class _InFlight:
    """A batch on its way to the disk."""

    batch: Batch
    row: Row
    future: Future[int]


class Intake:
    """Runs one source until it ends, refuses or is cancelled."""

    def __init__(
        self,
        source: Source,
        *,
        journal: Journal,
        writer: Writer,
        clock: Clock,
        behind: Behind,
        committed: Callable[[], None],
        tags: Iterable[int] = (),
    ) -> None:
        """``committed`` is called, in the event loop, whenever the journal has grown.

        ``tags`` are the numbers of those that it should give.
        """
        self.source = source
        self.state = SourceState.WAITING
        self.reason = ""
        self.sampled: int | None = None  # ns, wall time at which its last samples were received
        self.heard: int | None = None  # the same, or a word that nothing had changed
        self.silent = set(tags)  # gave no usable value yet, since the start
        self._reasons = Reasons()
        self.mismatch = False  # refused, for it is not what the configuration says
        self._journal, self._writer, self._clock = journal, writer, clock
        self._behind, self._committed = behind, committed

    async def run(self) -> None:
        """Open, take in, and start again where the journal ends, for as long as there is hope."""
        backoff = Backoff()
        while self.state is SourceState.WAITING:
            pause_s = 0.0
            try:
                resume = await in_thread(self._position)
                await self.source.open(resume=resume)
                self._turn(SourceState.RUNNING)
                await self._take_in(backoff)
                self._turn(SourceState.ENDED)
            except RefusedError as error:
                self.mismatch = isinstance(error, MismatchError)
                self._turn(SourceState.REFUSED, str(error))
            except (NotReadyError, LostError, StorageError) as error:
                self._turn(SourceState.WAITING, str(error))
                pause_s = backoff.next_s(getattr(error, "retry_after_s", None))
            finally:
                await self.source.close()  # before the pause: no session is held meanwhile
            await asyncio.sleep(pause_s)

    async def _take_in(self, backoff: Backoff) -> None:
        """Commit batch after batch, in order, and acknowledge each once it is safe."""
        waiting: deque[_InFlight] = deque()
        try:
            batches = self.source.batches()
            while (batch := await self._next(batches, waiting)) is not None:
                await self._take(batch, waiting)
                backoff.reset()
                if isinstance(batch, Notice) and batch.kind is NoticeKind.ENDED:
                    break
            while waiting:
                await self._acknowledge(waiting)
        finally:
            # What is on its way gets there, or fails, before anyone asks where the journal ends.
            on_the_way = [asyncio.wrap_future(one.future) for one in waiting]
            await asyncio.gather(*on_the_way, return_exceptions=True)

    async def _next(self, batches: AsyncIterator[Batch], waiting: deque[_InFlight]) -> Batch | None:
        """The next batch, None after the last; what is committed meanwhile is acknowledged.

        Some peers send no more before they hear that what they sent is safe.
        """
        coming = asyncio.ensure_future(anext(batches, None))
        try:
            while waiting and not coming.done():
                stored = asyncio.wrap_future(waiting[0].future)
                stored.add_done_callback(_seen)
                await asyncio.wait((coming, stored), return_when=asyncio.FIRST_COMPLETED)
                if stored.done():
                    await self._acknowledge(waiting)
            return await coming
        finally:
            coming.cancel()
            await asyncio.wait((coming,))

    async def _take(self, batch: Batch, waiting: deque[_InFlight]) -> None:
        """Send a batch on its way, once there is room, and acknowledge those that arrived."""
        assert not isinstance(batch, Pictures)  # noqa: S101 - pictures have a lane of their own
        while waiting and self._behind.too_far:
            await self._acknowledge(waiting)
        await self._behind.room()
        row = encode(Record(self._clock.now(), batch))
        before = waiting[-1].future if waiting else None
        waiting.append(_InFlight(batch, row, await self._submit(row, before)))
        while len(waiting) >= IN_FLIGHT or (waiting and waiting[0].future.done()):
            await self._acknowledge(waiting)

    async def _submit(self, row: Row, before: Future[int] | None) -> Future[int]:
        """Have a row committed, but never if the one before it was not: nothing may overtake."""

        def append(tx: Transaction) -> int:
            if before is not None and before.done():
                before.result()
            return self._journal.append(tx, row)

        future = await submitted(self._writer, append, size=len(row.body))
        self._behind.add(future, len(row.body))
        return future

    async def _acknowledge(self, waiting: deque[_InFlight]) -> None:
        """Wait until the first is committed, then tell; while the disk takes nothing, try again."""
        backoff = Backoff()
        while True:
            first = waiting[0]
            try:
                await asyncio.wrap_future(first.future)
                break
            except StorageError as error:
                self._turn(SourceState.WAITING, str(error))
                await asyncio.sleep(backoff.next_s())
            before = None
            for one in waiting:  # none of them was committed after the first was not
                one.future = before = await self._submit(one.row, before)
        self._turn(SourceState.RUNNING)
        waiting.popleft()
        self._committed()
        self._note(first)
        if first.batch.position is not None:
            await self.source.accepted(first.batch.position)

    def _note(self, one: _InFlight) -> None:
        """When the source was last heard."""
        if isinstance(one.batch, Samples | Waveforms):
            self.sampled = self.heard = one.row.received
            if self.silent:
                self.silent -= set(np.unique(one.batch.tag[usable(one.batch.status)]).tolist())
        elif isinstance(one.batch, Notice) and one.batch.kind is NoticeKind.ALIVE:
            self.heard = one.row.received
        elif isinstance(one.batch, Notice) and one.batch.kind is NoticeKind.GAP:
            self._tell_gap(one.batch)

    def _tell_gap(self, gap: Notice) -> None:
        assert gap.since is not None and gap.until is not None  # noqa: S101, PT018 - Notice checks
        logger.error(
            "Source %s: a gap of %.1f s, up to %s: %s.",
            self.source.name,
            (gap.until - gap.since) / 1e9,
            datetime.fromtimestamp(gap.until / 1e9, UTC).isoformat(timespec="milliseconds"),
            gap.reason,
        )

    def _position(self) -> str | None:
        return self._journal.positions().get(self.source.name)

    def _turn(self, state: SourceState, reason: str = "") -> None:
        """Change the state; say so once, not at every attempt."""
        before, self.state, self.reason = self.state, state, reason
        if state is SourceState.REFUSED:
            logger.error("Source %s is given up: %s", self.source.name, reason)
        elif reason:
            if self._reasons.is_new(reason):
                logger.warning("Source %s waits, and is tried again: %s", self.source.name, reason)
        elif state is not before:
            self._reasons.over()
            logger.info("Source %s is %s.", self.source.name, state)

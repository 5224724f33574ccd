"""From the outbox to the sinks, in order, until they have everything.

One task a sink, in the event loop; sinks may come and go. A sink that is away is tried for days,
with patience, and so is one with a bug; what it refuses for good is put aside with its reason, so
that one bad item never blocks the others.
"""

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence

from connectors.contract import ConnectorError, NotReadyError, RefusedError, Sink
from connectors.points import Message, Outgoing
from monitor.live.backoff import Backoff
from monitor.live.calls import Calls, FaultyError, bugs_named
from monitor.live.clock import Clock
from monitor.live.reasons import Reasons
from monitor.live.threads import cancelled, committed, in_thread
from monitor.state.database import Transaction
from monitor.state.errors import CorruptError, StorageError
from monitor.state.outbox import Backlog, Outbox
from monitor.state.writer import Writer

logger = logging.getLogger(__name__)

ITEMS, BYTES = 500, 1 << 20  # of one delivery
LONGEST_S = 30.0  # between two attempts: a sink has everything within a minute of its return
REFUSED_S = 300.0  # the same, where it refuses us: only a person mends that


class Delivery:
    """Delivers to one sink until it is cancelled."""

    def __init__(self, sink: Sink, *, outbox: Outbox, writer: Writer, clock: Clock) -> None:
        self.sink = sink
        self.idle = asyncio.Event()  # nothing waits for the sink
        self.reason = ""  # why nothing gets on, if so: it is away, or our own disk is full
        self.lag_s: float | None = None  # from the last message it got to its delivery
        self._outbox, self._writer, self._clock = outbox, writer, clock
        self._calls = Calls(sink.name, stop=asyncio.Event(), what="sink")
        self._refused = 0  # items refused for good since it last took a whole delivery
        self._reasons = Reasons()
        self._news = asyncio.Event()

    def wake(self) -> None:
        """There may be something new in the outbox."""
        self.idle.clear()
        self._news.set()

    @property
    def backlog(self) -> Backlog:
        """What the sink has not got. Reads the database."""
        return self._outbox.backlog(self.sink.name)

    async def run(self) -> None:
        """Open the sink and hand over what waits; begin again whenever it fails."""
        backoff = Backoff(longest_s=LONGEST_S)
        try:
            while True:
                try:
                    with bugs_named(self.sink.name, what="sink"):
                        await self.sink.open()
                    while True:
                        await self._drain(backoff)
                        await self._news.wait()
                except NotReadyError as error:
                    self._say(str(error))
                    pause_s = backoff.next_s(error.retry_after_s)
                except StorageError as error:  # ours: the sink has taken it
                    self._say(f"what it took cannot be noted, and will be sent again: {error}")
                    pause_s = backoff.next_s()
                except RefusedError as error:  # at the door: nothing can be delivered as configured
                    self._say(str(error))
                    pause_s = REFUSED_S
                except ConnectorError as error:  # lost, or a bug of its own
                    cause = error.__cause__ if isinstance(error, FaultyError) else None
                    self._say(str(error), cause=cause)
                    pause_s = backoff.next_s()
                finally:
                    await self._calls.closing(
                        self.sink
                    )  # before the pause: no connection is held meanwhile
                await asyncio.sleep(pause_s)
        finally:
            self.idle.set()

    async def _drain(self, backoff: Backoff) -> None:
        """Deliver until nothing waits."""
        while True:
            self._news.clear()
            try:
                waiting = await in_thread(self._pending)
            except CorruptError as error:
                if error.number is None:
                    raise
                await self._settle(None, {error.number: str(error)})
                continue
            if not waiting:
                if not self._news.is_set():  # else something came while we looked
                    self.idle.set()
                return
            numbers, items = zip(*waiting, strict=True)
            refused = await self._deliver(items)
            await self._settle(numbers[-1], {numbers[i]: why for i, why in refused.items()})
            for index, item in enumerate(items):
                if isinstance(item, Message) and index not in refused:
                    self.lag_s = max(0.0, (self._clock.now() - item.time) / 1e9)
            self._say("")
            backoff.reset()

    def _pending(self) -> list[tuple[int, Outgoing]]:
        return self._outbox.pending(self.sink.name, limit_items=ITEMS, limit_bytes=BYTES)

    async def _deliver(self, items: Sequence[Outgoing]) -> dict[int, str]:
        """Hand items over; the indices of those that were refused for good, with the reason.

        A sink that refuses a whole delivery without saying which items is asked again with halves
        of it.
        """
        try:
            with bugs_named(self.sink.name, what="sink"):
                await self.sink.deliver(items)
        except RefusedError as error:
            if error.items:
                return dict.fromkeys(error.items, str(error))
            if len(items) == 1:
                return {0: str(error)}
            half = len(items) // 2
            refused = await self._deliver(items[:half])
            later = await self._deliver(items[half:])
            return refused | {half + index: why for index, why in later.items()}
        return {}

    async def _settle(self, number: int | None, refused: dict[int, str]) -> None:
        """Put aside what was refused and move the cursor to ``number``, in one transaction."""

        def work(tx: Transaction) -> None:
            for item, why in refused.items():
                self._outbox.dead_letter(tx, self.sink.name, item, why)
            if number is not None:
                self._outbox.advance(tx, self.sink.name, number)

        await committed(self._writer, work)
        self._say_refused(refused)

    def _say_refused(self, refused: Mapping[int, str]) -> None:
        """Log that items are refused for good when that begins, with the first; and its end."""
        if refused and not self._refused:
            item, why = next(iter(refused.items()))
            logger.error("Sink %s refuses items for good, as %d: %s", self.sink.name, item, why)
        elif self._refused and not refused:
            logger.info(
                "Sink %s takes every item again; %d were put aside.", self.sink.name, self._refused
            )
        self._refused = self._refused + len(refused) if refused else 0

    def _say(self, reason: str, *, cause: BaseException | None = None) -> None:
        """Log a change, not a repetition."""
        before, self.reason = self.reason, reason
        if reason:
            if self._reasons.is_new(reason):
                level = logging.WARNING if cause is None else logging.ERROR
                logger.log(level, "Sink %s is held up: %s", self.sink.name, reason, exc_info=cause)
        elif before:
            self._reasons.over()
            logger.info("Deliveries to sink %s go on.", self.sink.name)


class Deliveries:
    """The deliveries to all sinks; begun and ended in the event loop only."""

    def __init__(self, *, outbox: Outbox, writer: Writer, clock: Clock) -> None:
        self._outbox, self._writer, self._clock = outbox, writer, clock
        self._running: dict[str, tuple[Delivery, asyncio.Task[None]]] = {}
        self._ended = asyncio.Event()  # some task was

    def __iter__(self) -> Iterator[Delivery]:
        """Those there are."""
        return iter([delivery for delivery, _ in tuple(self._running.values())])  # any thread asks

    def start(self, sink: Sink) -> None:
        """Deliver to one more, which must be registered with the outbox."""
        assert sink.name not in self._running  # noqa: S101 - stop() the one before
        delivery = Delivery(sink, outbox=self._outbox, writer=self._writer, clock=self._clock)
        task = asyncio.create_task(delivery.run(), name=f"sink {sink.name}")
        task.add_done_callback(lambda _: self._ended.set())
        self._running[sink.name] = delivery, task

    async def stop(self, name: str) -> None:
        """Deliver to it no more; it is closed. What waits for it stays in the outbox."""
        if name in self._running:
            _, task = self._running.pop(name)
            await cancelled(task)

    async def fail(self) -> None:
        """Wait until one has failed, and raise its error: a bug of ours, not an outage."""
        while True:
            await self._ended.wait()
            self._ended.clear()
            for _, task in self._running.values():
                if task.done():
                    task.result()

    def wake(self) -> None:
        """There may be something new in the outbox."""
        for delivery in self:
            delivery.wake()

    async def wait(self, longest_s: float) -> bool:
        """Give the sinks a moment for what waits for them; whether they took it."""
        try:
            owing = await in_thread(lambda: [one for one in self if one.backlog.items])
            async with asyncio.timeout(longest_s):
                await asyncio.gather(*(one.idle.wait() for one in owing))
        except (TimeoutError, StorageError):  # too long; nobody knows
            return False
        return True

    async def close(self) -> None:
        """Stop them all; they stay here, to be asked how they stand."""
        await cancelled(*(task for _, task in self._running.values()))

"""The running service: sources into the journal, the step, and results out of the outbox.

The thin shell around the step. It owns the threads and the time: the event loop with the sources
and sinks, the journal's writer, and the step, one thread each, so that a slow step never starves a
connection.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from connectors.contract import Sink, Source
from models.bundle import Bundle
from monitor.core.pipeline import Pipeline
from monitor.core.plan import Plan
from monitor.core.records import Beat, Body, Epoch, Record
from monitor.live.clock import Clock
from monitor.live.delivery import Delivery
from monitor.live.intake import Behind, Intake, SourceState
from monitor.live.stepper import Stepper
from monitor.live.tidying import Retention
from monitor.state.database import Database, Transaction
from monitor.state.errors import StorageFullError
from monitor.state.journal import Journal, encode
from monitor.state.outbox import Outbox
from monitor.state.writer import Writer

logger = logging.getLogger(__name__)

BEAT_S = 1.0
FAREWELL_S = 10.0  # how long the sinks may take to get the rest before the service goes


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a run ended. ``refused`` names the sources that were given up, with their words."""

    refused: Mapping[str, str]
    mismatched: frozenset[str]  # of them, those that are not what the configuration says
    undelivered: Mapping[str, int]  # items that wait for each sink; they stay for the next run


class Service:
    """One run over one database. ``run`` returns when every source ended, or after ``stop``."""

    def __init__(
        self,
        database: Database,
        plan: Plan,
        bundles: Mapping[str, Bundle],
        *,
        config_hash: str,
        sources: Sequence[Source],
        sinks: Sequence[Sink],
        clock: Clock,
        retention: Retention,
    ) -> None:
        self._database, self._clock = database, clock
        self._sources, self._sinks = sources, sinks
        self._journal, self._outbox = Journal(database), Outbox(database)
        self._epoch = Epoch(
            config=config_hash, bundles={kind: bundle.hash for kind, bundle in bundles.items()}
        )
        self._writer = Writer(database)
        self._deliveries: list[Delivery] = []
        self._intakes: list[Intake] = []
        self._stop = asyncio.Event()
        self.stepper = Stepper(
            database,
            self._writer,
            Pipeline(plan, bundles),
            epoch=self._epoch,
            site=plan.site,
            clock=clock,
            retention=retention,
            announce=self._announce,
            troubles=self._troubles,
        )
        self._loop: asyncio.AbstractEventLoop | None = None

    def stop(self) -> None:
        """Take nothing more in, finish what is in the journal, and end. In the event loop only."""
        self._stop.set()

    async def run(self, watch: Callable[[Stepper], None] | None = None) -> Ended:
        """Run until every source ended or was refused, or until ``stop``.

        ``watch`` is called about ten times a second to show how far it is. Raises what the step
        raised.
        """
        self._loop = asyncio.get_running_loop()
        accepts = {sink.name: sink.accepts for sink in self._sinks}
        try:
            await self._commit(lambda tx: self._outbox.register(tx, accepts))
            await self._record(self._epoch)
            await asyncio.to_thread(self.stepper.start)
            return await self._serve(watch)
        finally:
            await asyncio.to_thread(self.stepper.stop)
            await asyncio.to_thread(self._writer.close)

    async def _serve(self, watch: Callable[[Stepper], None] | None) -> Ended:
        behind = Behind(lambda: self.stepper.at)
        self._intakes = intakes = [
            Intake(
                source,
                journal=self._journal,
                writer=self._writer,
                clock=self._clock,
                behind=behind,
                committed=self.stepper.wake,
            )
            for source in self._sources
        ]
        self._deliveries = [
            Delivery(sink, outbox=self._outbox, writer=self._writer) for sink in self._sinks
        ]
        reading = [
            asyncio.create_task(intake.run(), name=f"source {intake.source.name}")
            for intake in intakes
        ]
        delivering = [
            asyncio.create_task(delivery.run(), name=f"sink {delivery.sink.name}")
            for delivery in self._deliveries
        ]
        beating = asyncio.create_task(self._beat(watch), name="beat")
        try:
            stopping = asyncio.create_task(self._stop.wait(), name="stop")
            everything = asyncio.create_task(_all(reading), name="sources")
            ending: list[asyncio.Task[Any]] = [stopping, beating, everything, *delivering]
            done, _ = await asyncio.wait(ending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                await task  # a bug in a source or a sink is a bug, not an outage
            everything.cancel()
            stopping.cancel()
            await _cancelled(*reading)
            await asyncio.to_thread(self.stepper.stop)
            self._announce_here()
            if self.stepper.failed is None:
                with contextlib.suppress(StorageFullError):  # the one before stays
                    await self._commit(self.stepper.write_status)
                await self._farewell()
        finally:
            await _cancelled(beating, *reading, *delivering)
        if self.stepper.failed is not None:
            raise self.stepper.failed
        return Ended(
            refused={
                intake.source.name: intake.reason
                for intake in intakes
                if intake.state is SourceState.REFUSED
            },
            mismatched=frozenset(intake.source.name for intake in intakes if intake.mismatch),
            undelivered={
                delivery.sink.name: self._outbox.backlog(delivery.sink.name).items
                for delivery in self._deliveries
            },
        )

    def _troubles(self) -> dict[str, dict[str, str]]:
        """The sources that wait or were given up for a reason; called from the step's thread."""
        return {
            intake.source.name: {"state": str(intake.state), "reason": intake.reason}
            for intake in self._intakes
            if intake.reason
        }

    async def _farewell(self) -> None:
        """Give the sinks a moment for the rest; what they do not take stays in the outbox."""
        waits = [
            delivery.idle.wait()
            for delivery in self._deliveries
            if self._outbox.backlog(delivery.sink.name).items
        ]
        try:
            await asyncio.wait_for(asyncio.gather(*waits), FAREWELL_S)
        except TimeoutError:
            logger.warning("Not everything was delivered; the rest goes out with the next run.")

    async def _beat(self, watch: Callable[[Stepper], None] | None) -> None:
        """Let time pass in the journal; ends when the step has."""
        parts = 10  # a watcher wants to see more than a beat a second
        full = False  # the disk: said once, not with each beat
        while self.stepper.alive:
            for _ in range(parts):
                await asyncio.sleep(BEAT_S / parts)
                if watch is not None:
                    watch(self.stepper)
            try:
                await self._record(Beat())
                full = False
            except StorageFullError as error:
                if not full:
                    logger.error("Time stands still: %s", error)  # noqa: TRY400 - said in full
                full = True

    async def _record(self, body: Body) -> None:
        row = encode(Record(self._clock.now(), body))
        await self._commit(lambda tx: self._journal.append(tx, row))
        self.stepper.wake()

    async def _commit(self, work: Callable[[Transaction], object]) -> None:
        await asyncio.wrap_future(self._writer.submit(work, size=1024, wait_s=None))

    def _announce(self) -> None:
        """From the step's thread: there is something to deliver."""
        assert self._loop is not None  # noqa: S101 - the step starts after the loop is known
        self._loop.call_soon_threadsafe(self._announce_here)

    def _announce_here(self) -> None:
        for delivery in self._deliveries:
            delivery.wake()


async def _all(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Wait for all tasks, or for the first that fails."""
    await asyncio.gather(*tasks)


async def _cancelled(*tasks: asyncio.Task[None]) -> None:
    """Cancel tasks and wait until they have let go of everything."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

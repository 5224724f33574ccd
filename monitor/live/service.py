"""The running service: sources into the journal, the step, and results out of the outbox.

The thin shell around the step. It owns the threads and the time: the event loop with the sources
and sinks, the journal's writer, and the step, one thread each, so that a slow step never starves a
connection.
"""

import asyncio
import contextlib
import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, TypeVar

from monitor.core.conservation import Conservation
from monitor.core.records import Beat, Body, Cause, Record
from monitor.live.clock import Clock
from monitor.live.commands import Commands
from monitor.live.control import Control
from monitor.live.delivery import Delivery
from monitor.live.health import judge
from monitor.live.intake import Behind, Intake, SourceState
from monitor.live.points import health_points
from monitor.live.setup import Setup
from monitor.live.standing import ServiceStanding, SinkStanding, SourceStanding
from monitor.live.stepper import Stepper
from monitor.live.threads import in_thread, submitted
from monitor.state.database import Database, Transaction
from monitor.state.errors import StorageFullError
from monitor.state.journal import Journal, encode
from monitor.state.outbox import Outbox
from monitor.state.store import Store
from monitor.state.writer import Writer

logger = logging.getLogger(__name__)

T = TypeVar("T")

BEAT_S = 1.0
HEALTH_S = 10.0  # how often databases are told how the service stands
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
        setup: Setup,
        *,
        clock: Clock,
    ) -> None:
        self._database, self._clock = database, clock
        self._journal, self._outbox = Journal(database), Outbox(database)
        self._store = Store(database)
        self._writer = Writer(database)
        self._intakes: list[Intake] = []
        self._deliveries: list[Delivery] = []
        self._started = clock.now()
        self._trouble = ""  # why nothing goes into the journal
        self._stop = asyncio.Event()
        self._works = setup.works(Cause.START)
        self._adopt(setup)
        self.stepper = Stepper(
            database,
            self._writer,
            self._works,
            site=setup.plan.site,
            clock=clock,
            announce=self._announce,
            troubles=self._troubles,
        )
        self._commands = Commands(
            database,
            record=self._record,
            stepper=self.stepper,
            clock=clock,
            shelve_hours=lambda: self._setup.shelve_hours,
        )
        self._control = Control(
            database.folder, {"status": self._status, "command": self._commands.do}
        )
        self._loop: asyncio.AbstractEventLoop | None = None

    def _adopt(self, setup: Setup) -> None:
        self._setup = setup
        self._tags, self._expected_s = setup.tags(), setup.expected_s()

    def stop(self) -> None:
        """Take nothing more in, finish what is in the journal, and end. In the event loop only."""
        self._stop.set()

    async def run(self) -> Ended:
        """Run until every source ended or was refused, or until ``stop``.

        Raises what the step raised.
        """
        self._loop = asyncio.get_running_loop()
        try:
            await self._commit(lambda tx: self._outbox.register(tx, self._setup.accepts))
            await self._record(self._works.epoch)
            await asyncio.to_thread(self.stepper.start)
            await self._listen()
            return await self._serve()
        finally:
            await self._control.close()
            await asyncio.to_thread(self.stepper.stop)
            await asyncio.to_thread(self._writer.close)

    async def _listen(self) -> None:
        """Take commands; where that is not possible, watching goes on without."""
        try:
            await self._control.open()
        except OSError as error:
            logger.warning("No command can reach this service: %s.", error)

    async def _serve(self) -> Ended:
        behind = Behind(lambda: self.stepper.at)
        self._intakes = [
            Intake(
                made.source,
                journal=self._journal,
                writer=self._writer,
                clock=self._clock,
                behind=behind,
                committed=self.stepper.wake,
                tags=self._tags[name],
            )
            for name, made in self._setup.sources.items()
        ]
        self._deliveries = [
            Delivery(made.sink, outbox=self._outbox, writer=self._writer, clock=self._clock)
            for made in self._setup.sinks.values()
        ]
        reading = [
            asyncio.create_task(intake.run(), name=f"source {intake.source.name}")
            for intake in self._intakes
        ]
        delivering = [
            asyncio.create_task(delivery.run(), name=f"sink {delivery.sink.name}")
            for delivery in self._deliveries
        ]
        beating = asyncio.create_task(self._beat(), name="beat")
        telling = asyncio.create_task(self._tell_health(), name="health")
        try:
            stopping = asyncio.create_task(self._stop.wait(), name="stop")
            everything = asyncio.create_task(_all(reading), name="sources")
            ending: list[asyncio.Task[Any]] = [stopping, beating, telling, everything, *delivering]
            done, _ = await asyncio.wait(ending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                await task  # a bug in a source or a sink is a bug, not an outage
            everything.cancel()
            self.stop()
            await _cancelled(beating, *reading)
            await telling  # what it has begun is delivered with the rest
            with contextlib.suppress(StorageFullError):  # then there is nothing on its way
                await self._commit(lambda _: None)  # behind all records that are: none comes later
            await asyncio.to_thread(self.stepper.stop)
            self._announce_here()
            if self.stepper.failed is None:
                with contextlib.suppress(StorageFullError):  # the one before stays
                    await self._commit(self.stepper.write_status)
                await self._farewell()
        finally:
            await _cancelled(beating, telling, *reading, *delivering)
        if self.stepper.failed is not None:
            raise self.stepper.failed
        return Ended(
            refused={
                intake.source.name: intake.reason
                for intake in self._intakes
                if intake.state is SourceState.REFUSED
            },
            mismatched=frozenset(intake.source.name for intake in self._intakes if intake.mismatch),
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

    async def _beat(self) -> None:
        """Let time pass in the journal; ends when the step has."""
        while self.stepper.alive:
            await asyncio.sleep(BEAT_S)
            try:
                await self._record(Beat())
                self._trouble = ""
            except StorageFullError as error:
                if not self._trouble:  # said once, not with each beat
                    logger.error("Time stands still: %s", error)  # noqa: TRY400 - said in full
                self._trouble = str(error)

    async def _tell_health(self) -> None:
        """Tell databases, if there are any, each ten seconds how it stands; until it stops."""
        while not await _within(HEALTH_S, self._stop):
            if not self._setup.wants_points:
                continue
            standing = await self.standing()
            points = health_points(
                standing, site=self._setup.plan.site, ready=judge(standing).ready
            )
            try:
                await self._commit(partial(self._outbox.put, items=points))
                self._announce_here()
            except StorageFullError:
                pass  # the beat says so

    async def standing(self) -> ServiceStanding:
        """How it stands now."""
        now = self._clock.now()
        counts = self.stepper.shown.get("conservation", {})
        sources = {
            intake.source.name: SourceStanding(
                state=intake.state,
                reason=intake.reason,
                sample_age_s=_age_s(now, intake.sampled),
                heard_age_s=_age_s(now, intake.heard),
                expected_s=self._expected_s[intake.source.name],
                counts=Conservation.from_json(counts.get(intake.source.name, {})),
                silent=tuple(
                    name
                    for number, name in self._tags[intake.source.name].items()
                    if number in intake.silent
                ),
                peer={
                    name: value
                    for name, value in intake.source.status().items()
                    if isinstance(value, str) or math.isfinite(value)
                },
            )
            for intake in self._intakes
        }
        return await in_thread(partial(self._standing, now, sources))

    def _standing(self, now: int, sources: Mapping[str, SourceStanding]) -> ServiceStanding:
        """The part that reads the database: in a thread of its own."""
        letters = self._outbox.dead_letter_counts()
        sinks = {}
        for delivery in self._deliveries:
            backlog = self._outbox.backlog(delivery.sink.name)
            sinks[delivery.sink.name] = SinkStanding(
                reason=delivery.reason,
                items=backlog.items,
                bytes=backlog.bytes,
                oldest_age_s=_age_s(now, backlog.oldest),
                dropped=backlog.dropped,
                dead_letters=letters.get(delivery.sink.name, 0),
                lag_s=delivery.lag_s,
            )
        shown, done = self.stepper.shown, self.stepper.done
        return ServiceStanding(
            now=now,
            started=self._started,
            config=self._setup.config,
            stopping=self._stop.is_set(),
            stepping=self.stepper.alive,
            failed=self.stepper.failed is not None,
            record=done,
            behind_s=_age_s(now, self._journal.received(done)) or 0.0,
            journal_trouble=self._trouble,
            journal_bytes=self._database.bytes(),
            frames=shown.get("frames", {}),
            latency=self.stepper.latency,
            end_to_end=self.stepper.end_to_end,
            gpu=self._setup.gpu,
            writer_errors=self._writer.counters().failed,
            latency_ms=shown.get("score_latency_ms", {"p50": None, "p99": None}),
            alarms_open={str(name): n for name, n in self._store.alarms_open().items()},
            data_age_s={kind: (now - end) / 1e9 for kind, end in self._setup.data_ends.items()},
            sources=sources,
            sinks=sinks,
        )

    async def _status(self, _request: Mapping[str, Any]) -> dict[str, Any]:
        """For the control socket: how it stands, whether it is ready, and who it is."""
        standing = await self.standing()
        return {"pid": os.getpid(), "not_ready": judge(standing).reasons, **asdict(standing)}

    async def _record(self, body: Body) -> int:
        row = encode(Record(self._clock.now(), body))
        number = await self._commit(lambda tx: self._journal.append(tx, row))
        self.stepper.wake()
        return number

    async def _commit(self, work: Callable[[Transaction], T]) -> T:
        return await asyncio.wrap_future(await submitted(self._writer, work, size=1024))

    def _announce(self) -> None:
        """From the step's thread: there is something to deliver."""
        assert self._loop is not None  # noqa: S101 - the step starts after the loop is known
        self._loop.call_soon_threadsafe(self._announce_here)

    def _announce_here(self) -> None:
        for delivery in self._deliveries:
            delivery.wake()


def _age_s(now: int, moment: int | None) -> float | None:
    return None if moment is None else (now - moment) / 1e9


async def _all(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Wait for all tasks, or for the first that fails."""
    await asyncio.gather(*tasks)


async def _within(longest_s: float, event: asyncio.Event) -> bool:
    """Whether it happens in time."""
    try:
        await asyncio.wait_for(event.wait(), longest_s)
    except TimeoutError:
        return False
    return True


async def _cancelled(*tasks: asyncio.Task[None]) -> None:
    """Cancel tasks and wait until they have let go of everything."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

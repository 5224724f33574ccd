"""The running service: sources into the journal, the step, and results out of the outbox.

The thin shell around the step. It owns the threads and the time: the event loop with the sources
and sinks, the journal's writer, the step, and the inspection of pictures, one thread each, so that
nothing slow ever starves a connection.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, TypeVar

from monitor.core.conservation import Conservation
from monitor.core.records import Beat, Body, Cause, Record
from monitor.live.budget import spent
from monitor.live.clock import Clock
from monitor.live.commands import Commands
from monitor.live.control import Control
from monitor.live.delivery import Deliveries
from monitor.live.health import judge
from monitor.live.inspecting import Inspecting
from monitor.live.intake import Behind, Desk, PictureDesk
from monitor.live.points import health_points
from monitor.live.reload import Look, Reloading
from monitor.live.setup import Setup
from monitor.live.standing import (
    ServiceStanding,
    SinkStanding,
    SourceStanding,
    SourceState,
)
from monitor.live.stepper import Stepper, Works
from monitor.live.supervisor import Assignment, Supervisor
from monitor.live.threads import cancelled, committed, in_thread
from monitor.live.tidying import DAY, MEGABYTE
from monitor.state.database import Database, Transaction
from monitor.state.errors import StorageError
from monitor.state.journal import Journal, encode
from monitor.state.outbox import Outbox
from monitor.state.pictures import PictureStore
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
        look: Look | None = None,
    ) -> None:
        """``look`` reads what is configured, when a reload is asked for; None: it is refused.

        Raises ValueError for a model without a threshold where none is set.
        """
        self._database, self._clock = database, clock
        self._journal, self._outbox = Journal(database), Outbox(database)
        self._store = Store(database)
        self._writer = Writer(database)
        self._started = clock.now()
        self._trouble = ""  # why nothing goes into the journal
        self._stop = asyncio.Event()
        self.setup, self.works = setup, setup.works(Cause.START)
        self.stepper = Stepper(
            database,
            self._writer,
            self.works,
            site=setup.plan.site,
            clock=clock,
            announce=self._announce,
            troubles=self._troubles,
        )
        self._pictures = PictureStore(database)
        self.inspecting = Inspecting(
            database,
            self._writer,
            cameras=lambda: self.setup.cameras,
            clock=clock,
            journaled=self.stepper.wake,
        )
        self._desk = Desk(
            journal=self._journal,
            writer=self._writer,
            clock=clock,
            behind=Behind(lambda: self.stepper.at),
            committed=self.stepper.wake,
            pictures=PictureDesk(
                store=self._pictures,
                bound=lambda: self.setup.retention.pictures_waiting_mb * MEGABYTE,
                taken=self.inspecting.wake,
            ),
        )
        self._sources_changed = asyncio.Event()
        self.supervisors = {
            name: self.supervisor(source.assignment) for name, source in setup.sources.items()
        }
        self.deliveries = Deliveries(outbox=self._outbox, writer=self._writer, clock=clock)
        self._commands = Commands(
            database,
            record=self.record,
            stepper=self.stepper,
            clock=clock,
            shelve_hours=lambda: self.setup.shelve_hours,
        )
        self.reloading = Reloading(self, look, clock=clock, started=self._started)
        self._control = Control(
            database.folder,
            {
                "status": self._status,
                "command": self._commands.do,
                "reload": self.reloading.do,
            },
        )
        self._loop: asyncio.AbstractEventLoop | None = None

    def stop(self) -> None:
        """Take nothing more in, finish what is in the journal, and end. In the event loop only."""
        self._stop.set()

    def supervisor(self, assignment: Assignment) -> Supervisor:
        """A supervisor at this service's desk; not started, and not among ``supervisors`` yet.

        Raises what ``assignment.make`` raises.
        """
        return Supervisor(assignment, desk=self._desk, changed=self._sources_changed.set)

    def watch(self, supervisor: Supervisor) -> None:
        """One source more, from now on, while the service runs."""
        assert supervisor.name not in self.supervisors  # noqa: S101 - replace() is for that
        self.supervisors[supervisor.name] = supervisor
        supervisor.start()

    async def unwatch(self, name: str) -> None:
        """One source less: it is closed, and forgotten here.

        The service ends when all that are left have ended: add what is new before.
        """
        await self.supervisors[name].stop()
        del self.supervisors[name]
        self._sources_changed.set()

    async def put_in_force(self, setup: Setup, works: Works) -> None:
        """Let the step work with this from an Epoch on; sources and sinks are not touched.

        Sinks that are new get what comes from then on. Raises StorageError where the Epoch
        could not be written: nothing has changed then; and what keeps the step from going on with
        it: it goes on as it did.
        """
        accepts = {**self.setup.accepts, **setup.accepts}
        row = encode(Record(self._clock.now(), works.epoch))

        def begin(tx: Transaction) -> int:
            self._outbox.register(tx, accepts)
            return self._journal.append(tx, row)

        taken = self.stepper.take(works, after=await in_thread(self._journal.last))
        try:
            await self.commit(begin)
        except BaseException:
            taken.cancel()
            raise
        self.stepper.wake()
        await asyncio.wrap_future(taken)
        self.setup, self.works = setup, works

    async def register_sinks(self) -> None:
        """Only those that are configured are sinks: others are forgotten with what they lacked."""
        await self.commit(lambda tx: self._outbox.register(tx, self.setup.accepts))

    async def run(self) -> Ended:
        """Run until every source ended or was refused, or until ``stop``.

        Raises what the step raised.
        """
        self._loop = asyncio.get_running_loop()
        try:
            await self.register_sinks()
            await self.record(self.works.epoch)
            await asyncio.to_thread(self.stepper.start)
            oldest = self._clock.now() - round(self.setup.retention.picture_days * DAY)
            await in_thread(partial(self._pictures.sweep, before=oldest / 1e9))
            self.inspecting.start()
            await self._listen()
            return await self._serve()
        finally:
            await self._control.close()
            await asyncio.to_thread(self.inspecting.stop)
            await asyncio.to_thread(self.stepper.stop)
            await asyncio.to_thread(self._writer.close)

    async def _listen(self) -> None:
        """Take commands; where that is not possible, watching goes on without."""
        try:
            await self._control.open()
        except OSError as error:
            logger.warning("No command can reach this service: %s.", error)

    async def _serve(self) -> Ended:
        for supervisor in self.supervisors.values():
            supervisor.start()
        for sink in self.setup.sinks.values():
            self.deliveries.start(sink.sink)
        self.reloading.open()
        beating = asyncio.create_task(self._beat(), name="beat")
        telling = asyncio.create_task(self._tell_health(), name="health")
        try:
            stopping = asyncio.create_task(self._stop.wait(), name="stop")
            everything = asyncio.create_task(self._sources_end(), name="sources")
            failing = asyncio.create_task(self.deliveries.fail(), name="sinks")
            ending: list[asyncio.Task[Any]] = [stopping, beating, telling, everything, failing]
            done, _ = await asyncio.wait(ending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                await task  # a bug of ours is a bug, not an outage
            self.stop()
            await cancelled(everything, failing, beating)
            await self.reloading.close()  # what it has begun to open is stopped with the others
            await self._stop_sources()
            await telling  # what it has begun is delivered with the rest
            await asyncio.to_thread(self.inspecting.stop)
            with contextlib.suppress(StorageError):  # then there is nothing on its way
                await self.commit(lambda _: None)  # behind all records that are: none comes later
            await asyncio.to_thread(self.stepper.stop)
            self.deliveries.wake()
            if self.stepper.failed is None:
                with contextlib.suppress(StorageError):  # the one before stays
                    await self.commit(self.stepper.write_status)
                if not await self.deliveries.wait(FAREWELL_S):
                    logger.warning(
                        "Not everything was delivered; the rest goes out with the next run."
                    )
        finally:
            await cancelled(beating, telling)
            await self.reloading.close()
            await self._stop_sources()
            await self.deliveries.close()
        for failed in (self.stepper.failed, self.inspecting.failed):
            if failed is not None:
                raise failed
        return Ended(
            refused={
                name: one.reason
                for name, one in self.supervisors.items()
                if one.state is SourceState.REFUSED
            },
            mismatched=frozenset(name for name, one in self.supervisors.items() if one.mismatch),
            undelivered={one.sink.name: one.backlog.items for one in self.deliveries},
        )

    async def _sources_end(self) -> None:
        """Wait until every source has ended or was given up. Raises what a supervisor raised."""
        while True:
            self._sources_changed.clear()
            every = tuple(self.supervisors.values())
            for one in every:
                one.raise_failure()
            if every and all(one.over for one in every):
                return
            await self._sources_changed.wait()

    async def _stop_sources(self) -> None:
        """Stop them all, each in its time, whatever becomes of the others."""
        stopping = [one.stop() for one in self.supervisors.values()]
        await asyncio.gather(*stopping, return_exceptions=True)

    def _troubles(self) -> dict[str, dict[str, str]]:
        """The sources that wait or were given up for a reason; called from the step's thread."""
        return {
            name: {"state": str(one.state), "reason": one.reason}
            for name, one in tuple(self.supervisors.items())
            if one.reason
        }

    async def _beat(self) -> None:
        """Let time pass in the journal; ends when the step has, or the inspection has failed."""
        while self.stepper.alive and self.inspecting.failed is None:
            await asyncio.sleep(BEAT_S)
            try:
                await self.record(Beat())
                self._trouble = ""
            except StorageError as error:
                if not self._trouble:  # said once, not with each beat
                    logger.error("Time stands still: %s", error)  # noqa: TRY400 - said in full
                self._trouble = str(error)

    async def _tell_health(self) -> None:
        """Tell databases, if there are any, each ten seconds how it stands; until it stops."""
        while not await _within(HEALTH_S, self._stop):
            if not self.setup.wants_points:
                continue
            try:
                standing = await self.standing()
                points = health_points(
                    standing, site=self.setup.plan.site, ready=judge(standing).ready
                )
                await self.commit(partial(self._outbox.put, items=points))
                self.deliveries.wake()
            except StorageError:
                pass  # the beat says so

    async def standing(self) -> ServiceStanding:
        """How it stands now."""
        now = self._clock.now()
        counts = self.stepper.shown.get("conservation", {})
        gaps = self.stepper.shown.get("gaps", {})
        sources = {
            name: one.standing(
                now, Conservation.from_json(counts.get(name, {})), gaps.get(name, {})
            )
            for name, one in self.supervisors.items()
        }
        return await in_thread(partial(self._standing, now, sources))

    def _standing(self, now: int, sources: Mapping[str, SourceStanding]) -> ServiceStanding:
        """The part that reads the database: in a thread of its own."""
        letters = self._outbox.dead_letter_counts()
        sinks = {}
        for delivery in self.deliveries:
            try:
                backlog = delivery.backlog
            except KeyError:
                continue  # a reload has just taken it out
            sinks[delivery.sink.name] = SinkStanding(
                reason=delivery.reason,
                items=backlog.items,
                bytes=backlog.bytes,
                oldest_age_s=_waited_s(now, backlog.oldest),
                dropped=backlog.dropped,
                dead_letters=letters.get(delivery.sink.name, 0),
                lag_s=delivery.lag_s,
            )
        shown, done = self.stepper.shown, self.stepper.done
        return ServiceStanding(
            now=now,
            started=self._started,
            config=self.setup.config,
            reload=self.reloading.standing,
            stopping=self._stop.is_set(),
            stepping=self.stepper.alive,
            failed=self.stepper.failed is not None,
            record=done,
            behind_s=_waited_s(now, self._journal.received(done)) or 0.0,
            journal_trouble=self._trouble,
            journal_bytes=self._database.bytes(),
            frames=shown.get("frames", {}),
            latency=self.stepper.latency,
            end_to_end=self.stepper.end_to_end,
            gpu=self.setup.gpu,
            writer_errors=self._writer.counters().failed,
            latency_ms=shown.get("score_latency_ms", {"p50": None, "p99": None}),
            inspection=self.inspecting.standing,
            alarms_open={str(name): n for name, n in self._store.alarms_open().items()},
            budget=spent(self._store, self.setup.alarm_budget),
            data_age_s={kind: (now - end) / 1e9 for kind, end in self.setup.data_ends.items()},
            sources=sources,
            sinks=sinks,
        )

    async def _status(self, _request: Mapping[str, Any]) -> dict[str, Any]:
        """For the control socket: how it stands, whether it is ready, and who it is."""
        standing = await self.standing()
        return {"pid": os.getpid(), "not_ready": judge(standing).reasons, **asdict(standing)}

    async def record(self, body: Body) -> int:
        """Have a record in the journal; its number. Raises StorageError."""
        row = encode(Record(self._clock.now(), body))
        number = await self.commit(lambda tx: self._journal.append(tx, row))
        self.stepper.wake()
        return number

    async def commit(self, work: Callable[[Transaction], T]) -> T:
        """Have something small committed; what it gives. Raises what it raised."""
        return await committed(self._writer, work)

    def _announce(self) -> None:
        """From the step's thread: there is something to deliver."""
        assert self._loop is not None  # noqa: S101 - the step starts after the loop is known
        self._loop.call_soon_threadsafe(self.deliveries.wake)


def _waited_s(now: int, moment: int | None) -> float | None:
    """The age of what waits, s: 0 where the clock was put back meanwhile."""
    return None if moment is None else max(0.0, (now - moment) / 1e9)


async def _within(longest_s: float, event: asyncio.Event) -> bool:
    """Whether it happens in time."""
    try:
        await asyncio.wait_for(event.wait(), longest_s)
    except TimeoutError:
        return False
    return True

"""The running service: sources into the journal, the step, and results out of the outbox.

The thin shell around the step. It owns the threads and the time: the event loop with the sources
and sinks, the journal's writer, and the step, one thread each, so that a slow step never starves a
connection.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, TypeVar

from connectors.contract import Sink, Source
from connectors.points import Points
from models.bundle import Bundle
from monitor.core.conservation import Conservation
from monitor.core.pipeline import Pipeline
from monitor.core.plan import Plan
from monitor.core.records import Beat, Body, Epoch, Record
from monitor.live.clock import Clock
from monitor.live.commands import Commands
from monitor.live.control import Control
from monitor.live.delivery import Delivery
from monitor.live.health import judge
from monitor.live.intake import Behind, Desk
from monitor.live.points import PointMaker, health_points
from monitor.live.standing import (
    ServiceStanding,
    SinkStanding,
    SourceStanding,
    SourceState,
)
from monitor.live.stepper import Stepper
from monitor.live.supervisor import Assignment, Supervisor
from monitor.live.threads import in_thread, submitted
from monitor.live.tidying import Retention
from monitor.state.database import Database, Transaction
from monitor.state.errors import StorageError
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
        plan: Plan,
        bundles: Mapping[str, Bundle],
        *,
        config_hash: str,
        sources: Mapping[str, Callable[[], Source]],
        sinks: Sequence[Sink],
        clock: Clock,
        channel_score_s: float,
        shelve_hours: float,
        retention: Retention,
    ) -> None:
        """``sources`` make each source, as often as it is wanted anew; making does no I/O."""
        self._database, self._clock = database, clock
        self._sinks = sinks
        self._journal, self._outbox = Journal(database), Outbox(database)
        self._store = Store(database)
        self._epoch = Epoch(
            config=config_hash, bundles={kind: bundle.hash for kind, bundle in bundles.items()}
        )
        self._site = plan.site
        self._data_ends = {  # ns, by kind: of what its model learnt from
            kind: max(asset.last for asset in bundle.card.data.values())
            for kind, bundle in bundles.items()
        }
        self._gpu = any(bundle.detector.device != "cpu" for bundle in bundles.values())
        self._writer = Writer(database)
        self._deliveries: list[Delivery] = []
        self._started = clock.now()
        self._trouble = ""  # why nothing goes into the journal
        self._stop = asyncio.Event()
        points = None
        self._wants_points = any(Points in sink.accepts for sink in sinks)
        if self._wants_points:
            standing = [(one.asset, one.id) for one in self._store.alarms(active_only=True)]
            points = PointMaker(plan, bundles, channel_s=channel_score_s, standing=standing)
        self.stepper = Stepper(
            database,
            self._writer,
            Pipeline(plan, bundles),
            epoch=self._epoch,
            site=plan.site,
            clock=clock,
            retention=retention,
            points=points,
            announce=self._announce,
            troubles=self._troubles,
        )
        self._desk = Desk(
            journal=self._journal,
            writer=self._writer,
            clock=clock,
            behind=Behind(lambda: self.stepper.at),
            committed=self.stepper.wake,
        )
        self._sources_changed = asyncio.Event()
        self.supervisors = {one.name: self.supervisor(one) for one in assignments(plan, sources)}
        self._commands = Commands(
            database,
            record=self._record,
            stepper=self.stepper,
            clock=clock,
            shelve_hours=shelve_hours,
        )
        self._control = Control(
            database.folder, {"status": self._status, "command": self._commands.do}
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

    async def run(self) -> Ended:
        """Run until every source ended or was refused, or until ``stop``.

        Raises what the step raised.
        """
        self._loop = asyncio.get_running_loop()
        accepts = {sink.name: sink.accepts for sink in self._sinks}
        try:
            await self._commit(lambda tx: self._outbox.register(tx, accepts))
            await self._record(self._epoch)
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
        self._deliveries = [
            Delivery(sink, outbox=self._outbox, writer=self._writer, clock=self._clock)
            for sink in self._sinks
        ]
        for supervisor in self.supervisors.values():
            supervisor.start()
        delivering = [
            asyncio.create_task(delivery.run(), name=f"sink {delivery.sink.name}")
            for delivery in self._deliveries
        ]
        beating = asyncio.create_task(self._beat(), name="beat")
        telling = asyncio.create_task(self._tell_health(), name="health")
        try:
            stopping = asyncio.create_task(self._stop.wait(), name="stop")
            everything = asyncio.create_task(self._sources_end(), name="sources")
            ending: list[asyncio.Task[Any]] = [stopping, beating, telling, everything, *delivering]
            done, _ = await asyncio.wait(ending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                await task  # a bug of ours, or in a sink, is a bug, not an outage
            everything.cancel()
            self.stop()
            await _cancelled(beating)
            await self._stop_sources()
            await telling  # what it has begun is delivered with the rest
            with contextlib.suppress(StorageError):  # then there is nothing on its way
                await self._commit(lambda _: None)  # behind all records that are: none comes later
            await asyncio.to_thread(self.stepper.stop)
            self._announce_here()
            if self.stepper.failed is None:
                with contextlib.suppress(StorageError):  # the one before stays
                    await self._commit(self.stepper.write_status)
                await self._farewell()
        finally:
            await _cancelled(beating, telling, *delivering)
            await self._stop_sources()
        if self.stepper.failed is not None:
            raise self.stepper.failed
        return Ended(
            refused={
                name: one.reason
                for name, one in self.supervisors.items()
                if one.state is SourceState.REFUSED
            },
            mismatched=frozenset(name for name, one in self.supervisors.items() if one.mismatch),
            undelivered={
                delivery.sink.name: self._outbox.backlog(delivery.sink.name).items
                for delivery in self._deliveries
            },
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
            except StorageError as error:
                if not self._trouble:  # said once, not with each beat
                    logger.error("Time stands still: %s", error)  # noqa: TRY400 - said in full
                self._trouble = str(error)

    async def _tell_health(self) -> None:
        """Tell databases, if there are any, each ten seconds how it stands; until it stops."""
        while self._wants_points and not await _within(HEALTH_S, self._stop):
            try:
                standing = await self.standing()
                points = health_points(standing, site=self._site, ready=judge(standing).ready)
                await self._commit(partial(self._outbox.put, items=points))
                self._announce_here()
            except StorageError:
                pass  # the beat says so
        await self._stop.wait()

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
        for delivery in self._deliveries:
            backlog = self._outbox.backlog(delivery.sink.name)
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
            config=self._epoch.config,
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
            gpu=self._gpu,
            writer_errors=self._writer.counters().failed,
            latency_ms=shown.get("score_latency_ms", {"p50": None, "p99": None}),
            alarms_open={str(name): n for name, n in self._store.alarms_open().items()},
            data_age_s={kind: (now - end) / 1e9 for kind, end in self._data_ends.items()},
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


def assignments(plan: Plan, sources: Mapping[str, Callable[[], Source]]) -> list[Assignment]:
    """What each source is to give; it should be heard as often as its most patient kind says."""
    tags: dict[str, dict[int, str]] = {}
    expected_s: dict[str, float] = {}
    for asset in plan.assets:
        idle_s = plan.kinds[asset.kind].idle_s
        for tag, (number, source) in asset.tags.items():
            tags.setdefault(source, {})[number] = f"{asset.name}/{tag}"
            expected_s[source] = max(expected_s.get(source, 0.0), idle_s)
    return [
        Assignment(name=name, make=make, tags=tags[name], expected_s=expected_s[name])
        for name, make in sources.items()
    ]


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


async def _cancelled(*tasks: asyncio.Task[None]) -> None:
    """Cancel tasks and wait until they have let go of everything."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

"""Another configuration for the running service: looked at, made, put in force, or given up.

All that can fail is done before anything is touched: the configuration is read and checked as a
whole, models are loaded, the new step, sources and sinks are made. Then it comes into force in one
place of the journal, its Epoch. Sources and sinks follow, one by one; those that did not change do
not notice. Where that fails, everything goes back, with an Epoch of the old configuration.
docs/decisions/0031-reload.md says what that costs.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from connectors.contract import RefusedError
from monitor.core.records import Cause
from monitor.live.clock import Clock
from monitor.live.setup import Hashes, Setup, SinkSetup, SourceSetup, hashes_of
from monitor.live.standing import ReloadStanding
from monitor.live.stepper import Works
from monitor.live.threads import cancelled, in_thread
from monitor.state.database import Transaction
from monitor.state.errors import StateError

if TYPE_CHECKING:
    from monitor.live.service import Service

logger = logging.getLogger(__name__)

AGAIN_S = 1.0  # between attempts to write that the old configuration is in force again
ANSWER_S = 300.0  # how long a command waits: models are loaded, and the step catches up


class UnfitError(Exception):
    """What is configured cannot come into force, in words; nothing was touched.

    ``again``: trying again may help.
    """

    def __init__(self, message: str, *, again: bool = False) -> None:
        super().__init__(message)
        self.again = again


class Proposal(Protocol):
    """A configuration that is right, and how it differs from the one in force."""

    @property
    def changes(self) -> Sequence[str]:
        """What it would change, a line each; none: nothing."""
        ...

    @property
    def untouched(self) -> int:
        """Of how many assets nothing differs."""
        ...

    def register(self, tx: Transaction) -> None:
        """Give the names that are new their numbers."""
        ...

    def setup(self) -> Setup:
        """What the service is made from. Raises UnfitError.

        Its numbers are those of the database after ``register``, else any: to try it.
        """
        ...

    def accept(self) -> None:
        """It is in force from now on: the next one is compared with it."""
        ...


class Look(Protocol):
    """Reads what is configured now. Takes seconds; raises UnfitError."""

    def __call__(self, *, hashes: Hashes, file: str | None) -> Proposal:
        """``hashes``: of the models and templates in force; ``file``: the one that is meant."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of it. ``error`` says why nothing has changed, if it was to."""

    changes: Sequence[str] = ()
    untouched: int = 0
    error: str = ""
    again: bool = False  # trying it again may help


class Reloading:
    """The reloads of one service, one after the other. For the event loop only."""

    def __init__(
        self, service: "Service", look: Look | None, *, clock: Clock, started: int
    ) -> None:
        """``started``: when what the service begins with came into force, ns since 1970 UTC."""
        self.standing = ReloadStanding(at=started, error="")
        self._service, self._look, self._clock = service, look, clock
        self._sources: dict[str, SourceSetup] = dict(service.setup.sources)  # that are watched
        self._sinks: dict[str, SinkSetup] = dict(service.setup.sinks)  # that are delivered to
        self._one_at_a_time = asyncio.Lock()
        self._tasks: set[asyncio.Task[Answer]] = set()
        self._open = False

    def open(self) -> None:
        """From here on there is something to reload."""
        self._open = True

    def start(self, *, file: str | None = None, dry_run: bool = False) -> "asyncio.Task[Answer]":
        """Begin one, whoever waits for it; the log says what comes of it."""
        task = asyncio.create_task(self._reload(file, dry_run=dry_run), name="reload")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def do(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """For the control socket: ``file``, which must be the one it runs with, and ``dry_run``."""
        file, dry_run = request.get("file"), request.get("dry_run") is True
        task = self.start(file=None if file is None else str(file), dry_run=dry_run)
        answer = await asyncio.shield(task)  # whoever asked may go
        return asdict(answer)

    async def close(self) -> None:
        """Begin none any more, and leave the one that is under way where it is."""
        self._open = False
        await cancelled(*self._tasks)

    async def _reload(self, file: str | None, *, dry_run: bool) -> Answer:
        changes: Sequence[str] = ()
        async with self._one_at_a_time:
            try:
                proposal = await self._read(file)
                changes = proposal.changes
                if changes:
                    setup, works = await self._make(proposal, dry_run=dry_run)
                if changes and not dry_run:
                    await self._take_up(setup, works)
                    proposal.accept()
            except Exception as error:
                if not isinstance(error, UnfitError):
                    logger.exception("A reload has failed.")
                if not dry_run:
                    logger.error("The configuration is not reloaded: %s", error)  # noqa: TRY400 - said in full
                    self.standing = replace(self.standing, error=str(error))
                again = isinstance(error, UnfitError) and error.again
                return Answer(changes=changes, error=str(error), again=again)
            if not dry_run:
                at = self._clock.now() if changes else self.standing.at
                self.standing = ReloadStanding(at=at, error="")
                logger.info("The configuration is reloaded: %s.", "; ".join(changes) or "no change")
            return Answer(changes=changes, untouched=proposal.untouched)

    async def _read(self, file: str | None) -> Proposal:
        """What is configured now. Raises UnfitError."""
        if not self._open:
            raise UnfitError("the service is just starting or stopping", again=True)
        if self._look is None:
            raise UnfitError("the service was not started from a file")
        setup = self._service.setup
        hashes = hashes_of(setup.bundles, setup.cameras.values())
        return await in_thread(partial(self._look, hashes=hashes, file=file))

    async def _make(self, proposal: Proposal, *, dry_run: bool) -> tuple[Setup, Works]:
        """Everything that can fail, before anything is touched. Raises UnfitError."""
        try:
            if not dry_run:
                await self._service.commit(proposal.register)
            setup = await in_thread(proposal.setup)
            return setup, await in_thread(partial(setup.works, Cause.RELOAD))
        except StateError as error:
            raise UnfitError(str(error), again=True) from error
        except ValueError as error:
            raise UnfitError(str(error)) from error

    async def _take_up(self, setup: Setup, works: Works) -> None:
        """Put it in force. Raises UnfitError where it did not work: all is as before.

        Where some source would not follow and there is no way back, it is in force nevertheless.
        """
        service = self._service
        before = service.setup, service.works
        try:
            try:
                await service.put_in_force(setup, works)
            except StateError as error:  # the Epoch is not in the journal
                raise UnfitError(str(error), again=True) from error
            await self._follow(setup)
        except UnfitError:
            raise
        except Exception as error:
            if not isinstance(error, RefusedError):
                logger.exception("The new configuration cannot be put in force.")
            if not await self._go_back(*before):
                return
            raise UnfitError(f"{error}; the configuration before it is in force again") from error

    async def _go_back(self, setup: Setup, works: Works) -> bool:
        """Let the old configuration be in force again, and the journal know it.

        False: the step cannot go back to it. The new one is in force then, for all.
        """
        works = replace(works, epoch=replace(works.epoch, cause=Cause.RELOAD))
        said = False
        while True:
            try:
                if self._service.works.pipeline is works.pipeline:  # the step did not take the new
                    await self._service.record(works.epoch)
                else:
                    await self._service.put_in_force(setup, works)
                break
            except StateError as error:
                if not said:
                    logger.warning("The old configuration is not in force yet: %s", error)
                said = True
                await asyncio.sleep(AGAIN_S)
            except Exception:
                logger.exception("There is no way back to the old configuration.")
                break
        await self._follow(self._service.setup, whatever=True)
        return self._service.setup is setup

    async def _follow(self, setup: Setup, *, whatever: bool = False) -> None:
        """Let sources and sinks be those of a setup that is in force.

        Raises RefusedError where a source will not have its new tags. ``whatever`` happens, it goes
        on with the next, and such a source is opened anew.
        """
        supervisors = self._service.supervisors
        gone = [name for name in supervisors if name not in setup.sources]
        for name in gone:  # before others open: one may be the same under another name
            self._sources.pop(name, None)
            await supervisors[name].stop()
        for name, source in setup.sources.items():
            try:
                await self._watch(name, source)
            except Exception as error:
                if not whatever:
                    raise
                logger.warning("Source %s is opened anew: %s", name, error)
                await supervisors[name].replace(source.assignment)
                self._sources[name] = source
        for name in gone:
            await self._service.unwatch(name)
        await self._deliver(setup.sinks)

    async def _watch(self, name: str, source: SourceSetup) -> None:
        """Let one source be as it is wanted; where it is, it does not notice."""
        supervisor = self._service.supervisors.get(name)
        have = self._sources.pop(name, None)  # until this has worked nobody knows how it stands
        if supervisor is None:
            self._service.watch(self._service.supervisor(source.assignment))
        elif have is None or have.settings != source.settings:
            await supervisor.replace(source.assignment)
        elif set(have.tags) != set(source.tags):
            try:
                await supervisor.retune(source.assignment, source.tags)
            except RefusedError:
                self._sources[name] = have
                raise
        else:
            supervisor.assignment = source.assignment  # it may be expected less often
        self._sources[name] = source

    async def _deliver(self, sinks: Mapping[str, SinkSetup]) -> None:
        """Let these be the sinks; others are forgotten with what they had not got."""
        deliveries = self._service.deliveries
        for name, have in list(self._sinks.items()):
            if name not in sinks or sinks[name].settings != have.settings:
                del self._sinks[name]
                await deliveries.stop(name)
        for name, made in sinks.items():
            if name not in self._sinks:
                deliveries.start(made.sink)
                self._sinks[name] = made
        try:
            await self._service.register_sinks()
        except StateError as error:
            logger.warning("What waits for sinks that are gone is kept for now: %s", error)

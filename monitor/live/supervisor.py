"""The life of one source: opened, watched, closed, opened again, made anew.

What is wanted of it (``desired``) is held against what is seen (``state``), for good. A source is a
connector, and may do anything: raise what it may not, hang in any call, never end. Nothing of that
reaches another source or the service. One link at a time: the one before is closed before the next
opens. See docs/decisions/0027-one-supervisor-a-source.md for the times.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from connectors.batch import Notice, NoticeKind, Pictures, Samples, Waveforms, usable
from connectors.contract import (
    Batch,
    ConnectorError,
    LostError,
    MismatchError,
    NotReadyError,
    RefusedError,
    Retunable,
    Source,
    TagRef,
    Watched,
)
from monitor.core.conservation import Conservation
from monitor.core.records import Record
from monitor.live.backoff import Allowance, Backoff
from monitor.live.calls import Calls, FaultyError, bugs_named
from monitor.live.intake import Desk, Intake
from monitor.live.reasons import Reasons
from monitor.live.standing import (
    Desired,
    PeerStatus,
    SourceStanding,
    SourceState,
    age_s,
    is_fresh,
)
from monitor.live.threads import committed, in_thread
from monitor.live.watchdog import Watchdog
from monitor.state.errors import StateError, StorageError
from monitor.state.journal import encode

logger = logging.getLogger(__name__)

LONGEST_S = 5.0  # between two attempts: data is to flow 10 s after a peer is back
PER_MINUTE, SAVED = 15, 6  # attempts: one each 4 s in the long run, some of them at once
LIVED_S = 60.0  # a link that was open for less has failed as one that never opened
REBUILD_AFTER = 5  # failures in a row: what its client remembers may be what is wrong
OPEN_S = 60.0  # for open(): connectors have times of their own, this one is for hangs
LOOK_S = 3600.0  # how often to look after a source that no watchdog looks after


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """What a supervisor is to watch."""

    name: str
    make: Callable[[], Source]  # a new one each time; no I/O
    tags: Mapping[int, str]  # those that it should give: number -> asset/tag, or camera
    expected_s: float  # it should be heard at least this often


class Supervisor:
    """Keeps one source as it is wanted. ``start`` and ``stop`` are for the event loop only."""

    def __init__(
        self,
        assignment: Assignment,
        *,
        desk: Desk,
        changed: Callable[[], None] = lambda: None,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """``changed`` is called when it is over. Raises what ``assignment.make`` raises."""
        self.restarts = self.rebuilds = self.watchdog = 0
        self._desk, self._changed, self._now, self._sleep = desk, changed, now, sleep
        self._allowance = Allowance(per_minute=PER_MINUTE, saved=SAVED, now=now)
        self._totals: dict[str, float] = {}  # counted by sources that are gone
        self._sampled: int | None = None  # ns, wall time when its last samples were received
        self._heard: int | None = None  # the same, or a word that nothing had changed
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._calls = Calls(assignment.name, stop=self._stop)
        self._take_on(assignment, assignment.make())

    def _take_on(self, assignment: Assignment, source: Source) -> None:
        self.assignment, self.source = assignment, source
        self.desired = Desired.WATCHED
        self.mismatch = False  # refused, for it is not what the configuration says
        self._state, self._reason = SourceState.WAITING, ""
        self._silent = set(assignment.tags)  # gave no usable value yet
        self._calls.hung = False
        self._intake: Intake | None = None  # of the link that is open
        self._dog: Watchdog | None = None  # the same, where it gives signs of life
        self._heard_here = False  # over the link that is open
        self._failures = 0  # in a row
        self._pause_s = 0.0
        self._backoff, self._reasons = Backoff(longest_s=LONGEST_S), Reasons()
        self._quiet = False  # it comes and goes, which was said

    # ---- what others ask for ---------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The source's."""
        return self.assignment.name

    @property
    def state(self) -> SourceState:
        """What is seen of it now."""
        if self._state is not SourceState.RUNNING:
            return self._state
        if self._intake is not None and self._intake.held:
            return SourceState.WAITING
        age = age_s(self._desk.clock.now(), self._heard) if self._heard_here else None
        fresh = is_fresh(age, self.assignment.expected_s)
        return SourceState.RUNNING if fresh else SourceState.SILENT

    @property
    def reason(self) -> str:
        """Why it waits, or was given up."""
        held = self._intake.held if self._intake is not None else ""
        return self._reason or held

    @property
    def over(self) -> bool:
        """Whether it has ended or was given up, and nothing is left to do."""
        done = self._task is not None and self._task.done()
        return done and self._state in (SourceState.ENDED, SourceState.REFUSED)

    def raise_failure(self) -> None:
        """Raise what it ended with, if that was a bug of ours."""
        if self._task is not None and self._task.done():
            self._task.result()

    def standing(self, now: int, counts: Conservation, gaps: Mapping[str, int]) -> SourceStanding:
        """How it stands at ``now``, ns since 1970 UTC; ``counts`` and ``gaps`` are the step's."""
        return SourceStanding(
            desired=self.desired,
            state=self.state,
            reason=self.reason,
            restarts=self.restarts,
            rebuilds=self.rebuilds,
            watchdog=self.watchdog,
            sample_age_s=age_s(now, self._sampled),
            heard_age_s=age_s(now, self._heard),
            expected_s=self.assignment.expected_s,
            counts=counts,
            gaps=gaps,
            silent=tuple(
                name for number, name in self.assignment.tags.items() if number in self._silent
            ),
            peer=self._peer(),
        )

    def start(self) -> None:
        """Watch from now on."""
        assert self._task is None or self._task.done()  # noqa: S101 - one link at a time
        self._stop.clear()
        self._task = asyncio.create_task(self._run(), name=f"source {self.name}")
        self._task.add_done_callback(lambda _: self._changed())

    async def stop(self) -> None:
        """Take nothing more, acknowledge what is in the journal, close. Ends in bounded time.

        Raises what only a bug of ours raises. May be called twice, and before ``start``.
        """
        self.desired = Desired.STOPPED
        self._stop.set()
        if self._task is not None:
            await asyncio.shield(self._task)  # whoever waits may be cancelled: it ends nevertheless

    async def replace(self, assignment: Assignment) -> None:
        """Watch this instead; what was watched before is closed first.

        Raises what ``assignment.make`` raises; nothing has changed then.
        """
        source = assignment.make()
        await self.stop()
        self._keep_totals()
        self._take_on(assignment, source)
        self.start()

    async def retune(self, assignment: Assignment, tags: Sequence[TagRef]) -> None:
        """Watch the same source for other tags: without closing it, where it can do that.

        Raises RefusedError where a tag is none of this source's, and what ``assignment.make``
        raises; nothing has changed then.
        """
        source = self.source
        if self._intake is not None and isinstance(source, Retunable):
            try:
                async with asyncio.timeout(OPEN_S):
                    with bugs_named(self.name):
                        await source.retune(tags)
            except RefusedError:
                raise
            except (ConnectorError, TimeoutError) as error:
                logger.warning("Source %s is opened anew for other tags: %s", self.name, error)
            else:
                if source is self.source:  # else it was made anew meanwhile, for the tags of before
                    self._silent &= set(assignment.tags)
                    self._silent |= set(assignment.tags) - set(self.assignment.tags)
                    self.assignment = assignment
                    return
        await self.replace(assignment)

    # ---- its life --------------------------------------------------------------------------------

    async def _run(self) -> None:
        attempts = 0
        while self.desired is Desired.WATCHED:
            if not await self._rest(max(self._pause_s, self._allowance.take_s())):
                break
            self.restarts += attempts > 0
            attempts += 1
            await self._live()

    async def _rest(self, pause_s: float) -> bool:
        """Wait; False: told to stop meanwhile."""
        if pause_s > 0 and not self._stop.is_set():
            resting = asyncio.ensure_future(self._sleep(pause_s))
            stopping = asyncio.ensure_future(self._stop.wait())
            try:
                await asyncio.wait((resting, stopping), return_when=asyncio.FIRST_COMPLETED)
            finally:
                resting.cancel()
                stopping.cancel()
        return not self._stop.is_set()

    async def _live(self) -> None:
        """One link, from its opening to its close."""
        began = self._now()
        was_open, lost = False, ""
        if not self._reason:  # else it waits until it is open
            self._state = SourceState.OPENING
        try:
            if was_open := await self._open():
                began = self._now()
                await self._listen()
        except RefusedError as error:
            lost = str(error)
            self._refused(error)
        except (ConnectorError, StorageError) as error:
            lost = str(error)
            self._failed(error, began=began, was_open=was_open)
        finally:
            since = self._desk.clock.now() - round(1e9 * (self._dog.silent_s if self._dog else 0.0))
            self._intake = self._dog = None
            if self._state in (SourceState.OPENING, SourceState.RUNNING):  # told to stop
                self._state = SourceState.WAITING
            await self._calls.closing(self.source)
        if was_open and lost:
            await self._tell_lost(since, lost)
        if self.desired is Desired.WATCHED and (self._calls.hung or self._in_vain()):
            self._rebuild()

    async def _open(self) -> bool:
        """Open where the journal ends; False: told to stop meanwhile."""
        with contextlib.suppress(StorageError):  # then nothing is on its way
            # Behind all that a call left behind has on its way.
            await committed(self._desk.writer, lambda _: None)
        resume = await in_thread(lambda: self._desk.journal.positions().get(self.name))
        until = self._now() + OPEN_S
        if await self._calls.opening(
            self.source, resume=resume, left_s=lambda: until - self._now()
        ):
            self._heard_here = False
            self._intake = Intake(self.source, desk=self._desk, taken=self._note)
            self._state, self._reason = SourceState.RUNNING, ""
            if not self._quiet:
                logger.info("Source %s is open.", self.name)
            return True
        if not self._stop.is_set():
            raise NotReadyError(
                f"source {self.name}: did not open within {OPEN_S:g} s.", connector=self.name
            )
        return False

    async def _listen(self) -> None:
        """Take in what comes, until the source has ended, is lost, or is not wanted any more."""
        intake = self._intake
        assert intake is not None  # noqa: S101 - the link is open
        with bugs_named(self.name):
            if isinstance(self.source, Watched):
                self._dog = Watchdog(self.source, listening=intake.is_listening, now=self._now)
        if await self._calls.ended(intake.run(), self._left_s):
            self.desired, self._state = Desired.STOPPED, SourceState.ENDED
            logger.info("Source %s is ended.", self.name)
        elif not self._stop.is_set():
            assert self._dog is not None  # noqa: S101 - nobody else cuts it off
            self.watchdog += 1
            raise LostError(
                f"source {self.name}: no sign of life from its peer for {self._dog.silent_s:.1f} s,"
                f" want one every {self._dog.limit_s:g} s.",
                connector=self.name,
            )

    def _left_s(self) -> float:
        """How long to let the open link be before looking again; 0: it is lost."""
        with bugs_named(self.name):
            left_s = LOOK_S if self._dog is None else self._dog.left_s()
        if left_s <= 0:
            self._state = SourceState.WAITING  # now: to let go of it may take its time
        return left_s

    # ---- what becomes of it ----------------------------------------------------------------------

    def _note(self, batch: Batch, received: int) -> None:
        """A batch is in the journal."""
        match batch:
            case Samples() | Waveforms():
                self._sampled = self._heard = received
                self._heard_here = True
                if self._silent:
                    self._silent -= set(np.unique(batch.tag[usable(batch.status)]).tolist())
            case Pictures():
                self._sampled = self._heard = received
                self._heard_here = True
                self._silent -= set(batch.camera.tolist())
            case Notice(kind=NoticeKind.ALIVE):
                self._heard = received
                self._heard_here = True
            case Notice(kind=NoticeKind.GAP, since=int() as since, until=int() as until):
                logger.error(
                    "Source %s: a gap of %.1f s, up to %s: %s.",
                    self.name,
                    (until - since) / 1e9,
                    datetime.fromtimestamp(until / 1e9, UTC).isoformat(timespec="milliseconds"),
                    batch.reason,
                )

    def _refused(self, error: RefusedError) -> None:
        self.mismatch = isinstance(error, MismatchError)
        self.desired = Desired.STOPPED
        self._state, self._reason = SourceState.REFUSED, str(error)
        logger.error("Source %s is given up: %s", self.name, error)

    def _failed(
        self, error: ConnectorError | StorageError, *, began: float, was_open: bool
    ) -> None:
        """It waits for the next attempt. ``began``: the link, or the attempt to have one."""
        took_s = self._now() - began
        if was_open and took_s >= LIVED_S:
            self._failures = 0
            self._backoff.reset()
            self._reasons.over()
        self._failures += 1
        self._state, self._reason = SourceState.WAITING, str(error)
        pause_s = self._backoff.next_s() - (0.0 if was_open else took_s)
        self._pause_s = max(pause_s, getattr(error, "retry_after_s", None) or 0.0)
        self._say(error, was_open=was_open)

    def _say(self, error: Exception, *, was_open: bool) -> None:
        """Each reason of an outage once; of a link that comes and goes, only that it does."""
        if self._reasons.is_new(str(error)):
            self._quiet = False
            if isinstance(error, FaultyError):
                cause = error.__cause__
                logger.error(
                    "Source %s failed, and is tried again: %s", self.name, error, exc_info=cause
                )
            else:
                logger.warning("Source %s waits, and is tried again: %s", self.name, error)
        elif was_open:
            self._quiet = True
        if self._failures == REBUILD_AFTER:
            self._quiet = False
            logger.warning(
                "Source %s failed %d times in a row, and is made anew: %s",
                *(self.name, REBUILD_AFTER, error),
            )

    def _in_vain(self) -> bool:
        return self._failures > 0 and self._failures % REBUILD_AFTER == 0

    def _rebuild(self) -> None:
        """Go on with a source that remembers nothing of what was; the old one is closed."""
        try:
            with bugs_named(self.name):
                source = self.assignment.make()
        except FaultyError:
            logger.exception("Source %s cannot be made anew.", self.name)
            return
        self._keep_totals()
        self.source, self._calls.hung = source, False
        self.rebuilds += 1

    async def _tell_lost(self, since: int, reason: str) -> None:
        """Let the journal know that nothing of it can be known from here on."""
        notice = Notice(source=self.name, kind=NoticeKind.LOST, since=since, reason=reason)
        row = encode(Record(self._desk.clock.now(), notice))

        # What keeps it out keeps the next record out as well, and is said there.
        with contextlib.suppress(StateError):
            await committed(
                self._desk.writer,
                lambda tx: self._desk.journal.append(tx, row),
                size=len(row.body),
            )
            self._desk.committed()

    def _peer(self) -> PeerStatus:
        """What the source says of itself; its totals go on where the source before it ended."""
        try:
            return {
                name: value if isinstance(value, str) else value + self._totals.get(name, 0)
                for name, value in self.source.status().items()
                if isinstance(value, str) or math.isfinite(value)
            }
        except Exception as error:  # noqa: BLE001 - it may not spoil what is said of the others
            return {"status": f"failed: {type(error).__name__}: {error}"}

    def _keep_totals(self) -> None:
        for name, value in self._peer().items():
            if name.endswith("_total") and not isinstance(value, str):
                self._totals[name] = value  # with what was kept before

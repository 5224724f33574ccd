"""The step's thread: reads the journal in its order, steps, and commits what came of it.

Results, outgoing messages and "done up to record n" go into one transaction. After a crash the
newest snapshot is loaded and the journal replayed from there; what was committed before is worked
out again, to rebuild the state, and not written twice. Where new records begin, the alarms that
the store holds as active are what counts: it knows what people were told. A record that does not
read back, or at which the step failed before, is counted, and stepped as a gap of its source. While
the disk does not do what it must, the step waits.

Another configuration comes into force at its Epoch: what is before it in the journal is stepped by
the old one, what is behind it by the new one, which goes on from the old one's state.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from connectors.points import Outgoing
from monitor.core.pipeline import Pipeline
from monitor.core.records import Cause, Epoch, Record, Results
from monitor.live.clock import Clock
from monitor.live.following import Following
from monitor.live.latency import Latency, percentiles
from monitor.live.messages import message
from monitor.live.points import PointMaker
from monitor.live.tidying import Job, Retention, Tidying
from monitor.state.database import Database, Transaction
from monitor.state.errors import CorruptError, DamagedError, StorageError
from monitor.state.journal import Journal
from monitor.state.losses import Damage, Losses
from monitor.state.outbox import Outbox
from monitor.state.snapshot import Snapshot, Snapshots
from monitor.state.store import Store
from monitor.state.writer import GROUP_BYTES, Writer

logger = logging.getLogger(__name__)

GROUP_S = 0.02  # how long records are stepped through before their results are committed
POLL_S = 0.5  # how long to wait for news before looking anyway
TIDY_S = 30.0  # how often it is looked for what need not be kept any longer
LATENCIES = 1024  # the last so many records: enough for a 99th percentile


@dataclass(frozen=True, slots=True, kw_only=True)
class Works:
    """What the step works with while one configuration is in force."""

    epoch: Epoch
    pipeline: Pipeline
    points: PointMaker | None  # None where no sink wants any
    retention: Retention


@dataclass(frozen=True, slots=True)
class _Due:
    """Other works, to be taken at the first Epoch of a reload after record ``after``."""

    works: Works
    after: int
    taken: Future[None] = field(default_factory=Future)

    def at(self, number: int, stepped: Sequence[Record]) -> bool:
        """Whether this record, as it is stepped, is that Epoch."""
        return number > self.after and any(
            isinstance(one.body, Epoch) and one.body.cause is Cause.RELOAD for one in stepped
        )


class Stepper:
    """Steps through the journal of one database in a thread of its own.

    Raises nothing in the caller's thread: ``failed`` holds what ended the thread, if anything did.
    """

    def __init__(
        self,
        database: Database,
        writer: Writer,
        works: Works,
        *,
        site: str,
        clock: Clock,
        announce: Callable[[], None],
        troubles: Callable[[], Mapping[str, Any]],
    ) -> None:
        """``announce`` is called, in the step's thread, when there may be something to deliver.

        ``troubles`` tells, in the same thread, which sources are held up and why: for the status.
        """
        self.failed: BaseException | None = None
        self._database, self._writer, self._works = database, writer, works
        self._due: _Due | None = None
        self._site, self._clock = site, clock
        self._announce, self._troubles = announce, troubles
        self._journal, self._store = Journal(database), Store(database)
        self._outbox, self._snapshots = Outbox(database), Snapshots(database)
        self._losses = Losses(database)
        self._following = Following(
            database,
            sources=lambda: self._works.pipeline.status()["sources"],
            waits=self._say_waiting,
        )
        self._tidying = Tidying(database, works.retention)
        self._to_tidy: deque[Job] = deque()  # one at a time, between steps
        self._news, self._stopping = threading.Event(), threading.Event()
        self.shown: dict[str, Any] = {}  # the status as last stored, for whoever watches
        self.latency = Latency()  # of every record stepped since the start
        self.end_to_end = Latency()  # of every kind's newest frame: from its instant
        self._latency_ms: deque[float] = deque(maxlen=LATENCIES)
        self._done = 0  # results are stored up to this record
        self._unsaved = False  # the last snapshot could not be saved: said once
        self._waits = False  # for the disk: said once
        self._at = 0  # the pipeline has seen up to this record
        self._settled = False  # the pipeline knows what people were told
        self._records: Iterator[tuple[int, Sequence[Record]]] | None = None  # being read
        self._thread = threading.Thread(target=self._run, name="step")

    def start(self) -> None:
        """Restore the state, then step. Raises what a snapshot that does not fit raises."""
        self._done = self._store.done()
        self.shown = self._store.status() or {}
        if (snapshot := self._snapshot()) is not None:
            self._works.pipeline.restore(snapshot.tree)
            self._at = snapshot.record
            for kind, made_by in snapshot.meta["bundles"].items():
                if self._works.epoch.bundles.get(kind, made_by) != made_by:
                    logger.info("Kind %s has another model: its assets warm up anew.", kind)
        if self._at < self._done:
            logger.info("Replaying records %d to %d.", self._at + 1, self._done)
        self._thread.start()

    def _snapshot(self) -> Snapshot | None:
        """The newest snapshot; where none is left the journal is stepped as far as it goes back."""
        try:
            if (found := self._snapshots.latest()) is not None:
                return found
        except CorruptError as error:
            logger.error("%s: models warm up, and counts begin anew.", error)  # noqa: TRY400 - all said
            self._finish(lambda: self._writer.submit(self._snapshots.forget, size=1024))
        self._at = self._journal.first() - 1
        return None

    def take(self, works: Works, *, after: int) -> "Future[None]":
        """Work with this from the first Epoch of a reload after record ``after``.

        To be called before that is in the journal. The future is done once the state after it is
        saved; it fails where the works cannot go on from the state there is: the step has gone on
        as it was then. Cancelled before that Epoch, nothing comes of it.
        """
        self._due = _Due(works, after)
        return self._due.taken

    def wake(self) -> None:
        """There is something new in the journal."""
        self._news.set()

    def stop(self) -> None:
        """Finish what is in the journal, save the state, end the thread. May be called twice."""
        self._stopping.set()
        self._news.set()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    @property
    def at(self) -> int:
        """The last record that was stepped."""
        return self._at

    @property
    def done(self) -> int:
        """The last record whose results are stored."""
        return self._done

    def _run(self) -> None:
        try:
            saved_s = tidied_s = time.monotonic()
            while True:
                stopping = self._stopping.is_set()
                self._news.clear()
                moved = self._step_group()
                now_s = time.monotonic()
                if now_s - saved_s >= self._works.retention.snapshot_s:
                    self._save()
                    saved_s = now_s
                if not self._to_tidy and now_s - tidied_s >= TIDY_S:
                    self._look_for_old(now_s)
                    tidied_s = now_s
                if not moved and stopping:
                    break
                if self._to_tidy:
                    self._tidy(self._to_tidy.popleft())
                elif not moved:
                    self._news.wait(POLL_S)
            self._save()
        except (StorageError, DamagedError) as error:  # told to stop while it waits, or no use
            self.failed = error
        except BaseException as error:
            self.failed = error
            logger.exception("The step failed at record %d.", self._at + 1)
        finally:
            if self._due is not None and self._due.taken.set_running_or_notify_cancel():
                self._due.taken.set_exception(RuntimeError("the step has ended"))

    def _step_group(self) -> bool:
        """Step through the next records and commit their results; False: there were none."""
        found: list[Results] = []
        received: list[int] = []
        started, before = time.monotonic(), self._at
        fetched = self._records
        records = fetched or self._following.after(self._at, done=self._done)
        taken = None
        for number, stepped in records:
            if (due := self._due) is not None and due.at(number, stepped):
                if found:  # what people were told is known once that is stored: then comes its turn
                    self._records = chain([(number, stepped)], records)
                    break
                self._due, taken = None, self._turn(due)
            if number > self._done and not self._settled:
                self._settle(self._works)
                self._settled = True
            given = self._stepped(number, stepped)
            self._at = number
            if number > self._done:
                found += given
                received += [record.received for record in stepped]
            if taken is not None or time.monotonic() - started > GROUP_S:
                self._records = records  # the rest is next: what was fetched is not fetched again
                break
        else:
            self._records = None
        if found:
            results = Results.join(found)
            self._commit(results)
            now = self._clock.now()
            seconds = [(now - moment) / 1e9 for moment in received]
            self.latency = self.latency.plus(seconds)
            newest = [int(scores.tick.max()) for scores in results.scores if len(scores)]
            self.end_to_end = self.end_to_end.plus([(now - tick) / 1e9 for tick in newest])
            self._latency_ms.extend(1000 * one for one in seconds)
        if taken is not None:
            self._save()  # a start from here on needs no record that the old works stepped
            taken()
        # What was fetched earlier may have come to its end while the journal has not.
        return fetched is not None or self._at > before

    def _stepped(self, number: int, records: Sequence[Record]) -> list[Results]:
        """What follows from a record; where that fails, so does the step, and never again at it."""
        try:
            return [self._works.pipeline.step(record) for record in records]
        except Exception:
            with suppress(StorageError):
                self._writer.submit(
                    lambda tx: self._store.note_poison(tx, number), size=1024, wait_s=None
                ).result()
            raise

    def _turn(self, due: _Due) -> Callable[[], None]:
        """Go on with other works, from the state of those there are; gives how to tell of it."""
        if not due.taken.set_running_or_notify_cancel():
            return lambda: None
        try:
            due.works.pipeline.restore(self._works.pipeline.snapshot())
            self._settle(due.works)
        except Exception as error:
            logger.exception("What is configured does not go on from the state there is.")
            failed = error
            return lambda: due.taken.set_exception(failed)
        self._works = due.works
        self._tidying = Tidying(self._database, due.works.retention)
        return lambda: due.taken.set_result(None)

    def _settle(self, works: Works) -> None:
        """Let works go on from what people were told."""
        standing = self._store.standing()
        works.pipeline.settle(standing, self._store.shelves())
        if works.points is not None:
            works.points.settle(standing)

    def _commit(self, results: Results) -> None:
        """Store results, messages and how far we are, all or nothing."""
        told = (event for event in results.alarms if not event.silent)
        outgoing: list[Outgoing] = [message(event, site=self._site) for event in told]
        if self._works.points is not None:
            outgoing += self._works.points.of(results)
        status, done, lost = self.status(), self._at, self._following.lost

        def work(tx: Transaction) -> None:
            if self._store.write(tx, results, done=done):
                self._outbox.put(tx, outgoing)
                self._losses.add(tx, Damage.RECORDS, lost)
            self._store.write_status(tx, status)

        self._finish(lambda: self._writer.submit(work, size=_size(results), wait_s=None))
        self._done, self._following.lost, self.shown = done, 0, status
        if outgoing:
            self._announce()

    def _save(self) -> None:
        """Write a snapshot, and let it count once it is whole."""
        record = self._at
        try:
            if record == 0 or record == self._snapshots_at():
                return
            path = self._snapshots.write(
                self._works.pipeline.snapshot(),
                record=record,
                meta={"bundles": dict(self._works.epoch.bundles)},
            )
        except StorageError as error:
            if not self._unsaved:
                logger.error("No snapshot is saved: %s", error)  # noqa: TRY400 - said in full
            self._unsaved = True
            return
        self._finish(
            lambda: self._writer.submit(
                lambda tx: self._snapshots.keep(tx, path, record=record), size=1024, wait_s=None
            )
        )
        with suppress(StorageError):  # the next one sweeps
            self._snapshots.sweep()
        if self._unsaved:
            logger.info("Snapshots are saved again.")
        self._unsaved = False

    def _snapshots_at(self) -> int:
        rows = self._database.query("SELECT MAX(record) FROM snapshot")
        return int(rows[0][0] or 0)

    def _look_for_old(self, now_s: float) -> None:
        """Note what is older than it must be kept; while the disk fails, that has time."""
        try:
            jobs = self._tidying.jobs(self._clock.now(), elapsed_s=now_s, stepped=self._at)
        except StorageError as error:
            self._say_waiting(error)
        else:
            self._to_tidy = deque(jobs)

    def _tidy(self, job: Job) -> None:
        """Do one job of tidying, in a transaction of its own; what is left of it comes again."""
        if self._finish(lambda: self._writer.submit(job, size=GROUP_BYTES, wait_s=None)):
            self._to_tidy.append(job)

    def _finish(self, submit: Callable[[], Future[Any]]) -> Any:
        """Have it committed, and its result; while the disk takes nothing, wait and try again."""
        while True:
            try:
                result = submit().result()
            except StorageError as error:
                self._say_waiting(error)
                if self._stopping.wait(POLL_S):
                    raise
            else:
                if self._waits:
                    logger.info("The step goes on: the disk does what it must.")
                self._waits = False
                return result

    def _say_waiting(self, error: StorageError) -> None:
        """Say once what the step waits for."""
        if not self._waits:
            logger.error("The step waits for the disk: %s", error)
        self._waits = True

    def write_status(self, tx: Transaction) -> None:
        """Store the status once more: why a source was given up may be newer than all results."""
        self._store.write_status(tx, self.status())

    def status(self) -> dict[str, Any]:
        """The counters as they stand, as JSON values."""
        return {
            **self._works.pipeline.status(),
            "record": self._at,
            "troubles": dict(self._troubles()),
            "updated_ns": self._clock.now(),
            "score_latency_ms": percentiles(self._latency_ms),
        }


def _size(results: Results) -> int:
    """About how many bytes results take."""
    return 1024 + sum(64 * len(scores) * (1 + len(scores.channels)) for scores in results.scores)

"""The one writer: jobs from any thread, committed in groups.

An fsync costs milliseconds whatever it carries, so jobs that come close together share one. A job
is a function of the transaction; its result comes through a future once it is on the disk. A failed
group is done again one job at a time, so that a job fails by itself alone: a job may run twice and
must do nothing but write to its transaction.
"""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from monitor.state.database import Database, Transaction
from monitor.state.errors import QueueFullError

T = TypeVar("T")

GROUP_S = 0.020  # how long the first job of a group waits for company
GROUP_BYTES = 1 << 20  # a group of this many bytes is committed at once
BOUND_BYTES = 64 << 20  # what may wait


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterCounters:
    """What the writer did since it started, and what waits."""

    waiting_jobs: int
    waiting_bytes: int
    committed: int  # jobs
    failed: int  # jobs
    refused: int  # jobs not taken in, for the queue was full
    transactions: int


@dataclass(slots=True)
class _Job(Generic[T]):
    work: Callable[[Transaction], T]
    size: int
    future: Future[T]


class Writer:
    """A thread that commits jobs in the order they were submitted.

    A group is committed ``group_s`` after its first job, or at once when it holds ``group_bytes``.
    At most ``bound_bytes`` wait (one job that is larger by itself is taken when nothing else
    waits).
    """

    def __init__(
        self,
        database: Database,
        *,
        group_s: float = GROUP_S,
        group_bytes: int = GROUP_BYTES,
        bound_bytes: int = BOUND_BYTES,
    ) -> None:
        self._database = database
        self._group_s = group_s
        self._group_bytes = group_bytes
        self._bound_bytes = bound_bytes
        self._changed = threading.Condition()  # guards everything below
        self._waiting: deque[_Job[Any]] = deque()
        self._bytes = 0  # of jobs waiting or being committed
        self._closing = False
        self._committed = self._failed = self._refused = self._transactions = 0
        # A daemon: a process that fails must end, and nobody was told of what is not committed.
        self._thread = threading.Thread(target=self._run, name="journal writer", daemon=True)
        self._thread.start()

    def submit(
        self, work: Callable[[Transaction], T], *, size: int, wait_s: float | None = 0.0
    ) -> Future[T]:
        """Have ``work`` done in a transaction; its result once that is on the disk.

        ``size`` is about how many bytes it holds and writes. When the queue is full, wait up to
        ``wait_s`` seconds for room (None: as long as it takes), then raise QueueFullError: counted,
        and nothing is kept. The future fails with what the work raised, or with StorageFullError
        and its kin. Raises RuntimeError after close().
        """
        with self._changed:
            room = self._changed.wait_for(
                lambda: self._closing or not self._bytes or self._bytes + size <= self._bound_bytes,
                wait_s,
            )
            if self._closing:
                raise RuntimeError("submit() after close(): the writer takes no more jobs")
            if not room:
                self._refused += 1
                raise QueueFullError(
                    f"the writer: {self._bytes} bytes wait, and {size} more pass its bound of "
                    f"{self._bound_bytes}. Stop taking in until it has caught up."
                )
            job = _Job(work, size, Future[T]())
            self._waiting.append(job)
            self._bytes += size
            self._changed.notify_all()
        return job.future

    def counters(self) -> WriterCounters:
        """What was done and what waits."""
        with self._changed:
            return WriterCounters(
                waiting_jobs=len(self._waiting),
                waiting_bytes=self._bytes,
                committed=self._committed,
                failed=self._failed,
                refused=self._refused,
                transactions=self._transactions,
            )

    def close(self) -> None:
        """Commit what waits, then end the thread. May be called twice."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self) -> None:
        while group := self._next_group():
            self._commit(group)
            with self._changed:
                self._bytes -= sum(job.size for job in group)
                self._changed.notify_all()

    def _next_group(self) -> list[_Job[Any]]:
        """The jobs of the next transaction; none: closed, and nothing is left."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            self._changed.wait_for(
                lambda: self._closing or self._bytes >= self._group_bytes, self._group_s
            )
            group: list[_Job[Any]] = []
            size = 0
            while self._waiting and (not group or size < self._group_bytes):
                job = self._waiting.popleft()
                size += job.size
                group.append(job)
            return group

    def _commit(self, group: list[_Job[Any]]) -> None:
        """All jobs in one transaction or, if that fails, each in its own."""
        group = [job for job in group if job.future.set_running_or_notify_cancel()]
        if group and not self._together(group):
            for job in group:
                self._together([job])

    def _together(self, group: list[_Job[Any]]) -> bool:
        """Commit the jobs in one transaction, tell their futures; False: several, and it failed."""
        try:
            with self._database.atomic() as tx:
                results = [job.work(tx) for job in group]
        except Exception as error:  # noqa: BLE001 - whatever a job raises belongs to its future
            if len(group) > 1:
                return False
            with self._changed:
                self._failed += 1
            group[0].future.set_exception(error)
            return True
        with self._changed:
            self._committed += len(group)
            self._transactions += 1
        for job, result in zip(group, results, strict=True):
            job.future.set_result(result)
        return True

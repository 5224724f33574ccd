"""Letting go of what is older than it must be kept: a little at a time, each kind by itself.

What belongs to the plant's time (scores, gaps, alarms) is counted back from the newest score, so a
recording that is played back keeps what it made. So do the results of pictures, from the newest of
them. What came or was put aside (journal, late samples, pictures, dead letters) is counted in wall
time. A clock that was set ahead must not delete what is young, so
a jump is believed only once it has lasted. See docs/operate.md for what becomes how large.
"""

from collections.abc import Callable
from dataclasses import dataclass

from monitor.core.plan import SECOND
from monitor.state.database import Database, Transaction
from monitor.state.journal import Journal
from monitor.state.judgements import StoredJudgements
from monitor.state.outbox import Outbox
from monitor.state.picture_results import PictureResults
from monitor.state.pictures import PictureStore
from monitor.state.rollups import Rollups, Width
from monitor.state.snapshot import Snapshots
from monitor.state.source_gaps import SourceGaps
from monitor.state.store import Store

HOUR = 3600 * SECOND
DAY = 24 * HOUR
MEGABYTE = 1_000_000
ROWS = 500  # deleted in one transaction at most: others wait for the writer meanwhile

JUMP_S = 300.0  # wall time that moves on by so much more than time passes was set
BELIEVED_S = 3600.0  # how long it must have been so before anything is deleted by it

Job = Callable[[Transaction], bool]
"""One transaction of tidying; whether it stopped at its bound, so that there may be more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long things are kept, and how often the state is saved: `state` of a configuration."""

    detail_hours: float
    minutes_days: float
    hours_days: float
    alarm_days: float
    journal_hours: float
    late_hours: float
    dead_letter_days: float
    outbox_mb: float
    picture_days: float
    pictures_mb: float
    pictures_waiting_mb: float
    picture_result_days: float
    snapshot_s: float


class Believed:
    """Wall time for deleting: one that jumps ahead goes on as before, until the jump has lasted."""

    def __init__(self, now: int | None) -> None:
        """``now`` is wall time at which it was last known to be right, ns; None: it never was."""
        self._now = now
        self._elapsed_s: float | None = None  # when that was
        self._jumped_s: float | None = None  # since when it is ahead

    def at(self, now: int, elapsed_s: float) -> int:
        """The time to count back from. ``elapsed_s``: of a clock that nobody sets."""
        passed_s = 0.0 if self._elapsed_s is None else elapsed_s - self._elapsed_s
        expected = now if self._now is None else self._now + round(passed_s * SECOND)
        if now - expected <= JUMP_S * SECOND:
            self._jumped_s = None
        elif self._jumped_s is None:
            self._jumped_s = elapsed_s
        if self._jumped_s is None or elapsed_s - self._jumped_s >= BELIEVED_S:
            expected, self._jumped_s = now, None
        self._now, self._elapsed_s = expected, elapsed_s
        return expected


class Tidying:
    """What there is to be tidied in one database."""

    def __init__(self, database: Database, retention: Retention) -> None:
        self._database, self._keep = database, retention
        self._journal, self._store = Journal(database), Store(database)
        self._outbox, self._rollups = Outbox(database), Rollups(database)
        self._snapshots, self._source_gaps = Snapshots(database), SourceGaps(database)
        self._pictures, self._results = PictureStore(database), PictureResults(database)
        self._judgements = StoredJudgements(database)
        self._believed = Believed((self._store.status() or {}).get("updated_ns"))

    def jobs(self, now: int, *, elapsed_s: float, stepped: int) -> list[Job]:
        """Everything to be done at ``now``, wall time in ns; a job may be done again and again.

        ``elapsed_s`` is the same moment by a clock that nobody sets. ``stepped``: the last record
        that the step has seen; what follows it is kept.
        """
        now = self._believed.at(now, elapsed_s)
        keep, newest = self._keep, min(self._store.newest(), now)  # no score is from tomorrow
        detail = newest - round(keep.detail_hours * HOUR)
        hours = newest - round(keep.hours_days * DAY)
        outbox = round(keep.outbox_mb * MEGABYTE)
        records = self._records(now - round(keep.journal_hours * HOUR), stepped)

        def roll_up(tx: Transaction) -> bool:
            return self._rollups.step(tx, before=detail) > 0 and self._rollups.waiting(
                tx, before=detail
            )

        def deleting(delete: Callable[..., int], **bounds: int) -> Job:
            return lambda tx: delete(tx, **bounds, limit=ROWS) == ROWS

        def rollups(width: Width, before: int) -> Job:
            return lambda tx: self._rollups.forget(tx, width, before=before, limit=ROWS) == ROWS

        return [
            roll_up,
            rollups(Width.MINUTE, newest - round(keep.minutes_days * DAY)),
            rollups(Width.HOUR, hours),
            deleting(self._judgements.forget, before=detail),
            deleting(self._store.forget_gaps, before=hours),
            deleting(self._source_gaps.forget, before=hours),
            deleting(self._store.forget_alarms, before=newest - round(keep.alarm_days * DAY)),
            deleting(self._journal.forget, before=records),
            deleting(self._store.forget_late, now=now, before=now - round(keep.late_hours * HOUR)),
            deleting(self._outbox.prune),
            deleting(self._outbox.trim, limit_bytes=outbox),
            deleting(
                self._outbox.forget_dead_letters,
                now=now,
                before=now - round(keep.dead_letter_days * DAY),
                limit_bytes=outbox,
            ),
            deleting(
                self._results.forget,
                before=min(self._results.newest(), now) - round(keep.picture_result_days * DAY),
            ),
            deleting(
                self._pictures.forget,
                before=now - round(keep.picture_days * DAY),
                limit_bytes=round(keep.pictures_mb * MEGABYTE),
            ),
            deleting(self._pictures.delete_files),
        ]

    def _records(self, before: int, stepped: int) -> int:
        """The first record of the journal to be kept: younger, or needed to start again."""
        ((kept,),) = self._database.query(
            "SELECT MIN(number) FROM journal WHERE received > ?", (before,)
        )
        return min(kept or self._journal.last(), self._snapshots.oldest() + 1, stepped + 1)

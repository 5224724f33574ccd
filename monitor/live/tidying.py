"""Letting go of what is older than it must be kept: a little at a time, each kind by itself.

What belongs to the plant's time (scores, gaps, alarms) is counted back from the newest score, so a
recording that is played back keeps what it made. What came or was put aside (journal, late samples,
dead letters) is counted in wall time. See docs/operate.md for what becomes how large.
"""

from collections.abc import Callable
from dataclasses import dataclass

from monitor.core.plan import SECOND
from monitor.state.database import Database, Transaction
from monitor.state.journal import Journal
from monitor.state.outbox import Outbox
from monitor.state.rollups import Rollups, Width
from monitor.state.snapshot import Snapshots
from monitor.state.source_gaps import SourceGaps
from monitor.state.store import Store

HOUR = 3600 * SECOND
DAY = 24 * HOUR
MEGABYTE = 1_000_000
ROWS = 500  # deleted in one transaction at most: others wait for the writer meanwhile

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
    snapshot_s: float


class Tidying:
    """What there is to be tidied in one database."""

    def __init__(self, database: Database, retention: Retention) -> None:
        self._database, self._keep = database, retention
        self._journal, self._store = Journal(database), Store(database)
        self._outbox, self._rollups = Outbox(database), Rollups(database)
        self._snapshots, self._source_gaps = Snapshots(database), SourceGaps(database)

    def jobs(self, now: int) -> list[Job]:
        """Everything to be done at ``now``, wall time in ns; a job may be done again and again."""
        keep, newest = self._keep, self._store.newest()
        detail = newest - round(keep.detail_hours * HOUR)
        hours = newest - round(keep.hours_days * DAY)
        outbox = round(keep.outbox_mb * MEGABYTE)
        records = self._records(now - round(keep.journal_hours * HOUR))

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
        ]

    def _records(self, before: int) -> int:
        """The first record of the journal to be kept: younger, or needed to start again."""
        ((kept,),) = self._database.query(
            "SELECT MIN(number) FROM journal WHERE received > ?", (before,)
        )
        return min(kept or self._journal.last(), self._snapshots.oldest() + 1)

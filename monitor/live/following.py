"""The journal as the step reads it: each record, or gaps in the place of those that are lost.

Lost are records that do not read back, those that are not there, for what was damaged is taken out,
and those at which the step failed before: the state after a failure is not to be trusted, so it is
built again without them.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from connectors.batch import Notice, NoticeKind
from monitor.core.records import Record
from monitor.state.database import DatabaseReader
from monitor.state.errors import CorruptError, StorageError
from monitor.state.journal import Journal
from monitor.state.store import Store

logger = logging.getLogger(__name__)


class Following:
    """Follows the journal of one database; ``lost`` counts new records that were."""

    def __init__(
        self,
        database: DatabaseReader,
        *,
        sources: Callable[[], Iterable[str]],
        waits: Callable[[StorageError], None],
    ) -> None:
        """``sources`` tells which there are, ``waits`` is told when the disk cannot be read now."""
        self.lost = 0
        self._journal, self._sources, self._waits = Journal(database), sources, waits
        self._poison = Store(database).poison()

    def after(self, number: int, *, done: int) -> Iterator[tuple[int, Sequence[Record]]]:
        """The records after a number, each with its own; those up to ``done`` were stepped before.

        What is lost is told of with the next record that reads. Ends also where the disk fails.
        """
        before = after = number  # all up to `before` were given out
        why = ""
        while True:
            try:
                for found, record in self._journal.read(after):
                    if found in self._poison:
                        after, why = found, "the step failed at it before"
                        continue
                    if after > before:
                        self.lost += max(0, after - max(before, done))
                        yield after, self._gaps(before + 1, after, record.received, why)
                    yield found, (record,)
                    before = after = found
            except CorruptError as error:
                if error.number is None:
                    raise
                after, why = error.number, str(error)
            except StorageError as error:
                self._waits(error)
                return
            else:
                return

    def _gaps(self, first: int, last: int, until: int, why: str) -> Sequence[Record]:
        """What stands for records that are lost: a gap of each source that they may be of."""
        known = sorted(self._sources())
        of = self._journal.sources(first, last)
        whole = len(of) == last - first + 1 and all(one is None or one in known for one in of)
        sources = sorted({one for one in of if one is not None}) if whole else known
        since = self._journal.received(first - 2)
        reason = f"records {first} to {last} of the journal are lost: {why}"
        logger.error("%s.", reason.capitalize())
        gap = partial(
            Notice,
            kind=NoticeKind.GAP,
            since=until if since is None else min(since, until),
            until=until,
            reason=reason,
        )
        return [Record(until, gap(source=source)) for source in sources]

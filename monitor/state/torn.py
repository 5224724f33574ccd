"""A write-ahead log that was damaged: SQLite ends it, in silence, at the first frame that is wrong.

What was committed behind that frame is lost, also to whoever was told that it is safe. The headers
of the frames behind it say how many commits there were (sqlite.org/fileformat2.html, section 4).
"""

from pathlib import Path

import numpy as np

from connectors.batch import Notice, NoticeKind
from monitor.core.records import Record
from monitor.state.database import Database
from monitor.state.journal import Journal
from monitor.state.losses import Damage, Losses
from monitor.state.store import Store

_HEADER, _FRAME = 32, 24  # bytes of the log's own header, and of each frame's


def commits(database: Path) -> list[int]:
    """The frames, counted from 1, that end a commit in the log beside a database file.

    Those of the log as it was begun last; what lies behind from before has other salts.
    """
    log = database.with_name(database.name + "-wal")
    if not log.exists() or log.stat().st_size <= _HEADER:
        return []
    with log.open("rb") as file:
        head = np.frombuffer(file.read(_HEADER), ">u4")
    page = int(head[2])
    count = (log.stat().st_size - _HEADER) // (_FRAME + page) if 512 <= page <= 65536 else 0
    if not count:
        return []
    shape = np.dtype(
        [("page", ">u4"), ("size", ">u4"), ("salt", ">u4", 2), ("rest", f"V{8 + page}")]
    )
    frames = np.memmap(log, shape, "r", _HEADER, (count,))
    ours = (frames["salt"] == head[4:6]).all(axis=1)
    return (1 + np.flatnonzero(ours & (frames["size"] > 0))).tolist()


def tell_lost(database: Database, before: list[int], *, now: int) -> int:
    """Count what a damaged log has cost, and journal it as a gap of every source; how many commits.

    ``before``: commits() from before the database was opened. One commit behind the end may have
    been interrupted, and nobody was told that it is safe. ``now``: wall time, ns.
    """
    behind = [frame for frame in before if frame > database.log_frames()]
    lost = len(behind) - 1
    if lost < 1:
        return 0
    journal = Journal(database)
    since = journal.received(journal.last() - 1)
    reason = f"the log of {database.path} is damaged: at least {lost} commits are lost"
    with database.atomic() as tx:
        Losses(database).add(tx, Damage.COMMITS, lost)
        for source in (Store(database).status() or {}).get("sources", {}):
            gap = Notice(
                source=source,
                kind=NoticeKind.GAP,
                since=now if since is None else min(since, now),
                until=now,
                reason=reason,
            )
            journal.append(tx, Record(now, gap))
    return lost

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
_ORDERS = {0x377F_0682: "<u4", 0x377F_0683: ">u4"}  # by the log's first number: of its checksums
_PAGE = 4096  # bytes of a page, where nothing says so


def commits(database: Path) -> list[int]:
    """The frames, counted from 1, that end a commit in the log beside a database file.

    Those of the log as it was begun last; what lies behind from before has other salts. A log
    whose own header is damaged counts for nothing; its frames have the salts of its beginning.
    """
    log = database.with_name(database.name + "-wal")
    if not log.exists() or log.stat().st_size <= _HEADER:
        return []
    with log.open("rb") as file:
        head = file.read(_HEADER)
    whole = _is_whole(head)
    page = int.from_bytes(head[8:12], "big") if whole else _page_of(database)
    count = (log.stat().st_size - _HEADER) // (_FRAME + page) if 512 <= page <= 65536 else 0
    if not count:
        return []
    shape = np.dtype(
        [("page", ">u4"), ("size", ">u4"), ("salt", ">u4", 2), ("rest", f"V{8 + page}")]
    )
    frames = np.memmap(log, shape, "r", _HEADER, (count,))
    begun = frames["salt"][0 if frames["page"][0] else min(1, count - 1)]
    salt = np.frombuffer(head[16:24], ">u4") if whole else begun
    ours = (frames["salt"] == salt).all(axis=1)
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


def _is_whole(head: bytes) -> bool:
    """Whether the header of a log has the checksum that it says."""
    order = _ORDERS.get(int.from_bytes(head[:4], "big"))
    if order is None:
        return False
    one = other = 0
    words = np.frombuffer(head[:24], order).tolist()
    for first, second in zip(words[::2], words[1::2], strict=True):
        one = (one + first + other) % 2**32
        other = (other + second + one) % 2**32
    return head[24:32] == one.to_bytes(4, "big") + other.to_bytes(4, "big")


def _page_of(database: Path) -> int:
    """The size of a page, as the database says it."""
    if not database.exists():
        return _PAGE
    with database.open("rb") as file:
        said = int.from_bytes(file.read(18)[16:], "big")
    return {0: _PAGE, 1: 65536}.get(said, said)

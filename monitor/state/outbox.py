"""What leaves the house: messages and points, kept until every sink has them.

They are written in one transaction with the results they tell of.

Each sink has a cursor of its own, so a sink that is away holds back nobody else. Delivery is at
least once; what comes again carries the same id.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from connectors.points import Message, Outgoing, Points
from monitor.state.columns import apart, pack, unpack
from monitor.state.database import LATEST, DatabaseReader, Transaction
from monitor.state.errors import CorruptError
from monitor.state.losses import Loss, Losses

logger = logging.getLogger(__name__)

_TYPES: dict[type[Outgoing], str] = {Message: "message", Points: "points"}
_LONGEST_REASON = 1000  # characters: what a peer answers may be a whole page
_FIELD = "field/"  # before the name of a field of Points, to tell it from `time`


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """What a sink refused for good. ``item`` is None if it does not read back."""

    sink: str
    number: int
    item: Outgoing | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What a sink has not got yet."""

    items: int
    bytes: int
    oldest: int | None  # ns since 1970 UTC, event time; None: nothing waits
    dropped: int  # items it will never get, for the outbox was over its bound


@dataclass(frozen=True, slots=True)
class Outbox:
    """The outbox of one database. Items are numbered in the order in which they go out."""

    database: DatabaseReader

    def register(self, tx: Transaction, sinks: Mapping[str, Iterable[type[Outgoing]]]) -> None:
        """Make ``sinks`` (name -> what it accepts) the sinks there are.

        A new one starts at the end: it gets what comes from now on. One that is no longer there is
        forgotten with what it had not got, and a warning says how much that was.
        """
        for name, count in tx.execute(
            "SELECT sink.name, COUNT(outbox.number)"
            " FROM sink LEFT JOIN sink_accepts ON sink_accepts.sink = sink.name"
            " LEFT JOIN outbox ON outbox.type = sink_accepts.type AND outbox.number > sink.cursor"
            " GROUP BY sink.name"
        ).fetchall():
            if name not in sinks:
                logger.warning("Sink %s is gone; %d items were not delivered to it.", name, count)
                tx.execute("DELETE FROM sink WHERE name = ?", (name,))
        for name, accepts in sinks.items():
            tx.execute(
                "INSERT INTO sink (name, cursor) VALUES"
                " (?, coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'outbox'), 0))"
                " ON CONFLICT (name) DO NOTHING",
                (name,),
            )
            tx.execute("DELETE FROM sink_accepts WHERE sink = ?", (name,))
            tx.executemany(
                "INSERT INTO sink_accepts (sink, type) VALUES (?, ?)",
                [(name, _TYPES[accepted]) for accepted in accepts],
            )

    def put(self, tx: Transaction, items: Iterable[Outgoing]) -> int:
        """Add items; how many were new: a message whose id is there already is not added again."""
        added = 0
        for item in items:
            body = _packed(item)
            identity: str | None
            moment: int | None
            if isinstance(item, Message):
                identity, moment = item.id, item.time
            else:
                identity, moment = None, int(item.time.max()) if len(item) else None
            added += tx.execute(
                "INSERT INTO outbox (id, type, time, bytes, body) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (id) DO NOTHING",
                (identity, _TYPES[type(item)], moment, len(body), body),
            ).rowcount
        return added

    def pending(
        self, sink: str, *, limit_items: int, limit_bytes: int
    ) -> list[tuple[int, Outgoing]]:
        """The next items for a sink, in order: as many as fit, and at least one if there is one.

        Raises KeyError for a sink that is not registered, CorruptError with the number of an item
        that does not read back: make it a dead letter.
        """
        found = self.database.query(
            "SELECT number, bytes FROM outbox"
            " WHERE number > (SELECT cursor FROM sink WHERE name = :sink)"
            " AND type IN (SELECT type FROM sink_accepts WHERE sink = :sink)"
            " AND number NOT IN (SELECT number FROM dead_letter WHERE sink = :sink)"
            " ORDER BY number LIMIT :limit",
            {"sink": sink, "limit": limit_items},
        )
        if not found:
            self._known(sink)
        items: list[tuple[int, Outgoing]] = []
        taken = 0
        for number, size in found:
            taken += size
            if items and taken > limit_bytes:
                break
            rows = self.database.query("SELECT type, body FROM outbox WHERE number = ?", (number,))
            for kind, body in rows:  # none: trimmed meanwhile
                items.append((number, _unpacked(kind, body, number)))
        return items

    def advance(self, tx: Transaction, sink: str, number: int) -> None:
        """The sink has everything up to ``number``. Raises KeyError for a sink not registered."""
        moved = tx.execute(
            "UPDATE sink SET cursor = max(cursor, ?) WHERE name = ?", (number, sink)
        ).rowcount
        if not moved:
            raise KeyError(f"sink {sink!r} is not registered with the outbox")

    def dead_letter(self, tx: Transaction, sink: str, number: int, reason: str) -> None:
        """Put an item aside that the sink refused for good; it is pending for it no longer."""
        tx.execute(
            "INSERT INTO dead_letter (sink, number, type, body, reason)"
            " SELECT ?, number, type, body, ? FROM outbox WHERE number = ? ON CONFLICT DO NOTHING",
            (sink, reason[:_LONGEST_REASON], number),
        )

    def sinks(self) -> list[str]:
        """The names of the registered sinks."""
        return [name for (name,) in self.database.query("SELECT name FROM sink ORDER BY name")]

    def dead_letters(self) -> list[DeadLetter]:
        """Everything that was put aside, the oldest first."""
        found = []
        for sink, number, kind, body, reason in self.database.query(
            "SELECT sink, number, type, body, reason FROM dead_letter ORDER BY number, sink"
        ):
            try:
                item = _unpacked(kind, body, number)
            except CorruptError:
                item = None
            found.append(DeadLetter(sink=sink, number=number, item=item, reason=reason))
        return found

    def dead_letter_counts(self) -> dict[str, int]:
        """How many items each sink refused for good; a sink that refused none is not named."""
        rows = self.database.query("SELECT sink, COUNT(*) FROM dead_letter GROUP BY sink")
        return dict(rows)

    def backlog(self, sink: str) -> Backlog:
        """How much a sink has not got. Raises KeyError for a sink that is not registered."""
        dropped = self._known(sink)
        ((items, size, oldest),) = self.database.query(
            "SELECT COUNT(*), coalesce(SUM(bytes), 0), MIN(time) FROM outbox"
            " WHERE number > (SELECT cursor FROM sink WHERE name = :sink)"
            " AND type IN (SELECT type FROM sink_accepts WHERE sink = :sink)"
            " AND number NOT IN (SELECT number FROM dead_letter WHERE sink = :sink)",
            {"sink": sink},
        )
        return Backlog(items=items, bytes=size, oldest=oldest, dropped=dropped)

    def prune(self, tx: Transaction, *, limit: int) -> int:
        """Delete what every sink that accepts it has passed; how many, ``limit`` at most."""
        gone = 0
        for kind in _TYPES.values():
            gone += tx.execute(
                "DELETE FROM outbox WHERE number IN (SELECT number FROM outbox"
                " WHERE type = :type AND number <= coalesce("
                "(SELECT MIN(sink.cursor) FROM sink JOIN sink_accepts"
                " ON sink_accepts.sink = sink.name WHERE sink_accepts.type = :type), :latest)"
                " ORDER BY number LIMIT :limit)",
                {"type": kind, "latest": LATEST, "limit": limit - gone},
            ).rowcount
        return gone

    def trim(self, tx: Transaction, *, limit_bytes: int, limit: int) -> int:
        """Delete the oldest points until all items are ``limit_bytes`` or less; how many went.

        ``limit`` at most. Messages stay: they are few, and each must arrive. Points can be made
        again from the store. Each sink that had not got them counts them as dropped.
        """
        over = _held(tx, "outbox") - limit_bytes
        last = None
        for number, size in tx.execute(
            "SELECT number, bytes FROM outbox WHERE type = 'points' ORDER BY number LIMIT ?",
            (limit,),
        ):
            if over <= 0:
                break
            over -= size
            last = number
        if last is None:
            return 0
        tx.execute(
            "UPDATE sink SET dropped = dropped + (SELECT COUNT(*) FROM outbox WHERE type = 'points'"
            " AND number > sink.cursor AND number <= ?)"
            " WHERE name IN (SELECT sink FROM sink_accepts WHERE type = 'points')",
            (last,),
        )
        return tx.execute(
            "DELETE FROM outbox WHERE type = 'points' AND number <= ?", (last,)
        ).rowcount

    def forget_dead_letters(
        self, tx: Transaction, *, now: int, before: int, limit_bytes: int, limit: int
    ) -> int:
        """Delete dead letters first looked at ``before`` or earlier; how many, ``limit`` at most.

        Those never looked at before are looked at ``now``; times are wall time, ns. While all are
        over ``limit_bytes``, the oldest go earlier. What goes is counted as lost.
        """
        tx.execute(
            "UPDATE dead_letter SET kept_from = ? WHERE rowid IN"
            " (SELECT rowid FROM dead_letter WHERE kept_from IS NULL LIMIT ?)",
            (now, limit),
        )
        gone = [
            row
            for (row,) in tx.execute(
                "SELECT rowid FROM dead_letter WHERE kept_from <= ? LIMIT ?", (before, limit)
            )
        ]
        if not gone:
            over = _held(tx, "dead_letter") - limit_bytes
            for row, size in tx.execute(
                "SELECT rowid, LENGTH(body) FROM dead_letter ORDER BY rowid LIMIT ?", (limit,)
            ):
                if over <= 0:
                    break
                over -= size
                gone.append(row)
        tx.executemany("DELETE FROM dead_letter WHERE rowid = ?", [(row,) for row in gone])
        Losses(self.database).add(tx, Loss.DEAD_LETTERS, len(gone))
        return len(gone)

    def _known(self, sink: str) -> int:
        """How many items a sink lost to trim(). Raises KeyError for a sink not registered."""
        rows = self.database.query("SELECT dropped FROM sink WHERE name = ?", (sink,))
        if not rows:
            raise KeyError(f"sink {sink!r} is not registered with the outbox")
        return int(rows[0][0])


def _held(tx: Transaction, table: str) -> int:
    """How many bytes of bodies a table holds."""
    ((held,),) = tx.execute("SELECT bytes FROM held WHERE what = ?", (table,)).fetchall()
    return int(held)


def _packed(item: Outgoing) -> bytes:
    if isinstance(item, Message):
        return pack(*apart(item))
    columns = {"time": item.time} | {_FIELD + name: column for name, column in item.fields.items()}
    meta = {"measurement": item.measurement, "tags": dict(item.tags), "texts": dict(item.texts)}
    return pack(columns, meta)


def _unpacked(kind: str, body: bytes, number: int) -> Outgoing:
    columns, meta = unpack(body, what=f"outbox item {number}", number=number)
    if kind == _TYPES[Message]:
        return Message(**meta)
    texts = {name: tuple(text) for name, text in meta.pop("texts", {}).items()}
    return Points(
        time=columns.pop("time"),
        fields={name.removeprefix(_FIELD): column for name, column in columns.items()},
        texts=texts,
        **meta,
    )

"""The journal: everything that came in, in one order, one row a record. All that the step reads.

A record is acknowledged to its source only after the transaction that holds it; the source's
position is stored in that same transaction, so a source that resumes there gives every batch
exactly once.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from connectors.batch import Notice, NoticeKind, Samples, Waveforms
from models.vision.acceptance import Grade
from monitor.core.records import (
    Action,
    Beat,
    Body,
    Cause,
    Command,
    Epoch,
    PictureResult,
    PicturesTaken,
    Record,
    SeenDefect,
)
from monitor.state.columns import apart, pack, unpack
from monitor.state.database import DatabaseReader, Transaction
from monitor.state.errors import CorruptError, DamagedError

_KINDS: dict[str, type[Body]] = {
    "samples": Samples,
    "waveforms": Waveforms,
    "pictures": PicturesTaken,
    "picture_result": PictureResult,
    "notice": Notice,
    "command": Command,
    "epoch": Epoch,
    "beat": Beat,
}
_NAME_OF = {body: name for name, body in _KINDS.items()}
_OF_NO_SOURCE = frozenset({"command", "epoch", "beat"})
_OWN_COLUMNS = frozenset({"source", "position"})  # of a body, kept beside it to be asked for

# Fetched at once, at least one row: a transaction of the reader is short, so the log can be cut
_PAGE_ROWS, _PAGE_BYTES = 32, 1 << 20
_FORGET_ROWS = 10_000  # rows deleted in one transaction at most: others wait meanwhile


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A record as it is stored. Made in the thread that has it, so that the writer only writes."""

    received: int
    kind: str
    source: str | None
    position: str | None
    body: bytes

    @property
    def seal(self) -> bytes:
        """What the checksum covers beside the body."""
        return json.dumps([self.received, self.kind, self.source, self.position]).encode()


def encode(record: Record) -> Row:
    """A record as a row. Raises TypeError for a field that is not JSON, as a numpy number."""
    columns, meta = apart(record.body, without=_OWN_COLUMNS)
    if isinstance(record.body, PictureResult):
        meta["defects"] = [asdict(defect) for defect in record.body.defects]
        columns["features"] = np.frombuffer(meta.pop("features"), "<f4")
        del meta["outlook"]  # a result of the step
    bare = Row(
        received=record.received,
        kind=_NAME_OF[type(record.body)],
        source=getattr(record.body, "source", None),
        position=getattr(record.body, "position", None),
        body=b"",
    )
    return Row(
        received=bare.received,
        kind=bare.kind,
        source=bare.source,
        position=bare.position,
        body=pack(columns, meta, bound_to=bare.seal),
    )


def decode(row: Row, *, number: int) -> Record:
    """The record of a row. Raises CorruptError with its number."""
    what = f"journal record {number}"
    if not isinstance(row.body, bytes) or isinstance(row.received, bytes):
        raise CorruptError(f"{what}: its columns are of other types than written", number=number)
    columns, meta = unpack(row.body, what=what, number=number, bound_to=row.seal)
    kind = _KINDS.get(row.kind)
    if kind is None:
        raise CorruptError(
            f"{what}: its kind is {row.kind!r}, want one of {', '.join(_KINDS)}", number=number
        )
    given: dict[str, Any] = columns | meta
    for field in fields(kind):
        if field.name in _OWN_COLUMNS:
            given[field.name] = getattr(row, field.name)
    if kind is PictureResult:
        given = _picture_result(given)
    if kind is PicturesTaken:
        given |= {name: tuple(given[name]) for name in ("part", "recipe", "hash")}
    if kind is Notice:
        given |= {"kind": NoticeKind(given["kind"]), "tags": tuple(given["tags"])}
    if kind is Command:
        given["action"] = Action(given["action"])
    if kind is Epoch and "cause" in given:
        given["cause"] = Cause(given["cause"])
    return Record(row.received, kind(**given))


def _picture_result(given: dict[str, Any]) -> dict[str, Any]:
    """Its fields; before there were cameras, a version wrote the label as ``defect``, and less."""
    if "defect" in given:
        given = given | {"label": given["defect"], "defects": (), "grade": Grade.NONE}
        return {name: one for name, one in given.items() if name not in ("defect", "severity")}
    defects = tuple(SeenDefect.from_json(one) for one in given["defects"])
    if "features" in given:  # else an earlier version wrote it
        given["features"] = given["features"].tobytes()
    return given | {"defects": defects, "grade": Grade(given["grade"])}


@dataclass(frozen=True, slots=True)
class Journal:
    """The journal of one database. Records are numbered from 1 without holes."""

    database: DatabaseReader

    def append(self, tx: Transaction, record: Record | Row) -> int:
        """Add a record, and note its source's position with it; its number."""
        row = record if isinstance(record, Row) else encode(record)
        number = tx.execute(
            "INSERT INTO journal (received, kind, source, position, body) VALUES (?, ?, ?, ?, ?)",
            (row.received, row.kind, row.source, row.position, row.body),
        ).lastrowid
        assert number is not None  # noqa: S101 - SQLite gives one for every insert
        if row.position is not None:
            tx.execute(
                "INSERT INTO position (source, position, number) VALUES (?, ?, ?)"
                " ON CONFLICT (source) DO UPDATE"
                " SET position = excluded.position, number = excluded.number",
                (row.source, row.position, number),
            )
        return number

    def read(self, after: int, *, limit_bytes: int | None = None) -> Iterator[tuple[int, Record]]:
        """Committed records after number ``after``, in order, up to ``limit_bytes`` of bodies.

        At least one is given if there is one. Raises CorruptError with the number of the record
        that does not read back, or of the last one that is missing; read on after that number if
        you can do without.
        """
        taken = 0
        while (until := self._page(after)) is not None:
            rows = self.database.query(
                "SELECT number, received, kind, source, position, body FROM journal"
                " WHERE number > ? AND number <= ? ORDER BY number",
                (after, until),
            )
            for number, received, kind, source, position, body in rows:
                if number != after + 1:
                    if not after < number <= self.last():
                        raise DamagedError(
                            f"{self.database.path}: journal record {number} stands "
                            f"after {after}, of {self.last()}"
                        )
                    raise CorruptError(
                        f"journal records {after + 1} to {number - 1} are not there: "
                        f"lost, or already forgotten",
                        number=number - 1,
                    )
                row = Row(received=received, kind=kind, source=source, position=position, body=body)
                yield number, decode(row, number=number)
                after = number
                taken += len(body)
                if limit_bytes is not None and taken >= limit_bytes:
                    return

    def _page(self, after: int) -> int | None:
        """The last number of the rows to be fetched next; None: there are none."""
        last, size = None, 0
        for number, length in self.database.query(
            "SELECT number, LENGTH(body) FROM journal WHERE number > ? ORDER BY number LIMIT ?",
            (after, _PAGE_ROWS),
        ):
            size += length
            if last is not None and size > _PAGE_BYTES:
                break
            last = number
        return last

    def sources(self, first: int, last: int) -> list[str | None]:
        """Of which sources the records ``first`` to ``last`` are, as far as they are there.

        None for one that is of no source. What does not read back may name what there never was.
        """
        rows = self.database.query(
            "SELECT kind, source FROM journal WHERE number BETWEEN ? AND ?", (first, last)
        )
        return [None if kind in _OF_NO_SOURCE else str(source) for kind, source in rows]

    def positions(self) -> dict[str, str]:
        """How far each source had come with its last record that carried a position."""
        return dict(self.database.query("SELECT source, position FROM position"))

    def forget_position(self, tx: Transaction, source: str) -> None:
        """Let a source begin from its start when it is opened next."""
        tx.execute("DELETE FROM position WHERE source = ?", (source,))

    def first(self) -> int:
        """The number of the oldest record still there; one more than last() if there is none."""
        ((first,),) = self.database.query("SELECT MIN(number) FROM journal")
        return self.last() + 1 if first is None else int(first)

    def begins(self) -> int | None:
        """When the oldest record still there was received, ns since 1970 UTC; None: none is."""
        rows = self.database.query("SELECT received FROM journal ORDER BY number LIMIT 1")
        return int(rows[0][0]) if rows else None

    def last(self) -> int:
        """The highest number given so far, 0 at the start."""
        rows = self.database.query("SELECT seq FROM sqlite_sequence WHERE name = 'journal'")
        return int(rows[0][0]) if rows else 0

    def received(self, after: int) -> int | None:
        """When the record after number ``after`` was received, ns; None: there is none."""
        rows = self.database.query("SELECT received FROM journal WHERE number = ?", (after + 1,))
        return int(rows[0][0]) if rows else None

    def forget(self, tx: Transaction, before: int, *, limit: int = _FORGET_ROWS) -> int:
        """Delete the oldest records below number ``before``, ``limit`` at most; how many went.

        Keep what a replay needs: everything after Snapshots.oldest().
        """
        return tx.execute(
            "DELETE FROM journal WHERE number < MIN(?, (SELECT MIN(number) FROM journal) + ?)",
            (before, limit),
        ).rowcount

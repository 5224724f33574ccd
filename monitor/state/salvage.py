"""A damaged database is moved aside whole, and what reads of it is taken over into a new one.

Each table is read from both of its ends up to where it is damaged, so what one bad page costs is
what lies behind it and nothing else. Tags and assets are stored by number: where their names do not
read wholly, nothing that holds numbers is taken over. Rows keep their numbers, so the step finds
the records that are missing and tells of them. Nothing is deleted: the old files stay in
``damaged-...`` beside the new ones. A salvage that was interrupted begins anew, or is finished.
"""

import json
import logging
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from monitor.state import migrations, torn
from monitor.state.database import Database, fsync_folder, locked
from monitor.state.errors import DamagedError, of_the_system, translated

logger = logging.getLogger(__name__)

T = TypeVar("T")

_FILES = ("state.db", "state.db-wal", "state.db-shm")
_NEW, _COMPLETE, _TOLD = "salvage", "complete", "salvaged.json"
_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR}  # no such table
_MADE = frozenset({"migration", "held"})  # the new database has its own
_NUMBERED = frozenset(
    {
        "journal",
        "score_block",
        "rollup",
        "late",
        "snapshot",
        "picture",
        "picture_result",
        "judgement_block",
    }
)  # by names' numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Salvaged:
    """What became of a table."""

    table: str
    rows: int  # taken over
    lost: str  # which were not, in words; "": none


def surviving(folder: Path, work: Callable[[Database], T], *, now: Callable[[], int]) -> T:
    """What ``work`` gives on the database of ``folder``; where that is damaged, on its successor.

    ``now`` tells wall time, ns. Raises what Database and ``work`` raise, and what salvage() does.
    """
    _finish_interrupted(folder)
    logged = torn.commits(folder / "state.db")
    try:
        with Database(folder) as database:
            if lost := torn.tell_lost(database, logged, now=now()):
                logger.error("The log of %s is damaged: %d commits are lost.", database.path, lost)
            return work(database)
    except DamagedError as error:
        logger.error("%s", error)  # noqa: TRY400 - said in full
        salvage(folder, now=now())
    with Database(folder) as database:
        return work(database)


def salvage(folder: Path, *, now: int) -> list[Salvaged]:
    """Put a new database in the place of the damaged one of ``folder``.

    ``now``, wall time in ns, names the folder that the old one is moved to. Raises LockedError,
    StorageError; DamagedError where a new one cannot be made either.
    """
    with locked(folder):
        new, old = folder / _NEW, folder / "state.db"
        shutil.rmtree(new, ignore_errors=True)
        try:
            new.mkdir()
            with translated(new / old.name):
                found = _take_over(old, new / old.name)
            with (new / old.name).open("rb") as made:
                os.fsync(made.fileno())
            _write(new / _TOLD, json.dumps([asdict(one) for one in found], indent=1))
            _write(new / _COMPLETE, _unused(folder, now))
            fsync_folder(new)
        except OSError as error:
            raise of_the_system(new, error) from error
        aside = _finish(folder)
    logger.error("%s was damaged. It is kept in %s; a new one goes on with what reads.", old, aside)
    if not any(one.rows for one in found):
        logger.error("Nothing of it reads: all begins anew.")
        return found
    for one in found:
        if one.lost:
            logger.error("Of %s %d rows read; lost: %s.", one.table, one.rows, one.lost)
    return found


def _finish_interrupted(folder: Path) -> None:
    """End a salvage that was interrupted when all was read."""
    if (folder / _NEW / _COMPLETE).exists():
        with locked(folder):
            _finish(folder)


def _finish(folder: Path) -> Path:
    """Old files aside, new ones into their place: whatever of it is still to be done."""
    new = folder / _NEW
    aside = folder / (new / _COMPLETE).read_text()
    try:
        aside.mkdir(exist_ok=True)
        if (new / "state.db").exists():  # so what stands in its place is the old one
            for name in _FILES:
                if (folder / name).exists():
                    (folder / name).replace(aside / name)
            fsync_folder(aside)
            (new / "state.db").replace(folder / "state.db")
        if (new / _TOLD).exists():
            (new / _TOLD).replace(aside / _TOLD)
        fsync_folder(folder)
        shutil.rmtree(new)
    except OSError as error:
        raise of_the_system(aside, error) from error
    return aside


def _take_over(old: Path, new: Path) -> list[Salvaged]:
    """Everything that reads of the database ``old``, in a database ``new``."""
    reading = sqlite3.connect(f"{old.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
    reading.text_factory = lambda raw: raw.decode(errors="replace")
    writing = sqlite3.connect(new, isolation_level=None)
    try:
        writing.execute("PRAGMA journal_mode = OFF")  # a failed one begins anew
        writing.execute("PRAGMA synchronous = OFF")
        migrations.migrate(writing, _steps(reading))
        tables = [
            name
            for (name,) in writing.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
            if name not in _MADE and not name.startswith("sqlite_")
        ]
        writing.execute("BEGIN")
        found = [_copy(reading, writing, table) for table in tables]
        if any(one.lost for one in found if one.table == "name"):
            for table in _NUMBERED.intersection(tables):
                writing.execute(f"DELETE FROM {table}")  # noqa: S608 - our own names
            found = [
                Salvaged(table=one.table, rows=0, lost="all, for names do not read")
                if one.table in _NUMBERED
                else one
                for one in found
            ]
        _go_on_counting(reading, writing)
        writing.execute("COMMIT")
    finally:
        reading.close()
        writing.close()
    return found


def _steps(reading: sqlite3.Connection) -> tuple[migrations.Step, ...]:
    """The steps that made the tables; all of them where that does not read."""
    try:
        return migrations.STEPS[: len(migrations.applied(reading))] or migrations.STEPS
    except sqlite3.DatabaseError as error:
        _only_damage(error)
        return migrations.STEPS


def _copy(reading: sqlite3.Connection, writing: sqlite3.Connection, table: str) -> Salvaged:
    """The rows of a table from its beginning and, where they stop to read, from its end."""
    columns, key = _shape(writing, table)
    keys = len(key.split(", "))
    put = (
        f"INSERT OR IGNORE INTO {table} ({', '.join(columns)})"  # noqa: S608 - our own names
        f" VALUES ({', '.join('?' * len(columns))})"
    )
    ends: list[Any] = [None, None]
    whole = False
    count = 0
    for place, order in enumerate(("", " DESC")):
        by = ", ".join(name + order for name in key.split(", "))
        try:
            asked = f"SELECT {key}, {', '.join(columns)} FROM {table} ORDER BY {by}"  # noqa: S608 - as above
            for row in _in_order(reading.execute(asked), keys, descending=bool(order)):
                if order and ends[0] is not None and row[:keys] <= ends[0]:
                    break
                try:
                    count += writing.execute(put, row[keys:]).rowcount
                except sqlite3.IntegrityError:
                    continue  # damaged, or of a row that is lost
                ends[place] = row[:keys]
            whole = True
            break
        except (sqlite3.DatabaseError, TypeError) as error:  # of keys of several types
            _only_damage(error)
    first, last = ("/".join(map(str, end)) if end else None for end in ends)
    lost = (
        ""
        if whole
        else "all"
        if first is None and last is None
        else f"what stood {f'after {first}' if first else 'at the beginning'}"
        f"{f' and before {last}' if last else ''}"
    )
    return Salvaged(table=table, rows=count, lost=lost)


def _in_order(rows: sqlite3.Cursor, keys: int, *, descending: bool) -> Iterator[tuple[Any, ...]]:
    """The rows as long as their keys go one way: else a page stands where it does not belong."""
    before = None
    for row in rows:
        key = row[:keys]
        if before is not None and (key >= before if descending else key <= before):
            raise sqlite3.DatabaseError("rows are not in order")
        yield row
        before = key


def _shape(connection: sqlite3.Connection, table: str) -> tuple[list[str], str]:
    """The columns of a table, and by what its rows are ordered as they are stored."""
    described = connection.execute(f"PRAGMA table_info({table})").fetchall()
    columns = [name for _, name, *_ in described]
    try:
        connection.execute(f"SELECT rowid FROM {table} LIMIT 0")  # noqa: S608 - our own names
    except sqlite3.OperationalError:  # WITHOUT ROWID
        primary = sorted((place, name) for _, name, _, _, _, place in described if place)
        return columns, ", ".join(name for _, name in primary)
    return columns, "rowid"


def _go_on_counting(reading: sqlite3.Connection, writing: sqlite3.Connection) -> None:
    """Give no number a second time, and store no result twice, though the last rows are lost."""
    try:
        given = dict(reading.execute("SELECT name, seq FROM sqlite_sequence").fetchall())
    except sqlite3.DatabaseError as error:
        _only_damage(error)
        given = {}
    own = dict(writing.execute("SELECT name, seq FROM sqlite_sequence").fetchall())
    ((done,),) = writing.execute(
        "SELECT max(coalesce((SELECT MAX(record) FROM progress WHERE name = 'done'), 0),"
        " coalesce((SELECT MAX(record) FROM score_block), 0),"
        " coalesce((SELECT MAX(record) FROM snapshot), 0))"
    ).fetchall()
    ((positions,),) = writing.execute("SELECT coalesce(MAX(number), 0) FROM position").fetchall()
    ((cursor,),) = writing.execute("SELECT coalesce(MAX(cursor), 0) FROM sink").fetchall()
    least = {"journal": max(done, positions), "outbox": cursor}
    for name in {*given, *own, *least}:
        numbers = (given.get(name, 0), own.get(name, 0), least.get(name, 0))
        highest = max((one for one in numbers if isinstance(one, int)), default=0)
        writing.execute("DELETE FROM sqlite_sequence WHERE name = ?", (name,))
        writing.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (name, highest))
    if done:
        writing.execute(
            "INSERT INTO progress (name, record) VALUES ('done', ?)"
            " ON CONFLICT (name) DO UPDATE SET record = excluded.record",
            (done,),
        )


def _only_damage(error: Exception) -> None:
    """Raise anything but damage: what a disk does not give just now must not count as lost."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None and code & 0xFF not in _DAMAGE:
        raise error


def _unused(folder: Path, now: int) -> str:
    """The name of a folder that there is not yet."""
    name = f"damaged-{datetime.fromtimestamp(now // 1_000_000_000, UTC):%Y%m%dT%H%M%SZ}"
    while (folder / name).exists():  # the clock was put back
        name += "x"
    return name


def _write(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())

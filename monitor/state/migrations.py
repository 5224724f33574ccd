"""How the database came to its present tables: named steps, each run once, in order.

A step and the row that says it ran are one transaction. A step is never changed once it was
released: write the next.
"""

import sqlite3
from collections.abc import Callable, Sequence

from monitor.state.errors import SchemaError

Step = tuple[str, Callable[[sqlite3.Connection], None]]


def applied(connection: sqlite3.Connection) -> list[str]:
    """Names of the steps that ran on this database, in order. Never writes."""
    known = connection.execute(
        "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'migration'"
    ).fetchone()
    if known is None:
        return []
    return [name for (name,) in connection.execute("SELECT name FROM migration ORDER BY number")]


def pending(connection: sqlite3.Connection, steps: Sequence[Step] | None = None) -> list[Step]:
    """The steps that did not run yet. Never writes.

    Raises SchemaError when the database knows steps that this program does not.
    """
    steps = STEPS if steps is None else steps
    done = applied(connection)
    names = [name for name, _ in steps]
    if done != names[: len(done)]:
        unknown = [name for name in done if name not in names] or done
        raise SchemaError(
            f"the state was written by a newer version: it has {', '.join(unknown)}, "
            f"this version knows {', '.join(names)}. "
            f"Install that version again, or start on an empty folder."
        )
    return list(steps[len(done) :])


def migrate(connection: sqlite3.Connection, steps: Sequence[Step] | None = None) -> list[str]:
    """Run what is pending; names of what ran. Raises SchemaError as pending() does.

    ``connection`` must be in autocommit mode (isolation_level None) and in no transaction.
    """
    todo = pending(connection, steps)
    for name, step in todo:
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS migration"
                " (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)"
            )
            step(connection)
            connection.execute("INSERT INTO migration (name) VALUES (?)", (name,))
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    return [name for name, _ in todo]


def _first(connection: sqlite3.Connection) -> None:
    """Every table of version 0.1. Times are ns since 1970 UTC, intervals (since, until]."""
    for statement in (
        # Numbers that tags, assets and cameras carry in arrays: given once, never to another.
        """CREATE TABLE name (family TEXT NOT NULL, id INTEGER NOT NULL, name TEXT NOT NULL,
            PRIMARY KEY (family, id), UNIQUE (family, name)) WITHOUT ROWID""",
        """CREATE TABLE journal (number INTEGER PRIMARY KEY AUTOINCREMENT,
            received INTEGER NOT NULL, kind TEXT NOT NULL, source TEXT, position TEXT,
            body BLOB NOT NULL)""",
        """CREATE TABLE position (source TEXT PRIMARY KEY, position TEXT NOT NULL,
            number INTEGER NOT NULL) WITHOUT ROWID""",
        """CREATE TABLE progress (name TEXT PRIMARY KEY, record INTEGER NOT NULL) WITHOUT ROWID""",
        """CREATE TABLE score_block (id INTEGER PRIMARY KEY AUTOINCREMENT,
            record INTEGER NOT NULL, kind TEXT NOT NULL, first_tick INTEGER NOT NULL,
            last_tick INTEGER NOT NULL, first_asset INTEGER NOT NULL, last_asset INTEGER NOT NULL,
            body BLOB NOT NULL)""",
        "CREATE INDEX score_block_by_time ON score_block (last_tick)",
        """CREATE TABLE alarm_event (number INTEGER PRIMARY KEY AUTOINCREMENT,
            alarm TEXT NOT NULL, asset TEXT NOT NULL, class TEXT NOT NULL, point TEXT NOT NULL,
            transition TEXT NOT NULL, tick INTEGER NOT NULL, raised INTEGER NOT NULL,
            reason TEXT NOT NULL, value REAL, threshold REAL, blame TEXT NOT NULL,
            who TEXT NOT NULL, UNIQUE (alarm, transition, tick))""",
        "CREATE INDEX alarm_event_by_time ON alarm_event (tick)",
        """CREATE TABLE alarm (alarm TEXT PRIMARY KEY, asset TEXT NOT NULL, class TEXT NOT NULL,
            point TEXT NOT NULL, raised INTEGER NOT NULL, changed INTEGER NOT NULL,
            reason TEXT NOT NULL, value REAL, threshold REAL, blame TEXT NOT NULL,
            active INTEGER NOT NULL, acknowledged INTEGER NOT NULL, shelved INTEGER NOT NULL,
            who TEXT NOT NULL) WITHOUT ROWID""",
        "CREATE INDEX alarm_by_time ON alarm (raised)",
        """CREATE TABLE gap (asset TEXT NOT NULL, since INTEGER NOT NULL, until INTEGER NOT NULL,
            PRIMARY KEY (asset, since, until)) WITHOUT ROWID""",
        """CREATE TABLE late (number INTEGER PRIMARY KEY AUTOINCREMENT, record INTEGER NOT NULL,
            body BLOB NOT NULL)""",
        """CREATE TABLE status (only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
            body TEXT NOT NULL)""",
        """CREATE TABLE rollup (width INTEGER NOT NULL, asset INTEGER NOT NULL,
            span INTEGER NOT NULL, kind TEXT NOT NULL, channels TEXT NOT NULL, body BLOB NOT NULL,
            PRIMARY KEY (width, asset, span, kind, channels))""",
        "CREATE TABLE snapshot (record INTEGER PRIMARY KEY, file TEXT NOT NULL UNIQUE)",
        """CREATE TABLE outbox (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE,
            type TEXT NOT NULL, time INTEGER, bytes INTEGER NOT NULL, body BLOB NOT NULL)""",
        "CREATE INDEX outbox_by_type ON outbox (type, number)",
        """CREATE TABLE sink (name TEXT PRIMARY KEY, cursor INTEGER NOT NULL,
            dropped INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID""",
        """
            CREATE TABLE sink_accepts (sink TEXT NOT NULL REFERENCES sink (name) ON DELETE CASCADE,
            type TEXT NOT NULL, PRIMARY KEY (sink, type)) WITHOUT ROWID""",
        """CREATE TABLE dead_letter (sink TEXT NOT NULL, number INTEGER NOT NULL,
            type TEXT NOT NULL, body BLOB NOT NULL, reason TEXT NOT NULL,
            PRIMARY KEY (sink, number))""",
    ):
        connection.execute(statement)


def _retention(connection: sqlite3.Connection) -> None:
    """What it takes to let go of old rows in bounded steps, and to count what is lost thereby."""
    for statement in (
        # kept_from: wall time, ns, of the first look at the row; its age is counted from there.
        "ALTER TABLE late ADD COLUMN kept_from INTEGER",
        "ALTER TABLE late ADD COLUMN samples INTEGER NOT NULL DEFAULT 1",  # of old rows: at least
        "CREATE INDEX late_by_age ON late (kept_from)",
        "ALTER TABLE dead_letter ADD COLUMN kept_from INTEGER",
        "CREATE INDEX dead_letter_by_age ON dead_letter (kept_from)",
        "CREATE INDEX gap_by_time ON gap (until)",
        "CREATE INDEX rollup_by_time ON rollup (width, span)",
        "CREATE TABLE loss (what TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID",
        # How large a table is, without reading all of it.
        "CREATE TABLE held (what TEXT PRIMARY KEY, bytes INTEGER NOT NULL) WITHOUT ROWID",
        "INSERT INTO held SELECT 'outbox', coalesce(SUM(bytes), 0) FROM outbox",
        "INSERT INTO held SELECT 'dead_letter', coalesce(SUM(LENGTH(body)), 0) FROM dead_letter",
        """CREATE TRIGGER outbox_grew AFTER INSERT ON outbox BEGIN
            UPDATE held SET bytes = bytes + new.bytes WHERE what = 'outbox'; END""",
        """CREATE TRIGGER outbox_shrank AFTER DELETE ON outbox BEGIN
            UPDATE held SET bytes = bytes - old.bytes WHERE what = 'outbox'; END""",
        """CREATE TRIGGER dead_letter_grew AFTER INSERT ON dead_letter BEGIN
            UPDATE held SET bytes = bytes + LENGTH(new.body) WHERE what = 'dead_letter'; END""",
        """CREATE TRIGGER dead_letter_shrank AFTER DELETE ON dead_letter BEGIN
            UPDATE held SET bytes = bytes - LENGTH(old.body) WHERE what = 'dead_letter'; END""",
    ):
        connection.execute(statement)


def _shelving(connection: sqlite3.Connection) -> None:
    """Shelved until when, and how the alarm stands after a transition; what waits, by an index."""
    for statement in (
        "ALTER TABLE alarm_event ADD COLUMN active INTEGER",
        "ALTER TABLE alarm_event ADD COLUMN acknowledged INTEGER",
        "ALTER TABLE alarm_event ADD COLUMN shelved_until INTEGER",
        # alarm.shelved is wall time in ns since 1970 UTC from here on, 0 where it is not shelved.
        "UPDATE alarm SET shelved = 0",
        "DROP INDEX outbox_by_type",
        "CREATE INDEX outbox_by_type ON outbox (type, number, bytes, time)",
    ):
        connection.execute(statement)


def _source_gaps(connection: sqlite3.Connection) -> None:
    """What sources said is missing (gap, overflow), and what of it came back (filled)."""
    for statement in (
        # tags: their numbers as a JSON list, in order; none: all of the source.
        """CREATE TABLE source_gap (number INTEGER PRIMARY KEY AUTOINCREMENT,
            source TEXT NOT NULL, kind TEXT NOT NULL, since INTEGER NOT NULL,
            until INTEGER NOT NULL, tags TEXT NOT NULL, reason TEXT NOT NULL,
            received INTEGER NOT NULL)""",
        "CREATE INDEX source_gap_by_source ON source_gap (source, kind, until)",
        "CREATE INDEX source_gap_by_time ON source_gap (until)",
    ):
        connection.execute(statement)


def _diagnosis(connection: sqlite3.Connection) -> None:
    """What an alarm looks like: a fault and how sure that is, as JSON; NULL: nobody says."""
    for statement in (
        "ALTER TABLE alarm_event ADD COLUMN diagnosis TEXT",
        "ALTER TABLE alarm ADD COLUMN diagnosis TEXT",
    ):
        connection.execute(statement)


def _pictures(connection: sqlite3.Connection) -> None:
    """Pictures that were accepted, by the hash of their files, and what became of them."""
    for statement in (
        # file: below the folder of pictures. waiting: 1 until its result is in the journal.
        """CREATE TABLE picture (number INTEGER PRIMARY KEY AUTOINCREMENT,
            camera INTEGER NOT NULL, time INTEGER NOT NULL, source TEXT NOT NULL, part TEXT,
            recipe TEXT, file TEXT NOT NULL, bytes INTEGER NOT NULL, received INTEGER NOT NULL,
            waiting INTEGER NOT NULL DEFAULT 1, UNIQUE (camera, time, file))""",
        "CREATE INDEX picture_by_file ON picture (file)",
        "CREATE INDEX picture_waiting ON picture (number) WHERE waiting",
        # Files whose rows are gone, to be deleted unless others need them.
        "CREATE TABLE picture_gone (file TEXT PRIMARY KEY) WITHOUT ROWID",
        """CREATE TABLE picture_result (camera INTEGER NOT NULL, time INTEGER NOT NULL,
            hash TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (camera, time, hash))
            WITHOUT ROWID""",
        "CREATE INDEX picture_result_by_time ON picture_result (time)",
        "INSERT INTO held VALUES ('picture', 0), ('picture_waiting', 0)",
        """CREATE TRIGGER picture_grew AFTER INSERT ON picture BEGIN
            UPDATE held SET bytes = bytes + new.bytes WHERE what = 'picture';
            UPDATE held SET bytes = bytes + new.bytes * new.waiting
                WHERE what = 'picture_waiting'; END""",
        """CREATE TRIGGER picture_seen AFTER UPDATE OF waiting ON picture BEGIN
            UPDATE held SET bytes = bytes + new.bytes * (new.waiting - old.waiting)
                WHERE what = 'picture_waiting'; END""",
        """CREATE TRIGGER picture_shrank AFTER DELETE ON picture BEGIN
            UPDATE held SET bytes = bytes - old.bytes WHERE what = 'picture';
            UPDATE held SET bytes = bytes - old.bytes * old.waiting
                WHERE what = 'picture_waiting'; END""",
    ):
        connection.execute(statement)


def _judgements(connection: sqlite3.Connection) -> None:
    """What sensors and pictures say together, as blocks of columns beside the scores."""
    for statement in (
        """CREATE TABLE judgement_block (id INTEGER PRIMARY KEY AUTOINCREMENT,
            first_tick INTEGER NOT NULL, last_tick INTEGER NOT NULL, body BLOB NOT NULL)""",
        "CREATE INDEX judgement_block_by_time ON judgement_block (last_tick)",
    ):
        connection.execute(statement)


def _pictures_of_alarms(connection: sqlite3.Connection) -> None:
    """The hash of the picture that a transition is about; NULL: an earlier version wrote it."""
    connection.execute("ALTER TABLE alarm_event ADD COLUMN picture TEXT")
    connection.execute("ALTER TABLE alarm ADD COLUMN picture TEXT")


STEPS: tuple[Step, ...] = (
    ("0001_first", _first),
    ("0002_retention", _retention),
    ("0003_shelving", _shelving),
    ("0004_source_gaps", _source_gaps),
    ("0005_diagnosis", _diagnosis),
    ("0006_pictures", _pictures),
    ("0007_judgements", _judgements),
    ("0008_pictures_of_alarms", _pictures_of_alarms),
)

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from support.keeping import batch

from monitor.state import database as database_room
from monitor.state import migrations
from monitor.state.database import Database, DatabaseReader
from monitor.state.errors import (
    CorruptError,
    LockedError,
    ReadOnlyError,
    SchemaError,
    StateError,
    StorageFullError,
)
from monitor.state.journal import Journal
from monitor.state.names import Family, Names

HOLDER = """
import sys
from pathlib import Path
from monitor.state.database import Database
with Database(Path(sys.argv[1])):
    print("open", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_refused_and_told_who_runs(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout.readline() == b"open\n"
        with pytest.raises(LockedError, match=f"process {holder.pid} is running") as caught:
            Database(tmp_path)
        assert caught.value.pid == holder.pid
        with DatabaseReader(tmp_path) as reader:  # reading is for everybody
            assert Journal(reader).last() == 0
        holder.send_signal(signal.SIGKILL)
    with Database(tmp_path):  # a killed process holds no lock
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_a_folder_that_failed_to_open_is_not_left_locked(tmp_path):
    (tmp_path / "state.db").write_text("this is no database at all" * 100)
    for _ in range(2):
        with pytest.raises(CorruptError, match="not a database"):
            Database(tmp_path)
    (tmp_path / "state.db").unlink()
    Database(tmp_path).close()


def test_a_closed_folder_opens_again_and_closing_twice_is_fine(tmp_path):
    for _ in range(2):
        database = Database(tmp_path)
        database.close()
        database.close()


def test_all_of_a_transaction_is_stored_or_none(database):
    journal = Journal(database)
    with database.atomic() as tx:
        journal.append(tx, batch(1))
    with pytest.raises(ZeroDivisionError), database.atomic() as tx:
        journal.append(tx, batch(journal.append(tx, batch(2)) // 0))
    with database.atomic() as tx:
        assert journal.append(tx, batch(3)) == 2
    assert journal.positions() == {"press": "3"}


def test_a_transaction_inside_another_is_refused_and_the_outer_goes_on(database):
    with database.atomic() as tx:
        with pytest.raises(RuntimeError, match="hand the transaction on"), database.atomic():
            pass
        Journal(database).append(tx, batch(1))
    assert Journal(database).last() == 1


def test_threads_write_one_after_the_other(database):
    journal = Journal(database)

    def write() -> None:
        for number in range(20):
            with database.atomic() as tx:
                journal.append(tx, batch(number))

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [number for number, _ in journal.read(0)] == list(range(1, 81))


def test_readers_see_what_is_committed_and_nothing_else(database):
    journal = Journal(database)
    with DatabaseReader(database.folder) as other:
        with database.atomic() as tx:
            journal.append(tx, batch(1))
            assert Journal(other).last() == 0
        assert Journal(other).last() == 1


def test_a_reader_cannot_write(database):
    with DatabaseReader(database.folder) as reader, pytest.raises(ReadOnlyError):
        reader.query("DELETE FROM journal")


def test_reading_where_nothing_is_says_so(tmp_path):
    with pytest.raises(StateError, match="there is no state here"):
        DatabaseReader(tmp_path)


def test_every_commit_reaches_the_disk(database):
    assert database._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert database._connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL


def test_a_folder_that_may_not_be_written_says_so():
    nobody = 65534
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        Database(folder / "state").close()
        for path in (folder, folder / "state"):
            path.chmod(0o555)
        mine = os.geteuid()
        if mine == 0:
            os.seteuid(nobody)  # root may write anywhere
        try:
            with pytest.raises(ReadOnlyError, match="cannot be written"):
                Database(folder / "state")
            with pytest.raises(ReadOnlyError, match="cannot be written"):
                Database(folder / "new")
            with pytest.raises(ReadOnlyError, match="reading needs it as well"):
                DatabaseReader(folder / "state")
        finally:
            os.seteuid(mine)
            for path in (folder, folder / "state"):
                path.chmod(0o755)


def test_a_new_folder_is_durable_with_all_that_it_stands_in(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(database_room, "fsync_folder", synced.append)
    Database(tmp_path / "plants" / "works" / "state").close()
    assert {tmp_path, tmp_path / "plants", tmp_path / "plants" / "works"} <= set(synced)


def test_text_that_was_damaged_reads_as_other_text(database):
    with database.atomic() as tx:
        tx.execute("INSERT INTO loss (what, count) VALUES (CAST(x'66ff' AS TEXT), 1)")
    assert database.query("SELECT what FROM loss") == [("f\N{REPLACEMENT CHARACTER}",)]


def test_a_file_in_the_folders_place_says_so(tmp_path):
    (tmp_path / "state").write_text("")
    with pytest.raises(ReadOnlyError, match="Want a folder"):
        Database(tmp_path / "state")


def test_a_full_database_stores_nothing_of_the_transaction_and_works_again(database):
    journal = Journal(database)
    pages = database._connection.execute("PRAGMA page_count").fetchone()[0]
    database._connection.execute(f"PRAGMA max_page_count = {pages + 4}")
    with pytest.raises(StorageFullError, match="free space"), database.atomic() as tx:
        list(map(journal.append, [tx] * 1000, map(batch, range(1000))))
    assert journal.last() == 0
    database._connection.execute("PRAGMA max_page_count = 1000000")
    with database.atomic() as tx:
        journal.append(tx, batch(1))
    assert journal.positions() == {"press": "1"}


def test_damaged_pages_are_told_from_an_empty_journal(tmp_path):
    with Database(tmp_path) as database, database.atomic() as tx:
        for number in range(300):
            Journal(database).append(tx, batch(number, size=20))
    path = tmp_path / "state.db"
    raw = path.read_bytes()
    path.write_bytes(raw[:4096] + b"\xa5" * (len(raw) - 4096))  # all but the page of the schema
    with pytest.raises(CorruptError, match="put back a backup"), Database(tmp_path) as database:
        list(Journal(database).read(0))


def test_numbers_of_names_are_kept_and_never_given_twice(tmp_path):
    with Database(tmp_path) as database:
        names = Names(database)
        with database.atomic() as tx:
            assert names.tag_ids(tx, ["p1/flow", "p1/heat"]) == {"p1/flow": 0, "p1/heat": 1}
            assert names.asset_ids(tx, ["p1"]) == {"p1": 0}
    with Database(tmp_path) as database:
        names = Names(database)
        with database.atomic() as tx:
            given = names.tag_ids(tx, ["p2/flow", "p1/heat", "p2/flow"])
        assert given == {"p2/flow": 2, "p1/heat": 1}
        assert names.of(Family.TAG) == {0: "p1/flow", 1: "p1/heat", 2: "p2/flow"}
        assert names.of(Family.CAMERA) == {}


def test_a_migration_runs_once_and_a_failed_one_leaves_no_trace():
    def good(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE extra (x)")

    def bad(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE half (x)")
        raise ZeroDivisionError

    connection = sqlite3.connect(":memory:", isolation_level=None)
    steps = [*migrations.STEPS, ("9999_good", good), ("9999_bad", bad)]
    with pytest.raises(ZeroDivisionError):
        migrations.migrate(connection, steps)
    assert migrations.applied(connection) == [*(name for name, _ in migrations.STEPS), "9999_good"]
    assert migrations.migrate(connection, steps[:-1]) == []
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
    assert "extra" in tables
    assert "half" not in tables
    connection.close()


def test_looking_at_what_is_pending_writes_nothing():
    connection = sqlite3.connect(":memory:", isolation_level=None)
    assert migrations.pending(connection) == list(migrations.STEPS)
    assert connection.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone() == (0,)
    connection.close()


def test_a_state_of_a_newer_version_is_refused_in_clear_words(tmp_path):
    with Database(tmp_path) as database:
        database._connection.execute("INSERT INTO migration (name) VALUES ('0999_from_tomorrow')")
    for opening in (Database, DatabaseReader):
        with pytest.raises(SchemaError, match=r"newer version: it has 0999_from_tomorrow"):
            opening(tmp_path)


def test_a_reader_does_not_bring_an_older_state_up_to_date(tmp_path, monkeypatch):
    Database(tmp_path).close()
    newer = (*migrations.STEPS, ("0002_next", lambda _: None))
    monkeypatch.setattr(migrations, "STEPS", newer)
    with pytest.raises(SchemaError, match="older version; it lacks 0002_next"):
        DatabaseReader(tmp_path)
    Database(tmp_path).close()
    DatabaseReader(tmp_path).close()

"""A disk that may not be written or fails: nothing is acknowledged, and all goes on after."""

import asyncio
import errno
import logging
import os
import sqlite3
import subprocess
import sys

import pytest
from support import plants
from support.keeping import batch
from support.plants import CHANNELS, TICKS, until

from monitor.core.records import Results
from monitor.live import service as service_room
from monitor.live import stepper as stepper_room
from monitor.state import snapshot as snapshot_room
from monitor.state.database import Database
from monitor.state.errors import BusyError, FailingDiskError, ReadOnlyError
from monitor.state.journal import Journal
from monitor.state.snapshot import Snapshots, save
from monitor.state.store import Store
from monitor.state.writer import Writer

ERRORS = {
    "read-only": (sqlite3.SQLITE_READONLY, "BEGIN", ReadOnlyError),
    "fsync fails": (sqlite3.SQLITE_IOERR_FSYNC, "COMMIT", FailingDiskError),
    "held by another": (sqlite3.SQLITE_BUSY, "BEGIN", BusyError),
}


class Failing:
    """A connection to a disk that fails at one statement, while it is told to."""

    def __init__(self, connection, code, statement):
        self._connection, self._code, self._statement = connection, code, statement
        self.fails = False
        self.failed = 0

    def execute(self, sql, *given):
        if self.fails and sql.startswith(self._statement):
            self.failed += 1
            error = sqlite3.OperationalError("the disk fails")
            error.sqlite_errorcode, error.sqlite_errorname = self._code, "SQLITE_FAILS"
            raise error
        return self._connection.execute(sql, *given)

    def __getattr__(self, name):
        return getattr(self._connection, name)


@pytest.fixture(params=ERRORS)
def error(request):
    return ERRORS[request.param]


async def test_the_service_waits_for_a_disk_that_fails_and_goes_on(
    error, tmp_path, caplog, monkeypatch
):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(service_room, "BEAT_S", 0.1)
    monkeypatch.setattr(stepper_room, "POLL_S", 0.05)
    monkeypatch.setattr(stepper_room, "TIDY_S", 0.0)  # also while it is tidied, and saved
    calm = plants.plant(tmp_path / "calm", batch_rows=5)
    expected = await asyncio.to_thread(plants.run, calm)
    made = plants.plant(tmp_path / "plant", batch_rows=5, speed=300.0)
    async with plants.serving(made, snapshot_s=0.05) as running:
        code, statement, _ = error
        disk = Failing(running.database._connection, code, statement)
        running.database._connection = disk
        await until(lambda: running.service.stepper.at > 10)
        disk.fails = True
        await until(lambda: "rig waits, and is tried again" in caplog.text)
        await until(lambda: "Time stands still" in caplog.text)
        at, failed = Journal(running.database).last(), disk.failed
        await until(lambda: disk.failed > failed + 5)
        assert Journal(running.database).last() == at, "nothing is accepted"
        assert (await running.service.standing()).journal_trouble
        disk.fails = False
        ended = await running.task
    assert ended.refused == {}
    found = plants.outcome(made.data)
    assert (found.digest, found.events) == (expected.digest, expected.events)
    assert found.summary["samples_received"] == TICKS * len(CHANNELS)
    assert made.messages() == calm.messages()


def test_a_commit_that_is_not_on_the_disk_is_not_acknowledged(error, tmp_path):
    code, statement, kind = error
    with Database(tmp_path / "state") as database, Writer(database) as writer:
        database._connection = disk = Failing(database._connection, code, statement)
        disk.fails = True
        refused = writer.submit(lambda tx: Journal(database).append(tx, batch(1)), size=1)
        with pytest.raises(kind, match="fails"):
            refused.result()
        assert Journal(database).last() == 0
        assert writer.counters().failed == 1
        disk.fails = False
        taken = writer.submit(lambda tx: Journal(database).append(tx, batch(2)), size=1)
        assert taken.result() == 1
        assert Journal(database).positions() == {"press": "2"}


LIMITED = """
import resource, signal, sys
from pathlib import Path
from support.keeping import batch
from monitor.state.database import Database
from monitor.state.errors import StateError
from monitor.state.journal import Journal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with Database(Path(sys.argv[1])) as database:
    def put(number):
        with database.atomic() as tx:
            Journal(database).append(tx, batch(number, size=2000))
    put(1)
    log = Path(sys.argv[1]) / "state.db-wal"  # the largest: it holds the migrations, too
    limit = log.stat().st_size + 150_000
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    taken = 1
    try:
        while taken < 100:
            put(taken + 1)
            taken += 1
    except StateError as error:
        print(type(error).__name__, error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    put(taken + 1)
    print(taken, [number for number, _ in Journal(database).read(0)] == list(range(1, taken + 2)))
"""


def test_a_write_that_the_system_refuses_is_told_apart_from_a_full_disk(tmp_path):
    """By a limit on the size of files: a real error of write(), and no privilege needed."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "state")],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    said, last = done.stdout.splitlines()
    assert said.startswith("FailingDiskError")
    assert "look at the disk" in said
    taken, whole = last.split()
    assert 1 < int(taken) < 100
    assert whole == "True"


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.EIO, FailingDiskError), (errno.EROFS, ReadOnlyError)],
)
def test_a_snapshot_that_is_not_on_the_disk_does_not_count(number, kind, tmp_path, monkeypatch):
    def fails(_descriptor):
        raise OSError(number, os.strerror(number))

    with Database(tmp_path) as database:
        with database.atomic() as tx:
            Store(database).write(tx, Results(), done=2)
        snapshots = Snapshots(database)
        save(database, snapshots, {"n": 1}, record=1)
        with monkeypatch.context() as patch:
            patch.setattr(snapshot_room.os, "fsync", fails)
            with pytest.raises(kind, match=os.strerror(number)):
                save(database, snapshots, {"n": 2}, record=2)
        assert snapshots.latest().tree == {"n": 1}

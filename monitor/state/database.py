"""The folder in which a process keeps its state: ``state.db``, ``snapshots/`` and ``lock``.

One process writes (``Database``), any number read (``DatabaseReader``), also while it runs.
Write-ahead log with synchronous=FULL: a commit that returned is on the disk. ``atomic()`` is the
only way to write: whatever is to happen together is done with one transaction.
"""

import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NewType, Self

from monitor.state import migrations
from monitor.state.errors import (
    SchemaError,
    StateError,
    of_the_system,
    translated,
)
from monitor.state.locks import held

Transaction = NewType("Transaction", sqlite3.Connection)
"""What atomic() hands out: the connection while a transaction is open. Who writes wants one."""

Arguments = Sequence[Any] | Mapping[str, Any]

_BUSY_S = 5.0  # how long to wait for another connection's lock: ours are held for milliseconds
_WAL_KEPT = 64 << 20  # bytes: a log that grew during a long read shrinks back to this

EARLIEST, LATEST = -(1 << 63), (1 << 63) - 1  # the ends of time: what SQLite's integers hold


class DatabaseReader:
    """Reads a folder's state; never writes, needs no lock. Each thread has its own connection.

    Raises StateError where there is no state, SchemaError for one of another version, DamagedError,
    ReadOnlyError (SQLite needs to write beside what it reads) and other StorageErrors.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "state.db"
        self._of_thread = threading.local()
        self._readers: list[sqlite3.Connection] = []
        self._opening = threading.Lock()
        if not self.path.exists():
            raise StateError(
                f"{self.path}: there is no state here. Want the folder of a service that ran once."
            )
        with ExitStack() as undo:
            undo.callback(self.close)
            with translated(self.path):
                waiting = migrations.pending(self._reader())
            if waiting:
                lacking = ", ".join(name for name, _ in waiting)
                raise SchemaError(
                    f"{self.path}: written by an older version; it lacks {lacking}. "
                    f"Start the service once with this version: it brings the state up to date."
                )
            undo.pop_all()

    def query(self, sql: str, arguments: Arguments = ()) -> list[Any]:
        """All rows of a SELECT, as last committed: ask for a bounded number of them."""
        with translated(self.path):
            return self._reader().execute(sql, arguments).fetchall()

    def bytes(self) -> int:
        """What the database takes on the disk, its log included."""
        files = (self.path, self.path.with_name(self.path.name + "-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    def close(self) -> None:
        """Let go of every connection. May be called twice; no thread may be reading."""
        with self._opening:
            for connection in self._readers:
                connection.close()
            self._readers.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _reader(self) -> sqlite3.Connection:
        """This thread's connection, opened on first use."""
        connection: sqlite3.Connection | None = getattr(self._of_thread, "connection", None)
        if connection is None:
            connection = _connect(f"{self.path.absolute().as_uri()}?mode=ro")
            with self._opening:
                self._readers.append(connection)
            self._of_thread.connection = connection
        return connection


class Database(DatabaseReader):
    """The one writer of a folder, made where there is none, brought up to date where it is older.

    Raises LockedError while another process writes it, SchemaError if it was written by a newer
    version, DamagedError if it is no database or does not read, StorageError while the disk does
    not take what must be written.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / "state.db"
        with ExitStack() as undo:
            self._lock = undo.enter_context(locked(folder))
            with translated(path):
                self._connection = _connect(f"{path.absolute().as_uri()}?mode=rwc")
                undo.callback(self._connection.close)
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._connection.execute(f"PRAGMA journal_size_limit = {_WAL_KEPT}")
                migrations.migrate(self._connection)
            fsync_folder(folder)
            self._writing = threading.Lock()
            self._writer_thread: int | None = None
            super().__init__(folder)
            undo.pop_all()

    @contextmanager
    def atomic(self) -> Iterator[Transaction]:
        """One transaction: all of it is on the disk when the block ends, or none if it raises.

        Threads wait for each other. Raises StorageError, DamagedError;
        RuntimeError inside another atomic() of the same thread: hand the transaction on instead.
        """
        if self._writer_thread == threading.get_ident():
            raise RuntimeError("atomic() inside atomic(): hand the transaction on instead")
        with self._writing, translated(self.path):
            self._writer_thread = threading.get_ident()
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield Transaction(self._connection)
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # SQLite may have rolled back by itself
                    self._connection.execute("ROLLBACK")
                raise
            finally:
                self._writer_thread = None

    def log_frames(self) -> int:
        """How many frames of the write-ahead log count."""
        with self._writing, translated(self.path):
            _, frames, _ = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            return int(frames)

    def close(self) -> None:
        """Let go of connections and lock. May be called twice; no thread may be at work."""
        super().close()
        self._connection.close()
        self._lock.close()


def make_folder(folder: Path) -> None:
    """Make a folder with all that it stands in, durable up to the first that was there before."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        fsync_folder(folder.parent)


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder durable: a rename is on the disk only after this."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _connect(uri: str) -> sqlite3.Connection:
    """A connection in autocommit mode: transactions are begun by atomic() and nobody else."""
    connection = sqlite3.connect(
        uri, uri=True, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.text_factory = _text
    return connection


def _text(raw: bytes) -> str:
    """Text as it is stored; what is no UTF-8 was damaged, and whoever reads it has a checksum."""
    return raw.decode(errors="replace")


def locked(folder: Path) -> IO[str]:
    """The folder's open lock file, held by this process alone until it is closed."""
    try:
        make_folder(folder.absolute() / "snapshots")
    except OSError as error:
        raise of_the_system(folder, error) from error
    return held(
        folder / "lock",
        by_another=f"{folder}: {{process}} is running on this folder. "
        f"Stop it first, or give this one a folder of its own.",
    )

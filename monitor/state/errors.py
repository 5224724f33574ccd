"""How keeping state can fail: one class for each thing a person must do about it.

SQLite speaks in result codes; ``translated`` turns them into these classes, once, for all rooms of
this package.
"""

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PRIMARY = (
    0xFF  # the low byte of an extended result code is its primary code (sqlite.org/rescode.html)
)
# What SQLite says when the shared-memory file beside the database cannot grow: the disk is full
# there, too.
_FULL_EXTENDED = frozenset({sqlite3.SQLITE_IOERR_SHMSIZE})


class StateError(Exception):
    """Something about what must survive a restart."""


class LockedError(StateError):
    """Another process runs on this folder. ``pid`` is its number, None if it could not be read."""

    def __init__(self, message: str, *, pid: int | None) -> None:
        """Keep the words for people and the number for code."""
        super().__init__(message)
        self.pid = pid


class CorruptError(StateError):
    """Stored bytes do not read back. ``number`` says which row, where there is one."""

    def __init__(self, message: str, *, number: int | None = None) -> None:
        """Keep the words for people and the number for code."""
        super().__init__(message)
        self.number = number


class DamagedError(CorruptError):
    """The database as a whole is damaged, not one row of it."""


class StorageError(StateError):
    """The disk does not do now what it must. Nothing of the transaction was stored; try again."""


class StorageFullError(StorageError):
    """No space left."""


class ReadOnlyError(StorageError):
    """The folder or the file may not be written."""


class FailingDiskError(StorageError):
    """The system reports an error in reading, writing or making durable."""


class BusyError(StorageError):
    """Another program holds the database."""


class SchemaError(StateError):
    """The file was made by another version of this program."""


class QueueFullError(StateError):
    """More bytes wait for the writer than it may hold: stop taking in, then try again."""


def of_the_system(path: Path, error: OSError) -> StateError:
    """What the operating system says about ``path``, as one of the errors of this room."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFullError(
            f"{path}: the disk is full. It was not written; free space on that disk."
        )
    if error.errno == errno.EIO:
        return FailingDiskError(f"{path}: {error.strerror}. It was not written; look at that disk.")
    return ReadOnlyError(
        f"{path}: cannot be written: {error.strerror}. Want a folder that this user may write."
    )


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Raise what SQLite says about the database ``path`` as one of the errors of this room."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None)  # absent where Python itself complains
        if code is None:
            raise
        primary = code & _PRIMARY
        if primary == sqlite3.SQLITE_FULL or code in _FULL_EXTENDED:
            raise StorageFullError(
                f"{path}: the disk is full. Nothing of this transaction was stored; "
                f"free space on the disk of {path.parent}."
            ) from error
        if primary in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
            raise ReadOnlyError(
                f"{path}: cannot be opened or written ({error}). Give this user the right to write "
                f"the folder {path.parent} and the files in it; reading needs it as well."
            ) from error
        if primary == sqlite3.SQLITE_IOERR:
            raise FailingDiskError(
                f"{path}: {error} ({error.sqlite_errorname}). Nothing of this transaction was "
                f"stored; look at the disk of {path.parent} and at the system's log."
            ) from error
        if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise BusyError(
                f"{path}: {error}: another program holds it. Nothing of this transaction was "
                f"stored; end that program."
            ) from error
        if primary == sqlite3.SQLITE_NOTADB:
            raise DamagedError(
                f"{path}: this is not a database. Put the right file back; the next "
                f"`watchkeeper run` moves it aside and starts anew."
            ) from error
        if primary == sqlite3.SQLITE_CORRUPT:
            raise DamagedError(
                f"{path}: the database is damaged ({error}). The next `watchkeeper run` moves it "
                f"aside, takes over what reads, and goes on; or put back a backup before."
            ) from error
        raise

"""A file that one process at a time holds: the kernel lets go of it when the process ends."""

import fcntl
import os
from pathlib import Path
from typing import IO

from monitor.state.errors import LockedError, of_the_system


def held(path: Path, *, by_another: str) -> IO[str]:
    """The open lock file ``path``, held by this process alone until it is closed.

    Raises LockedError while another process holds it, with the words ``by_another`` in which
    {process} stands for "process 123"; StorageFullError, ReadOnlyError.
    """
    try:
        lock = path.open("a+")
    except OSError as error:
        raise of_the_system(path, error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
    except BlockingIOError as error:
        lock.seek(0)
        written = lock.read().strip()
        lock.close()
        raise LockedError(
            by_another.replace("{process}", f"process {written or 'unknown'}"),
            pid=int(written) if written.isdigit() else None,
        ) from error
    except OSError as error:
        lock.close()
        raise of_the_system(path, error) from error
    return lock

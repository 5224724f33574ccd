"""The ledger: which ticks of which lane were sent, when, and which of it the peer has acknowledged.

Values are a function of the tick, so a row a tick is all that is to be kept. Rows are only added.
A row is committed before anything of its tick goes out: what a peer has, the ledger knows. A
process that is killed loses nothing of it; a machine that loses power may lose the last moments.
"""

import secrets
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import IO, Self

import numpy as np
from numpy.typing import NDArray

from monitor.site.problems import PlantError
from monitor.site.simulate.plan import Simulation
from monitor.state.errors import DamagedError, of_the_system, translated
from monitor.state.locks import held

FILE = "ledger.db"
LOCK = "ledger.lock"
TABLES = """
CREATE TABLE simulation (json TEXT NOT NULL);
CREATE TABLE sent (
  lane INTEGER NOT NULL, tick INTEGER NOT NULL, at_ns INTEGER NOT NULL,
  PRIMARY KEY (lane, tick)
) WITHOUT ROWID;
CREATE TABLE acknowledged (  -- assets: one bit each, the first asset's the highest; NULL: all
  lane INTEGER NOT NULL, tick INTEGER NOT NULL, assets BLOB,
  PRIMARY KEY (lane, tick)
) WITHOUT ROWID;
CREATE TABLE event (at_ns INTEGER NOT NULL, what TEXT NOT NULL, words TEXT NOT NULL);
"""

I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]


class What(StrEnum):
    """What happened beside sending."""

    STARTED = "started"
    STOPPED = "stopped"  # missing before the next start: it was killed
    CONNECTED = "connected"  # to the broker
    DISCONNECTED = "disconnected"


def alone(folder: Path) -> IO[str]:
    """The folder's open lock file, held by the one process that simulates, until it is closed.

    The folder is made where it is not there. Raises LockedError, StorageFullError, ReadOnlyError.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise of_the_system(folder, error) from error
    return held(
        folder / LOCK,
        by_another=f"{folder}: {{process}} is simulating in this folder. "
        f"Stop it first, or give this one a folder of its own.",
    )


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Raise what SQLite says of the folder's ledger as errors with words.

    Raises PlantError for a file that is no ledger or is damaged, StorageError for a disk that is
    full, failing or read-only, or a file in use.
    """
    path = folder / FILE
    try:
        with translated(path):
            yield
    except (DamagedError, sqlite3.OperationalError) as error:
        raise PlantError(
            f"{path}: no ledger, or a damaged one ({error.__cause__ or error}). Put the right file "
            f"back, or let `watchkeeper simulate` make a new one in another folder."
        ) from error


class Ledger:
    """The ledger of one folder. Also a reader, while another process writes it."""

    def __init__(self, folder: Path) -> None:
        """Raises PlantError where there is none."""
        self.path = folder / FILE
        if not self.path.exists():
            raise PlantError(f"{self.path}: no ledger here; `watchkeeper simulate` makes one.")
        self._connection = sqlite3.connect(self.path, isolation_level=None, timeout=10.0)
        self._connection.execute("PRAGMA synchronous = OFF")  # a kill it outlives all the same
        ((text,),) = self._connection.execute("SELECT json FROM simulation").fetchall()
        self.simulation = Simulation.from_json(text)

    @classmethod
    def make(cls, folder: Path, simulation: Simulation) -> Self:
        """A new ledger, or the one that is there. Raises PlantError where it is another's.

        One without a name gets one that no other has: a broker keeps what was for others before.
        """
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / FILE).exists():
            named = replace(simulation, name=simulation.name or f"simulate-{secrets.token_hex(4)}")
            fresh = folder / (FILE + ".new")
            fresh.unlink(missing_ok=True)
            connection = sqlite3.connect(fresh)
            connection.executescript(TABLES)
            connection.execute("INSERT INTO simulation VALUES (?)", (named.to_json(),))
            connection.commit()
            connection.execute("PRAGMA journal_mode = WAL")
            connection.close()
            fresh.rename(folder / FILE)
        one = cls(folder)
        name, begin_ms = simulation.name or one.simulation.name, one.simulation.begin_ms
        if one.simulation != replace(simulation, name=name, begin_ms=begin_ms):
            one.close()
            raise PlantError(
                f"{folder / FILE}: the ledger of a simulation with other options. Want the same "
                f"ones, to go on with it, or another folder."
            )
        return one

    @contextmanager
    def atomic(self) -> Iterator[None]:
        """What is added within is there at once or not at all."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:  # SQLite has ended it where the disk is full
                self._connection.execute("ROLLBACK")
            raise

    def send(self, lane: int, ticks: Iterable[int], at_ns: int) -> None:
        """These ticks are about to go out."""
        self._connection.executemany(
            "INSERT INTO sent VALUES (?, ?, ?)", [(lane, tick, at_ns) for tick in ticks]
        )

    def acknowledge(self, lane: int, tick: int, assets: Bools | None = None) -> None:
        """The peer has a tick, or so much of it; said once of a tick. ``assets``: bool [A]."""
        bits = None if assets is None else np.packbits(assets).tobytes()
        self._connection.execute("INSERT INTO acknowledged VALUES (?, ?, ?)", (lane, tick, bits))

    def note(self, what: What, at_ns: int, words: str = "") -> None:
        """Something happened."""
        self._connection.execute("INSERT INTO event VALUES (?, ?, ?)", (at_ns, what, words))

    def last(self, lane: int) -> int | None:
        """The last tick that was sent; None: none was."""
        ((tick,),) = self._connection.execute("SELECT MAX(tick) FROM sent WHERE lane = ?", (lane,))
        return None if tick is None else int(tick)

    def ticks(
        self, lane: int, *, first: int, last: int, limit: int, newest_first: bool = False
    ) -> list[int]:
        """Ticks that were sent, from ``first`` to ``last``, both included, in order."""
        sign = -1 if newest_first else 1
        rows = self._connection.execute(
            "SELECT tick FROM sent WHERE lane = ? AND tick BETWEEN ? AND ?"
            " ORDER BY tick * ? LIMIT ?",
            (lane, first, last, sign, limit),
        )
        return [tick for (tick,) in rows]

    def sent(self, lane: int) -> tuple[I64, Bools]:
        """All ticks [T] that were sent, in order, and what of them is acknowledged, [T, A]."""
        assets = self.simulation.lanes[lane].assets
        rows = self._connection.execute(
            "SELECT sent.tick, acknowledged.tick IS NOT NULL, assets FROM sent"
            " LEFT JOIN acknowledged USING (lane, tick) WHERE lane = ? ORDER BY sent.tick",
            (lane,),
        ).fetchall()
        ticks = np.fromiter((tick for tick, _, _ in rows), np.int64, len(rows))
        has_TA = np.zeros((len(rows), assets), np.bool_)
        for place, (_, answered, bits) in enumerate(rows):
            if bits is not None:
                has_TA[place] = np.unpackbits(np.frombuffer(bits, np.uint8), count=assets)
            elif answered:
                has_TA[place] = True
        return ticks, has_TA

    def events(self) -> list[tuple[int, What, str]]:
        """What happened, in order: when (ns since 1970 UTC), what, words."""
        rows = self._connection.execute("SELECT at_ns, what, words FROM event ORDER BY rowid")
        return [(at, What(what), words) for at, what, words in rows]

    def outages(self) -> list[tuple[int, int]]:
        """When nobody sent, from one process's last sign of life to the next one's start, ns."""
        found = []
        started = [at for at, what, _ in self.events() if what is What.STARTED]
        for again in started[1:]:
            ((sent,),) = self._connection.execute(
                "SELECT MAX(at_ns) FROM sent WHERE at_ns < ?", (again,)
            )
            events = [at for at, _, _ in self.events() if at < again]
            found.append((max([*events, *([] if sent is None else [sent])]), again))
        return found

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

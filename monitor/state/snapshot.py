"""Snapshots of the step's whole state: files beside the database, and the rows that name them.

A file is written whole, made durable and renamed into place before the row that names it is
committed; two are kept, so there is always an older one to fall back on. A snapshot is never ahead
of the stored results: what was stepped but not stored must be stepped again.
"""

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from monitor.state.columns import Columns, pack, unpack
from monitor.state.database import Database, DatabaseReader, Transaction, fsync_folder
from monitor.state.errors import CorruptError, SchemaError, StateError, of_the_system

_KEPT = 2

logger = logging.getLogger(__name__)

Tree = dict[str, Any]
"""Dicts of dicts down to numpy arrays and JSON values; arrays stand in dicts, keys are text."""

Upgrade = Callable[[Tree], Tree]
"""Makes a tree of one version into one of the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The state as it was after journal record ``record``."""

    record: int
    tree: Tree
    meta: Any


class Snapshots:
    """The snapshots of one folder.

    ``upgrades[n]`` makes a tree of version n + 1 into one of n + 2; what they lead to is written.
    """

    def __init__(self, database: DatabaseReader, *, upgrades: Sequence[Upgrade] = ()) -> None:
        self._database = database
        self._folder = database.folder / "snapshots"
        self._upgrades = upgrades
        self._version = 1 + len(upgrades)

    def write(self, tree: Tree, *, record: int, meta: Any = None) -> Path:
        """Make the file of a snapshot, durable under its name; it counts once keep() names it.

        Raises TypeError for a tree that is not one, StorageError; the snapshots before stay as
        they are.
        """
        arrays, values = _split(tree)
        blob = pack(
            arrays, {"version": self._version, "record": record, "meta": meta, "values": values}
        )
        path = self._folder / f"{record:020d}.snapshot"
        unfinished = path.with_suffix(".unfinished")
        try:
            with unfinished.open("wb") as file:
                file.write(blob)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
            fsync_folder(self._folder)
        except OSError as error:
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)
            raise of_the_system(path, error) from error
        return path

    def keep(self, tx: Transaction, path: Path, *, record: int) -> None:
        """Let a written snapshot count, and the oldest no longer.

        Raises StateError if it is ahead of the results stored by the end of this transaction.
        """
        row = tx.execute("SELECT record FROM progress WHERE name = 'done'").fetchone()
        done = row[0] if row else 0
        if record > done:
            raise StateError(
                f"{path}: a snapshot after record {record}, but results are stored up to {done}: "
                f"those between would be lost. Store the results first."
            )
        tx.execute(
            "INSERT INTO snapshot (record, file) VALUES (?, ?) ON CONFLICT (record) DO NOTHING",
            (record, path.name),
        )
        tx.execute(
            "DELETE FROM snapshot WHERE record NOT IN"
            " (SELECT record FROM snapshot ORDER BY record DESC LIMIT ?)",
            (_KEPT,),
        )

    def sweep(self) -> None:
        """Remove the files that no row names. Not between write() and keep() of another thread.

        Raises StorageError.
        """
        named = {name for (name,) in self._database.query("SELECT file FROM snapshot")}
        try:
            for path in self._folder.iterdir():
                if path.name not in named:
                    path.unlink(missing_ok=True)
        except OSError as error:
            raise of_the_system(self._folder, error) from error

    def latest(self) -> Snapshot | None:
        """The newest snapshot that reads back whole; None if none was ever kept.

        Raises CorruptError if there are some and none reads back, SchemaError for one of a newer
        version.
        """
        rows = self._database.query("SELECT record, file FROM snapshot ORDER BY record DESC")
        for record, name in rows:
            try:
                return self._read(self._folder / name, record)
            except CorruptError as error:
                logger.warning("A snapshot does not read back, taking the one before: %s.", error)
        if rows:
            raise CorruptError(f"{self._folder}: none of {len(rows)} snapshots reads back")
        return None

    def forget(self, tx: Transaction) -> None:
        """Let none count any longer, where none reads back: the next one is the first."""
        tx.execute("DELETE FROM snapshot")

    def oldest(self) -> int:
        """The record of the older snapshot, 0 before there are two: keep all records after it."""
        rows = self._database.query("SELECT record FROM snapshot ORDER BY record DESC")
        return int(rows[-1][0]) if len(rows) >= _KEPT else 0

    def _read(self, path: Path, record: int) -> Snapshot:
        try:
            blob = path.read_bytes()
        except OSError as error:
            raise CorruptError(f"{path}: {error.strerror}", number=record) from error
        arrays, head = unpack(blob, what=str(path), number=record)
        if head["version"] > self._version:
            raise SchemaError(
                f"{path}: a snapshot of version {head['version']}, "
                f"this program reads up to {self._version}. "
                f"Install the newer version again, or start on an empty folder."
            )
        tree = _joined(arrays, head["values"])
        for upgrade in self._upgrades[head["version"] - 1 :]:
            tree = upgrade(tree)
        return Snapshot(record=head["record"], tree=tree, meta=head["meta"])


def save(
    database: Database,
    snapshots: Snapshots,
    tree: Tree,
    *,
    record: int,
    meta: Any = None,
) -> None:
    """Write a snapshot, keep it, and remove what is no longer kept."""
    path = snapshots.write(tree, record=record, meta=meta)
    with database.atomic() as tx:
        snapshots.keep(tx, path, record=record)
    snapshots.sweep()


def _split(tree: Mapping[str, Any], path: tuple[str, ...] = ()) -> tuple[Columns, Tree]:
    """The arrays of a tree by their path (as JSON), and the tree without them."""
    arrays: dict[str, Any] = {}
    values: Tree = {}
    for key, value in tree.items():
        if not isinstance(key, str):
            raise TypeError(f"snapshot {'.'.join(path)}: want text as key, got {key!r}")
        here = (*path, key)
        if isinstance(value, np.ndarray):
            arrays[json.dumps(here)] = value
        elif isinstance(value, Mapping):
            below, values[key] = _split(value, here)
            arrays |= below
        else:
            values[key] = value
    return arrays, values


def _joined(arrays: Columns, values: Tree) -> Tree:
    """The arrays put back where they were taken from."""
    for name, array in arrays.items():
        *path, last = json.loads(name)
        at = values
        for key in path:
            at = at[key]
        at[last] = array
    return values

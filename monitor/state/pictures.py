"""Pictures that were accepted: their files by the hash of what is in them, and what waits.

A picture is safe once its file and its row are: the file first (written, made durable, renamed,
and the folder made durable), then the row in one transaction with the journal's. A row waits until
the result of its inspection is in the journal: both are one transaction, so each picture has one
result, whatever is killed when. A file without a row is of a picture that was never accepted, and
comes again. Two pictures with the same bytes share a file.

Beside a picture lies its overlay, where something was found on it: what people look at. It is made
before the result is journaled, goes with the picture, and is not made anew where it is lost.
"""

import hashlib
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from connectors.batch import Pictures
from connectors.payloads.image import form_of
from monitor.core.records import PicturesTaken
from monitor.state.database import DatabaseReader, Transaction, fsync_folder, make_folder
from monitor.state.errors import CorruptError, of_the_system

_FAN = 2  # hex digits of the hash that name a folder: no folder holds more than some thousands
_PARTIAL = ".tmp"  # how a file ends that is not whole yet
_OVERLAY = ".overlay.jpg"  # in place of a picture's own ending
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A picture that was accepted and has no result yet."""

    number: int
    camera: int
    time: int  # ns since 1970 UTC
    source: str
    part: str | None
    recipe: str | None
    file: str  # below the folder of pictures
    received: int  # wall time, ns since 1970 UTC

    @property
    def hash(self) -> str:
        """SHA-256 of the file, hex."""
        return Path(self.file).stem


class PictureStore:
    """The pictures of one database."""

    def __init__(self, database: DatabaseReader) -> None:
        self._database = database
        self.folder = database.folder / "pictures"

    def keep(self, content: bytes) -> str:
        """Make a file durable; its name below the folder. One that is there whole stays as it is.

        Raises StorageError. May be called from several threads at once.
        """
        name = _name(content)
        path = self.folder / name
        try:
            make_folder(path.parent)
            if not _holds(path, len(content)):
                partial = path.with_name(f"{path.name}.{os.urandom(4).hex()}{_PARTIAL}")
                with partial.open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                partial.replace(path)
            fsync_folder(path.parent)  # also of one that is there: its rename may not be durable
        except OSError as error:
            raise of_the_system(path, error) from error
        return name

    def take(self, tx: Transaction, pictures: Pictures, *, received: int) -> PicturesTaken:
        """Note pictures whose files are kept; what the journal is to be told of them.

        ``received``: wall time, ns. Raises StorageError where a file that was let go of meanwhile
        cannot be written again.
        """
        new = []
        for row, content in enumerate(pictures.content):
            name = _name(content)
            if not (self.folder / name).exists():  # only this thread deletes: it stays from here on
                self.keep(content)
            new += [row] * tx.execute(
                "INSERT INTO picture (camera, time, source, part, recipe, file, bytes, received)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (
                    int(pictures.camera[row]),
                    int(pictures.time[row]),
                    pictures.source,
                    pictures.part[row],
                    pictures.recipe[row],
                    name,
                    len(content),
                    received,
                ),
            ).rowcount
        chosen = np.array(new, np.intp)
        return PicturesTaken(
            source=pictures.source,
            camera=pictures.camera[chosen],
            time=pictures.time[chosen],
            part=tuple(pictures.part[row] for row in new),
            recipe=tuple(pictures.recipe[row] for row in new),
            hash=tuple(Path(_name(pictures.content[row])).stem for row in new),
            repeated=len(pictures) - len(new),
            position=pictures.position,
        )

    def waiting(self, limit: int) -> list[Waiting]:
        """The first ``limit`` pictures that have no result yet, as they came."""
        rows = self._database.query(
            "SELECT number, camera, time, source, part, recipe, file, received FROM picture"
            " WHERE waiting ORDER BY number LIMIT ?",
            (limit,),
        )
        columns = ("number", "camera", "time", "source", "part", "recipe", "file", "received")
        return [Waiting(**dict(zip(columns, row, strict=True))) for row in rows]

    def waiting_of_cameras(self) -> dict[int, int]:
        """By the number of each camera: how many of its pictures have no result yet."""
        return dict(
            self._database.query("SELECT camera, COUNT(*) FROM picture WHERE waiting GROUP BY 1")
        )

    def waiting_bytes(self) -> int:
        """What the files of pictures without a result take."""
        return self._held("picture_waiting")

    def read(self, file: str) -> bytes:
        """What is in a file. Raises CorruptError where it is gone or changed, StorageError."""
        path = self.folder / file
        try:
            content = path.read_bytes()
        except FileNotFoundError as error:
            raise CorruptError(f"{path}: the picture is not there") from error
        except OSError as error:
            raise of_the_system(path, error) from error
        if hashlib.sha256(content).hexdigest() != path.stem:
            raise CorruptError(f"{path}: the picture is not what was written")
        return content

    def keep_overlay(self, file: str, content: bytes) -> None:
        """Put an overlay beside a picture; one that is there is replaced. Raises StorageError."""
        path = self._overlay(file)
        try:
            partial = path.with_name(f"{path.name}{_PARTIAL}")
            partial.write_bytes(content)
            partial.replace(path)
        except OSError as error:
            raise of_the_system(path, error) from error

    def shown(self, digest: str, *, overlay: bool = False) -> Path | None:
        """The file of a picture by its hash, or of its overlay where it has one.

        None: it is not kept, or never was.
        """
        if not _HASH.fullmatch(digest):
            return None
        files = self.folder / digest[:_FAN]
        laid = files / f"{digest}{_OVERLAY}"
        if overlay and laid.exists():
            return laid
        return next((path for path in files.glob(f"{digest}.*") if _is_picture(path)), None)

    def _overlay(self, file: str) -> Path:
        return (self.folder / file).with_suffix(_OVERLAY)

    def finish(self, tx: Transaction, number: int) -> bool:
        """It has its result, which is to be journaled in this transaction; False: it had one."""
        changed = tx.execute(
            "UPDATE picture SET waiting = 0 WHERE number = ? AND waiting", (number,)
        ).rowcount
        return changed == 1

    def forget(self, tx: Transaction, *, before: int, limit_bytes: int, limit: int) -> int:
        """Let go of pictures received ``before`` or earlier, wall time, ns; how many went.

        Of what is over ``limit_bytes``, too, the oldest first; ``limit`` at most, and none that
        waits. Their files go with ``delete_files``, once this is committed.
        """
        over = self._held("picture", tx) - limit_bytes
        gone = []
        for number, file, size, received in tx.execute(
            "SELECT number, file, bytes, received FROM picture WHERE NOT waiting"
            " ORDER BY number LIMIT ?",
            (limit,),
        ).fetchall():
            if received > before and over <= 0:
                break
            gone.append((number, file))
            over -= size
        tx.executemany("DELETE FROM picture WHERE number = ?", [(number,) for number, _ in gone])
        tx.executemany(
            "INSERT INTO picture_gone (file) VALUES (?) ON CONFLICT DO NOTHING",
            [(file,) for _, file in gone],
        )
        return len(gone)

    def delete_files(self, tx: Transaction, *, limit: int) -> int:
        """Delete files that no picture needs any more; how many were looked at.

        To be called in the writer's thread, as ``take`` is, after ``forget`` is committed: then no
        file goes that a picture has just come to need.
        """
        files = tx.execute("SELECT file FROM picture_gone LIMIT ?", (limit,)).fetchall()
        for (file,) in files:
            needed = tx.execute("SELECT 1 FROM picture WHERE file = ? LIMIT 1", (file,)).fetchone()
            if needed is None:
                path = self.folder / file
                try:
                    path.unlink(missing_ok=True)
                    self._overlay(file).unlink(missing_ok=True)
                except OSError as error:
                    raise of_the_system(path, error) from error
        tx.executemany("DELETE FROM picture_gone WHERE file = ?", files)
        return len(files)

    def sweep(self, *, before: float) -> int:
        """Delete what a kill has left: files half written, and files without a row; how many.

        Of the latter only what was changed ``before``, s since 1970: where rows were lost with a
        damaged database, the files are still there for as long. To be called before any source is
        open. Raises StorageError.
        """
        count = 0
        for path in self.folder.glob("*/*") if self.folder.is_dir() else ():
            name = f"{path.parent.name}/{path.name.removesuffix(_OVERLAY)}"
            partial = path.name.endswith(_PARTIAL)
            try:
                old = path.stat().st_mtime < before
                if partial or (old and not self._known(name)):
                    path.unlink()
                    count += 1
            except OSError as error:
                raise of_the_system(path, error) from error
        return count

    def _known(self, file: str) -> bool:
        """Whether a picture has this file; without its ending, of an overlay, any of that hash."""
        sql = "SELECT 1 FROM picture WHERE file >= ? AND file < ? LIMIT 1"
        return bool(self._database.query(sql, (file, f"{file}~")))

    def _held(self, what: str, tx: Transaction | None = None) -> int:
        sql = "SELECT bytes FROM held WHERE what = ?"
        rows: Sequence[tuple[int]]
        rows = (
            self._database.query(sql, (what,))
            if tx is None
            else tx.execute(sql, (what,)).fetchall()
        )
        return int(rows[0][0]) if rows else 0


def _is_picture(path: Path) -> bool:
    return not path.name.endswith((_PARTIAL, _OVERLAY))


def _holds(path: Path, size: int) -> bool:
    """Whether a file is there with so many bytes; not its name alone is believed."""
    with suppress(FileNotFoundError):
        return path.stat().st_size == size
    return False


def _name(content: bytes) -> str:
    """Where a picture lies below the folder: by what is in it."""
    form = form_of(content)
    digest = hashlib.sha256(content).hexdigest()
    return f"{digest[:_FAN]}/{digest}.{'bin' if form is None else form}"

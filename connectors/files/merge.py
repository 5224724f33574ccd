"""Several files to batches in one order of time: a merge with one chunk of each file that is due.

Each line has a key, the latest stamp up to and with it, so that keys never fall within a file;
lines go out ordered by key, file, line. That order does not depend on how the files were cut into
chunks. Of the loaded chunks, the one with the least last key (and then the first file) can go out
whole: nothing before its end can still come.
"""

import heapq
import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from connectors.batch import Notice, NoticeKind, Samples
from connectors.contract import LostError, MismatchError, NotReadyError, RefusedError, TagRef
from connectors.files.pieces import Slice, Take, inside, slices
from connectors.files.progress import Progress, Taken
from connectors.files.rows import NEVER, REASONS, Chunk, Rows, Wanted
from connectors.files.settings import ReadingSettings
from connectors.files.tables import Table, open_table

log = logging.getLogger(__name__)

PACED_BATCH_NS = 200_000_000  # at a set speed, a batch spans at most this much wall time
SHOWN = 5  # names in a warning


@dataclass(frozen=True, slots=True)
class Due:
    """A batch, and the latest stamp up to its end (None if no stamp was readable yet)."""

    key: int | None
    batch: Samples | Notice


class Cursor:
    """One file: where it is, the chunk that is loaded, and how much of that was given out."""

    def __init__(self, name: str, path: str) -> None:
        self.name = name
        self.path = path
        self.first_key = NEVER  # of the first line: when the file is due
        self.chunk: Chunk | None = None
        self.given = 0  # lines of the chunk
        self.table: Table | None = None
        self.chunks: Iterator[Chunk] = iter(())

    def __lt__(self, other: "Cursor") -> bool:
        """By when they are due, then by name."""
        return (self.first_key, self.name) < (other.first_key, other.name)

    @property
    def order(self) -> tuple[int, str]:
        """Last key of the loaded chunk, then the name: the least can go out whole."""
        assert self.chunk is not None  # noqa: S101 (our own mistake, not input)
        return int(self.chunk.key[-1]), self.name

    def take(self, bound: int, *, last: bool) -> Take:
        """The lines not given out yet, up to key ``bound``; ``last``: those at it too."""
        assert self.chunk is not None  # noqa: S101 (our own mistake, not input)
        stop = int(np.searchsorted(self.chunk.key, bound, "right" if last else "left"))
        return Take(name=self.name, chunk=self.chunk, start=self.given, stop=max(stop, self.given))

    def close(self) -> None:
        """Let go of the file."""
        if self.table is not None:
            self.table.close()
            self.table = None


class Merge:
    """Reads all matching files. ``close`` may come from another thread than ``advance``."""

    def __init__(
        self,
        name: str,
        settings: ReadingSettings,
        tags: Sequence[TagRef],
        *,
        since: int | None = None,
        until: int | None = None,
    ) -> None:
        self._name = name
        self._settings = settings
        self._wanted = Wanted.of(tags, settings, connector=name)
        self._since = since
        self._until = until
        self._lock = threading.Lock()
        self._waiting: list[Cursor] = []  # a heap: files that are not due yet, closed
        self._active: list[Cursor] = []
        self._files: dict[str, Taken] = {}
        self._owed: Mapping[str, int] = {}
        self._unseen = {tag.id: tag.address for tag in tags}
        self._examples: dict[str, str] = {}  # of what was rejected, by reason

    def open(self, resume: str | None) -> None:
        """Look at every file's header and first stamp, and take up the position.

        Raises NotReadyError while there is no file, RefusedError for files that cannot be read,
        MismatchError where not one sample of new files could be taken: none of them counts as read.
        """
        progress = Progress.from_json(resume, connector=self._name)
        paths = self._settings.files(connector=self._name)
        self._owed = progress.owed
        self._files = {name: taken for name, taken in progress.files.items() if name in paths}
        if resume is not None:
            self._unseen = {}
        for name in progress.files.keys() - paths.keys():
            if progress.files[name].size is None:
                log.error("%s: %s is gone and was not read to its end.", self._name, name)
        with self._lock, ExitStack() as undo:
            undo.callback(self._let_go)
            try:
                for name, path in paths.items():
                    self._look_at(Cursor(name, path))
                if not self._files:
                    self._refuse_where_nothing_can_be_taken()
                begun = [cursor for cursor in self._waiting if cursor.name in self._files]
                for cursor in begun:
                    self._waiting.remove(cursor)
                    self._start(cursor)
            except (LostError, OSError) as error:
                raise NotReadyError(str(error), connector=self._name) from error
            heapq.heapify(self._waiting)
            undo.pop_all()

    def advance(self) -> list[Due]:
        """The next batches, bounded by a chunk of each file that is due; none at the end.

        Raises LostError, RefusedError.
        """
        with self._lock:
            if self._owed:
                progress = Progress(dict(self._files), self._owed)
                self._owed = {}
                return list(self._rejections(progress, None))
            try:
                while self._fill():
                    if dues := list(self._batches()):
                        return dues
            except NotReadyError as error:  # it was there when we looked
                raise LostError(str(error), connector=self._name) from error
            if self._unseen:
                shown = ", ".join(map(repr, list(self._unseen.values())[:SHOWN]))
                log.warning("%s: no sample of %d tags: %s.", self._name, len(self._unseen), shown)
            return []

    def position(self) -> str:
        """Where it is now, with nothing owed."""
        return Progress(dict(self._files)).to_json()

    def close(self) -> None:
        """Let go of all files, once a running ``advance`` is done."""
        with self._lock:
            self._let_go()

    def _let_go(self) -> None:
        for cursor in self._active:
            cursor.close()
        self._active = []
        self._waiting = []

    def _look_at(self, cursor: Cursor) -> None:
        """Put a file among the waiting, unless it is done or empty."""
        taken = self._files.get(cursor.name)
        if taken is not None and taken.size is not None:
            size = Path(cursor.path).stat().st_size
            if size < taken.size:
                raise self._shorter(
                    cursor, f"{taken.size} bytes were read of it, it now has {size}"
                )
            if size == taken.size:
                return
        table = open_table(cursor.path, self._settings, connector=self._name)
        try:
            rows = self._rows(cursor, table)
            block = next(table.blocks(rows.columns, skip=0), None)
            if block is None and taken is None:
                log.warning("%s: %s holds no rows.", self._name, cursor.path)
                self._files[cursor.name] = Taken(0, table.size)
                return
            if block is not None and taken is None:
                keys = rows.chunk(block, key=NEVER).key
                rows.check_decimal(block)
                cursor.first_key = int(next(iter(keys[keys > NEVER]), NEVER))
        finally:
            table.close()
        self._waiting.append(cursor)

    def _refuse_where_nothing_can_be_taken(self) -> None:
        """Look for one sample in the waiting files; costs one block where all is well."""
        quoted = ""
        for cursor in self._waiting:
            table = open_table(cursor.path, self._settings, connector=self._name)
            try:
                rows = self._rows(cursor, table)
                for block in table.blocks(rows.columns, skip=0):
                    chunk = rows.chunk(block, key=NEVER)
                    if len(chunk.tag):
                        return
                    quoted = quoted or (chunk.quote(0) if len(chunk.bad_line) else "")
            finally:
                table.close()
        if quoted:
            raise MismatchError(
                f"{self._name}: not one sample of {self._settings.path} can be taken. {quoted}. "
                "Nothing counts as read: mend it and start again",
                connector=self._name,
            )

    def _rows(self, cursor: Cursor, table: Table) -> Rows:
        return Rows(table, self._wanted, self._settings, connector=self._name, path=cursor.path)

    def _start(self, cursor: Cursor) -> None:
        """Open a file that is due, and put it among the active if there is more in it."""
        cursor.table = open_table(cursor.path, self._settings, connector=self._name)
        self._active.append(cursor)  # before it is read: whatever happens, close() knows it
        cursor.chunks = self._chunks(cursor, cursor.table)
        if not self._refill(cursor):
            self._active.remove(cursor)

    def _chunks(self, cursor: Cursor, table: Table) -> Iterator[Chunk]:
        """The chunks from the line on that is next."""
        rows = self._rows(cursor, table)
        taken = self._lines_taken(cursor)
        key, end = cursor.first_key, 0
        # the pass of a doubled hour that a stamp is in depends on the lines before: read them again
        skip = 0 if self._settings.doubled_hour == "by_order" else taken
        for block in table.blocks(rows.columns, skip=skip):
            chunk = rows.chunk(block, key=key)
            key, end = int(chunk.key[-1]), chunk.end
            if end > taken:
                cursor.given = max(0, taken - chunk.first)
                yield chunk
        if end < taken:
            raise self._shorter(cursor, f"{taken} rows were read of it, it now has fewer")

    def _lines_taken(self, cursor: Cursor) -> int:
        return self._files.get(cursor.name, Taken(0)).lines

    def _fill(self) -> bool:
        """Give every active file a chunk with lines left; open what is due. False at the end."""
        self._active = [cursor for cursor in self._active if self._refill(cursor)]
        while self._waiting and (not self._active or self._next_is_due()):
            self._start(heapq.heappop(self._waiting))
        return bool(self._active)

    def _next_is_due(self) -> bool:
        first = self._waiting[0]
        return (first.first_key, first.name) <= min(cursor.order for cursor in self._active)

    def _refill(self, cursor: Cursor) -> bool:
        """Load the next chunk if the last is used up. False at the end of the file."""
        if cursor.chunk is not None and cursor.given < len(cursor.chunk.key):
            return True
        cursor.given = 0
        cursor.chunk = next(cursor.chunks, None)
        if cursor.chunk is not None:
            return True
        size = cursor.table.size if cursor.table is not None else None
        self._files[cursor.name] = Taken(self._lines_taken(cursor), size)
        cursor.close()
        return False

    def _batches(self) -> Iterator[Due]:
        """All loaded lines that nothing still to be read can come before."""
        bound, edge = min(cursor.order for cursor in self._active)
        cursors = sorted(self._active, key=lambda cursor: cursor.name)
        takes = [cursor.take(bound, last=cursor.name <= edge) for cursor in cursors]
        speed = self._settings.speed
        for piece in slices(
            takes,
            rows=self._settings.batch_rows,
            span=None if speed is None else max(1, round(PACED_BATCH_NS * speed)),
            since=self._since,
            until=self._until,
        ):
            for take, stop in zip(takes, piece.stops, strict=True):
                if stop > take.start:
                    self._files[take.name] = Taken(take.chunk.first + stop)
            for reason in piece.rejected.keys() - self._examples.keys():
                self._examples[reason] = self._example(takes, reason)
            progress = Progress(dict(self._files), piece.rejected)
            key = None if piece.key == NEVER else piece.key
            if len(piece.tag):
                if self._unseen:
                    for tag in np.unique(piece.tag).tolist():
                        self._unseen.pop(tag, None)
                yield Due(key, self._samples(piece, progress.to_json()))
            yield from self._rejections(progress, key)
        for cursor, take in zip(cursors, takes, strict=True):
            cursor.given = take.stop

    def _example(self, takes: Sequence[Take], reason: str) -> str:
        """One of the cells that were rejected for this reason."""
        for chunk in (take.chunk for take in takes):
            found = chunk.bad_reason == REASONS.index(reason)
            found &= inside(chunk.key[chunk.bad_line], self._since, self._until)
            if found.any():
                return chunk.quote(int(np.flatnonzero(found)[0]))
        return ""

    def _samples(self, piece: Slice, position: str) -> Samples:
        return Samples(
            source=self._name,
            tag=piece.tag,
            time=piece.time,
            value=piece.value,
            status=piece.status,
            flags=np.zeros(len(piece.tag), np.uint8),
            position=position,
        )

    def _rejections(self, progress: Progress, key: int | None) -> Iterator[Due]:
        """A notice for each reason; the position of each says that it is told."""
        for reason, count in progress.owed.items():
            progress = progress.told(reason)
            notice = Notice(
                source=self._name,
                kind=NoticeKind.REJECTED,
                reason=reason,
                count=count,
                example=self._examples.get(reason, ""),
                position=progress.to_json(),
            )
            yield Due(key, notice)

    def _shorter(self, cursor: Cursor, what: str) -> RefusedError:
        return RefusedError(
            f"{self._name}: {cursor.path} is another file than before: {what}. Files that were "
            "read may grow but not change; put the old one back, or give the new one another name",
            connector=self._name,
        )

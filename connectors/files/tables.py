"""Files to blocks of raw columns: CSV in pieces of whole lines, Parquet in pieces of row groups.

The first stop of the files connector: nothing is interpreted here. A block holds at most
``batch_rows`` lines (``rows`` for Parquet), and of a CSV never more than BLOCK_BYTES, so that
memory does not grow with the file.
"""

import codecs
import csv
import gzip
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from connectors.batch import I64
from connectors.contract import LostError, MismatchError, NotReadyError, RefusedError
from connectors.files.settings import ReadingSettings

BLOCK_BYTES = 1 << 20  # read at once of a CSV
LONGEST_LINE = 16 << 20  # characters; a longer line is no CSV but something else
PAGE_BYTES = 1 << 16  # read at once of a Parquet column
CSV_ENDINGS = (".csv", ".txt", ".csv.gz")
PARQUET_ENDINGS = (".parquet",)

# L lines of a block, R of them rows with the right number of cells


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A stretch of one file, as it stands there."""

    first: int  # lines of the file before it, the header not counted
    lines: int  # L
    columns: Mapping[int, Any]  # column number -> pyarrow Array [R]
    row: I64  # [R] line of each row, from 0 within the block
    ragged: I64  # lines with too many or too few cells


class Table(Protocol):
    """One open file."""

    columns: tuple[str, ...]  # () if the file is empty
    units: Mapping[int, str]  # what a column says of its unit, beside its name
    size: int  # bytes

    def blocks(self, wanted: tuple[int, ...], *, skip: int) -> Iterator[Block]:
        """The wanted columns, from the block on that reaches line ``skip``.

        Raises RefusedError, LostError.
        """
        ...

    def place(self, line: int) -> str:
        """Where a line stands, the first after the header being 0, as people count."""
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


def open_table(path: str, settings: ReadingSettings, *, connector: str) -> Table:
    """Open a file by the ending of its name.

    Raises RefusedError when it is not what its name says, NotReadyError when it cannot be opened
    now.
    """
    try:
        if path.endswith(CSV_ENDINGS):
            return CsvTable(path, settings, connector=connector)
        if path.endswith(PARQUET_ENDINGS):
            return ParquetTable(path, settings, connector=connector)
    except OSError as error:
        raise NotReadyError(
            f"{connector}: {path} cannot be opened: {error.strerror or error}",
            connector=connector,
        ) from error
    raise MismatchError(
        f"{connector}: {path}: want a name that ends in "
        f"{', '.join((*CSV_ENDINGS, *PARQUET_ENDINGS))}; rename it, or narrow `path`",
        connector=connector,
    )


class CsvTable:
    """Delimited text with one header line. A line is a row: quoted cells hold no line break."""

    units: Mapping[int, str] = {}

    def __init__(self, path: str, settings: ReadingSettings, *, connector: str) -> None:
        self._path = path
        self._settings = settings
        self._connector = connector
        self._decoder = codecs.getincrementaldecoder(settings.encoding)()
        self._pending = ""  # text read and not yet given out
        self._bytes = 0  # taken from the file so far
        self._line = 1  # number of the first line of what is pending
        self._done = False
        self.size = Path(path).stat().st_size
        opened = gzip.open if path.endswith(".gz") else open
        self._file: Any = opened(path, "rb")
        try:
            self.columns = self._header()
        except BaseException:
            self._file.close()
            raise
        self._first = self._line

    def place(self, line: int) -> str:
        """See Table."""
        return f"line {self._first + line}"

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def blocks(self, wanted: tuple[int, ...], *, skip: int) -> Iterator[Block]:
        """See Table."""
        first = 0
        for piece, lines in self._pieces():
            if first + lines >= skip:
                yield self._parse(piece, wanted, first=first, lines=lines)
            first += lines

    def _header(self) -> tuple[str, ...]:
        line = ""
        while not line.strip() and not (self._done and not self._pending):
            while "\n" not in self._pending and not self._done:
                self._fill()
            line, newline, self._pending = self._pending.partition("\n")
            self._line += len(newline)
        reader = csv.reader([line.removeprefix("\ufeff")], delimiter=self._settings.delimiter)
        try:
            cells = next(reader, [])
        except csv.Error as error:  # a return that ends no line, a cell without an end
            raise self._refused(
                f"its header cannot be read: {error}. Lines end with LF or CRLF; save it again"
            ) from error
        return tuple(cell.strip() for cell in cells)

    def _pieces(self) -> Iterator[tuple[bytes, int]]:
        """Whole lines in UTF-8, and how many they are."""
        most = self._settings.batch_rows
        while self._pending or not self._done:
            whole = len(self._pending) if self._done else self._pending.rfind("\n") + 1
            text, self._pending = self._pending[:whole], self._pending[whole:]
            block = text.encode()
            ends = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n")) + 1
            if block and not block.endswith(b"\n"):
                ends = np.append(ends, len(block))
            start = 0
            for stop in [*ends[most - 1 :: most].tolist(), len(block)]:
                lines = int(
                    np.searchsorted(ends, stop, "right") - np.searchsorted(ends, start, "right")
                )
                if lines:
                    yield block[start:stop], lines
                    self._line += lines
                start = stop
            if not self._done:
                self._fill()

    def _fill(self) -> None:
        """Read and decode the next bytes into ``_pending``."""
        try:
            raw = self._file.read(BLOCK_BYTES)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise self._refused(
                f"the compressed data is damaged or cut off near line {self._lines_seen()}: "
                f"{error}. Copy the file again"
            ) from error
        except OSError as error:
            raise LostError(
                f"{self._connector}: reading {self._path} broke off near line "
                f"{self._lines_seen()}: {error.strerror or error}",
                connector=self._connector,
            ) from error
        self._done = not raw
        try:
            self._pending += self._decoder.decode(raw, final=self._done)
        except UnicodeDecodeError as error:
            place = self._bytes + len(raw) - len(error.object) + error.start
            line = self._lines_seen() + error.object[: error.start].count(b"\n")
            raise MismatchError(
                f"{self._connector}: {self._path}: byte {place} (line {line}) is no "
                f"{self._settings.encoding}: {error.reason}. Name the right `encoding` "
                "(spreadsheets often write cp1252 or utf-16)",
                connector=self._connector,
            ) from error
        self._bytes += len(raw)
        if len(self._pending) > LONGEST_LINE + BLOCK_BYTES and "\n" not in self._pending:
            raise self._refused(
                f"line {self._line} is longer than {LONGEST_LINE} characters: this is no CSV"
            )

    def _lines_seen(self) -> int:
        return self._line + self._pending.count("\n")

    def _parse(self, piece: bytes, wanted: tuple[int, ...], *, first: int, lines: int) -> Block:
        ragged: list[int] = []
        blank: list[int] = []

        def note(line: Any) -> str:
            (ragged if line.text.strip() else blank).append(line.number - 1)
            return "skip"

        names = [str(number) for number in range(len(self.columns))]
        asked = [names[number] for number in wanted]
        table = pa.csv.read_csv(
            pa.BufferReader(piece),
            read_options=pa.csv.ReadOptions(
                column_names=names, use_threads=False, block_size=len(piece) + 1
            ),
            parse_options=pa.csv.ParseOptions(
                delimiter=self._settings.delimiter,
                ignore_empty_lines=False,
                invalid_row_handler=note,
            ),
            convert_options=pa.csv.ConvertOptions(
                include_columns=asked,
                column_types=dict.fromkeys(asked, pa.string()),
                strings_can_be_null=False,
                check_utf8=False,
            ),
        ).combine_chunks()
        if len(table) + len(ragged) + len(blank) != lines or piece.count(b'"') % 2:
            raise self._refused(
                f"a quoted cell between lines {self._line} and {self._line + lines - 1} holds a "
                "line break; remove line breaks and stray quotes from cells"
            )
        bad = np.array(ragged, np.int64)
        return Block(
            first=first,
            lines=lines,
            columns={
                number: _one_array(table.column(place)) for place, number in enumerate(wanted)
            },
            row=np.delete(np.arange(lines), np.array(ragged + blank, np.int64)),
            ragged=bad,
        )

    def _refused(self, what: str) -> RefusedError:
        return RefusedError(f"{self._connector}: {self._path}: {what}", connector=self._connector)


class ParquetTable:
    """A Parquet file; a row is a line."""

    def __init__(self, path: str, settings: ReadingSettings, *, connector: str) -> None:
        self._path = path
        self._settings = settings
        self._connector = connector
        self._opened = ExitStack()
        self._file: Any = None
        self.size = Path(path).stat().st_size
        self.columns: tuple[str, ...] = ()
        self.units: Mapping[int, str] = {}
        if self.size == 0:
            return
        source = self._opened.enter_context(pa.OSFile(path, "rb"))
        try:
            self._file = pq.ParquetFile(source, buffer_size=PAGE_BYTES, pre_buffer=False)
        except (pa.ArrowException, OSError) as error:
            self._opened.close()
            raise self._broken(error) from error
        schema = self._file.schema_arrow
        self.columns = tuple(schema.names)
        self.units = {
            number: (schema.field(number).metadata or {})[b"unit"].decode(errors="replace")
            for number in range(len(schema.names))
            if b"unit" in (schema.field(number).metadata or {})
        }

    def place(self, line: int) -> str:
        """See Table."""
        return f"row {line + 1}"

    def close(self) -> None:
        """Let go of the file."""
        self._opened.close()

    def blocks(self, wanted: tuple[int, ...], *, skip: int) -> Iterator[Block]:
        """See Table."""
        if self._file is None:
            return
        first = 0
        for group in range(self._file.num_row_groups):
            rows = self._file.metadata.row_group(group).num_rows
            if first + rows < skip:
                first += rows
                continue
            for batch in self._batches(group, wanted):
                count = batch.num_rows
                if first + count >= skip:
                    yield Block(
                        first=first,
                        lines=count,
                        columns={number: batch.column(self.columns[number]) for number in wanted},
                        row=np.arange(count),
                        ragged=np.empty(0, np.int64),
                    )
                first += count

    def _batches(self, group: int, wanted: tuple[int, ...]) -> Iterator[Any]:
        try:
            yield from self._file.iter_batches(
                batch_size=self._settings.batch_rows,
                row_groups=[group],
                columns=[self.columns[number] for number in wanted],
                use_threads=False,
            )
        except (pa.ArrowException, OSError) as error:
            raise self._broken(error) from error

    def _broken(self, error: Exception) -> RefusedError | LostError:
        """An OSError with a number is the disk's or the network's; all else is in the file."""
        if isinstance(error, OSError) and error.errno is not None:
            return LostError(
                f"{self._connector}: reading {self._path} broke off: {error.strerror or error}",
                connector=self._connector,
            )
        return RefusedError(
            f"{self._connector}: {self._path} is no Parquet file, or damaged, or cut off: "
            f"{str(error).splitlines()[0]}. Copy the file again",
            connector=self._connector,
        )


def _one_array(column: Any) -> Any:
    """A chunked column as one Array."""
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column

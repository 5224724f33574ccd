"""Blocks of raw columns to chunks of samples: which column is which tag, and what every cell means.

One idea for both layouts: a row has a key (the asset of a wide table, the address of a long one, or
nothing) and one or more value columns; a tag is a cell of that grid. ``Wanted`` says which;
``Rows`` reads one file by it.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from connectors.batch import F64, GOOD, I32, I64, U8, U32, with_bad_numbers_marked
from connectors.contract import MismatchError, TagRef
from connectors.files.casts import Mask, numbers, status_codes, text
from connectors.files.settings import ReadingSettings
from connectors.files.tables import Block, Table
from connectors.files.times import NONE, SKIPPED_HOUR, UNREADABLE, Stamps
from connectors.hints import meant

# K keys, S slots, L lines of a block, R of them rows, N samples, B rejected cells

NOT_ASKED = -1
SHOWN = 20  # columns named in an error
NEVER = np.iinfo(np.int64).min  # before every stamp
REASONS = (
    "time not readable",
    "time in the hour that DST skips",
    "status not readable",
    "value not a number",
    "line with too many or too few cells",
)
TIME, SKIPPED, STATUS, VALUE, RAGGED = range(len(REASONS))
OTHER_MARK = {
    ".": re.compile(r"[+-]?[0-9.]*[0-9],[0-9]+"),
    ",": re.compile(r"[+-]?[0-9,]*[0-9][.][0-9]+"),
}  # by decimal mark: a number written with the other one
GROUPED = re.compile(r"[+-]?[1-9][0-9]{0,2}([.,][0-9]{3})+")  # perhaps thousands, as 1.234
LIKE = {  # what a stamp looks like -> its time_format
    "day_first": re.compile(r"\d?\d[./]\d?\d[./]\d{4}( .*)?"),
    "iso8601": re.compile(r"\d{4}-\d\d-\d\d.*"),
    "epoch_s": re.compile(r"\d{9,10}([.,]\d*)?"),
    "epoch_ms": re.compile(r"\d{12,13}([.,]\d*)?"),
    "epoch_us": re.compile(r"\d{15,16}([.,]\d*)?"),
    "epoch_ns": re.compile(r"\d{18,19}"),
}
LONGEST_QUOTE = 60
HEADER_WITH_UNIT = re.compile(r"(?P<name>.+?)\s*[\[(](?P<unit>[^\[\]()]*)[\])]$")


@dataclass(frozen=True, slots=True)
class Slot:
    """One value column, and whose it is in the rows of each key."""

    column: str
    id: I32  # [K] tag number, or NOT_ASKED
    unit: tuple[str | None, ...]  # [K] what the configuration says


@dataclass(frozen=True, slots=True)
class Wanted:
    """The tags asked for, as keys and value columns."""

    key_column: str | None
    keys: tuple[str, ...]  # [K]; one empty key where rows have none
    slots: tuple[Slot, ...]

    @classmethod
    def of(cls, tags: Sequence[TagRef], settings: ReadingSettings, *, connector: str) -> "Wanted":
        """Sort the tags into slots; a cell of two tags gets two slots. Raises MismatchError."""
        cells: dict[tuple[str, int], dict[str, TagRef]] = {}
        for tag in tags:
            key, column = _cell(tag.address, settings, connector)
            copy = 0
            while key in cells.setdefault((column, copy), {}):
                copy += 1
            cells[column, copy][key] = tag
        keys = tuple(dict.fromkeys(key for tags_of in cells.values() for key in tags_of))
        return cls(
            key_column=settings.tag_column or settings.asset_column,
            keys=keys,
            slots=tuple(
                Slot(
                    column,
                    np.array([of[k].id if k in of else NOT_ASKED for k in keys], np.int32),
                    tuple(of[k].unit if k in of else None for k in keys),
                )
                for (column, _), of in cells.items()
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """The samples of one block, in the order of the file, and what could not be taken."""

    first: int  # lines of the file before it
    key: I64  # [L] latest stamp up to and with each line: what the merge goes by
    line: I64  # [N] from 0 within the chunk
    tag: I32  # [N]
    time: I64  # [N] ns since 1970 UTC
    value: F64  # [N]
    status: U32  # [N]
    bad_line: I64  # [B]
    bad_reason: U8  # [B] index into REASONS
    quote: Callable[[int], str]  # where rejected cell b stands, what is in it, what to do

    @property
    def end(self) -> int:
        """Lines of the file up to and with this chunk."""
        return self.first + len(self.key)


class Rows:
    """Reads the blocks of one file. Checks columns and units when made; raises MismatchError."""

    def __init__(
        self, table: Table, wanted: Wanted, settings: ReadingSettings, *, connector: str, path: str
    ) -> None:
        self._wanted = wanted
        self._settings = settings
        self._connector = connector
        self._path = path
        self._stamps = Stamps(settings, connector, path)
        self._line = table.place
        self._place: dict[str, int] = {}
        if table.columns:
            self._find_columns(table)

    @property
    def columns(self) -> tuple[int, ...]:
        """The numbers of the columns needed, each once."""
        return tuple(dict.fromkeys(self._place.values()))

    def chunk(self, block: Block, *, key: int) -> Chunk:
        """Interpret a block; ``key`` is the latest stamp before it. Raises MismatchError."""
        try:
            return self._chunk(block, key)
        except pa.ArrowException as error:  # a nested or binary Parquet column
            raise self._refused(f"a column is of a type that cannot be read: {error}") from error

    def _chunk(self, block: Block, key: int) -> Chunk:
        code_R = self._codes(block)
        id_RS, value_RS, wrong_RS = self._cells(block, code_R)
        present_RS = id_RS != NOT_ASKED
        asked_R = present_RS.any(axis=1)
        stamps = self._column(block, self._settings.time_column)
        time_R, unclear_R = self._stamps.read(stamps, asked_R, code_R)
        status_R, odd_status_R = self._statuses(block)
        self._check_unit_cells(block, code_R)

        reason_RS = np.full(present_RS.shape, len(REASONS), np.uint8)  # a cell has one at most
        reason_RS[wrong_RS] = VALUE
        reason_RS[odd_status_R] = STATUS
        reason_RS[unclear_R == UNREADABLE] = TIME
        reason_RS[unclear_R == SKIPPED_HOUR] = SKIPPED
        taken_RS = present_RS & (reason_RS == len(REASONS))
        bad_RS = present_RS & ~taken_RS
        row = np.nonzero(taken_RS)[0]  # in the order of the file
        bad_row, bad_slot = np.nonzero(bad_RS)
        ragged = np.full(len(block.ragged), RAGGED, np.uint8)
        value = value_RS[taken_RS]
        return Chunk(
            first=block.first,
            key=_latest(block, time_R, asked_R & (unclear_R == NONE), key),
            line=block.row[row],
            tag=id_RS[taken_RS],
            time=time_R[row],
            value=value,
            status=with_bad_numbers_marked(value, status_R[row]),
            bad_line=np.concatenate([block.row[bad_row], block.ragged]),
            bad_reason=np.concatenate([reason_RS[bad_RS], ragged]),
            quote=lambda b: self._quote(block, b, bad_row, bad_slot, reason_RS[bad_RS]),
        )

    def check_decimal(self, block: Block) -> None:
        """Raise MismatchError where a column has more numbers of the other decimal mark than ours.

        Such a file is not as the settings say: to reject its cells one by one helps nobody. What
        may be thousands in groups is no evidence beside numbers that can be read.
        """
        for slot in self._wanted.slots:
            column = self._column(block, slot.column)
            value, empty, wrong = numbers(column, self._settings.decimal)
            taken = len(value) - int((wrong | empty).sum())
            others = [
                n
                for n in np.flatnonzero(wrong).tolist()
                if self._is_other(column[n])
                and not (taken and GROUPED.fullmatch(column[n].as_py().strip()))
            ]
            if len(others) > taken:
                line = block.first + int(block.row[others[0]])
                raise self._refused(self._cell(line, slot.column, column[others[0]], VALUE))

    def _is_other(self, cell: Any) -> bool:
        """Whether a cell is a number with the decimal mark that the settings do not name."""
        mark = OTHER_MARK[self._settings.decimal]
        return mark.fullmatch(str(cell.as_py()).strip()) is not None

    def _quote(self, block: Block, b: int, bad_row: I64, bad_slot: I64, reason: U8) -> str:
        """Rejected cell b of a chunk in words."""
        name = Path(self._path).name
        if b >= len(bad_row):
            line = self._line(block.first + int(block.ragged[b - len(bad_row)]))
            return f"{name}, {line}: not as many cells as the header; look at `delimiter`"
        row = int(bad_row[b])
        why, columns = int(reason[b]), (self._settings.time_column, self._settings.status_column)
        column = {TIME: columns[0], SKIPPED: columns[0], STATUS: columns[1]}.get(why)
        column = column or self._wanted.slots[bad_slot[b]].column
        cell = self._column(block, column)[row]
        return f"{name}, {self._cell(block.first + int(block.row[row]), column, cell, why)}"

    def _cell(self, number: int, column: str, cell: Any, reason: int) -> str:
        """A cell that cannot be taken: where it stands, what is in it, and what to do."""
        given = "" if cell.as_py() is None else str(cell.as_py())
        shown = given if len(given) <= LONGEST_QUOTE else given[: LONGEST_QUOTE - 3] + "..."
        decimal = self._settings.decimal
        if reason == VALUE and self._is_other(cell):
            other = "," if decimal == "." else "."
            why = (
                f"is no number with `decimal: '{decimal}'`; if {other!r} is its decimal mark, "
                f"set `decimal: '{other}'` for this source"
            )
        elif reason == VALUE:
            why = "is no number; write nothing into the cell where there is no value"
        elif reason == TIME:
            why = f"is no time by `time_format: {self._settings.time_format}`"
            right = next((form for form, like in LIKE.items() if like.fullmatch(given)), None)
            why += f"; want `time_format: {right}`" if right else ""
        elif reason == SKIPPED:
            why = f"was skipped in {self._settings.timezone}, where DST began; is `timezone` right?"
        else:
            why = f"is no status by `status_format: {self._settings.status_format}`"
        return f"{self._line(number)}, column {column!r}: {shown!r} {why}"

    def _cells(self, block: Block, code_R: I64) -> tuple[I32, F64, Mask]:
        """Tag [R, S] (NOT_ASKED also for the empty cells of a wide table), value, is no number."""
        shape = (len(block.row), len(self._wanted.slots))
        id_RS = np.full(shape, NOT_ASKED, np.int32)
        value_RS = np.full(shape, np.nan)
        wrong_RS = np.zeros(shape, np.bool_)
        ours = code_R >= 0
        for s, slot in enumerate(self._wanted.slots):
            value, empty, wrong = numbers(self._column(block, slot.column), self._settings.decimal)
            id_RS[ours, s] = slot.id[code_R[ours]]
            value_RS[:, s] = value
            wrong_RS[:, s] = wrong
            if self._settings.layout == "wide":
                id_RS[empty, s] = NOT_ASKED
        return id_RS, value_RS, wrong_RS

    def _column(self, block: Block, name: str) -> Any:
        return block.columns[self._place[name]]

    def _codes(self, block: Block) -> I64:
        """[R] which key each row has, NOT_ASKED if none of ours."""
        if self._wanted.key_column is None:
            return np.zeros(len(block.row), np.int64)
        keys = pa.array(self._wanted.keys, pa.string())
        cells = text(self._column(block, self._wanted.key_column))
        code = pc.fill_null(pc.index_in(cells, value_set=keys), NOT_ASKED)
        return np.array(code.to_numpy(zero_copy_only=False), np.int64)

    def _statuses(self, block: Block) -> tuple[U32, Mask]:
        column = self._settings.status_column
        if column is None:
            return np.full(len(block.row), GOOD, np.uint32), np.zeros(len(block.row), np.bool_)
        return status_codes(self._column(block, column), self._settings.status_format)

    def _check_unit_cells(self, block: Block, code: I64) -> None:
        if self._settings.unit_column is None:
            return
        column = text(self._column(block, self._settings.unit_column))
        units = pc.fill_null(column, "").dictionary_encode()
        names = units.dictionary.to_pylist()
        pairs = np.stack([code, np.asarray(units.indices, np.int64)])[:, code >= 0]
        for key, unit in np.unique(pairs, axis=1).T.tolist():
            for slot in self._wanted.slots:
                self._check_unit(names[unit], slot.unit[key], self._wanted.keys[key])

    def _check_unit(self, found: str, wanted: str | None, address: str) -> None:
        if found and wanted and found != wanted:
            raise self._refused(
                f"{address!r} is in {found!r}, and the configuration says {wanted!r}. Correct the "
                "unit of the tag (its limits and model mean that unit), or the file"
            )

    def _find_columns(self, table: Table) -> None:
        """Fill ``_place``, where each column stands. Value columns may add a unit: flow [l/min]."""
        settings = self._settings
        with_unit = {n: HEADER_WITH_UNIT.match(header) for n, header in enumerate(table.columns)}
        bare = {n: match["name"] for n, match in with_unit.items() if match}
        of_rows = (
            settings.time_column,
            self._wanted.key_column,
            settings.status_column,
            settings.unit_column,
        )
        of_values = [slot.column for slot in self._wanted.slots]
        problems = []
        for name in dict.fromkeys(filter(None, (*of_rows, *of_values))):
            places = [n for n, header in enumerate(table.columns) if header == name]
            if not places and name in of_values:
                places = [n for n, header in bare.items() if header == name]
            if len(places) == 1:
                self._place[name] = places[0]
            elif places:
                problems.append(f"{len(places)} columns {name!r}")
            else:
                problems.append(f"no column {name!r}{_did_you_mean(name, table.columns, bare)}")
        if problems:
            shown = ", ".join(map(repr, table.columns[:SHOWN])) + ", ..." * (
                len(table.columns) > SHOWN
            )
            advice = (
                "Correct the setting or the tag's address, or `delimiter` and `encoding` if these "
                "names look odd"
            )
            if len(table.columns) == 1 and (other := re.search(r"[;,\t|]", table.columns[0])):
                advice = f"It looks delimited by {other.group()!r}: set `delimiter` to that"
            raise self._refused(f"{'; '.join(problems)}. The file has {shown}. {advice}")
        for slot in self._wanted.slots:
            place = self._place[slot.column]
            match = with_unit[place] if table.columns[place] != slot.column else None
            for found in (match["unit"].strip() if match else "", table.units.get(place, "")):
                for wanted in slot.unit:
                    self._check_unit(found, wanted, slot.column)

    def _refused(self, what: str) -> MismatchError:
        return MismatchError(f"{self._connector}: {self._path}: {what}", connector=self._connector)


def _latest(block: Block, time: I64, readable: Mask, before: int) -> I64:
    """[L] the latest stamp up to and with each line, from ``before`` on."""
    key = np.full(block.lines, before, np.int64)
    key[block.row[readable]] = np.maximum(time[readable], before)
    return np.maximum.accumulate(key)


def _cell(address: str, settings: ReadingSettings, connector: str) -> tuple[str, str]:
    """Key and value column of an address. Raises MismatchError."""
    if settings.layout == "long":
        return address, settings.value_column or ""
    if settings.asset_column is None:
        return "", address
    asset, slash, column = address.partition("/")
    if not (asset and slash and column):
        raise MismatchError(
            f"{connector}: address {address!r}: with asset_column, want <asset>/<column>, "
            "as pump-1/flow",
            connector=connector,
        )
    return asset, column


def _did_you_mean(name: str, headers: Sequence[str], bare: Mapping[int, str]) -> str:
    close = meant(name, (*headers, *bare.values()))
    return f" (did you mean {close!r}?)" if close is not None else ""

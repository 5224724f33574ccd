"""Stamps to int64 ns since 1970 UTC, exactly: no stamp ever passes through a float.

Numbers are read as decimals. Local stamps go through their IANA zone; what an offset would have
told is refused, unless the settings say how to tell.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from connectors.batch import I64
from connectors.contract import MismatchError
from connectors.files.casts import Mask, cast_or_null, is_textual, text
from connectors.files.settings import ReadingSettings

SCALE = {
    "epoch_s": 9,
    "epoch_ms": 6,
    "epoch_us": 3,
    "epoch_ns": 0,
}  # digits after the mark down to ns
SECOND_PASS = np.iinfo(np.int64).max  # later than every stamp: whatever comes next is a step back
LAST_NS = 9_200_000_000_000_000_000  # in 2261: leaves room for offset and interval within int64
# Since 1972 all zones change on whole quarter hours, in old and new time (IANA tz database).
SLOT_NS = 900_000_000_000
DAY_NS = 86_400_000_000_000
EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 (a local time: the zone is what is looked for)
DAY_FIRST = (  # 1.2.2026 3:04 to 01.02.2026 03:04, and that to 2026-02-01 03:04
    (r"^(\d)([./])", r"0\1\2"),
    (r"^(\d\d[./])(\d)([./])", r"\10\2\3"),
    (r"^(\d\d[./]\d\d[./]\d{4}[ T])(\d:)", r"\10\2"),
    (r"^(\d\d)[./](\d\d)[./](\d{4})$", r"\3-\2-\1"),
    (r"^(\d\d)[./](\d\d)[./](\d{4})[ T]", r"\3-\2-\1 "),
)
IS_DAY_FIRST = r"^\d?\d[./]\d?\d[./]\d{4}($|[ T])"
WITH_OFFSET = r"[T ]\d\d.*(Z|[+-]\d\d(:?\d\d)?)$"

# R rows of a block

NONE, UNREADABLE, SKIPPED_HOUR = 0, 1, 2  # what is wrong with a stamp


@dataclass(slots=True)
class Stamps:
    """Reads the stamps of one file, in its order: a doubled hour needs to know what came before."""

    settings: ReadingSettings
    connector: str
    path: str
    # by series: the local day of its last stamp in a doubled hour, and that stamp, or SECOND_PASS
    last_doubled: dict[int, tuple[int, int]] = field(default_factory=dict)

    def read(self, column: Any, wanted: Mask, series: I64) -> tuple[I64, NDArray[np.uint8]]:
        """Times [R] in ns UTC of the end of the interval, and what is wrong with each.

        Rows that are not ``wanted`` get 0 and NONE. Raises MismatchError for local stamps that need
        a word more.
        """
        column = pc.if_else(pa.array(wanted), column, None) if not wanted.all() else column
        wrong = np.zeros(len(wanted), np.uint8)
        if pa.types.is_timestamp(column.type):
            zoned = column.type.tz is not None
            stamp = cast_or_null(column, pa.timestamp("ns", column.type.tz))
            time, known = _int64(stamp.cast(pa.int64()))
            local = np.full(len(wanted), not zoned)
        elif self.settings.time_format in SCALE:
            time, known = self._epoch(column)
            local = np.zeros(len(wanted), np.bool_)
        elif is_textual(column) or pa.types.is_date(column.type):
            cells = text(column)
            if self.settings.time_format == "day_first" and is_textual(column):
                cells = _year_first(cells)
            time, known, local = _iso8601(cells)
        else:
            raise self._refused(
                f"holds {column.type}, and time_format is {self.settings.time_format}; want text "
                "or timestamps. Set time_format to epoch_s, epoch_ms, epoch_us or epoch_ns"
            )
        known &= np.abs(time) < LAST_NS
        wrong[wanted & ~known] = UNREADABLE
        local &= wanted & known
        if local.any():
            time[local], wrong[local] = self._from_local(time[local], series[local])
        if self.settings.stamp == "start":
            time += (self.settings.interval_ms or 0) * 1_000_000
        return np.where(wrong == NONE, time, 0) * wanted, wrong

    def _epoch(self, column: Any) -> tuple[I64, Mask]:
        """Numbers since 1970, as text or as numbers; digits beyond the nanosecond are cut off."""
        cells = text(column)
        if self.settings.decimal == ",":
            cells = pc.replace_substring(cells, ",", ".")
        exact = cast_or_null(cells, pa.decimal128(38, 18))
        scaled = exact.cast(pa.decimal128(38, SCALE[self.settings.time_format]), safe=False)
        return _unscaled(scaled)

    def _from_local(self, local: I64, series: I64) -> tuple[I64, NDArray[np.uint8]]:
        """Local ns to UTC ns by the zone's rules."""
        if self.settings.timezone is None:
            raise self._refused(
                f"holds stamps without an offset, as {_shown(local[0])}; name their `timezone`, "
                "as Europe/Berlin or UTC"
            )
        zone = ZoneInfo(self.settings.timezone)
        slots, which = np.unique(local // SLOT_NS, return_inverse=True)
        offsets = np.array([_offsets(zone, int(slot)) for slot in slots], np.int64).reshape(-1, 2)
        first, second = offsets[which].T  # of the first and the second pass of a doubled hour
        wrong = np.where(first < second, np.uint8(SKIPPED_HOUR), np.uint8(NONE))
        doubled = first > second
        late = np.zeros(len(local), np.bool_)
        if doubled.any():
            if self.settings.doubled_hour == "refuse":
                raise self._refused(
                    f"holds {_shown(local[doubled][0])}, which comes twice in "
                    f"{self.settings.timezone}, where DST ends; write stamps with an offset, or "
                    "set doubled_hour: by_order"
                )
            late[doubled] = self._passes(local[doubled], series[doubled])
        return local - np.where(late, second, first), wrong

    def _passes(self, local: I64, series: I64) -> Mask:
        """Which stamps of doubled hours are of the second pass: after a step back in a series."""
        late = np.zeros(len(local), np.bool_)
        for one in np.unique(series):
            for day in np.unique(local[series == one] // DAY_NS):
                rows = np.flatnonzero((series == one) & (local // DAY_NS == day))
                last_day, last = self.last_doubled.get(int(one), (0, 0))
                before = last if last_day == day else local[rows[0]]
                late[rows] = np.logical_or.accumulate(np.diff(local[rows], prepend=before) < 0)
                end = SECOND_PASS if late[rows[-1]] else int(local[rows[-1]])
                self.last_doubled[int(one)] = (int(day), end)
        return late

    def _refused(self, what: str) -> MismatchError:
        return MismatchError(
            f"{self.connector}: {self.path}: column {self.settings.time_column!r} {what}",
            connector=self.connector,
        )


def _year_first(cells: Any) -> Any:
    """Stamps that begin with the day, as ISO 8601; others become null."""
    cells = pc.if_else(pc.match_substring_regex(cells, IS_DAY_FIRST), cells, None)
    for pattern, replacement in DAY_FIRST:
        cells = pc.replace_substring_regex(cells, pattern, replacement)
    return cells


def _iso8601(cells: Any) -> tuple[I64, Mask, Mask]:
    """Times [R], whether each could be read, and whether it is local: without an offset."""
    utc, naive = pa.timestamp("ns", "UTC"), pa.timestamp("ns")
    for kind, is_local in ((utc, False), (naive, True)):
        try:
            time, known = _int64(cells.cast(kind).cast(pa.int64()))
        except pa.ArrowInvalid:
            continue
        return time, known, np.full(len(known), is_local)
    cells = pc.replace_substring(cells, ",", ".")
    cells = pc.replace_substring_regex(cells, r"\s+(Z|[+-]\d\d)", r"\1")
    zoned = pc.match_substring_regex(cells, WITH_OFFSET)
    time, known = _int64(cast_or_null(pc.if_else(zoned, cells, None), utc).cast(pa.int64()))
    local_time, local = _int64(cast_or_null(pc.if_else(zoned, None, cells), naive).cast(pa.int64()))
    return np.where(local, local_time, time), known | local, local


def _offsets(zone: ZoneInfo, slot: int) -> tuple[int, int]:
    """The zone's offsets from UTC in ns, for the first and the second pass through a local slot."""
    local = EPOCH + timedelta(seconds=slot * (SLOT_NS // 1_000_000_000))
    first, second = (
        local.replace(tzinfo=zone, fold=fold).utcoffset() or timedelta(0) for fold in (0, 1)
    )
    return (
        int(first.total_seconds()) * 1_000_000_000,
        int(second.total_seconds()) * 1_000_000_000,
    )


def _int64(column: Any) -> tuple[I64, Mask]:
    """An int64 column as numpy (0 for null) and where it is not null."""
    known = np.asarray(column.is_valid().to_numpy(zero_copy_only=False), np.bool_)
    return np.array(pc.fill_null(column, 0).to_numpy(zero_copy_only=False), np.int64), known


def _unscaled(column: Any) -> tuple[I64, Mask]:
    """The integers behind a decimal128 column, and where they are known and fit in int64.

    A decimal128 lies in memory as 128 bit two's complement, little-endian (Arrow columnar format):
    the low word is the number if the high word repeats its sign.
    """
    known = np.asarray(column.is_valid().to_numpy(zero_copy_only=False), np.bool_)
    filled = pc.fill_null(column, 0)
    words = np.frombuffer(filled.buffers()[1], np.int64).reshape(-1, 2)
    low, high = words[filled.offset : filled.offset + len(filled)].T
    return low.copy(), known & (high == low >> 63)


def _shown(local: Any) -> str:
    """A local stamp in words."""
    return str(np.datetime64(int(local), "ns")).rstrip("0").rstrip(".")

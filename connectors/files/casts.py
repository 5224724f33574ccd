"""Text to numbers and codes, whole columns at once: what cannot be read becomes null, no error.

All arrays are pyarrow's; only ``status_codes`` looks at single values, and only at each different
one.
"""

from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from connectors.batch import BAD, F64, GOOD, U32, UNCERTAIN

Mask = NDArray[np.bool_]

OPC_DA_QUALITY = {0: BAD, 1: UNCERTAIN, 2: BAD, 3: GOOD}  # bits 6 and 7; OPC DA 3.0, 6.8
OPC_DA_LARGEST = 255  # codes beyond it, as 500 for stale, are bad


def text(column: Any) -> Any:
    """Any column as trimmed strings; an empty one becomes null."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    trimmed = pc.utf8_trim_whitespace(column.cast(pa.string()))
    return pc.if_else(pc.equal(trimmed, ""), None, trimmed)


def is_textual(column: Any) -> bool:
    """Whether a column holds strings."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def cast_or_null(column: Any, to: Any) -> Any:
    """Cast each entry that can be cast exactly; the others become null.

    Tries the whole, then its different values, then halves of them: costs one cast where all is
    well.
    """
    try:
        return column.cast(to)
    except pa.ArrowInvalid:
        coded = column.dictionary_encode()
        return pc.take(_cast_by_halves(coded.dictionary, to), coded.indices)


def _cast_by_halves(column: Any, to: Any) -> Any:
    try:
        return column.cast(to)
    except pa.ArrowInvalid:
        if len(column) == 1:
            return pa.nulls(1, to)
        half = len(column) // 2
        return pa.concat_arrays(
            [_cast_by_halves(column[:half], to), _cast_by_halves(column[half:], to)]
        )


def numbers(column: Any, decimal: Literal[".", ","]) -> tuple[F64, Mask, Mask]:
    """float64 [R] (NaN for none), whether a cell is empty, whether it is no number."""
    if is_textual(column):
        cells = text(column)
        empty = as_mask(cells.is_null())
        if decimal == ",":  # a point then groups thousands: not guessed, but no number
            cells = pc.replace_substring(pc.replace_substring(cells, ".", "?"), ",", ".")
        value = cast_or_null(cells, pa.float64())
        return as_floats(value), empty, as_mask(value.is_null()) & ~empty
    empty = as_mask(column.is_null())
    value = column.cast(pa.float64(), safe=False)
    return as_floats(value), empty, np.zeros(len(empty), np.bool_)


def status_codes(column: Any, form: Literal["word", "opc_ua", "opc_da"]) -> tuple[U32, Mask]:
    """OPC UA StatusCode of each entry, and whether it could not be read (then 0)."""
    coded = pc.fill_null(text(column), "").dictionary_encode()
    each = [_status(word, form) for word in coded.dictionary.to_pylist()]
    codes = np.array([GOOD if code is None else code for code in each], np.uint32)
    unreadable = np.array([code is None for code in each], np.bool_)
    which = np.asarray(coded.indices)
    return codes[which], unreadable[which]


def _status(word: str, form: Literal["word", "opc_ua", "opc_da"]) -> int | None:
    lowered = word.lower()
    if not lowered:
        return GOOD
    for start, code in (("good", GOOD), ("uncertain", UNCERTAIN), ("bad", BAD)):
        if lowered.startswith(start):
            return code
    try:
        number = int(lowered, 0)
    except ValueError:
        return None
    if form == "opc_ua":
        return number if 0 <= number < 1 << 32 else None
    if form == "opc_da" and number >= 0:
        return BAD if number > OPC_DA_LARGEST else OPC_DA_QUALITY[number >> 6]
    return None


def as_mask(column: Any) -> Mask:
    """A bool column without nulls as numpy."""
    return np.asarray(column.to_numpy(zero_copy_only=False), np.bool_)


def as_floats(column: Any) -> F64:
    """A float64 column as numpy, NaN for null."""
    return np.asarray(column.to_numpy(zero_copy_only=False), np.float64)

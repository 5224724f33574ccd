"""Numpy columns and their JSON companion as one sealed piece of bytes, and back, bit for bit.

The form in which the journal, the store, the outbox and the snapshots keep arrays::

    magic 4 | CRC-32 4 | header length 4 | header (JSON) | columns, one after the other

The CRC (zlib's, of everything after it) also covers ``bound_to``: what belongs to the bytes but
stands beside them. Each column is deflated by itself when that pays: equal status words and regular
times do, measured values do not.
"""

import json
import struct
import zlib
from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitor.state.errors import CorruptError

Columns = Mapping[str, NDArray[Any]]

_MAGIC = b"WKC1"
_HEAD = struct.Struct("<4sII")
_SEALED_FROM = 8  # the CRC covers everything after the magic and itself
_KINDS = frozenset("biufcmMSU")  # dtypes that are plain bytes: no Python objects, no records

_WORTH_TRYING = 256  # bytes: below, the header weighs more than what deflating saves
_SAMPLE = 4096  # bytes tried before a long column is deflated as a whole
_PAYS = 0.7  # deflated to less than this share


def pack(columns: Columns, meta: Any = None, *, bound_to: bytes = b"") -> bytes:
    """Columns of any shape and plain dtype, and any JSON value, as bytes.

    Raises ValueError for a dtype that is not plain bytes, TypeError for a meta that is not JSON.
    """
    entries, parts = [], []
    for name, column in columns.items():
        if column.dtype.kind not in _KINDS:
            raise ValueError(
                f"column {name}: want numbers, times, truth values or text, got {column.dtype}"
            )
        raw = column.tobytes()
        stored = _deflated(raw)
        entries.append([name, column.dtype.str, column.shape, len(stored), int(stored is not raw)])
        parts.append(stored)
    header = json.dumps([entries, meta], separators=(",", ":")).encode()
    body = b"".join([len(header).to_bytes(4, "little"), header, *parts])
    return b"".join([_MAGIC, zlib.crc32(body, zlib.crc32(bound_to)).to_bytes(4, "little"), body])


def unpack(
    blob: bytes, *, what: str, number: int | None = None, bound_to: bytes = b""
) -> tuple[dict[str, NDArray[Any]], Any]:
    """What pack() was given; the arrays may be written to.

    Raises CorruptError saying ``what`` (and which ``number``) does not read back.
    """
    if len(blob) < _HEAD.size or blob[: len(_MAGIC)] != _MAGIC:
        raise CorruptError(
            f"{what}: want {_MAGIC.decode()} at its start, got {blob[: len(_MAGIC)]!r}",
            number=number,
        )
    _, seal, header_length = _HEAD.unpack_from(blob)
    found = zlib.crc32(memoryview(blob)[_SEALED_FROM:], zlib.crc32(bound_to))
    if found != seal:
        raise CorruptError(
            f"{what}: its checksum is {found:08x}, want {seal:08x}; it was changed or cut off",
            number=number,
        )
    at = _HEAD.size + header_length
    entries, meta = json.loads(blob[_HEAD.size : at])
    columns = {}
    for name, dtype, shape, length, deflated in entries:
        raw = blob[at : at + length]
        at += length
        columns[name] = np.ndarray(
            tuple(shape), np.dtype(dtype), bytearray(zlib.decompress(raw) if deflated else raw)
        )
    return columns, meta


def apart(record: Any, *, without: Collection[str] = ()) -> tuple[dict[str, NDArray[Any]], Any]:
    """A dataclass as columns (its arrays) and meta (its other fields), for pack()."""
    columns: dict[str, NDArray[Any]] = {}
    meta = {}
    for field in fields(record):
        if field.name in without:
            continue
        value = getattr(record, field.name)
        if isinstance(value, np.ndarray):
            columns[field.name] = value
        else:
            meta[field.name] = dict(value) if isinstance(value, Mapping) else value
    return columns, meta


def _deflated(raw: bytes) -> bytes:
    """The bytes deflated at level 1 where that pays, else the very same object."""
    if len(raw) < _WORTH_TRYING:
        return raw
    if len(raw) > _SAMPLE and len(zlib.compress(raw[:_SAMPLE], 1)) > _PAYS * _SAMPLE:
        return raw
    deflated = zlib.compress(raw, 1)
    return deflated if len(deflated) < _PAYS * len(raw) else raw

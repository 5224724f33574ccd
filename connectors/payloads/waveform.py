"""Blocks of fast samples: binary as they are, or as base64 or numbers within JSON."""

import math
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from connectors.batch import F32, GOOD
from connectors.payloads.forms import Block, Decoded, Form, Reason, RejectedError, Wanted
from connectors.payloads.stamps import stamp, status_keys, status_of, time_of

DTYPES = frozenset({"i2", "i4", "f4", "f8"})
ORDERS = {"little": "<", "big": ">"}
FASTEST_HZ = 1e9  # times are whole nanoseconds: faster samples would share them
LONGEST_S = 30 * 86_400.0  # of one block: a rate that says more is none
HEADER_BYTES = {"none": 0, "time": 8, "time_rate": 16}


def decode_binary(
    payload: bytes | bytearray, properties: Mapping[str, str], form: Form, wanted: Wanted
) -> Decoded:
    """A whole payload that is one block. ``properties`` (MQTT 5) say what the payload cannot."""
    found = Decoded()
    try:
        said: dict[str, Any] = dict(properties)
        order = ORDERS[form.byte_order]
        size = HEADER_BYTES[form.header]
        if len(payload) < size:
            raise RejectedError(Reason.LENGTH)  # noqa: TRY301 - one way out
        if size:
            said["rate_hz"] = said.get("rate_hz", form.rate_hz)
            time: int | None = stamp(
                int(np.frombuffer(payload, order + "i8", 1)[0]), form.time_format
            )
        else:
            time = time_of(said, form)
        if form.header == "time_rate":
            said["rate_hz"] = float(np.frombuffer(payload, order + "f8", 1, offset=8)[0])
        samples = _numbers(memoryview(payload)[size:], said, form)
        found.blocks.append(
            block(samples, said, form, wanted, time=time, status=_status(said, form))
        )
    except RejectedError as rejected:
        found.reasons.append(rejected.reason)
    return found


def block(  # noqa: D417 - the others are what they are called
    samples: NDArray[Any],
    said: Mapping[str, Any],
    form: Form,
    wanted: Wanted,
    *,
    time: int | None,
    status: int,
) -> Block:
    """A block of raw numbers in the tag's unit. Raises RejectedError.

    Args:
        said: what was told beside it: rate_hz, speed_hz, unit, scale, offset.
    """
    unit = said.get(form.unit_key)
    if unit is not None and wanted.unit is not None and unit != wanted.unit:
        raise RejectedError(Reason.UNIT)
    rate = _positive(said.get("rate_hz", form.rate_hz))
    if rate is None or rate > FASTEST_HZ or len(samples) > LONGEST_S * rate:
        raise RejectedError(Reason.RATE)
    return Block(
        tag=wanted.id,
        time=time,
        rate=rate,
        speed=_positive(said.get("speed_hz")) or math.nan,
        status=status,
        samples=_scaled(samples, said, form),
    )


def in_json(value: Any, said: Mapping[str, Any], form: Form) -> NDArray[Any]:
    """The raw numbers of a ``block`` member: base64, or a list. Raises RejectedError."""
    if type(value) is str:
        try:
            return _numbers(msgspec.convert(value, bytes), said, form)
        except ValueError as error:
            if isinstance(error, RejectedError):
                raise
            raise RejectedError(Reason.FORM) from error
    if type(value) is list and all(type(one) in (int, float) for one in value):
        try:
            return np.array(value, np.float64)
        except OverflowError as error:  # an integer beyond every float
            raise RejectedError(Reason.NOT_FINITE) from error
    raise RejectedError(Reason.FORM)


def _numbers(
    raw: bytes | bytearray | memoryview, said: Mapping[str, Any], form: Form
) -> NDArray[Any]:
    name, order = said.get("dtype", form.dtype), ORDERS[form.byte_order]
    if type(name) is str and name[:1] in ("<", ">"):
        name, order = name[1:], name[0]
    if type(name) is not str or name not in DTYPES:
        raise RejectedError(Reason.DTYPE)
    kind = np.dtype(order + name)
    if len(raw) % kind.itemsize:
        raise RejectedError(Reason.LENGTH)
    return np.frombuffer(raw, kind)


def _scaled(samples: NDArray[Any], said: Mapping[str, Any], form: Form) -> F32:
    if not len(samples) or form.samples not in (None, len(samples)):
        raise RejectedError(Reason.LENGTH)
    scale, offset = (
        _number(said.get(name), own)
        for name, own in (("scale", form.scale), ("offset", form.offset))
    )
    with np.errstate(all="ignore"):  # what does not fit in a float32 is found below
        if (scale, offset) == (1, 0):  # the same numbers, without the way over float64
            block = samples.astype(np.float32) + np.float32(0)
        else:
            block = np.asarray(samples.astype(np.float64) * scale + offset).astype(np.float32)
    if not bool(np.isfinite(block).all()):
        raise RejectedError(Reason.NOT_FINITE)
    return block


def _status(said: Mapping[str, Any], form: Form) -> int:
    for key in status_keys(form):
        if key in said:
            return status_of(said[key])
    return GOOD


def _positive(value: Any) -> float | None:
    """A frequency in Hz, from a number or a text; None if it is none."""
    number = _number(value, math.nan)
    return number if number > 0 and math.isfinite(number) else None


def _number(value: Any, default: float) -> float:
    if value is None or type(value) not in (int, float, str):
        return default
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan

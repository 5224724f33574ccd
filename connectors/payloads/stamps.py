"""When and how good: the times and qualities that travel beside values."""

import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from connectors.batch import BAD, GOOD, UNCERTAIN
from connectors.payloads.forms import Form, Reason, RejectedError, TimeFormat

TIME_KEYS = ("timestamp_ms", "ts", "timestamp", "time")
STATUS_KEYS = ("q", "quality", "status")
NS = {"epoch_s": 1_000_000_000, "epoch_ms": 1_000_000, "epoch_us": 1000, "epoch_ns": 1}
SIZES = (  # a number below the bound counts this: all four meet only before March 1973
    (1e11, "epoch_s"),
    (1e14, "epoch_ms"),
    (1e17, "epoch_us"),
    (math.inf, "epoch_ns"),
)
LAST_NS = 9_200_000_000_000_000_000  # in 2261, as in the files connector
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NUMBER = re.compile(r"[0-9]{1,19}(\.[0-9]{1,9})?", re.ASCII)
WORDS = {"good": GOOD, "ok": GOOD, "uncertain": UNCERTAIN, "bad": BAD}
DA_QUALITY = (BAD, UNCERTAIN, BAD, GOOD)  # bits 6 and 7 of an OPC DA quality; OPC DA 3.0, 6.8
DA_LARGEST = 255  # larger codes, as 500 for stale, are bad
UA_SMALLEST = UNCERTAIN  # StatusCodes below are good, and small ones would be OPC DA


def time_of(members: Mapping[str, Any], form: Form) -> int | None:
    """The time beside a value, ns since 1970 UTC; None if there is none and none must be."""
    if form.time_key is not None:
        if form.time_key not in members:
            raise RejectedError(Reason.TIME)
        return stamp(members[form.time_key], form.time_format)
    for key in TIME_KEYS:
        if key in members:
            in_name: TimeFormat = "epoch_ms" if key == "timestamp_ms" else "auto"
            stated = form.time_format
            return stamp(members[key], in_name if stated == "auto" else stated)
    return None


def stamp(value: Any, form: TimeFormat) -> int:
    """A stamp to ns since 1970 UTC. Fractions are exact to the microsecond."""
    kind = type(value)
    if kind is str:
        if form == "iso" or (form == "auto" and not NUMBER.fullmatch(value)):
            time = _iso(value)
        elif NUMBER.fullmatch(value):
            return stamp(float(value) if "." in value else int(value), form)
        else:
            raise RejectedError(Reason.TIME)
    elif form != "iso" and (kind is int or kind is float) and 0 < value < LAST_NS:
        scale = NS[form if form != "auto" else next(name for top, name in SIZES if value < top)]
        # a float holds seconds of today to a quarter of a microsecond: the rest is noise
        time = value * scale if kind is int else round(value * (scale / 1000)) * 1000
    else:
        raise RejectedError(Reason.TIME)
    if not 0 < time < LAST_NS:
        raise RejectedError(Reason.TIME)
    return int(time)


def _iso(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise RejectedError(Reason.TIME)
        return (moment - EPOCH) // timedelta(microseconds=1) * 1000
    except (ValueError, OverflowError) as error:
        raise RejectedError(Reason.TIME) from error


def status_keys(form: Form) -> Sequence[str]:
    """The members that may hold the quality."""
    return STATUS_KEYS if form.status_key is None else (form.status_key,)


def status_of(value: Any) -> int:
    """A quality as a StatusCode: good, uncertain, bad, an OPC DA quality, or a StatusCode.

    0 is good in OPC UA and bad in OPC DA; as a quality beside a value it is OPC DA's.
    """
    if type(value) is str:
        code = WORDS.get(value.strip().lower())
        if code is None and value.isascii() and value.isdigit() and len(value) <= 10:
            return status_of(int(value))
    elif type(value) is int and 0 <= value < 1 << 32:
        if value >= UA_SMALLEST:
            code = value
        else:
            code = DA_QUALITY[value >> 6] if value <= DA_LARGEST else BAD
    else:
        code = None
    if code is None:
        raise RejectedError(Reason.STATUS)
    return code

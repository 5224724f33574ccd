"""What a server notified of, as columns: values, full status codes, and the times of the source.

One pass over the objects that the client has made anyway. What is no single number is counted by
reason; what status bits say beside the quality (Part 4, 7.39) is noted by tag.
"""

from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectors.batch import (
    BAD,
    F64,
    GOOD,
    I64,
    U32,
    UNCERTAIN,
    Flag,
    Notice,
    NoticeKind,
    Samples,
    with_bad_numbers_marked,
)

OVERFLOW = 0x0480  # info type data value, and the overflow bit: samples before this one are missing
OVERFLOW_MASK = 0x0C80
SEMANTICS_CHANGED = 0x4000
BAD_NODE_ID_INVALID = 0x8033_0000
BAD_NODE_ID_UNKNOWN = 0x8034_0000

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NO_TIME = datetime(1601, 1, 2, tzinfo=UTC)  # OPC UA counts from 1601: zero means no time
_FURTHEST = 9_200_000_000_000_000_000  # int64 ends in 1677 and 2262: OPC UA in 1601 and 9999
_NUMERIC = range(1, 12)  # Boolean, SByte ... UInt64, Float, Double: Part 6, table 1


def nanoseconds(time: datetime | None) -> int | None:
    """Nanoseconds since 1970 UTC; None where there is no time."""
    if time is None or time <= _NO_TIME:
        return None
    passed = time - _EPOCH
    found = (passed.days * 86_400 + passed.seconds) * 1_000_000_000 + passed.microseconds * 1000
    return max(-_FURTHEST, min(found, _FURTHEST))


@dataclass(slots=True)
class Wave:
    """What several publish responses brought, column by column."""

    tag: list[int] = field(default_factory=list)
    time: list[int] = field(default_factory=list)
    value: list[float] = field(default_factory=list)
    status: list[int] = field(default_factory=list)
    flags: list[int] = field(default_factory=list)
    rejected: dict[str, list[int]] = field(default_factory=dict)  # tags by reason, one a sample

    def take(
        self, items: Iterable[Any], *, published: int, known: Container[int], after: dict[int, int]
    ) -> None:
        """Take the items of one data change notification; a handle is the number of its tag.

        ``published``: the time of the message, in ns, for what carries no time of its own.
        ``after``: tags that were out of reach, and until when. The first value of such a tag is
        the server's word of now, however long ago the source stamped it: it stands at the time of
        the server where its own would put it before the outage that it ends.
        """
        for item in items:
            tag, data = item.ClientHandle, item.Value
            if tag not in known:
                self.rejected.setdefault("of no item of ours", []).append(tag)
                continue
            status = data.StatusCode.value if data.StatusCode is not None else GOOD
            variant = data.Value
            value = None if variant is None else variant.Value
            if value is None:
                number = np.nan
            elif isinstance(value, list | tuple):
                self.rejected.setdefault("an array, not a single number", []).append(tag)
                continue
            elif variant.VariantType.value not in _NUMERIC:
                reason = f"a {variant.VariantType.name}, not a number"
                self.rejected.setdefault(reason, []).append(tag)
                continue
            else:
                number = float(value)
            time, flag = nanoseconds(data.SourceTimestamp), 0
            if time is None and (time := nanoseconds(data.ServerTimestamp)) is None:
                time, flag = published, Flag.NO_SOURCE_TIME
            if after and (reached := after.pop(tag, None)) is not None and time <= reached:
                time = max(nanoseconds(data.ServerTimestamp) or published, reached + 1)
            self.add(tag, time, number, status, flag)

    def add(self, tag: int, time: int, value: float, status: int, flag: int = 0) -> None:
        """Add one sample."""
        self.tag.append(tag)
        self.time.append(time)
        self.value.append(value)
        self.status.append(status)
        self.flags.append(flag)

    def notices(self, source: str) -> list[Notice]:
        """What is to be said beside the samples."""
        status = np.array(self.status, np.uint32)
        overflown = self._tags_where((status & OVERFLOW_MASK) == OVERFLOW)
        changed = self._tags_where((status & SEMANTICS_CHANGED) != 0)
        said = [
            Notice(
                source=source,
                kind=NoticeKind.REJECTED,
                tags=tuple(sorted(set(tags))),
                reason=reason,
                count=len(tags),
            )
            for reason, tags in self.rejected.items()
        ]
        if overflown:
            said.append(Notice(source=source, kind=NoticeKind.OVERFLOW, tags=overflown))
        if changed:
            said.append(Notice(source=source, kind=NoticeKind.UNIT_CHANGED, tags=changed))
        return said

    def samples(self, source: str, position: str | None) -> Samples:
        """All of it as one batch, in the order it came."""
        value: F64 = np.array(self.value, np.float64)
        time: I64 = np.array(self.time, np.int64)
        status = with_da_quality_read(np.array(self.status, np.uint32))
        return Samples(
            source=source,
            tag=np.array(self.tag, np.int32),
            time=time,
            value=value,
            status=with_bad_numbers_marked(value, status),
            flags=np.array(self.flags, np.uint8),
            position=position,
        )

    def _tags_where(self, marked: NDArray[np.bool_]) -> tuple[int, ...]:
        return tuple(np.unique(np.array(self.tag, np.int32)[marked]).tolist())


def is_da_quality(status: U32) -> NDArray[np.bool_]:
    """Where a server sent a quality of OPC DA, one byte, for a status code: bool [N].

    No status code of OPC UA has info bits (0 to 9) without an info type (10 and 11).
    """
    found: NDArray[np.bool_] = (status != GOOD) & (status < 0x100)
    return found


def with_da_quality_read(status: U32) -> U32:
    """Status codes, where a quality of OPC DA stands in for one: its severity is put on top.

    DA: 0xC0 good, 0x40 uncertain, 0x00 and 0x80 bad. The byte itself is kept.
    """
    severity = np.select(
        [(status & 0xC0) == 0xC0, (status & 0xC0) == 0x40],
        [np.uint32(GOOD), np.uint32(UNCERTAIN)],
        np.uint32(BAD),
    )
    return np.where(is_da_quality(status), severity | status, status).astype(np.uint32)

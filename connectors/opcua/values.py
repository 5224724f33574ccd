"""What a server notified of, as columns: values, full status codes, and the times of the source.

One pass over the objects that the client has made anyway. What is no single number is counted by
reason; what status bits say beside the quality (Part 4, 7.39) is noted by tag.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectors.batch import (
    BAD,
    F64,
    GOOD,
    I32,
    I64,
    U32,
    UNCERTAIN,
    Flag,
    Notice,
    NoticeKind,
    Samples,
    with_bad_numbers_marked,
)
from connectors.stamps import believable

Meant = tuple[F64, U32]  # values in the units of the configuration, and their status
STRANGER = -1  # the tag of an item that is none of ours
MOST_OVERFLOWS = 20  # notices of one wave
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


def moment(ns: int) -> datetime:
    """A time in nanoseconds since 1970 UTC as OPC UA takes it here: down to the microsecond."""
    return _EPOCH + timedelta(microseconds=ns // 1000)


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
        self,
        items: Iterable[tuple[int | None, Any]],
        *,
        published: int,
        ahead_s: float,
        after: dict[int, int],
        flag: int = 0,
    ) -> None:
        """Take data values, each with the number of its tag, STRANGER, or None: pass it over.

        ``published``: the time of the message, in ns, for what carries no time that can be true:
        none before 2001, none more than ``ahead_s`` ahead of the message.
        ``after``: tags that were out of reach, and until when. The first value of such a tag is
        the server's word of now, however long ago the source stamped it: it stands at the time of
        the server where its own would put it before the outage that it ends.
        """
        first, taken = len(self.tag), []
        for tag, data in items:
            if tag is None:
                continue
            if tag == STRANGER:
                self.rejected.setdefault("of no item of ours", []).append(tag)
                continue
            try:
                status = data.StatusCode.value if data.StatusCode is not None else GOOD
                number = _number(data.Value)
                if isinstance(number, str):
                    self.rejected.setdefault(number, []).append(tag)
                    continue
                time, stamped = nanoseconds(data.SourceTimestamp), flag
                if time is None and (time := nanoseconds(data.ServerTimestamp)) is None:
                    time, stamped = published, flag | Flag.NO_SOURCE_TIME
                if after and (reached := after.pop(tag, None)) is not None and time <= reached:
                    time = max(nanoseconds(data.ServerTimestamp) or published, reached + 1)
                self.add(tag, time, number, status, stamped)
                taken.append(data)
            except Exception as error:  # noqa: BLE001 - else its message came again, for ever
                reason = f"decoder_failed: {type(error).__name__}"
                self.rejected.setdefault(reason, []).append(tag)
        times: I64 = np.array(self.time[first:], np.int64)
        for n in np.flatnonzero(~believable(times, published, ahead_s=ahead_s)).tolist():
            served: I64 = np.array([nanoseconds(taken[n].ServerTimestamp) or 0], np.int64)
            true = bool(believable(served, published, ahead_s=ahead_s)[0])
            self.time[first + n] = int(served[0]) if true else published
            self.flags[first + n] |= Flag.RESTAMPED

    def add(self, tag: int, time: int, value: float, status: int, flag: int = 0) -> None:
        """Add one sample."""
        self.tag.append(tag)
        self.time.append(time)
        self.value.append(value)
        self.status.append(status)
        self.flags.append(flag)

    def keep_sorted(self, since: int, until: int) -> None:
        """Keep what is stamped within (since, until], in ns, in order of time."""
        order = [n for n in np.argsort(self.time, kind="stable").tolist()
                 if since < self.time[n] <= until]  # fmt: skip
        for name in ("tag", "time", "value", "status", "flags"):
            column = getattr(self, name)
            setattr(self, name, [column[n] for n in order])

    def rejections(self, source: str) -> list[Notice]:
        """What could not be taken, and why."""
        return [
            Notice(
                source=source,
                kind=NoticeKind.REJECTED,
                tags=tuple(sorted(set(tags) - {STRANGER})),
                reason=reason,
                count=len(tags),
            )
            for reason, tags in self.rejected.items()
        ]

    def overflows(self, source: str, last: Mapping[int, int], until: int) -> list[Notice]:
        """Where the server dropped samples: between the one before and the one that says so.

        ``last``: the times, in ns, of the last samples of earlier waves, by tag; ``until`` where
        there is none. Of many tags it is said together, from the first on to the last.
        """
        status = np.array(self.status, np.uint32)
        marked = np.flatnonzero((status & OVERFLOW_MASK) == OVERFLOW).tolist()
        if not marked:
            return []
        spans: list[tuple[int, int, tuple[int, ...]]] = []
        before: dict[int, int] = {}
        for n, (tag, time) in enumerate(zip(self.tag, self.time, strict=True)):
            if marked and n == marked[0]:
                marked.pop(0)
                since = before.get(tag, last.get(tag, until))
                spans.append((min(since, time), time, (tag,)))
            before[tag] = time
        if len(spans) > MOST_OVERFLOWS:
            begin, end = min(one[0] for one in spans), max(one[1] for one in spans)
            spans = [(begin, end, tuple(sorted({tag for *_, tags in spans for tag in tags})))]
        return [
            Notice(
                source=source,
                kind=NoticeKind.OVERFLOW,
                since=since,
                until=till,
                tags=tags,
                reason="the server's queue was too short",
            )
            for since, till, tags in spans
        ]

    def samples(self, source: str, *, meant: Callable[[I32, F64, U32], Meant]) -> Samples:
        """All of it as one batch, in order of time; ``meant``: see units.Meanings.meant.

        A message tells one item after the other, each with all that waited in its queue.
        """
        time: I64 = np.array(self.time, np.int64)
        order = np.argsort(time, kind="stable")
        tag: I32 = np.array(self.tag, np.int32)[order]
        status = with_da_quality_read(np.array(self.status, np.uint32)[order])
        value, status = meant(tag, np.array(self.value, np.float64)[order], status)
        return Samples(
            source=source,
            tag=tag,
            time=time[order],
            value=value,
            status=with_bad_numbers_marked(value, status),
            flags=np.array(self.flags, np.uint8)[order],
        )


def _number(variant: Any) -> float | str:
    """The value of a variant, NaN where there is none; in words what it is instead of a number."""
    value = None if variant is None else variant.Value
    if value is None:
        return np.nan
    if isinstance(value, list | tuple):
        return "an array, not a single number"
    if variant.VariantType.value not in _NUMERIC:
        return f"a {variant.VariantType.name}, not a number"
    return float(value)


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

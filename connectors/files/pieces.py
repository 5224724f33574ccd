"""Lines of several chunks that may go out together: brought into one order and cut into batches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from connectors.batch import F64, I32, I64, U32
from connectors.files.casts import Mask
from connectors.files.rows import REASONS, Chunk

# M merged lines, N samples, B rejected cells


@dataclass(frozen=True, slots=True, kw_only=True)
class Take:
    """Lines ``start`` to ``stop`` of one file's chunk."""

    name: str
    chunk: Chunk
    start: int
    stop: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """One batch to be, and how far each take is used up by it."""

    stops: tuple[int, ...]  # for each take
    key: int  # of the last line
    tag: I32  # [N]
    time: I64  # [N] ns since 1970 UTC
    value: F64  # [N]
    status: U32  # [N]
    rejected: dict[str, int]  # count by reason


def slices(
    takes: Sequence[Take], *, rows: int, span: int | None, since: int | None, until: int | None
) -> Iterator[Slice]:
    """All lines of the takes, ordered by key, take and line, in slices of at most ``rows`` lines.

    A slice also ends where the key enters another multiple of ``span`` ns. Samples outside (since,
    until] are left out, and so are rejected cells of lines whose key is outside.
    """
    key_M = np.concatenate([take.chunk.key[take.start : take.stop] for take in takes])
    order_M = np.argsort(key_M, kind="stable")
    rank_M = np.empty(len(order_M), np.int64)
    rank_M[order_M] = np.arange(len(order_M))
    key_M = key_M[order_M]

    ranks, samples, bads = [], [], []
    before = 0
    for take in takes:
        chunk = take.chunk
        rank = rank_M[before : before + take.stop - take.start]  # rising: a file keeps its order
        before += len(rank)
        ranks.append(rank)
        kept = _within(chunk.line, take.start, take.stop - 1) & inside(chunk.time, since, until)
        samples.append(
            (
                rank[chunk.line[kept] - take.start],
                chunk.tag[kept],
                chunk.time[kept],
                chunk.value[kept],
                chunk.status[kept],
            )
        )
        lost = _within(chunk.bad_line, take.start, take.stop - 1)
        lost &= inside(chunk.key[chunk.bad_line], since, until)
        bads.append((rank[chunk.bad_line[lost] - take.start], chunk.bad_reason[lost]))

    rank_N, tag, time, value, status = map(np.concatenate, zip(*samples, strict=True))
    rank_B, reason_B = map(np.concatenate, zip(*bads, strict=True))
    by_rank = np.argsort(rank_N, kind="stable")
    rank_N = rank_N[by_rank]
    start = 0
    for stop in _cuts(key_M, rows, span):
        first, last = np.searchsorted(rank_N, (start, stop))
        which = by_rank[first:last]
        count = np.bincount(reason_B[_within(rank_B, start, stop - 1)], minlength=len(REASONS))
        yield Slice(
            stops=tuple(
                take.start + int(np.searchsorted(rank, stop))
                for take, rank in zip(takes, ranks, strict=True)
            ),
            key=int(key_M[stop - 1]),
            tag=tag[which],
            time=time[which],
            value=value[which],
            status=status[which],
            rejected={REASONS[reason]: int(count[reason]) for reason in np.flatnonzero(count)},
        )
        start = stop


def _cuts(key_M: I64, rows: int, span: int | None) -> list[int]:
    """Where slices end, rising."""
    ends = np.arange(rows, len(key_M), rows)
    if span is not None:
        ends = np.union1d(ends, np.flatnonzero(np.diff(key_M // span)) + 1)
    return [*ends.tolist(), len(key_M)]


def _within(line: I64, first: int, last: int) -> Mask:
    return (line >= first) & (line <= last)


def inside(time: I64, since: int | None, until: int | None) -> Mask:
    """Whether each is in (since, until]."""
    found = np.ones(len(time), np.bool_)
    if since is not None:
        found &= time > since
    if until is not None:
        found &= time <= until
    return found

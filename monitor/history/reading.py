"""What was, in one order: several histories read side by side."""

import heapq
from collections.abc import Iterator, Sequence

from connectors.batch import Notice, NoticeKind, Samples
from connectors.contract import History


def merged(
    histories: Sequence[History], *, since: int | None = None, until: int | None = None
) -> Iterator[Samples | Notice]:
    """Every batch of (since, until], the earliest first, and a notice where each history ends.

    Times in ns since 1970 UTC. Raises what the histories raise: NotReadyError, RefusedError.
    """
    readers = [history.read(since=since, until=until) for history in histories]
    waiting: list[tuple[int, int, Samples]] = []
    for number in range(len(readers)):
        yield from _next(readers, histories, number, waiting)
    while waiting:
        _, number, batch = heapq.heappop(waiting)
        yield batch
        yield from _next(readers, histories, number, waiting)


def _next(
    readers: Sequence[Iterator[Samples | Notice]],
    histories: Sequence[History],
    number: int,
    waiting: list[tuple[int, int, Samples]],
) -> Iterator[Notice]:
    """Put the next samples of one reader in line, giving the notices on the way."""
    for batch in readers[number]:
        if isinstance(batch, Notice):
            if batch.kind is not NoticeKind.ENDED:
                yield batch
        elif len(batch):
            heapq.heappush(waiting, (int(batch.time.min()), number, batch))
            return
    yield Notice(source=histories[number].name, kind=NoticeKind.ENDED)

"""History scored with the step itself: the code of the live run, with a state of its own."""

from collections.abc import Callable, Iterable, Iterator

from connectors.batch import Notice, Samples
from monitor.core.pipeline import Pipeline
from monitor.core.records import Record, Results


def backfill(
    pipeline: Pipeline,
    batches: Iterable[Samples | Notice],
    *,
    received: int,
    progress: Callable[[int, int], None] = lambda _samples, _time: None,
) -> Iterator[Results]:
    """The results of each batch, in order.

    ``received``, wall time in ns, stands for every batch: history has no silences to wait for.
    ``progress`` is told the samples read and the latest stamp, ns since 1970 UTC.
    """
    count = 0
    for batch in batches:
        yield pipeline.step(Record(received, batch))
        if isinstance(batch, Samples) and len(batch):
            count += len(batch)
            progress(count, int(batch.time.max()))

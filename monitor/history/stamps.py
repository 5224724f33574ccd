"""What is odd about the clocks behind a history: seen in its stamps while it is read."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from connectors.batch import Notice, Samples
from monitor.core.plan import SECOND

KEPT = 10_000  # distances of one tag: enough to know what is usual
HOUR = 3600 * SECOND


@dataclass(slots=True)
class Stamps:
    """The stamps of one tag, in the order in which they were read. Times in ns since 1970 UTC."""

    count: int = 0
    repeated: int = 0  # as the one before
    backwards: int = 0  # before the one before
    last: int | None = None
    apart: list[int] = field(default_factory=list)  # ns, of the first ones that moved on
    jumps: list[tuple[int, int]] = field(default_factory=list)  # of about an hour: when, how far

    def add(self, time: NDArray[np.int64]) -> None:
        """Stamps that come next."""
        before = time[:-1] if self.last is None else np.append(self.last, time[:-1])
        by = time[len(time) - len(before) :] - before
        self.count += len(time)
        self.last = int(time[-1])
        self.repeated += int((by == 0).sum())
        self.backwards += int((by < 0).sum())
        self.apart += by[by > 0][: KEPT - len(self.apart)].tolist()
        near = np.abs(np.abs(by) - HOUR) < HOUR // 4
        self.jumps += [(int(t), int(d)) for t, d in zip(before[near], by[near], strict=True)]
        del self.jumps[KEPT:]

    def hours(self) -> list[int]:
        """When it was set on or back by an hour, as at the change to and from summer time.

        A gap of an hour and what is usual between two stamps, no more and no less; or back by that.
        """
        if not self.apart:
            return []
        usual = int(np.median(self.apart))
        return [
            when
            for when, by in self.jumps
            if usual < HOUR // 10 and (abs(by - HOUR - usual) <= usual or by < 0)
        ]


class Watch:
    """Looks at the stamps of samples on their way from a history to whoever reads it."""

    def __init__(self) -> None:
        self.tags: dict[int, Stamps] = {}

    def __call__(self, batches: Iterable[Samples | Notice]) -> Iterator[Samples | Notice]:
        """The same batches."""
        for batch in batches:
            if isinstance(batch, Samples) and len(batch):
                order = np.argsort(batch.tag, kind="stable")
                tags, begins = np.unique(batch.tag[order], return_index=True)
                pieces = np.split(batch.time[order], begins[1:])
                for tag, time in zip(tags.tolist(), pieces, strict=True):
                    self.tags.setdefault(tag, Stamps()).add(time)
            yield batch

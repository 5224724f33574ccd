"""From a scored history to what a head learns faults from: the alarms of labelled episodes.

The scores come out of the step, the alarms out of the rule of the live alarms, and what was to
blame is gathered as the step gathers it: so a head is taught what it will be shown.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.settings import DiagnosisSettings
from monitor.core.aggregate import NEVER
from monitor.core.crossings import ProcessConditions
from monitor.core.diagnosis import Evidence
from monitor.core.plan import KindSettings
from monitor.core.records import Results, Scores

# T ticks of an episode, F features


@dataclass(frozen=True, slots=True)
class Span:
    """When something was wrong with one asset: from ``onset`` until before ``end``, ns."""

    asset: int
    onset: int
    end: int


def within(found: Iterable[Results], spans: Sequence[Span]) -> list[Scores | None]:
    """The scores in each span; None where there is no frame. Others are not kept."""
    parts: dict[int, list[Scores]] = defaultdict(list)
    for results in found:
        for scores in results.scores:
            for number, span in enumerate(spans):
                mine = (scores.asset == span.asset) & (scores.tick >= span.onset)
                mine &= scores.tick < span.end
                if mine.any():
                    parts[number].append(scores.rows(mine))
    return [Scores.join(parts[n]) if n in parts else None for n in range(len(spans))]


def alarmed(
    scores: Scores, kind: KindSettings, settings: DiagnosisSettings, *, threshold: float
) -> NDArray[np.float64]:
    """The running features [T, F] of one asset at each tick of an alarm that may be named.

    No tick where no alarm was raised, or each was too short.
    """
    alarm = kind.alarm
    asset = np.zeros(len(scores), np.intp)
    counts = scores.counts(alarm.min_coverage)
    process = ProcessConditions(alarm, threshold, 1)
    raised_A = process.raised
    crossings = process.step(
        asset=asset,
        tick=scores.tick,
        surprise=scores.surprise,
        counts=counts,
        fresh=np.arange(len(scores)) == 0,
    )
    columns = np.flatnonzero([channel.model for channel in kind.channels.values()])
    evidence = Evidence(settings, columns, alarm=alarm, threshold=threshold, assets=1)
    steps = evidence.step(asset, scores, counts=counts, raised_A=raised_A, crossings=crossings)
    means = [
        evidence.mean[0].copy()
        for _ in steps
        if raised_A[0] != NEVER and evidence.ticks[0] >= settings.least_ticks
    ]
    return np.array(means).reshape(-1, evidence.mean.shape[1])

"""What would have fired: the scores of a history, and the alarms they make at other thresholds.

The scores come out of the step itself, the alarms out of the alarm step: at the threshold in force
they are those that a live run raises.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from monitor.core.plan import MILLISECOND, SECOND, AlarmSettings, Plan
from monitor.core.records import Results
from monitor.history.episodes import Episode, Trace, episodes

# T frames

FEW = 3  # channels that an episode is said to come from


@dataclass(frozen=True)
class Scored:
    """The history of one asset, scored."""

    trace: Trace
    first: NDArray[np.uint16]  # [T] the channel with the largest share in the surprise
    channels: tuple[str, ...]

    def blamed(self, episode: Episode) -> dict[str, float]:
        """The channels that came first in it, with their share of its frames, the largest first."""
        rows = episode.rows
        found = Counter(self.first[rows][self.trace.counts[rows]].tolist())
        return {
            self.channels[channel]: number / found.total()
            for channel, number in found.most_common(FEW)
        }


def collect(plan: Plan, found: Iterable[Results]) -> dict[str, list[Scored]]:
    """What the step made of a history, by kind: of each asset that was scored at all.

    Kept are 15 bytes a frame.
    """
    parts: dict[int, list[tuple[NDArray[Any], ...]]] = defaultdict(list)
    channels: dict[str, tuple[str, ...]] = {}
    for results in found:
        for scores in results.scores:
            channels[scores.kind] = scores.channels
            least = plan.kinds[scores.kind].alarm.min_coverage
            counts = scores.counts(least)
            first = scores.blame.argmax(1).astype(np.uint16)
            for number in np.unique(scores.asset).tolist():
                mine = scores.asset == number
                parts[number].append(
                    (scores.tick[mine], scores.surprise[mine], counts[mine], first[mine])
                )
    made: dict[str, list[Scored]] = {}
    for asset in plan.assets:
        if asset.kind is None or asset.id not in parts:
            continue
        tick, surprise, counts, first = (
            np.concatenate(column) for column in zip(*parts.pop(asset.id), strict=True)
        )
        tick_ns = plan.kinds[asset.kind].tick_ms * MILLISECOND
        trace = Trace(asset.name, tick, surprise, counts, tick_ns)
        if counts.any():
            made.setdefault(asset.kind, []).append(Scored(trace, first, channels[asset.kind]))
    return made


@dataclass(frozen=True, slots=True)
class Alarmed:
    """What one threshold would have made of the history of a kind."""

    threshold: float
    episodes: tuple[tuple[Scored, Episode], ...]  # in order of time


def alarmed(scored: Sequence[Scored], alarm: AlarmSettings, threshold: float) -> Alarmed:
    """Every episode of these assets at a threshold."""
    found = [(one, episode) for one in scored for episode in episodes(one.trace, alarm, threshold)]
    return Alarmed(threshold, tuple(sorted(found, key=lambda pair: pair[1].raised)))


def by_month(moments: Iterable[int], zone: ZoneInfo) -> Counter[str]:
    """How many of these moments, ns, fall into each month of the site, as 2026-03."""
    return Counter(_local(moment, zone).strftime("%Y-%m") for moment in moments)


def by_week(moments: Iterable[int], zone: ZoneInfo) -> Counter[str]:
    """How many fall into each week of the site, as 2026-W09 (ISO 8601: from Monday)."""
    return Counter(_local(moment, zone).strftime("%G-W%V") for moment in moments)


def months(since: int, until: int, zone: ZoneInfo) -> list[str]:
    """The months from one moment to another, ns, each once."""
    return _each(since, until, zone, "%Y-%m")


def weeks(since: int, until: int, zone: ZoneInfo) -> list[str]:
    """The weeks from one moment to another, ns, each once."""
    return _each(since, until, zone, "%G-W%V")


def _each(since: int, until: int, zone: ZoneInfo, form: str) -> list[str]:
    days = range(since, until, 86_400 * SECOND)
    names = [_local(moment, zone).strftime(form) for moment in (*days, until)]
    return list(dict.fromkeys(names))


def _local(moment: int, zone: ZoneInfo) -> datetime:
    return datetime.fromtimestamp(moment // SECOND, zone)

"""What the picture of an asset shows, read from what is stored before anything is drawn.

Its rows and their time, the threshold in force, the alarms that stood, and what its cameras saw.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle
from monitor.core.plan import MILLISECOND, KindSettings
from monitor.core.records import AlarmClass, Transition
from monitor.history.camera_lane import Lane
from monitor.history.inks import ALARMS
from monitor.history.rows import Rows, read
from monitor.history.timeline import Buckets, Span, Timeline, nearest_second
from monitor.state.database import DatabaseReader
from monitor.state.names import Family, Names
from monitor.state.store import Store

# C channels


class NothingToDrawError(Exception):
    """There is nothing of this asset in the range asked for; says which range there is."""


@dataclass(frozen=True, slots=True)
class Level:
    """The surprise that alarms are raised at."""

    value: float
    provisional: bool


@dataclass(frozen=True, slots=True)
class Raised:
    """One alarm, as far as it can be seen."""

    alarm_class: AlarmClass
    point: str
    span: Span
    begins: bool  # within the picture


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """Everything that the panels share."""

    rows: Rows
    kind: KindSettings
    level: Level | None
    alarms: Sequence[Raised]
    lanes: Sequence[Lane]
    timeline: Timeline
    buckets: Buckets

    @property
    def seen(self) -> NDArray[np.bool_]:
        """The channels that the model sees, as far as the rows tell [C]."""
        rows = self.rows
        seen: NDArray[np.bool_] = np.logical_or.reduce(
            np.isfinite(rows.expected) | (rows.blame > 0), axis=0
        )
        return seen

    def stretches(self) -> list[tuple[int, int, int]]:
        """From which row to before which there is one resolution, and that: 0 for frames."""
        changes = np.flatnonzero(np.diff(self.rows.resolution)) + 1
        edges = [0, *changes.tolist(), len(self.rows)]
        return [(a, b, int(self.rows.resolution[a])) for a, b in pairwise(edges)]


def shown_of(
    database: DatabaseReader,
    asset: str,
    *,
    kind: KindSettings,
    bundle: Bundle | None,
    cameras: Sequence[str],
    since: int | None,
    until: int | None,
    zone: ZoneInfo,
) -> Shown:
    """What there is to draw of an asset in (since, until]. Raises NothingToDrawError."""
    tick = kind.tick_ms * MILLISECOND
    rows = _rows(database, asset, tick=tick, since=since, until=until, zone=zone)
    timeline = Timeline.of(rows.start, rows.end)
    return Shown(
        rows=rows,
        kind=kind,
        level=_level(kind, bundle),
        alarms=_alarms(database, asset, timeline),
        lanes=_seen(database, cameras, timeline),
        timeline=timeline,
        buckets=Buckets.of(timeline, rows.start, rows.end),
    )


def _rows(
    database: DatabaseReader,
    asset: str,
    *,
    tick: int,
    since: int | None,
    until: int | None,
    zone: ZoneInfo,
) -> Rows:
    """What is kept of the asset in the range, with the channels that it has now."""
    numbers = {name: number for number, name in Names(database).of(Family.ASSET).items()}
    if asset not in numbers:
        raise NothingToDrawError(
            f"{asset}: nothing is stored of it; there are {', '.join(numbers)}."
        )
    if (rows := read(database, numbers[asset], tick=tick, since=since, until=until)) is not None:
        return rows
    if (rows := read(database, numbers[asset], tick=tick)) is None:
        raise NothingToDrawError(f"{asset}: no frames are stored of it yet.")
    raise NothingToDrawError(
        f"{asset}: no frames in the range asked for; there are some "
        f"from {when(int(rows.end[0]), zone)} to {when(int(rows.end[-1]), zone)}."
    )


def _level(kind: KindSettings, bundle: Bundle | None) -> Level | None:
    """The threshold in force; what the configuration sets is nobody's guess."""
    if bundle is None:
        return None
    if kind.alarm.threshold != "auto":
        return Level(kind.alarm.threshold, provisional=False)
    if bundle.card.threshold is None:
        return None
    return Level(bundle.card.threshold, provisional=bundle.card.provisional)


def _alarms(database: DatabaseReader, asset: str, timeline: Timeline) -> list[Raised]:
    """The alarms that stood within the picture, in order of time."""
    events = [e for e in Store(database).alarm_events(asset=asset) if e.alarm_class in ALARMS]
    returned = {event.id: event.tick for event in events if event.transition is Transition.RETURNED}
    first, last = int(timeline.start[0]), int(timeline.end[-1])
    found = []
    for event in events:
        end = returned.get(event.id, last)
        if event.transition is Transition.RAISED and event.tick <= last and end > first:
            left, right = timeline.at(np.array([event.tick, end])).tolist()
            found.append(
                Raised(event.alarm_class, event.point, (left, right), begins=event.tick > first)
            )
    return found


def _seen(database: DatabaseReader, cameras: Sequence[str], timeline: Timeline) -> list[Lane]:
    """What its cameras saw within the picture."""
    first, last = int(timeline.start[0]), int(timeline.end[-1])
    lanes = (Lane.read(database, camera, since=first, until=last) for camera in cameras)
    return [lane for lane in lanes if lane is not None]


def when(moment: int, zone: ZoneInfo) -> str:
    """A time in ns since 1970 UTC as the site's people read it."""
    return nearest_second(moment, zone).isoformat(sep=" ")

"""Small plans and samples for tests of the pure middle."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from connectors.batch import BAD, GOOD, Samples
from monitor.core.frames import FrameBuilder, Intake
from monitor.core.holding import Frames
from monitor.core.pipeline import Pipeline
from monitor.core.plan import (
    AlarmSettings,
    Asset,
    ChannelSettings,
    InstrumentSettings,
    KindSettings,
    LimitSettings,
    Plan,
    RunningSettings,
)
from monitor.core.records import Body, Record, Results

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND  # a whole second, far from 1970 and from any time zone change
NOW = START + 10**15  # wall time of tests that do not care

Point = tuple[int, float, float] | tuple[int, float, float, int]  # tag, seconds, value, status


def kind(**settings: object) -> KindSettings:
    """Two channels, x and y, on a tick of a second."""
    given = {"tick_ms": 1000, "channels": {"x": ChannelSettings(), "y": ChannelSettings()}}
    return KindSettings.model_validate(given | settings)


def rich_kind(**settings: object) -> KindSettings:
    """Every way to make a value, limits, a running tag: what a delivery may get wrong."""
    limits = LimitSettings(high=55, high_high=70, rate=15, deadband=1, on_delay_s=1)
    given = {
        "lateness_ms": 2500,
        "gap_ticks": 8,
        "channels": {
            "x": ChannelSettings(limits=limits),
            "y": ChannelSettings(aggregate="time_mean", stale_s=4),
            "y_std": ChannelSettings(tag="y", aggregate="std"),
            "z": ChannelSettings(aggregate="mean"),
            "z_top": ChannelSettings(tag="z", aggregate="max"),
            "speed": ChannelSettings(model=False),
        },
        "running": RunningSettings(channel="speed", above=100, startup_s=2, coastdown_s=2),
        "alarm": AlarmSettings(on_delay_s=1, off_delay_s=2, min_coverage=0.3),
        "instrument": InstrumentSettings(on_delay_s=2, off_delay_s=3),
    }
    return kind(**(given | settings))


def assets(count: int, of: KindSettings, *, sources: Sequence[str] = ("s",)) -> list[Asset]:
    """Assets a0, a1, ... whose tags are numbered through; they take the sources in turn."""
    tags = of.tags
    return [
        Asset(
            name=f"a{row}",
            id=row,
            kind="k",
            tags={
                tag: (row * len(tags) + column, sources[row % len(sources)])
                for column, tag in enumerate(tags)
            },
        )
        for row in range(count)
    ]


def plan(
    of: KindSettings, count: int = 1, *, sources: Sequence[str] = ("s",), spread: bool = False
) -> Plan:
    """A site of one kind k. ``spread``: the tags of each asset take the sources in turn."""
    machines = assets(count, of, sources=sources)
    if spread:
        machines = [
            replace(
                asset,
                tags={
                    name: (tag, sources[column % len(sources)])
                    for column, (name, (tag, _)) in enumerate(asset.tags.items())
                },
            )
            for asset in machines
        ]
    return Plan(site="plant", kinds={"k": of}, assets=tuple(machines))


def samples(*points: Point, source: str = "s", position: str | None = None) -> Samples:
    """A batch of (tag, seconds after START, value, status)."""
    full = [(*point, GOOD)[:4] for point in points]
    return Samples(
        source=source,
        tag=np.array([tag for tag, _, _, _ in full], np.int32),
        time=np.array([START + round(second * 1000) * 1_000_000 for _, second, _, _ in full]),
        value=np.array([value for _, _, value, _ in full], np.float64),
        status=np.array([status for _, _, _, status in full], np.uint32),
        flags=np.zeros(len(full), np.uint8),
        position=position,
    )


class Grid:
    """One frame builder, fed in seconds. By default one asset that reads from source s."""

    def __init__(self, of: KindSettings, *machines: Asset) -> None:
        self.builder = FrameBuilder(of, machines or assets(1, of))
        self.builder.listen(NOW)

    def push(self, *points: Point, source: str = "s", received: int = NOW) -> Intake:
        batch = samples(*points, source=source)
        return self.builder.push(
            source,
            batch.tag.astype(np.intp),
            batch.time,
            batch.value,
            batch.status,
            flags=batch.flags,
            received=received,
            now=received,
        )

    def rest(self) -> Frames:
        """Every frame there is: nothing more comes for now."""
        for source in self.builder.sources:
            self.builder.ended(source)
        return self.close()

    def close(self, received: int = NOW) -> Frames:
        return self.builder.close(received)[0]


def seconds(frames: Frames) -> list[float]:
    """The ticks of the frames, in seconds after START."""
    return ((frames.tick - START) / SECOND).tolist()


__all__ = [
    "BAD",
    "GOOD",
    "NOW",
    "SECOND",
    "START",
    "Grid",
    "Point",
    "assets",
    "kind",
    "plan",
    "rich_kind",
    "samples",
    "seconds",
]


def stepped(pipeline: Pipeline, *bodies: Body, received: int = NOW) -> Results:
    """What follows from some records, one after the other."""
    return Results.join([pipeline.step(Record(received, body)) for body in bodies])

"""What a running service is made from: all that a configuration means to it, at one moment.

Made by the site, whole, before anything of it is used. A start takes one, and so does a reload,
which compares it with the one in force.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel

from connectors.contract import Sink, Source, TagRef
from connectors.points import Outgoing, Points
from models.bundle import Bundle
from monitor.core.pipeline import Pipeline
from monitor.core.plan import BudgetSettings, Plan
from monitor.core.records import Cause, Epoch
from monitor.live.grading import CameraSetup
from monitor.live.points import PointMaker
from monitor.live.stepper import Works
from monitor.live.supervisor import Assignment
from monitor.live.tidying import Retention

# SHA-256 of what is judged by, by its setting: ("kinds", NAME, "model"), ("cameras", NAME, SETTING)
Hashes = Mapping[tuple[str, str, str], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSetup:
    """A source that is not open yet, and what it is made from."""

    assignment: Assignment
    settings: BaseModel
    tags: tuple[TagRef, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkSetup:
    """A sink that is not open yet, and what it was made from."""

    sink: Sink
    settings: BaseModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """Everything that the service must know of a configuration."""

    config: str  # SHA-256
    plan: Plan
    bundles: Mapping[str, Bundle]  # by kind
    sources: Mapping[str, SourceSetup]  # by name
    sinks: Mapping[str, SinkSetup]  # by name
    channel_score_s: float
    shelve_hours: float
    alarm_budget: BudgetSettings
    retention: Retention
    cameras: Mapping[int, CameraSetup] = field(default_factory=dict)  # by number

    def works(self, cause: Cause) -> Works:
        """What the step works with, as nothing had come in yet.

        Raises ValueError where a model has no threshold and none is set.
        """
        hashes = {kind: bundle.hash for kind, bundle in self.bundles.items()}
        growth = {
            one.name: one.progression
            for one in self.cameras.values()
            if one.progression is not None
        }
        points = None
        if self.wants_points:
            points = PointMaker(self.plan, self.bundles, channel_s=self.channel_score_s)
        return Works(
            epoch=Epoch(config=self.config, bundles=hashes, cause=cause),
            pipeline=Pipeline(self.plan, self.bundles, growth),
            points=points,
            retention=self.retention,
        )

    @property
    def wants_points(self) -> bool:
        """Whether some sink takes points."""
        return any(Points in accepted for accepted in self.accepts.values())

    @property
    def accepts(self) -> Mapping[str, Iterable[type[Outgoing]]]:
        """What each sink takes."""
        return {name: setup.sink.accepts for name, setup in self.sinks.items()}

    @property
    def data_ends(self) -> Mapping[str, int]:
        """The newest of what each kind's model learnt from, ns since 1970 UTC."""
        return {
            kind: max(asset.last for asset in bundle.card.data.values())
            for kind, bundle in self.bundles.items()
        }

    @property
    def gpu(self) -> bool:
        """Whether some model works on one."""
        return any(bundle.detector.device != "cpu" for bundle in self.bundles.values())


def hashes_of(bundles: Mapping[str, Bundle], cameras: Iterable[CameraSetup]) -> Hashes:
    """Of the model of each kind, by its name, and of what each camera's pictures are judged by."""
    found = {("kinds", kind, "model"): bundle.hash for kind, bundle in bundles.items()}
    for one in cameras:
        files = {
            "model": one.inspector,
            "progression": one.progression,
            "template": one.templates,
        }
        found |= {
            ("cameras", one.name, setting): file.hash
            for setting, file in files.items()
            if file is not None
        }
    return found


def assignments(plan: Plan, sources: Mapping[str, Callable[[], Source]]) -> dict[str, Assignment]:
    """What each source is to give; it should be heard as often as its most patient kind says."""
    tags: dict[str, dict[int, str]] = {}
    expected_s: dict[str, float] = {}
    for asset in plan.assets:
        for tag, (number, source) in asset.tags.items():
            tags.setdefault(source, {})[number] = f"{asset.name}/{tag}"
            expected_s[source] = max(expected_s.get(source, 0.0), plan.idle_s(asset))
    for camera in plan.cameras:
        tags.setdefault(camera.source, {})[camera.id] = camera.name
        expected_s[camera.source] = max(expected_s.get(camera.source, 0.0), camera.idle_s)
    return {
        name: Assignment(name=name, make=make, tags=tags[name], expected_s=expected_s[name])
        for name, make in sources.items()
    }

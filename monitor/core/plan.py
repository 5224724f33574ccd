"""What is watched and how: the settings of kinds and assets, and the plan the step works from.

The settings are part of the configuration tree and are checked with it. ``Plan`` binds them to the
numbers that assets and tags carry in batches. Times are settings in the unit of their name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Literal, NamedTuple

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

MILLISECOND = 1_000_000  # ns
SECOND = 1_000_000_000  # ns
DAY = 86_400 * SECOND  # ns


class Settings(BaseModel):
    """A part of the configuration: unknown keys are errors, nothing changes after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Aggregate(StrEnum):
    """How the samples of one tick become one value."""

    LAST = "last"
    MEAN = "mean"
    TIME_MEAN = "time_mean"  # weighted by how long each value stood
    MIN = "min"
    MAX = "max"
    RMS = "rms"
    STD = "std"


class Feature(StrEnum):
    """One number of a waveform block: see monitor/core/vibration.py."""

    RMS = "rms"
    PEAK = "peak"
    CREST = "crest"
    KURTOSIS = "kurtosis"


class LimitSettings(Settings):
    """Plain limits of one channel, in its unit: also without a model. See only_running."""

    low_low: float | None = Field(None, description="Alarm below this.")
    low: float | None = Field(None, description="Alarm below this.")
    high: float | None = Field(None, description="Alarm above this.")
    high_high: float | None = Field(None, description="Alarm above this.")
    rate: float | None = Field(
        None, gt=0, description="Alarm when it changes faster than this, in units per second."
    )
    deadband: float = Field(
        0.0, ge=0, description="How far back inside the limit before the alarm returns."
    )
    on_delay_s: float = Field(
        0.0,
        ge=0,
        description="How long beyond the limit before the alarm is raised; counted as for alarm.",
    )
    off_delay_s: float = Field(
        0.0,
        ge=0,
        description="How long back inside before the alarm returns; counted as for alarm.",
    )
    only_running: bool = Field(
        default=False,
        description="Says nothing while `running` says that the machine is off, starting or "
        "stopping: delays pause, an active alarm stays. For a flow that is low whenever the pump "
        "stands; `running` should look at another channel then.",
    )

    @model_validator(mode="after")
    def _in_order(self) -> "LimitSettings":
        given = [
            limit
            for limit in (self.low_low, self.low, self.high, self.high_high)
            if limit is not None
        ]
        if given != sorted(given):
            raise ValueError(f"want low_low <= low <= high <= high_high, got {given}")
        return self


class SensorSettings(Settings):
    """What can be said of a channel's instrument; what is not, the model has learnt of it."""

    range: tuple[float, float] | None = Field(
        None,
        description="What it can measure, from and to, in the channel's unit: out of specification "
        "beyond, clamped where it rests at an end.",
    )
    frozen_s: Literal["auto", "off"] | Annotated[float, Field(gt=0)] = Field(
        "auto",
        description="Frozen when it has not moved for longer than this while the machine runs and "
        "another channel moves; auto: three times the longest rest the model has seen, if it "
        "rests seldom.",
    )
    noise: bool = Field(
        default=True,
        description="Whether it is out of specification with less than 80 % of the least noise the "
        "model has seen.",
    )
    jump: bool = Field(
        default=True,
        description="Whether changes of twice the largest the model has seen from one tick to the "
        "next are taken for spikes and offsets, where no other channel jumps.",
    )

    @model_validator(mode="after")
    def _in_order(self) -> "SensorSettings":
        if self.range is not None and self.range[0] >= self.range[1]:
            raise ValueError(f"range: want from and to, the lower first, got {list(self.range)}")
        return self


class ChannelSettings(Settings):
    """One column of a kind's frames."""

    tag: str | None = Field(
        None, description="Which tag of the asset feeds it; the channel's own name if left out."
    )
    unit: str | None = Field(None, description="The unit its values are in.")
    aggregate: Aggregate = Field(
        Aggregate.LAST, description="How the samples of one tick become one value."
    )
    feature: Feature | None = Field(
        None,
        description="Of a tag that sends waveform blocks: which number of each block to take; "
        "left out, its samples count one by one.",
    )
    stale_s: float = Field(
        60.0, gt=0, description="Not valid when its value was last known longer ago than this."
    )
    settle_s: float = Field(
        10.0,
        ge=0,
        description="After it was away (not valid) for longer than stale_s, the model does not see "
        "it for this long once it is back: its jump then is not the machine's.",
    )
    model: bool = Field(
        default=True, description="Whether the model sees it; limits work either way."
    )
    limits: LimitSettings | None = Field(None, description="Plain limits.")
    sensor: SensorSettings = Field(
        SensorSettings(), description="Its instrument, and when that is not to be believed."
    )

    @property
    def how(self) -> str:
        """How its values are made, in words: a model fits only channels made the same way."""
        return self.aggregate if self.feature is None else f"{self.aggregate} of {self.feature}"


class RunningSettings(Settings):
    """How to tell that the machine runs, from one of its channels."""

    channel: str = Field(description="The channel that tells.")
    above: float = Field(description="Running when the channel is above this, in its unit.")
    startup_s: float = Field(
        0.0, ge=0, description="Not scored for this long after a start, or after a gap."
    )
    coastdown_s: float = Field(
        0.0,
        ge=0,
        description="Stopping, not yet off, for this long after it fell below; and for as long "
        "before, nothing is learnt.",
    )
    trip_s: float = Field(
        900.0,
        ge=0,
        description="A stop within this time after an alarm was raised is marked a trip, in each "
        "such alarm that stands.",
    )


class AlarmSettings(Settings):
    """When a surprise becomes an alarm."""

    threshold: Literal["auto"] | Annotated[float, Field(gt=0)] = Field(
        "auto",
        description="Surprise (-log10 of the healthy tail probability) to alarm at; "
        "auto: the model's own.",
    )
    on_delay_s: float = Field(
        0.0,
        ge=0,
        description="How long over the threshold before the alarm is raised. Gaps, and frames that "
        "say nothing (off, warming, blind), pause it; one that is not over it starts it anew.",
    )
    off_delay_s: float = Field(
        0.0,
        ge=0,
        description="How long below before the alarm returns. Gaps, and frames that say nothing, "
        "pause it; one that is not below starts it anew.",
    )
    clear_ratio: float = Field(
        0.8, gt=0, le=1, description="Returns below this share of the threshold."
    )
    return_ratio: float = Field(
        0.0,
        ge=0,
        description="Returns, too, below this share of the highest surprise since the last one "
        "that was below the threshold's own clear level; less than clear_ratio; 0: not so. For "
        "faults that end and leave slow traces; a lesser fault in such a trace is not seen.",
    )
    min_coverage: float = Field(
        0.5, ge=0, le=1, description="Not raised when less of the evidence was valid."
    )

    @model_validator(mode="after")
    def _returns_below_where_it_is_raised(self) -> "AlarmSettings":
        if self.return_ratio >= self.clear_ratio:
            raise ValueError(
                f"want return_ratio below clear_ratio, got {self.return_ratio:g} and "
                f"{self.clear_ratio:g}"
            )
        return self


class FusionSettings(Settings):
    """How sensors and pictures become one judgement of each asset that has a camera."""

    wait_s: float = Field(
        5.0,
        ge=0,
        le=600,
        description="How long a judgement waits for pictures to be inspected, rounded up to whole "
        "ticks: it is so much later, and what comes after that counts from then on.",
    )
    half_life_s: float = Field(
        600.0,
        gt=0,
        description="After so long a picture has half its weight, after ten times as long none: a "
        "quarter to a half of the time that a fault of this machine is there.",
    )
    picture_weight: float = Field(
        0.5,
        gt=0,
        lt=1,
        description="The share of a new picture in the evidence; the sensors have the rest. More "
        "for the side that tells faults better: see docs/fusion.md.",
    )
    threshold: Literal["auto"] | Annotated[float, Field(gt=0)] = Field(
        "auto",
        description="Surprise of both sides to alarm at, each must say half of it; auto: that of "
        "the sensors' own alarms. Delays and ratios are those of `alarm`.",
    )


class InstrumentSettings(Settings):
    """When what is wrong with an instrument becomes an alarm."""

    on_delay_s: float = Field(
        10.0,
        ge=0,
        description="How long it must be wrong before the alarm is raised. The model is not shown "
        "it meanwhile.",
    )
    off_delay_s: float = Field(
        60.0, ge=0, description="How long it must be good before the alarm returns."
    )


class LinkSettings(Settings):
    """When what is wrong with a source becomes an alarm of class pipeline."""

    lost_s: float = Field(
        300.0,
        gt=0,
        description="For how long on end it must be gone: it says so, or has been silent for the "
        "`idle_s` of its kinds.",
    )
    back_s: float = Field(
        60.0, ge=0, description="How long it must be heard before the alarm returns."
    )
    clock_s: float = Field(
        60.0,
        ge=0,
        description="For how long its samples must be refused because they are stamped more than "
        "`max_ahead_s` ahead, or before `oldest`.",
    )
    quiet_s: float = Field(
        3600.0,
        ge=0,
        description="How long no stamp must be refused, and nothing dropped by its peer, before "
        "those alarms return.",
    )

    @property
    def delays(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """On and off, of a source that is lost, of its clock, and of samples lost; in s."""
        return (self.lost_s, self.clock_s, 0.0), (self.back_s, self.quiet_s, self.quiet_s)


class PictureAlarmSettings(Settings):
    """When what a camera sees becomes an alarm of class picture; its delays count pictures."""

    surprise: float = Field(
        3.0,
        gt=0,
        description="Alarm above this surprise (-log10 of the share of good pictures that look as "
        "strange: 3 is one in a thousand).",
    )
    clear_ratio: float = Field(
        0.8, gt=0, le=1, description="Returns below this share of the surprise."
    )
    raise_after: int = Field(
        1, ge=1, description="How many pictures in a row must be over it, or graded reject."
    )
    return_after: int = Field(
        3, ge=1, description="How many in a row must be below, or not graded reject, to return."
    )
    warn_area_mm2: float | None = Field(
        None,
        gt=0,
        description="With `progression`: warn when what is wrong on a picture is foretold to be "
        "larger than this, all together, and is not yet; left out: the area at which the "
        "acceptance table rejects, where it has one.",
    )


class BudgetSettings(Settings):
    """How many process alarms of healthy machines are acceptable; `auto` thresholds keep both."""

    per_asset_30_days: float = Field(
        1.0, gt=0, description="At most so many for each asset in 30 days of watching it."
    )
    per_site_week: float = Field(
        10.0,
        gt=0,
        description="At most so many for the whole site in a week, shared evenly by the assets "
        "that a model scores.",
    )

    def each(self, assets: int) -> float:
        """What both leave to each of so many assets: alarms in 30 days."""
        return min(self.per_asset_30_days, self.per_site_week / max(assets, 1) * 30 / 7)


class Slot(NamedTuple):
    """What feeds channels: a tag's samples, or a feature of its waveform blocks."""

    tag: str
    feature: Feature | None = None

    @property
    def name(self) -> str:
        """As it is kept."""
        return self.tag if self.feature is None else f"{self.feature} of {self.tag}"


class KindSettings(Settings):
    """A kind of asset: machines of one build, scored by one model."""

    tick_ms: int = Field(1000, gt=0, le=86_400_000, description="Distance of the frames.")
    lateness_ms: int = Field(
        0, ge=0, description="How long a frame waits for samples after its instant."
    )
    idle_s: float = Field(
        30.0,
        gt=0,
        description="A source silent for this long holds no frame back; quarantined samples count "
        "as silence.",
    )
    gap_ticks: int = Field(
        60, ge=1, description="A jump over more ticks than this is a gap: the model starts anew."
    )
    max_ahead_s: float = Field(
        60.0, ge=0, description="Samples stamped further in the future are quarantined."
    )
    oldest: AwareDatetime = Field(
        datetime(2000, 1, 1, tzinfo=UTC), description="Samples stamped before this are quarantined."
    )
    remember_s: float = Field(
        60.0,
        ge=0,
        description="How far before an asset's last closed frame repeats are told from late "
        "samples, in source time; in open frames they always are.",
    )
    channels: dict[str, ChannelSettings] = Field(
        min_length=1, description="The columns of its frames, in order."
    )
    running: RunningSettings | None = Field(None, description="How to tell that the machine runs.")
    alarm: AlarmSettings = Field(AlarmSettings(), description="When a surprise becomes an alarm.")
    instrument: InstrumentSettings = Field(
        InstrumentSettings(),
        description="When what is wrong with an instrument becomes an alarm.",
    )
    fusion: FusionSettings | None = Field(
        None,
        description="One judgement from sensors and pictures, for assets that have a camera; left "
        "out: there is none.",
    )

    def tag_of(self, channel: str) -> str:
        """The name of the tag that feeds a channel."""
        return self.channels[channel].tag or channel

    def slot_of(self, channel: str) -> Slot:
        """What feeds a channel."""
        return Slot(self.tag_of(channel), self.channels[channel].feature)

    @property
    def tags(self) -> tuple[str, ...]:
        """The names of its tags, each once, in the order of the channels."""
        return tuple(dict.fromkeys(self.tag_of(channel) for channel in self.channels))

    @property
    def slots(self) -> tuple[Slot, ...]:
        """What feeds its channels, each once, in the order of the channels."""
        return tuple(dict.fromkeys(self.slot_of(channel) for channel in self.channels))


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """One machine: its number, its kind, and for each tag of the kind the number and the source."""

    name: str
    id: int
    kind: str | None  # None: cameras alone watch it, and it has no tags
    tags: Mapping[str, tuple[int, str]]  # tag name -> (tag number, source name)
    area: str | None = None  # the part of the plant it stands in


@dataclass(frozen=True, slots=True, kw_only=True)
class Camera:
    """One camera: its number, where its pictures come from, and of which asset they speak."""

    name: str
    id: int
    asset: str
    source: str
    lag: int = 0  # ns from the asset to the camera: its pictures speak of so much earlier
    idle_s: float = 3600.0  # silent for longer, it is lost
    mm_per_pixel: float | None = None
    warn_area: float | None = None  # mm2, without a scale pixels: what to warn of before it is so
    alarm: PictureAlarmSettings = field(default_factory=PictureAlarmSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything the step must know of the site."""

    site: str
    kinds: Mapping[str, KindSettings]
    assets: tuple[Asset, ...]
    links: LinkSettings = field(default_factory=LinkSettings)
    cameras: tuple[Camera, ...] = ()

    @property
    def sources(self) -> frozenset[str]:
        """The sources of all tags and cameras."""
        of_tags = {source for asset in self.assets for _, source in asset.tags.values()}
        return frozenset(of_tags | {camera.source for camera in self.cameras})

    @property
    def lags(self) -> dict[str, int]:
        """By asset with a camera, ns: how long after it was made a part passes the last of them."""
        found: dict[str, int] = {}
        for camera in self.cameras:
            found[camera.asset] = max(camera.lag, found.get(camera.asset, 0))
        return found

    def idle_s(self, asset: Asset) -> float:
        """A source of its tags counts as lost when silent for longer; it has a kind."""
        assert asset.kind is not None  # noqa: S101 - who has tags has a kind
        return self.kinds[asset.kind].idle_s

    def assets_of(self, kind: str) -> list[Asset]:
        """The assets of one kind, in order: its rows."""
        return [asset for asset in self.assets if asset.kind == kind]

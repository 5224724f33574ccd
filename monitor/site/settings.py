"""The settings of a plant: site, assets, kinds and state; each connector and model brings its own.

The tree that ``monitor.site.config`` reads. Every setting says what it means in its description,
which errors and printed examples repeat.
"""

from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    Field,
    field_validator,
    model_validator,
)

import models
from connectors import discover
from connectors.contract import ConfigPath
from models.settings import DetectorSettings, DiagnosisSettings, SearchSettings, TrainingSettings
from models.vision.acceptance import AcceptanceSettings
from monitor.core.plan import (
    BudgetSettings,
    ChannelSettings,
    KindSettings,
    LinkSettings,
    PictureAlarmSettings,
    Settings,
)
from monitor.site.problems import did_you_mean
from monitor.site.schema import ByType


def _timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        hint = did_you_mean(name, available_timezones())
        raise ValueError(f"no time zone {name!r}; want one as Europe/Berlin.{hint}") from None
    return name


def _name(name: str) -> str:
    inner = name.replace("_", "").replace("-", "").replace(".", "")
    if not inner.isalnum() or not name[0].isalnum():
        raise ValueError(
            f"{name!r} cannot be a name here: want letters, digits, '_', '-' and '.', "
            f"beginning with a letter or digit"
        )
    return name


def _written_out(instant: Any) -> Any:
    """Refuse a bare number, which would be taken for seconds since 1970; 2026 means a year."""
    if isinstance(instant, int | float) or (isinstance(instant, str) and instant.isdecimal()):
        raise ValueError(f"got {instant}, want a time with its zone, as 2026-03-01T06:00:00Z")
    return instant


def _source_types() -> dict[str, type[BaseModel]]:
    """Settings of everything that can be read, live or from history, by type."""
    found = discover().values()
    roles = {one.name: one.source or one.history for one in found}
    return {name: role.Settings for name, role in roles.items() if role is not None}


def _sink_types() -> dict[str, type[BaseModel]]:
    found = discover().values()
    return {one.name: one.sink.Settings for one in found if one.sink is not None}


def model_types() -> dict[str, type[BaseModel]]:
    """Settings of every kind of model, by type."""
    return dict(models.discover())


Name = Annotated[str, AfterValidator(_name)]
Instant = Annotated[AwareDatetime, BeforeValidator(_written_out)]
SourceSettings = Annotated[BaseModel, ByType("source", _source_types)]
SinkSettings = Annotated[BaseModel, ByType("sink", _sink_types)]
ModelSettings = Annotated[DetectorSettings, ByType("model", model_types)]


class SiteSettings(Settings):
    """The plant, and where its data lives on this machine."""

    name: Name = Field(description="What the plant is called in results.", examples=["plant"])
    timezone: Annotated[str, AfterValidator(_timezone)] = Field(
        "UTC",
        description="The zone times are shown in; they are stored in UTC.",
        examples=["Europe/Berlin"],
    )
    data_dir: ConfigPath = Field(
        "watchkeeper-data",
        validate_default=True,
        description="The folder for journal and results, relative to this file.",
    )
    shelve_hours: float = Field(
        8.0, gt=0, description="For how long a person may shelve an alarm at most."
    )
    alarm_budget: BudgetSettings = Field(
        BudgetSettings(), description="How many false alarms are acceptable."
    )
    links: LinkSettings = Field(
        LinkSettings(),
        description="When what is wrong with a source becomes an alarm of class pipeline.",
    )


class TagSettings(Settings):
    """Where one tag of an asset comes from; a plain text is its address."""

    source: str | None = Field(None, description="Its source, where not the asset's.")
    address: str | None = Field(
        None,
        description="Where the source finds it; {asset} and {tag} stand for the names.",
        min_length=1,
    )


def _address_only(tag: Any) -> Any:
    return {"address": tag} if isinstance(tag, str | int | float) else tag  # numbers: to be refused


class AssetSettings(Settings):
    """One machine; one that cameras alone watch has neither kind nor source."""

    kind: str | None = Field(
        None,
        description="Its kind; left out: cameras alone watch it.",
        examples=["pump"],
    )
    source: str | None = Field(
        None, description="The source of its tags, where it has a kind.", examples=["rig"]
    )
    area: Name | None = Field(
        None, description="The part of the plant it stands in, as results say.", examples=["hall_2"]
    )
    address: str | None = Field(
        None,
        description="How its tags' addresses are made from {asset} and {tag}; the tag's own name "
        "if left out.",
        examples=["{asset}/{tag}"],
    )
    tags: dict[str, Annotated[TagSettings, BeforeValidator(_address_only)]] = Field(
        {},
        description="Tags found elsewhere: an address, or a source and an address.",
        examples=[{"flow": "F1"}],
    )


class ModelUse(Settings):
    """The trained model that scores a kind."""

    bundle: ConfigPath = Field(description="The model's folder.", examples=["models/pump"])
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto: CUDA where there is one."
    )


class CameraSettings(Settings):
    """One camera: where its pictures come from, what inspects them, and what they speak of."""

    source: str = Field(description="The source of its pictures.", examples=["cameras"])
    asset: str = Field(description="The asset its pictures speak of.", examples=["pump_1"])
    address: str | None = Field(
        None,
        min_length=1,
        description="Where the source finds it: a folder below its path, a topic, a URL; the "
        "camera's own name if left out.",
    )
    model: ConfigPath | None = Field(
        None,
        description="The folder of the model that inspects them; left out: they are only kept.",
        examples=["models/surface"],
    )
    inspect_timeout_s: float = Field(
        60.0,
        gt=0,
        description="How long the inspection of one picture may take. Then it is tried once more, "
        "and set aside. The process that inspects has twice as long to start, and 120 s at least.",
    )
    progression: ConfigPath | None = Field(
        None,
        description="The folder of a model of progression, which foretells from its pictures how "
        "large what is wrong will be: see docs/progression.md. The camera looks at one place.",
        examples=["models/growth"],
    )
    mm_per_pixel: float | None = Field(
        None, gt=0, description="The scale, by which defects have sizes."
    )
    acceptance: AcceptanceSettings | None = Field(
        None,
        description="What makes a part a good one, by which parts are graded: see "
        "docs/severity.md; left out: they are not graded.",
    )
    template: ConfigPath | None = Field(
        None,
        description="How a part should look, for a model that compares with that: a picture, or a "
        "folder with one for each recipe, as RECIPE.png.",
        examples=["templates/top"],
    )
    recipe: str | None = Field(
        None, description="What is made, for pictures that come without a recipe."
    )
    lag_s: float = Field(
        0.0,
        ge=0,
        description="How long what it sees left the asset before: pictures speak of so much "
        "earlier.",
    )
    idle_s: float = Field(
        3600.0, gt=0, description="Its source counts as lost when silent for longer than this."
    )
    alarm: PictureAlarmSettings = Field(
        PictureAlarmSettings(), description="When what it sees becomes an alarm."
    )
    overlays: Literal["wrong", "all", "none"] = Field(
        "wrong",
        description="Which pictures are also kept with what was found drawn on them: those with a "
        "defect or a surprise above that of its alarm, all, or none.",
    )

    @property
    def warn_area(self) -> float | None:
        """The area to warn of before it is so, mm2, without a scale pixels; None: there is none.

        That of its alarm; or else the least at which the acceptance table rejects whatever there is
        of a class, wherever it is.
        """
        if self.alarm.warn_area_mm2 is not None:
            return self.alarm.warn_area_mm2
        return min(self.reject_areas, default=None)

    @property
    def reject_areas(self) -> list[float]:
        """The areas of defects above which the acceptance table rejects, in the same unit."""
        scale = self.mm_per_pixel
        factor = {"area_mm2": None if scale is None else 1.0, "area_px": (scale or 1.0) ** 2}
        return [
            rule.reject_over * each
            for rules in (self.acceptance.classes if self.acceptance else {}).values()
            for rule in rules
            if rule.zone is None and rule.reject_over and (each := factor.get(rule.of)) is not None
        ]


class Training(Settings):
    """What a kind's model is made of: whose history, from when, and which model."""

    assets: list[str] = Field(
        [], description="The assets whose history is healthy and is learnt; none named: all."
    )
    since: Instant | None = Field(
        None, description="Nothing before this.", examples=["2026-03-01T06:00:00Z"]
    )
    until: Instant | None = Field(
        None,
        description="Nothing after this: leave out what may hold a fault, as today's data.",
        examples=["2026-04-01T06:00:00Z"],
    )
    model: ModelSettings = Field(
        description="The model; `watchkeeper example` lists them.", examples=[{"type": "gru"}]
    )
    fit: TrainingSettings = Field(TrainingSettings(), description="How it is fitted.")
    search: SearchSettings = Field(
        SearchSettings(), description="Where `train --search N` looks for better settings."
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise ValueError(f"until: got {self.until.isoformat()}, want a time after since")
        return self


class DiagnosisUse(DiagnosisSettings):
    """What a kind's model is taught to call the faults it finds."""

    labels: ConfigPath = Field(
        description="A CSV of past faults with the columns asset, fault, onset and end, relative "
        "to this file: see docs/diagnosis.md.",
        examples=["labels.csv"],
    )


class Kind(KindSettings):
    """A kind of asset with its model."""

    model: ModelUse | None = Field(
        None, description="The trained model that scores it; without one, limits still work."
    )
    training: Training | None = Field(None, description="How `watchkeeper train` makes the model.")
    diagnosis: DiagnosisUse | None = Field(
        None, description="The faults that `watchkeeper train` teaches it to name."
    )

    @field_validator("channels", mode="before")
    @classmethod
    def _bare_channels(cls, channels: Any) -> Any:
        """A channel with nothing below its name has all defaults."""
        if not isinstance(channels, dict):
            return channels
        return {name: {} if options is None else options for name, options in channels.items()}

    @field_validator("channels")
    @classmethod
    def _names_can_be_shown(cls, channels: dict[str, ChannelSettings]) -> Any:
        tags = [settings.tag for settings in channels.values() if settings.tag is not None]
        for name in (*channels, *tags):
            if name != name.strip() or not name or not name.isprintable():
                raise ValueError(
                    f"{name!r} cannot name a channel or a tag: want text in one line, "
                    f"without blanks around it"
                )
        return channels

    @field_validator("oldest", mode="before")
    @classmethod
    def _oldest_is_written_out(cls, oldest: Any) -> Any:
        return _written_out(oldest)


class WebSettings(Settings):
    """Where /healthz, /readyz and /metrics are answered; without it, no port is opened."""

    host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="The address to listen on; 0.0.0.0 lets every machine of the network read.",
    )
    port: int = Field(ge=1, le=65_535, description="The port.", examples=[9188])


class StateSettings(Settings):
    """How much is kept, and how often the state is saved."""

    detail_hours: float = Field(
        48.0,
        gt=0,
        description="Scores and judgements are kept at full rate for this long, counted back from "
        "the newest.",
    )
    minutes_days: float = Field(
        90.0,
        gt=0,
        description="Older ones are kept as a row a minute for this long, counted the same way.",
    )
    hours_days: float = Field(
        3650.0,
        gt=0,
        description="And as a row an hour for this long, counted the same way; gaps, too.",
    )
    alarm_days: float = Field(
        3650.0,
        gt=0,
        description="Alarms are kept for this long after their last change, counted the same way, "
        "and always while they stand.",
    )
    journal_hours: float = Field(
        24.0, gt=0, description="Inputs are kept for this long, in wall time."
    )
    late_hours: float = Field(
        48.0, gt=0, description="Samples that came too late are kept for this long, in wall time."
    )
    dead_letter_days: float = Field(
        90.0, gt=0, description="What a sink refused for good is kept for this long, in wall time."
    )
    outbox_mb: float = Field(
        1000.0,
        gt=0,
        description="When more than this waits for sinks, the oldest points are dropped, never "
        "messages. What sinks refused may take as much again.",
    )
    picture_days: float = Field(
        30.0, gt=0, description="Pictures are kept for this long, in wall time, once inspected."
    )
    pictures_mb: float = Field(
        10_000.0,
        gt=0,
        description="When all pictures take more than this, the oldest that are inspected go.",
    )
    pictures_waiting_mb: float = Field(
        1000.0,
        gt=0,
        description="When more than this waits to be inspected, no more pictures are taken in.",
    )
    picture_result_days: float = Field(
        365.0,
        gt=0,
        description="What was found on a picture is kept for this long, counted back from the "
        "newest.",
    )
    snapshot_s: float = Field(60.0, ge=1, description="How often the whole state is saved.")
    channel_score_s: float = Field(
        10.0,
        ge=0,
        description="How often databases are told of each channel; each tick while an alarm of "
        "its asset stands. 0: always each tick.",
    )

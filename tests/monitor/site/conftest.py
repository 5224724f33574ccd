"""A plant of two fake connectors: one with files, one with secrets."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from connectors import Connector
from connectors.contract import ConfigPath
from monitor.site.config import Config, parse
from monitor.site.problems import ConfigError

PLANT = """\
config_version: 1
site:
  name: plant
  timezone: Europe/Berlin
  data_dir: data
sources:
  rig:
    type: recorder
    path: recordings/*.csv
    layout: wide
  line:
    type: vault
    url: mqtt://broker:1883
    password_file: secrets/line
kinds:
  pump:
    tick_ms: 1000
    channels:
      flow: {unit: m3/h, aggregate: mean, limits: {low: 1.5, high: 8, deadband: 0.1}}
      temp: {unit: degC}
      temp_max: {tag: temp, unit: degC, aggregate: max}
    running: {channel: flow, above: 0.5}
    alarm: {threshold: auto, on_delay_s: 10}
    model: {bundle: models/pump}
assets:
  pump_1:
    kind: pump
    source: rig
    tags:
      flow: F1
      temp: {source: line, address: plant/T1}
  pump_2:
    kind: pump
    source: rig
    address: "{asset}.{tag}"
sinks:
  inbox: {type: recorder, folder: alarms}
state: {detail_hours: 12}
"""


class RecorderSettings(BaseModel):
    """Read from files."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    type: Literal["recorder"] = "recorder"
    path: ConfigPath = Field(description="Which files.")
    layout: Literal["wide", "long"] = Field(description="How a row is laid out.")
    columns: list[str] = Field([], description="Only these.")


class FolderSettings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    type: Literal["recorder"] = "recorder"
    folder: ConfigPath


class VaultSettings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    type: Literal["vault"] = "vault"
    url: str
    password_file: ConfigPath | None = None
    password_env: str | None = None
    retries: int = 3
    late_ms: float = 0

    def delay_ms(self, address: str) -> float:
        return self.late_ms * len(address)


def role(settings: type[BaseModel]) -> type[Any]:
    class Role:
        Settings = settings

        def __init__(self, name: str, settings: BaseModel, tags: Any = ()) -> None:
            self.name, self.settings, self.tags = name, settings, tags

    return Role


@pytest.fixture
def connectors(monkeypatch: pytest.MonkeyPatch) -> dict[str, Connector]:
    reader, folder, vault = role(RecorderSettings), role(FolderSettings), role(VaultSettings)
    found = {
        "recorder": Connector(name="recorder", source=reader, history=reader, sink=folder),
        "vault": Connector(name="vault", source=vault, history=None, sink=None),
    }
    for module in ("settings", "config", "advice"):
        monkeypatch.setattr(f"monitor.site.{module}.discover", lambda: found)
    return found


@pytest.fixture
def text() -> str:
    """The plant's YAML."""
    return PLANT


@pytest.fixture
def plant(connectors: dict[str, Connector]) -> Callable[..., Config]:
    """Reads the plant after changes: pairs of an old text, which stands there once, and a new."""
    del connectors  # in place from here on

    def read(*changes: tuple[str, str], text: str = PLANT, base: str = "/plants/north") -> Config:
        for old, new in changes:
            assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in the plant"
            text = text.replace(old, new)
        return parse(text, file="plant.yaml", base=Path(base))

    return read


@pytest.fixture
def problems(plant: Callable[..., Config]) -> Callable[..., list[str]]:
    """What is said about the plant after changes, one line a problem, without the file's name."""

    def said(*changes: tuple[str, str], **given: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            plant(*changes, **given)
        lines = str(caught.value).splitlines()
        assert all(line.startswith("plant.yaml:") for line in lines)
        return [line.removeprefix("plant.yaml:") for line in lines]

    return said

"""The configuration: one typed tree, read from one YAML file, checked as a whole.

Assembles the settings of every room. ``load`` gives a ``Config`` or raises ``ConfigError`` with all
problems at once; nothing downstream reads YAML or checks a setting again. Secrets are never in the
tree: settings name the file or variable that holds one.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PrivateAttr, ValidationError

from connectors import discover
from connectors.contract import History, Sink, Source, TagRef
from monitor.core.plan import SECOND, Asset, Camera, Plan, Settings
from monitor.site import references
from monitor.site.problems import (
    CONFIG_VERSION,
    ConfigError,
    Finding,
    PlantError,
    Problem,
    findings,
)
from monitor.site.settings import (
    AssetSettings,
    CameraSettings,
    Kind,
    Name,
    SinkSettings,
    SiteSettings,
    SourceSettings,
    StateSettings,
    TagSettings,
    WebSettings,
)
from monitor.site.yaml_places import Node, Place, YamlError, place_at, read

MAX_BYTES = 10_000_000  # a plant of 1000 machines with an address for each tag has about 1 MB


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundTag:
    """One tag of one asset with its place at its source."""

    name: str  # asset/tag
    tag: str
    source: str
    address: str
    unit: str | None


def _bare(asset: Any) -> Any:
    """A machine with nothing below its name: cameras alone watch it."""
    return {} if asset is None else asset


class Config(Settings):
    """A whole plant. Made by ``load`` or ``parse``, which also check that its parts agree."""

    config_version: Literal[1] = Field(description="The version of this file's form.")
    site: SiteSettings = Field(description="The plant, and where its data lives.")
    sources: dict[Name, SourceSettings] = Field(
        min_length=1, description="Where samples come from, by name."
    )
    kinds: dict[Name, Kind] = Field(
        {},
        description="Kinds of machines: all of one build, scored by one model. None are needed "
        "where cameras alone watch.",
    )
    assets: dict[Name, Annotated[AssetSettings, BeforeValidator(_bare)]] = Field(
        min_length=1, description="The machines, by name."
    )
    cameras: dict[Name, CameraSettings] = Field(
        {}, description="The cameras, by name: see docs/cameras.md."
    )
    sinks: dict[Name, SinkSettings] = Field({}, description="Where results go, by name.")
    state: StateSettings = Field(
        StateSettings(), description="How much is kept, and how often the state is saved."
    )
    web: WebSettings | None = Field(
        None,
        description="Where health and metrics are answered; no port is opened without it.",
        examples=[{"port": 9188}],
    )
    _hash: str = PrivateAttr("")

    @property
    def hash(self) -> str:
        """SHA-256 of the tree with its defaults, as canonical JSON; the same in every folder."""
        return self._hash

    @classmethod
    def from_data(cls, data: Any, *, base: Path) -> Self:
        """Validate plain data; relative paths are meant from ``base``. Raises pydantic's error."""
        config = cls.model_validate(data, context={"base": base})
        portable = cls.model_validate(data).model_dump(mode="json")
        canonical = json.dumps(portable, sort_keys=True, separators=(",", ":"))
        config._hash = hashlib.sha256(canonical.encode()).hexdigest()  # noqa: SLF001 - its own class
        return config

    @property
    def data_dir(self) -> Path:
        """The folder for journal and results."""
        return Path(self.site.data_dir)

    def asset_names(self) -> tuple[str, ...]:
        """All assets, in the order of the file."""
        return tuple(self.assets)

    def tag_names(self) -> tuple[str, ...]:
        """All tags as asset/tag, by asset and then by channel, in the order of the file."""
        return tuple(bound.name for asset in self.assets for bound in self.tags_of(asset))

    def kind_of(self, asset: str) -> Kind | None:
        """The kind of an asset; None: cameras alone watch it."""
        kind = self.assets[asset].kind
        return None if kind is None else self.kinds[kind]

    def tags_of(self, asset: str) -> Iterator[BoundTag]:
        """The tags of an asset and where each comes from."""
        settings, kind = self.assets[asset], self.kind_of(asset)
        if kind is None:
            return
        for tag in kind.tags:
            own = settings.tags.get(tag, TagSettings())
            fed = [c for name, c in kind.channels.items() if kind.tag_of(name) == tag]
            yield BoundTag(
                name=f"{asset}/{tag}",
                tag=tag,
                source=own.source or settings.source or "",
                address=references.address_of(
                    asset, tag, given=own.address, template=settings.address
                ),
                unit=next((channel.unit for channel in fed if channel.unit), None),
            )

    @property
    def scored_assets(self) -> int:
        """How many assets a model scores: those that share the alarm budget of the site."""
        return sum(
            kind.model is not None
            for asset in self.assets
            if (kind := self.kind_of(asset)) is not None
        )

    def cameras_of(self, asset: str) -> list[str]:
        """The cameras whose pictures speak of an asset."""
        return [name for name, camera in self.cameras.items() if camera.asset == asset]

    def camera_names(self) -> tuple[str, ...]:
        """All cameras, in the order of the file."""
        return tuple(self.cameras)

    def plan(
        self,
        tag_ids: Mapping[str, int],
        asset_ids: Mapping[str, int],
        camera_ids: Mapping[str, int] = MappingProxyType({}),
    ) -> Plan:
        """What the step works from: numbers are by asset/tag, by asset, and by camera.

        A camera without a number is left out: history holds no pictures.
        """
        assets = tuple(
            Asset(
                name=name,
                id=asset_ids[name],
                kind=settings.kind,
                tags={
                    bound.tag: (tag_ids[bound.name], bound.source) for bound in self.tags_of(name)
                },
                area=settings.area,
            )
            for name, settings in self.assets.items()
        )
        cameras = tuple(
            Camera(
                name=name,
                id=camera_ids[name],
                asset=camera.asset,
                source=camera.source,
                lag=round(camera.lag_s * SECOND),
                idle_s=camera.idle_s,
                mm_per_pixel=camera.mm_per_pixel,
                warn_area=camera.warn_area if camera.progression is not None else None,
                alarm=camera.alarm,
            )
            for name, camera in self.cameras.items()
            if name in camera_ids
        )
        return Plan(
            site=self.site.name,
            kinds=self.kinds,
            assets=assets,
            links=self.site.links,
            cameras=cameras,
        )

    def tag_refs(
        self,
        source: str,
        tag_ids: Mapping[str, int],
        camera_ids: Mapping[str, int] = MappingProxyType({}),
    ) -> list[TagRef]:
        """What a source is asked for: tags, or cameras."""
        tags = [
            TagRef(id=tag_ids[bound.name], address=bound.address, unit=bound.unit)
            for asset in self.assets
            for bound in self.tags_of(asset)
            if bound.source == source
        ]
        cameras = [
            TagRef(id=camera_ids[name], address=camera.address or name)
            for name, camera in self.cameras.items()
            if camera.source == source and name in camera_ids
        ]
        return [*tags, *cameras]

    def make_source(
        self,
        name: str,
        tag_ids: Mapping[str, int],
        camera_ids: Mapping[str, int] = MappingProxyType({}),
    ) -> Source:
        """The source of this name; no I/O yet. Raises PlantError where its type cannot be live."""
        settings: Any = self.sources[name]
        connector = discover()[settings.type]
        if connector.source is None:
            raise PlantError(
                f"source {name}: type {settings.type!r} holds history only; `train` and "
                f"`backfill` read it, `run` wants a source that can be watched."
            )
        made: Source = connector.source(name, settings, self.tag_refs(name, tag_ids, camera_ids))
        return made

    def make_history(self, name: str, tag_ids: Mapping[str, int]) -> History:
        """The source of this name, to read what was. Raises PlantError where it has no history."""
        settings: Any = self.sources[name]
        connector = discover()[settings.type]
        if connector.history is None:
            raise PlantError(
                f"source {name}: type {settings.type!r} keeps no history; it can be watched by "
                f"`run`, `train` and `backfill` want a source that does, as files."
            )
        made: History = connector.history(name, settings, self.tag_refs(name, tag_ids))
        return made

    def make_sink(self, name: str) -> Sink:
        """The sink of this name; no I/O yet."""
        settings: Any = self.sinks[name]
        sink = discover()[settings.type].sink
        assert sink is not None, f"validation chose {settings.type!r} among the sinks"  # noqa: S101 - never input
        made: Sink = sink(name, settings)
        return made


def load(path: str | Path) -> Config:
    """Read and check a configuration file. Raises ConfigError with everything that is wrong."""
    return parse(text_of(Path(path)), file=str(path), base=Path(path).absolute().parent)


def parse(text: str, *, file: str, base: Path) -> Config:
    """Check a configuration's text. ``file`` is what errors call it. Raises ConfigError."""
    try:
        root = read(text)
    except YamlError as error:
        problems = [Problem(file, place, "", message) for place, message in error.found]
        raise ConfigError(problems) from None
    whole = _as_a_whole(root)
    if whole is not None:
        raise ConfigError([whole.problem(file, root)])
    found = list(references.check(root.data))
    try:
        config = Config.from_data(root.data, base=base)
    except ValidationError as error:
        found += findings(error, root, Config)
    if found:
        raise ConfigError([finding.problem(file, root) for finding in found])
    return config


def placed(path: str | Path, found: Sequence[Finding]) -> tuple[Problem, ...]:
    """What was found wrong with what a configuration names, with its places in that file."""
    root = read(text_of(Path(path)))
    return ConfigError([finding.problem(str(path), root) for finding in found]).problems


def _as_a_whole(root: Node) -> Finding | None:
    """What makes it useless to look at single settings."""
    start = "`watchkeeper example config` prints one to start from."
    if root.data is None:
        return Finding((), f"nothing in it. {start}")
    if not isinstance(root.data, dict):
        return Finding((), f"not a configuration; want lines of `key: value`. {start}")
    version = root.data.get("config_version")
    if isinstance(version, int) and version > CONFIG_VERSION:
        message = (
            f"got {version}, but this program knows up to {CONFIG_VERSION}; "
            f"want a newer program, or a file written for this one"
        )
        return Finding(("config_version",), message)
    return None


def text_of(path: Path, *, start: str = "`watchkeeper example config` prints one") -> str:
    """A file of settings as text; ``start`` says where to begin. Raises ConfigError."""

    def refuse(message: str, place: Place | None = None) -> ConfigError:
        return ConfigError([Problem(str(path), place, "", message)])

    try:
        if path.is_dir():
            inside = sorted(
                file.name for file in path.iterdir() if file.suffix in (".yaml", ".yml")
            )
            there = f" Did you mean {path / inside[0]}?" if inside else ""
            raise refuse(f"is a folder; want a YAML file.{there}")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise refuse(f"has {size:,} bytes; want a configuration of at most {MAX_BYTES:,}")
        raw = path.read_bytes()
    except FileNotFoundError:
        raise refuse(f"no such file. {start}.") from None
    except PermissionError:
        raise refuse("may not be read by this user; want read permission") from None
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        raise refuse(f"cannot be read: {error}") from None
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise refuse("is UTF-16; want UTF-8: save it as UTF-8", Place(1, 1))
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8-sig")
        raise refuse(
            f"byte 0x{raw[error.start]:02x} is not UTF-8 (saved as Latin-1 or Windows-1252?); "
            f"save it as UTF-8",
            place_at(before, len(before)),
        ) from None

"""What differs between two configurations, in words: what a reload changes, and what it cannot.

Pure. A change is told by the same dotted path as a problem of `check`. Secrets are never shown: of
a setting whose name speaks of one, only that it changed.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from monitor.live.setup import Hashes
from monitor.site.config import Config
from monitor.site.problems import dotted, may_hold_secret, without_user_info
from monitor.site.settings import CameraSettings
from monitor.site.yaml_places import Path

LONGEST = 60  # characters of a value that are shown
_SAYS_WHAT_IT_IS = ("type", "kind", "source")  # settings that are told of what is new
_NEEDS_RESTART = {  # where a change of a running service ends, and why
    ("site", "name"): "alarms are named by it",
    ("site", "data_dir"): "the journal lies there",
    ("web",): "the port is opened at the start",
}
_ANOTHER = {  # what another content at the same path means, by the last of its settings
    ("kinds", "model"): "another model; its assets warm up anew",
    ("cameras", "model"): "another inspection",
    ("cameras", "progression"): "another progression; what it foretells begins anew",
    ("cameras", "template"): "another template",
}


class _Missing(Enum):
    """There is no such thing on this side."""

    MISSING = "missing"


_MISSING = _Missing.MISSING


@dataclass(frozen=True, slots=True)
class Change:
    """One setting, or one named thing, that is not as it was. Written as ``path: old -> new``."""

    path: Path
    was: Any  # JSON value
    now: Any

    def __str__(self) -> str:
        """One line."""
        return f"{dotted(self.path)}: {self._words()}"

    def _words(self) -> str:
        if self.was is _MISSING or (self.was is None and isinstance(self.now, dict)):
            return f"added{_what_it_is(self.now)}"
        if self.now is _MISSING or (self.now is None and isinstance(self.was, dict)):
            return "removed"
        if any(may_hold_secret(str(step)) for step in self.path):
            return "changed"
        return f"{_shown(self.was)} -> {_shown(self.now)}"

    @property
    def needs_restart(self) -> str | None:
        """Why it cannot come into force while the service runs; None: it can."""
        reasons = (why for path, why in _NEEDS_RESTART.items() if self.path[: len(path)] == path)
        return next(reasons, None)


@dataclass(frozen=True, slots=True)
class Replaced:
    """A model or a template is another one, though its path may be the same."""

    group: str  # "kinds" or "cameras"
    name: str
    setting: str

    def __str__(self) -> str:
        """One line."""
        words = _ANOTHER[self.group, self.setting]
        return f"{dotted((self.group, self.name, self.setting))}: {words}"


def settings(was: Config, now: Config) -> tuple[Change, ...]:
    """Every setting that differs, in the order of the tree."""
    return tuple(_differing((), was.model_dump(mode="json"), now.model_dump(mode="json")))


def replaced(was: Hashes, now: Hashes) -> tuple[Replaced, ...]:
    """The models and templates that both have, and not the same."""
    return tuple(Replaced(*path) for path in now if path in was and was[path] != now[path])


def untouched(was: Config, now: Config, anew: tuple[Replaced, ...]) -> tuple[str, ...]:
    """The assets of which nothing differs.

    Neither they, nor their kind and cameras, the models and templates of these, or any source.
    """
    changed = {(one.group, one.name) for one in anew}
    return tuple(
        name
        for name, asset in now.assets.items()
        if was.assets.get(name) == asset
        and was.kind_of(name) == now.kind_of(name)
        and ("kinds", asset.kind) not in changed
        and _cameras(was, name) == (cameras := _cameras(now, name))
        and changed.isdisjoint(("cameras", camera) for camera in cameras)
        and all(was.sources[one] == now.sources[one] for one in _sources(now, name))
    )


def _cameras(config: Config, asset: str) -> dict[str, CameraSettings]:
    """The cameras that watch an asset, by name."""
    return {name: one for name, one in config.cameras.items() if one.asset == asset}


def _sources(config: Config, asset: str) -> set[str]:
    """The sources of its samples and pictures."""
    tags, cameras = config.tags_of(asset), _cameras(config, asset).values()
    return {one.source for one in tags} | {one.source for one in cameras}


def _differing(path: Path, was: Any, now: Any) -> Iterator[Change]:
    if was == now:
        return
    both = isinstance(was, dict) and isinstance(now, dict)
    if both and was.get("type") != now.get("type"):  # nothing else of it can be compared
        yield Change((*path, "type"), was.get("type"), now.get("type"))
    elif both:
        for key in dict.fromkeys((*was, *now)):
            yield from _differing((*path, key), was.get(key, _MISSING), now.get(key, _MISSING))
    else:
        yield Change(path, was, now)


def _what_it_is(settings: Any) -> str:
    """What a new thing is, in a few words."""
    given = settings if isinstance(settings, dict) else {}
    said = [f"{key} {given[key]}" for key in _SAYS_WHAT_IT_IS if isinstance(given.get(key), str)]
    return f" ({', '.join(said)})" if said else ""


def _shown(value: Any) -> str:
    """A value in a line: as in YAML, more or less, and without passwords in addresses."""
    if value is None:
        return "none"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = without_user_info(text)
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."

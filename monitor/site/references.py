"""What one part of a configuration says about another: names must exist, values must agree.

Works on plain data that may be wrong anywhere, so that these findings come together with those of
the settings classes, not after they are mended. What is not of the expected shape is passed over
here: the settings classes speak of it.
"""

import re
from collections.abc import Iterator
from typing import Any

from monitor.core.plan import KindSettings
from monitor.site.problems import Finding, did_you_mean
from monitor.site.yaml_places import Path

_FIELD = re.compile(r"\{([^{}]*)\}")


def address_of(asset: str, tag: str, *, given: str | None, template: str | None) -> str:
    """Where the source finds a tag: as given, else by the asset's template, else the tag's name.

    {asset} and {tag} stand for the names in both.
    """
    return (given or template or "{tag}").replace("{asset}", asset).replace("{tag}", tag)


def check(data: Any) -> Iterator[Finding]:
    """Everything in a configuration that contradicts another part of it."""
    root = _group(data)
    kinds, assets = _group(root.get("kinds")), _group(root.get("assets"))
    for name, kind in kinds.items():
        yield from _kind(name, _group(kind))
        yield from _training(name, _group(kind), assets)
    if not kinds and any(_group(asset).get("kind") is not None for asset in assets.values()):
        yield Finding((), "'kinds' is missing: some assets name a kind", at_key=True)
    watched = {_group(one).get("asset") for one in _group(root.get("cameras")).values()}
    for name, asset in assets.items():
        yield from _asset(name, _group(asset), kinds, _group(root.get("sources")))
        yield from _whole(name, _group(asset), seen=name in watched)
    yield from _addresses(assets, kinds)
    yield from _cameras(_group(root.get("cameras")), assets, _group(root.get("sources")))


def _cameras(
    cameras: dict[str, Any], assets: dict[str, Any], sources: dict[str, Any]
) -> Iterator[Finding]:
    """A camera's asset and source exist; pictures come from cameras, and samples do not."""
    places: dict[tuple[str, str], str] = {}  # source and address -> camera
    for name, camera in cameras.items():
        path, options = ("cameras", name), _group(camera)
        source, address = options.get("source"), options.get("address", name)
        yield from _named((*path, "asset"), "asset", options.get("asset"), assets)
        yield from _named((*path, "source"), "source", source, sources)
        if isinstance(source, str) and source in sources and not _gives_pictures(sources[source]):
            message = f"source {source!r} gives no pictures; want one of type camera"
            yield Finding((*path, "source"), message)
        for what in ("acceptance", "template", "progression"):
            if options.get(what) is not None and options.get("model") is None:
                message = "nobody looks at the pictures of this camera: want a model beside it"
                yield Finding((*path, what), message, at_key=True)
        if isinstance(source, str) and isinstance(address, str):
            other = places.setdefault((source, address), name)
            if other != name:
                message = f"{address!r} of source {source!r} is camera {other!r} already"
                yield Finding((*path, "address"), message, at_key=True)
    for name, asset in assets.items():
        options = _group(asset)
        named: list[tuple[Path, Any]] = [(("source",), options.get("source"))]
        named += [
            (("tags", tag, "source"), _group(settings).get("source"))
            for tag, settings in _group(options.get("tags")).items()
        ]
        for steps, source in named:
            if isinstance(source, str) and _gives_pictures(sources.get(source)):
                message = f"source {source!r} gives pictures, no samples: name it under cameras"
                yield Finding(("assets", name, *steps), message)


def _gives_pictures(source: Any) -> bool:
    return _group(source).get("type") == "camera"


def _kind(name: str, kind: dict[str, Any]) -> Iterator[Finding]:
    """The channels of a kind agree with each other, and its times with its tick."""
    channels = _group(kind.get("channels"))
    tells = _group(kind.get("running")).get("channel")
    yield from _named(("kinds", name, "running", "channel"), "channel", tells, channels)
    units: dict[str, tuple[str, str]] = {}  # tag -> the channel and unit that came first
    tick_s = _number(kind.get("tick_ms"), _default("tick_ms")) / 1000
    for channel, settings in channels.items():
        path = ("kinds", name, "channels", channel)
        options = _group(settings)
        unit, tag = options.get("unit"), _tag(channel, options)
        if isinstance(unit, str):
            first, known = units.setdefault(tag, (channel, unit))
            if known != unit:
                message = f"tag {tag!r} is in {known!r} for channel {first!r}, and in {unit!r} here"
                yield Finding((*path, "unit"), message)
        stale_s = options.get("stale_s")
        if 0 < _number(stale_s, 0) < tick_s:
            message = (
                f"got {stale_s}, want one tick ({tick_s:g} s) or more: a value must outlast it"
            )
            yield Finding((*path, "stale_s"), message)


def _training(name: str, kind: dict[str, Any], assets: dict[str, Any]) -> Iterator[Finding]:
    """A kind is trained on its own assets."""
    chosen = _group(kind.get("training")).get("assets")
    own = [asset for asset, settings in assets.items() if _group(settings).get("kind") == name]
    for index, asset in enumerate(chosen if isinstance(chosen, list) else []):
        if not isinstance(asset, str) or asset in own:
            continue
        path = ("kinds", name, "training", "assets", index)
        if asset in assets:
            yield Finding(path, f"asset {asset!r} is not of kind {name!r}")
        else:
            yield Finding(path, f"no asset {asset!r}.{did_you_mean(asset, own)}")


def _asset(
    name: str, asset: dict[str, Any], kinds: dict[str, Any], sources: dict[str, Any]
) -> Iterator[Finding]:
    """An asset's kind, sources, tags and template exist."""
    path = ("assets", name)
    kind = asset.get("kind")
    yield from _named((*path, "kind"), "kind", kind, kinds)
    yield from _named((*path, "source"), "source", asset.get("source"), sources)
    template = asset.get("address")
    if isinstance(template, str):
        fields = set(_FIELD.findall(template))
        if fields - {"asset", "tag"} or "tag" not in fields:
            message = f"got {template!r}, want {{tag}} in it, and {{asset}} where it is needed"
            yield Finding((*path, "address"), message)
    known = _tags(kinds, kind)
    for tag, settings in _group(asset.get("tags")).items():
        if known and tag not in known:
            message = f"kind {kind!r} has no tag {tag!r}.{did_you_mean(tag, known)}"
            yield Finding((*path, "tags", tag), message, at_key=True)
        source = _group(settings).get("source")
        yield from _named((*path, "tags", tag, "source"), "source", source, sources)


def _whole(name: str, asset: dict[str, Any], *, seen: bool) -> Iterator[Finding]:
    """An asset has a kind and a source, or neither and a camera."""
    path = ("assets", name)
    given = [what for what in ("source", "address", "tags") if asset.get(what)]
    if asset.get("kind") is not None:
        if "source" not in given:
            yield Finding(path, "'source' is missing: the source of its tags", at_key=True)
    elif given:
        yield Finding(
            path, f"'kind' is missing: what has {given[0]!r} has a kind, too", at_key=True
        )
    elif not seen:
        message = "'kind' is missing; only what a camera names under `cameras` may have none"
        yield Finding(path, message, at_key=True)


def _named(path: Path, what: str, name: Any, known: dict[str, Any]) -> Iterator[Finding]:
    """The name stands for something; said only where anything has a name yet."""
    if isinstance(name, str) and known and name not in known:
        yield Finding(path, f"no {what} {name!r}.{did_you_mean(name, known)}")


def _addresses(assets: dict[str, Any], kinds: dict[str, Any]) -> Iterator[Finding]:
    """One address of a source feeds one tag. Said once for each pair of assets."""
    readers: dict[tuple[str, str], tuple[str, str]] = {}  # source, address -> asset, tag
    told: set[tuple[str, str]] = set()
    for name, asset in assets.items():
        options = _group(asset)
        for tag in _tags(kinds, options.get("kind")):
            place = _place_of(name, tag, options)
            if place is None:
                continue
            other, its = readers.setdefault(place, (name, tag))
            if (other, its) == (name, tag) or (other, name) in told:
                continue
            told.add((other, name))
            advice = (
                f"give one tag two channels instead (tag: {its})"
                if other == name
                else "want addresses of its own for each asset, under tags or by a template as "
                "address: '{asset}.{tag}'"
            )
            source, address = place
            message = f"{address!r} of source {source!r} already feeds tag {other}/{its}; {advice}"
            own = tag in _group(options.get("tags"))
            path = ("assets", name, "tags", tag) if own else ("assets", name)
            yield Finding(path, message, at_key=not own)


def _place_of(asset: str, tag: str, options: dict[str, Any]) -> tuple[str, str] | None:
    """The source and address of a tag, if they can be read."""
    given = _group(options.get("tags")).get(tag)
    detail = {"address": given} if isinstance(given, str) else _group(given)
    source = detail.get("source") or options.get("source")
    own, template = detail.get("address"), options.get("address")
    if not isinstance(source, str) or not isinstance(own, str | None):
        return None
    if template is not None and (not isinstance(template, str) or "{tag}" not in template):
        return None
    return source, address_of(asset, tag, given=own, template=template)


def _tags(kinds: dict[str, Any], kind: Any) -> list[str]:
    """The tags of a kind, as far as it can be read."""
    settings = _group(kinds.get(kind)) if isinstance(kind, str) else {}
    channels = _group(settings.get("channels"))
    return list(dict.fromkeys(_tag(name, _group(options)) for name, options in channels.items()))


def _tag(channel: str, options: dict[str, Any]) -> str:
    tag = options.get("tag")
    return tag if isinstance(tag, str) else channel


def _group(data: Any) -> dict[str, Any]:
    return data if isinstance(data, dict) else {}


def _number(data: Any, default: float) -> float:
    return data if isinstance(data, int | float) and not isinstance(data, bool) else default


def _default(name: str) -> float:
    return float(KindSettings.model_fields[name].default)

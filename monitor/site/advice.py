"""What is odd about a configuration that is right: it works, but perhaps not as meant.

Before it was tried, and after: what a source gave that could not be taken.
"""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from connectors import discover
from connectors.contract import Delayed
from monitor.site.config import Config
from monitor.site.settings import Kind


def advice(config: Config) -> tuple[str, ...]:
    """One sentence each, beginning with the path of the setting."""
    return tuple(_all(config))


_REJECTED = {  # why the step rejects samples -> what to look at
    "ancient": "stamped before `oldest` of the kind: is time_format right?",
    "ahead": "stamped further in the future than `max_ahead_s` of the kind allows: are timezone, "
    "time_format and the clocks right?",
    "unknown_tag": "of tags that the configuration no longer names",
}


def rejections(
    source: str,
    rejected: Mapping[str, int],
    examples: Mapping[str, str],
    *,
    received: int,
    what: str = "samples",
) -> str:
    """How much of a source was rejected, why, and one example of each reason, in a sentence."""
    count = sum(rejected.values())
    share = "all" if count == received else f"{count:,} of"
    percent = "" if count == received else f" ({_percent(count / received)})"
    about = {reason: _REJECTED.get(reason, examples.get(reason, "")) for reason in rejected}
    why = "; ".join(
        f"{number:,} {reason}{f' ({about[reason]})' if about[reason] else ''}"
        for reason, number in rejected.items()
    )
    return f"source {source}: {share} {received:,} {what}{percent} were rejected: {why}"


def _percent(share: float) -> str:
    """A share in per cent, never rounded to nothing or to everything."""
    return f"{min(max(100 * share, 0.1), 99.9):.1f} %"


def _all(config: Config) -> Iterator[str]:
    for name, kind in config.kinds.items():
        if not any(asset.kind == name for asset in config.assets.values()):
            yield f"kinds.{name}: no asset is of this kind"
        yield from _model(name, kind)
        yield from _limits(name, kind)
        yield from _times(name, kind)
        yield from _lateness(name, config)
    for name, camera in config.cameras.items():
        if camera.model is not None and not Path(camera.model).exists():
            yield (
                f"cameras.{name}.model: no model at {camera.model} yet; `watchkeeper vision train` "
                f"makes it, and `run` wants it"
            )
        rules = camera.acceptance.in_mm if camera.acceptance is not None else ()
        if rules and camera.mm_per_pixel is None:
            yield (
                f"cameras.{name}: no mm_per_pixel, so rules in mm are not judged and no part is "
                f"accepted: {', '.join(rules[:3])}"
            )
    used = {bound.source for asset in config.assets for bound in config.tags_of(asset)}
    used |= {camera.source for camera in config.cameras.values()}
    yield from (
        f"sources.{name}: no asset takes anything from it"
        for name in config.sources
        if name not in used
    )
    yield from _history_only(config, used)
    if not config.sinks:
        yield "sinks: none; results stay in the program's own data folder"


def _history_only(config: Config, used: Collection[str]) -> Iterator[str]:
    """Sources that `run` will refuse; `train` and `backfill` do well with them."""
    for name, settings in config.sources.items():
        kind = getattr(settings, "type", "")
        if name in used and discover()[kind].source is None:
            yield (
                f"sources.{name}: type {kind!r} holds history only; `train` and `backfill` read "
                f"it, `run` refuses it"
            )


def _model(name: str, kind: Kind) -> Iterator[str]:
    """Who judges the channels."""
    if kind.model is None:
        yield f"kinds.{name}: no model; only plain limits can raise alarms"
    elif not Path(kind.model.bundle).exists():
        yield f"kinds.{name}.model.bundle: no model at {kind.model.bundle} yet; it is to be trained"
    elif not any(channel.model for channel in kind.channels.values()):
        yield f"kinds.{name}.model: every channel has model: false; the model sees nothing"
    idle = [
        channel
        for channel, settings in kind.channels.items()
        if settings.limits is None
        and not (settings.model and kind.model is not None)
        and (kind.running is None or kind.running.channel != channel)
    ]
    if idle:
        named = ", ".join(idle)
        yield f"kinds.{name}.channels: neither limits nor a model judge {named}; shown only"


def _limits(name: str, kind: Kind) -> Iterator[str]:
    """Limits that chatter, or that never rest though they are told to."""
    given = {
        channel: settings.limits
        for channel, settings in kind.channels.items()
        if settings.limits is not None
    }
    sharp = [
        channel
        for channel, limits in given.items()
        if not limits.deadband
        and not limits.off_delay_s
        and {limits.low_low, limits.low, limits.high, limits.high_high} != {None}
    ]
    if sharp:
        yield (
            f"kinds.{name}.channels: no deadband in the limits of {', '.join(sharp)}; a value that "
            f"lingers at a limit alarms again and again"
        )
    resting = [channel for channel, limits in given.items() if limits.only_running]
    if resting and kind.running is None:
        yield (
            f"kinds.{name}.channels: only_running in the limits of {', '.join(resting)} does "
            f"nothing; the kind does not say when it is `running`"
        )


def _lateness(name: str, config: Config) -> Iterator[str]:
    """A frame that is closed before its samples can have come."""
    delays = [
        (settings.delay_ms(bound.address), bound.source)
        for asset, given in config.assets.items()
        if given.kind == name
        for bound in config.tags_of(asset)
        if isinstance(settings := config.sources[bound.source], Delayed)
    ]
    delay_ms, source = max(delays, default=(0.0, ""))
    if (lateness_ms := config.kinds[name].lateness_ms) < delay_ms:
        yield (
            f"kinds.{name}.lateness_ms: {lateness_ms} ms; samples of source {source} may come "
            f"{delay_ms:g} ms after their stamp, and late ones are not scored"
        )


def _times(name: str, kind: Kind) -> Iterator[str]:
    """Settings that a long tick makes too short."""
    tick_s = kind.tick_ms / 1000
    short = [channel for channel, settings in kind.channels.items() if settings.stale_s < tick_s]
    if short:
        yield (
            f"kinds.{name}.channels: stale_s is shorter than one tick ({tick_s:g} s) for "
            f"{', '.join(short)}; a value early in a tick is stale at its end"
        )
    if kind.idle_s < tick_s:
        yield (
            f"kinds.{name}.idle_s: {kind.idle_s:g} s is shorter than one tick ({tick_s:g} s); "
            f"a source that sends once a tick counts as silent in between"
        )
    if kind.remember_s < tick_s:
        yield (
            f"kinds.{name}.remember_s: {kind.remember_s:g} s is shorter than one tick "
            f"({tick_s:g} s); a repeat of a sample early in a tick counts as late once its frame "
            f"is closed"
        )

"""What `status` knows, for people; `run` and `backfill` end with it."""

from collections.abc import Iterator
from typing import Any

from monitor.cli.console import MOST_SHOWN, Exit, StopError, duration, local, say
from monitor.cli.words import figure, looks_like
from monitor.core.conservation import Conservation
from monitor.live.clock import SystemClock
from monitor.site.config import Config
from monitor.site.status import rejected

_SOURCES = {"refused": "given up"}
_LASTING = ("ended", "refused", "left")  # states that are so where no service runs, too
_MARKS = {
    "restamped": "with a time that could not be true, stamped anew",
    "replayed": "sent again, or from history",
    "forced": "set by hand",
}
_STATES = {
    None: "not scored lately",
    "ok": "scored",
    "warming": "warming up, not scored",
    "blind": "nothing to judge by (no model, or no valid channel)",
    "off": "off, starting or stopping: not scored",
}


def say_summary(found: dict[str, Any], config: Config) -> None:
    """Print it line by line; times are those of the site, with how long ago they were.

    With `running` in it, what the service says of itself comes first, or that there is none.
    """
    zone = config.site.timezone
    if "running" in found:
        _say_service(found, zone)
    is_past = "running" in found and found["running"] is None
    live = found.get("running") or {"sources": {}, "sinks": {}}
    _say_received(found)
    _say_sources(found, live["sources"], zone, is_past=is_past)
    for words in rejected(found).values():
        say(("warning  ", "yellow"), words)
    if config.kinds:
        say(f"frames   {found['frames']:,} closed, {found['frames_scored']:,} scored")
    _say_assets(found, config)
    for name, camera in found["cameras"].items():
        _say_camera(name, camera, zone)
    for name, number in found["alarms"].items():
        many = (str(number), "bold red" if number else "green")
        say(f"alarms   {name}: ", many, *_beside_budget(name, found, config))
        _say_active(name, found["assets"][name], zone)
    for name, source in found["sources"].items():
        _say_active(name, source, zone)
    _say_week(found, config)
    _say_latency("sample to score", found["score_latency_ms"])
    if inspection := (found.get("running") or {}).get("inspection"):  # an older service has none
        _say_latency("picture to result", inspection["latency_ms"])
    _say_sinks(found, live["sinks"])
    if "digest" in found:
        say(f"digest   {found['digest']}")


def _say_latency(way: str, latency: dict[str, Any]) -> None:
    if latency["p50"] is not None:
        say(f"latency  {way} {latency['p50']:.0f} ms, p99 {latency['p99']:.0f} ms")


def _say_assets(found: dict[str, Any], config: Config) -> None:
    """How each asset stands."""
    for name, asset in found["assets"].items():
        at = asset["tick_ns"]
        standing = _standing(asset, has_model=_has_model(name, config))
        say(
            f"asset    {name}: ",
            *standing,
            "" if at is None else f"; {_moment(at, config.site.timezone)}",
        )
        if asset["forced"]:
            say((f"         set by hand: {_shortened(asset['forced'])}", "yellow"))


def _say_sources(found: dict[str, Any], live: dict[str, Any], zone: str, *, is_past: bool) -> None:
    """What each source is doing; ``live``: as the running service sees them."""
    for name, source in found["sources"].items():
        last = source["last_ns"]
        what = "picture" if source["pictures"] else "sample"
        when = f"no {what} yet" if last is None else f"last {what} {_moment(last, zone)}"
        state, reason = _connection(source, live.get(name))
        held = (f": {reason}" if reason else "", "bold red" if state == "refused" else "yellow")
        was = "was " if is_past and state not in _LASTING else ""
        say(f"source   {name}: {was}{_SOURCES.get(state, state)}, {when}", held)
        _say_silent(live.get(name))
        _say_gaps(source["gaps"], zone)
        _say_marks(source)


def _say_camera(name: str, camera: dict[str, Any], zone: str) -> None:
    """What a camera saw last, its grades, and what waits to be inspected."""
    last = camera["last"]
    parts = ["no picture was inspected yet"] if last is None else [_picture(last, zone)]
    graded = {grade: n for grade, n in camera["grades"].items() if grade != "none"}
    if graded:
        counts = {**graded, "not graded": camera["recent"] - sum(graded.values())}
        words = ", ".join(f"{grade} {number:,}" for grade, number in counts.items() if number)
        parts.append(f"the last {camera['recent']:,}: {words}")
    waits = f"; {camera['waiting']:,} waiting" if camera["waiting"] else ""
    say(f"camera   {name} of {camera['asset']}: {'; '.join(parts)}", (waits, "yellow"))


def _picture(last: dict[str, Any], zone: str) -> str:
    said = "kept, not inspected: no model"
    if last["rejected"]:
        said = last["rejected"].replace("_", " ")
    elif last["label"]:
        said = f"{last['label']} {last['probability']:.0%}"
    surprise = "" if last["surprise"] is None else f", surprise {last['surprise']:.1f}"
    grade = "" if last["grade"] == "none" else f", {last['grade']}"
    part = f", part {last['part']}" if last["part"] else ""
    return f"{said}{surprise}{grade}{part}, {_moment(last['time_ns'], zone)}"


def _say_active(name: str, one: dict[str, Any], zone: str) -> None:
    """The alarms of an asset, or of a source, that stand."""
    for alarm in one["active"]:
        since = _moment(alarm["raised_ns"], zone)
        say(
            ("ACTIVE   ", "bold red"),
            f"{name}, since {since}: {alarm['reason']}",
            (looks_like(alarm["diagnosis"]), "cyan"),
        )


def _say_service(found: dict[str, Any], zone: str) -> None:
    """How the service itself stands; where none runs, of when the figures are."""
    running, updated = found["running"], found["updated_ns"]
    if running is None:
        when = f", of {local(updated, zone)}" if updated is not None else ""
        say("service  ", ("not running", "bold"), f"; these are the figures it stored last{when}")
        return
    since = local(running["started"], zone)
    say("service  ", ("running", "bold green"), f", process {running['pid']}, since {since}")
    if error := running["reload"]["error"]:
        in_force = local(running["reload"]["at"], zone)
        say("         ", ("reload failed", "bold red"), f": {error}; in force since {in_force}")
    for reason in running["not_ready"]:
        say("         ", ("not ready", "bold yellow"), f": {reason}")
    if trouble := running.get("inspection", {}).get("trouble"):
        said = f": the process that inspects them {trouble}"
        say("         ", ("pictures wait", "bold yellow"), said)


def _connection(source: dict[str, Any], live: dict[str, Any] | None) -> tuple[str, str]:
    """The state of a source and why: as the running service sees it, else as it was stored."""
    known = source if live is None else live
    return known["state"], known["reason"]


def _say_silent(live: dict[str, Any] | None) -> None:
    """Tags that a source that runs has given no value of: of a wrong address it hears nothing."""
    is_open = live is not None and live["state"] in ("running", "silent")
    silent = live["silent"] if live is not None and is_open else []
    if silent:
        names = _shortened(silent)
        say(("         no usable value since the start", "yellow"), f": {names}")


def _say_gaps(gaps: dict[str, Any], zone: str) -> None:
    """What a source said is missing, of what is kept; nothing where it never did."""
    last = gaps["last"]
    if last is None:
        return
    missing = gaps["missing_s"]
    why = f": {last['reason']}" if last["reason"] else ""
    say(
        (f"         {duration(missing)} missing", "yellow" if missing else ""),
        f" in {gaps['told']:,} gaps, {gaps['filled']:,} of them filled; the last one"
        f" ({last['kind']}) until {_moment(last['until_ns'], zone)}{why}",
    )


def _say_marks(source: dict[str, Any]) -> None:
    """Samples that are not as others, and tags whose unit is not what it was."""
    counts = [f"{count:,} {_MARKS.get(mark, mark)}" for mark, count in source["marks"].items()]
    if counts:
        say(f"         of the samples {', '.join(counts)}")
    if source["outrun"]:
        say(
            (f"         {source['outrun']:,} times not waited for", "yellow"),
            ": too many samples waited; what it sent of then is late",
        )
    if source["unit_changed"]:
        names = _shortened(list(source["unit_changed"]))
        reason = next(iter(source["unit_changed"].values()))
        say(("         unit changed", "yellow"), f": {names}{f': {reason}' if reason else ''}")


def _shortened(names: list[str]) -> str:
    more = f" and {len(names) - MOST_SHOWN} more" if len(names) > MOST_SHOWN else ""
    return f"{', '.join(names[:MOST_SHOWN])}{more}"


def _say_sinks(found: dict[str, Any], live: dict[str, Any]) -> None:
    """What waits for each sink, why it does not take it, and what was lost."""
    for sink, waiting in found["backlog"].items():
        dropped = found["dropped"][sink]
        lost = (f", {dropped:,} dropped: the outbox was full" if dropped else "", "bold red")
        held = live[sink]["reason"] if sink in live else ""
        say(
            f"sink     {sink}: {waiting} waiting",
            lost,
            (f"; held up: {held}" if held else "", "yellow"),
        )
    if found["dead_letters"]:
        say("dead letters  ", (str(found["dead_letters"]), "bold red"))
    if found["repeats_forgotten"]:
        say(f"repeats  {found['repeats_forgotten']:,} forgotten early: they would count as late")
    for kind, pictures in found["judgements"].items():
        if pictures["late"] or pictures["forgotten"]:
            say(
                f"judgements  {kind}: {pictures['late']:,} pictures came late, "
                f"{pictures['forgotten']:,} ticks of pictures forgotten"
            )
    for what, number in found["no_longer_kept"].items():
        if number:
            say(f"no longer kept  {number:,} {what.replace('_', ' ')}")
    for what, number in found["damaged"].items():
        if number:
            say("damaged  ", (f"{number:,} {what.replace('_', ' ')}", "bold red"))


def stop_where_all_was_rejected(found: dict[str, Any], *, then: str) -> None:
    """Raises StopError where a source gave nothing but what was rejected."""
    useless = rejected(found, wholly=True).values()
    if useless:
        raise StopError(f"{'. '.join(useless)}. {then}", code=Exit.USAGE)


def _beside_budget(
    asset: str, found: dict[str, Any], config: Config
) -> Iterator[str | tuple[str, str]]:
    """Its process alarms of the last 30 days beside the budget, where a model scores it."""
    if "budget" not in found or not _has_model(asset, config):
        return
    budget = found["budget"]
    count, allowed = budget["alarms_30_days"].get(asset, 0), budget["per_asset_30_days"]
    style = "bold yellow" if asset in budget["over"] else ""
    word = "over the budget of" if style else "of a budget of"
    yield "; of its model in 30 days "
    yield (f"{count}, {word} {figure(allowed)}", style)


def _say_week(found: dict[str, Any], config: Config) -> None:
    """The same for the site and a week."""
    if "budget" not in found or not config.scored_assets:
        return
    budget = found["budget"]
    style = "bold yellow" if budget["site_over"] else ""
    word = "over the budget of" if style else "of a budget of"
    say(
        "alarms   site, of models in 7 days: ",
        (f"{budget['alarms_week']}, {word} {figure(budget['per_site_week'])}", style),
    )


def _say_received(found: dict[str, Any]) -> None:
    """What became of samples, and of pictures, where there is a source of them."""
    for pictures in (False, True):
        mine = [one for one in found["sources"].values() if one["pictures"] is pictures]
        if not mine and (pictures or found["sources"]):
            continue
        names = ("received", "stored", "duplicate", "late", "rejected", "waiting")
        counts = [{name: one[name] for name in names} for one in mine]
        total = sum(map(Conservation.from_json, counts), Conservation())
        refused = sum(total.rejected.values())
        reasons = ", ".join(f"{n} {reason}" for reason, n in total.rejected.items())
        say(
            f"{'pictures' if pictures else 'samples '} {total.received:,} received ="
            f" {total.stored:,} {'inspected' if pictures else 'stored'}"
            f" + {total.duplicate:,} duplicate"
            f"{'' if pictures else f' + {total.late:,} late'}"
            f" + {refused:,} rejected{f' ({reasons})' if reasons else ''}"
            f"{f' + {total.waiting:,} waiting' if pictures else ''}",
            ("" if total.holds else "  DOES NOT ADD UP", "bold red"),
        )


def _has_model(asset: str, config: Config) -> bool:
    """Whether something but limits is meant to judge it; of one that is gone nobody knows."""
    if asset not in config.assets:
        return True
    kind = config.kind_of(asset)
    return kind is not None and kind.model is not None


def _standing(asset: dict[str, Any], *, has_model: bool) -> Iterator[str | tuple[str, str]]:
    """How an asset stands, in a few words."""
    if asset["cameras_alone"]:
        yield "cameras alone watch it"
        return
    blind = asset["state"] == "blind"
    yield "limits only, no model" if blind and not has_model else _STATES[asset["state"]]
    if asset["surprise"] is None:
        return
    level = asset["threshold"]
    over = level is not None and asset["surprise"] >= level
    yield ", surprise "
    yield (f"{asset['surprise']:.1f}", "bold red" if over else "green")
    if level is not None:
        yield f" (alarm at {level:.1f}{', provisional' if asset['provisional'] else ''})"
    if asset["not_learnt"]:
        yield (", not adopted: scaled as the others together", "yellow")
    if asset["coverage"] < 1:
        yield f", {asset['coverage']:.0%} of the evidence valid"


def _moment(at: int, zone: str) -> str:
    ago = max(SystemClock().now() - at, 0) / 1e9
    return f"{local(at, zone)} ({duration(ago)} ago)"

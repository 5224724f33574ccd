"""`watchkeeper alarms`: what was raised, what stands, and what a person does about it."""

import getpass
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from monitor.cli import console

if TYPE_CHECKING:
    from monitor.state.store import Alarm

app = typer.Typer(help="What was raised, what stands, what to do about it.", no_args_is_help=True)

SHOWN = 8  # digits of an id in a list: enough to name it by, nearly always

File = Annotated[Path, typer.Argument(help="The configuration, a YAML file.")]
Id = Annotated[str, typer.Argument(help="The alarm's id, or enough of its beginning.")]
Who = Annotated[str | None, typer.Option(help="Who does it; your login name if left out.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


@app.command("list")
def listed(
    file: File,
    *,
    active: Annotated[bool, typer.Option("--active", help="Only those that stand now.")] = False,
    asset: Annotated[str | None, typer.Option(help="Only those of this asset.")] = None,
    since: Annotated[
        str | None, typer.Option(help="Only those raised after this, as 2026-03-01T06:00:00Z.")
    ] = None,
    backfill: Annotated[
        bool, typer.Option("--backfill", help="Those that would have been, of the last backfill.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List alarms, the newest first. Times are the site's, with their offset."""
    from monitor.cli.stored import stored  # noqa: PLC0415 - commands import when they run
    from monitor.site.config import load  # noqa: PLC0415 - as above
    from monitor.state.store import Store  # noqa: PLC0415 - as above

    config = load(file)
    if asset is not None and asset not in config.assets:
        raise console.StopError(
            f"{file}: no asset {asset!r}; there are: {', '.join(config.assets)}.",
            code=console.Exit.USAGE,
        )
    with stored(config, backfill=backfill) as database:
        found = Store(database).alarms(
            active_only=active, asset=asset, since=console.instant(since, "--since")
        )
    if as_json:
        console.say_json([_json(alarm) for alarm in found])
        return
    for alarm in found:
        when = console.local(alarm.raised, config.site.timezone)
        style = "bold red" if alarm.active else "dim"
        console.say(
            f"{when}  {alarm.id[:SHOWN]}  ",
            (f"{alarm.state:<12}", style),
            f"  {alarm.asset}  {alarm.alarm_class}  ",
            alarm.reason,
            ("" if alarm.diagnosis is None else f"  ({alarm.diagnosis})", "cyan"),
            ("  (tripped)" if alarm.tripped else "", "yellow"),
            (_shelved(alarm, config.site.timezone), "yellow"),
        )
    if not found:
        console.say("No alarms.")


@app.command("ack")
def acknowledge(
    file: File,
    alarm: Id,
    *,
    why: Annotated[str, typer.Option(help="What was found, for those who read it later.")] = "",
    who: Who = None,
    as_json: Json = False,
) -> None:
    """Acknowledge an alarm: somebody has seen it.

    Asks the running service, and ends when it is stored for good. Ends with 3 where none runs.
    """
    _do(file, as_json=as_json, action="acknowledge", target=alarm, why=why, who=who)


@app.command("shelve")
def shelve(
    file: File,
    alarm: Id,
    *,
    lasting: Annotated[str, typer.Option("--for", help="For how long, as 30min, 2h or 1h30min.")],
    why: Annotated[str, typer.Option(help="The reason, for those who ask for it later.")],
    who: Who = None,
    as_json: Json = False,
) -> None:
    """Silence an alarm's point for a time: it is watched and stored, but nobody is told.

    It is told of once more, as it then stands, when the time is over, or after `unshelve`. For
    8 hours at most, unless the configuration says otherwise. Ends with 3 where no service runs.
    """
    until = time.time_ns() + console.nanoseconds(lasting, "--for")
    _do(file, as_json=as_json, action="shelve", target=alarm, why=why, who=who, until=until)


@app.command("unshelve")
def unshelve(
    file: File,
    alarm: Id,
    *,
    why: Annotated[str, typer.Option(help="The reason, for those who read it later.")] = "",
    who: Who = None,
    as_json: Json = False,
) -> None:
    """End the shelving of an alarm's point before its time; what it truly is goes out.

    Ends with 3 where no service runs.
    """
    _do(file, as_json=as_json, action="unshelve", target=alarm, why=why, who=who)


def _do(file: Path, *, as_json: bool, who: str | None, **given: Any) -> None:
    """Ask for a command, and say what came of it."""
    from monitor.cli.stored import asked  # noqa: PLC0415 - commands import when they run
    from monitor.site.config import load  # noqa: PLC0415 - as above

    found = asked(load(file), "command", who=who or _login(), **given)
    if as_json:
        console.say_json(found)
        return
    done = ", ".join(found["transitions"]) or "nothing changed"
    if not found["stepped"]:
        done = "accepted; the service is behind, and will come to it"
    console.say(f"{found['alarm'][:SHOWN]}  ", (done, "bold"))


def _login() -> str:
    """Who is at the keyboard. Raises StopError where the system does not know."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no such user, as in a container
        raise console.StopError(
            "nobody knows who you are; say it with --who", code=console.Exit.USAGE
        ) from None


def _shelved(alarm: "Alarm", zone: str) -> str:
    if alarm.shelved_until is None:
        return ""
    return f"  (shelved until {console.local(alarm.shelved_until, zone)})"


def _json(alarm: "Alarm") -> dict[str, Any]:
    return {
        "id": alarm.id,
        "asset": alarm.asset,
        "class": str(alarm.alarm_class),
        "point": alarm.point,
        "state": str(alarm.state),
        "tripped": alarm.tripped,
        "raised_ns": alarm.raised,
        "changed_ns": alarm.changed,
        "reason": alarm.reason,
        "value": alarm.value,
        "threshold": alarm.threshold,
        "blame": dict(alarm.blame),
        "diagnosis": None if alarm.diagnosis is None else asdict(alarm.diagnosis),
        "shelved_until_ns": alarm.shelved_until,
    }

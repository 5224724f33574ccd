"""`watchkeeper alarms`: what was raised, and what stands."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from monitor.cli import console

if TYPE_CHECKING:
    from monitor.state.store import Alarm

app = typer.Typer(help="What was raised, and what stands.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keeps `list` a command of its own: a single command would take the group's place."""


@app.command("list")
def listed(
    file: Annotated[Path, typer.Argument(help="The configuration, a YAML file.")],
    *,
    active: Annotated[bool, typer.Option("--active", help="Only those that stand now.")] = False,
    asset: Annotated[str | None, typer.Option(help="Only those of this asset.")] = None,
    since: Annotated[
        str | None, typer.Option(help="Only those raised after this, as 2026-03-01T06:00:00Z.")
    ] = None,
    backfill: Annotated[
        bool, typer.Option("--backfill", help="Those that would have been, of the last backfill.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
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
            f"{when}  ",
            (f"{alarm.state:<12}", style),
            f"  {alarm.asset}  {alarm.alarm_class}  ",
            alarm.reason,
        )
    if not found:
        console.say("No alarms.")


def _json(alarm: "Alarm") -> dict[str, Any]:
    return {
        "id": alarm.id,
        "asset": alarm.asset,
        "class": str(alarm.alarm_class),
        "point": alarm.point,
        "state": str(alarm.state),
        "raised_ns": alarm.raised,
        "changed_ns": alarm.changed,
        "reason": alarm.reason,
        "value": alarm.value,
        "threshold": alarm.threshold,
        "blame": dict(alarm.blame),
    }

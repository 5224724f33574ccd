"""`watchkeeper status`: how the plant stands, running or not."""

from pathlib import Path
from typing import Annotated

import typer

from monitor.cli import console


def command(
    file: Annotated[Path, typer.Argument(help="The configuration, a YAML file.")],
    *,
    backfill: Annotated[
        bool, typer.Option("--backfill", help="Of the last backfill, not of the service.")
    ] = False,
    digest: Annotated[
        bool,
        typer.Option(
            "--digest",
            help="Add the SHA-256 of all scores kept at full rate, equal for live, backfill and "
            "replay while `state.detail_hours` has let nothing of them go.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Show what came in and when, what became of it, how each asset stands and what alarms.

    Asks the running service how its sources and sinks stand; where none runs, says so, and shows
    what was stored last, as "was running". A source that is running gives data, one that is silent
    is open and gives none, one that is waiting is not reached or was lost, one that has ended will
    say no more; one that was given up is said with the reason.
    """
    from monitor.cli.figures import say_summary  # noqa: PLC0415 - commands import when they run
    from monitor.cli.stored import running, stored  # noqa: PLC0415 - as above
    from monitor.site.config import load  # noqa: PLC0415 - as above
    from monitor.site.status import summary  # noqa: PLC0415 - as above
    from monitor.state.store import Store  # noqa: PLC0415 - as above

    config = load(file)
    with stored(config, backfill=backfill) as database:
        found = summary(database, config.site.alarm_budget)
        if not backfill:
            found["running"] = running(config)
        if digest:
            found["digest"] = Store(database).digest()
    if as_json:
        console.say_json(found)
    else:
        say_summary(found, config)

"""`watchkeeper ledger`: what a simulation sent against what the service took in."""

from pathlib import Path
from typing import Annotated

import typer

from monitor.cli import console

_MEANINGS = {
    "sent": "sent",
    "acknowledged": "acknowledged by the peer",
    "stored": "stored, each once",
    "duplicated": "came again, and were dropped or kept apart",
    "early": "acknowledged before the service first heard of them: not judged",
    "in_gaps": "missing, in gaps that the service recorded",
    "lost": "missing, and nothing says so",
    "differing": "stored with another value, or as bad",
    "unknown": "stored, and never sent",
}


def command(
    folder: Annotated[Path, typer.Argument(help="The folder of `watchkeeper simulate`.")],
    *,
    data: Annotated[
        Path | None,
        typer.Option(help="The data folder of the service; left out: that of FOLDER/plant.yaml."),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            help="Judge what is stamped from here on, as 2026-03-01T06:00:00Z; left out: each tag "
            "from what was stored of it first."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Hold every sample that was sent against the service's journal: by tag, time and value.

    Ends with 0 where nothing is missing but in gaps that the service recorded itself, and nothing
    is there that was not sent; else with 1. Samples are told apart while the journal keeps them
    (`state.journal_hours`). Stop the simulator first, and wait until the service has caught up:
    while both run, samples on their way count as lost, or as never sent.
    """
    from monitor.site.simulate.compare import compare_folder  # noqa: PLC0415 - when it runs

    start = console.instant(since, "--since")
    found, service = compare_folder(folder, data, since=start)
    if as_json:
        console.say_json({**found.to_json(), "service": service})
    else:
        counts = found.to_json()
        for name, meaning in _MEANINGS.items():
            console.say(f"{counts[name]:>14,}  {meaning}")
        for example in found.examples:
            console.say("                ", (example, "red"))
        if found.first is not None and found.last is not None:
            first, last = (console.local(moment, "UTC") for moment in (found.first, found.last))
            console.say(f"stored from {first} to {last}")
    if not found.holds:
        raise console.StopError(
            f"{found.lost:,} samples were lost quietly, {found.differing:,} differ, "
            f"{found.unknown:,} were never sent.",
            code=console.Exit.FAILED,
        )

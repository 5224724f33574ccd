"""`watchkeeper adopt`: a machine that its kind's model has not learnt from, by its own measure."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from monitor.cli import console


def command(
    file: Annotated[Path, typer.Argument(help="The configuration, a YAML file.")],
    asset: Annotated[str, typer.Argument(help="The machine.")],
    *,
    since: Annotated[
        str | None,
        typer.Option(help="Healthy after this, as 2026-03-01T06:00:00Z; left out: as `training`."),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(help="Healthy until this, as 2026-03-11T06:00:00Z; left out: as `training`."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Learn the usual level and spread of a machine from its own healthy days.

    The weights and the threshold of the model stay as they are. A day of running is the least, ten
    are good: what is learnt is shrunk toward all machines that the model was trained on, as if they
    were six hours of it. A channel that never moved keeps what they have. Do it again after a
    repair that changed the machine.

    The model's folder is replaced at once; a running service goes on with what it has until
    `watchkeeper reload`, and its models then warm up anew.
    """
    from monitor.live.clock import SystemClock  # noqa: PLC0415 - commands import when they run
    from monitor.site.config import load  # noqa: PLC0415 - as above
    from monitor.site.plant import adopt_asset  # noqa: PLC0415 - as above

    config = load(file)
    if asset not in config.assets:
        raise console.StopError(
            f"{file}: no asset {asset!r}; there are: {', '.join(config.assets)}.",
            code=console.Exit.USAGE,
        )
    begin, end = console.instant(since, "--since"), console.instant(until, "--until")
    made = adopt_asset(config, asset, clock=SystemClock(), since=begin, until=end)
    if as_json:
        learnt = made.learnt.model_dump()
        console.say_json(asdict(made) | {"path": str(made.path), "learnt": learnt})
        return
    zone = config.site.timezone
    console.say(
        ("adopted: ", "bold green"),
        f"{asset}, by {made.learnt.frames:,} frames from {console.local(made.learnt.first, zone)} "
        f"to {console.local(made.learnt.last, zone)}, in {made.path}.",
    )
    for channel in made.pooled:
        console.say(
            ("    warning: ", "yellow"),
            f"{channel} never moved in that history: it is scaled as that of the other machines",
        )
    for rejection in made.rejections:
        console.say(("    warning: ", "yellow"), rejection)
    console.say("    `watchkeeper reload` puts it in force where the service runs")

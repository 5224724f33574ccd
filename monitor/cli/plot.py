"""`watchkeeper plot`: what an asset did and what was expected, as a picture."""

from pathlib import Path
from typing import Annotated

import typer

from monitor.cli import console


def command(
    file: Annotated[Path, typer.Argument(help="The configuration, a YAML file.")],
    asset: Annotated[str, typer.Argument(help="The asset to draw.")],
    *,
    since: Annotated[
        str | None, typer.Option(help="Nothing before this, as 2026-03-01T06:00:00Z.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="Nothing after this, as 2026-03-01T06:00:00Z.")
    ] = None,
    backfill: Annotated[
        bool, typer.Option("--backfill", help="From the last backfill, not from the service.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="The PNG to write; ASSET.png if left out.")
    ] = None,
) -> None:
    """Draw channels against what was expected, surprise, threshold, blame, pictures and alarms.

    What is no longer kept at full rate is drawn from its minutes and hours: means within the lowest
    and the highest, without what was expected. The picture says where.
    """
    from models.bundle import Bundle  # noqa: PLC0415 - commands import when they run
    from monitor.cli.stored import stored  # noqa: PLC0415 - as above
    from monitor.history.plot import draw  # noqa: PLC0415 - as above
    from monitor.history.shown import NothingToDrawError  # noqa: PLC0415 - as above
    from monitor.site.config import load  # noqa: PLC0415 - as above

    config = load(file)
    if asset not in config.assets:
        raise console.StopError(
            f"{file}: no asset {asset!r}; there are: {', '.join(config.assets)}.",
            code=console.Exit.USAGE,
        )
    path = out or Path(f"{asset}.png")
    kind = config.kind_of(asset)
    if kind is None:
        raise console.StopError(
            f"{file}: {asset} has no channels to draw: cameras alone watch it. What they saw is at "
            f"/cameras, where `web` is configured.",
            code=console.Exit.USAGE,
        )
    with stored(config, backfill=backfill) as database:
        try:
            draw(
                database,
                asset,
                path,
                kind=kind,
                bundle=None if kind.model is None else Bundle.load(kind.model.bundle),
                cameras=config.cameras_of(asset),
                since=console.instant(since, "--since"),
                until=console.instant(until, "--until"),
                timezone=config.site.timezone,
            )
        except NothingToDrawError as error:
            raise console.StopError(str(error), code=console.Exit.FAILED) from None
    console.say(("drawn: ", "bold green"), str(path))

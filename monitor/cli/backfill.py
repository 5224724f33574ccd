"""`watchkeeper backfill`: score what was, with the code of the live run."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from monitor.cli import console

FOLDER = "backfill"  # of the data folder: the results of the last backfill


class Origin(StrEnum):
    """Where history is read from."""

    SOURCES = "sources"
    JOURNAL = "journal"


def command(
    file: Annotated[Path, typer.Argument(help="The configuration, a YAML file.")],
    *,
    since: Annotated[
        str | None, typer.Option(help="Nothing before this, as 2026-03-01T06:00:00Z.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="Nothing after this, as 2026-03-01T06:00:00Z.")
    ] = None,
    origin: Annotated[
        Origin, typer.Option("--from", help="Read the sources' history, or the service's journal.")
    ] = Origin.SOURCES,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Score history into a store of its own; live state and alarms are not touched.

    Its alarms are what would have been. The digest is equal to that of a live run of the same
    samples. Each backfill replaces the one before. A journal is replayed from the oldest record
    that is still kept; a warning says so where the beginning is gone. Ends with 2 where all samples
    of a source were rejected.
    """
    from monitor.cli.figures import (  # noqa: PLC0415 - commands import when they run
        say_summary,
        stop_where_all_was_rejected,
    )
    from monitor.live.clock import SystemClock  # noqa: PLC0415 - as above
    from monitor.site import past  # noqa: PLC0415 - as above
    from monitor.site.config import load  # noqa: PLC0415 - as above
    from monitor.site.status import summary  # noqa: PLC0415 - as above
    from monitor.state.database import DatabaseReader  # noqa: PLC0415 - as above

    config = load(file)
    if config.cameras and origin is Origin.SOURCES:
        if not config.tag_names():
            raise console.StopError(
                f"{file}: cameras alone watch this plant, and pictures are not backfilled; "
                f"`watchkeeper vision inspect` looks at a folder of them.",
                code=console.Exit.USAGE,
            )
        console.say_warning("pictures are not backfilled: only samples are scored")
    start, end = console.instant(since, "--since"), console.instant(until, "--until")
    if origin is Origin.JOURNAL and (since or until):
        raise console.StopError(
            "--from journal replays the whole journal; leave out --since and --until.",
            code=console.Exit.USAGE,
        )
    with (
        past.replacing_database(config.data_dir / FOLDER) as database,
        console.reading("scoring") as progress,
    ):
        if origin is Origin.JOURNAL:
            with DatabaseReader(config.data_dir) as journal:
                past.replay_journal(
                    config, journal, database, progress=progress, warn=console.say_warning
                )
        else:
            past.score_history(
                config, database, clock=SystemClock(), since=start, until=end, progress=progress
            )
        found = summary(database, config.site.alarm_budget)
    if as_json:
        console.say_json(found)
    else:
        say_summary(found, config)
    stop_where_all_was_rejected(found, then="Mend it, and score again.")

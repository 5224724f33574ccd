"""`watchkeeper run`: watch the plant, until it is stopped or every source has ended."""

import asyncio
import logging
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from monitor.cli import console

if TYPE_CHECKING:
    from monitor.live.service import Ended, Service
    from monitor.site.config import Config
    from monitor.state.database import Database


def command(
    file: Annotated[Path, typer.Argument(help="The configuration, a YAML file.")],
    *,
    read_again: Annotated[
        list[str] | None,
        typer.Option(help="A source to read from its start once more; may be given several times."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON at the end.")] = False,
) -> None:
    """Run: take samples in, score them, raise alarms, deliver them.

    Ends when every source has ended, as recordings do, or with Ctrl-C or SIGTERM; what was
    taken in is finished first. Started again, it goes on where it was.

    Ends with 2 where a source does not fit the configuration or all its samples were rejected:
    mend it, then --read-again. Of what is read again, samples taken before count as duplicate or
    late, and so do others older than what was scored: `backfill` scores all of it anew.
    """
    from monitor.cli.figures import (  # noqa: PLC0415 - commands import when they run
        say_summary,
        stop_where_all_was_rejected,
    )
    from monitor.site.config import load  # noqa: PLC0415 - as above
    from monitor.site.status import summary  # noqa: PLC0415 - as above
    from monitor.state.database import Database  # noqa: PLC0415 - as above
    from monitor.state.journal import Journal  # noqa: PLC0415 - as above

    config = load(file)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    for source in read_again or ():
        if source not in config.sources:
            raise console.StopError(
                f"--read-again: no source {source!r}; there are: {', '.join(config.sources)}.",
                code=console.Exit.USAGE,
            )
    database = Database(config.data_dir)
    try:
        with database.atomic() as tx:
            for source in read_again or ():
                Journal(database).forget_position(tx, source)
        ended = asyncio.run(_run(config, database))
        found = summary(database)
    finally:
        database.close()
    if as_json:
        console.say_json(
            {**found, "refused": dict(ended.refused), "undelivered": dict(ended.undelivered)}
        )
    else:
        say_summary(found, zone=config.site.timezone)
    if ended.refused:
        raise console.StopError(
            "given up: "
            + "; ".join(f"source {name}: {why}" for name, why in ended.refused.items()),
            code=console.Exit.USAGE
            if ended.mismatched == ended.refused.keys()
            else console.Exit.REFUSED,
        )
    stop_where_all_was_rejected(
        found,
        then="What was read is not read again by itself: mend it, then "
        f"`watchkeeper run {file} --read-again SOURCE`.",
    )


async def _run(config: "Config", database: "Database") -> "Ended":
    from monitor.live.clock import SystemClock  # noqa: PLC0415 - commands import when they run
    from monitor.site.plant import serve  # noqa: PLC0415 - as above

    loop = asyncio.get_running_loop()

    def started(service: "Service") -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, service.stop)

    with ExitStack() as stack:
        watch = stack.enter_context(console.watching())
        return await serve(config, database, clock=SystemClock(), started=started, watch=watch)

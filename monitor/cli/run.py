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
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON at the end.")] = False,
) -> None:
    """Run: take samples in, score them, raise alarms, deliver them.

    Ends when every source has ended, as recordings do, or with Ctrl-C or SIGTERM; what was
    taken in is finished first. Started again, it goes on where it was.
    """
    from monitor.site.config import load  # noqa: PLC0415 - commands import when they run
    from monitor.site.status import summary  # noqa: PLC0415 - as above
    from monitor.state.database import Database  # noqa: PLC0415 - as above

    config = load(file)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    database = Database(config.data_dir)
    try:
        ended = asyncio.run(_run(config, database))
        found = summary(database)
    finally:
        database.close()
    if as_json:
        console.say_json(
            {**found, "refused": dict(ended.refused), "undelivered": dict(ended.undelivered)}
        )
    else:
        console.say_summary(found)
    if ended.refused:
        raise console.StopError(
            "given up: "
            + "; ".join(f"source {name}: {why}" for name, why in ended.refused.items()),
            code=console.Exit.REFUSED,
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

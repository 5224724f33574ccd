"""`watchkeeper run`: watch the plant, until it is stopped or every source has ended."""

import asyncio
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo

import typer

from monitor.cli import console
from monitor.cli.live import watching

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
    taken in is finished first. A second one quits at once, which loses nothing either. Started
    again, it goes on where it was. SIGHUP lets it take up a changed file, as `reload` does. With
    `web` in the configuration it answers /healthz, /readyz and /metrics.

    Ends with 2 where a source does not fit the configuration or all its samples were rejected:
    mend it, then --read-again. Of what is read again, samples taken before count as duplicate or
    late, and so do others older than what was scored: `backfill` scores all of it anew.
    """
    from monitor.cli.figures import (  # noqa: PLC0415 - commands import when they run
        say_summary,
        stop_where_all_was_rejected,
    )
    from monitor.live.clock import SystemClock  # noqa: PLC0415 - as above
    from monitor.site.config import load  # noqa: PLC0415 - as above
    from monitor.site.status import summary  # noqa: PLC0415 - as above
    from monitor.state.journal import Journal  # noqa: PLC0415 - as above
    from monitor.state.salvage import surviving  # noqa: PLC0415 - as above

    config = load(file)
    console.log_to()
    for source in read_again or ():
        if source not in config.sources:
            raise console.StopError(
                f"--read-again: no source {source!r}; there are: {', '.join(config.sources)}.",
                code=console.Exit.USAGE,
            )

    forgotten = list(read_again or ())

    def watch(database: "Database") -> tuple["Ended", dict[str, Any]]:
        with database.atomic() as tx:
            for source in forgotten:
                Journal(database).forget_position(tx, source)
        forgotten.clear()  # once: after a salvage they go on where they have come to
        ended = asyncio.run(_run(file, config, database))
        return ended, summary(database, config.site.alarm_budget)

    ended, found = surviving(config.data_dir, watch, now=SystemClock().now)
    if as_json:
        console.say_json(
            {**found, "refused": dict(ended.refused), "undelivered": dict(ended.undelivered)}
        )
    else:
        say_summary(found, config)
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


async def _run(file: Path, config: "Config", database: "Database") -> "Ended":
    from monitor.live.clock import SystemClock  # noqa: PLC0415 - commands import when they run
    from monitor.site.plant import service as configured  # noqa: PLC0415 - as above
    from monitor.site.staging import Staging  # noqa: PLC0415 - as above

    async with AsyncExitStack() as stack:
        listener = None
        if config.web is not None:  # first of all: a port that is taken is said at once
            from monitor.web.app import listening, serving  # noqa: PLC0415 - only where asked for

            listener = stack.enter_context(listening(config.web.host, config.web.port))
        look = Staging(file, config, database)
        service = configured(config, database, clock=SystemClock(), look=look)
        if listener is not None:
            from monitor.web.cameras import CameraPages  # noqa: PLC0415 - only where asked for

            pages = CameraPages(
                database=database,
                cameras=lambda: service.setup.plan.cameras,
                zone=ZoneInfo(config.site.timezone),
            )
            await stack.enter_async_context(serving(service.standing, listener, pages))
        shown = stack.enter_context(ExitStack())
        shown.enter_context(watching(database.folder, zone=config.site.timezone))
        _stop_on_signals(service, then=shown.close)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, service.reloading.start)
        return await service.run()


def _stop_on_signals(service: "Service", *, then: Callable[[], None]) -> None:
    """The first signal ends the run gracefully; the second one kills, as if there were no handler.

    That is safe at any moment: what was accepted is on the disk, and results are all or nothing.
    """
    loop = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM)

    def stop() -> None:
        for number in signals:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)
        service.stop()
        then()
        console.say("Stopping: what was taken in is finished first. Again quits.", stderr=True)

    for number in signals:
        loop.add_signal_handler(number, stop)

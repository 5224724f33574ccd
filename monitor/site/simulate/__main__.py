"""A prepared simulation as a process of its own: ``python -m monitor.site.simulate FOLDER [MS]``.

It goes on with the ledger in the folder for so many milliseconds, or until SIGTERM or SIGINT. It
says how it stands in lines of JSON on stdout: ready, running (once: nobody may be listening, and a
pipe that is full would hold it up), and stopped.
"""

import asyncio
import contextlib
import json
import logging
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from monitor.live.clock import SystemClock
from monitor.site.simulate.ledger import Ledger, alone
from monitor.site.simulate.running import Progress, Run, until_stopped


def say(state: str, **words: Any) -> None:
    """One line for whoever started this, if that one is still there."""
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(json.dumps({"state": state, **words}) + "\n")
        sys.stdout.flush()


async def main(folder: Path, for_ms: int | None) -> None:
    """Run it."""
    lock = alone(folder)
    ledger = Ledger(folder)
    unsaid = ["running"]

    def report(progress: Progress) -> None:
        while unsaid:
            say(unsaid.pop(), **asdict(progress))

    try:
        ended = await until_stopped(
            Run(ledger, SystemClock(), for_ms=for_ms),
            ready=lambda: say("ready"),
            report=report,
        )
    finally:
        ledger.close()
        lock.close()
    say("stopped", **asdict(ended))


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None))

"""`watchkeeper` as a user and as a script see it: in this process, or in one of its own."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from typer.testing import CliRunner

from monitor.cli import app


class Stopping:
    """As after a Ctrl-C: asked before each step, true from some step on."""

    def __init__(self, step: int) -> None:
        self.asked = iter(range(1000))
        self.step = step

    def is_set(self) -> bool:
        """Whether that step is reached."""
        return next(self.asked) >= self.step


class Said(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def watchkeeper(*words: object) -> Said:
    """Run a command in this process."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Said(result.exit_code, result.stdout, result.stderr)


class Process(subprocess.Popen[str]):
    """One that does not outlive the test it is in: killed where it still runs at the end."""

    def __exit__(self, *failure: object) -> None:
        if failure[0] is not None:
            self.kill()
        super().__exit__(*failure)


def process(*words: object, before: str = "") -> Process:
    """Start a command in a process of its own, after some lines of Python."""
    program = f"{before}\nfrom monitor.cli import main\nmain()"
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "OMP_NUM_THREADS": "1",
    }
    return Process(
        [sys.executable, "-c", program, *(str(word) for word in words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def wait_for(condition: Callable[[], object], *, limit_s: float = 120.0) -> None:
    """Wait for a state of another process; fails when it does not come, on slow machines, too."""
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)

"""Real servers in child processes: on free ports of the loopback, awaited, and stopped by pid."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

LONGEST_START_S = 30.0
LONGEST_STOP_S = 5.0


def free_port() -> int:
    """A TCP port of the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    """Whether somebody takes connections there."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def program(name: str) -> str:
    """Where a server program lies. Without it the test is skipped, but never for root.

    `make servers` installs what is missing as root; any other user is told what.
    """
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if path is None:
        reason = f"no {name} here: run `make servers` as root"
        if os.geteuid() == 0:
            pytest.fail(reason)
        pytest.skip(reason)
    return path


class Started:
    """A server that runs."""

    def __init__(self, process: subprocess.Popen[str], log: Path | None = None) -> None:
        self.process = process
        self.log = log

    def freeze(self) -> None:
        """It answers no more, and its connections stay."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on where it was."""
        os.kill(self.process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """It is gone at once."""
        self.process.kill()
        self.process.wait(LONGEST_STOP_S)

    def stop(self) -> None:
        """It is asked to end, and made to if it does not."""
        if self.process.poll() is None:
            self.thaw()
            self.process.terminate()
            try:
                self.process.wait(LONGEST_STOP_S)
            except subprocess.TimeoutExpired:
                self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


@contextlib.contextmanager
def started(
    command: Sequence[str | Path],
    *,
    ready: Callable[[], bool] | None = None,
    log: Path | None = None,
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
) -> Iterator[Started]:
    """Run a server until the end of the block; ``ready`` is asked until it says so.

    Its standard input is a pipe, and so is its standard output where there is no ``log``.
    """
    out = log.open("ab") if log is not None else None
    try:
        process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.PIPE,
            stdout=out or subprocess.PIPE,
            stderr=subprocess.STDOUT if out else None,
            text=True,
            env=env,
            cwd=cwd,
        )
    finally:
        if out is not None:
            out.close()
    server = Started(process, log)
    try:
        wait_until(lambda: _is_ready(server, ready), LONGEST_START_S, f"start of {command[0]}")
        yield server
    finally:
        server.stop()


def wait_until(true: Callable[[], bool], longest_s: float, what: str) -> None:
    """Ask again and again until it is so; AssertionError where it takes too long."""
    end = time.monotonic() + longest_s
    while not true():
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {longest_s:g} s")
        time.sleep(0.02)


def _is_ready(server: Started, ready: Callable[[], bool] | None) -> bool:
    if server.process.poll() is not None:
        said = server.log.read_text("utf-8", "replace")[-2000:] if server.log else ""
        raise AssertionError(f"it ended with {server.process.returncode} at once. {said}")
    return ready is None or ready()

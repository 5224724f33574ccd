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
from typing import NoReturn, TypeVar

import pytest

HERE = "127.0.0.1"
LONGEST_START_S = 60.0
LONGEST_STOP_S = 10.0

AnyServer = TypeVar("AnyServer", bound="Server")


def free_port() -> int:
    """A TCP port of the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HERE, 0))
        return int(probe.getsockname()[1])


def listens(port: int, host: str = HERE) -> bool:
    """Whether somebody takes connections there."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0


def program(name: str) -> str:
    """Where a server program lies. Without it the test is skipped, but never for root.

    `make servers` installs what is missing as root; any other user is told what.
    """
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if path is None:
        missing(name)
    return path


def missing(name: str) -> NoReturn:
    """What a test needs is not here."""
    reason = f"no {name} here: run `make servers` as root"
    if os.geteuid() == 0:
        pytest.fail(reason)
    pytest.skip(reason)


def wait_until(true: Callable[[], bool], longest_s: float, what: str) -> None:
    """Ask again and again until it is so; AssertionError where it takes too long."""
    end = time.monotonic() + longest_s
    while not true():
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {longest_s:g} s")
        time.sleep(0.02)


class Server:
    """A server that may be stopped, killed, frozen and started again, with what it had.

    Its standard input is a pipe, and so is its standard output where there is no ``log``.
    """

    longest_stop_s = LONGEST_STOP_S

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        port: int,
        log: Path | None = None,
        cwd: Path | None = None,
        host: str = HERE,
        namespace: str | None = None,
    ) -> None:
        """``namespace``: the network namespace that it runs in, found from here at ``host``."""
        self.port, self.host = port, host
        within = [] if namespace is None else [program("ip"), "netns", "exec", namespace]
        self._command, self._log, self._cwd = [*within, *map(str, command)], log, cwd
        self._process: subprocess.Popen[str] | None = None

    @property
    def process(self) -> subprocess.Popen[str]:
        """The process, while there is one."""
        assert self._process is not None, f"{self._command[0]} is not started"
        return self._process

    def start(self) -> None:
        """Start it, and wait until it listens."""
        with contextlib.ExitStack() as stack:
            log = stack.enter_context(self._log.open("ab")) if self._log is not None else None
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=log or subprocess.PIPE,
                stderr=subprocess.STDOUT if log else None,
                text=True,
                cwd=self._cwd,
            )
        try:
            wait_until(self._is_ready, LONGEST_START_S, f"start of {self._command[0]}")
        except BaseException:
            self.stop()
            raise

    def stop(self, how: int = signal.SIGTERM) -> None:
        """End it by a signal; one that does not obey is killed. May be called twice."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGCONT)
        process.send_signal(how)
        try:
            process.wait(self.longest_stop_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def freeze(self) -> None:
        """It answers no more, and its connections stay."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on where it was."""
        self.process.send_signal(signal.SIGCONT)

    def _is_ready(self) -> bool:
        if self.process.poll() is not None:
            said = self._log.read_text("utf-8", "replace")[-2000:] if self._log else ""
            raise AssertionError(
                f"{self._command[0]} ended with {self.process.returncode} at once. {said}"
            )
        return listens(self.port, self.host)


@contextlib.contextmanager
def started(server: AnyServer) -> Iterator[AnyServer]:
    """A server for the length of a block."""
    server.start()
    try:
        yield server
    finally:
        server.stop()

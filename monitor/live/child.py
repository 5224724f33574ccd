"""The process that looks at pictures: what it runs may hang, crash, or eat all memory.

It is a program started anew, no fork, which would copy locks that other threads hold. A socket is
all there is between the two: first the cameras, with their networks as they were checked, then a
picture and what was seen on it, again and again, each pickled. It opens no database, ends with its
parent, and lets the parent alone answer signals. Where memory runs out, it goes first.
"""

import contextlib
import ctypes
import faulthandler
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from monitor.live.grading import CameraSetup
from monitor.live.seeing import Told, look
from monitor.state.pictures import Waiting

LAST_WORDS_S = 10.0  # for a process that ends by itself to say why, on a machine that is busy
START_S = 120.0  # to load libraries and networks, at the least
STARTS = 2  # times what a picture may take, where that is more: both are slow on a slow machine
PARENTS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}  # a terminal's are sent to both
GOES_FIRST = "500"  # of 1000: as if it held half of all memory, for the kernel's choice
_SET_PDEATHSIG = 1  # prctl(2)


class EndedError(Exception):
    """The process has ended, or was ended for it did not answer; says how."""


class Child:
    """One such process. ``kill`` may be called from any thread, the rest from one.

    Once EndedError was raised, it is of no more use. To be closed in any case.
    """

    def __init__(self) -> None:
        """Start it; it knows no cameras yet. Raises EndedError."""
        self._line, theirs = socket.socketpair()
        self._answers = self._line.makefile("rb")
        paths = os.pathsep.join(sys.path)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, PARENTS)  # it starts with these blocked
        with theirs:
            try:
                self._process = subprocess.Popen(  # noqa: S603 - our own program
                    [sys.executable, "-P", "-m", __name__, f"{theirs.fileno()}", f"{os.getpid()}"],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    # one thread, as the whole program (models/runtime.py)
                    env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
                )
            except OSError as error:
                self._close_line()
                raise EndedError(f"could not be started: {error.strerror}") from error
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def prepare(self, cameras: Mapping[int, CameraSetup]) -> None:
        """Let it look at the pictures of these cameras. Raises EndedError."""
        longest = max((one.timeout_s for one in cameras.values()), default=0.0)
        if wrong := self._ask(cameras, within_s=max(START_S, STARTS * longest)):
            self.kill()
            raise EndedError(f"could not be prepared: {wrong}")

    def look(self, one: Waiting, content: bytes, *, within_s: float) -> Told:
        """What it sees on a picture. Raises EndedError, also where it takes longer."""
        told: Told = self._ask((one, content), within_s=within_s)
        return told

    def kill(self) -> None:
        """End it at once, whatever it does: who waits for its answer gets EndedError."""
        self._process.kill()

    def close(self) -> None:
        """End it, and let go of everything. May be called twice."""
        self.kill()
        self._process.wait()
        self._close_line()

    def _close_line(self) -> None:
        self._answers.close()
        self._line.close()

    def _ask(self, what: object, *, within_s: float) -> Any:
        message = pickle.dumps(what)
        self._line.settimeout(within_s)
        try:
            self._line.sendall(message)
            return pickle.load(self._answers)  # noqa: S301 - our own program
        except TimeoutError as error:
            self.kill()
            raise EndedError(f"gave no answer within {within_s:g} s, and was ended") from error
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(LAST_WORDS_S)
            self.kill()
            raise EndedError(f"has ended ({_how(self._process.wait())})") from error


def _how(status: int) -> str:
    """How a process has ended, in words."""
    if status >= 0:
        return f"status {status}"
    try:
        return f"signal {signal.Signals(-status).name}"
    except ValueError:  # one of the real-time signals
        return f"signal {-status}"


# ---- on the other side ------------------------------------------------------------------------


def main(line: int, parent: int) -> None:
    """Look at pictures until nobody asks any more."""
    ctypes.CDLL(None).prctl(_SET_PDEATHSIG, signal.SIGKILL)  # also while a library hangs
    if os.getppid() != parent:  # it has ended before
        return
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(GOES_FIRST)
    faulthandler.enable()
    with os.fdopen(line, "rb") as asked, os.fdopen(os.dup(line), "wb") as answers:
        serve(asked, answers)


def serve(asked: BinaryIO, answers: BinaryIO) -> None:
    """Take cameras, then picture after picture, until nobody asks any more."""
    try:
        cameras: Mapping[int, CameraSetup] = pickle.load(asked)  # noqa: S301 - from our parent
    except EOFError:
        return
    except Exception as error:
        _answer(answers, f"{type(error).__name__}: {error}")
        raise
    _answer(answers, "")
    while True:
        try:
            one, content = pickle.load(asked)  # noqa: S301 - as above
        except EOFError:
            return
        _answer(answers, look(one, content, cameras[one.camera]))


def _answer(answers: BinaryIO, what: object) -> None:
    pickle.dump(what, answers)
    answers.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))

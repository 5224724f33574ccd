"""Talking to the running service: a Unix socket in its data folder, a JSON document a line.

A request is ``{"request": NAME, ...}``; its answer ``{"answer": ...}`` or ``{"error": "words"}``.
Who may write the data folder's owner's files may talk: the socket's mode is 0600. The server runs
in the event loop; ``ask`` is the other side, for commands.
"""

import asyncio
import json
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

SOCKET = "control.sock"
MOST_BYTES = 64 << 10  # of one request
MOST_CALLERS = 32  # at once; the next one is told to come again
PUT_OFF_S = 1.0  # how long such a one may take for its question
IDLE_S = 60.0  # how long a caller may keep the line open without a word
ANSWER_S = 15.0  # how long a command waits for its answer
LONGEST_PATH = 107  # bytes: what sockaddr_un holds beside its last 0 (unix(7))

Handler = Callable[[Mapping[str, Any]], Awaitable[Any]]


class RequestError(Exception):
    """A request that cannot be fulfilled, in words for whoever asked."""


class NotRunningError(Exception):
    """No service answers in this folder."""


class Control:
    """Answers on the socket of a folder, one handler for each name of a request.

    The folder's lock must be held: whatever socket is there was left by a process that is gone.
    """

    def __init__(self, folder: Path, handlers: Mapping[str, Handler]) -> None:
        self._path, self._handlers = folder / SOCKET, handlers
        self._server: asyncio.Server | None = None
        self._talking: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Listen. Raises OSError where the folder holds no sockets, as some network drives."""
        self._path.unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            os.fchmod(listening.fileno(), 0o600)  # bind gives this mode to the file: never wider
            with _short(self._path) as address:
                listening.bind(address)
            self._server = await asyncio.start_unix_server(
                self._talk, sock=listening, limit=MOST_BYTES
            )
        except BaseException:
            listening.close()
            raise

    async def close(self) -> None:
        """Answer nobody any more. May be called twice."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        for task in self._talking:
            task.cancel()
        await asyncio.gather(*self._talking, return_exceptions=True)
        self._path.unlink(missing_ok=True)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One caller, until it hangs up."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - the server starts one for each caller
        self._talking.add(task)
        try:
            with suppress(ConnectionError, TimeoutError):
                if len(self._talking) > MOST_CALLERS:
                    await self._put_off(reader, writer)
                else:
                    await self._converse(reader, writer)
        except asyncio.CancelledError:
            pass  # close() waits for us, and nobody else
        finally:
            self._talking.discard(task)
            writer.close()

    async def _put_off(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Tell a caller to come again, once it has said what it wants: else it hears nothing."""
        with suppress(ValueError):
            await asyncio.wait_for(reader.readline(), PUT_OFF_S)
        _say(writer, {"error": f"{MOST_CALLERS} others ask just now; try again"})
        await writer.drain()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer line after line; half a line at the end is no request."""
        while True:
            try:
                line = await asyncio.wait_for(reader.readline(), IDLE_S)
            except ValueError:  # so readline() says that it is too long
                _say(writer, {"error": f"more than {MOST_BYTES} bytes in a line"})
                async with asyncio.timeout(IDLE_S):
                    while await reader.read(MOST_BYTES):
                        pass  # who still writes does not hear us; where it goes on is unknown
                return
            if not line.endswith(b"\n"):
                return
            _say(writer, await self._answer(line))
            await writer.drain()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            return {"answer": await self._handle(line)}
        except RequestError as error:
            return {"error": str(error)}
        except Exception:
            logger.exception("A request on the control socket failed.")
            return {"error": "the service failed to answer; its log says why"}

    async def _handle(self, line: bytes) -> Any:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError) as error:  # the latter: nested too deep
            raise RequestError(f"not JSON: {error}; want one document a line") from None
        name = request.get("request") if isinstance(request, dict) else None
        if not isinstance(name, str) or name not in self._handlers:
            known = ", ".join(self._handlers)
            raise RequestError(f"got request {name!r}, want one of {known}")
        del request["request"]
        return await self._handlers[name](request)


def ask(folder: Path, request: str, *, within_s: float = ANSWER_S, **given: Any) -> Any:
    """Ask the service that runs on a folder; its answer.

    Raises NotRunningError, RequestError with its words, OSError, TimeoutError.
    """
    path = folder / SOCKET
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(within_s)
        try:
            with _short(path) as address:
                line.connect(address)
        except (FileNotFoundError, ConnectionRefusedError):
            raise NotRunningError(
                f"{folder}: no service runs here; `watchkeeper run` starts it."
            ) from None
        except OSError as error:
            raise type(error)(error.errno, error.strerror, str(path)) from None
        try:
            line.sendall(json.dumps({"request": request} | given).encode() + b"\n")
            with line.makefile("rb") as answers:
                answer = answers.readline()
        except ConnectionError:
            answer = b""
        except TimeoutError:
            raise TimeoutError(f"{folder}: the service gave no answer in {within_s:g} s.") from None
    if not answer.endswith(b"\n"):
        raise NotRunningError(f"{folder}: the service ended before it answered.")
    found = json.loads(answer)
    if "error" in found:
        raise RequestError(found["error"])
    return found["answer"]


def _say(writer: asyncio.StreamWriter, answer: Mapping[str, Any]) -> None:
    writer.write(json.dumps(answer, allow_nan=False).encode() + b"\n")


@contextmanager
def _short(path: Path) -> Iterator[str]:
    """An address of the path that a socket can hold, however deep the folder lies."""
    if len(os.fsencode(path)) <= LONGEST_PATH:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)

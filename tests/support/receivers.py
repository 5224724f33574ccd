"""An HTTP server in a thread that answers as it is told, and keeps what it got."""

import contextlib
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came."""

    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What to answer; status 0: hang up without one, -1: say nothing until stopped."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


HANG_UP, SAY_NOTHING = Answer(0), Answer(-1)


class Receiver:
    """Answers what was put into ``answers``, one after the other, and then by ``usual``."""

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.answers: deque[Answer] = deque()
        self.usual: Callable[[Request], Answer] = lambda _: Answer(204)
        self.got: list[Request] = []
        self.taken: list[Request] = []  # those that were answered 2xx
        self._tls = tls
        self._port = 0
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()
        self._open: set[socket.socket] = set()
        self.start()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://localhost:{self._port}/hook"

    def start(self) -> None:
        """Listen; at the same port as before."""
        self._stopped.clear()
        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), self._handler())
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._port = self._server.server_address[1]
        if self._tls is not None:
            self._server.socket = self._tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Close the port and every connection."""
        server, self._server = self._server, None
        if server is None:
            return
        self._stopped.set()
        server.shutdown()
        server.server_close()
        if self._thread is not None:
            self._thread.join()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _answer(self, request: Request) -> Answer:
        self.got.append(request)
        answer = self.answers.popleft() if self.answers else self.usual(request)
        if 200 <= answer.status < 300:
            self.taken.append(request)
        return answer

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle(self) -> None:
                receiver._open.add(self.connection)
                try:
                    with contextlib.suppress(OSError):
                        super().handle()
                finally:
                    receiver._open.discard(self.connection)

            def do_GET(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                body = self.rfile.read(length)
                if len(body) < length:  # the sender died between the head and the end
                    self.close_connection = True
                    return
                headers = {name.lower(): value for name, value in self.headers.items()}
                answer = receiver._answer(Request(self.path, headers, body))
                if answer.status <= 0:
                    if answer.status < 0:
                        receiver._stopped.wait()
                    self.close_connection = True
                    return
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                body = b"" if answer.status == 204 else answer.body  # which never has one
                if answer.status != 204 and "Content-Length" not in answer.headers:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                pass

        return Handler


@contextlib.contextmanager
def receiving(*, tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """A receiver for the length of a block."""
    receiver = Receiver(tls=tls)
    try:
        yield receiver
    finally:
        receiver.stop()

"""The socket under the client: read in large pieces, written in large pieces.

paho reads a message in three calls and writes each acknowledgement by one: with a buffer on both
sides that is one system call for many messages. The wire also keeps the error that the client
turns into a number.
"""

import contextlib
import select
import socket
import ssl
import time

PIECE = 1 << 16  # bytes read at once: no more than this lies beside the counted buffer
AGAIN = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Wire:
    """A connected, non-blocking socket. Of one thread."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext | None, host: str) -> None:
        """With a context, ``shake_hands`` comes first. Raises OSError, ValueError for the host."""
        self._tls: ssl.SSLSocket | None = None
        if context is not None:
            try:
                self._tls = context.wrap_socket(
                    sock, server_hostname=host, do_handshake_on_connect=False
                )
            except BaseException:
                sock.close()
                raise
        self._socket = self._tls or sock
        self._come = b""
        self._at = 0
        self._going = bytearray()
        self.error: OSError | None = None  # why it does not work any more
        self.heard = time.monotonic()  # when the last bytes came, at first: when it was made

    @property
    def waiting(self) -> int:
        """Bytes that are here and need no select."""
        here = len(self._come) - self._at
        return here if here or self._tls is None else self._tls.pending()

    @property
    def unsent(self) -> int:
        """Bytes that the socket would not take yet."""
        return len(self._going)

    def shake_hands(self) -> int:
        """Go on with TLS: what to poll for before the next call, 0 once it is done."""
        try:
            if self._tls is not None:
                self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return select.POLLIN
        except ssl.SSLWantWriteError:
            return select.POLLOUT
        return 0

    def recv(self, buffer_size: int) -> bytes:
        """At most so many bytes. Raises BlockingIOError when there are none."""
        at, end = self._at, self._at + buffer_size
        if at == len(self._come):
            try:
                self._come = self._socket.recv(PIECE)
            except AGAIN as error:
                raise BlockingIOError from error
            except OSError as error:
                self.error = error
                raise
            self.heard = time.monotonic()
            if not self._come:
                self.error = ConnectionResetError(
                    "it closed the connection; it stopped, or another client has our client_id"
                )
            at, end = 0, buffer_size
        self._at = min(end, len(self._come))
        return self._come[at:end]

    def send(self, buffer: bytes | bytearray) -> int:
        """Take all; ``flush`` sends."""
        self._going += buffer
        return len(buffer)

    def flush(self) -> None:
        """Send what the socket takes. Raises OSError."""
        while self._going:
            try:
                sent = self._socket.send(self._going)
            except AGAIN:
                return
            except OSError as error:
                self.error = error
                raise
            del self._going[:sent]

    def close(self) -> None:
        """Send what can be sent without waiting, and let go."""
        with contextlib.suppress(OSError):
            self.flush()
        self._socket.close()

    def fileno(self) -> int:
        """For select."""
        return self._socket.fileno()

    def setblocking(self, flag: bool) -> None:  # noqa: FBT001 - as a socket has it
        """It never blocks."""

"""A TCP relay between a client and a server of a test: a cable that can be pulled, or be long."""

import contextlib
import queue
import socket
import threading
import time

from support.servers import free_port


class Relay:
    """Listens on `port` and passes on to `target`, both on the loopback."""

    def __init__(self, target: int, *, keep: bool = False) -> None:
        """``keep``: remember all that the server said, a connection each, as ``said``."""
        self.port = free_port()
        self.target = target
        self.delay_s = 0.0  # of each way, from now on
        self.said: list[bytearray] = []
        self._keep = keep
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        self.mend()

    def mend(self) -> None:
        """Take connections."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._thread = threading.Thread(target=self._accept, args=(self._listener,), daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """Take none, and drop those that are there. May be called twice."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)
        with self._lock:
            for one in self._open:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                one.close()
            self._open.clear()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return  # cut
            try:
                far = socket.create_connection(("127.0.0.1", self.target), timeout=5)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            said = bytearray() if self._keep else None
            with self._lock:
                self._open += [near, far]
                if said is not None:
                    self.said.append(said)
            for one, other, kept in ((near, far, None), (far, near, said)):
                way = queue.SimpleQueue[tuple[float, bytes]]()
                for work in ((self._read, one, way), (_write, other, way, kept)):
                    threading.Thread(target=work[0], args=work[1:], daemon=True).start()

    def _read(self, one: socket.socket, way: "queue.SimpleQueue[tuple[float, bytes]]") -> None:
        """What comes, each with the time at which it arrives at the other end."""
        with contextlib.suppress(OSError):
            while data := one.recv(1 << 16):
                way.put((time.monotonic() + self.delay_s, data))
        way.put((0.0, b""))


def _write(
    other: socket.socket,
    way: "queue.SimpleQueue[tuple[float, bytes]]",
    kept: bytearray | None,
) -> None:
    with contextlib.suppress(OSError):
        while True:
            due, data = way.get()
            if not data:
                break
            if (early := due - time.monotonic()) > 0:
                time.sleep(early)
            other.sendall(data)
            if kept is not None:
                kept += data
    with contextlib.suppress(OSError):
        other.shutdown(socket.SHUT_RDWR)

"""The demo's maintenance system: takes webhooks in and checks each signature by itself.

Nothing of the sink is used here: what it sends must be understood from the published rules alone
(Standard Webhooks, "Verifying signatures"; CloudEvents 1.0, structured mode).
"""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

HOST = "127.0.0.1"
LARGEST = 64 << 10  # bytes of a body: twice and more what a sender may send
TOLERANCE_S = 300  # how far a sender's clock may be off, or an old message is played again
PREFIX = "whsec_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """One delivery as it arrived."""

    id: str
    type: str
    subject: str
    time: str  # of the event, as the sender wrote it
    arrived: int  # ns since 1970 UTC
    verified: bool


@dataclass(slots=True)
class Receiver:
    """What arrived, in order."""

    secret: str  # whsec_ and base64, as both sides know it
    port: int = 0
    taken: list[Taken] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where to send to."""
        return f"http://{HOST}:{self.port}/alarms"

    def verifies(self, identity: str, stamp: str, signatures: str, body: bytes) -> bool:
        """Whether one of the signatures is ours of this message, and the message is not old."""
        if not stamp.isdecimal() or abs(time.time() - int(stamp)) > TOLERANCE_S:
            return False
        key = base64.b64decode(self.secret.removeprefix(PREFIX))
        signed = b".".join([identity.encode(), stamp.encode(), body])
        wanted = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
        given = (signature.partition(",") for signature in signatures.split())
        return any(
            version == "v1" and hmac.compare_digest(value, wanted) for version, _, value in given
        )

    def take(self, headers: dict[str, str], body: bytes) -> int:
        """Keep one delivery; the HTTP status to answer with."""
        arrived = time.time_ns()
        identity = headers.get("webhook-id", "")
        verified = self.verifies(
            identity,
            headers.get("webhook-timestamp", ""),
            headers.get("webhook-signature", ""),
            body,
        )
        try:
            event = json.loads(body)
            said = {name: str(event[name]) for name in ("type", "subject", "time")}
        except (ValueError, KeyError, TypeError):
            return 400
        self.taken.append(Taken(id=identity, arrived=arrived, verified=verified, **said))
        return 204 if verified else 401


@contextmanager
def receiving(secret: str) -> Iterator[Receiver]:
    """A receiver on a free port of this machine, for as long as the block lasts."""
    receiver = Receiver(secret)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = int(self.headers.get("content-length", "0"))
            if length > LARGEST:
                self.close_connection = True
                status = 413
            else:
                headers = {name.lower(): value for name, value in self.headers.items()}
                status = receiver.take(headers, self.rfile.read(length))
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:  # what arrived is kept, not printed
            pass

    with ThreadingHTTPServer((HOST, 0), Handler) as server:
        server.daemon_threads = True
        receiver.port = server.server_port
        thread = Thread(target=server.serve_forever, name="receiver")
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()

"""A node-opcua server behind a cable that can be pulled; it speaks once it is listened to."""

import contextlib
import time
from pathlib import Path

from support.opcua import QUICK, NodeServer, address, shared_node_server
from support.relay import Relay
from support.servers import started

from connectors.batch import GOOD, UNCERTAIN
from connectors.contract import TagRef
from connectors.opcua.settings import Settings

MARKS = ("broker",)
T0_MS = 1_780_000_000_000
NOT_CONNECTED = 0x808A_0000


class SourceRig:
    """Two tags, and values that follow one another once the second of them is watched."""

    clients = ("asyncua",)
    live = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = contextlib.ExitStack()
        server = shared_node_server()
        self._relay = Relay(server.port)
        self._names = {7: f"flow-{self._relay.port}", 3: f"temp-{self._relay.port}"}
        self.tags = tuple(TagRef(id=n, address=address(name)) for n, name in self._names.items())
        url = f"opc.tcp://127.0.0.1:{self._relay.port}"
        self.settings = Settings.model_validate({**QUICK, "url": url, "keepalive_s": 5})
        said = [
            (tag, T0_MS + n, float(n), (GOOD, GOOD, UNCERTAIN, NOT_CONNECTED, GOOD)[n % 5])
            for n, tag in enumerate((7, 3, 7, 7, 3, 7))
        ]
        self.samples = [(tag, ms * 1_000_000, value, status) for tag, ms, value, status in said]
        parts = [
            {"set": self._names[tag], "time": ms, "value": value, "status": status}
            for tag, ms, value, status in said
        ]
        server.tell(*({"add": name} for name in self._names.values()))
        server.tell(*parts[:2], {"play": self._names[3], "parts": [[one] for one in parts[2:]]})

    def vanish(self) -> None:
        self._relay.cut()

    def appear(self) -> None:
        self._relay.mend()

    def forget(self) -> list[tuple[int, int, float, int]]:
        """Another server stands there now. What it said before anybody listened."""
        server = self._stack.enter_context(started(NodeServer(self._folder)))
        self._relay.cut()
        self._relay.target = server.port
        self._relay.mend()
        server.tell(*({"add": name} for name in self._names.values()))
        unheard = []
        for n, (tag, name) in enumerate(self._names.items()):
            ms = time.time_ns() // 1_000_000
            unheard.append((tag, ms * 1_000_000, 100.0 + n, GOOD))
            server.tell({"set": name, "time": ms, "value": 100.0 + n})
            server.tell({"set": name, "value": 200.0 + n})
        return unheard

    def close(self) -> None:
        self._relay.cut()
        self._stack.close()

"""OPC UA servers to test against: asyncua's in a thread of its own, node-opcua's in a process."""

import asyncio
import atexit
import contextlib
import functools
import itertools
import json
import logging
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import zip_longest
from pathlib import Path
from typing import Any

import asyncua
from asyncua import ua
from asyncua.server.history_sql import HistorySQLite
from support.network import Network
from support.servers import LONGEST_START_S, Server, free_port, program, started

from connectors.batch import Notice, NoticeKind, Samples
from connectors.contract import Batch, TagRef
from connectors.opcua import Source

NODE = Path(__file__).parents[1] / "node"
URI = "urn:test:plant"
QUICK = {  # a server that is asked often: tests take moments
    "type": "opcua",
    "insecure": True,
    "sampling_ms": 50,
    "publishing_ms": 50,
    "keepalive_s": 0.5,
    "lifetime_s": 60,
    "queue_s": 5,
    "timeout_s": 1,
    "history_delay_s": 0.2,
}


def address(name: str | int) -> str:
    """The address of a node of the test servers; a whole number is a numeric node id."""
    return f"nsu={URI};{'i' if isinstance(name, int) else 's'}={name}"


def refs(names: Sequence[str | int], units: Sequence[str | None] = ()) -> list[TagRef]:
    """Tags of these nodes, numbered from 1."""
    return [
        TagRef(id=n, address=address(name), unit=unit)
        for n, (name, unit) in enumerate(zip_longest(names, units), 1)
    ]


def source(
    port: int, names: Sequence[str | int], units: Sequence[str | None] = (), **given: Any
) -> Source:
    """A source of these nodes, numbered from 1."""
    settings = {**QUICK, "url": f"opc.tcp://127.0.0.1:{port}", **given}
    return Source("plc", Source.Settings.model_validate(settings), refs(names, units))


async def take(
    source: Source, enough: Callable[[list[Batch]], Any], *, accept: bool = True
) -> list[Batch]:
    """Take from an open source until it is enough; accept it all, as the intake would."""
    taken: list[Batch] = []
    batches = source.batches()
    try:
        async for batch in batches:
            taken.append(batch)
            if accept and batch.position is not None:
                await source.accepted(batch.position)
            if enough(taken):
                break
    finally:
        await batches.aclose()
    return taken


def values(taken: Sequence[Batch], tag: int = 1) -> list[float]:
    """The values of one tag, in their order."""
    return [
        value
        for batch in taken
        if isinstance(batch, Samples)
        for one, value in zip(batch.tag.tolist(), batch.value.tolist(), strict=True)
        if one == tag
    ]


def notices(taken: Sequence[Batch], kind: NoticeKind) -> list[Notice]:
    """The notices of a kind."""
    return [one for one in taken if isinstance(one, Notice) and one.kind is kind]


def last_position(taken: Sequence[Batch]) -> str:
    """Where to go on."""
    return [one.position for one in taken if one.position is not None][-1]


def forgotten(position: str) -> str:
    """The position, as if the server had given up our subscriptions meanwhile."""
    return json.dumps({**json.loads(position), "kept": []})


def utc(ns: int) -> datetime:
    """A time of OPC UA; whole microseconds."""
    return datetime.fromtimestamp(ns // 1000 / 1_000_000, UTC)


class PlcThread:
    """asyncua's server, in a thread with a loop of its own: it may be used from anywhere."""

    def __init__(
        self,
        values: dict[str, Any],
        *,
        port: int | None = None,
        namespaces: Sequence[str] = (URI,),
        history: str | None = None,
    ) -> None:
        """``values``: what the nodes hold at first, a value or a data value, by name.

        ``history`` is kept of all nodes: in "memory", or in a file of that path, which wants
        whole numbers for names.
        """
        self.port = port or free_port()
        self._values, self._namespaces, self._history = dict(values), namespaces, history
        self._nodes: dict[str, Any] = {}
        self._server: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Listen. After a stop: again, on the same port, with the values it had."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.run(self._start())

    def stop(self) -> None:
        """Be gone; may be called twice."""
        if self._loop is None:
            return
        self.run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(LONGEST_START_S)
        self._loop.close()
        self._loop = None

    def run(self, work: Any) -> Any:
        """Run a coroutine in the server's thread."""
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(LONGEST_START_S)

    def set(self, name: str, value: Any, *, status: int = 0, time: int | None = None) -> None:
        """Write a value as the device would; ``time`` in ns."""
        data = ua.DataValue(
            value if isinstance(value, ua.Variant) else ua.Variant(value),
            ua.StatusCode(ua.UInt32(status)),
            SourceTimestamp=utc(time) if time is not None else None,
            ServerTimestamp=datetime.now(UTC),
        )
        self.write(name, data)

    def write(self, name: str, data: Any) -> None:
        """Write a data value as it is."""
        self._values[name] = data
        self.run(self._write(name, data))

    def add(self, name: str, value: Any) -> None:
        """A node that was not there before."""
        self._values[name] = value
        self.run(self._add(name, value))

    def remove(self, name: str) -> None:
        """Take a node away."""
        del self._values[name]
        self.run(self._nodes.pop(name).delete())

    def mean(self, name: str, **properties: Any) -> None:
        """Say what a node's values mean: EngineeringUnits, EURange, InstrumentRange."""
        for what, value in properties.items():
            self.run(self._mean(name, what, value))

    async def _mean(self, name: str, what: str, value: Any) -> None:
        found = await self._nodes[name].get_properties()
        names = {(await one.read_browse_name()).Name: one for one in found}
        if what in names:
            await names[what].write_value(value)
        else:
            await self._nodes[name].add_property(0, what, value)

    def unacknowledged(self, subscription: int) -> list[int]:
        """The sequence numbers of messages that were not acknowledged."""
        one = self._server.iserver.subscription_service.subscriptions[subscription]
        return sorted(one._not_acknowledged_results)

    async def _start(self) -> None:
        self._server = server = asyncua.Server()
        if self._history not in (None, "memory"):
            server.iserver.history_manager.set_storage(HistorySQLite(self._history))
        await server.init()
        server.set_endpoint(f"opc.tcp://127.0.0.1:{self.port}")
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        for uri in self._namespaces:
            await server.register_namespace(uri)
        self._index = await server.get_namespace_index(URI)
        for name, value in self._values.items():
            await self._add(name, value)
        await server.start()

    async def _add(self, name: str, value: Any) -> None:
        first = value.Value if isinstance(value, ua.DataValue) else value
        node_id = ua.NodeId(name, self._index)
        objects = self._server.nodes.objects
        self._nodes[name] = node = await objects.add_variable(node_id, str(name), first)
        if self._history:
            await self._server.historize_node_data_change(node, period=timedelta(days=1))
        if isinstance(value, ua.DataValue):
            await self._write(name, value)

    async def _write(self, name: str, data: Any) -> None:
        await self._server.write_attribute_value(self._nodes[name].nodeid, data)

    async def _stop(self) -> None:
        await self._server.stop()
        self._server = None
        rest = [one for one in asyncio.all_tasks() if one is not asyncio.current_task()]
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)


class Corner:
    """Nodes of one test on a server that others use too; a node's name is a test's own."""

    def __init__(self, server: PlcThread, values: dict[str, Any]) -> None:
        self._server, self._number = server, next(_CORNERS)
        self.port = server.port
        for name, value in values.items():
            self.add(name, value)

    def named(self, name: str) -> str:
        """What the node is called on the server."""
        return f"{self._number}-{name}"

    def address(self, name: str) -> str:
        """The address of the node."""
        return address(self.named(name))

    def source(
        self, names: Sequence[str], units: Sequence[str | None] = (), **given: Any
    ) -> Source:
        """A source of these nodes, numbered from 1."""
        return source(self.port, [self.named(name) for name in names], units, **given)

    def refs(self, names: Sequence[str], units: Sequence[str | None] = ()) -> list[TagRef]:
        """Tags of these nodes, numbered from 1."""
        return refs([self.named(name) for name in names], units)

    def mean(self, name: str, **properties: Any) -> None:
        """Say what a node's values mean: EngineeringUnits, EURange, InstrumentRange."""
        self._server.mean(self.named(name), **properties)

    def add(self, name: str, value: Any) -> None:
        """A node that was not there before."""
        self._server.add(self.named(name), value)

    def set(self, name: str, value: Any, **given: Any) -> None:
        """Write a value as the device would."""
        self._server.set(self.named(name), value, **given)

    def write(self, name: str, data: Any) -> None:
        """Write a data value as it is."""
        self._server.write(self.named(name), data)

    def unacknowledged(self, source: Source) -> list[int]:
        """Messages of a source's first subscription that it has not acknowledged."""
        assert source._listening is not None
        return self._server.unacknowledged(source._listening.subscriptions[0].id)


_CORNERS = itertools.count(1)


@functools.cache
def _shared_plc(history: str | None) -> PlcThread:
    logging.getLogger("asyncua.server").setLevel(logging.ERROR)  # it outlives the tests' capture
    server = PlcThread({}, history=history)
    server.start()
    atexit.register(server.stop)
    return server


def corner(values: dict[str, Any], *, history: str | None = None) -> Corner:
    """Nodes on asyncua's server, which starts once for all tests: that takes seconds."""
    return Corner(_shared_plc(history), values)


@contextlib.contextmanager
def plc(values: dict[str, Any], **given: Any) -> Iterator[PlcThread]:
    """An asyncua server for the block."""
    server = PlcThread(values, **given)
    server.start()
    try:
        yield server
    finally:
        server.stop()


class Told(Server):
    """A server process that is told on its input, one JSON list a line, what it is to do."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._telling = threading.Lock()

    def start(self) -> None:
        """Start it; it may be told things from then on, and is told nothing meanwhile."""
        with self._telling:
            super().start()
            self._await("ready")

    def add(self, name: str, value: float) -> None:
        """A node that was not there before."""
        self.tell({"add": name}, {"set": name, "value": value})

    def set(self, name: str | int, value: float, *, time: int) -> None:
        """Write a value as the device would; ``time`` in ns, of which whole ms count."""
        self.tell({"set": name, "value": value, "time": time // 1_000_000})

    def tell(self, *said: dict[str, Any]) -> None:
        """Write values, add nodes: see tests/node/opcua_server.js."""
        with self._telling:
            assert self.process.stdin is not None
            self.process.stdin.write(json.dumps(said) + "\n")
            self.process.stdin.flush()
            self._await("done")

    def _await(self, what: str) -> None:
        assert self.process.stdout is not None
        while line := self.process.stdout.readline():
            if line.startswith("{") and what in json.loads(line):
                return
        raise AssertionError(f"the server ended before it said {what}")


class NodeServer(Told):
    """A node-opcua server: flow, level, count, on, mode, text, list."""

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        network: Network | None = None,
        **given: Any,
    ) -> None:
        """Its keys and certificates stay in ``folder``. ``given``: see tests/node."""
        if not (NODE / "node_modules" / "node-opcua").is_dir():
            program("node-opcua, in tests/node/node_modules")
        port = port or free_port()
        where = network.where if network is not None else {}
        settings = json.dumps({"port": port, "pki": str(folder), **where, **given})
        command = [program("node"), NODE / "opcua_server.js", settings]
        super().__init__(command, port=port, cwd=folder, **where)


class PlcServer(Told):
    """asyncua's server in a process of its own: it may be killed and frozen. Nodes: 1, 2."""

    def __init__(
        self, folder: Path, *, port: int | None = None, history: str | None = None
    ) -> None:
        """``history``: as for PlcThread."""
        port = port or free_port()
        settings = json.dumps({"port": port, "history": history})
        paths = [str(Path(__file__).parents[n]) for n in (2, 1)]
        code = f"import sys; sys.path[:0] = {paths}; from support.plc_server import main; main()"
        super().__init__([sys.executable, "-c", code, settings], port=port, cwd=folder)


_SHARED = contextlib.ExitStack()
atexit.register(_SHARED.close)


@functools.cache
def shared_node_server() -> NodeServer:
    """One node-opcua server for all who add nodes of their own; it ends with the tests."""
    folder = _SHARED.enter_context(tempfile.TemporaryDirectory())
    return _SHARED.enter_context(started(NodeServer(Path(folder))))

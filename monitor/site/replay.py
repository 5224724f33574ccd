"""The demo's plant: recordings played over real servers, at the pace they were recorded at.

A process of its own, so that what is measured crosses sockets and process boundaries as in a plant:
``python -m monitor.site.replay PLAN.json``. Accelerometers go out as waveform blocks over MQTT, all
else as values of an OPC UA server, each stamped with the instant it stands for, which is now. The
pauses between strokes are shortened; nothing else is. What was sent is written down as recordings,
by the side that sent it: the ledger that the receiving side is held against. Pictures go out over
MQTT in the middle of their stroke, as the files that they are; they are only counted.

It says what it does in lines of JSON on stdout, and waits for a line on stdin before it begins.
"""

import asyncio
import base64
import json
import logging
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from heapq import merge
from itertools import pairwise
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from monitor.site.problems import PlantError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from asyncua import Server, ua
    from paho.mqtt.client import Client

# T samples of all strokes of one unit, M samples of one block

MOST_QUEUED = 200_000  # messages that the broker keeps for who is away
LONGEST_START_S, LONGEST_STOP_S = 30.0, 10.0
LOG = "servers.log"
NAMESPACE = "urn:watchkeeper:demo"
HOST = "127.0.0.1"
PAUSE_MS = 500  # in a recording: a longer silence ends a stroke
LEAD_MS = 1_000  # from the start signal to the first sample
GRID_MS = 1_000  # strokes begin on whole seconds, as the ticks of any kind do
STEP_MS = 20  # how often what is due is sent
BLOCK_MS = 100  # of one waveform block
INTO_STROKE_MS = 1_500  # when a stroke's picture is taken

I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One machine's recording, and which strokes of it to play."""

    name: str
    recording: str  # a Parquet file: time, and one column a tag
    strokes: Sequence[int]  # from, to
    over_mqtt: Sequence[str]  # tags that go out as waveform blocks
    over_opcua: Sequence[str]
    after_ms: int = 0  # begins this much after the others
    pictures: Sequence[tuple[int, str]] = ()  # in order: of which of these strokes, and the file


@dataclass(frozen=True, slots=True, kw_only=True)
class Playing:
    """What to play and where; times in ms."""

    units: tuple[Unit, ...]
    opcua_port: int
    mqtt_port: int
    ledger: str  # the folder that gets one Parquet file a unit: what was sent, as it was stamped
    period_ms: int  # from the start of one stroke to that of the next
    mosquitto: str | None  # the program; None: the broker is run in here

    @classmethod
    def read(cls, path: Path) -> "Playing":
        """What ``write`` wrote."""
        given = json.loads(path.read_text(encoding="utf-8"))
        units: list[dict[str, Any]] = given.pop("units")
        return cls(units=tuple(Unit(**unit) for unit in units), **given)

    def write(self, path: Path) -> None:
        """As JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")


def topic(unit: str, tag: str) -> str:
    """Where the waveform blocks of a tag go."""
    return f"demo/{unit}/{tag}"


def camera(unit: str) -> str:
    """Where its pictures go."""
    return topic(unit, "camera")


def node(unit: str, tag: str) -> str:
    """The string part of the node id of a tag, in NAMESPACE."""
    return f"{unit}.{tag}"


@dataclass(frozen=True, slots=True)
class Block:
    """A waveform block on its way."""

    due_ms: int  # its last sample was just taken
    stamp_ms: int  # of its first sample
    topic: str
    samples: NDArray[np.float32]  # [M] 1 ms apart

    def payload(self) -> bytes:
        """As it is published."""
        raw = base64.b64encode(self.samples.astype("<f4").tobytes()).decode()
        given = {"ts": self.stamp_ms, "rate_hz": 1000, "dtype": "f4", "block": raw}
        return json.dumps(given).encode()


@dataclass(frozen=True, slots=True)
class Shot:
    """A picture on its way. MQTT 3.1.1 has no place for its time: it was taken when it comes."""

    due_ms: int
    topic: str
    file: str

    def payload(self) -> bytes:
        """As it is published."""
        return Path(self.file).read_bytes()


class Part:
    """The strokes of one unit with the stamps they go out with; written down as it is made."""

    def __init__(self, unit: Unit, playing: Playing, *, start_ms: int) -> None:
        """Raises ValueError where a stroke is longer than the period."""
        self.unit = unit
        table = pq.read_table(unit.recording, columns=["time", *unit.over_mqtt, *unit.over_opcua])
        recorded = table["time"].cast(pa.int64()).to_numpy()
        ends = np.flatnonzero(np.diff(recorded) > PAUSE_MS) + 1
        edges = [0, *ends.tolist(), len(recorded)][unit.strokes[0] : unit.strokes[1] + 1]
        begins = start_ms + unit.after_ms + playing.period_ms * np.arange(len(edges) - 1)
        time_T = np.concatenate(
            [
                begin + recorded[first:end] - recorded[first]
                for begin, first, end in zip(begins, edges, edges[1:], strict=False)
            ]
        )
        if not bool((np.diff(time_T) > 0).all()):
            raise ValueError(f"{unit.name}: a stroke is longer than {playing.period_ms} ms")
        self.begins_ms: list[int] = begins.tolist()
        stamps = pa.array(time_T, pa.int64()).cast(pa.timestamp("ms", tz="UTC"))
        table = table.slice(edges[0], len(time_T)).set_column(0, "time", stamps)
        pq.write_table(table, Path(playing.ledger) / f"{unit.name}.parquet")
        self.count = sum(len(column) - column.null_count for column in table.columns[1:])
        self._time: I64 = time_T
        self._table = table

    def values(self) -> Iterator[tuple[int, str, float]]:
        """What goes over OPC UA, in order: stamp in ms, name of the node, value."""
        columns = {
            node(self.unit.name, tag): self._table[tag].to_numpy().astype(np.float64)
            for tag in self.unit.over_opcua
        }
        known = np.isfinite(list(columns.values())).any(axis=0)
        for row in np.flatnonzero(known).tolist():
            for name, column in columns.items():
                if np.isfinite(column[row]):
                    yield int(self._time[row]), name, float(column[row])

    def blocks(self) -> Iterator[Block]:
        """What goes over MQTT, in order."""
        columns = {
            topic(self.unit.name, tag): self._table[tag].to_numpy().astype(np.float32)
            for tag in self.unit.over_mqtt
        }
        edges = [0, *(np.flatnonzero(np.diff(self._time) > 1) + 1).tolist(), len(self._time)]
        for first, end in pairwise(edges):
            for begin in range(first, end, BLOCK_MS):
                rows = slice(begin, min(begin + BLOCK_MS, end))
                stamps = self._time[rows]
                for where, column in columns.items():
                    yield Block(int(stamps[-1]), int(stamps[0]), where, column[rows])

    def shots(self) -> Iterator[Shot]:
        """The pictures, in order."""
        for stroke, file in self.unit.pictures:
            yield Shot(self.begins_ms[stroke] + INTO_STROKE_MS, camera(self.unit.name), file)


def say(**words: Any) -> None:
    """One line for whoever started this."""
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


@asynccontextmanager
async def broker(playing: Playing) -> "AsyncIterator[None]":
    """The broker: mosquitto, or an embedded one where that is not installed."""
    if playing.mosquitto is not None:
        settings = Path(playing.ledger) / "mosquitto.conf"
        settings.write_text(
            f"listener {playing.mqtt_port} {HOST}\nallow_anonymous true\n"
            f"max_queued_messages {MOST_QUEUED}\n",
            encoding="utf-8",
        )
        process = await asyncio.create_subprocess_exec(
            playing.mosquitto, "-c", str(settings), stdout=DEVNULL, stderr=DEVNULL
        )
        try:
            yield
        finally:
            process.terminate()
            await process.wait()
        return
    from amqtt.broker import Broker  # type: ignore[import-untyped]  # noqa: PLC0415 - if need be

    plugin = "amqtt.plugins.authentication.AnonymousAuthPlugin"
    embedded = Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"{HOST}:{playing.mqtt_port}"}},
            "plugins": {plugin: {"allow_anonymous": True}},
        }
    )
    await embedded.start()
    try:
        yield
    finally:
        await embedded.shutdown()


async def publisher(playing: Playing) -> "Client":
    """A client that publishes, connected. Raises OSError where the broker does not come up."""
    from paho.mqtt.client import Client  # noqa: PLC0415 - only here
    from paho.mqtt.enums import CallbackAPIVersion  # noqa: PLC0415 - only here

    client = Client(CallbackAPIVersion.VERSION2, client_id="demo-plant")
    client.max_queued_messages_set(0)  # never drop
    deadline = time.monotonic() + LONGEST_START_S
    while True:
        try:
            await asyncio.to_thread(client.connect, HOST, playing.mqtt_port)
        except OSError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(STEP_MS / 1000)
        else:
            client.loop_start()
            return client


async def play(
    parts: Sequence[Part], server: "Server", nodes: "Mapping[str, ua.NodeId]", client: "Client"
) -> None:
    """Send everything when it is due, in order."""
    from monitor.site.plc import measured  # noqa: PLC0415 - only here

    values = merge(*(part.values() for part in parts), key=itemgetter(0))
    sent: list[Iterator[Block | Shot]] = [
        *(part.blocks() for part in parts),
        *(part.shots() for part in parts),
    ]
    messages = merge(*sent, key=lambda message: message.due_ms)
    value, message = next(values, None), next(messages, None)
    while value is not None or message is not None:
        now_ms = _now_ms()
        while value is not None and value[0] <= now_ms:
            stamp_ms, name, number = value
            await server.write_attribute_value(nodes[name], measured(number, stamp_ms))
            value = next(values, None)
        while message is not None and message.due_ms <= now_ms:
            client.publish(message.topic, message.payload(), qos=1)
            message = next(messages, None)
        await asyncio.sleep(STEP_MS / 1000)


async def run(playing: Playing) -> None:
    """Start the servers; play once a line comes; stay until stdin ends."""
    from monitor.site.plc import serving  # noqa: PLC0415 - only here

    tags = {unit.name: unit.over_opcua for unit in playing.units}
    async with (
        broker(playing),
        serving(tags, port=playing.opcua_port, namespace=NAMESPACE) as (server, nodes),
    ):
        client = await publisher(playing)
        try:
            say(state="ready")
            if not await asyncio.to_thread(sys.stdin.readline):
                return
            start_ms = (_now_ms() + LEAD_MS) // GRID_MS * GRID_MS
            parts = [Part(unit, playing, start_ms=start_ms) for unit in playing.units]
            begins = {part.unit.name: part.begins_ms for part in parts}
            say(
                state="playing",
                begins_ms=begins,
                count=sum(part.count for part in parts),
                pictures=sum(len(part.unit.pictures) for part in parts),
            )
            await play(parts, server, nodes, client)
            say(state="played", opcua_first=len(nodes))
            await asyncio.to_thread(sys.stdin.read)
        finally:
            client.disconnect()
            client.loop_stop()


class Process:
    """This program as a process, seen from the one that started it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def play(self) -> dict[str, Any]:
        """Begin; it says when each unit's strokes begin, and counts samples and pictures."""
        assert self._process.stdin is not None  # noqa: S101 - it was opened with pipes
        self._process.stdin.write(b"play\n")
        await self._process.stdin.drain()
        return await self.heard("playing")

    async def heard(self, state: str) -> dict[str, Any]:
        """Wait until it is in a state; what it said of it. Raises PlantError where it ended."""
        assert self._process.stdout is not None  # noqa: S101 - it was opened with pipes
        line = await self._process.stdout.readline()
        said: dict[str, Any] = json.loads(line) if line else {}
        if said.get("state") != state:
            raise PlantError(
                f"the demo's servers ended before they were {state}: see {LOG} in its folder."
            )
        return said


@asynccontextmanager
async def process(playing: Playing, folder: Path) -> "AsyncIterator[Process]":
    """The servers, ready, in a process of their own, for as long as the block lasts."""
    plan = folder / "playing.json"
    playing.write(plan)
    with (folder / LOG).open("wb") as log:
        started = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "monitor.site.replay", str(plan.resolve())),
            stdin=PIPE,
            stdout=PIPE,
            stderr=log,
        )
    try:
        one = Process(started)
        await one.heard("ready")
        yield one
    finally:
        assert started.stdin is not None  # noqa: S101 - it was opened with pipes
        started.stdin.close()  # it ends when nobody can say anything any more
        try:
            await asyncio.wait_for(started.wait(), LONGEST_STOP_S)
        except TimeoutError:
            started.kill()
            await started.wait()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    asyncio.run(run(Playing.read(Path(sys.argv[1]))))

"""Machines that speak OPC UA and MQTT at once, and the same recording as a file."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from support import brokers, opcua, plants
from support.brokers import Mosquitto
from support.opcua import NodeServer, PlcThread
from support.plants import CHANNELS, Plant
from support.servers import HERE

from models.bundle import Bundle

MS = 1_000_000
TICK_MS, IN_BLOCK = 25, 5  # samples of a block; one block a tick
PACE_MS = TICK_MS // IN_BLOCK
LATENESS_MS = 3000  # more than a busy machine may keep the player of a recording waiting
CLIENT = "watch"

Plc = PlcThread | NodeServer


@dataclass(frozen=True, slots=True)
class Recording:
    """What machines show: a row each tick, from ``start_ms`` on, but for the rows left out."""

    start_ms: int  # of row 0; a multiple of the tick
    rows: tuple[int, ...]
    shown: dict[str, np.ndarray]  # of each asset [all rows, CHANNELS]

    @classmethod
    def of(
        cls, assets: Sequence[str], start_ms: int, count: int, *, without: Sequence[int] = ()
    ) -> "Recording":
        """Healthy machines, but for the last."""
        return cls(
            start_ms,
            tuple(row for row in range(count) if row not in without),
            {
                name: plants.values(number, count, faulty=name == assets[-1])
                for number, name in enumerate(assets)
            },
        )

    def at(self, row: int) -> int:
        """The instant of a row, ns since 1970 UTC."""
        return (self.start_ms + row * TICK_MS) * MS

    def value(self, asset: str, channel: str, row: int) -> float:
        """What a channel shows at a row."""
        return float(self.shown[asset][row, CHANNELS.index(channel)])

    def block(self, asset: str, row: int) -> tuple[int, np.ndarray]:
        """What the heat was in the tick that ends with a row: ms of its first sample, samples."""
        ripple = np.sin(np.arange(IN_BLOCK) + row)
        first = self.at(row) // MS - (IN_BLOCK - 1) * PACE_MS
        return first, (self.value(asset, "heat", row) + 0.1 * ripple).astype(np.float32)


def speaks_opcua(assets: Sequence[str], asset: str, channel: str) -> bool:
    """Which tags come from the PLC; the others are published."""
    return channel == "flow" or (channel == "load" and asset == assets[0])


def plant(folder: Path, *, model: str, lateness_ms: int, assets: int = 3) -> Plant:
    """A plant of quick machines; where their samples come from is said by ``live`` or ``filed``."""
    made = plants.plant(folder, assets=assets, model=model)
    bundle = Bundle.load(folder / "model", device="cpu")
    quick = bundle.card.model_copy(update={"tick_ms": TICK_MS})  # trained on slower ones
    Bundle(quick, bundle.detector).save(folder / "model")
    kind = made.settings["kinds"]["pump"]
    kind |= {"tick_ms": TICK_MS, "lateness_ms": lateness_ms, "gap_ticks": 10}
    kind["alarm"] = {"off_delay_s": 5 * TICK_MS / 1000}
    kind["channels"]["flow"]["limits"]["on_delay_s"] = 2 * TICK_MS / 1000
    return made


def live(made: Plant, plc: Plc, broker: Mosquitto, **given: Any) -> Plant:
    """The machines as they speak. ``given``: settings of the OPC UA source."""
    made.settings["sources"] = {
        "plc": {
            **opcua.QUICK,
            "url": f"opc.tcp://{HERE}:{plc.port}",
            "sampling_ms": TICK_MS,
            "every_sample": True,
            "queue_s": 60,
            **given,
        },
        "broker": {
            "type": "mqtt",
            "host": HERE,
            "port": broker.port,
            "client_id": CLIENT,
            "payloads": [
                {
                    "topic": "plant/+/heat",
                    "format": "waveform",
                    "header": "time",
                    "time_format": "epoch_ms",
                    "rate_hz": 1000 / PACE_MS,
                }
            ],
        },
    }
    topics = {"heat": "plant/{}/heat", "load": "plant/{}#load"}
    for name, asset in made.settings["assets"].items():
        asset["source"] = "plc"
        asset["tags"] = {
            channel: {"source": "plc", "address": opcua.address(f"{name}.{channel}")}
            if speaks_opcua(made.assets, name, channel)
            else {"source": "broker", "address": topics[channel].format(name)}
            for channel in CHANNELS
        }
    return made.save()


def filed(made: Plant, recording: Recording) -> Plant:
    """The machines as somebody has written them down."""
    rows = []
    for row in recording.rows:
        for asset in made.assets:
            for channel in ("flow", "load"):
                value = recording.value(asset, channel, row)
                rows.append((recording.at(row) // MS, f"{asset}.{channel}", value))
            first, block = recording.block(asset, row)
            for n, value in enumerate(block.tolist()):
                rows.append((first + n * PACE_MS, f"{asset}.heat", value))
    rows.sort(key=lambda one: one[0])
    times, tags, values = zip(*rows, strict=True)
    table = pa.table({"time": pa.array(times, pa.int64()), "tag": tags, "value": values})
    pq.write_table(table, made.folder / "rig.parquet")
    made.settings["sources"] = {
        "rig": {
            "type": "files",
            "path": "rig.parquet",
            "layout": "long",
            "time_format": "epoch_ms",
            "tag_column": "tag",
            "value_column": "value",
        }
    }
    return made.save()


def add_nodes(plc: Plc, recording: Recording) -> None:
    """The PLC's nodes, which hold the first row before anybody looks."""
    assets, row = list(recording.shown), recording.rows[0]
    for asset in assets:
        for channel in CHANNELS:
            if speaks_opcua(assets, asset, channel):
                name = f"{asset}.{channel}"
                plc.add(name, 0.0)
                plc.set(name, recording.value(asset, channel, row), time=recording.at(row))


def keep_session(broker: Mosquitto, assets: Sequence[str]) -> None:
    """Let the broker keep what is published before the service is there."""
    topics = [topic for name in assets for topic in (f"plant/{name}", f"plant/{name}/heat")]
    brokers.keep_session(broker, CLIENT, *topics)


def play(recording: Recording, plc: Plc, broker: Mosquitto, *, in_real_time: bool) -> None:
    """Let the machines show all rows, each at its time or as fast as they can."""
    assets = list(recording.shown)
    with brokers.client(broker, "machines") as client:
        sent = []
        for row in recording.rows:
            at = recording.at(row)
            if in_real_time:
                time.sleep(max(at - time.time_ns(), 0) / 1e9)
            for asset in assets:
                for channel in ("flow", "load"):
                    value = recording.value(asset, channel, row)
                    if not speaks_opcua(assets, asset, channel):
                        payload = json.dumps({"ts": at // MS, channel: value})
                        sent.append(client.publish(f"plant/{asset}", payload, qos=1))
                    elif row != recording.rows[0]:
                        plc.set(f"{asset}.{channel}", value, time=at)
                first, block = recording.block(asset, row)
                payload = np.int64(first).tobytes() + block.tobytes()
                sent.append(client.publish(f"plant/{asset}/heat", payload, qos=1))
        for one in sent:
            one.wait_for_publish(brokers.ANSWER_S)
            assert one.is_published()

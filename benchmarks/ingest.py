"""What does a message cost the whole service, against a bare client that only receives?

The service takes messages from a source, journals them, steps with a small GRU and stores what it
found. Beside it, from the same broker (or server) and the same publisher:

* MQTT at QoS 1: paho, which counts each message and acknowledges it by hand;
* OPC UA: asyncua's subscription, which counts each change.

    python benchmarks/ingest.py [--quick] [--json FILE]
"""

import argparse
import asyncio
import base64
import itertools
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from _machine import RESULTS, Times, table, write
from _service import HERE, Child, Counting, broker, child, free_port, mosquitto_or_stop, service
from _service import plant as plant_of

CHANNELS = 8
BLOCK = 1000  # samples
FEATURES = ("rms", "peak", "crest", "kurtosis")
PAST_S = 20_000  # how long ago the first message is of: they come faster than their time passes
PULSE_S = 0.002  # of a publisher that is to keep a rate
ON_THE_WAY = 1000  # messages, of a publisher and to a side
PATIENCE_S = 60.0
LOOK_S = 0.1  # how often a bare side looks at its count, as the service's watcher does
SAMPLING_MS, PUBLISHING_MS = 200, 500
SIDES = ("service", "bare")
URI = "urn:bench"
Found = dict[str, float]


@dataclass(frozen=True, slots=True)
class Shape:
    """What a message holds, and how many samples that is to the step."""

    name: str
    topics: int  # of an asset
    samples: int  # of a message


@dataclass(frozen=True, slots=True)
class Case:
    """Messages of one shape from so many assets; rate 0: as fast as they are taken."""

    shape: Shape
    assets: int
    messages: int  # of a round
    rate: int  # messages a second

    @property
    def name(self) -> str:
        """The case in words."""
        return f"{self.shape.name}, {f'{self.rate:,} a second' if self.rate else 'at full speed'}"


VALUE = Shape("one value", CHANNELS, 1)
FLAT = Shape(f"{CHANNELS} channels", 1, CHANNELS)
WAVE = Shape(f"a block of {BLOCK:,}", 1, len(FEATURES))
CASES = (
    Case(VALUE, 100, 20_000, 0),
    Case(VALUE, 100, 3_000, 1000),
    Case(FLAT, 100, 20_000, 0),
    Case(FLAT, 100, 3_000, 1000),
    Case(WAVE, 20, 5_000, 0),
    Case(WAVE, 20, 600, 500),
)
QUICK_CASES = (Case(VALUE, 4, 200, 0), Case(FLAT, 4, 100, 500), Case(WAVE, 2, 40, 0))


@dataclass(frozen=True, slots=True)
class Changes:
    """So many variables, all of which change ``hz`` times a second."""

    variables: int
    hz: float
    changes: int  # of a round

    @property
    def name(self) -> str:
        """The case in words."""
        return f"{self.variables:,} variables, {self.variables * self.hz:,.0f} changes a second"


CHANGES = (Changes(1000, 1, 4_000), Changes(1000, 5, 15_000))
QUICK_CHANGES = (Changes(8, 10, 80),)


# ---- MQTT ------------------------------------------------------------------------------------


def messages(case: Case, side: str) -> Iterator[tuple[str, bytes]]:
    """Topic and payload of each message: with each round of the assets, a second passes."""
    random = np.random.default_rng(5)
    noise = itertools.cycle((50.0 + random.normal(size=4096)).round(4).tolist())
    block = base64.b64encode((50.0 + random.normal(size=BLOCK)).astype("<f4")).decode()
    ts = (int(time.time()) - PAST_S) * 1000
    for tick in itertools.count():
        for asset in range(case.assets):
            said: dict[str, Any] = {"ts": ts + 1000 * tick}
            for topic in topics(case, side, asset):
                if case.shape == VALUE:
                    said["value"] = next(noise)
                elif case.shape == FLAT:
                    said |= {f"c{channel}": next(noise) for channel in range(CHANNELS)}
                else:
                    said |= {"rate_hz": BLOCK, "dtype": "f4", "block": block}
                yield topic, json.dumps(said).encode()


def topics(case: Case, side: str, asset: int) -> list[str]:
    """Where one asset's messages come."""
    if case.shape == VALUE:
        return [f"{side}/a{asset}/c{channel}" for channel in range(CHANNELS)]
    return [f"{side}/a{asset}/{'all' if case.shape == FLAT else 'block'}"]


def publisher(line: Connection, port: int, case: Case) -> None:
    """Publishes so many messages to a side as it is told to; first one, kept for who comes."""
    from paho.mqtt.client import Client, MQTTv5  # noqa: PLC0415 - only here and in the bare side
    from paho.mqtt.enums import CallbackAPIVersion  # noqa: PLC0415 - as above

    client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv5)
    client.max_inflight_messages_set(ON_THE_WAY)
    client.connect(HERE, port)
    client.loop_start()
    coming = {side: messages(case, side) for side in SIDES}
    for side in SIDES:
        _, payload = next(coming[side])
        last = topics(case, side, case.assets - 1)[-1]
        client.publish(last, payload, qos=1, retain=True).wait_for_publish(PATIENCE_S)
    line.send("ready")
    while (order := line.recv()) is not None:
        side, count = order
        pulse = max(1, round(case.rate * PULSE_S)) if case.rate else count
        due = time.monotonic()
        ready = list(itertools.islice(coming[side], count))
        for first in range(0, count, pulse):
            time.sleep(max(0.0, due - time.monotonic()))
            due += pulse / case.rate if case.rate else 0
            for topic, payload in ready[first : first + pulse]:
                sent = client.publish(topic, payload, qos=1)
        sent.wait_for_publish(PATIENCE_S)
        line.send("published")
    client.disconnect()


def paho(line: Connection, port: int) -> None:
    """The bare side: counts messages, and acknowledges each by hand."""
    from paho.mqtt.client import Client, MQTTv5  # noqa: PLC0415 - as above
    from paho.mqtt.enums import CallbackAPIVersion  # noqa: PLC0415 - as above
    from paho.mqtt.packettypes import PacketTypes  # noqa: PLC0415 - as above
    from paho.mqtt.properties import Properties  # noqa: PLC0415 - as above

    client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv5, manual_ack=True)
    count = 0

    def on_message(_: Any, __: Any, message: Any) -> None:
        nonlocal count
        count += 1
        client.ack(message.mid, message.qos)

    client.on_message = on_message
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call] # paho has no type for it
    properties.ReceiveMaximum = ON_THE_WAY
    client.connect(HERE, port, properties=properties)
    client.subscribe("bare/#", qos=1)
    client.loop_start()
    counting = Counting(line, 1)
    while counting.asked():
        time.sleep(LOOK_S)
        counting.reached(count)
    client.disconnect()


def mqtt_plant(case: Case, folder: Path, port: int) -> Path:
    """The plant that listens to the topics of its side."""
    channels: dict[str, Any] = {f"c{channel}": {} for channel in range(CHANNELS)}
    if case.shape == WAVE:
        channels = {feature: {"tag": "block", "feature": feature} for feature in FEATURES}
    within = "all#" if case.shape == FLAT else ""
    asset = {"kind": "pump", "source": "line", "address": f"service/{{asset}}/{within}{{tag}}"}
    return plant_of(
        folder,
        {"channels": channels},
        sources={"line": {"type": "mqtt", "host": HERE, "port": port, "client_id": "service"}},
        assets={f"a{number}": asset for number in range(case.assets)},
    )


def over_mqtt(case: Case, rounds: int) -> Found:
    """Both sides at one broker, in turn."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        port = stack.enter_context(broker(folder / "broker"))
        feed = stack.enter_context(child(publisher, port, case))
        file = mqtt_plant(case, folder / "plant", port)
        sides = {
            "service": stack.enter_context(child(service, file, 1)),
            "bare": stack.enter_context(child(paho, port)),
        }
        samples = {"service": case.shape.samples, "bare": 1}
        return raced(sides, feed, case.messages, samples, rounds)


# ---- OPC UA ----------------------------------------------------------------------------------


def plc(line: Connection, port: int, case: Changes) -> None:
    """A server whose variables of a side change so often as it is told to."""
    asyncio.run(_plc(line, port, case))


async def _plc(line: Connection, port: int, case: Changes) -> None:
    from asyncua import Server, ua  # noqa: PLC0415 - only here and in the bare side

    server = Server()
    await server.init()
    server.set_endpoint(f"opc.tcp://{HERE}:{port}")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    index = await server.register_namespace(URI)
    nodes = {
        side: [
            (await server.nodes.objects.add_variable(ua.NodeId(name, index), name, 50.0)).nodeid
            for name in (f"{side}.{n}" for n in range(case.variables))
        ]
        for side in SIDES
    }
    noise = itertools.cycle((50.0 + np.random.default_rng(5).normal(size=4099)).tolist())
    await server.start()
    line.send("ready")
    while (order := await asyncio.to_thread(line.recv)) is not None:
        side, count = order
        due = time.monotonic()
        for _ in range(count // case.variables):
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due += 1 / case.hz
            stamp = datetime.now(UTC)
            for node in nodes[side]:
                value = ua.DataValue(
                    ua.Variant(next(noise), ua.VariantType.Double),
                    SourceTimestamp=stamp,
                    ServerTimestamp=stamp,
                )
                await server.write_attribute_value(node, value)
        line.send("published")
    await server.stop()


def subscription(line: Connection, port: int, case: Changes) -> None:
    """The bare side: counts changes."""
    asyncio.run(_subscription(line, port, case))


async def _subscription(line: Connection, port: int, case: Changes) -> None:
    from asyncua import Client  # noqa: PLC0415 - as above

    class Handler:
        count = 0

        def datachange_notification(self, _: Any, __: Any, ___: Any) -> None:
            self.count += 1

    handler = Handler()
    async with Client(f"opc.tcp://{HERE}:{port}") as client:
        index = await client.get_namespace_index(URI)
        subscribed = await client.create_subscription(PUBLISHING_MS, handler)
        nodes = [client.get_node(f"ns={index};s=bare.{n}") for n in range(case.variables)]
        await subscribed.subscribe_data_change(nodes, queuesize=1000, sampling_interval=SAMPLING_MS)
        counting = Counting(line, case.variables)
        while counting.asked():
            await asyncio.sleep(LOOK_S)
            counting.reached(handler.count)


def opcua_plant(case: Changes, folder: Path, port: int) -> Path:
    """The plant that listens to the variables of its side: eight an asset."""
    return plant_of(
        folder,
        {"channels": {f"c{channel}": {} for channel in range(CHANNELS)}},
        sources={
            "line": {
                "type": "opcua",
                "url": f"opc.tcp://{HERE}:{port}",
                "insecure": True,
                "sampling_ms": SAMPLING_MS,
                "publishing_ms": PUBLISHING_MS,
            }
        },
        assets={
            f"a{number}": {
                "kind": "pump",
                "source": "line",
                "tags": {
                    f"c{channel}": f"nsu={URI};s=service.{number * CHANNELS + channel}"
                    for channel in range(CHANNELS)
                },
            }
            for number in range(case.variables // CHANNELS)
        },
    )


def over_opcua(case: Changes, rounds: int) -> Found:
    """Both sides at one server, in turn."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        port = free_port()
        feed = stack.enter_context(child(plc, port, case))
        file = opcua_plant(case, Path(name) / "plant", port)
        sides = {
            "service": stack.enter_context(child(service, file, case.variables)),
            "bare": stack.enter_context(child(subscription, port, case)),
        }
        return raced(sides, feed, case.changes, {"service": 1, "bare": 1}, rounds)


# ---- the tables ------------------------------------------------------------------------------


def raced(
    sides: dict[str, Child], feed: Child, count: int, samples: dict[str, int], rounds: int
) -> Found:
    """CPU microseconds a message of both sides, in interleaved rounds after one not counted."""
    cpu: dict[str, list[float]] = {side: [] for side in sides}
    wall: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(rounds + 1):
        for side, one in sides.items():
            order = side, count
            spent = one.spent(count * samples[side], partial(feed.line.send, order))
            feed.hear()
            if number:
                cpu[side].append(spent.cpu_s / count * 1e6)
                wall[side].append(spent.wall_s)
    mine, bare = (Times(tuple(cpu[side])) for side in SIDES)
    return {
        "us": mine.best,
        "us_worst": mine.worst,
        "peer_us": bare.best,
        "peer_us_worst": bare.worst,
        "a_second": count / min(wall["service"]),
        "peer_a_second": count / min(wall["bare"]),
        "ratio": mine.best / bare.best,
    }


def line_of(name: str, found: Found) -> list[str]:
    """One row of a table."""
    return [
        name,
        f"{found['us']:.1f} to {found['us_worst']:.1f}",
        f"{found['peer_us']:.1f} to {found['peer_us_worst']:.1f}",
        f"{found['ratio']:.2f}",
        f"{found['a_second']:,.0f}",
        f"{found['peer_a_second']:,.0f}",
    ]


def main() -> None:
    """Measure, print, and keep the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small and once: does it still run?")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the figures there")
    given = parser.parse_args()
    mosquitto_or_stop()
    rounds = 1 if given.quick else 5
    mqtt = {case.name: over_mqtt(case, rounds) for case in (QUICK_CASES if given.quick else CASES)}
    opcua = {
        case.name: over_opcua(case, rounds) for case in (QUICK_CHANGES if given.quick else CHANGES)
    }
    for what, bare, found in (
        ("MQTT: CPU µs a message", "paho", mqtt),
        ("OPC UA: CPU µs a change", "asyncua", opcua),
    ):
        head = (what, "service", bare, "ratio", "service takes a second", f"{bare} takes a second")
        print(table(head, [line_of(name, each) for name, each in found.items()]), end="\n\n")
    if given.json or not given.quick:
        path = given.json or RESULTS / "ingest.json"
        write(path, {"set": "ingest", "rounds": rounds, "mqtt": mqtt, "opcua": opcua})


if __name__ == "__main__":
    main()

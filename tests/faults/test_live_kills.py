"""The service is killed while a broker sends to it and a receiver takes its webhooks.

As in test_kills.py, but nothing waits for the service here: what is published while it is away lies
in its session at the broker, and what it had not acknowledged comes again.
In full 40 kills at random.
"""

import itertools
import json
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from standardwebhooks import Webhook
from support import brokers, killing, plants
from support.brokers import Mosquitto
from support.killing import Executioner, some_time
from support.outcomes import scaled
from support.plants import CHANNELS, SECOND, START, Outcome, Plant
from support.receivers import Receiver, receiving
from support.servers import HERE

ASSETS, TICKS = ("m0", "m1"), 240
ROUNDS = scaled(short=3, full=10)  # services that are killed at random
ROUND = 4  # kills of one of them
SECRET = "whsec_" + "c2VjcmV0IG9mIGEgdGVzdCwgMjQgYnl0ZXMh"  # made up
LAST = (START + TICKS - 2) * SECOND  # the last tick that closes: another was begun
NUMBERS = itertools.count()

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(120)]


@dataclass(frozen=True)
class Edges:
    """A plant whose machines publish, and whose alarms go to a receiver."""

    made: Plant
    broker: Mosquitto
    receiver: Receiver
    name: str  # of the service at the broker, and what its topics begin with

    def topic(self, asset: str) -> str:
        return f"{self.name}/{asset}"

    @contextmanager
    def publishing(self, seconds: float) -> Iterator[threading.Event]:
        """All machines publish all they show, in so many seconds, beside the block.

        The last row waits for the event, or the end of the block: no kill may repeat it, for its
        tick stays open, and repeats are counted when their frame closes.
        """
        spared = threading.Event()
        shown = plants.columns(ASSETS, TICKS)
        failed: list[Exception] = []

        def publish() -> None:
            try:
                with brokers.client(self.broker) as client:
                    for row in range(TICKS):
                        if row == TICKS - 1:
                            spared.wait(60)
                        for asset in ASSETS:
                            values = {one: float(shown[f"{asset}.{one}"][row]) for one in CHANNELS}
                            payload = json.dumps({"ts": START + row, **values})
                            sent = client.publish(self.topic(asset), payload, qos=1)
                        time.sleep(seconds / TICKS)
                    sent.wait_for_publish(brokers.ANSWER_S)
                    assert sent.is_published()
            except Exception as error:  # noqa: BLE001 - raised where somebody sees it
                failed.append(error)

        thread = threading.Thread(target=publish)
        thread.start()
        try:
            yield spared
        finally:
            spared.set()
            thread.join()
        assert not failed, failed

    def told(self) -> dict[str, list[str]]:
        """The ids of the messages of each alarm, each once, in the order they came."""
        found = defaultdict(list)
        for request in self.receiver.taken:
            Webhook(SECRET).verify(request.body, dict(request.headers))
            event = json.loads(request.body)
            assert event["id"] == request.headers["webhook-id"]
            if event["id"] not in found[event["subject"]]:
                found[event["subject"]].append(event["id"])
        return dict(found)


@contextmanager
def edges(folder: Path, broker: Mosquitto) -> Iterator[Edges]:
    with receiving() as receiver:
        made = plants.plant(folder / "plant", assets=len(ASSETS), ticks=TICKS, model="gru")
        found = Edges(made, broker, receiver, f"watch{next(NUMBERS)}")
        brokers.keep_session(broker, found.name, *map(found.topic, ASSETS))
        (folder / "plant" / "secret").write_text(SECRET)
        made.settings["sources"] = {
            "broker": {
                "type": "mqtt",
                "host": HERE,
                "port": broker.port,
                "client_id": found.name,
                "receive_maximum": 40,
                "batch_messages": 8,
            }
        }
        made.settings["sinks"] = {
            "hook": {"type": "webhook", "url": receiver.url, "secret_file": "secret"}
        }
        made.settings["assets"] = {
            asset: {"kind": "pump", "source": "broker", "address": found.topic(asset) + "#{tag}"}
            for asset in ASSETS
        }
        made.save()
        yield found


@pytest.fixture(scope="module")
def executioner() -> Iterator[Executioner]:
    with killing.executioner("httpx", "paho.mqtt.client", "connectors.mqtt.decode") as found:
        yield found


@pytest.fixture(scope="module")
def broker(tmp_path_factory) -> Iterator[Mosquitto]:
    with brokers.mosquitto(tmp_path_factory.mktemp("broker")) as found:
        yield found


@dataclass(frozen=True)
class Calm:
    """What a service that was never disturbed has stored, and told."""

    outcome: Outcome
    told: dict[str, list[str]]
    passed: dict[str, int]


@pytest.fixture
def edged(tmp_path, broker):
    """Edges to be begun."""
    return edges(tmp_path, broker)


@pytest.fixture(scope="module")
def calm(executioner, broker, tmp_path_factory) -> Calm:
    with edges(tmp_path_factory.mktemp("calm"), broker) as one:
        with one.publishing(0.5) as spared:
            spared.set()
            life = executioner.run(one.made.file, tick=LAST)
        assert not life.killed
        found = Calm(plants.outcome(one.made.data), one.told(), life.passed)
        assert len(found.outcome.events) >= 8
        assert {point for name in killing.LIVE for point in killing.PAIRS[name]} == set(life.passed)
        compare(one, found)
        return found


def compare(one: Edges, calm: Calm) -> None:
    """What was published is stored once, and all that follows from it was told, in its order."""
    found = plants.outcome(one.made.data)
    assert found.digest == calm.outcome.digest
    assert found.events == calm.outcome.events
    assert one.told() == calm.told
    counts = found.summary
    assert counts["samples_conserved"]
    assert counts["samples_late"] == 0
    assert counts["samples_stored"] == len(ASSETS) * TICKS * len(CHANNELS)
    assert counts["samples_received"] == counts["samples_stored"] + counts["samples_duplicated"]
    for figure in ("frames", "frames_scored", "alarms"):
        assert counts[figure] == calm.outcome.summary[figure], figure


@pytest.mark.parametrize("name", killing.LIVE)
def test_a_service_killed_there_loses_nothing_and_tells_all_in_order(
    name, calm, executioner, broker, tmp_path
):
    chance = np.random.default_rng(list(name.encode()))
    with edges(tmp_path, broker) as one:
        with one.publishing(0.8) as spared:
            for point in killing.PAIRS[name]:
                most = min(calm.passed[point] // 4, 6) + 1  # the others are passed by the next life
                at = int(chance.integers(1, most, endpoint=True))
                assert executioner.run(one.made.file, point, at, tick=LAST)[0], point
            spared.set()
            assert not executioner.run(one.made.file, tick=LAST)[0]
        compare(one, calm)
        if name == "acknowledgement":
            assert plants.outcome(one.made.data).summary["samples_duplicated"] > 0
        if name == "delivery":
            assert len(one.receiver.taken) > sum(map(len, calm.told.values()))


@pytest.mark.fault("watchkeeper_killed_live")
@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_service_killed_at_any_moment_loses_nothing_and_tells_all_in_order(
    number, calm, executioner, edged, figures
):
    chance = np.random.default_rng(number)
    with edged as one:
        with one.publishing(ROUND * 0.4):
            figures |= executioner.kill_at_work(one.made, ROUND, some_time(chance, 0.6))
        assert figures["times"] == ROUND
        assert not executioner.run(one.made.file, tick=LAST).killed
        compare(one, calm)
        summary = plants.outcome(one.made.data).summary
    figures |= {
        "sent": len(ASSETS) * TICKS * len(CHANNELS),
        "received": summary["samples_received"],
        "stored": summary["samples_stored"],
        "duplicate": summary["samples_duplicated"],
        "late": summary["samples_late"],
    }

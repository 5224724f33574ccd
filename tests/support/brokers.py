"""Real MQTT brokers for tests: mosquitto as a process, amqtt within, and what is said to them."""

import contextlib
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, MQTTv5, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from support.certificates import Certificates
from support.network import Network
from support.servers import HERE, Server, free_port, program

ANSWER_S = 10.0
USER, PASSWORD = "mon", "a-secret-that-nobody-shows"
CONFIGURATION = """\
per_listener_settings false
user root
persistence true
persistence_location {folder}/
autosave_interval 1
max_queued_messages 200000
log_dest file {folder}/log
{lines}
listener {port} {host}
"""


class Mosquitto(Server):
    """A broker in a folder of its own. It keeps sessions and messages over a stop and a start."""

    def __init__(
        self,
        folder: Path,
        *,
        lines: Sequence[str] = (),
        password: bool = False,
        access: Sequence[str] | None = None,
        tls: Certificates | None = None,
        network: Network | None = None,
    ) -> None:
        """``network``: where it runs, if not here; there it listens at all addresses."""
        command = [program("mosquitto"), "-c", folder / "conf"]
        where = network.where if network is not None else {}
        super().__init__(command, port=free_port(), log=folder / "said", **where)
        folder.mkdir(parents=True, exist_ok=True)
        lines = [*lines]
        if password:
            file = folder / "passwd"
            make = program("mosquitto_passwd")
            subprocess.run([make, "-c", "-b", str(file), USER, PASSWORD], check=True)
            lines += ["allow_anonymous false", f"password_file {file}"]
        else:
            lines += ["allow_anonymous true"]
        if access is not None:
            (folder / "acl").write_text("\n".join(access) + "\n")
            lines += [f"acl_file {folder / 'acl'}"]
        text = CONFIGURATION.format(
            folder=folder,
            port=self.port,
            host=HERE if network is None else "0.0.0.0",  # noqa: S104 - there is nobody else
            lines="\n".join(lines),
        )
        if tls is not None:
            text += f"cafile {tls.ca}\ncertfile {tls.server[0]}\nkeyfile {tls.server[1]}\n"
            text += "require_certificate true\n"
        (folder / "conf").write_text(text)
        self.start()


AMQTT = """
import asyncio, sys
from amqtt.broker import Broker

async def main():
    anonymous = "amqtt.plugins.authentication.AnonymousAuthPlugin"
    await Broker({
        "listeners": {"default": {"type": "tcp", "bind": "127.0.0.1:" + sys.argv[1]}},
        "plugins": {anonymous: {"allow_anonymous": True}},
    }).start()
    await asyncio.Event().wait()

asyncio.run(main())
"""


class Amqtt(Server):
    """amqtt, which speaks MQTT 3.1.1 only."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        command = [sys.executable, "-c", AMQTT, str(port)]
        super().__init__(command, port=port, log=folder / "amqtt.log")


@contextmanager
def mosquitto(folder: Path, **given: Any) -> Iterator[Mosquitto]:
    broker = Mosquitto(folder / "broker", **given)
    try:
        yield broker
    finally:
        broker.stop()


@contextmanager
def client(broker: Any, name: str = "", **given: Any) -> Iterator[Client]:
    """A connected client with its loop running. ``given``: clean, expiry_s, received."""
    newest = not isinstance(broker, Amqtt)
    protocol = MQTTv5 if newest else MQTTv311
    one = Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=protocol)
    connected = threading.Event()
    one.on_connect = lambda *_: connected.set()
    if (received := given.get("received")) is not None:
        one.on_message = lambda _, __, message: received(message)
    if given.get("password"):
        one.username_pw_set(USER, PASSWORD)
    if newest:
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = given.get("expiry_s", 0)
        one.connect(HERE, broker.port, clean_start=given.get("clean", True), properties=properties)
    else:
        one.connect(HERE, broker.port)
    one.loop_start()
    try:
        assert connected.wait(ANSWER_S)
        yield one
    finally:
        one.disconnect()
        one.loop_stop()


def subscribe(one: Client, *topics: str) -> None:
    """Subscribe at QoS 1, and wait until it stands."""
    done = threading.Event()
    one.on_subscribe = lambda *_: done.set()
    one.subscribe([(topic, 1) for topic in topics])
    assert done.wait(ANSWER_S)


def keep_session(broker: Any, name: str, *topics: str, **given: Any) -> None:
    """Have the broker keep messages for a client that is not there yet."""
    with client(broker, name, clean=False, expiry_s=3600, **given) as one:
        subscribe(one, *topics)


def publish(broker: Any, *messages: tuple[str, Any], **given: Any) -> None:
    """Publish topics with payloads at QoS 1, in order, and wait for all answers.

    ``given``: retain, said (user properties), qos, and what ``client`` takes.
    """
    retain, said, qos = given.pop("retain", False), given.pop("said", {}), given.pop("qos", 1)
    properties = Properties(PacketTypes.PUBLISH) if said else None
    if properties is not None:
        properties.UserProperty = list(said.items())
    with client(broker, **given) as one:
        sent = [
            one.publish(topic, payload, qos=qos, retain=retain, properties=properties)
            for topic, payload in messages
        ]
        for info in sent:
            info.wait_for_publish(ANSWER_S)
            assert info.is_published()


class Recorder:
    """Writes down what is published below a topic."""

    def __init__(self, broker: Any, topic: str, **given: Any) -> None:
        self.messages: list[tuple[str, bytes, bool]] = []
        self._broker, self._topic, self._given = broker, topic, given
        self._stack = contextlib.ExitStack()
        self._marks: set[bytes] = set()
        self._seen = threading.Condition()
        self._mark = 0
        self._client: Client | None = None
        self.connect()

    def connect(self) -> None:
        """Also after the broker was away."""
        self._client = self._stack.enter_context(
            client(self._broker, received=self._received, **self._given)
        )
        subscribe(self._client, self._topic, "mark")

    def disconnect(self) -> None:
        self._stack.close()

    def all(self) -> list[tuple[str, bytes, bool]]:
        """Everything that was confirmed to its publisher by now."""
        assert self._client is not None
        self._mark += 1
        mark = str(self._mark).encode()
        self._client.publish("mark", mark, qos=1)
        with self._seen:
            assert self._seen.wait_for(lambda: mark in self._marks, ANSWER_S)
        return list(self.messages)

    def until(self, there: Callable[[list[tuple[str, bytes, bool]]], bool]) -> None:
        """Wait for what was not published by ourselves."""
        with self._seen:
            assert self._seen.wait_for(lambda: there(self.messages), ANSWER_S), self.messages

    def _received(self, message: Any) -> None:
        with self._seen:
            if message.topic == "mark":
                self._marks.add(message.payload)
            else:
                self.messages.append((message.topic, message.payload, message.retain))
            self._seen.notify_all()

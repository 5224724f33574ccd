"""A mosquitto that keeps what it has for us while it is away, or while we are."""

import json
from pathlib import Path

from support.brokers import PASSWORD, USER, Mosquitto, Recorder, keep_session, publish
from support.servers import HERE

from connectors.batch import BAD, GOOD, UNCERTAIN
from connectors.contract import TagRef
from connectors.mqtt.settings import ReadingSettings, WritingSettings
from connectors.points import Message

MARKS = ("broker",)
T0 = 1_704_067_200_000  # ms, 2024-01-01T00:00:00Z
STATUS = {"good": GOOD, "uncertain": UNCERTAIN, "bad": BAD}


class _Broker:
    """mosquitto, there or not."""

    clients = ("paho", "msgspec")

    def __init__(self, folder: Path) -> None:
        self.broker = Mosquitto(folder / "broker", password=True)
        self.password = folder / "password"
        self.password.write_text(PASSWORD + "\n")
        self._login = {
            "type": "mqtt",
            "host": HERE,
            "port": self.broker.port,
            "user_name": USER,
            "password_file": str(self.password),
        }

    def vanish(self) -> None:
        self.broker.stop()

    def appear(self) -> None:
        self.broker.start()

    def close(self) -> None:
        self.broker.stop()


class SourceRig(_Broker):
    """A session that holds messages of two tags, and of one that nobody asked for."""

    repeats = True  # what was not acknowledged comes again: recognised by tag and time
    tags = (TagRef(id=7, address="p/flow#value", unit="l/min"), TagRef(id=3, address="p/temp"))

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.settings = ReadingSettings.model_validate(
            self._login | {"client_id": "rig", "batch_messages": 6}
        )
        keep_session(self.broker, "rig", "p/flow", "p/temp", "p/other", password=True)
        ids = {"flow": 7, "temp": 3}
        self.samples = []
        messages = []
        for n in range(20):
            name, status = ("flow", "temp", "other")[n % 3], ("good", "uncertain", "bad")[n % 4 % 3]
            payload = {"timestamp_ms": T0 + n, "value": n, "q": status}
            messages.append((f"p/{name}", json.dumps(payload)))
            if name in ids:
                self.samples.append((ids[name], (T0 + n) * 1_000_000, float(n), STATUS[status]))
        publish(self.broker, *messages, password=True)


class SinkRig(_Broker):
    """All that was ever published, each thing once."""

    secrets = (PASSWORD,)
    retry_after_s = None
    items = tuple(
        Message(
            id=f"m{n}",
            subject="a",
            type="alarm.raised",
            time=T0 + n,
            body={"asset": "pump", "n": n},
        )
        for n in range(3)
    )
    unfit = Message(id="m", subject="a", type="alarm.raised", time=T0, body={"asset": "a/+"})

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.settings = WritingSettings.model_validate(
            self._login | {"client_id": "rig", "site": "plant"}
        )
        self._recorder = Recorder(self.broker, "watchkeeper/plant/+/alarm", password=True)

    def vanish(self) -> None:
        self._recorder.disconnect()
        super().vanish()

    def appear(self) -> None:
        super().appear()
        self._recorder.connect()

    def close(self) -> None:
        self._recorder.disconnect()
        super().close()

    def busy(self) -> None:
        raise NotImplementedError

    def contents(self) -> set[tuple[str, bytes]]:
        return {(topic, payload) for topic, payload, _ in self._recorder.all()}

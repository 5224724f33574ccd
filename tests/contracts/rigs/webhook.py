"""A receiver on loopback that can go away, and that never takes what is called unfit."""

import base64
import json
from pathlib import Path

from support.receivers import Answer, Receiver, Request

from connectors.points import Message
from connectors.webhook import WebhookSettings

T0 = 1_704_067_200_000_000_000  # 2024-01-01T00:00:00Z
SECRET = base64.b64encode(b"a key of at least 24 bytes").decode()


def message(name: str, **body: object) -> Message:
    return Message(id=name, subject="alarm-1", type="alarm.raised", time=T0, body=body)


class SinkRig:
    """Keeps each message once, by its id."""

    clients = ("httpx",)
    secrets = (SECRET,)
    retry_after_s = 7.0
    items = tuple(message(f"m{n}", site="works", asset="p1", n=n) for n in range(3))
    unfit = message("unfit")

    def __init__(self, folder: Path) -> None:
        self._receiver = Receiver()
        self._receiver.usual = _usual
        secret = folder / "secret"
        secret.write_text(f"whsec_{SECRET}\n")
        self.settings = WebhookSettings(
            type="webhook", url=self._receiver.url, secret_file=str(secret)
        )

    def close(self) -> None:
        self._receiver.stop()

    def vanish(self) -> None:
        self._receiver.stop()

    def appear(self) -> None:
        self._receiver.start()

    def busy(self) -> None:
        self._receiver.answers.append(Answer(429, {"Retry-After": "7"}))

    def contents(self) -> dict[str, object]:
        return {one.headers["webhook-id"]: json.loads(one.body) for one in self._receiver.taken}


def _usual(request: Request) -> Answer:
    return Answer(422 if request.headers["webhook-id"] == "unfit" else 204)

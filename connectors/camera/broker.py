"""Pictures from an MQTT broker: one message each, what it shows in its user properties.

The session, its acknowledgements and its gaps are those of ``connectors.mqtt``; only what a message
means differs. A picture is decoded in a thread: the broker's pings are answered meanwhile.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from connectors.camera.settings import ReadingSettings
from connectors.camera.shots import Gate, Shot
from connectors.contract import Batch, TagRef
from connectors.mqtt.pump import Received
from connectors.mqtt.source import Decodes
from connectors.mqtt.source import Source as Session
from connectors.mqtt.topics import wanted_of
from connectors.payloads.forms import Reason, RejectedError
from connectors.payloads.stamps import stamp

PART, RECIPE, TIME = "part", "recipe", "time"  # user properties; MQTT 5, 3.3.2.3.7


class BrokerSource(Session):
    """A camera's address is the topic that its pictures are published to."""

    def __init__(
        self,
        name: str,
        settings: ReadingSettings,
        tags: Sequence[TagRef],
        *,
        now: Callable[[], int] | None = None,
    ) -> None:
        assert settings.mqtt is not None  # noqa: S101 - else it is of another way
        given = {} if now is None else {"now": now}
        broker = settings.mqtt.of_pictures(settings.bounds.bytes)
        super().__init__(name, broker, tags, **given)
        self._pictures = settings

    def _made(self, tags: Sequence[TagRef]) -> Decodes:
        return PictureDecoder(self.name, self._pictures, tags)

    async def _decoded(
        self, decoder: Decodes, taken: Sequence[Received], position: str
    ) -> Sequence[Batch]:
        return await asyncio.to_thread(decoder.decode, taken, position)


class PictureDecoder:
    """Messages to pictures; counters as of ``mqtt.decode.Decoder``."""

    def __init__(self, source: str, settings: ReadingSettings, tags: Sequence[TagRef]) -> None:
        self.messages = self.bytes = self.unwanted = self.empty = 0
        self.maybe_duplicate = self.without_guarantee = self.rejected = self.restamped = 0
        self.strays: set[str] = set()
        self._source, self._gate = source, Gate(source, settings)
        self._heard: set[str] = set()
        self.use(self.reading(tags))

    def reading(self, tags: Sequence[TagRef]) -> Mapping[str, int]:
        """The camera of each topic. Raises RefusedError for an address that is no topic."""
        topics = wanted_of(tags, connector=self._source)
        return {topic: wanted[0].id for topic, wanted in topics.items()}

    def use(self, reading: Mapping[str, Any]) -> None:
        """Take what comes from now on like this; the counters go on."""
        self.topics = tuple(reading)
        self._cameras = reading
        self._heard &= reading.keys()

    @property
    def unheard(self) -> int:
        """How many topics never gave anything."""
        return len(self.topics) - len(self._heard)

    def decode(self, messages: Sequence[Received], position: str) -> Sequence[Batch]:
        """Batches of messages; the last one carries the position."""
        shots = []
        self.messages += len(messages)
        for message in messages:
            self.bytes += len(message.payload)
            self.without_guarantee += not message.packet
            if (camera := self._cameras.get(message.topic)) is None:
                self.unwanted += 1
                self.strays.add(message.topic)
                continue
            self._heard.add(message.topic)
            shot = _shot(message, camera)
            self.maybe_duplicate += message.again and shot.time is None
            shots.append(shot)
        batches = self._gate.batches(shots, position)
        self.rejected, self.restamped = self._gate.rejected, self._gate.restamped
        return batches


def _shot(message: Received, camera: int) -> Shot:
    """One message. A topic's last value without a time may be years old: it is not taken."""
    said = dict(message.said)
    time, refused = None, ""
    try:
        time = stamp(said[TIME], "auto") if TIME in said else None
    except RejectedError as error:
        refused = str(error.reason)
    if message.retained and time is None:
        refused = refused or str(Reason.RETAINED)
    return Shot(
        camera=camera,
        content=bytes(message.payload),
        came=message.came,
        time=time,
        part=said.get(PART),
        recipe=said.get(RECIPE),
        name=message.topic,
        refused=refused,
    )

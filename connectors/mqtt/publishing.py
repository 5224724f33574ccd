"""Publications and the broker's answers to them."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from connectors.mqtt.client import WiredClient


@dataclass(frozen=True, slots=True)
class Publication:
    """Something to publish at QoS 1."""

    topic: str
    payload: bytes
    retain: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """What the broker said to it: a reason code of MQTT 5, 3.4.2.1 (0 in 3.1.1), and its words."""

    code: int
    words: str


class _Together:
    """Publications that are answered together."""

    def __init__(self, what: Sequence[Publication], future: "asyncio.Future[list[Answer]]") -> None:
        self.what, self.future = what, future
        self.answers: dict[int, Answer] = {}

    def settle(self) -> None:
        """In the loop: all were answered."""
        if not self.future.done():
            self.future.set_result([self.answers[place] for place in range(len(self.what))])


class Publisher:
    """What was published over one link and not answered yet."""

    def __init__(self, tell: Callable[[Callable[[], None]], None]) -> None:
        """``tell`` has the event loop call something."""
        self._tell = tell
        self._sent: dict[int, tuple[_Together, int]] = {}  # by packet: which of them
        self._waiting: set[asyncio.Future[list[Answer]]] = set()

    def work(
        self, what: Sequence[Publication], future: "asyncio.Future[list[Answer]]"
    ) -> "Callable[[WiredClient], None]":
        """In the loop: what the link's thread is to do, to have the future answered."""
        self._waiting.add(future)
        future.add_done_callback(self._waiting.discard)
        return partial(self._send, _Together(what, future))

    def fail(self, error: Exception) -> None:
        """In the loop: no more answers will come."""
        for future in tuple(self._waiting):
            if not future.done():
                future.set_exception(error)

    def on_publish(self, _: Any, __: Any, packet: int, reason: Any, ___: Any) -> None:
        """In the thread: the broker has answered."""
        together, place = self._sent.pop(packet)
        together.answers[place] = Answer(reason.value, str(reason))
        if len(together.answers) == len(together.what):
            self._tell(together.settle)

    def _send(self, together: _Together, client: "WiredClient") -> None:
        for place, one in enumerate(together.what):
            sent = client.publish(one.topic, one.payload, qos=1, retain=one.retain)
            self._sent[sent.mid] = (together, place)

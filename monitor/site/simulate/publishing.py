"""Ticks to a broker at QoS 1: published until the broker acknowledges, and what it acknowledged."""

import base64
import json
import sys
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from monitor.site.simulate.ledger import Bools, Ledger, What
from monitor.site.simulate.plan import Form, Lane, Simulation

WINDOW = 1_000  # messages on their way to the broker, beyond which nothing new is published
RETRY_S = (1, 2)  # how long to wait before the broker is tried again, at first and at most


class Publisher:
    """A client of a broker, which may come and go. Of one thread, beside paho's own."""

    def __init__(self, simulation: Simulation, ledger: Ledger) -> None:
        self._simulation, self._ledger = simulation, ledger
        self._client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=simulation.name,
            clean_session=False,
        )
        self._client.max_inflight_messages_set(0)  # the window is ours
        self._client.reconnect_delay_set(*RETRY_S)
        self._client.on_connect = self._on_connect
        self._client.on_connect_fail = self._on_connect_fail
        self._client.on_disconnect = lambda *_: self._said.append(What.DISCONNECTED)
        self._client.on_publish = lambda _, __, mid, *___: self._answered.append(mid)
        self._answered: deque[int] = deque()  # paho's thread adds, ours takes
        self._said: deque[What] = deque()  # the same
        self._waiting: dict[int, tuple[int, int, int]] = {}  # by message: lane, tick, asset
        self._missing: dict[tuple[int, int], NDArray[np.int64]] = {}  # by lane and tick: [A]
        self._samples: dict[tuple[int, int], NDArray[np.int64]] = {}  # the same: how many, [A]
        self.connected = False
        self.reason = ""  # why not, in the words of the broker or the system
        self.acknowledged = 0  # samples

    def open(self) -> None:
        """Begin to connect; it goes on until ``close``."""
        assert self._simulation.mqtt is not None  # noqa: S101 - whoever calls has looked
        self._client.connect_async(*self._simulation.mqtt)
        self._client.loop_start()

    @property
    def room(self) -> bool:
        """Whether another tick may go out."""
        return self.connected and len(self._waiting) < WINDOW

    @property
    def unanswered(self) -> int:
        """Messages that the broker has not acknowledged."""
        return len(self._waiting)

    def send(self, number: int, lane: Lane, tick: int, values: NDArray[Any]) -> None:
        """Publish a tick; values [A, C], of blocks [A, C, M]."""
        missing_A = self._missing[number, tick] = np.zeros(lane.assets, np.int64)
        self._samples[number, tick] = np.isfinite(values).reshape(lane.assets, -1).sum(1)
        for asset, topic, payload in messages(self._simulation, lane, tick, values):
            sent = self._client.publish(topic, payload, qos=1)
            self._waiting[sent.mid] = (number, tick, asset)
            missing_A[asset] += 1
        self._end(number, tick)  # where there was nothing to publish

    def take(self, now_ns: int) -> None:
        """Write down what the broker has said since."""
        while self._said:
            what = self._said.popleft()
            self.connected = what is What.CONNECTED
            self._ledger.note(what, now_ns)
        while self._answered:
            number, tick, asset = self._waiting.pop(self._answered.popleft())
            missing_A = self._missing[number, tick]
            missing_A[asset] -= 1
            if not missing_A[asset]:
                self.acknowledged += int(self._samples[number, tick][asset])
                self._end(number, tick)

    def _end(self, number: int, tick: int) -> None:
        """Write down a tick that the broker has as a whole."""
        if not self._missing[number, tick].any():
            self._ledger.acknowledge(number, tick)
            del self._missing[number, tick], self._samples[number, tick]

    def close(self) -> None:
        """Say goodbye, and write down which ticks the broker has in part."""
        self._client.disconnect()
        self._client.loop_stop()
        for (number, tick), missing_A in self._missing.items():
            has_A: Bools = missing_A == 0
            if has_A.any():
                self._ledger.acknowledge(number, tick, has_A)
        self._missing.clear()

    def _on_connect(self, _: Any, __: Any, ___: Any, reason: Any, ____: Any) -> None:
        self.reason = str(reason) if reason.is_failure else ""
        if not reason.is_failure:
            self._said.append(What.CONNECTED)

    def _on_connect_fail(self, *_: Any) -> None:
        error = sys.exception()  # paho calls while it handles what the system said
        self.reason = getattr(error, "strerror", None) or str(error or "")


def messages(
    simulation: Simulation, lane: Lane, tick: int, values: NDArray[Any]
) -> Iterator[tuple[int, str, str]]:
    """A tick as it is published: the asset's place in the lane, topic, payload."""
    stamp_ms = tick * lane.period_ms
    channels = lane.channel_names
    for place, asset in enumerate(lane.asset_names):
        there = [
            (channel, value)
            for channel, value in zip(channels, values[place], strict=True)
            if not np.isnan(value).any()
        ]
        if lane.form is Form.FLAT and there:
            told = {channel: float(value) for channel, value in there}
            yield place, simulation.topic(asset), json.dumps({"ts": stamp_ms, **told})
        elif lane.form is not Form.FLAT:
            for channel, value in there:
                yield place, simulation.topic(asset, channel), _single(lane, stamp_ms, value)


def _single(lane: Lane, stamp_ms: int, value: Any) -> str:
    if lane.form is Form.VALUE:
        return json.dumps({"ts": stamp_ms, "value": float(value)})
    block = base64.b64encode(value.astype("<f4").tobytes()).decode()
    rate_hz = lane.samples * 1000 / lane.period_ms
    return json.dumps({"ts": stamp_ms, "rate_hz": rate_hz, "dtype": "f4", "block": block})

"""Machines that send in real time to a real server, and remember what it has."""

import itertools
import json
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Self

from paho.mqtt.client import Client
from support.brokers import Mosquitto, client
from support.ledger import Sample
from support.opcua import NodeServer
from support.plants import CHANNELS
from support.servers import wait_until

MS = 1_000_000
LONGEST_S = 60.0  # until a broker that came back has what waited for it


def shown(row: int, machine: int, channel: int) -> float:
    """What a channel shows at a row: no value comes twice."""
    return float(row) + machine / 8 + channel / 64


class Publisher:
    """Publishes a row of all machines again and again, at QoS 1; it outlives the broker."""

    def __init__(self, broker: Mosquitto, assets: Sequence[str], *, rows_a_second: float) -> None:
        self.sent: set[Sample] = set()  # acknowledged by the broker, once it has stopped
        self.rows = self._published = self._had = 0
        self._broker, self._assets, self._pause_s = broker, assets, 1 / rows_a_second
        self._stop = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> set[Sample]:
        """End once the broker has everything; the samples of the last row come last."""
        self._stop.set()
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self.sent

    def _run(self) -> None:
        try:
            with client(self._broker, "machines") as publisher:
                publisher.reconnect_delay_set(min_delay=1, max_delay=1)
                publisher.on_publish = self._has
                self._publish(publisher)
                wait_until(lambda: self._had == self._published, LONGEST_S, "the last receipt")
        except Exception as error:  # noqa: BLE001 - raised where somebody sees it
            self._error = error

    def _publish(self, publisher: Client) -> None:
        while True:
            at = time.time_ns() // MS
            for machine, asset in enumerate(self._assets):
                values = {
                    channel: shown(self.rows, machine, number)
                    for number, channel in enumerate(CHANNELS)
                }
                publisher.publish(asset, json.dumps({"ts": at} | values), qos=1)
                self._published += 1
                self.sent |= {(f"{asset}/{key}", at * MS, value) for key, value in values.items()}
            self.rows += 1
            if self._stop.wait(self._pause_s):
                return

    def _has(self, *_: object) -> None:
        """The broker has a message: paho says so once of each, also of those it sent again."""
        self._had += 1


class Device:
    """Writes a row to all nodes of an OPC UA server again and again; it outlives the server.

    What the server did not answer is in doubt: ``maybe``.
    """

    def __init__(
        self, server: NodeServer, asset: str, nodes: Mapping[str, str], *, rows_a_second: float
    ) -> None:
        """``nodes``: of each channel."""
        self.sent: set[Sample] = set()
        self.maybe: set[Sample] = set()
        self._server, self._asset, self._nodes = server, asset, nodes
        self._pause_s = 1 / rows_a_second
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> set[Sample]:
        """End; what the server has."""
        self._stop.set()
        self._thread.join()
        return self.sent

    def _run(self) -> None:
        for row in itertools.count(1):
            at = time.time_ns() // MS
            values = {one: shown(row, 0, number) for number, one in enumerate(self._nodes)}
            samples = {(f"{self._asset}/{one}", at * MS, value) for one, value in values.items()}
            told = [
                {"set": self._nodes[channel], "value": value, "time": at}
                for channel, value in values.items()
            ]
            try:
                self._server.tell(*told)
                self.sent |= samples
            except (AssertionError, OSError, ValueError):  # it ended meanwhile, or is not there
                self.maybe |= samples
            if self._stop.wait(self._pause_s):
                return


def newest(samples: set[Sample]) -> set[Sample]:
    """The samples of the last row."""
    last = max(at for _, at, _ in samples)
    return {one for one in samples if one[1] == last}

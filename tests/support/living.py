"""Machines that send to a real broker while a test looks on."""

import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from support import plants
from support.brokers import Mosquitto, client
from support.machines import healthy
from support.plants import CHANNELS, START, Plant
from support.servers import HERE

ROWS_A_SECOND = 20  # each a second of the machines' own time
MOST_ROWS = 10_000
ODD_ROWS = 20  # so many of three times as many, and in each third another machine is not itself


def plant(folder: Path, broker: Mosquitto, *, assets: int = 3, **source: Any) -> Plant:
    """Machines m0, m1, ... that publish what they show. ``source``: settings of the source."""
    made = plants.plant(folder, assets=assets, ticks=1)
    made.settings["sources"] = {
        "rig": {"type": "mqtt", "host": HERE, "port": broker.port, "client_id": "watch", **source}
    }
    for name, asset in made.settings["assets"].items():
        asset |= {"address": f"{name}/telemetry#{{tag}}", "tags": {}}
    return made.save()


class Machines:
    """Publish row after row until they are told to stop."""

    def __init__(self, broker: Mosquitto, assets: list[str]) -> None:
        self.rows = 0  # that the broker has
        self._broker, self._assets = broker, assets
        self._shown = [healthy(MOST_ROWS, n, channels=len(CHANNELS)) for n in range(len(assets))]
        for number, shown in enumerate(self._shown):
            for row in range(MOST_ROWS):
                if row // ODD_ROWS % 3 == number % 3:
                    shown[row, 0] += 25.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._publish, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> int:
        """End; how many samples were published."""
        self._stop.set()
        self._thread.join()
        return self.rows * len(self._assets) * len(CHANNELS)

    def _publish(self) -> None:
        with client(self._broker) as publisher:
            for row in range(MOST_ROWS):
                sent = [
                    publisher.publish(
                        f"{name}/telemetry",
                        json.dumps(
                            {"ts": (START + row) * 1000}
                            | dict(zip(CHANNELS, shown[row].tolist(), strict=True))
                        ),
                        qos=1,
                    )
                    for name, shown in zip(self._assets, self._shown, strict=True)
                ]
                for one in sent:
                    one.wait_for_publish()
                self.rows = row + 1
                if self._stop.wait(1 / ROWS_A_SECOND):
                    return


@contextlib.contextmanager
def machines(broker: Mosquitto, made: Plant) -> Iterator[Machines]:
    """The machines of a plant, at work during the block."""
    found = Machines(broker, made.assets)
    found.start()
    try:
        yield found
    finally:
        found.stop()

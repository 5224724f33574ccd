"""A simulation as a server of the tests: it may be stopped, killed, frozen and started again."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.network import Network
from support.servers import Server

from monitor.site.simulate import watcher
from monitor.site.simulate.ledger import Ledger
from monitor.site.simulate.plan import Simulation


class Simulator(Server):
    """A process that simulates; what it sends is in the ledger of its folder.

    Killed (``stop(signal.SIGKILL)``) and started again it goes on, on the same ports, with the
    history it had. ``plant`` is the configuration that watches it.
    """

    longest_stop_s = 60.0  # it waits for who still takes something, and itself for its turn

    def __init__(
        self,
        folder: Path,
        simulation: Simulation,
        *,
        for_ms: int | None = None,
        network: Network | None = None,
    ) -> None:
        ledger = Ledger.make(folder, simulation)
        ledger.close()
        self.folder, self.simulation = folder, ledger.simulation
        self.plant = watcher.write(ledger.simulation, folder)
        command = [sys.executable, "-m", "monitor.site.simulate", folder]
        command += [] if for_ms is None else [str(for_ms)]
        super().__init__(command, port=0, **(network.where if network is not None else {}))

    def start(self) -> None:
        """Start it, and wait until its servers listen."""
        super().start()
        self.heard("ready")

    def heard(self, state: str) -> dict[str, Any]:
        """Wait until it says so: ready, running, stopped; what it said."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{") and (said := json.loads(line))["state"] == state:
                return said
        raise AssertionError(f"the simulation ended before it was {state}")

    def ended(self) -> dict[str, Any]:
        """Wait for its end; what it sent."""
        said = self.heard("stopped")
        self.stop()
        return said

    def _is_ready(self) -> bool:
        return True  # it says so itself


@contextmanager
def simulator(folder: Path, simulation: Simulation, **given: Any) -> Iterator[Simulator]:
    """A simulation for the length of a block."""
    one = Simulator(folder, simulation, **given)
    one.start()
    try:
        yield one
    finally:
        one.stop()

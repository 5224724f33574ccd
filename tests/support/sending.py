"""A device that writes to a foreign OPC UA server, and keeps the ledger of a simulation."""

import threading
import time
from pathlib import Path
from typing import Self

from support.opcua import NodeServer

from monitor.site.simulate.ledger import Ledger
from monitor.site.simulate.values import Values


class Device:
    """Writes tick after tick of a simulation's first lane in real time; it outlives the server."""

    def __init__(self, server: NodeServer, folder: Path) -> None:
        self.last = 0  # ns since 1970, of the last tick that the server took
        self._server, self._folder = server, folder
        self._stop = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End; may be called twice."""
        self._stop.set()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        ledger = Ledger(self._folder)
        try:
            self._write(ledger)
        except Exception as error:  # noqa: BLE001 - raised where somebody sees it
            self._error = error
        finally:
            ledger.close()

    def _write(self, ledger: Ledger) -> None:
        (lane,) = ledger.simulation.lanes
        shown = Values(ledger.simulation)
        tick = 0
        while not self._stop.is_set():
            tick = max(tick, int(time.time() * 1000) // lane.period_ms) + 1
            if self._stop.wait(max(0.0, tick * lane.period_ms / 1000 - time.time())):
                return
            ledger.send(0, [tick], time.time_ns())
            told = [
                {"set": f"{asset}.{channel}", "value": value, "time": tick * lane.period_ms}
                for asset, row in zip(lane.asset_names, shown.of(0, [tick])[0], strict=True)
                for channel, value in zip(lane.channel_names, row.tolist(), strict=True)
            ]
            try:
                self._server.tell(*told)
            except (AssertionError, OSError, ValueError):
                continue  # it ended meanwhile, or is not there: nobody has taken that
            ledger.acknowledge(0, tick)
            self.last = tick * lane.period_ms * 1_000_000

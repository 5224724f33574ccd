"""The service is killed while an OPC UA server sends to it: each sample is stored, or in a gap.

The server keeps the subscription of a service that is gone, and what it was not acknowledged.
"""

import itertools
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from support import killing, opcua, plants
from support.opcua import NodeServer, shared_node_server
from support.outcomes import scaled
from support.plants import CHANNELS, SECOND, Plant

from connectors.batch import Notice, NoticeKind, Samples
from monitor.state.database import DatabaseReader
from monitor.state.journal import Journal
from monitor.state.names import Family, Names

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(90)]

STEP_S = 0.25  # five times the sampling, so that a busy server looks at each value
MS = 1_000_000
ROUNDS = scaled(short=1, full=10)
KILLS = scaled(short=2, full=4)  # at random, of one service
POINTS = ("journal written", "journal committed", "before acknowledgement", "after step")


def plant(folder: Path, server: NodeServer, nodes: dict[str, str]) -> Plant:
    """A machine of three nodes; its limit is passed now and then."""
    made = plants.plant(folder, model=None)
    made.settings["sources"] = {
        "plc": {**opcua.QUICK, "url": f"opc.tcp://127.0.0.1:{server.port}"},
    }
    made.settings["kinds"]["pump"] |= {"tick_ms": 200, "lateness_ms": 200}
    made.settings["kinds"]["pump"]["channels"]["flow"]["limits"] = {"high": 70.0}
    made.settings["assets"] = {
        "m0": {
            "kind": "pump",
            "source": "plc",
            "tags": {channel: opcua.address(node) for channel, node in nodes.items()},
        }
    }
    return made.save()


class Player(threading.Thread):
    """Writes to all nodes, step after step, and remembers what and when."""

    def __init__(self, server: NodeServer, nodes: dict[str, str]) -> None:
        super().__init__(daemon=True)
        self.written: set[tuple[str, int, float]] = set()  # channel, ns, value
        self.last = 0
        self._server, self._nodes = server, nodes
        self._stopped = threading.Event()

    def stop(self) -> None:
        self._stopped.set()
        self.join()

    def run(self) -> None:
        for step in itertools.count(1):
            at = time.time_ns() // MS * MS
            shown = {
                channel: 100.0 * (step % 10 == 5) + step + 1000 * number
                for number, channel in enumerate(CHANNELS)
            }
            self._server.tell(
                *(
                    {"set": self._nodes[channel], "value": value, "time": at // MS}
                    for channel, value in shown.items()
                )
            )
            self.written |= {(channel, at, value) for channel, value in shown.items()}
            self.last = at
            if self._stopped.wait(STEP_S):
                return


@pytest.mark.fault("watchkeeper_killed_opcua")
@pytest.mark.parametrize("number", range(ROUNDS))
def test_each_sample_is_stored_or_lies_in_a_gap_however_often_the_service_is_killed(
    number, tmp_path, figures
):
    server = shared_node_server()
    nodes = {channel: f"kill-{channel}-{time.time_ns()}" for channel in CHANNELS}
    for node in nodes.values():
        server.add(node, 0.0)
    made = plant(tmp_path / "plant", server, nodes)
    chance = np.random.default_rng(7 + number)
    with killing.executioner("asyncua", "connectors.opcua.listening") as executioner:
        assert executioner.run(made.file, "after acknowledgement", 1)[0]  # it has begun
        player = Player(server, nodes)
        player.start()
        for point in POINTS:
            assert executioner.run(made.file, point, int(chance.integers(2, 6)))[0], point
        figures |= executioner.kill_at_work(made, KILLS, killing.some_time(chance, 1.0))
        assert figures["times"] == KILLS
        player.stop()
        tick = player.last // SECOND * SECOND + SECOND  # vouched for: all samples have come by then
        assert not executioner.run(made.file, tick=tick)[0]

    with DatabaseReader(made.data) as database:
        records = [record.body for _, record in Journal(database).read(0)]
        names = Names(database).of(Family.TAG)
    stored = {
        (names[tag].rpartition("/")[2].rpartition(".")[2], at, value)
        for body in records
        if isinstance(body, Samples)
        for tag, at, value in zip(
            body.tag.tolist(), body.time.tolist(), body.value.tolist(), strict=True
        )
    }
    gaps = [one for one in records if isinstance(one, Notice) and one.kind is NoticeKind.GAP]
    lost = [
        one for one in player.written - stored if not any(g.since < one[1] <= g.until for g in gaps)
    ]
    assert lost == []
    assert gaps == []  # this server hands all over: nothing is missing
    live, again = plants.outcome(made.data), plants.replay(made)
    assert live.summary["samples_conserved"]
    assert live.summary["samples_late"] == 0
    assert live.summary["samples_stored"] >= len(player.written)
    figures |= {
        "sent": len(player.written),
        "received": live.summary["samples_received"],
        "stored": live.summary["samples_stored"],
        "duplicate": live.summary["samples_duplicated"],
        "late": live.summary["samples_late"],
        "in_gaps": 0,
    }
    assert (again.digest, again.events) == (live.digest, live.events)
    assert len(made.messages()) == len(live.events) > 0

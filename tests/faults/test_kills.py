"""The service is killed at every point that matters, and between: nothing is lost, nothing twice.

Each test lets one service die again and again and restart until it ends, and then compares it with
one that was never disturbed. Here each point is tried a few times; for a long night,
``WATCHKEEPER_KILLS=1000 python -m pytest tests/faults/test_kills.py`` kills that often at random.
"""

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from support import killing, plants
from support.killing import Executioner
from support.plants import Outcome, Plant

from monitor.state.database import DatabaseReader

ASSETS, TICKS, BATCH_ROWS = 3, 300, 5
EACH = 2  # kills at one point of one service
KILLS = int(os.environ.get("WATCHKEEPER_KILLS", "12"))  # at random, each in a run of its own
ROUND = 3  # of them in one service

POINTS = [point for name in killing.FILES for point in killing.PAIRS[name]]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@dataclass(frozen=True, slots=True)
class Calm:
    """A service that was never disturbed, and the plant as it was before."""

    made: Plant
    outcome: Outcome
    passed: dict[str, int]  # how often it came through each point
    untouched: Path

    def another(self, folder: Path) -> Plant:
        shutil.copytree(self.untouched, folder)
        return Plant(folder, self.made.settings)


@pytest.fixture(scope="module")
def executioner() -> Iterator[Executioner]:
    with killing.executioner() as found:
        yield found


@pytest.fixture(scope="module")
def calm(executioner: Executioner, tmp_path_factory: pytest.TempPathFactory) -> Calm:
    folder = tmp_path_factory.mktemp("calm")
    made = plants.plant(
        folder / "plant", assets=ASSETS, ticks=TICKS, model="gru", batch_rows=BATCH_ROWS
    )
    shutil.copytree(made.folder, folder / "untouched")
    killed, passed = executioner.run(made.file)
    assert not killed
    found = Calm(made, plants.outcome(made.data), passed, folder / "untouched")
    assert len(found.outcome.events) >= 8
    assert set(passed) == set(POINTS), "a point is never passed: nothing is tested there"
    return found


def compare(killed: Plant, calm: Calm) -> None:
    """It ended with what the undisturbed one has: every score, every alarm, every message, once."""
    found = plants.outcome(killed.data)
    assert found.digest == calm.outcome.digest
    assert found.events == calm.outcome.events
    assert killed.messages() == calm.made.messages()
    assert sorted(path.suffix for path in killed.inbox.iterdir()) == [".json"] * len(found.events)
    assert found.summary["samples_received"] == ASSETS * TICKS * len(plants.CHANNELS)
    assert found.summary["samples_conserved"]
    for figure in ("samples_stored", "samples_late", "samples_duplicated", "frames", "alarms"):
        assert found.summary[figure] == calm.outcome.summary[figure], figure
    with DatabaseReader(killed.data) as database:
        told = database.query("SELECT alarm, transition, tick FROM alarm_event")
        assert max(Counter(told).values()) == 1


@pytest.mark.parametrize("point", POINTS)
def test_a_service_killed_there_ends_as_if_it_had_not_been(point, calm, executioner, tmp_path):
    made = calm.another(tmp_path / "plant")
    chance = np.random.default_rng(list(point.encode()))
    most = max(1, calm.passed[point] // (EACH + 1))
    killed = [
        executioner.run(made.file, point, int(chance.integers(1, most, endpoint=True)))[0]
        for _ in range(EACH)
    ]
    assert killed[0], "it passed that point less often than before; nothing was tested"
    assert executioner.run(made.file)[0] is False
    compare(made, calm)


@pytest.mark.parametrize("number", range(-(-KILLS // ROUND)))
def test_a_service_killed_at_any_moment_ends_as_if_it_had_not_been(
    number, calm, executioner, tmp_path
):
    made = calm.another(tmp_path / "plant")
    chance = np.random.default_rng(number)
    killed = [
        executioner.run(made.file, after_s=float(chance.uniform(0.02, 0.6)))[0]
        for _ in range(ROUND)
    ]
    assert any(killed)
    assert executioner.run(made.file)[0] is False
    compare(made, calm)


def test_a_restart_goes_on_from_a_snapshot(calm, executioner, tmp_path):
    made = calm.another(tmp_path / "plant")
    point = "after snapshot rename"
    assert executioner.run(made.file, point, 3)[0]
    with DatabaseReader(made.data) as database:
        ((record,),) = database.query("SELECT MAX(record) FROM snapshot")
        ((journaled,),) = database.query("SELECT MAX(number) FROM journal")
    _, passed = executioner.run(made.file)
    assert record > 0
    assert journaled - record <= passed["before step"] < calm.passed["before step"]
    compare(made, calm)

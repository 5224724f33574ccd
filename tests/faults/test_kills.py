"""The service is killed at every point that matters, and between: nothing is lost, nothing twice.

Each test lets one service die again and again and restart until it ends, and then compares it with
one that was never disturbed. In full 200 kills at random fall into services that take more than a
million samples.
"""

import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from support import killing, plants
from support.killing import Executioner
from support.outcomes import scaled
from support.plants import Outcome, Plant

from monitor.state.database import DatabaseReader

ASSETS, TICKS, BATCH_ROWS = 3, 300, 5
EACH = 2  # kills at one point of one service
ROUNDS = scaled(short=3, full=20)  # services that are killed at random
KILLS = scaled(short=3, full=10)  # of one of them
LONG = scaled(short=(TICKS, BATCH_ROWS), full=(5600, 20))  # what they take: 50,400 samples each

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


def undisturbed(executioner: Executioner, folder: Path, ticks: int, batch_rows: int) -> Calm:
    made = plants.plant(
        folder / "plant", assets=ASSETS, ticks=ticks, model="gru", batch_rows=batch_rows
    )
    shutil.copytree(made.folder, folder / "untouched")
    life = executioner.run(made.file)
    assert not life.killed
    found = Calm(made, plants.outcome(made.data), life.passed, folder / "untouched")
    assert len(found.outcome.events) >= 8
    return found


@pytest.fixture(scope="module")
def calm(executioner: Executioner, tmp_path_factory: pytest.TempPathFactory) -> Calm:
    found = undisturbed(executioner, tmp_path_factory.mktemp("calm"), TICKS, BATCH_ROWS)
    assert set(found.passed) == set(POINTS), "a point is never passed: nothing is tested there"
    return found


@pytest.fixture(scope="module")
def long(calm: Calm, executioner: Executioner, tmp_path_factory: pytest.TempPathFactory) -> Calm:
    """Where there is more to do, so that it can be killed more often."""
    same = LONG == (TICKS, BATCH_ROWS)
    return calm if same else undisturbed(executioner, tmp_path_factory.mktemp("long"), *LONG)


def compare(killed: Plant, calm: Calm) -> None:
    """It ended with what the undisturbed one has: every score, every alarm, every message, once."""
    found = plants.outcome(killed.data)
    assert found.digest == calm.outcome.digest
    assert found.events == calm.outcome.events
    assert killed.messages() == calm.made.messages()
    assert sorted(path.suffix for path in killed.inbox.iterdir()) == [".json"] * len(found.events)
    assert found.summary["samples_received"] == calm.outcome.summary["samples_received"]
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


@pytest.mark.fault("watchkeeper_killed")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_service_killed_at_any_moment_ends_as_if_it_had_not_been(
    number, long, executioner, tmp_path, figures
):
    made = long.another(tmp_path / "plant")
    chance = np.random.default_rng(number)
    most = long.passed["before step"] // (KILLS + 1)  # it never comes to its end

    def moment(_):
        at, linger_s = int(chance.integers(1, most, endpoint=True)), chance.uniform(0.0, 0.02)
        return {"point": "before step", "at": at, "linger_s": float(linger_s)}

    figures |= executioner.kill_at_work(made, KILLS, moment)
    assert figures["times"] == KILLS
    assert not executioner.run(made.file).killed
    compare(made, long)
    summary = plants.outcome(made.data).summary
    figures |= {
        "sent": ASSETS * LONG[0] * len(plants.CHANNELS),
        "received": summary["samples_received"],
        "stored": summary["samples_stored"],
        "duplicate": summary["samples_duplicated"],
        "late": summary["samples_late"],
    }
    assert figures["sent"] == figures["received"]


def test_a_restart_goes_on_from_a_snapshot(calm, executioner, tmp_path):
    made = calm.another(tmp_path / "plant")
    point = "after snapshot rename"
    assert executioner.run(made.file, point, 3)[0]
    with DatabaseReader(made.data) as database:
        ((record,),) = database.query("SELECT MAX(record) FROM snapshot")
        ((journaled,),) = database.query("SELECT MAX(number) FROM journal")
    passed = executioner.run(made.file).passed
    assert record > 0
    assert journaled - record <= passed["before step"] < calm.passed["before step"]
    compare(made, calm)

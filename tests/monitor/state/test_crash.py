"""A service is killed again and again while it commits: nothing may be lost, nothing come twice.

SIGKILL stops the process between any two instructions; what it had handed to the system stays. That
the disk keeps what fsync reported is the disk's promise, which no test on one machine can break.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support import crashing

from monitor.state.database import DatabaseReader
from monitor.state.journal import Journal
from monitor.state.outbox import Outbox
from monitor.state.snapshot import Snapshots
from monitor.state.store import Store


def start(folder, count):
    return subprocess.Popen(
        [sys.executable, crashing.__file__, folder, str(count)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


def killed_after(folder, lines):
    """The numbers a service said were stored before and while it was killed."""
    with start(folder, 1_000_000) as service:
        try:
            told = [service.stdout.readline() for _ in range(lines)]
        finally:
            service.send_signal(signal.SIGKILL)
        told += service.stdout.readlines()
    return [int(line) for line in told if line.endswith("\n")]


def check(folder: Path, told: list[int]) -> int:
    """Everything that was told is there, and all parts agree; how many records are journaled."""
    with DatabaseReader(folder) as reader:
        journal, store = Journal(reader), Store(reader)
        last, done = journal.last(), store.done()
        assert last >= max(told)
        journaled = list(journal.read(journal.first() - 1))
        assert [number for number, _ in journaled] == list(range(journal.first(), last + 1))
        for number, record in journaled:
            assert record.body.value.tolist() == [number] * 20
        assert journal.positions() == {"press": str(last)}

        assert done <= last
        assert journal.first() <= done + 1
        stored = [(block.tick, block.surprise) for block in store.scores()]
        found = np.concatenate([surprise for _, surprise in stored]) if stored else np.zeros(0)
        sums = np.cumsum(20.0 * np.arange(1, done + 1)).astype(np.float32)
        assert found.tolist() == sums.tolist()
        sent = Outbox(reader).pending("hook", limit_items=1_000_000, limit_bytes=1 << 30)
        assert [item.id for _, item in sent] == [f"m{number}" for number in range(1, done + 1)]

        snapshot = Snapshots(reader).latest()
        if snapshot is not None:
            assert journal.first() - 1 <= snapshot.record <= done
            assert snapshot.tree["total"].tolist() == [10 * snapshot.record * (snapshot.record + 1)]
    return last


def survive(folder, *, kills, seed):
    chance = np.random.default_rng(seed)
    last = 0
    for _ in range(kills):
        told = killed_after(folder / "killed", int(chance.integers(1, 60)))
        assert told == list(range(last + 1, max(told) + 1))
        last = check(folder / "killed", told)
    for name in ("killed", "calm"):
        with start(folder / name, last + 40) as service:
            told = [int(line) for line in service.stdout]
        assert service.returncode == 0
        assert check(folder / name, told) == last + 40
    with DatabaseReader(folder / "killed") as killed, DatabaseReader(folder / "calm") as calm:
        assert Store(killed).done() == last + 40
        assert Store(killed).digest() == Store(calm).digest()


def test_a_killed_service_loses_nothing_and_repeats_nothing(tmp_path):
    survive(tmp_path, kills=3, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [2, 3])
def test_a_service_that_is_killed_again_and_again_loses_nothing(tmp_path, seed):
    survive(tmp_path, kills=20, seed=seed)

"""A source far faster than the step, a sink that is away, and both: memory stays bounded."""

import time
from pathlib import Path

import numpy as np
import pytest
from support import plants
from support.servers import free_port

from connectors.batch import Notice, NoticeKind, Samples
from connectors.points import Points
from monitor.core.pipeline import Pipeline
from monitor.live import service as service_room
from monitor.live import setup as setup_room
from monitor.live import stepper as stepper_room
from monitor.live.clock import SystemClock
from monitor.live.supervisor import Assignment
from monitor.site import plant as rooms
from monitor.state.database import Database
from monitor.state.outbox import Outbox

ROWS = 50_000  # of a batch: 1.4 MB
BATCHES = 80  # 116 MB of samples, and 80 MB of points, in all
BOUND_MB = 150  # that memory may grow by


class Flood:
    """A source that gives as fast as it is asked, in large batches."""

    name = "rig"

    def __init__(self, batches):
        self._left = range(batches)
        self.accepted_up_to = 0

    async def open(self, *, resume):
        pass

    async def batches(self):
        chance = np.random.default_rng(1)
        tag = chance.integers(1 << 20, 1 << 30, ROWS, np.int32)  # of nobody: nothing is scored
        time, value = chance.permutation(ROWS) + plants.START * plants.SECOND, chance.random(ROWS)
        for number in self._left:
            yield Samples(
                source=self.name,
                tag=tag.copy(),
                time=time.copy(),
                value=value.copy(),
                status=np.zeros(ROWS, np.uint32),
                flags=np.zeros(ROWS, np.uint8),
                position=str(number + 1),
            )
        yield Notice(source=self.name, kind=NoticeKind.ENDED)

    async def accepted(self, position):
        self.accepted_up_to = int(position)

    async def close(self):
        pass

    def status(self):
        return {}


class ManyPoints:
    """What the step gives to databases: 1 MB for each record."""

    def __init__(self, *_, **__):
        self._column = np.random.default_rng(2).standard_normal(10_000)

    def settle(self, _standing):
        pass

    def of(self, _results):
        columns = {f"f{n}": self._column.copy() for n in range(12)}
        return [Points(measurement="m", tags={}, time=np.arange(10_000), fields=columns)]


def memory_mb(which):
    """VmRSS: what is used now; VmHWM: the most since it was last asked to forget."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if which in line]
    return int(line.split()[1]) / 1000


def forget_the_most():
    """What is used now, MB; from here on VmHWM counts anew (proc(5))."""
    Path("/proc/self/clear_refs").write_text("5")
    return memory_mb("VmRSS")


@pytest.mark.timeout(60)
async def test_memory_does_not_grow_with_what_waits_for_a_slow_step_and_an_absent_sink(
    tmp_path, monkeypatch
):
    made = plants.plant(tmp_path / "plant", assets=1, model=None)
    made.settings["sinks"]["db"] = {
        "type": "influxdb",
        "url": f"http://127.0.0.1:{free_port()}",
        "bucket": "plant",
        "token_file": str(made.folder / "token"),
    }
    (made.folder / "token").write_text("none")
    made.settings["state"] = {"outbox_mb": 20.0}
    monkeypatch.setattr(setup_room, "PointMaker", ManyPoints)
    monkeypatch.setattr(service_room, "FAREWELL_S", 0.0)
    monkeypatch.setattr(stepper_room, "TIDY_S", 0.1)
    step = Pipeline.step

    def slowly(pipeline, record):
        time.sleep(0.01)
        return step(pipeline, record)

    monkeypatch.setattr(Pipeline, "step", slowly)
    flood = Flood(BATCHES)
    with Database(made.save().data) as database:
        service = rooms.service(made.config(), database, clock=SystemClock())
        watched = Assignment(name=flood.name, make=lambda: flood, tags={}, expected_s=60.0)
        service.supervisors[flood.name] = service.supervisor(watched)
        before = forget_the_most()
        await service.run()
        grown = memory_mb("VmHWM") - before
        assert flood.accepted_up_to == BATCHES
        assert grown < BOUND_MB, f"memory grew by {grown:.0f} MB"
        left = Outbox(database).backlog("db")
        assert left.items + left.dropped > BATCHES / 2
        assert left.dropped > 0  # how much: as often as it is tidied

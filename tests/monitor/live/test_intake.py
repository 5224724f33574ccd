"""The intake: what is committed is acknowledged, however the link ends."""

import asyncio
import threading
from dataclasses import replace

from support.sources import ENDED, HeldTime, World, desk, hang, sample

from monitor.live.intake import AGAIN_S, Intake
from monitor.state.errors import StorageFullError
from monitor.state.journal import Journal


class Windowed:
    """Sends one batch at a time; the next once the one before was accepted."""

    name = "m"

    def __init__(self, count):
        self._count = count
        self._accepted = asyncio.Event()
        self.accepted_positions = []

    async def batches(self):
        for n in range(self._count):
            self._accepted.clear()
            yield sample(n)
            await self._accepted.wait()
        yield ENDED

    async def accepted(self, position):
        self.accepted_positions.append(position)
        self._accepted.set()


async def test_what_is_committed_is_acknowledged_though_nothing_more_comes(tmp_path):
    source = Windowed(5)
    with desk(tmp_path) as place:
        async with asyncio.timeout(10):
            await Intake(source, desk=place, taken=lambda *_: None).run()
    assert source.accepted_positions == ["0", "1", "2", "3", "4"]


async def test_what_is_on_its_way_to_the_disk_at_the_stop_is_acknowledged_once_it_is_there(
    tmp_path,
):
    world = World([*map(sample, range(5)), hang])
    source, disk = world.make(), threading.Event()
    with desk(tmp_path) as place:
        await source.open(resume=None)
        place.writer.submit(lambda _: disk.wait(10), size=1)  # nothing overtakes it
        taking = asyncio.create_task(Intake(source, desk=place, taken=lambda *_: None).run())
        await world.asked.wait()
        assert world.accepted == []
        taking.cancel()
        disk.set()
        await asyncio.wait((taking,))
        assert place.journal.positions() == {"m": "4"}
    assert world.accepted == ["0", "1", "2", "3", "4"]


async def test_a_disk_that_takes_nothing_is_tried_again_within_five_seconds_however_long_it_lasts(
    tmp_path, monkeypatch
):
    """What waits at the peers meanwhile is bounded by their queues."""
    failures, append, time = [StorageFullError("the disk is full")] * 30, Journal.append, HeldTime()

    def appended(journal, tx, row):
        if failures:
            raise failures.pop()
        return append(journal, tx, row)

    monkeypatch.setattr(Journal, "append", appended)
    world = World([sample(1), ENDED])
    source = world.make()
    with desk(tmp_path) as place:
        await source.open(resume=None)
        there = replace(place, sleep=time.sleep)
        await Intake(source, desk=there, taken=lambda *_: None).run()
    assert world.accepted == ["1"]
    assert AGAIN_S / 2 <= max(time.slept) <= AGAIN_S

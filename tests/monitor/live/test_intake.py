"""The intake: what is committed is acknowledged, however the link ends."""

import asyncio

from support.sources import ENDED, World, desk, hang, sample

from monitor.live.intake import Intake


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
    source = world.make()
    with desk(tmp_path) as place:
        await source.open(resume=None)
        taking = asyncio.create_task(Intake(source, desk=place, taken=lambda *_: None).run())
        await world.asked.wait()
        assert len(world.accepted) < 5, "the disk was too fast for this test"
        taking.cancel()
        await asyncio.wait((taking,))
        assert place.journal.positions() == {"m": "4"}
    assert world.accepted == ["0", "1", "2", "3", "4"]

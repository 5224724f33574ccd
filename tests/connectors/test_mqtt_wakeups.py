"""Who waits for messages is woken, whatever the thread that reads and the loop do at once."""

import asyncio
import threading
import time
from collections import deque

import pytest
from support.brokers import mosquitto, publish
from support.plants import until
from support.servers import HERE

from connectors.contract import TagRef
from connectors.mqtt import Source
from connectors.mqtt.settings import ReadingSettings

pytestmark = [pytest.mark.broker, pytest.mark.timeout(60)]


class Snatched(deque):
    """An inbox that is emptied in the moment in which the thread has looked into it, once."""

    def __init__(self, snatch):
        super().__init__()
        self._snatch = snatch

    def __bool__(self):
        there = len(self) > 0
        if there and self._snatch and threading.current_thread().name.startswith("mqtt "):
            snatch, self._snatch = self._snatch, None
            snatch()
            while len(self):
                time.sleep(0.001)
        return there


async def test_a_message_that_is_taken_while_it_is_told_of_does_not_hide_the_next(tmp_path):
    with mosquitto(tmp_path) as broker:
        settings = {"type": "mqtt", "host": HERE, "port": broker.port, "client_id": "watch"}
        one = Source("m", ReadingSettings.model_validate(settings), [TagRef(id=1, address="a")])
        await one.open(resume=None)
        taken = []

        async def take():
            async for batch in one.batches():
                taken.append(batch)  # noqa: PERF401 - looked at meanwhile

        taking = asyncio.create_task(take())
        loop = asyncio.get_running_loop()
        inbox = Snatched(lambda: loop.call_soon_threadsafe(one._changed.set))
        one._link._pump.inbox = inbox
        for number in (1, 2):
            await asyncio.to_thread(publish, broker, ("a", str(number)))
            await until(lambda: len(taken) == number)  # noqa: B023 - awaited in its own round
        assert inbox._snatch is None  # it was snatched
        taking.cancel()
        await asyncio.gather(taking, return_exceptions=True)
        await one.close()

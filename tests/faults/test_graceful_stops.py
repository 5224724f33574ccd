"""A stop over a real broker: what was taken in is acknowledged, so nothing comes twice."""

import asyncio

import pytest
from support import living, plants
from support.brokers import mosquitto
from support.plants import until

pytestmark = [pytest.mark.broker, pytest.mark.timeout(60)]

STOPS = 4


def received(running):
    return running.status["samples_received"]


async def test_after_a_stop_no_message_comes_again_and_none_is_missing(tmp_path):
    with mosquitto(tmp_path) as broker:
        made = living.plant(tmp_path / "plant", broker)
        async with plants.serving(made) as running:  # from now on the broker keeps what is sent
            await until(lambda: running.service.supervisors["rig"].state.is_open)
        with living.machines(broker, made) as machines:
            for _ in range(STOPS):
                async with plants.serving(made) as running:
                    before = received(running)
                    await until(lambda r=running, n=before: received(r) > n)
            sent = await asyncio.to_thread(machines.stop)
        async with plants.serving(made) as running:
            await until(lambda: received(running) >= sent)
    status = plants.outcome(made.data).summary
    assert (status["samples_received"], status["samples_duplicated"]) == (sent, 0)

"""A database that is away, or killed: the outbox and what was acknowledged lose nothing."""

import asyncio
import contextlib
import signal
import time

import numpy as np
import pytest
from support.databases import TOKEN, Influx, Shim
from support.plants import until
from support.servers import started

from connectors.influxdb.settings import WritingSettings
from connectors.influxdb.sink import Sink
from connectors.points import Points
from monitor.live.delivery import Delivery
from monitor.state.database import Database
from monitor.state.outbox import Outbox
from monitor.state.writer import Writer

pytestmark = [pytest.mark.broker, pytest.mark.timeout(60)]

SECOND = 1_000_000_000
START = (time.time_ns() // SECOND - 86_400) * SECOND
ASSETS = 20


def points(number):
    """What all assets have to say at one moment."""
    return [
        Points(
            measurement="asset_score",
            tags={"site": "works", "asset": f"p{asset}"},
            time=np.array([START + number * SECOND]),
            fields={"surprise": np.array([number + asset / 7]), "valid": np.ones(1)},
        )
        for asset in range(ASSETS)
    ]


def expected(count):
    """What the database holds after so many moments."""
    return {
        (
            "asset_score",
            (("asset", f"p{asset}"), ("site", "works")),
            START + number * SECOND,
        ): {"surprise": number + asset / 7, "valid": 1.0}
        for number in range(count)
        for asset in range(ASSETS)
    }


@pytest.fixture
def servers(tmp_path):
    """A database that may be killed, the shim in front of it, and a sink that writes to it."""
    with started(Influx(tmp_path / "influx")) as influx:
        influx.database("plant")
        with started(Shim(tmp_path / "shim", influx)) as shim:
            token = tmp_path / "token"
            token.write_text(TOKEN)
            settings = WritingSettings(
                type="influxdb",
                url=shim.url,
                bucket="plant",
                token_file=str(token),
                batch_lines=40,
            )
            yield influx, shim, Sink("db", settings)


@pytest.fixture
def post(tmp_path, servers, monkeypatch):
    """An outbox, what fills it, and the delivery that empties it into the database."""
    monkeypatch.setattr("monitor.live.backoff.random.uniform", lambda _low, high: high / 10)
    with Database(tmp_path / "state") as database, Writer(database, group_s=0.001) as writer:
        outbox = Outbox(database)
        delivery = Delivery(servers[2], outbox=outbox, writer=writer)
        with database.atomic() as tx:
            outbox.register(tx, {"db": (Points,)})

        def put(*numbers):
            with database.atomic() as tx:
                for number in numbers:
                    outbox.put(tx, points(number))
            delivery.wake()

        yield outbox, delivery, put


@contextlib.asynccontextmanager
async def at_work(delivery):
    task = asyncio.create_task(delivery.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("which", ["the database", "the way to it"])
async def test_what_waits_while_the_database_is_away_arrives_when_it_is_back(servers, post, which):
    influx, shim, _ = servers
    outbox, delivery, put = post
    away, how = {
        "the database": (influx, signal.SIGKILL),
        "the way to it": (shim, signal.SIGTERM),  # else nginx leaves its worker behind
    }[which]
    put(*range(100))
    async with at_work(delivery):
        await until(lambda: outbox.backlog("db").items < 100 * ASSETS)  # in the middle of it
        await asyncio.to_thread(away.stop, how)
        put(*range(100, 150))
        await until(lambda: delivery.reason)
        put(*range(150, 200))
        assert outbox.backlog("db").items > 100 * ASSETS
        await asyncio.to_thread(away.start)
        await until(lambda: outbox.backlog("db").items == 0, limit_s=40)
    assert outbox.dead_letters() == []
    assert influx.contents("plant") == expected(200)


async def test_what_was_acknowledged_outlives_a_kill(servers):
    influx, _, sink = servers
    await sink.open()
    try:
        for number in range(50):
            await sink.deliver(points(number))
        influx.stop(signal.SIGKILL)
    finally:
        await sink.close()
    influx.start()
    assert influx.contents("plant") == expected(50)

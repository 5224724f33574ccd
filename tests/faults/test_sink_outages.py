"""A database or a receiver that is away while points and alarms are made: it misses nothing.

The whole service runs, machines publish to a real broker all the time, and the peer is killed, or
answers no more, and comes back. Here for moments; ``WATCHKEEPER_OUTAGE_S=60 python -m pytest
tests/faults/test_sink_outages.py`` takes each away for that long.
"""

import asyncio
import base64
import contextlib
import json
import logging
import os
import signal
import time
from collections import defaultdict

import numpy as np
import pytest
from standardwebhooks import Webhook
from support import living, plants
from support.brokers import mosquitto
from support.delivered import database, kept, kinds, token
from support.plants import until
from support.receivers import SAY_NOTHING, Answer, receiving

from connectors.influxdb.settings import WritingSettings
from connectors.influxdb.sink import Sink
from connectors.points import Points
from monitor.live import points as points_room
from monitor.live import service as service_room
from monitor.live.messages import message
from monitor.state.database import DatabaseReader
from monitor.state.outbox import Outbox
from monitor.state.store import Store

OUTAGE_S = float(os.environ.get("WATCHKEEPER_OUTAGE_S", "2"))
BACK_S = 60.0  # after its return a peer has everything within this time
HEALTH_S = 0.5  # between two points of pipeline_health

logger = logging.getLogger(__name__)
pytestmark = [pytest.mark.slow, pytest.mark.broker, pytest.mark.timeout(60 + 6 * OUTAGE_S)]


@pytest.fixture
def health(monkeypatch):
    """What is said of the pipeline, more often than else: (measurement, tags, time) -> fields."""
    monkeypatch.setattr(service_room, "HEALTH_S", HEALTH_S)
    monkeypatch.setattr(points_room, "HEALTH_NS", round(HEALTH_S * 1e9))
    made, real = {}, Outbox.put

    def put(self, tx, items):
        items = list(items)
        for one in items:
            if isinstance(one, Points) and one.measurement == "pipeline_health":
                key = (one.measurement, tuple(sorted(one.tags.items())), int(one.time[0]))
                assert key not in made
                made[key] = {name: float(column[0]) for name, column in one.fields.items()}
        return real(self, tx, items)

    monkeypatch.setattr(Outbox, "put", put)
    return made


async def listening(running):
    """Until the source is subscribed: what was published before is not for it."""
    await until(
        lambda: [one.state.is_open for one in running.service.supervisors.values()] == [True]
    )


@contextlib.asynccontextmanager
async def away(outage):
    """The time of an outage, begun and ended by the pair."""
    begin, end = outage
    await asyncio.to_thread(begin)
    await asyncio.sleep(OUTAGE_S)
    yield
    await asyncio.to_thread(end)


async def test_a_database_that_was_away_has_every_point_of_the_store(tmp_path, health):
    with mosquitto(tmp_path) as broker, database(tmp_path) as (influx, shim):
        made = living.plant(tmp_path / "plant", broker)
        made.settings["state"] = {"channel_score_s": 0.0}
        made.settings["sinks"]["db"] = {
            "type": "influxdb",
            "url": shim.url,
            "bucket": "plant",
            "token_file": token(tmp_path),
            "timeout_s": 1.0,
        }
        outages = {
            "killed": (lambda: influx.stop(signal.SIGKILL), influx.start),
            "frozen": (influx.freeze, influx.thaw),
            "out of reach": (shim.stop, shim.start),
        }
        async with plants.serving(made.save()) as running:
            await listening(running)
            outbox = Outbox(running.database)
            with living.machines(broker, made) as machines:
                await until(lambda: influx.query("SHOW SERIES", "plant"))
                for name, outage in outages.items():
                    async with away(outage):
                        await until(lambda: [*running.service.deliveries][1].reason)
                        waits = outbox.backlog("db").items
                        assert waits
                    back = time.monotonic()
                    await until(lambda: not outbox.backlog("db").items, limit_s=BACK_S)
                    took_s = time.monotonic() - back
                    logger.info("%s: %d items waited, gone after %.1f s", name, waits, took_s)
                sent = await asyncio.to_thread(machines.stop)
            await until(lambda: running.status["samples_received"] == sent)
            ended = await running.stop()
        contents = influx.contents("plant")
    summary = plants.outcome(made.data).summary
    assert summary["samples_stored"] == sent
    assert ended.undelivered == {"inbox": 0, "db": 0}
    assert summary["dead_letters"] == 0
    assert summary["dropped"] == {"inbox": 0, "db": 0}
    expected = kept(made.data) | health
    assert kinds(contents) == kinds(expected)
    assert contents == expected
    assert kinds(expected)["asset_score"] >= sent / len(plants.CHANNELS) - 3 * 10
    assert kinds(expected)["alarm_event"] > 5
    assert kinds(expected)["pipeline_health"] > 3 * OUTAGE_S


async def test_what_a_database_acknowledged_outlives_a_kill(tmp_path):
    minutes = np.arange(50) * 60_000_000_000
    with database(tmp_path) as (influx, shim):
        given = {"url": shim.url, "bucket": "plant", "token_file": token(tmp_path)}
        sink = Sink("db", WritingSettings.model_validate({"type": "influxdb", **given}))
        await sink.open()
        try:
            for minute in minutes:
                point = {"measurement": "m", "tags": {}, "fields": {"x": np.ones(1)}}
                await sink.deliver([Points(time=np.array([minute]), **point)])
            influx.stop(signal.SIGKILL)
        finally:
            await sink.close()
        influx.start()
        assert influx.contents("plant") == {("m", (), int(at)): {"x": 1.0} for at in minutes}


def by_alarm(named):
    """The ids of each alarm in the order in which they were first seen."""
    found = defaultdict(dict)
    for alarm, name in named:
        found[alarm][name] = None
    return {alarm: list(names) for alarm, names in found.items()}


async def test_a_receiver_that_was_away_gets_every_message_of_each_alarm_in_order(tmp_path):
    key = base64.b64encode(b"a key for tests, of 32 bytes !!!").decode()
    (tmp_path / "secret").write_text(f"whsec_{key}")
    with mosquitto(tmp_path) as broker, receiving() as receiver:
        made = living.plant(tmp_path / "plant", broker)
        made.settings["sinks"]["hook"] = {
            "type": "webhook",
            "url": receiver.url,
            "secret_file": str(tmp_path / "secret"),
            "timeout_s": 1.0,
        }

        def answers(answer):
            return lambda: setattr(receiver, "usual", lambda _: answer)

        outages = {
            "refuses connections": (receiver.stop, receiver.start),
            "hangs": (answers(SAY_NOTHING), answers(Answer(204))),
        }
        async with plants.serving(made.save()) as running:
            await listening(running)
            outbox = Outbox(running.database)
            with living.machines(broker, made) as machines:
                for name, outage in outages.items():
                    taken = len(receiver.taken)
                    await until(lambda taken=taken: len(receiver.taken) > taken)
                    async with away(outage):
                        await until(lambda: outbox.backlog("hook").items)
                        await until(lambda: [*running.service.deliveries][1].reason)
                    back = time.monotonic()
                    await until(lambda: not outbox.backlog("hook").items, limit_s=BACK_S)
                    logger.info(
                        "%s: everything delivered %.1f s after", name, time.monotonic() - back
                    )
                await asyncio.to_thread(machines.stop)
            ended = await running.stop()
    assert ended.undelivered == {"inbox": 0, "hook": 0}
    with DatabaseReader(made.data) as reader:
        said = [message(one, site="works") for one in Store(reader).alarm_events()]
        assert Outbox(reader).dead_letters() == []
    assert len(said) > 8
    events = [Webhook(key).verify(one.body, one.headers) for one in receiver.got]
    assert [one.headers["webhook-id"] for one in receiver.got] == [one["id"] for one in events]
    assert len(events) > len(said), "what was not answered came again"
    taken = [json.loads(one.body) for one in receiver.taken]
    expected = by_alarm((one.subject, one.id) for one in said)
    assert by_alarm((one["subject"], one["id"]) for one in taken) == expected
    assert by_alarm((one["subject"], one["id"]) for one in events) == expected

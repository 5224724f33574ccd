"""The MQTT sink against a real broker."""

import asyncio
import contextlib
import gc
import json
import signal

import numpy as np
import pytest
from support.brokers import Recorder, mosquitto
from support.plants import until
from support.servers import HERE

from connectors.contract import NotReadyError, RefusedError
from connectors.mqtt import Sink
from connectors.mqtt.settings import WritingSettings
from connectors.points import Message, Points

pytestmark = [pytest.mark.broker, pytest.mark.timeout(60)]
T0 = 1_704_067_200_000_000_000


def sink(broker, **given):
    settings = {
        "type": "mqtt",
        "host": HERE,
        "port": broker.port,
        "client_id": "out",
        "site": "plant",
    }
    return Sink("s", WritingSettings.model_validate(settings | given))


def scores(asset, *surprises, start=0, valid=1.0, measurement="asset_score"):
    count = len(surprises)
    fields = {"threshold": 4.0, "raw": 1.0, "coverage": 1.0, "state": 0.0, "valid": valid}
    return Points(
        measurement=measurement,
        tags={"site": "plant", "asset": asset},
        time=np.array([T0 + (start + n) * 10**9 for n in range(count)], np.int64),
        fields={"surprise": np.array(surprises, np.float64)}
        | {name: np.full(count, value) for name, value in fields.items()},
    )


def alarm(n, asset="pump"):
    body = {"asset": asset, "reason": "strange"}
    return Message(id=f"m{n}", subject="a", type="alarm.raised", time=T0, body=body)


@contextlib.contextmanager
def recorded(broker):
    one = Recorder(broker, "watchkeeper/#")
    try:
        yield one
    finally:
        one.disconnect()


@contextlib.asynccontextmanager
async def opened(one):
    await one.open()
    try:
        yield one
    finally:
        await one.close()


async def test_the_newest_state_of_each_asset_and_each_alarm_are_published(tmp_path):
    with mosquitto(tmp_path) as broker, recorded(broker) as got:
        async with opened(sink(broker)) as one:
            await one.deliver(
                [
                    scores("pump", 1.0, 2.0),
                    alarm(1),
                    scores("pump", 3.0, start=5),
                    scores("fan", 9.0, valid=0.0),
                    scores("pump", 7.0, measurement="channel_score"),
                    alarm(2),
                ]
            )
            await one.deliver([scores("pump", 8.0)])  # older than what is there
            messages = await asyncio.to_thread(got.all)
        told = [(topic, json.loads(payload)) for topic, payload, _ in messages]
        assert [topic for topic, _ in told] == [
            "watchkeeper/plant/status",
            "watchkeeper/plant/pump/alarm",
            "watchkeeper/plant/pump/alarm",
            "watchkeeper/plant/pump/state",
            "watchkeeper/plant/fan/state",
        ]
        assert told[1][1] == {
            "id": "m1",
            "subject": "a",
            "type": "alarm.raised",
            "time": "2024-01-01T00:00:00.000Z",
            "time_ms": T0 // 10**6,
            "body": {"asset": "pump", "reason": "strange"},
        }
        assert told[3][1] == {
            "asset": "pump",
            "time": "2024-01-01T00:00:05.000Z",
            "time_ms": T0 // 10**6 + 5000,
            "state": "ok",
            "valid": True,
            "surprise": 3.0,
            "threshold": 4.0,
            "coverage": 1.0,
        }
        assert told[4][1]["surprise"] is None


async def test_states_are_kept_by_the_broker_and_alarms_are_not(tmp_path):
    with mosquitto(tmp_path) as broker:
        async with opened(sink(broker)) as one:
            await one.deliver([scores("pump", 1.0), alarm(1)])
            with recorded(broker) as late:
                await asyncio.to_thread(late.until, lambda messages: len(messages) == 2)
                kept = {topic: retained for topic, _, retained in await asyncio.to_thread(late.all)}
        assert kept == {"watchkeeper/plant/status": True, "watchkeeper/plant/pump/state": True}


def online(messages):
    return [json.loads(payload)["online"] for topic, payload, _ in messages if "status" in topic]


async def test_the_status_says_when_we_are_here_and_when_we_went(tmp_path):
    with mosquitto(tmp_path) as broker, recorded(broker) as got:
        async with opened(sink(broker, heartbeat_s=0.05)):
            await asyncio.to_thread(got.until, lambda messages: online(messages)[:3] == [True] * 3)
        await asyncio.to_thread(got.until, lambda messages: online(messages)[-1] is False)


async def test_the_broker_says_that_we_are_gone_when_we_cannot(tmp_path):
    with mosquitto(tmp_path) as broker, recorded(broker) as got:
        one = sink(broker, keepalive_s=2)
        async with opened(one):
            one._link._pump._wire._socket.shutdown(2)
            await asyncio.to_thread(got.until, lambda messages: online(messages) == [True, False])


async def test_a_goodbye_that_nobody_answers_is_no_error(tmp_path, caplog):
    with mosquitto(tmp_path) as broker:
        async with opened(sink(broker)):
            broker.freeze()
        broker.thaw()
    gc.collect()
    await asyncio.sleep(0)
    assert [record.getMessage() for record in caplog.records] == []


async def test_an_item_that_is_no_topic_is_refused_and_the_others_are_taken(tmp_path):
    with mosquitto(tmp_path) as broker, recorded(broker) as got:
        async with opened(sink(broker)) as one:
            with pytest.raises(RefusedError) as error:
                await one.deliver([alarm(1), alarm(2, asset="a/#"), scores("a+", 1.0), alarm(3)])
            assert error.value.items == (1, 2)
        ids = [json.loads(p)["id"] for t, p, _ in await asyncio.to_thread(got.all) if "alarm" in t]
        assert ids == ["m1", "m3"]


@pytest.mark.parametrize("state", [4.0, -1.0, 0.5])
async def test_a_state_that_there_is_not_is_refused_and_the_others_are_taken(state, tmp_path):
    odd = scores("pump", 1.0)
    odd.fields["state"][:] = state
    with mosquitto(tmp_path) as broker, recorded(broker) as got:
        async with opened(sink(broker)) as one:
            with pytest.raises(RefusedError) as error:
                await one.deliver([odd, alarm(1), alarm(2, asset="\ud800"), scores("fan", 1.0)])
            assert error.value.items == (0, 2)
            topics = [topic for topic, _, _ in await asyncio.to_thread(got.all)]
        assert topics[1:] == ["watchkeeper/plant/pump/alarm", "watchkeeper/plant/fan/state"]


async def test_what_the_broker_does_not_confirm_is_not_delivered(tmp_path):
    with mosquitto(tmp_path) as broker:
        async with opened(sink(broker, timeout_s=0.3)) as one:
            broker.freeze()
            with pytest.raises(NotReadyError, match="did not confirm"):
                await one.deliver([alarm(1)])
            async with asyncio.timeout(1):
                await one.close()
            broker.thaw()
        async with opened(sink(broker)) as one:
            broker.stop(signal.SIGKILL)
            with pytest.raises(NotReadyError):
                await one.deliver([alarm(1)])


async def test_a_delivery_of_nothing_to_publish_finds_a_link_that_is_gone(tmp_path):
    health = scores("pump", 1.0, measurement="pipeline_health")  # all there is while sources rest
    with mosquitto(tmp_path) as broker, recorded(broker) as got:
        one = sink(broker)
        async with opened(one):
            await one.deliver([health])
            one._link._pump._wire._socket.shutdown(2)
            await asyncio.to_thread(got.until, lambda messages: online(messages) == [True, False])
            await until(lambda: not one._link.is_open)
            with pytest.raises(NotReadyError):
                await one.deliver([health])


async def test_what_we_may_not_write_may_be_mended(tmp_path):
    access = ["topic write watchkeeper/plant/status"]
    with mosquitto(tmp_path, access=access) as broker:
        async with opened(sink(broker)) as one:
            with pytest.raises(NotReadyError, match="pump/alarm"):
                await one.deliver([alarm(1)])

"""The demo's servers: what arrives from them is what their ledger says, to the sample."""

import asyncio
import base64
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from asyncua import Client as OpcUaClient
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from monitor.site import replay
from monitor.site.demo import MOSQUITTO, _free_ports
from monitor.site.problems import PlantError
from monitor.site.replay import NAMESPACE, Part, Playing, Unit

FAST, SLOW = "accel", "temp"
STROKE_MS, PERIOD_MS = 250, 1000
PICTURE = b"a picture, as far as anybody here is concerned"


def recording(path: Path, strokes=3):
    """Strokes of 250 ms, half a minute apart: one fast tag, and a slow one every 10 ms."""
    time = np.concatenate([30_000 * n + np.arange(STROKE_MS) for n in range(strokes)])
    slow = [float(ms) if ms % 10 == 0 else None for ms in time.tolist()]
    columns = {
        "time": pa.array(time).cast(pa.timestamp("ms", tz="UTC")),
        FAST: pa.array((time % 977).astype(np.uint16)),
        SLOW: pa.array(slow, pa.float64()),
    }
    pq.write_table(pa.table(columns), path)


@pytest.fixture
def playing(tmp_path):
    recording(tmp_path / "unit.parquet")
    (tmp_path / "sent").mkdir()
    (tmp_path / "7.png").write_bytes(PICTURE)
    opcua_port, mqtt_port = _free_ports(2)
    unit = Unit(
        name="unit",
        recording=str(tmp_path / "unit.parquet"),
        strokes=(1, 3),
        over_mqtt=(FAST,),
        over_opcua=(SLOW,),
        pictures=[(1, str(tmp_path / "7.png"))],
    )
    return Playing(
        units=(unit,),
        opcua_port=opcua_port,
        mqtt_port=mqtt_port,
        ledger=str(tmp_path / "sent"),
        period_ms=PERIOD_MS,
        mosquitto=None,
    )


def ledger(playing):
    table = pq.read_table(Path(playing.ledger) / "unit.parquet")
    time = table["time"].cast(pa.int64()).to_pylist()
    return {
        tag: {
            ms: value
            for ms, value in zip(time, table[tag].to_pylist(), strict=True)
            if value is not None
        }
        for tag in (FAST, SLOW)
    }


def test_a_plan_reads_back_as_it_was_written(playing, tmp_path):
    playing.write(tmp_path / "plan.json")
    again = Playing.read(tmp_path / "plan.json")
    assert again.mqtt_port == playing.mqtt_port
    assert list(again.units[0].strokes) == [1, 3]


def test_the_strokes_asked_for_go_out_one_a_period_and_nothing_between(playing):
    part = Part(playing.units[0], playing, start_ms=5_000_000)
    sent = ledger(playing)
    assert part.begins_ms == [5_000_000, 5_001_000]
    assert sorted(sent[FAST]) == [begin + ms for begin in part.begins_ms for ms in range(STROKE_MS)]
    assert part.count == sum(map(len, sent.values()))
    recorded = pq.read_table(playing.units[0].recording)[FAST].to_pylist()
    assert [sent[FAST][ms] for ms in sorted(sent[FAST])] == recorded[STROKE_MS:]


def test_blocks_hold_the_fast_tag_whole_and_end_with_each_stroke(playing):
    part = Part(playing.units[0], playing, start_ms=5_000_000)
    blocks = list(part.blocks())
    assert [len(block.samples) for block in blocks] == [100, 100, 50] * 2
    assert all(block.due_ms == block.stamp_ms + len(block.samples) - 1 for block in blocks)
    assert sum(len(block.samples) for block in blocks) == 2 * STROKE_MS


def test_a_picture_goes_out_within_its_stroke(playing):
    part = Part(playing.units[0], playing, start_ms=5_000_000)
    (shot,) = part.shots()
    assert shot.due_ms == part.begins_ms[1] + replay.INTO_STROKE_MS
    assert shot.payload() == PICTURE


def test_strokes_longer_than_the_period_are_refused(playing):
    short = replace(playing, period_ms=STROKE_MS - 1)
    with pytest.raises(ValueError, match="longer than 249 ms"):
        Part(short.units[0], short, start_ms=0)


@pytest.mark.broker
@pytest.mark.timeout(60)
@pytest.mark.parametrize("broker", ["embedded", "mosquitto"])
async def test_what_clients_get_is_what_the_ledger_says(playing, tmp_path, broker):
    if broker == "mosquitto":
        path = shutil.which("mosquitto") or shutil.which(MOSQUITTO)
        assert path is not None, "no mosquitto here: run `make servers` as root"
        playing = replace(playing, mosquitto=path)
    got, pictures = {FAST: {}, SLOW: {}}, []

    class Changes:
        def datachange_notification(self, _node, value, data):
            stamp = data.monitored_item.Value.SourceTimestamp
            if value is not None:
                got[SLOW][round(stamp.timestamp() * 1000)] = value

    def on_message(_client, _data, message):
        if message.topic == replay.camera("unit"):
            pictures.append(message.payload)
            return
        event = json.loads(message.payload)
        samples = np.frombuffer(base64.b64decode(event["block"]), "<f4")
        got[FAST].update(
            {event["ts"] + n: float(value) for n, value in enumerate(samples.tolist())}
        )

    async with replay.process(playing, tmp_path) as servers:
        listener = Client(CallbackAPIVersion.VERSION2)
        listener.on_message = on_message
        listener.connect("127.0.0.1", playing.mqtt_port)
        listener.subscribe("demo/#", qos=1)
        listener.loop_start()
        async with OpcUaClient(f"opc.tcp://127.0.0.1:{playing.opcua_port}") as client:
            index = await client.get_namespace_index(NAMESPACE)
            subscription = await client.create_subscription(50, Changes())
            node = client.get_node(f"ns={index};s=unit.{SLOW}")
            await subscription.subscribe_data_change(node, queuesize=1000)
            said = await servers.play()
            await servers.heard("played")
            sent = ledger(playing)
            async with asyncio.timeout(20):
                while sum(map(len, got.values())) < said["count"] or not pictures:  # noqa: ASYNC110 - a thread fills it
                    await asyncio.sleep(0.02)
            await subscription.delete()
        listener.disconnect()
        listener.loop_stop()
    assert got == sent
    assert pictures == [PICTURE] * said["pictures"] == [PICTURE]


@pytest.mark.broker
@pytest.mark.timeout(60)
async def test_servers_that_cannot_start_say_where_to_look(playing, tmp_path):
    taken = replace(playing, mosquitto="/nowhere/mosquitto")
    with pytest.raises(PlantError, match=r"servers\.log"):
        async with replay.process(taken, tmp_path):
            pass
    assert "nowhere" in (tmp_path / "servers.log").read_text()

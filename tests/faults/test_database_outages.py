"""The database is killed, and frozen, while results go into it: in the end it has every point."""

import asyncio
import time

import numpy as np
import pytest
from support import living, plants
from support.brokers import mosquitto
from support.delivered import database, kept, kinds, token
from support.outages import Felt, add, freezes, kills, reading
from support.outcomes import scaled
from support.plants import until

pytestmark = [pytest.mark.broker, pytest.mark.slow]

ROUNDS = scaled(short=1, full=4)
KILLS = scaled(short=1, full=5)  # in one service
FREEZES_S = (3, 12, 60)
BACK_S = 90.0  # a sink is tried each 30 s at the latest


async def suffer(running, delivery, outage):
    """Go through an outage; until what waited is delivered."""
    await asyncio.sleep(outage.after_s)
    began, detected = time.monotonic(), None
    await asyncio.to_thread(outage.begin)
    while (since := time.monotonic() - began) < outage.lasts_s:
        if detected is None and delivery.reason:
            detected = since
        await asyncio.sleep(0.01)
    await asyncio.to_thread(outage.end)
    back, lags = time.monotonic(), delivery.reason
    await until(lambda: not delivery.reason, limit_s=BACK_S)
    recovered = time.monotonic() - back if lags else 0.0
    await until(delivery.idle.is_set, limit_s=BACK_S)
    assert not running.task.done()
    return Felt(detected, recovered)


async def put_through(folder, outages, figures, tell):
    """Run a service while all this happens to its database; ``outages``: made of the database."""
    with mosquitto(folder) as broker, database(folder) as (influx, shim):
        made = living.plant(folder / "plant", broker)
        made.settings["state"] = {"channel_score_s": 0.0}
        made.settings["sinks"]["db"] = {
            "type": "influxdb",
            "url": shim.url,
            "bucket": "plant",
            "token_file": token(folder),
            "timeout_s": 1.0,
        }
        async with plants.serving(made.save()) as running:
            await until(lambda: running.service.supervisors["rig"].source.status()["connected"])
            with living.machines(broker, made) as machines:
                await reading(running, "rig")
                await until(lambda: influx.query("SHOW SERIES", "plant"))
                for outage in outages(influx):
                    felt = await suffer(running, [*running.service.deliveries][1], outage)
                    add(figures, felt)
                    tell(f"noticed {felt.detected_s}, back after {felt.recovered_s:.2f} s")
                sent = await asyncio.to_thread(machines.stop)
            await until(lambda: running.status["samples_received"] == sent)
            ended = await running.stop()
        contents = influx.contents("plant")
    summary = plants.outcome(made.data).summary
    expected = kept(made.data)
    contents = {key: fields for key, fields in contents.items() if key[0] != "pipeline_health"}
    assert summary["samples_conserved"]
    assert summary["samples_stored"] + summary["samples_late"] == sent
    assert ended.undelivered == {"inbox": 0, "db": 0}
    assert summary["dead_letters"] == 0
    assert summary["dropped"] == {"inbox": 0, "db": 0}
    assert contents.keys() >= expected.keys()
    assert {key: contents[key] for key in expected} == expected
    assert kinds(expected)["asset_score"] > 0
    figures |= {
        "sent": sent,
        "received": summary["samples_received"],
        "stored": summary["samples_stored"],
        "duplicate": summary["samples_duplicated"],
        "late": summary["samples_late"],
        "in_gaps": 0,
        "points": len(expected),
    }


@pytest.mark.fault("influxdb_killed")
@pytest.mark.timeout(60 + 60 * KILLS)
@pytest.mark.parametrize("number", range(ROUNDS))
async def test_a_database_that_is_killed_has_every_point_in_the_end(
    number, tmp_path, figures, tell
):
    chance = np.random.default_rng(number)
    await put_through(tmp_path, lambda influx: kills(influx, chance, KILLS), figures, tell)


@pytest.mark.fault("influxdb_frozen")
@pytest.mark.timeout(240 + 4 * max(FREEZES_S))
@pytest.mark.parametrize("seconds", scaled(short=(), full=FREEZES_S))
async def test_a_database_that_freezes_twice_in_a_row_has_every_point_in_the_end(
    seconds, tmp_path, figures, tell
):
    await put_through(tmp_path, lambda influx: freezes(influx, seconds), figures, tell)

"""The broker is killed, and frozen, while machines publish: what it handed over is stored.

A mosquitto that is killed forgets what came after its last autosave, so the wire is recorded
between it and the service: all that went over it must be stored, and what did not is the broker's
loss, and counted as such.
"""

import asyncio
import json

import numpy as np
import pytest
import yaml
from support import handing, plants
from support.brokers import mosquitto
from support.outages import add, balance, frozen, killed, reading, suffer
from support.outcomes import scaled
from support.plants import Plant, until
from support.relay import Relay
from support.servers import HERE
from support.simulators import simulator

from connectors.batch import Samples
from monitor.site.simulate.compare import Sent, compare_folder
from monitor.site.simulate.ledger import Ledger
from monitor.site.simulate.plan import Simulation
from monitor.state.database import DatabaseReader
from monitor.state.journal import Journal
from monitor.state.names import Family, Names

pytestmark = [pytest.mark.broker, pytest.mark.slow]

ROUNDS = scaled(short=1, full=4)
KILLS = scaled(short=2, full=5)  # in one service
FREEZES_S = scaled(short=(3,), full=(3, 12, 60))
MS = 1_000_000


def watching(sent, *, port):
    """The plant that watches a simulation, through a relay, with a short temper."""
    settings = yaml.safe_load(sent.plant.read_text(encoding="utf-8"))
    settings["sources"]["broker"] |= {"port": port, "keepalive_s": 2, "timeout_s": 1.0}
    return Plant(sent.folder, settings).save()


def handed_over(said):
    """Tag, time and value of all that went over the wire."""
    return {
        (f"{topic.partition('/')[2]}/{channel}", row["ts"] * MS, value)
        for topic, payload in handing.published(said)
        for row in [json.loads(payload)]
        for channel, value in row.items()
        if channel != "ts"
    }


def journaled(folder):
    """Tag, time and value of all that is in the journal."""
    with DatabaseReader(folder) as database:
        names = Names(database).of(Family.TAG)
        return {
            (names[tag], at, value)
            for _, record in Journal(database).read(0)
            if isinstance(record.body, Samples)
            for tag, at, value in zip(
                record.body.tag.tolist(),
                record.body.time.tolist(),
                record.body.value.tolist(),
                strict=True,
            )
        }


async def put_through(folder, outages, figures, tell):
    """Run a service while all this happens to its broker; ``outages``: made of the broker."""
    with mosquitto(folder) as broker:
        relay = Relay(broker.port, keep=True)
        simulation = Simulation.of(
            seed=1, assets=3, channels=3, periods_ms=[50], mqtt=(HERE, broker.port)
        )
        with simulator(folder / "plant", simulation) as sent:
            made = watching(sent, port=relay.port)
            async with plants.serving(made) as running:
                source = await reading(running, "broker")
                for outage in outages(broker):
                    felt = await suffer(running, source, outage)
                    add(figures, felt)
                    tell(f"noticed {felt.detected_s}, back after {felt.recovered_s:.2f} s")
                await asyncio.to_thread(sent.stop)
                last = last_sent(sent.folder)
                await until(lambda: newest(made.data) >= last, limit_s=30)
        relay.cut()
    over, stored = handed_over(relay.said), journaled(made.data)
    assert over <= stored, "the broker handed something over that is not stored"
    lost, _ = compare_folder(made.folder)
    return balance(made.folder, "broker", figures, lost_by_peer=lost.lost)


def last_sent(folder):
    """The instant of the last tick that the broker has acknowledged."""
    ledger = Ledger(folder)
    (ticks,), (has,) = Sent.of(ledger).ticks, Sent.of(ledger).acknowledged
    ledger.close()
    return int(ticks[has.all(axis=1)][-1]) * 50 * MS


def newest(folder):
    """The instant of the newest sample in the journal."""
    return max(at for _, at, _ in journaled(folder))


@pytest.mark.fault("mosquitto_killed")
@pytest.mark.timeout(60 + 30 * KILLS)
@pytest.mark.parametrize("number", range(ROUNDS))
async def test_what_a_killed_broker_handed_over_is_stored(number, tmp_path, figures, tell):
    chance = np.random.default_rng(number)

    def kills(broker):
        return (killed(broker, chance) for _ in range(KILLS))

    await put_through(tmp_path, kills, figures, tell)


@pytest.mark.fault("mosquitto_frozen")
@pytest.mark.timeout(120 + 4 * max(FREEZES_S))
@pytest.mark.parametrize("seconds", FREEZES_S)
async def test_a_broker_that_freezes_twice_in_a_row_loses_nothing(seconds, tmp_path, figures, tell):
    def freezes(broker):
        return (frozen(broker, lasts_s=seconds) for _ in range(2))

    found = await put_through(tmp_path, freezes, figures, tell)
    assert not found.lost
    assert not found.in_gaps

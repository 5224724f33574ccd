"""The broker is killed, and frozen, while machines publish: what it handed over is stored.

A mosquitto that is killed forgets what came after its last autosave, so the wire is recorded
between it and the service: all that went over it must be stored, and what did not is the broker's
loss, and counted as such.
"""

import asyncio

import numpy as np
import pytest
from support import handing, living, plants
from support.brokers import mosquitto
from support.ledger import Account, Journaled
from support.outages import add, frozen, killed, reading, suffer
from support.outcomes import scaled
from support.plants import until
from support.relay import Relay
from support.sending import Publisher, newest

pytestmark = [pytest.mark.broker, pytest.mark.slow]

ROUNDS = scaled(short=1, full=4)
KILLS = scaled(short=2, full=5)  # in one service
FREEZES_S = scaled(short=(3,), full=(3, 12, 60))
ROWS_A_SECOND = 20


async def put_through(folder, outages, figures, tell):
    """Run a service while all this happens to its broker; ``outages``: made of the broker."""
    with mosquitto(folder) as broker:
        relay = Relay(broker.port, keep=True)
        made = living.plant(folder / "plant", broker, keepalive_s=2, timeout_s=1.0)
        made.settings["sources"]["rig"]["port"] = relay.port
        for name, asset in made.settings["assets"].items():
            asset["address"] = f"{name}#{{tag}}"
        async with plants.serving(made.save()) as running:
            source = await reading(running, "rig")
            with Publisher(broker, made.assets, rows_a_second=ROWS_A_SECOND) as publisher:
                await until(lambda: source.sampled)
                for outage in outages(broker):
                    felt = await suffer(running, source, outage)
                    add(figures, felt)
                    tell(f"noticed {felt.detected_s}, back after {felt.recovered_s:.2f} s")
                sent = await asyncio.to_thread(publisher.stop)
            last = newest(sent)
            await until(lambda: last <= set(Journaled.of(made.data, "rig").samples), limit_s=30)
        relay.cut()
    account = Account.of(
        sent, Journaled.of(made.data, "rig"), handed_over=handing.samples(relay.said)
    )
    account.check()
    figures |= account.figures()
    return account


@pytest.mark.fault("mosquitto_killed")
@pytest.mark.timeout(60 + 30 * KILLS)
@pytest.mark.parametrize("number", range(ROUNDS))
async def test_what_a_killed_broker_handed_over_is_stored(number, tmp_path, figures, tell):
    chance = np.random.default_rng(number)

    def kills(broker):
        for _ in range(KILLS):
            yield killed(broker, chance)

    account = await put_through(tmp_path, kills, figures, tell)
    assert len(account.lost_by_peer) < len(account.sent) / 2


@pytest.mark.fault("mosquitto_frozen")
@pytest.mark.timeout(120 + 4 * max(FREEZES_S))
@pytest.mark.parametrize("seconds", FREEZES_S)
async def test_a_broker_that_freezes_twice_in_a_row_loses_nothing(seconds, tmp_path, figures, tell):
    def freezes(broker):
        yield frozen(broker, lasts_s=seconds)
        yield frozen(broker, lasts_s=seconds)

    account = await put_through(tmp_path, freezes, figures, tell)
    assert not account.lost_by_peer
    assert not account.journaled.gaps

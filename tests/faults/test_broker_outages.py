"""The broker is killed, and frozen, while machines publish: what it handed over is stored.

A mosquitto that is killed forgets what came after its last autosave, so the wire is recorded
between it and the service: all that went over it must be stored, and what did not is the broker's
loss, and counted as such.
"""

import json

import numpy as np
import pytest
from support import handing
from support.outages import balance, freezes, kills
from support.outcomes import scaled
from support.trials import MS, Unit, bodies, broker_trial

from connectors.batch import Samples
from monitor.site.simulate.compare import compare_folder
from monitor.state.database import DatabaseReader
from monitor.state.names import Family, Names

pytestmark = [pytest.mark.broker, pytest.mark.slow]

ROUNDS = scaled(short=1, full=4)
KILLS = scaled(short=2, full=5)  # in one service
FREEZES_S = scaled(short=(3,), full=(3, 12, 60))


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
        for one in bodies(folder)
        if isinstance(one, Samples)
        for tag, at, value in zip(
            one.tag.tolist(), one.time.tolist(), one.value.tolist(), strict=True
        )
    }


async def put_through(folder, unit):
    made, relay = await broker_trial(folder, unit, relay=True)
    assert handed_over(relay.said) == journaled(made.data)
    lost, _ = compare_folder(made.folder)
    return balance(made.folder, "broker", unit.figures, lost_by_peer=lost.lost)


@pytest.mark.fault("mosquitto_killed")
@pytest.mark.timeout(60 + 30 * KILLS)
@pytest.mark.parametrize("number", range(ROUNDS))
async def test_what_a_killed_broker_handed_over_is_stored(number, tmp_path, figures, tell):
    chance = np.random.default_rng(number)
    unit = Unit(lambda it: kills(it.server, chance, KILLS), figures, tell)
    await put_through(tmp_path, unit)


@pytest.mark.fault("mosquitto_frozen")
@pytest.mark.timeout(120 + 4 * max(FREEZES_S))
@pytest.mark.parametrize("seconds", FREEZES_S)
async def test_a_broker_that_freezes_twice_in_a_row_loses_nothing(seconds, tmp_path, figures, tell):
    unit = Unit(lambda it: freezes(it.server, seconds), figures, tell)
    found = await put_through(tmp_path, unit)
    assert not found.lost
    assert not found.in_gaps

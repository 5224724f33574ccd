"""What a broker sends again, unacknowledged: stored once, where a time tells."""

import asyncio
import json

import pytest
from support import brokers, living, plants
from support.brokers import mosquitto
from support.plants import START, until

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(60)]

ROWS, VALUES = 5, {"flow": 1.0, "heat": 2.0}
CLOSED = ROWS - 1  # of which the frame is closed: repeats are counted then


async def nobody(_position):
    """Accepts nothing: as one who is killed before each acknowledgement."""


async def life(made, broker, *messages, samples):
    """Take messages until so many samples have come, and acknowledge none."""
    async with plants.serving(made) as running:
        await until(lambda: running.service._intakes)
        source = running.service._intakes[0].source
        source.accepted = nobody
        await until(lambda: source.status()["connected"])
        await asyncio.to_thread(brokers.publish, broker, *messages)
        await until(lambda: running.status["samples_received"] == samples)
        return source.status(), running.status


async def test_a_repeat_is_a_duplicate_where_its_time_tells_and_may_be_one_where_it_has_none(
    tmp_path,
):
    timed = [("m0/telemetry", json.dumps({"ts": START + row, **VALUES})) for row in range(ROWS)]
    timeless = [("m1/telemetry", json.dumps(VALUES))] * ROWS
    samples = 2 * ROWS * len(VALUES)
    with mosquitto(tmp_path) as broker:
        made = living.plant(tmp_path / "plant", broker, assets=2)
        told, first = await life(made, broker, *timed, *timeless, samples=samples)
        assert told["maybe_duplicate_total"] == 0
        assert first["samples_duplicated"] == 0
        told, again = await life(made, broker, samples=2 * samples)
    assert told["maybe_duplicate_total"] == ROWS
    assert again["samples_duplicated"] == CLOSED * len(VALUES)
    assert again["samples_stored"] == 2 * samples - CLOSED * len(VALUES)

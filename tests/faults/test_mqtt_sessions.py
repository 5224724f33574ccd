"""What a broker sends twice is stored once, and what it lost lies in a recorded gap."""

import asyncio
import json
import signal
import time

import numpy as np
import pytest
from support import brokers, living, plants
from support.brokers import mosquitto
from support.plants import SECOND, START, until

from connectors.batch import NoticeKind, Samples
from monitor.state.journal import Journal

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(60)]

ROWS, VALUES = 5, {"flow": 1.0, "heat": 2.0}
CLOSED = ROWS - 1  # of which the frame is closed: repeats are counted then


async def nobody(_position):
    """Accepts nothing: as one who is killed before each acknowledgement."""


async def life(made, broker, *messages, samples):
    """Take messages until so many samples have come, and acknowledge none."""
    async with plants.serving(made) as running:
        await until(lambda: running.service.supervisors)
        source = running.service.supervisors["rig"].source
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


def journaled(running):
    """Rows of m0 that were received, and the gaps that were recorded, ns."""
    bodies = [record.body for _, record in Journal(running.database).read(0)]
    times = [body.time for body in bodies if isinstance(body, Samples)]
    gaps = [(b.since, b.until) for b in bodies if getattr(b, "kind", "") == NoticeKind.GAP]
    return {(time - START * SECOND) // SECOND for time in np.concatenate(times).tolist()}, gaps


async def test_what_a_broker_forgot_was_published_within_a_recorded_gap(tmp_path):
    with mosquitto(tmp_path) as broker:
        made = living.plant(tmp_path / "plant", broker, assets=1)
        async with plants.serving(made) as running:
            await until(lambda: running.service.supervisors)
            source = running.service.supervisors["rig"].source
            await until(lambda: source.status()["connected"])
            published = []  # when each row was, ns: not before, not after

            async def publish():
                row = json.dumps({"ts": START + len(published), **VALUES})
                before = time.time_ns()
                await asyncio.to_thread(brokers.publish, broker, ("m0/telemetry", row))
                published.append((before, time.time_ns()))

            for _ in range(5):
                await publish()
            await until(lambda: running.status["samples_received"] == 5 * len(VALUES))
            broker.stop(signal.SIGKILL)
            (tmp_path / "broker" / "mosquitto.db").unlink(missing_ok=True)
            broker.start()
            await publish()  # it knows nobody who wants it
            while not source.status()["gaps_total"]:
                await publish()
            await publish()
            last = len(published) - 1
            await until(lambda: last in journaled(running)[0])
            (received, gaps), status = journaled(running), running.status
    lost = set(range(len(published))) - received
    assert lost
    assert len(gaps) == 2, "up to where it was noticed, and up to the new session"
    for row in lost:
        before, after = published[row]
        assert any(since < after and before <= until_ for since, until_ in gaps)
    assert status["samples_conserved"]

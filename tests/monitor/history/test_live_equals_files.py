"""What came over OPC UA and MQTT, and the same recording from a file: the same scores and alarms.

Real servers, the real service. What makes them equal, and what does not, is in docs/operate.md.
"""

import asyncio
import time
from dataclasses import dataclass

import pytest
from support import edges, plants
from support.brokers import mosquitto
from support.edges import MS, TICK_MS, Recording
from support.opcua import plc

from monitor.state.database import DatabaseReader
from monitor.state.journal import Journal
from monitor.state.store import Store

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(120)]

ASSETS = ("m0", "m1", "m2")
COUNT = 240  # rows that are compared
TAIL = edges.LATENESS_MS // TICK_MS + 20  # rows after them, so that the last of their frames close
HOLE = range(60, 100)  # rows in which nothing is recorded: longer than gap_ticks
TO_START_MS = 4000  # for the service to be there before the first row
LONG_AGO_MS = 1_700_000_000_000


@dataclass(frozen=True)
class Found:
    """What is stored of the rows that are compared."""

    digest: str
    events: list[tuple[str, str, int]]
    gaps: list[tuple[str, int, int]]
    ticks: set[int]


def found(folder, recording):
    since, until = recording.at(0) - 1, recording.at(COUNT - 1)
    with DatabaseReader(folder) as database:
        store = Store(database)
        return Found(
            store.digest(since, until),
            [
                (event.id, str(event.transition), event.tick)
                for event in store.alarm_events()
                if since < event.tick <= until
            ],
            database.query("SELECT asset, since, until FROM gap ORDER BY asset, since"),
            {tick for block in store.scores(since=since, until=until) for tick in block.tick},
        )


def conserved(summary, *, received):
    assert summary["samples_conserved"]
    assert summary["samples_late"] == 0
    assert summary["samples_received"] == received
    assert summary["samples_stored"] == received


async def compared(tmp_path, *, model, silence, without=(), in_real_time):
    """The recording from the live service, from its journal and from a file."""
    lateness_ms = edges.LATENESS_MS if in_real_time else 0  # samples alone move time: none is late
    made = edges.plant(tmp_path / "live", model=model, lateness_ms=lateness_ms)
    with plc({}) as server, mosquitto(tmp_path) as broker:
        edges.keep_session(broker, ASSETS)
        start = time.time_ns() // MS // TICK_MS * TICK_MS + TO_START_MS
        recording = Recording.of(
            ASSETS, start if in_real_time else LONG_AGO_MS, COUNT + TAIL, without=without
        )
        count = len(ASSETS) * len(recording.rows) * (2 + edges.IN_BLOCK)
        edges.add_nodes(server, recording)
        edges.live(made, server, broker, silence=silence)
        async with plants.serving(made) as serving:
            await plants.until(lambda: "plc" in Journal(serving.database).positions())
            if in_real_time:  # else the server vouches for less than all of it
                assert time.time_ns() < recording.at(0), "too slow a start for TO_START_MS"
            await asyncio.to_thread(
                edges.play, recording, server, broker, in_real_time=in_real_time
            )

            def came():
                newest = [int(rows.tick[0]) for rows in serving.store.latest().values()]
                closed = len(newest) == len(ASSETS) and min(newest) >= recording.at(COUNT - 1)
                return closed and serving.status["samples_received"] >= count

            await plants.until(came)
    live = plants.outcome(made.data)
    again = plants.replay(made)
    assert (again.digest, again.events) == (live.digest, live.events)
    files = plants.backfill(
        edges.filed(
            edges.plant(tmp_path / "files", model=model, lateness_ms=lateness_ms), recording
        )
    )
    for one in (live, again, files):
        conserved(one.summary, received=count)
    return (
        recording,
        found(made.data, recording),
        found(made.data / "backfill", recording),
        found(tmp_path / "files" / "data" / "backfill", recording),
    )


@pytest.mark.parametrize("model", ["gru", "ewma"])
async def test_a_recording_live_over_two_protocols_replayed_and_from_a_file_is_one(model, tmp_path):
    recording, live, again, files = await compared(
        tmp_path, model=model, silence="steady", in_real_time=True
    )
    assert live == again == files
    assert len(files.ticks) == COUNT
    assert {transition for _, transition, _ in live.events} == {"raised", "returned"}
    assert len({alarm for alarm, _, _ in live.events}) >= 3  # by its model and by its limit
    assert live.gaps == []
    assert recording.at(0) in live.ticks


async def test_strokes_with_pauses_are_one_too_where_silence_means_nothing(tmp_path):
    recording, live, again, files = await compared(
        tmp_path,
        model="lstm",
        silence="unknown",
        without=HOLE,
        in_real_time=False,
    )
    assert live == again == files
    pause = recording.at(HOLE.start - 1), recording.at(HOLE.stop)
    assert live.gaps == [(asset, *pause) for asset in ASSETS]
    assert len(live.ticks) == COUNT - len(HOLE)


async def test_a_pause_that_a_server_vouches_for_is_scored_live_and_a_gap_in_a_file(tmp_path):
    recording, live, again, files = await compared(
        tmp_path, model="gru", silence="steady", without=HOLE, in_real_time=True
    )
    assert live == again
    assert live.gaps == []
    assert {recording.at(row) for row in range(COUNT)} == live.ticks
    assert files.ticks == live.ticks - {recording.at(row) for row in HOLE}
    assert len(files.gaps) == len(ASSETS)
    assert live.digest != files.digest  # the model went on through the pause, or began anew

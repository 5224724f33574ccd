"""An OPC UA server is killed, and frozen, while a device writes to it.

asyncua's answers for what was: nothing is lost. node-opcua's here does not: what it had not handed
over is missing, and lies in gaps that claim no more than is missing.
"""

import asyncio

import numpy as np
import pytest
import yaml
from support import opcua, plants
from support.opcua import NodeServer
from support.outages import add, balance, frozen, killed, reading, suffer
from support.outcomes import scaled
from support.plants import Plant, until
from support.sending import Device
from support.servers import free_port, started
from support.simulators import simulator

from connectors.batch import Notice, NoticeKind, Samples, usable
from monitor.site.simulate import watcher
from monitor.site.simulate.ledger import Ledger
from monitor.site.simulate.plan import Simulation
from monitor.state.database import DatabaseReader
from monitor.state.journal import Journal

pytestmark = [pytest.mark.broker, pytest.mark.slow]

ROUNDS = scaled(short=1, full=4)
KILLS = scaled(short=1, full=5)  # in one service
FREEZES_S = scaled(short=(3,), full=(3, 12, 60))
PERIOD_MS = 250  # of node-opcua's device: five times the sampling, which a busy server keeps
SAMPLING_MS = 50


def simulation(period_ms):
    return Simulation.of(
        seed=2,
        assets=2,
        channels=3,
        periods_ms=[period_ms],
        share_opcua=1.0,
        opcua_port=free_port(),
    )


def watching(folder, **source):
    """The plant that watches a simulation, with a short temper."""
    settings = yaml.safe_load((folder / watcher.FILE).read_text(encoding="utf-8"))
    quick = {"keepalive_s": 0.5, "timeout_s": 1.0, "lifetime_s": 60, "retry_s": 0.1}
    settings["sources"]["plc"] |= {**quick, **source}
    return Plant(folder, settings).save()


async def go_through(made, server, outages, *, figures, tell, end):
    """Run a service while all this happens to its server; ``end``: lets the device end."""
    async with plants.serving(made) as running:
        source = await reading(running, "plc")
        for outage in outages(server):
            felt = await suffer(running, source, outage)
            add(figures, felt)
            tell(f"noticed {felt.detected_s}, back after {felt.recovered_s:.2f} s")
        await end(made)
    return balance(made.folder, "plc", figures)


async def with_history(folder, outages, figures, tell):
    """The server answers for what was."""
    with simulator(folder / "plant", simulation(100)) as server:

        async def end(_):
            await asyncio.to_thread(server.stop)  # it lingers until all is fetched

        return await go_through(
            watching(server.folder), server, outages, figures=figures, tell=tell, end=end
        )


async def without_history(folder, outages, figures, tell):
    """What it has not handed over is lost with it."""
    one = simulation(PERIOD_MS)
    plant, home = folder / "plant", folder / "server"
    home.mkdir()
    Ledger.make(plant, one).close()
    watcher.write(one, plant)
    (lane,) = one.lanes
    nodes = [f"{asset}.{channel}" for asset in lane.asset_names for channel in lane.channel_names]
    made = watching(plant, sampling_ms=SAMPLING_MS, publishing_ms=SAMPLING_MS, queue_s=5)
    for asset in made.settings["assets"].values():
        asset["address"] = opcua.address("{asset}.{tag}")
    made.save()
    with (
        started(NodeServer(home, port=one.opcua_port, nodes=nodes)) as server,
        Device(server, plant) as device,
    ):

        async def end(made):
            await asyncio.to_thread(device.stop)
            await until(lambda: newest(made.data) >= device.last, limit_s=30)

        found = await go_through(made, server, outages, figures=figures, tell=tell, end=end)
    return found, made


def bodies(folder):
    """All that is in the journal."""
    with DatabaseReader(folder) as database:
        return [record.body for _, record in Journal(database).read(0)]


def newest(folder):
    """The instant of the newest value in the journal."""
    times = [one.time[usable(one.status)] for one in bodies(folder) if isinstance(one, Samples)]
    return max(int(one.max()) for one in times if len(one))


def overclaimed(folder):
    """What gaps claim although it is stored.

    A subscription begins with what the server shows: of each tag, that may be older than the gap's
    end, and is known all the same.
    """
    found = bodies(folder)
    rows = [
        (tag, at)
        for one in found
        if isinstance(one, Samples)
        for tag, at in zip(
            one.tag[usable(one.status)].tolist(), one.time[usable(one.status)].tolist(), strict=True
        )
    ]
    wrong = []
    for gap in found:
        if isinstance(gap, Notice) and gap.kind is NoticeKind.GAP:
            within = sorted((at, tag) for tag, at in rows if gap.since < at <= gap.until)
            shown = {tag: at for at, tag in within}  # the last of each
            wrong += [(tag, at, gap) for at, tag in within if shown[tag] != at]
    return wrong


def killings(number):
    chance = np.random.default_rng(number)
    return lambda server: (killed(server, chance) for _ in range(KILLS))


def freezes(seconds):
    return lambda server: (frozen(server, lasts_s=seconds) for _ in range(2))


@pytest.mark.fault("asyncua_killed")
@pytest.mark.timeout(60 + 30 * KILLS)
@pytest.mark.parametrize("number", range(ROUNDS))
async def test_a_killed_server_with_a_history_loses_nothing(number, tmp_path, figures, tell):
    found = await with_history(tmp_path, killings(number), figures, tell)
    assert not found.in_gaps


@pytest.mark.fault("node_opcua_killed")
@pytest.mark.timeout(60 + 30 * KILLS)
@pytest.mark.parametrize("number", range(ROUNDS))
async def test_what_a_killed_server_without_history_lost_lies_in_gaps(
    number, tmp_path, figures, tell
):
    found, made = await without_history(tmp_path, killings(number), figures, tell)
    assert found.in_gaps, "nothing was lost: nothing was tested"
    assert overclaimed(made.data) == []


@pytest.mark.fault("asyncua_frozen")
@pytest.mark.timeout(120 + 4 * max(FREEZES_S))
@pytest.mark.parametrize("seconds", FREEZES_S)
async def test_a_server_with_a_history_that_freezes_twice_in_a_row_loses_nothing(
    seconds, tmp_path, figures, tell
):
    found = await with_history(tmp_path, freezes(seconds), figures, tell)
    assert not found.in_gaps


@pytest.mark.fault("node_opcua_frozen")
@pytest.mark.timeout(120 + 4 * max(FREEZES_S))
@pytest.mark.parametrize("seconds", FREEZES_S)
async def test_a_server_that_freezes_twice_in_a_row_hands_over_what_it_held(
    seconds, tmp_path, figures, tell
):
    found, _ = await without_history(tmp_path, freezes(seconds), figures, tell)
    assert not found.in_gaps

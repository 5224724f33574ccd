"""An OPC UA server is killed, and frozen, while a device writes to it.

One has a history on its disk: nothing is lost. The other has none: what it had not handed over is
missing, and lies in gaps that claim no more than is missing.
"""

import asyncio

import numpy as np
import pytest
from support import opcua, plants
from support.ledger import Account, Journaled
from support.opcua import HistoryServer, NodeServer
from support.outages import add, frozen, killed, reading, suffer
from support.outcomes import scaled
from support.plants import CHANNELS, until
from support.sending import Device, newest
from support.servers import started

pytestmark = [pytest.mark.broker, pytest.mark.slow]

ROUNDS = scaled(short=1, full=4)
KILLS = scaled(short=1, full=5)  # in one service
FREEZES_S = scaled(short=(3,), full=(3, 12, 60))
SAMPLING_MS = 50
ROWS_A_SECOND = 4  # five times the sampling, so that a busy server looks at each value
FILLS = "fill_wait_s" in opcua.Source.Settings.model_fields
history = pytest.mark.skipif(not FILLS, reason="nobody reads the server's history yet")
NODES = {channel: f"m0.{channel}" for channel in CHANNELS}


def with_history(folder):
    return HistoryServer(folder, nodes=[*NODES.values()])


def without_history(folder):
    return NodeServer(folder, nodes=[*NODES.values()])


def plant(folder, server):
    """A machine of three nodes."""
    made = plants.plant(folder, model=None)
    made.settings["sources"] = {
        "plc": {
            **opcua.QUICK,
            "url": f"opc.tcp://127.0.0.1:{server.port}",
            "sampling_ms": SAMPLING_MS,
            "every_sample": True,
        }
    }
    made.settings["kinds"]["pump"] |= {"tick_ms": 200, "lateness_ms": 200}
    tags = {channel: opcua.address(node) for channel, node in NODES.items()}
    made.settings["assets"] = {"m0": {"kind": "pump", "source": "plc", "tags": tags}}
    return made.save()


async def put_through(folder, make, outages, figures, tell):
    """Run a service while all this happens to its server; ``outages``: made of the server."""
    home = folder / "server"
    home.mkdir()
    with started(make(home)) as server:
        made = plant(folder / "plant", server)
        async with plants.serving(made) as running:
            source = await reading(running, "plc")
            with Device(server, "m0", NODES, rows_a_second=ROWS_A_SECOND) as device:
                await until(lambda: source.sampled)
                for outage in outages(server):
                    felt = await suffer(running, source, outage)
                    add(figures, felt)
                    tell(f"noticed {felt.detected_s}, back after {felt.recovered_s:.2f} s")
                sent = await asyncio.to_thread(device.stop)
            last = newest(sent)
            await until(lambda: last <= set(Journaled.of(made.data, "plc").samples), limit_s=30)
    account = Account.of(sent, Journaled.of(made.data, "plc"), maybe=device.maybe, unasked=(0.0,))
    account.check()
    figures |= account.figures()
    return account


def killings(number):
    chance = np.random.default_rng(number)
    return lambda server: (killed(server, chance) for _ in range(KILLS))


def freezes(seconds):
    return lambda server: (frozen(server, lasts_s=seconds) for _ in range(2))


@history
@pytest.mark.fault("asyncua_killed")
@pytest.mark.timeout(60 + 30 * KILLS)
@pytest.mark.parametrize("number", range(ROUNDS))
async def test_a_killed_server_with_a_history_loses_nothing(number, tmp_path, figures, tell):
    account = await put_through(tmp_path, with_history, killings(number), figures, tell)
    assert not account.in_gaps


@pytest.mark.fault("node_opcua_killed")
@pytest.mark.timeout(60 + 30 * KILLS)
@pytest.mark.parametrize("number", range(ROUNDS))
async def test_what_a_killed_server_without_history_lost_lies_in_gaps(
    number, tmp_path, figures, tell
):
    account = await put_through(tmp_path, without_history, killings(number), figures, tell)
    assert account.journaled.gaps
    step = round(1e9 / ROWS_A_SECOND)  # the device's own: a subscription begins with what is shown
    claimed = [
        (one, gap)
        for gap in account.journaled.gaps
        for one in account.journaled.samples
        if gap.since + step < one[1] <= gap.until - step
    ]
    assert claimed == [], "a gap claims what is stored"


@history
@pytest.mark.fault("asyncua_frozen")
@pytest.mark.timeout(120 + 4 * max(FREEZES_S))
@pytest.mark.parametrize("seconds", FREEZES_S)
async def test_a_server_with_a_history_that_freezes_twice_in_a_row_loses_nothing(
    seconds, tmp_path, figures, tell
):
    account = await put_through(tmp_path, with_history, freezes(seconds), figures, tell)
    assert not account.in_gaps


@pytest.mark.fault("node_opcua_frozen")
@pytest.mark.timeout(120 + 4 * max(FREEZES_S))
@pytest.mark.parametrize("seconds", FREEZES_S)
async def test_a_server_that_freezes_twice_in_a_row_hands_over_what_it_held(
    seconds, tmp_path, figures, tell
):
    account = await put_through(tmp_path, without_history, freezes(seconds), figures, tell)
    assert not account.in_gaps

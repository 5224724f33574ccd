"""Whole trials: machines, a peer and a service that watches, outages, and the balance in the end.

A trial is put through outages (made of its server), fills the figures of its unit and tells how far
it is. Each ends once the last that was sent is stored.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from support import opcua, plants
from support.brokers import mosquitto
from support.network import Network
from support.opcua import NodeServer
from support.outages import Outage, add, balance, reading, suffer
from support.plants import Plant, until
from support.relay import Relay
from support.sending import Device
from support.servers import HERE, Server, free_port, started
from support.simulators import Simulator

from connectors.batch import Samples, usable
from monitor.site.simulate import watcher
from monitor.site.simulate.compare import Comparison, Sent
from monitor.site.simulate.ledger import Ledger
from monitor.site.simulate.plan import Simulation
from monitor.state.database import DatabaseReader
from monitor.state.journal import Journal

MS = 1_000_000
QUICK_BROKER = {"keepalive_s": 2, "timeout_s": 1.0}
QUICK_PLC = {"keepalive_s": 0.5, "timeout_s": 1.0, "lifetime_s": 120, "retry_s": 0.1}
SAMPLING_MS, PERIOD_MS = 50, 250  # of node-opcua and its device: a busy server looks at each value


@dataclass(frozen=True, slots=True)
class Parties:
    """To whom something may happen."""

    server: Server
    relay: Relay | None = None
    network: Network | None = None


@dataclass(frozen=True, slots=True)
class Unit:
    """What happens, and to whom it is told."""

    outages: Callable[[Parties], Iterable[Outage]]
    figures: dict[str, Any]
    tell: Callable[[str], None]


def watching(folder: Path, source: str, **given: Any) -> Plant:
    """The plant that watches a simulation; ``given``: settings of its source."""
    settings = yaml.safe_load((folder / watcher.FILE).read_text(encoding="utf-8"))
    settings["sources"][source] |= given
    return Plant(folder, settings).save()


async def go_through(
    made: Plant, source: str, parties: Parties, unit: Unit, stop: Callable[[], object]
) -> int:
    """Run the service while all this happens; ``stop`` ends the machines, in a thread.

    Since when everything was read, ns since 1970: a subscription begins tag by tag.
    """
    async with plants.serving(made) as running:
        watched = await reading(running, source)
        begun = time.time_ns()
        for outage in unit.outages(parties):
            felt = await suffer(running, watched, outage)
            add(unit.figures, felt)
            unit.tell(f"noticed {felt.detected_s}, back after {felt.recovered_s:.2f} s")
        await caught_up(made)
        await asyncio.to_thread(stop)
        await caught_up(made)
    return begun


async def caught_up(made: Plant) -> None:
    """Until the last that the peer has by now is stored."""
    last = last_acknowledged(made.folder)
    await until(lambda: newest(made.data) >= last)


async def broker_trial(
    folder: Path, unit: Unit, *, network: Network | None = None, relay: bool = False
) -> tuple[Plant, Relay | None]:
    """Machines publish to mosquitto; a relay in between remembers what it said.

    The machines are where the broker is.
    """
    with mosquitto(folder, network=network) as broker:
        simulation = Simulation.of(
            seed=1, assets=3, channels=3, periods_ms=[50], mqtt=(HERE, broker.port)
        )
        way = Relay(broker.port, keep=True) if relay else None
        sent = Simulator(folder / "plant", simulation, network=network)
        port = broker.port if way is None else way.port
        made = watching(sent.folder, "broker", host=broker.host, port=port, **QUICK_BROKER)
        with started(sent):
            await go_through(made, "broker", Parties(broker, way, network), unit, sent.stop)
    if way is not None:
        way.cut()
    return made, way


async def server_trial(folder: Path, unit: Unit) -> Comparison:
    """Machines that are an OPC UA server of asyncua, which answers for what was and lingers."""
    simulation = of_opcua(100)
    sent = Simulator(folder / "plant", simulation)
    made = watching(sent.folder, "plc", **QUICK_PLC)
    with started(sent):
        begun = await go_through(made, "plc", Parties(sent), unit, sent.stop)
    return balance(made.folder, "plc", unit.figures, since=begun)


async def foreign_trial(
    folder: Path, unit: Unit, *, network: Network | None = None, relay: bool = False
) -> tuple[Comparison, Plant]:
    """A device writes to node-opcua, which has no history: what it has not handed over is lost."""
    simulation = of_opcua(PERIOD_MS)
    plant, home = folder / "plant", folder / "server"
    home.mkdir()
    Ledger.make(plant, simulation).close()
    watcher.write(simulation, plant)
    (lane,) = simulation.lanes
    nodes = [f"{asset}.{channel}" for asset in lane.asset_names for channel in lane.channel_names]
    server = NodeServer(
        home,
        port=simulation.opcua_port,
        nodes=nodes,
        pause_ms=2 * SAMPLING_MS,
        network=network,
    )
    way = Relay(server.port) if relay else None
    made = watching(
        plant,
        "plc",
        url=f"opc.tcp://{server.host}:{server.port if way is None else way.port}",
        sampling_ms=SAMPLING_MS,
        publishing_ms=SAMPLING_MS,
        **QUICK_PLC,
    )
    for asset in made.settings["assets"].values():
        asset["address"] = opcua.address("{asset}.{tag}")
    with started(server), Device(server, plant) as device:
        parties = Parties(server, way, network)
        begun = await go_through(made.save(), "plc", parties, unit, device.stop)
    return balance(made.folder, "plc", unit.figures, since=begun), made


def of_opcua(period_ms: int) -> Simulation:
    """Two machines behind an OPC UA server."""
    port = free_port()
    return Simulation.of(
        seed=2, assets=2, channels=3, periods_ms=[period_ms], share_opcua=1.0, opcua_port=port
    )


def bodies(folder: Path) -> list[Any]:
    """All that is in the journal of a data folder."""
    with DatabaseReader(folder) as database:
        return [record.body for _, record in Journal(database).read(0)]


def newest(folder: Path) -> int:
    """The instant of the newest value in the journal, ns since 1970."""
    times = [one.time[usable(one.status)] for one in bodies(folder) if isinstance(one, Samples)]
    return int(np.concatenate([np.zeros(1, np.int64), *times]).max())


def last_acknowledged(folder: Path) -> int:
    """The instant of the last tick that the peer has, ns since 1970."""
    ledger = Ledger(folder)
    sent = Sent.of(ledger)
    ledger.close()
    (lane,), (ticks,), (has_TA,) = ledger.simulation.lanes, sent.ticks, sent.acknowledged
    return int(ticks[has_TA.all(axis=1)][-1]) * lane.period_ms * MS

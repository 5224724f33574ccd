"""OPC UA into the journal, over a link that is cut again and again: nothing lost, each once."""

import asyncio
import contextlib

import pytest
from support.opcua import shared_node_server, source, values
from support.relay import Relay
from support.sources import picture_desk

from connectors.batch import Notice, NoticeKind
from monitor.live.clock import SystemClock
from monitor.live.intake import Behind, Desk
from monitor.live.supervisor import Assignment, Supervisor
from monitor.state.database import Database
from monitor.state.journal import Journal
from monitor.state.writer import Writer

pytestmark = [pytest.mark.broker, pytest.mark.timeout(90)]

CUTS = 3
VALUES = 24


@contextlib.asynccontextmanager
async def taking_in(plant, database, writer):
    """A source under its supervisor, as the service has it, for as long as the block."""
    desk = Desk(
        journal=Journal(database),
        writer=writer,
        clock=SystemClock(),
        behind=Behind(lambda: 1 << 60),
        committed=lambda: None,
        pictures=picture_desk(database),
    )
    watched = Assignment(name=plant.name, make=lambda: plant, tags={}, expected_s=60.0)
    supervisor = Supervisor(watched, desk=desk)
    supervisor.start()
    try:
        yield
    finally:
        await supervisor.stop()


async def until(true):
    while not true():  # noqa: ASYNC110 - the journal does not call
        await asyncio.sleep(0.02)


async def test_every_value_is_journaled_once_over_a_link_that_is_cut_and_a_restart(tmp_path):
    server = shared_node_server()
    relay = Relay(server.port)
    node = f"cut-{relay.port}"
    server.tell({"add": node})

    def journaled():
        return [record.body for _, record in Journal(database).read(0)]

    with Database(tmp_path) as database, Writer(database) as writer:
        for half in range(2):  # two lives of the program
            plant = source(relay.port, [node], queue_s=45)  # far more than a slow machine needs
            async with taking_in(plant, database, writer):
                await until(lambda plant=plant: plant.status()["connected"])
                for n in range(half * VALUES, (half + 1) * VALUES):
                    if n % (VALUES // CUTS) == 3:
                        relay.cut()
                    if n % (VALUES // CUTS) == 6:
                        relay.mend()
                    server.tell({"set": node, "value": float(n)})
                    await asyncio.sleep(0.15)  # three times its sampling
                if not half:
                    continue
                await until(lambda: 2.0 * VALUES - 1 in values(journaled()))
        relay.cut()
        got = values(journaled())
        gaps = [
            one for one in journaled() if isinstance(one, Notice) and one.kind is NoticeKind.GAP
        ]
    first = [got.index(float(n)) for n in range(2 * VALUES)]
    assert first == sorted(first)
    assert len(got) == len(set(got))
    assert gaps == []

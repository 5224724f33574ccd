"""OPC UA when things go wrong: servers that restart, freeze, refuse, or never answer."""

import asyncio
import signal
import socket
import time

import pytest
from support.opcua import (
    NodeServer,
    last_position,
    notices,
    shared_node_server,
    source,
    take,
    values,
)
from support.relay import Relay
from support.servers import free_port, started

from connectors.batch import NoticeKind, Samples
from connectors.contract import LostError, NotReadyError, RefusedError, TagRef
from connectors.opcua import Source
from connectors.opcua.settings import Settings

pytestmark = [pytest.mark.broker, pytest.mark.timeout(90)]


@pytest.fixture
def foreign() -> NodeServer:
    return shared_node_server()


@pytest.fixture
def node(foreign, request):
    """A node of the test's own on the shared server."""
    name = f"{request.node.name}-{free_port()}"
    foreign.tell({"add": name})
    return name


def never(_):
    return False


def is_alive(taken):
    return notices(taken, NoticeKind.ALIVE)


async def closed_within_a_second(plant):
    start = time.monotonic()
    await plant.close()
    await plant.close()
    return time.monotonic() - start < 1


async def test_a_foreign_servers_values_come_with_status_and_time(foreign):
    t0 = 1_780_000_000_000
    names = ["flow", "count", "on", "mode", "text", "list"]
    foreign.tell(
        {"set": "flow", "value": 1.5, "time": t0, "status": 0x40000000},
        {"set": "count", "value": 7, "time": t0 + 1},
        {"set": "on", "value": True, "time": t0 + 2},
        {"set": "mode", "value": 3, "time": t0 + 3, "bits": "SemanticChanged"},
    )
    plant = source(foreign.port, names)
    await plant.open(resume=None)
    taken = await take(plant, lambda some: any(isinstance(one, Samples) for one in some))
    await plant.close()
    (batch,) = [one for one in taken if isinstance(one, Samples)]
    assert batch.tag.tolist() == [1, 2, 3, 4]
    assert batch.value.tolist() == [1.5, 7.0, 1.0, 3.0]
    assert (batch.time // 1_000_000).tolist() == [t0, t0 + 1, t0 + 2, t0 + 3]
    assert batch.status.tolist() == [0x40000000, 0, 0, 0x4000]
    assert [one.tags for one in notices(taken, NoticeKind.UNIT_CHANGED)] == [(4,)]
    assert {one.tags for one in notices(taken, NoticeKind.REJECTED)} == {(5,), (6,)}


async def test_what_the_server_revised_is_read_back_and_said(foreign, node, caplog):
    plant = source(foreign.port, [node], publishing_ms=7, sampling_ms=3)
    await plant.open(resume=None)
    status = plant.status()
    await plant.close()
    assert status["rate_1_publishing_ms"] == 50  # node-opcua's least
    assert status["rate_1_sampling_ms"] >= 3
    assert status["rate_1_keepalive_count"] >= 1
    assert "revised" in caplog.text
    assert "publishing_ms 50 for 7" in caplog.text


async def test_a_burst_beyond_the_queue_is_said_to_overflow(foreign, node):
    plant = source(
        foreign.port, [node], sampling_ms=50, publishing_ms=500, queue_s=0, every_sample=True
    )
    await plant.open(resume=None)
    queue = plant.status()["rate_1_queue_size"]
    await take(plant, values)
    for n in range(3 * queue):
        foreign.tell({"set": node, "value": float(n)})
        await asyncio.sleep(0.06)
    taken = await take(plant, lambda some: 3.0 * queue - 1 in values(some))
    await plant.close()
    assert notices(taken, NoticeKind.OVERFLOW)


async def test_a_dead_link_is_noticed_and_nothing_is_lost_over_it(foreign, node):
    relay = Relay(foreign.port)
    plant = source(relay.port, [node], queue_s=45)
    await plant.open(resume=None)
    stored = await take(plant, values)
    relay.cut()
    foreign.tell({"set": node, "value": 1.0})
    with pytest.raises(LostError) as error:
        await take(plant, never)
    assert error.value.connector == "plc"
    assert plant.status()["connected"] == 0
    assert await closed_within_a_second(plant)
    await asyncio.sleep(0.1)  # the server looks at the value, with nobody to send it to
    foreign.tell({"set": node, "value": 2.0})
    relay.mend()
    await plant.open(resume=last_position(stored))
    taken = await take(plant, lambda some: 2.0 in values(some))
    assert plant.status()["reconnects_total"] == 1
    await plant.close()
    relay.cut()
    assert values(taken) == [1.0, 2.0]
    assert notices(taken, NoticeKind.GAP) == []


async def test_what_was_not_accepted_comes_again_after_a_restart_and_nothing_is_missing(
    foreign, node
):
    plant = source(foreign.port, [node], queue_s=45)
    await plant.open(resume=None)
    stored = await take(plant, values)
    foreign.tell({"set": node, "value": 1.0})
    await take(plant, lambda some: 1.0 in values(some), accept=False)  # lost before the commit
    await plant.close()
    for value in (2.0, 3.0):  # while nobody is there
        foreign.tell({"set": node, "value": value})
        await asyncio.sleep(0.2)
    again = source(foreign.port, [node], queue_s=45)
    await again.open(resume=last_position(stored))
    taken = await take(again, lambda some: 3.0 in values(some))
    await again.close()
    assert values(taken) == [1.0, 2.0, 3.0]
    assert notices(taken, NoticeKind.GAP) == []


async def test_a_subscription_that_was_given_up_meanwhile_leaves_a_gap(foreign, node):
    quick = {"keepalive_s": 0.1, "lifetime_s": 0.4, "queue_s": 0.1}
    plant = source(foreign.port, [node], **quick)
    await plant.open(resume=None)
    stored = await take(plant, is_alive)
    lifetime_s = plant.status()["rate_1_lifetime_count"] * 0.05
    await plant.close()
    await asyncio.sleep(lifetime_s + 0.5)
    await plant.open(resume=last_position(stored))
    taken = await take(plant, values)
    await plant.close()
    (gap,) = notices(taken, NoticeKind.GAP)
    assert gap.since == is_alive(stored)[-1].until
    assert gap.until - gap.since > lifetime_s * 1e9
    assert plant.status()["gaps_total"] == 1


async def test_a_frozen_server_is_given_up_in_the_time_of_its_sign_of_life(tmp_path):
    with started(NodeServer(tmp_path)) as server:
        plant = source(server.port, ["flow"])
        await plant.open(resume=None)
        await take(plant, is_alive)
        server.freeze()
        assert await closed_within_a_second(plant)  # when nobody has noticed yet
        server.thaw()
        await plant.open(resume=None)
        await take(plant, is_alive)
        patience = plant._listening.subscriptions[0].patience_s
        server.freeze()
        start = time.monotonic()
        with pytest.raises(LostError):
            await take(plant, never)
        assert time.monotonic() - start < patience + 1  # and not the ages that TCP takes
        assert await closed_within_a_second(plant)
        with pytest.raises(NotReadyError):
            await plant.open(resume=None)
        assert await closed_within_a_second(plant)
        server.thaw()


async def test_a_server_that_is_replaced_is_watched_again_after_a_gap_whatever_its_indices(
    tmp_path,
):
    port = free_port()
    plant = source(port, ["flow"])
    with started(
        NodeServer(tmp_path, port=port, namespaces=["urn:test:plant", "urn:other"])
    ) as server:
        server.tell({"set": "flow", "value": 5.0})
        await plant.open(resume=None)
        stored = await take(plant, is_alive)
        assert values(stored) == [5.0]
        server.stop(signal.SIGKILL)
        with pytest.raises(LostError):
            await take(plant, never)
        await plant.close()
        with pytest.raises(NotReadyError):
            await plant.open(resume=last_position(stored))
        await plant.close()
    with started(
        NodeServer(tmp_path, port=port, namespaces=["urn:other", "urn:test:plant"])
    ) as server:
        server.tell({"set": "flow", "value": 6.0})
        await plant.open(resume=last_position(stored))
        taken = await take(plant, lambda some: is_alive(some) and values(some))
        await plant.close()
    assert values(taken) == [6.0]
    (gap,) = notices(taken, NoticeKind.GAP)
    assert gap.since == is_alive(stored)[-1].until
    assert is_alive(taken)[0].since == gap.until  # it vouches for nothing that nobody heard


@pytest.mark.parametrize(("password", "lets_in"), [("right\n", True), ("wrong", False)])
async def test_a_password_opens_the_door_or_is_asked_for_again_in_a_minute(
    foreign, tmp_path, password, lets_in
):
    (tmp_path / "secret").write_text(password)
    given = {"user_name": "mon", "password_file": str(tmp_path / "secret")}
    plant = source(foreign.port, ["flow"], **given)
    if lets_in:
        await plant.open(resume=None)
        assert plant.status()["connected"] == 1
    else:
        with pytest.raises(NotReadyError, match="does not let mon in") as error:
            await plant.open(resume=None)
        assert error.value.retry_after_s == 60
        assert password not in str(error.value)
    await plant.close()


async def test_a_password_that_is_not_there_is_waited_for(tmp_path):
    given = {"user_name": "mon", "password_file": str(tmp_path / "none")}
    with pytest.raises(NotReadyError, match="none"):
        await source(free_port(), ["flow"], **given).open(resume=None)


async def test_an_empty_password_is_no_password_and_is_not_tried(tmp_path):
    (tmp_path / "secret").write_text("\n")
    given = {"user_name": "mon", "password_file": str(tmp_path / "secret")}
    with pytest.raises(NotReadyError, match="is empty or not set"):
        await source(free_port(), ["flow"], **given).open(resume=None)


async def test_a_port_that_takes_connections_and_never_answers_is_not_ready():
    with socket.create_server(("127.0.0.1", 0)) as mute:
        plant = source(mute.getsockname()[1], ["flow"], timeout_s=0.3)
        with pytest.raises(NotReadyError, match=r"no answer in 0\.3 s"):
            await plant.open(resume=None)
        assert await closed_within_a_second(plant)


async def test_an_opening_can_be_cancelled_and_closed():
    with socket.create_server(("127.0.0.1", 0)) as mute:
        plant = source(mute.getsockname()[1], ["flow"], timeout_s=30)
        opening = asyncio.ensure_future(plant.open(resume=None))
        await asyncio.sleep(0.1)
        opening.cancel()
        await asyncio.wait([opening])
        assert await closed_within_a_second(plant)


async def test_a_malformed_node_id_is_refused_before_anything_is_asked():
    settings = Settings.model_validate(
        {"type": "opcua", "url": f"opc.tcp://127.0.0.1:{free_port()}", "insecure": True}
    )
    plant = Source("plc", settings, [TagRef(id=1, address="ns=2;s=flow")])
    with pytest.raises(RefusedError, match="'ns=2;s=flow' is no node id"):
        await plant.open(resume=None)


async def test_a_position_of_something_else_is_refused():
    with pytest.raises(RefusedError, match="no position"):
        await source(free_port(), ["flow"]).open(resume='{"files": []}')


async def test_nothing_is_left_behind_when_it_is_closed(foreign, node):
    before = asyncio.all_tasks()
    plant = source(foreign.port, [node])
    await plant.open(resume=None)
    await take(plant, values)
    await plant.close()
    assert asyncio.all_tasks() == before

"""OPC UA while it runs: signs of life, tags that come and go, frozen servers, short queues."""

import asyncio
import contextlib
import json
import time

import pytest
from asyncua.client.ua_client import UASocketProtocol
from support.opcua import (
    PlcServer,
    corner,
    last_position,
    notices,
    refs,
    shared_node_server,
    source,
    take,
    values,
)
from support.plants import until
from support.servers import free_port, started

from connectors.batch import Flag, NoticeKind, Samples
from connectors.contract import LostError, NotReadyError, RefusedError, Retunable, TagRef, Watched
from connectors.opcua.link import Link
from connectors.opcua.listening import Listening

pytestmark = [pytest.mark.broker, pytest.mark.timeout(90)]


def is_alive(taken):
    return notices(taken, NoticeKind.ALIVE)


def never(_):
    return False


@pytest.fixture
def foreign():
    """A node-opcua server, and three nodes of the test's own."""
    server, number = shared_node_server(), free_port()
    names = [f"{name}-{number}" for name in "abc"]
    server.tell(*({"add": name, "history": True} for name in names))
    return server, names


async def test_it_hears_the_sign_of_life_while_no_value_changes_and_says_how_long_it_waits():
    server = corner({"flow": 1.0})
    plant = server.source(["flow"], keepalive_s=0.2)
    assert isinstance(plant, Watched)
    await plant.open(resume=None)
    assert plant.watchdog_s == pytest.approx(1.2)
    await take(plant, values)
    first = plant.heard
    listening = asyncio.create_task(take(plant, never))
    while plant.heard < first + 1.4:  # noqa: ASYNC110 - a sign of life is no event of ours
        await asyncio.sleep(0.02)
    assert 0 <= plant.status()["publish_lag_s"] < plant.watchdog_s
    assert not listening.done()
    listening.cancel()
    await asyncio.wait([listening])
    await asyncio.sleep(0.3)
    assert time.monotonic() - plant.heard < 0.3  # nobody asked: nobody could hear it
    await plant.close()


@pytest.fixture(params=["node-opcua", "asyncua"])
def freezing(request):
    """A server that may be frozen, and its node; it is thawed for others that use it."""
    with contextlib.ExitStack() as stack:
        if request.param == "node-opcua":
            server, names = request.getfixturevalue("foreign")
            stack.callback(server.thaw)
            yield server, names[0]
        else:
            folder = request.getfixturevalue("tmp_path")
            yield stack.enter_context(started(PlcServer(folder))), 1


async def test_a_server_that_freezes_twice_is_found_out_and_watched_again_each_time(freezing):
    server, name = freezing
    plant = source(server.port, [name], keepalive_s=0.2, timeout_s=0.6)
    await plant.open(resume=None)
    taken = await take(plant, is_alive)
    for number in (1.0, 2.0):
        server.freeze()
        with pytest.raises(LostError):
            await take(plant, never)
        with pytest.raises(NotReadyError):
            await plant.open(resume=last_position(taken))
        server.thaw()
        while True:  # it may still be busy with what it was asked while it was frozen
            try:
                await plant.open(resume=last_position(taken))
                server.set(name, number, time=time.time_ns())
                taken = await take(plant, lambda some, n=number: n in values(some))
                break
            except (LostError, NotReadyError):
                await asyncio.sleep(0.1)
    await plant.close()


async def test_tags_that_come_and_go_leave_the_others_alone(foreign):
    server, (a, b, c) = foreign
    plant = source(server.port, [a, b])
    assert isinstance(plant, Retunable)
    await plant.open(resume=None)
    taken = await take(plant, lambda some: values(some) and values(some, 2))
    number = plant._listening.subscriptions[0].id
    kept = plant._listening.subscriptions[0]._items[1]
    reading = asyncio.create_task(take(plant, lambda some: 3.0 in values(some, 3)))
    await asyncio.sleep(0)
    await plant.retune([TagRef(id=3, address=refs([c])[0].address), plant._tags[0]])
    for n in (1.0, 2.0, 3.0):
        for name in (a, b, c):
            server.tell({"set": name, "value": n})
        await asyncio.sleep(0.12)
    taken = await reading
    status = plant.status()
    assert values(taken, 2) == []
    assert values(taken, 1)[:2] == [1.0, 2.0]
    assert [n for n in values(taken, 3) if n] == [1.0, 2.0, 3.0]
    assert notices(taken, NoticeKind.GAP) == notices(taken, NoticeKind.REJECTED) == []
    assert plant._listening.subscriptions[0].id == number
    assert plant._listening.subscriptions[0]._items[1] == kept
    assert (status["items_wanted"], status["items_created"]) == (2, 2)
    await plant.close()


async def test_a_tag_that_becomes_another_node_is_not_known_until_that_speaks(foreign):
    server, (a, b, c) = foreign
    server.set(c, 7.0, time=1_780_000_000_000_000_000)  # steady since long ago
    plant = source(server.port, [a, b])
    await plant.open(resume=None)
    await take(plant, lambda some: values(some, 2) and is_alive(some))
    before = plant._listening.waves.until
    reading = asyncio.create_task(take(plant, lambda some: 7.0 in values(some, 2)))
    await plant.retune(refs([a, c]))
    taken = await reading
    await plant.close()
    (lost,) = notices(taken, NoticeKind.GAP)
    (first,) = [one for one in taken if isinstance(one, Samples) and 2 in one.tag]
    assert lost.tags == (2,)
    assert lost.until > lost.since >= before
    assert taken.index(lost) < next(n for n, one in enumerate(taken) if one is first)
    assert first.time[first.tag == 2] >= lost.until  # or what was held would count as newer


async def test_a_tag_of_another_rate_gets_a_subscription_and_an_empty_one_goes(foreign):
    server, (a, b, c) = foreign
    plant = source(server.port, [a, b], rates=[{"address": f"*{c}", "publishing_ms": 100}])
    await plant.open(resume=None)
    await take(plant, values)
    before = plant._listening.subscriptions[0].id
    await plant.retune([TagRef(id=3, address=refs([c])[0].address)])
    server.tell({"set": c, "value": 5.0})
    taken = await take(plant, lambda some: 5.0 in values(some, 3))
    (one,) = plant._listening.subscriptions
    assert one.id != before
    assert one.publishing_ms == 100
    assert values(taken, 1) == []
    await plant.close()


async def test_what_is_heard_of_a_subscription_before_all_its_items_are_made_is_taken(
    foreign, monkeypatch
):
    """A server that takes few items a call has sent the first values by the last call."""
    server, (a, b, c) = foreign
    rates = [{"address": f"*{name}", "publishing_ms": 100} for name in (b, c)]
    plant = source(server.port, [a], rates=rates)
    await plant.open(resume=None)
    create, messages, heard = Link.create_items, Listening._messages, set()

    def noted(listening, answered):
        told = [one.result().Parameters for one in answered]
        heard.update(one.SubscriptionId for one in told if one.NotificationMessage.NotificationData)
        return messages(listening, answered)

    async def created(link, subscription, items):
        made = await create(link, subscription, items)
        await until(lambda: subscription in heard)
        return made

    monkeypatch.setattr("connectors.opcua.link.ITEMS_PER_CALL", 1)
    monkeypatch.setattr(Listening, "_messages", noted)
    monkeypatch.setattr(Link, "create_items", created)
    reading = asyncio.create_task(take(plant, lambda some: values(some, 2) and values(some, 3)))
    await plant.retune(refs([a, b, c]))
    taken = await reading
    assert notices(taken, NoticeKind.GAP) == []
    await plant.close()


async def test_a_subscription_whose_items_were_being_changed_is_not_taken_over_by_its_tags_alone(
    foreign, monkeypatch
):
    """Killed between deleting and making items, it lacks what was wanted, before and after."""
    server, (a, b, c) = foreign
    plant = source(server.port, [a, b])
    await plant.open(resume=None)
    create, kept = Link.create_items, plant._listening.subscriptions[0].kept
    before, within = kept().watched, []

    async def created(link, subscription, items):
        within.append(kept().watched)
        return await create(link, subscription, items)

    monkeypatch.setattr(Link, "create_items", created)
    await plant.retune(refs([a, c]))
    after = kept().watched
    await plant.close()
    assert within == [""]
    assert len({before, "", after}) == 3


async def test_tags_that_are_none_of_its_own_are_refused_and_change_nothing(foreign):
    server, (a, *_) = foreign
    plant = source(server.port, [a])
    await plant.open(resume=None)
    with pytest.raises(RefusedError, match="'flow' is no node id"):
        await plant.retune([TagRef(id=1, address="flow")])
    server.tell({"set": a, "value": 5.0})
    assert 5.0 in values(await take(plant, lambda some: 5.0 in values(some)))
    await plant.close()


async def test_a_restart_with_other_tags_takes_over_what_stays(foreign):
    server, (a, b, c) = foreign
    plant = source(server.port, [a, b])
    await plant.open(resume=None)
    stored = await take(plant, lambda some: values(some) and values(some, 2) and is_alive(some))
    await plant.close()
    for n in (1.0, 2.0, 3.0):  # while nobody is there
        for name in (a, b, c):
            server.tell({"set": name, "value": n})
        await asyncio.sleep(0.12)
    again = source(server.port, [a, c])  # tag 2 is another node now
    await again.open(resume=last_position(stored))
    taken = await take(again, lambda some: 3.0 in values(some) and values(some, 2))
    server.tell({"set": b, "value": 9.0}, {"set": c, "value": 4.0})
    taken += await take(again, lambda some: 4.0 in values(some, 2))
    status = again.status()
    await again.close()
    assert values(taken) == [1.0, 2.0, 3.0]
    assert values(taken, 2) == [3.0, 4.0]  # nothing of the node that it was
    assert notices(taken, NoticeKind.GAP) == notices(taken, NoticeKind.REJECTED) == []
    assert status["items_created"] == 2


async def test_a_queue_that_was_too_short_is_said_to_the_sample_and_filled_from_history(foreign):
    server, (a, *_) = foreign
    plant = source(
        server.port, [a], sampling_ms=50, publishing_ms=500, queue_s=0, every_sample=True
    )
    await plant.open(resume=None)
    queue = plant.status()["rate_1_queue_size"]
    taken = await take(plant, values)
    for n in range(1, 3 * queue):
        server.set(a, float(n), time=time.time_ns())
        await asyncio.sleep(0.06)
    server.set(a, 500.0, time=time.time_ns())
    taken += await take(
        plant, lambda some: 500.0 in values(some) and notices(some, NoticeKind.FILLED)
    )
    await plant.close()
    lost = notices(taken, NoticeKind.OVERFLOW)[0]
    live = {
        at: value
        for one in taken
        if isinstance(one, Samples) and not one.flags[0] & Flag.REPLAYED
        for at, value in zip(one.time.tolist(), one.value.tolist(), strict=True)
    }
    assert lost.tags == (1,)
    assert {lost.since, lost.until} <= live.keys()
    assert not [at for at in live if lost.since < at < lost.until]
    assert set(range(3 * queue)) <= set(values(taken))  # with what history gave


@pytest.mark.parametrize(("keeps", "discards_oldest"), [("newest", True), ("oldest", False)])
async def test_a_full_queue_keeps_what_the_settings_say(keeps, discards_oldest, monkeypatch):
    asked = []
    whole = UASocketProtocol.send_request

    async def noted(self, request, *given, **named):
        if type(request).__name__ == "CreateMonitoredItemsRequest":
            asked.extend(
                one.RequestedParameters.DiscardOldest for one in request.Parameters.ItemsToCreate
            )
        return await whole(self, request, *given, **named)

    monkeypatch.setattr(UASocketProtocol, "send_request", noted)
    plant = corner({"flow": 1.0}).source(["flow"], queue_keeps=keeps)
    await plant.open(resume=None)
    await plant.close()
    assert asked == [discards_oldest]


async def test_a_clock_that_is_far_from_ours_is_exported_and_said_once(monkeypatch, caplog):
    ours = time.time_ns
    monkeypatch.setattr("connectors.opcua.link.time.time_ns", lambda: ours() - 300 * 10**9)
    plant = corner({"flow": 1.0}).source(["flow"])
    await plant.open(resume=None)
    assert plant.status()["clock_skew_s"] == pytest.approx(300, abs=2)
    await plant.close()
    assert caplog.text.count("300 s ahead of ours") == 1


async def test_a_stamp_of_a_clock_that_lost_its_time_is_replaced_counted_and_said_once(caplog):
    server = corner({"flow": 1.0})
    plant = server.source(["flow"])
    await plant.open(resume=None)
    await take(plant, values)
    for n in (2.0, 3.0):
        server.set("flow", n, time=946_684_800 * 10**9 + int(n))  # 2000-01-01
    taken = await take(plant, lambda some: 3.0 in values(some))
    count = plant.status()["restamped_total"]
    await plant.close()
    (batch,) = [one for one in taken if isinstance(one, Samples)][-1:]
    assert batch.flags[-1] == Flag.RESTAMPED
    assert abs(int(batch.time[-1]) - time.time_ns()) < 30 * 10**9
    assert count == 2
    assert caplog.text.count("cannot be true") == 1


async def test_a_position_says_nothing_of_single_items(foreign):
    server, names = foreign
    plant = source(server.port, names)
    await plant.open(resume=None)
    taken = await take(plant, is_alive)
    await plant.close()
    assert len(last_position(taken)) < 300
    assert json.loads(last_position(taken))["units"] == []

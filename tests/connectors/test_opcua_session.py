"""OPC UA against asyncua's server: what comes in, what is vouched for, and what is acknowledged."""

import asyncio
import time
from dataclasses import replace

import numpy as np
import pytest
from asyncua import ua
from asyncua.client.ua_client import UASocketProtocol
from asyncua.common.utils import Buffer
from support.opcua import corner, forgotten, last_position, notices, plc, source, take, utc, values

from connectors.batch import BAD, GOOD, UNCERTAIN, Flag, NoticeKind, Samples
from connectors.contract import ConnectorError
from connectors.opcua.progress import Position
from connectors.opcua.values import nanoseconds

pytestmark = [pytest.mark.broker, pytest.mark.timeout(60)]

T0 = 1_780_000_000_000_000_000
HOUR = 3_600_000_000_000


def rows(taken):
    return [
        row
        for batch in taken
        if isinstance(batch, Samples)
        for row in zip(
            batch.tag.tolist(),
            batch.time.tolist(),
            batch.value.tolist(),
            batch.status.tolist(),
            batch.flags.tolist(),
            strict=True,
        )
    ]


def has(count):
    return lambda taken: len(rows(taken)) >= count


async def test_values_come_with_their_status_and_the_time_of_their_source():
    server = corner({"flow": 1.0, "on": True, "count": 7})
    server.set("flow", 2.5, time=T0)
    server.set("on", value=True, status=UNCERTAIN, time=T0 + 1000)
    server.set("count", ua.Variant(-3, ua.VariantType.Int64), time=T0 + 2000)
    plant = server.source(["flow", "on", "count"])
    await plant.open(resume=None)
    taken = await take(plant, has(3))
    server.set("flow", None, status=0x808A0000, time=T0 + 3000)  # BadNotConnected
    taken += await take(plant, has(1))
    await plant.close()
    assert sorted(rows(taken[:1])) == [
        (1, T0, 2.5, GOOD, 0),
        (2, T0 + 1000, 1.0, UNCERTAIN, 0),
        (3, T0 + 2000, -3.0, GOOD, 0),
    ]
    tag, at, value, status, _ = rows(taken)[-1]
    assert (tag, at, status) == (1, T0 + 3000, 0x808A0000)
    assert np.isnan(value)


async def test_without_a_source_time_the_servers_counts_and_then_that_of_the_message():
    server = corner({"flow": 1.0, "level": 1.0})
    good = ua.StatusCode(ua.UInt32(GOOD))
    server.write("flow", ua.DataValue(ua.Variant(2.0), good, None, utc(T0)))
    server.write("level", ua.DataValue(ua.Variant(3.0), good, None, None))
    plant = server.source(["flow", "level"])
    before = time.time_ns()
    await plant.open(resume=None)
    taken = await take(plant, has(2))
    await plant.close()
    found = {tag: (at, flags) for tag, at, _, _, flags in rows(taken)}
    assert found[1] == (T0, 0)
    at, flags = found[2]
    assert before - 1_000_000_000 < at < time.time_ns() + 1_000_000_000
    assert flags == Flag.NO_SOURCE_TIME


@pytest.mark.parametrize(("every_sample", "wanted"), [(False, [1.0, 2.0]), (True, [1.0, 1.0, 2.0])])
async def test_a_repeat_with_a_new_time_comes_only_when_every_sample_is_asked_for(
    every_sample, wanted
):
    server = corner({"flow": 0.0})
    server.set("flow", 1.0, time=T0)
    plant = server.source(["flow"], every_sample=every_sample)
    await plant.open(resume=None)
    taken = await take(plant, has(1))
    server.set("flow", 1.0, time=T0 + 1_000_000)
    server.set("flow", 2.0, time=T0 + 2_000_000)
    taken += await take(plant, lambda some: 2.0 in values(some))
    await plant.close()
    assert values(taken) == wanted


async def test_tags_of_a_rate_of_their_own_have_a_subscription_of_their_own():
    server = corner({"flow": 0.0, "level": 0.0})
    rates = [{"address": "*-lev*", "publishing_ms": 100, "every_sample": True}]
    plant = server.source(["flow", "level"], rates=rates)
    await plant.open(resume=None)
    status = plant.status()
    await plant.close()
    assert status["rate_1_publishing_ms"] == 50
    assert status["rate_2_publishing_ms"] == 100
    assert (status["rate_1_items"], status["rate_2_items"]) == (1, 1)


async def test_what_is_no_number_is_counted_with_its_reason_and_the_others_come():
    server = corner({"flow": 1.0, "name": "x", "list": [1.0, 2.0]})
    plant = server.source(["flow", "name", "list"])
    await plant.open(resume=None)
    taken = await take(plant, has(1))
    status = plant.status()
    await plant.close()
    said = {one.reason: (one.count, one.tags) for one in notices(taken, NoticeKind.REJECTED)}
    assert said == {
        "a String, not a number": (1, (2,)),
        "an array, not a single number": (1, (3,)),
    }
    assert values(taken) == [1.0]
    assert status["rejected_total"] == 2


async def test_a_changed_meaning_is_said_beside_the_sample():
    server = corner({"flow": 1.0})
    server.set("flow", 2.0, status=0x4000, time=T0)
    plant = server.source(["flow"])
    await plant.open(resume=None)
    taken = await take(plant, has(1))
    await plant.close()
    assert [one.tags for one in notices(taken, NoticeKind.UNIT_CHANGED)] == [(1,)]
    assert [status for _, _, _, status, _ in rows(taken)] == [0x4000]


async def test_qualities_of_opc_da_are_read_as_what_they_are(caplog):
    server = corner({"a": 1.0, "b": 1.0, "c": 1.0})
    for name, status in (("a", 0xC0), ("b", 0x40), ("c", 0x18)):
        server.set(name, 2.0, status=status, time=T0)
    plant = server.source(["a", "b", "c"])
    await plant.open(resume=None)
    taken = await take(plant, has(3))
    count = plant.status()["da_quality_total"]
    await plant.close()
    assert {tag: status for tag, _, _, status, _ in rows(taken)} == {
        1: 0xC0,
        2: UNCERTAIN | 0x40,
        3: BAD | 0x18,
    }
    assert count == 3
    assert caplog.text.count("OPC DA") == 1


async def test_a_bad_node_stops_nobody_is_said_once_and_is_had_once_it_is_there(caplog):
    server = corner({"flow": 1.0})
    plant = server.source(["flow", "gone"], retry_s=0.2)
    await plant.open(resume=None)
    taken = await take(plant, lambda some: 1.0 in values(some))
    status = plant.status()
    assert (status["items_wanted"], status["items_created"], status["items_bad"]) == (2, 1, 1)
    assert status["bad_items"] == f"{server.address('gone')} (BadNodeIdUnknown)"
    await take(plant, lambda some: len(notices(some, NoticeKind.ALIVE)) > 2)  # some tries
    server.add("gone", ua.DataValue(ua.Variant(4.0), SourceTimestamp=utc(T0)))
    taken += await take(plant, lambda some: 4.0 in values(some, 2))
    assert plant.status()["items_bad"] == 0
    await plant.close()
    assert caplog.text.count("cannot be watched") == 1
    marked, found = [row for row in rows(taken) if row[0] == 2]
    assert marked[3] == 0x80340000  # for as long as it is away, it is known to be
    assert found[3] == GOOD
    assert found[1] > marked[1] > T0  # its old stamp would put it before the outage that it ends


@pytest.mark.parametrize(
    "keeps", [0, 24], ids=["all", "body"]
)  # bytes before those that are broken
@pytest.mark.parametrize(
    "request_type",
    [
        "CreateSessionRequest",
        "ActivateSessionRequest",
        "ReadRequest",
        "CreateMonitoredItemsRequest",
        "PublishRequest",
    ],
)
async def test_an_answer_that_is_malformed_ends_the_link_and_nothing_else(
    request_type, keeps, monkeypatch
):
    whole = UASocketProtocol.send_request

    async def broken(self, request, *given, **named):
        answer = await whole(self, request, *given, **named)
        if type(request).__name__ != request_type:
            return answer
        intact = answer.copy().read(len(answer))
        answer = Buffer(intact[:keeps] + b"\xff" * (len(intact) - keeps))
        self.check_answer(answer, "")  # as of every answer
        return answer

    monkeypatch.setattr(UASocketProtocol, "send_request", broken)
    plant = corner({"flow": 1.0}).source(["flow"])

    async def run():
        await plant.open(resume=None)
        await take(plant, lambda _: False)

    with pytest.raises(ConnectorError):
        await run()
    await plant.close()


async def test_a_namespace_that_the_server_lacks_is_a_bad_node():
    server = corner({"flow": 1.0})
    plant = server.source(["flow"])
    other = [*plant._tags, type(plant._tags[0])(id=2, address="nsu=urn:nobody;s=flow")]
    plant = type(plant)("plc", plant._settings, other)
    await plant.open(resume=None)
    assert plant.status()["bad_items"] == "nsu=urn:nobody;s=flow (BadNodeIdUnknown)"
    await plant.close()


async def test_a_message_is_acknowledged_only_once_it_was_accepted():
    server = corner({"flow": 0.0})
    plant = server.source(["flow"])
    await plant.open(resume=None)
    first = await take(plant, has(1), accept=False)
    for n in range(1, 4):  # each takes a publish request, and could carry an acknowledgement
        server.set("flow", float(n))
        await take(plant, lambda some, n=n: float(n) in values(some), accept=False)
    assert server.unacknowledged(plant) == [1, 2, 3, 4]
    await plant.accepted(first[0].position)
    server.set("flow", 9.0)
    await take(plant, lambda some: 9.0 in values(some), accept=False)
    server.set("flow", 10.0)
    await take(plant, lambda some: 10.0 in values(some), accept=False)
    assert 1 not in server.unacknowledged(plant)
    assert {2, 3, 4} <= set(server.unacknowledged(plant))
    await plant.close()


async def test_a_subscription_that_is_handed_over_and_then_silent_is_made_anew_within_seconds():
    server = corner({"flow": 0.0})  # asyncua's: it sends to the session that was before
    plant = server.source(["flow"], keepalive_s=3)  # and would be silent for long by right
    await plant.open(resume=None)
    stored = await take(plant, lambda some: notices(some, NoticeKind.ALIVE))
    server.set("flow", 1.0)
    await take(plant, lambda some: 1.0 in values(some), accept=False)  # it has this one still
    await plant.close()
    await plant.open(resume=last_position(stored))
    patience_s = plant._listening._patience_s(plant._listening.subscriptions[0])
    taken = await take(plant, lambda some: notices(some, NoticeKind.GAP))
    server.set("flow", 2.0)
    taken += await take(plant, lambda some: 2.0 in values(some))
    status = plant.status()
    await plant.close()
    assert patience_s == 1.05  # one publishing, and the time of an answer
    (gap,) = notices(taken, NoticeKind.GAP)
    vouched = notices([*stored, *taken], NoticeKind.ALIVE)
    assert gap.since in [one.until for one in vouched]
    assert all(one.until <= gap.since or one.since >= gap.until for one in vouched)
    assert (status["in_vain_total"], status["reconnects_total"]) == (1, 1)  # the link stayed
    await plant.open(resume=last_position(taken))
    assert not plant._listening._unheard  # in this run of the server it is not tried again
    await plant.close()


async def test_other_tags_than_before_are_watched_anew_after_a_gap():
    server = corner({"flow": 0.0, "level": 0.0})
    plant = server.source(["flow"])
    await plant.open(resume=None)
    taken = await take(plant, lambda some: notices(some, NoticeKind.ALIVE))
    await plant.close()
    again = server.source(["flow", "level"])
    await again.open(resume=last_position(taken))
    taken = await take(again, has(2))
    await again.close()
    assert len(notices(taken, NoticeKind.GAP)) == 1


@pytest.fixture
def set_clock(monkeypatch):
    """Sets the server's clock, as we read it, so many ns ahead."""
    ahead = [0]

    def read(told):
        at = nanoseconds(told)
        return None if at is None else at + ahead[0]

    for module in ("link", "listening", "waves"):
        monkeypatch.setattr(f"connectors.opcua.{module}.nanoseconds", read)
    return lambda ns: ahead.__setitem__(0, ns)


async def test_a_gap_is_as_long_as_it_was_though_the_clock_went_ahead_and_was_set_back(set_clock):
    server = corner({"flow": 0.0})
    plant = server.source(["flow"])
    await plant.open(resume=None)
    stored = await take(plant, lambda some: notices(some, NoticeKind.ALIVE))
    set_clock(HOUR)
    now = time.time_ns()
    stored += await take(plant, lambda some: notices(some, NoticeKind.ALIVE)[-1].until > now + HOUR)
    await plant.close()
    set_clock(0)
    left = Position.read(last_position(stored))
    again = server.source(["flow"], fill_gaps=False)
    await again.open(resume=forgotten(left.text()))
    taken = await take(again, has(1))
    await again.close()
    (lost,) = notices(taken, NoticeKind.GAP)
    assert lost.since == pytest.approx(left.until - HOUR, abs=0.5e9)
    assert lost.until > lost.since
    old = replace(left, ahead=None)
    assert Position.read(old.text().replace('"ahead":null,', "")) == old
    assert old.since(lost.until, ahead=0) == lost.until  # as well as can be told


async def test_a_position_goes_back_with_a_clock_that_is_set_back_while_it_is_heard(set_clock):
    server = corner({"flow": 0.0})
    set_clock(HOUR)
    plant = server.source(["flow"])
    await plant.open(resume=None)
    await take(plant, lambda some: notices(some, NoticeKind.ALIVE))
    set_clock(0)
    for value in (1.0, 2.0):
        server.set("flow", value)
        taken = await take(plant, lambda some, value=value: value in values(some))
    await plant.close()
    assert Position.read(last_position(taken)).until < time.time_ns()


async def test_silence_is_vouched_for_up_to_what_may_be_on_its_way():
    server = corner({"flow": 0.0})
    plant = server.source(["flow"], source_delay_ms=300)
    await plant.open(resume=None)
    taken = await take(plant, lambda some: len(notices(some, NoticeKind.ALIVE)) >= 2)
    published = plant.status()["last_publish_ns"]
    sampling_ms = plant.status()["rate_1_sampling_ms"]
    await plant.close()
    first, second = notices(taken, NoticeKind.ALIVE)
    assert first.until == second.since
    assert second.until == published - round((sampling_ms + 300) * 1e6)


async def test_where_silence_means_nothing_only_samples_come_with_the_stamps_they_have():
    server = corner({"flow": ua.DataValue(ua.Variant(1.0), SourceTimestamp=utc(T0))})
    plant = server.source(["flow", "gone"], silence="unknown", retry_s=0.2)
    await plant.open(resume=None)
    taken = await take(plant, has(1))
    heard = plant.status()["last_publish_ns"]
    server.add("gone", ua.DataValue(ua.Variant(4.0), SourceTimestamp=utc(T0)))
    taken += await take(plant, lambda some: 4.0 in values(some, 2))
    coming = asyncio.create_task(take(plant, has(1)))
    while plant.status()["last_publish_ns"] <= heard + 600_000_000:  # noqa: ASYNC110 (a sign of life)
        await asyncio.sleep(0.02)
    server.set("flow", 2.0, time=T0 + 1000)
    taken += await coming
    await plant.close()
    assert [row[:3] for row in rows(taken)] == [(1, T0, 1.0), (2, T0, 4.0), (1, T0 + 1000, 2.0)]
    assert all(isinstance(one, Samples) for one in taken)


async def test_a_source_of_two_rates_vouches_only_for_what_both_said():
    server = corner({"flow": 0.0, "level": 0.0})
    rates = [{"address": server.address("level"), "publishing_ms": 400}]
    plant = server.source(["flow", "level"], rates=rates, keepalive_s=0.8)
    await plant.open(resume=None)
    listening = plant._listening
    taken = await take(plant, lambda some: len(notices(some, NoticeKind.ALIVE)) >= 4)
    slow = [one.vouched for one in listening.subscriptions]
    await plant.close()
    assert notices(taken, NoticeKind.ALIVE)[-1].until == min(slow)


async def test_while_nobody_takes_the_server_keeps_and_nothing_is_lost():
    server = corner({"flow": -1.0})
    plant = server.source(["flow"], every_sample=True)
    await plant.open(resume=None)
    await take(plant, has(1))
    for n in range(60):
        server.set("flow", float(n))
        await asyncio.sleep(0.01)  # spread over many publishing intervals
    requests = len(plant._listening._requests)
    taken = await take(plant, lambda some: 59.0 in values(some))
    await plant.close()
    assert requests <= 2
    assert values(taken) == [float(n) for n in range(60)]
    assert len([one for one in taken if isinstance(one, Samples)]) < 20  # waves, not messages


async def test_what_queues_drop_in_silence_while_nobody_takes_is_a_gap():
    server = corner({"flow": -1.0})
    plant = server.source(["flow"], sampling_ms=50, publishing_ms=200, queue_s=0, every_sample=True)
    await plant.open(resume=None)
    taken = await take(plant, has(1))
    holds = plant._listening.subscriptions[0].queue_size
    sent, at = 6 * holds, {}
    for n in range(sent):
        at[n] = time.time_ns() // 1000 * 1000  # as fine as the server keeps it
        server.set("flow", float(n), time=at[n])
        await asyncio.sleep(0.06)
    taken += await take(
        plant, lambda some: sent - 1.0 in values(some) and notices(some, NoticeKind.GAP)
    )
    await plant.close()
    (gap,) = notices(taken, NoticeKind.GAP)
    assert "nobody asked for longer than" in gap.reason
    lost = [at[n] for n in set(range(sent)) - set(values(taken))]
    assert gap.since < min(lost)
    assert max(lost) <= gap.until < at[sent - 1]


async def test_the_subscription_of_another_run_of_the_server_is_left_to_whom_it_belongs():
    with plc({"flow": 0.0, "level": 0.0}) as server:
        plant, other = source(server.port, ["flow"]), source(server.port, ["flow"])
        await plant.open(resume=None)
        stored = await take(plant, lambda some: notices(some, NoticeKind.ALIVE))
        number = plant._listening.subscriptions[0].id
        await plant.close()
        server.stop()
        server.start()  # it counts from the start again
        await other.open(resume=None)
        assert other._listening.subscriptions[0].id == number
        await plant.open(resume=last_position(stored))
        server.set("flow", 3.0)
        assert 3.0 in values(await take(other, lambda some: 3.0 in values(some)))
        taken = await take(plant, lambda some: 3.0 in values(some))
        await plant.close()
        await other.close()
    assert len(notices(taken, NoticeKind.GAP)) == 1

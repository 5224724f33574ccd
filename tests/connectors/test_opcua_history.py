"""What was missed, read from a server's history: in pieces, in order, and said to be filled."""

import asyncio
import signal
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from asyncua import ua
from support.opcua import (
    PlcServer,
    corner,
    forgotten,
    last_position,
    notices,
    shared_node_server,
    source,
    take,
    utc,
    values,
)
from support.servers import free_port, started

from connectors.batch import Flag, Notice, NoticeKind, Samples
from connectors.opcua import history
from connectors.opcua.history import History
from connectors.opcua.link import Facts
from connectors.opcua.order import Order
from connectors.opcua.progress import Position, Span
from connectors.opcua.settings import Settings
from connectors.opcua.units import Meanings

T0 = 1_780_000_000_000_000_000
MS = 1_000_000
FACTS = Facts(
    namespaces=(),
    started=1,
    now=T0 + 10_000_000 * MS,
    skew_s=0.0,
    items_per_call=1000,
    reads_per_call=1000,
    paths_per_call=1000,
    histories_per_call=20,
)


class Archive:
    """A link to a server that has history of some tags; a node's identifier is the tag."""

    def __init__(self, stored, *, cuts="said", most_nodes=20):
        """``cuts``: whether the server says that it cut an answer."""
        self.stored, self.cuts, self.most_nodes = stored, cuts, most_nodes
        self.calls = []
        self.fails = {}  # tags and their status
        self.times_out = 0

    async def read(self, nodes, attribute):
        assert attribute == ua.AttributeIds.AccessLevel
        return [5 if node.Identifier in self.stored else 1 for node in nodes]

    async def history(self, nodes, *, since, until, most):
        self.calls.append([node.Identifier for node, _ in nodes])
        if self.times_out:
            self.times_out -= 1
            raise TimeoutError
        if len(nodes) > self.most_nodes:
            raise ua.uaerrors.BadTooManyOperations
        return [self._of(node.Identifier, point, since, until, most) for node, point in nodes]

    def _of(self, tag, point, since, until, most):
        result = ua.HistoryReadResult()
        result.HistoryData = ua.HistoryData()
        if tag in self.fails:
            result.StatusCode = ua.StatusCode(ua.UInt32(self.fails[tag]))
            return result
        if since <= until:  # what lies at the end of a span is left out: Part 11, 4.4
            found = [row for row in self.stored[tag] if since <= row[0] < until]
        else:
            found = [row for row in reversed(self.stored[tag]) if until < row[0] <= since]
        start = int(point or 0)
        result.HistoryData.DataValues = [
            ua.DataValue(ua.Variant(value), SourceTimestamp=at)
            for at, value in found[start : start + most]
        ]
        if len(found) > start + most and self.cuts == "said":
            result.ContinuationPoint = str(start + most).encode()
        return result


def rows(*times, value=None):
    """Stored values, at so many ms after T0; each is its time unless said."""
    return [(utc(T0 + at * MS), float(at) if value is None else value) for at in times]


def reader(link, **given):
    settings = {"type": "opcua", "url": "opc.tcp://127.0.0.1:4840", "insecure": True,
                "history_delay_s": 0, **given}  # fmt: skip
    return History("plc", Settings.model_validate(settings), link)


async def read_all(link, *, tags=(1, 2), missed=None, wanted=None, reading=None):
    """Everything of a span, 0 to 1000 ms: rows (ms, tag, value), notices, and the pieces."""
    reading = reading or reader(link)
    reading.go_on(missed or [Span(since=T0, until=T0 + 1000 * MS, tags=())])
    nodes = {tag: ua.NodeId(tag, 1) for tag in tags}
    got, said, pieces = [], [], 0
    while reading.missed:
        piece = await reading.piece(nodes, FACTS, wanted=wanted or len(tags))
        reading.took(piece)
        pieces += 1
        wave = piece.wave
        assert set(wave.flags) <= {Flag.REPLAYED}
        columns = zip(wave.time, wave.tag, wave.value, strict=True)
        got += [((at - T0) // MS, tag, value) for at, tag, value in columns]
        said += [((one.since - T0) // MS, (one.until - T0) // MS, one.tags)
                 for one in piece.filled]  # fmt: skip
    return got, said, pieces


async def test_a_span_is_read_from_its_beginning_excluded_to_its_end_included():
    link = Archive({1: rows(-5, 0, 1, 500, 1000, 1001), 2: rows(-5, 700)})
    got, said, _ = await read_all(link)
    assert got == [(1, 1, 1.0), (500, 1, 500.0), (700, 2, 700.0), (1000, 1, 1000.0)]
    assert said == [(0, 1000, ())]


@pytest.mark.parametrize("cuts", ["said", "unsaid"])
async def test_answers_that_are_cut_are_read_on_whether_the_server_says_so_or_not(
    cuts, monkeypatch
):
    monkeypatch.setattr(history, "VALUES_PER_CALL", 20)
    link = Archive({1: rows(*range(-1, 1001)), 2: rows(-1, 3, 5)}, cuts=cuts)
    got, said, _ = await read_all(link)
    assert [value for _, tag, value in got if tag == 1] == [float(n) for n in range(1, 1001)]
    assert [value for _, tag, value in got if tag == 2] == [3.0, 5.0]
    assert said == [(0, 1000, ())]


async def test_no_tag_overtakes_another_by_more_than_a_piece(monkeypatch):
    monkeypatch.setattr(history, "VALUES_PER_PIECE", 0.4)  # of a second each: pieces of 200 ms
    link = Archive({1: rows(-1, *range(0, 1001, 50)), 2: rows(-1, *range(0, 1001, 70))})
    got, said, pieces = await read_all(link)
    assert [at for at, _, _ in got] == sorted(at for at, _, _ in got)
    assert pieces > 2
    assert [until for _, until, _ in said] == [since for since, _, _ in said[1:]] + [1000]


async def test_tags_without_history_and_such_that_fail_are_not_filled_and_stop_no_other(caplog):
    link = Archive({1: rows(-1, 5), 3: rows(-1, 6)})
    link.fails[3] = 0x80720000  # BadHistoryOperationUnsupported
    got, said, _ = await read_all(link, tags=(1, 2, 3))
    assert got == [(5, 1, 5.0)]
    assert said == [(0, 1000, (1,))]
    assert "BadHistoryOperationUnsupported" in caplog.text


async def test_that_nothing_happened_is_an_answer():
    link = Archive({1: rows(-1), 2: rows(-1)})
    got, said, _ = await read_all(link)
    assert (got, said) == ([], [(0, 1000, ())])


async def test_a_history_that_begins_within_is_believed_from_its_first_value_on(monkeypatch):
    monkeypatch.setattr(history, "VALUES_PER_PIECE", 1.5)  # of 1 s each, of three tags
    link = Archive({1: rows(-1, 100), 2: rows(300, 400), 4: []})
    got, said, pieces = await read_all(link, tags=(1, 2, 4))
    assert got == [(100, 1, 100.0), (300, 2, 300.0), (400, 2, 400.0)]
    assert pieces == 2
    assert said == [(0, 500, (1,)), (300, 500, (2,)), (500, 1000, (1, 2))]


async def test_a_server_that_can_do_with_fewer_nodes_or_more_time_is_asked_again():
    link = Archive({tag: rows(-1, tag) for tag in range(1, 13)}, most_nodes=5)
    link.times_out = 2
    got, said, _ = await read_all(link, tags=range(1, 13))
    assert len(got) == 12
    assert said == [(0, 1000, ())]
    assert min(map(len, link.calls)) <= 5


async def test_what_two_notices_miss_of_some_tags_is_read_of_these_alone():
    reading = reader(Archive({1: rows(-1, 5), 2: rows(-1, 6)}))
    gap = Notice(source="plc", kind=NoticeKind.GAP, since=T0, until=T0 + 9 * MS, tags=(2,))
    lost = Notice(source="plc", kind=NoticeKind.OVERFLOW, since=T0, until=T0 + MS, tags=(1,))
    nothing = Notice(source="plc", kind=NoticeKind.GAP, since=T0, until=T0)
    assert not reading.miss([lost, nothing])  # an overflow holds nothing up
    assert reading.miss([gap])
    assert [one.tags for one in reading.missed] == [(1,), (2,)]
    got, said, _ = await read_all(reading._link, missed=[*reading.missed])
    assert got == [(6, 2, 6.0)]
    assert said == [(0, 1, (1,)), (0, 9, (2,))]


async def test_very_many_gaps_are_read_together():
    reading = reader(Archive({}))
    for n in range(200):
        reading.go_on([Span(since=T0 + n * MS, until=T0 + (n + 1) * MS, tags=(n,))])
    assert len(reading.missed) == history.MOST_SPANS
    assert reading.missed[-1].until == T0 + 200 * MS
    assert reading.missed[-1].tags == tuple(range(49, 200))


async def test_a_position_stays_small_while_gaps_of_very_many_tags_are_filled():
    few = [Span(since=T0 + n, until=T0 + n + 1, tags=(1, 2)) for n in range(5)]
    many = [Span(since=T0 + 9, until=T0 + 10 + n, tags=tuple(range(20_000))) for n in range(10)]
    reading = reader(Archive({}))
    order = Order("plc", reading._settings, Archive({}), Meanings("plc", {}), Counter())
    order.begin(Position(until=T0, started=1, kept=()), few + many)
    text = order._text()
    assert len(text) < 8192
    assert Position.read(text).missed == (*few, *(replace(one, tags=()) for one in many))
    assert order.history.missed == few + many


async def test_where_gaps_are_to_stay_nothing_is_asked():
    reading = reader(Archive({}), fill_gaps=False)
    gap = Notice(source="plc", kind=NoticeKind.GAP, since=T0, until=T0 + MS)
    assert not reading.miss([gap])
    reading.go_on([Span(since=T0, until=T0 + MS, tags=())])
    assert reading.missed == []


# ---- against servers ----------------------------------------------------------------------------

broker = [pytest.mark.broker, pytest.mark.timeout(90)]


def now_ns():
    return int(datetime.now(UTC).timestamp() * 1000) * MS


def is_filled(some):
    filled = notices(some, NoticeKind.FILLED)
    gap = notices(some, NoticeKind.GAP)
    return bool(gap) and bool(filled) and filled[-1].until == gap[0].until


def replayed(taken, tag=1):
    return values([one for one in taken if isinstance(one, Samples) and one.flags[0] == 2], tag)


def live(taken, tag=1):
    return values([one for one in taken if isinstance(one, Samples) and one.flags[0] != 2], tag)


class OfNode:
    """A node with a history on the shared node-opcua server."""

    def __init__(self):
        self.server, self.name = shared_node_server(), f"history-{free_port()}"
        self.server.tell({"add": self.name, "history": True})

    def write(self, value):
        self.server.set(self.name, value, time=now_ns())

    def source(self, **given):
        return source(self.server.port, [self.name], **given)


class OfPlc:
    """A node of asyncua's server."""

    def __init__(self, history="memory"):
        self.corner = corner({"flow": 0.0}, history=history)

    def write(self, value):
        self.corner.set("flow", value, time=now_ns())

    def source(self, **given):
        return self.corner.source(["flow"], **given)


@pytest.fixture(params=[OfNode, OfPlc], ids=["node-opcua", "asyncua"])
def peer(request):
    return request.param()


async def missed(plant, peer, numbers):
    """Listen, be away while these are written, and be forgotten by the server."""
    peer.write(-1.0)
    await plant.open(resume=None)
    stored = await take(
        plant, lambda some: -1.0 in values(some) and notices(some, NoticeKind.ALIVE)
    )
    await plant.close()
    for n in numbers:
        peer.write(float(n))
        await asyncio.sleep(0.005)
    return forgotten(last_position(stored)), stored


class TestAgainstServers:
    pytestmark = broker

    async def test_a_gap_is_said_then_filled_in_pieces_before_what_is_new(self, peer, monkeypatch):
        monkeypatch.setattr(history, "VALUES_PER_CALL", 30)  # several answers a piece
        plant = peer.source()
        position, stored = await missed(plant, peer, range(100))
        await plant.open(resume=position)
        peer.write(500.0)  # while history is read
        taken = await take(plant, lambda some: 500.0 in live(some))
        status = plant.status()
        await plant.close()
        kinds = [one.kind if isinstance(one, Notice) else int(one.flags[0]) for one in taken]
        first_live = kinds.index(0)
        (gap,) = notices(taken, NoticeKind.GAP)
        assert kinds[0] is NoticeKind.GAP
        assert kinds[first_live - 2 : first_live] == [NoticeKind.FILLED, NoticeKind.ALIVE]
        assert gap.since == notices(stored, NoticeKind.ALIVE)[-1].until
        assert [n for n in replayed(taken) if 0 <= n < 100] == [float(n) for n in range(100)]
        assert len(replayed(taken)) <= 102  # those at its ends may come again, by tag and time
        filled = notices(taken, NoticeKind.FILLED)
        assert (filled[0].since, filled[-1].until) == (gap.since, gap.until)
        assert [one.until for one in filled[:-1]] == [one.since for one in filled[1:]]
        assert (status["fills_pending"], status["filled_total"]) == (0, len(filled))
        assert status["replayed_total"] >= 100

    async def test_a_fill_that_is_cut_goes_on_where_it_was_and_nothing_is_lost(
        self, peer, monkeypatch
    ):
        monkeypatch.setattr(history, "VALUES_PER_PIECE", 2)  # of 50 ms each: pieces of 100 ms
        plant = peer.source()
        position, _ = await missed(plant, peer, range(60))
        await plant.open(resume=position)
        first = await take(
            plant, lambda some: len(notices(some, NoticeKind.FILLED)) == 2 and some[-1].position
        )
        assert not is_filled(first)
        await plant.close()
        assert Position.read(last_position(first)).missed
        peer.write(500.0)
        again = peer.source()
        await again.open(resume=last_position(first))
        rest = await take(again, lambda some: 500.0 in live(some))
        await again.close()
        taken = [*first, *rest]
        assert [n for n in replayed(taken) if 0 <= n < 60] == [float(n) for n in range(60)]
        gap, filled = notices(taken, NoticeKind.GAP)[0], notices(taken, NoticeKind.FILLED)
        assert any(one.until == gap.until for one in filled)

    async def test_without_patience_new_values_come_first_and_history_as_late(self, peer):
        plant = peer.source(fill_wait_s=0, history_delay_s=0.5)
        position, _ = await missed(plant, peer, range(5))
        await plant.open(resume=position)
        taken = await take(plant, is_filled)
        await plant.close()
        kinds = [int(one.flags[0]) for one in taken if isinstance(one, Samples)]
        assert kinds[0] != Flag.REPLAYED
        assert kinds[-1] == Flag.REPLAYED
        assert [n for n in replayed(taken) if n >= 0] == [0.0, 1.0, 2.0, 3.0, 4.0]

    async def test_a_message_that_was_left_out_is_read_from_history(self, peer):
        plant = peer.source()
        peer.write(1.0)
        await plant.open(resume=None)
        await take(plant, lambda some: notices(some, NoticeKind.ALIVE))
        plant._listening.subscriptions[0].sequence -= 1  # as if we had never seen the last
        peer.write(2.0)
        taken = await take(plant, lambda some: 2.0 in live(some))
        await plant.close()
        kinds = [one.kind if isinstance(one, Notice) else int(one.flags[0]) for one in taken]
        order = [kinds.index(kind) for kind in (NoticeKind.GAP, NoticeKind.FILLED, 0)]
        assert order == sorted(order)  # what came with the news of the gap waited, too


@pytest.mark.broker
@pytest.mark.timeout(90)
async def test_where_silence_says_nothing_history_fills_a_gap_and_vouches_for_nothing():
    peer = OfPlc()
    position, _ = await missed(peer.source(), peer, [1, 2])
    plant = peer.source(silence="unknown")
    await plant.open(resume=position)
    taken = await take(plant, is_filled)
    await plant.close()
    assert [n for n in replayed(taken) if n > 0] == [1.0, 2.0]
    assert notices(taken, NoticeKind.ALIVE) == []


@pytest.mark.broker
@pytest.mark.timeout(90)
async def test_a_gap_without_history_stays_and_holds_up_nothing():
    peer = OfPlc(history=None)
    plant = peer.source()
    position, _ = await missed(plant, peer, [1, 2])
    await plant.open(resume=position)
    taken = await take(plant, lambda some: 2.0 in values(some))
    status = plant.status()
    await plant.close()
    assert len(notices(taken, NoticeKind.GAP)) == 1
    assert notices(taken, NoticeKind.FILLED) == []
    assert replayed(taken) == []
    assert status["fills_pending"] == 0


@pytest.mark.broker
@pytest.mark.timeout(90)
async def test_of_a_server_that_was_killed_all_is_filled_that_its_history_kept(tmp_path):
    port = free_port()
    plant = source(port, [1])
    server = PlcServer(tmp_path, port=port, history=str(tmp_path / "history.db"))
    with started(server):
        server.set(1, -1.0, time=now_ns())
        await plant.open(resume=None)
        stored = await take(
            plant, lambda some: -1.0 in values(some) and notices(some, NoticeKind.ALIVE)
        )
        await plant.close()
        for n in range(1, 20):
            server.set(1, float(n), time=now_ns())
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.3)  # its history is written a moment later
        server.stop(signal.SIGKILL)
        server.start()
        server.set(1, 100.0, time=now_ns())
        await plant.open(resume=last_position(stored))
        taken = await take(plant, lambda some: 100.0 in live(some))
        await plant.close()
    (gap,) = notices(taken, NoticeKind.GAP)
    filled = notices(taken, NoticeKind.FILLED)
    assert [n for n in replayed(taken) if 0 < n < 20] == [float(n) for n in range(1, 20)]
    assert (filled[0].since, filled[-1].until) == (gap.since, gap.until)

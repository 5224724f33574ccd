"""From the outbox to a sink: in order, all of it, whatever the sink does."""

import asyncio
import contextlib
import logging
import threading
import time

import pytest
from support.keeping import message
from support.plants import HeldClock, until
from support.sources import hang, stuck

from connectors.contract import NotReadyError, RefusedError
from connectors.points import Message
from monitor.live import calls
from monitor.live import delivery as delivery_room
from monitor.live.delivery import Deliveries, Delivery
from monitor.state.database import Database
from monitor.state.errors import FailingDiskError, StorageFullError
from monitor.state.outbox import Outbox
from monitor.state.writer import BOUND_BYTES, Writer


class Peer:
    """A sink that does what it is told to, one answer after the other, and then takes all."""

    accepts = (Message,)
    name = "peer"

    def __init__(self, *answers):
        self.answers = list(answers)
        self.opening = []  # answers at the door
        self.taken = []
        self.tries = []  # monotonic s
        self.opened = self.closed = 0

    async def open(self):
        if self.opening:
            raise self.opening.pop(0)
        self.opened += 1

    async def deliver(self, items):
        self.tries.append(time.monotonic())
        if self.answers and (answer := self.answers.pop(0)) is not None:
            if isinstance(answer, RefusedError) and answer.items:
                self.taken += [x.id for n, x in enumerate(items) if n not in answer.items]
            raise answer
        self.taken += [item.id for item in items]

    async def close(self):
        self.closed += 1


class Post:
    """A delivery at work on an outbox of its own."""

    def __init__(self, database, writer, peer):
        self.database, self.writer, self.peer = database, writer, peer
        self.outbox = Outbox(database)
        self.delivery = Delivery(peer, outbox=self.outbox, writer=writer, clock=HeldClock(0))
        with database.atomic() as tx:
            self.outbox.register(tx, {"peer": (Message,)})

    def put(self, *names):
        with self.database.atomic() as tx:
            self.outbox.put(tx, [message(name) for name in names])
        self.delivery.wake()

    def waits(self):
        return self.outbox.backlog("peer").items

    @contextlib.asynccontextmanager
    async def at_work(self):
        task = asyncio.create_task(self.delivery.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def post(tmp_path, monkeypatch):
    monkeypatch.setattr("monitor.live.backoff.random.uniform", lambda _low, high: high / 25)
    with Database(tmp_path / "state") as database, Writer(database, group_s=0.001) as writer:
        yield lambda *answers: Post(database, writer, Peer(*answers))


def away(retry_after_s=None):
    return NotReadyError("nobody answers", connector="peer", retry_after_s=retry_after_s)


def refuses(*items):
    return RefusedError("will not have it", connector="peer", items=items)


async def test_items_arrive_in_their_order_and_only_once(post):
    one = post()
    names = [f"m{n}" for n in range(1200)]  # more than one delivery takes
    async with one.at_work():
        one.put(*names[:700])
        await one.delivery.idle.wait()
        one.put(*names[700:])
        await until(lambda: not one.waits())
    assert one.peer.taken == names
    assert one.peer.closed >= 1


async def test_the_next_delivery_goes_on_where_the_last_one_was(post):
    one = post()
    one.put("a", "b")
    async with one.at_work():
        await one.delivery.idle.wait()
    one.put("c")
    async with one.at_work():
        await until(lambda: not one.waits())
    assert one.peer.taken == ["a", "b", "c"]


async def test_a_sink_that_is_away_gets_all_in_order_when_it_is_back(post, caplog):
    one = post(away(), away(), None, away())
    one.put("a", "b")
    async with one.at_work():
        await one.delivery.idle.wait()
        one.put("c")
        await until(lambda: not one.waits())
    assert one.peer.taken == ["a", "b", "c"]
    assert one.peer.opened == one.peer.closed == 4
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert said == ["Sink peer is held up: nobody answers"] * 2  # each outage once


async def test_of_an_outage_each_reason_is_said_once_and_not_without_end(post, caplog, monkeypatch):
    monkeypatch.setattr("monitor.live.backoff.random.uniform", lambda *_: 0.0)
    reasons = ["closed", "silent"] * 3 + [f"request {n} failed" for n in range(9)]
    one = post(*[NotReadyError(reason, connector="peer") for reason in reasons])
    one.put("a")
    async with one.at_work():
        await one.delivery.idle.wait()
    assert one.peer.taken == ["a"]
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    told = ["closed", "silent", "request 0 failed", "request 1 failed", "request 2 failed"]
    assert said == [f"Sink peer is held up: {reason}" for reason in told]


async def test_a_sink_that_cannot_be_opened_is_tried_again(post):
    one = post()
    one.peer.opening = [away(), away()]
    one.put("a")
    async with one.at_work():
        await one.delivery.idle.wait()
    assert one.peer.taken == ["a"]


async def test_a_full_disk_of_our_own_is_not_said_to_be_the_sink(post, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    one, full = post(), [StorageFullError("state.db: the disk is full")]
    advance = Outbox.advance

    def no_room(*given):
        if full:
            raise full.pop()
        advance(*given)

    monkeypatch.setattr(Outbox, "advance", no_room)
    one.put("a")
    async with one.at_work():
        await until(lambda: not one.waits())
        await one.delivery.idle.wait()
    assert one.peer.taken == ["a", "a"]
    held_up, over = [r.getMessage() for r in caplog.records if "peer" in r.getMessage()]
    assert held_up == (
        "Sink peer is held up: what it took cannot be noted, and will be sent again: "
        "state.db: the disk is full"
    )
    assert over == "Deliveries to sink peer go on."


async def test_the_time_a_sink_asks_for_is_honoured(post):
    one = post(away(retry_after_s=0.7))
    one.put("a")
    async with one.at_work():
        await one.delivery.idle.wait()
    first, second = one.peer.tries
    assert second - first >= 0.7
    assert one.peer.taken == ["a"]


async def test_a_refused_item_is_put_aside_and_the_others_are_not_sent_again(post):
    one = post(refuses(1))
    one.put("a", "poison", "c")
    async with one.at_work():
        await one.delivery.idle.wait()
    assert one.peer.taken == ["a", "c"]
    ((letter, reason),) = [(x.item, x.reason) for x in one.outbox.dead_letters()]
    assert (letter.id, reason) == ("poison", "will not have it")
    assert one.waits() == 0


class Picky(Peer):
    """Refuses whole deliveries that hold what it dislikes, without saying which it is."""

    def __init__(self, *disliked):
        super().__init__()
        self.disliked = set(disliked)

    async def deliver(self, items):
        if self.disliked & {item.id for item in items}:
            raise RefusedError("something is wrong with it", connector="peer")
        await super().deliver(items)


@pytest.mark.parametrize("disliked", [["m0"], ["m6"], ["m2", "m3"], [f"m{n}" for n in range(7)]])
async def test_a_refused_delivery_is_halved_until_the_poison_is_found(disliked, post):
    one = post()
    one.delivery.sink = one.peer = Picky(*disliked)
    names = [f"m{n}" for n in range(7)]
    one.put(*names)
    async with one.at_work():
        await one.delivery.idle.wait()
    assert one.peer.taken == [name for name in names if name not in disliked]
    assert [letter.item.id for letter in one.outbox.dead_letters()] == disliked


async def test_a_sink_that_goes_away_in_the_middle_of_a_search_loses_nothing(post):
    one = post(RefusedError("one of these", connector="peer"), None, away())
    one.put("a", "b", "c", "d")
    async with one.at_work():
        await one.delivery.idle.wait()
    assert set(one.peer.taken) == {"a", "b", "c", "d"}
    assert one.outbox.dead_letters() == []


async def test_refusals_are_said_when_they_begin_and_when_they_end_not_one_by_one(post, caplog):
    caplog.set_level(logging.INFO)
    one = post(refuses(0, 1, 2), refuses(0), refuses(0), None, refuses(0))
    async with one.at_work():
        for names in ("abcd", "e", "f", "g", "h"):
            one.put(*names)
            await until(lambda: not one.waits())
            await one.delivery.idle.wait()
    said = [r.getMessage() for r in caplog.records if "peer" in r.getMessage()]
    assert said == [
        "Sink peer refuses items for good, as 1: will not have it",
        "Sink peer takes every item again; 5 were put aside.",
        "Sink peer refuses items for good, as 8: will not have it",
    ]
    assert len(one.outbox.dead_letters()) == 6


async def test_a_writer_that_is_full_holds_up_the_delivery_and_not_the_event_loop(post):
    one, free = post(), threading.Event()
    one.put("a")
    one.writer.submit(lambda _: free.wait(), size=BOUND_BYTES)
    rescue = threading.Timer(5, free.set)  # or the loop would stand still for ever
    rescue.start()
    async with one.at_work():
        await until(lambda: one.peer.taken)
        await asyncio.sleep(0.1)
        assert not free.is_set(), "the loop stood still until it was rescued"
        assert one.waits()
        free.set()
        await one.delivery.idle.wait()
    rescue.cancel()


async def test_a_delivery_that_is_cancelled_leaves_no_thread_that_reads(post, monkeypatch):
    one = post()
    reading, go_on = threading.Event(), threading.Event()

    def pending(*_args, **_given):
        reading.set()
        go_on.wait(10)
        return []

    monkeypatch.setattr(Outbox, "pending", pending)
    task = asyncio.create_task(one.delivery.run())
    await until(reading.is_set)
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=0.1)
    assert not done
    go_on.set()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_an_item_that_does_not_read_back_blocks_no_other(post):
    one = post()
    one.put("a", "b", "c")
    with one.database.atomic() as tx:
        tx.execute("UPDATE outbox SET body = zeroblob(100) WHERE id = 'b'")
    async with one.at_work():
        await until(lambda: not one.waits())
    assert one.peer.taken == ["a", "c"]
    ((number, reason),) = [(x.number, x.reason) for x in one.outbox.dead_letters()]
    assert number == 2
    assert "outbox item 2" in reason


async def test_a_sink_that_refuses_at_the_door_is_left_alone_for_long(post, monkeypatch):
    monkeypatch.setattr(delivery_room, "REFUSED_S", 0.3)
    one = post()
    one.peer.opening = [refuses()]
    one.put("a")
    started = time.monotonic()
    async with one.at_work():
        await one.delivery.idle.wait()
    assert one.peer.taken == ["a"]
    assert time.monotonic() - started >= 0.3


async def test_a_sink_is_closed_before_it_is_left_alone_for_a_while(post):
    one = post(away(retry_after_s=3600))
    async with one.at_work():
        one.put("m1")
        await until(lambda: one.peer.closed == 1)
        assert one.waits() == 1


async def test_a_bug_of_a_sink_is_an_outage_of_that_sink_said_once_with_its_traceback(post, caplog):
    one = post(KeyError("oops"), KeyError("oops"))
    one.peer.opening = [ValueError("oops")]
    one.put("a")
    async with one.at_work():
        await one.delivery.idle.wait()
    assert one.peer.taken == ["a"]
    said = [record for record in caplog.records if record.exc_info]
    assert [type(record.exc_info[1]) for record in said] == [ValueError, KeyError]


async def raises():
    raise KeyError("oops")


@pytest.mark.parametrize("way", [raises, hang, stuck], ids=["raises", "hangs", "stuck"])
async def test_a_sink_that_does_not_close_holds_nobody_up(way, post, monkeypatch):
    monkeypatch.setattr(calls, "CLOSE_S", 0.1)
    monkeypatch.setattr(calls, "LET_GO_S", 0.1)
    one = post(away())
    one.peer.close = way
    one.put("a")
    async with asyncio.timeout(10), one.at_work():
        await one.delivery.idle.wait()
    assert one.peer.taken == ["a"]
    while one.delivery._calls._left:
        stuck.over.set()
        await asyncio.sleep(0.01)


async def test_where_the_disk_cannot_be_read_nobody_knows_that_all_was_delivered(post, monkeypatch):
    one, loop = post(), threading.get_ident()

    def failing(*_):
        assert threading.get_ident() != loop, "it stops the event loop"
        raise FailingDiskError("no answer")

    every = Deliveries(outbox=one.outbox, writer=one.writer, clock=HeldClock(0))
    every.start(one.peer)
    with monkeypatch.context() as patch:
        patch.setattr(Outbox, "backlog", failing)
        assert not await every.wait(5)
    assert await every.wait(5)
    await every.close()

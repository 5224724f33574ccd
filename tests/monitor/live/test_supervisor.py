"""One source and its supervisor, in a world in which everything fails."""

import asyncio
import logging
import threading

import numpy as np
import pytest
from support.plants import HeldClock, until
from support.sources import (
    ENDED,
    SECOND,
    HeldTime,
    World,
    assignment,
    desk,
    hang,
    sample,
    stuck,
    supervised,
)

from connectors.batch import Notice, NoticeKind
from connectors.contract import LostError, MismatchError, NotReadyError, RefusedError, TagRef
from monitor.core.conservation import Conservation
from monitor.live import calls
from monitor.live import supervisor as room
from monitor.live.supervisor import LONGEST_S, PER_MINUTE, REBUILD_AFTER, SAVED, Supervisor
from monitor.state.errors import CorruptError, StorageFullError
from monitor.state.journal import Journal


def away(words="no answer", **given):
    return NotReadyError(words, connector="m", **given)


def lost(words="cut"):
    return LostError(words, connector="m")


def told(caplog):
    return [record.getMessage() for record in caplog.records]


def notices(place, kind):
    bodies = [record.body for _, record in place.journal.read(0)]
    return [one for one in bodies if isinstance(one, Notice) and one.kind is kind]


async def over(supervisor):
    await until(lambda: supervisor.over)


# ---- opened again -------------------------------------------------------------------------------


async def test_a_lost_source_is_opened_again_where_the_journal_ends(tmp_path):
    world = World([sample(1), sample(2), lost()], [sample(3), ENDED])
    async with supervised(world, tmp_path, time=HeldTime()) as found:
        await over(found)
    assert world.resumed == [None, "2"]
    assert (found.state, found.desired, found.restarts) == ("ended", "stopped", 1)
    assert world.accepted == ["1", "2", "3"]


async def test_a_source_that_is_away_is_opened_within_five_seconds_of_its_return(tmp_path):
    """However long it was away: data is to flow ten seconds after."""
    time, world = HeldTime(), World([ENDED], door=[*[away()] * 300, None])
    async with supervised(world, tmp_path, time=time) as found:
        await over(found)
    assert len(world.openings) == 301
    assert max(time.slept, default=0.0) <= LONGEST_S


async def test_a_peer_that_asks_for_patience_gets_it(tmp_path):
    time, world = HeldTime(), World([ENDED], door=[away(retry_after_s=60.0), None])
    async with supervised(world, tmp_path, time=time) as found:
        await over(found)
    assert time.slept == [60.0]


@pytest.mark.parametrize("lived_s", [0.0, 61.0])
async def test_a_link_that_comes_and_goes_is_not_opened_too_often(tmp_path, lived_s, monkeypatch):
    monkeypatch.setattr("monitor.live.backoff.random.uniform", lambda *_: 0.0)  # no pause by chance
    time = HeldTime()

    async def live():
        time.second += lived_s
        raise lost()

    world = World(*[[live]] * 40, [ENDED])
    async with supervised(world, tmp_path, time=time) as found:
        await over(found)
    minutes = (world.openings[-1] - world.openings[0]) / 60
    assert len(world.openings) - 1 <= SAVED + PER_MINUTE * minutes
    assert max(time.slept, default=0.0) <= LONGEST_S


async def test_the_pause_is_short_again_only_after_a_link_that_lived(tmp_path):
    time = HeldTime()

    def living(seconds):
        async def live():
            time.second += seconds
            raise lost()

        return [sample(1), live]

    world = World(*[living(10.0)] * 8, living(61.0), [ENDED])
    async with supervised(world, tmp_path, time=time) as found:
        await over(found)
    assert min(time.slept[4:8]) >= LONGEST_S / 2
    assert time.slept[8] <= 0.5


async def test_a_long_attempt_is_followed_by_the_next_at_once(tmp_path):
    time = HeldTime()

    async def no_answer():
        time.second += 10.0
        raise away()

    world = World([ENDED], door=[no_answer, no_answer, None])
    async with supervised(world, tmp_path, time=time) as found:
        await over(found)
    assert time.slept == []


async def test_a_source_is_closed_before_it_is_left_alone_for_a_while(tmp_path):
    world = World([sample(1), lost()])
    async with supervised(world, tmp_path) as found:
        await until(lambda: found.state == "waiting" and found.reason)
        await until(lambda: not world.open)
        assert len(world.openings) == 1


async def test_a_source_that_refuses_is_given_up_and_is_not_wanted_any_more(tmp_path, caplog):
    world = World([], door=[MismatchError("no such column", connector="m")])
    async with supervised(world, tmp_path) as found:
        await over(found)
    assert (found.state, found.desired, found.mismatch) == ("refused", "stopped", True)
    assert told(caplog) == ["Source m is given up: no such column"]


# ---- what is said -------------------------------------------------------------------------------


async def test_of_an_outage_each_reason_is_said_once_and_not_without_end(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    reasons = ["closed", "silent"] * 3 + [f"request {n} failed" for n in range(9)]
    world = World([ENDED], door=[*map(away, reasons), None])
    async with supervised(world, tmp_path, time=HeldTime()) as found:
        await over(found)
    waits = "Source m waits, and is tried again: "
    assert told(caplog) == [
        *[waits + reason for reason in ("closed", "silent")],
        f"Source m failed {REBUILD_AFTER} times in a row, and is made anew: closed",
        *[waits + f"request {n} failed" for n in range(3)],
        "Source m is open.",
        "Source m is ended.",
    ]


async def test_a_link_that_comes_and_goes_does_not_fill_the_log(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    world = World(*[[lost()]] * 40, [ENDED])
    async with supervised(world, tmp_path, time=HeldTime()) as found:
        await over(found)
    assert len(told(caplog)) < 8
    assert told(caplog)[-1] == "Source m is ended."


async def test_a_gap_is_said_with_its_length_and_its_end(tmp_path, caplog):
    since, end = 1_700_000_000 * SECOND, 1_700_000_045_200_000_000
    gap = Notice(source="m", kind=NoticeKind.GAP, since=since, until=end, reason="nobody listened")
    async with supervised(World([gap, ENDED]), tmp_path) as found:
        await over(found)
    assert told(caplog) == [
        "Source m: a gap of 45.2 s, up to 2023-11-14T22:14:05.200+00:00: nobody listened."
    ]


async def test_the_journal_hears_of_a_lost_link_after_all_that_came_over_it(tmp_path):
    world = World([sample(1), lost("cut by a digger")], [ENDED], door=[away(), None])
    clock = HeldClock(7.0)
    with desk(tmp_path, clock=clock) as place:
        found = Supervisor(assignment(world.make), desk=place, sleep=HeldTime().sleep)
        found.start()
        await over(found)
        (notice,) = notices(place, NoticeKind.LOST)
        kinds = [type(record.body).__name__ for _, record in place.journal.read(0)]
    assert (notice.since, notice.reason) == (clock.now(), "cut by a digger")
    assert kinds == ["Samples", "Notice", "Notice"]  # an attempt in vain is no loss


# ---- the watchdog -------------------------------------------------------------------------------


async def test_a_peer_without_a_sign_of_life_is_lost_and_opened_again_whatever_its_client_says(
    tmp_path, caplog
):
    world = World([sample(1), hang], [sample(2), ENDED], watchdog_s=0.1)
    async with supervised(world, tmp_path) as found:
        await over(found)
    assert (found.watchdog, found.restarts) == (1, 1)
    assert world.resumed == [None, "1"]
    assert "no sign of life from its peer for 0.1 s, want one every 0.1 s" in told(caplog)[0]


async def test_a_lost_source_is_seen_as_lost_though_it_hangs_in_every_call(tmp_path, monkeypatch):
    monkeypatch.setattr(calls, "LET_GO_S", 3600.0)
    async with supervised(World([sample(1), stuck], watchdog_s=0.1), tmp_path) as found:
        await until(lambda: found.state == "running")
        await until(lambda: found.state == "waiting")
        assert not standing(found).connected
        assert not standing(found).fresh
        stuck.over.set()


async def test_while_our_own_disk_is_full_no_peer_is_taken_for_dead(tmp_path, monkeypatch):
    full = [True]
    append = Journal.append

    def appended(journal, tx, row):
        if full[0]:
            raise StorageFullError("the disk is full")
        return append(journal, tx, row)

    monkeypatch.setattr(Journal, "append", appended)
    world = World([sample(1), hang], watchdog_s=0.05)
    async with supervised(world, tmp_path) as found:
        await until(lambda: found.reason == "the disk is full")
        assert found.state == "waiting"
        await asyncio.sleep(0.2)  # four times its time
        assert found.watchdog == 0
        full[0] = False
        await until(lambda: found.watchdog == 1)  # from now on it is listened to


# ---- calls that hang, and bugs ------------------------------------------------------------------


@pytest.fixture
def short(monkeypatch):
    """No patience with calls that hang."""
    monkeypatch.setattr(room, "OPEN_S", 0.1)
    monkeypatch.setattr(calls, "CLOSE_S", 0.1)
    monkeypatch.setattr(calls, "LET_GO_S", 0.1)


@pytest.mark.usefixtures("short")
async def test_an_opening_that_hangs_is_given_up_and_tried_again(tmp_path, caplog):
    world = World([sample(1), ENDED], door=[hang, None])
    async with supervised(world, tmp_path) as found:
        await over(found)
    assert world.accepted == ["1"]
    assert told(caplog) == [
        "Source m waits, and is tried again: source m: did not open within 0.1 s."
    ]


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("way", [hang, stuck], ids=["hangs", "cannot be cancelled"])
async def test_a_source_that_does_not_close_is_left_behind_and_another_is_made(way, tmp_path):
    world = World([sample(1), lost()], [sample(2), ENDED], closing=way)
    async with supervised(world, tmp_path) as found:
        await over(found)
        assert (world.made, found.rebuilds) == (2, 1)
    assert world.accepted == ["1", "2"]


@pytest.mark.usefixtures("short")
async def test_a_stop_ends_in_bounded_time_whatever_hangs(tmp_path):
    world = World([sample(1), stuck], closing=stuck)
    async with supervised(world, tmp_path) as found:
        await until(lambda: world.accepted)
        await asyncio.wait_for(found.stop(), 5)


def cancelled():
    """As when a task of the client was cancelled, and somebody waits for it."""
    raise asyncio.CancelledError


unstorable = Notice(source="m", kind=NoticeKind.REJECTED, reason="x", count=np.int64(2))


@pytest.mark.parametrize(
    "world",
    [
        World([sample(1), ENDED], door=[ValueError("oops"), None]),
        World([sample(1), KeyError("oops")], [ENDED]),
        World([sample(1), "oops"], [ENDED]),
        World([sample(1), unstorable], [ENDED]),
        World([sample(1)], [ENDED]),
        World([sample(1), cancelled], [ENDED]),
        World([sample(1), ENDED], door=[cancelled, None]),
    ],
    ids=["open", "batches", "no batch", "unstorable", "ends", "cancelled", "cancelled at the door"],
)
async def test_a_bug_of_a_connector_is_a_failure_of_that_source_alone(world, tmp_path):
    async with supervised(world, tmp_path) as found:
        await over(found)
        assert (found.restarts, found.rebuilds) == (1, 0)
    assert world.accepted == ["1"]


async def test_a_source_that_ends_without_a_word_is_lost(tmp_path, caplog):
    async with supervised(World([sample(1)], [ENDED]), tmp_path, time=HeldTime()) as found:
        await over(found)
    (said,) = told(caplog)
    assert said.endswith("source m: it ended, and did not say so.")


async def test_a_bug_is_logged_with_its_traceback_once(tmp_path, caplog):
    world = World([ENDED], door=[*[ValueError("oops")] * 3, None])
    async with supervised(world, tmp_path, time=HeldTime()) as found:
        await over(found)
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert "ValueError: oops. This is a bug of the connector" in record.getMessage()
    assert isinstance(record.exc_info[1], ValueError)


async def test_a_bug_in_accepted_is_a_failure_of_that_source_alone(tmp_path):
    world = World([sample(1), hang], [sample(2), ENDED])
    world.accepting = [ValueError("oops"), None]
    async with supervised(world, tmp_path) as found:
        await over(found)
    assert world.resumed == [None, "1"]


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (lambda: 1 / 0, "failed: ZeroDivisionError: division by zero"),
        (lambda: {"level": None}, "failed: TypeError: must be real number, not NoneType"),
    ],
    ids=["raises", "says what is no number"],
)
async def test_a_source_that_cannot_say_how_it_stands_spoils_nothing(status, said, tmp_path):
    async with supervised(World([hang]), tmp_path) as found:
        found.source.status = status
        assert standing(found).peer == {"status": said}


async def test_a_bug_of_ours_is_not_taken_for_one_of_the_source(tmp_path, monkeypatch):
    def broken(*_):
        raise CorruptError("the database is damaged")

    monkeypatch.setattr(Journal, "append", broken)
    world = World([sample(1), hang])
    with desk(tmp_path) as place:
        found = Supervisor(assignment(world.make), desk=place)
        found.start()
        with pytest.raises(CorruptError):
            await until(found.raise_failure)
    assert world.open == 0


# ---- made anew ----------------------------------------------------------------------------------


async def test_after_failures_in_a_row_a_source_is_made_anew_and_its_totals_go_on(tmp_path):
    world = World([sample(1), ENDED], door=[*[away()] * (REBUILD_AFTER + 1), None])
    world.status = {"reconnects_total": 3, "level": 7.0, "words": "x"}
    async with supervised(world, tmp_path, time=HeldTime()) as found:
        await over(found)
        assert (world.made, found.rebuilds) == (2, 1)
        assert standing(found).peer == {"reconnects_total": 6, "level": 7.0, "words": "x"}


async def test_failures_before_a_link_that_lived_do_not_count(tmp_path):
    time = HeldTime()

    async def live():
        time.second += 61.0
        raise lost()

    few = [away()] * (REBUILD_AFTER - 2)
    world = World([live], [ENDED], door=[*few, None, *few, None])
    async with supervised(world, tmp_path, time=time) as found:
        await over(found)
        assert (world.made, found.restarts) == (1, 2 * len(few) + 1)


# ---- what flows ---------------------------------------------------------------------------------


def standing(supervisor):
    return supervisor.standing(supervisor._desk.clock.now(), Conservation(), {})


async def test_a_source_is_fresh_only_by_what_came_over_the_link_that_is_open(tmp_path):
    clock, again, told_lost = HeldClock(0.0), asyncio.Event(), asyncio.Event()

    async def cut():
        await told_lost.wait()
        raise lost()

    world = World([sample(1), cut], [again.wait, sample(2), hang])
    async with supervised(world, tmp_path, clock=clock, expected_s=30.0) as found:
        await until(lambda: found.state == "running")
        assert standing(found).fresh
        clock.second = 1.0
        told_lost.set()
        await until(lambda: found.restarts == 1 and found.state == "silent")
        seen = standing(found)
        assert (seen.connected, seen.fresh, seen.heard_age_s) == (True, False, 1.0)
        again.set()
        await until(lambda: found.state == "running")
        assert standing(found).fresh
        clock.second = 32.0
        assert (found.state, standing(found).fresh) == ("silent", False)


async def test_a_word_that_nothing_changed_is_heard_and_a_gap_is_not(tmp_path):
    def notice(kind):
        return Notice(source="m", kind=kind, since=1, until=2, reason="x")

    gate = asyncio.Event()
    world = World([notice(NoticeKind.GAP), gate.wait, notice(NoticeKind.ALIVE), hang])
    async with supervised(world, tmp_path) as found:
        await world.asked.wait()
        assert found.state == "silent"
        gate.set()
        await until(lambda: found.state == "running")
        assert standing(found).sample_age_s is None


async def test_tags_that_gave_no_usable_value_are_known_over_all_links(tmp_path):
    world = World([sample(1, tag=4), lost()], [sample(2, tag=5), ENDED])
    async with supervised(world, tmp_path, a=4, b=5, c=6) as found:
        await over(found)
        assert standing(found).silent == ("c",)


# ---- changed while it runs ----------------------------------------------------------------------


async def test_a_source_that_is_replaced_is_closed_before_the_new_one_opens(tmp_path):
    world = World([sample(1), hang], [sample(2), ENDED])
    async with supervised(world, tmp_path) as found:
        await until(lambda: world.accepted)
        await found.replace(assignment(world.make, b=2))
        await over(found)
        assert world.resumed == [None, "1"]
        assert standing(found).silent == ("b",)


@pytest.mark.usefixtures("short")
async def test_a_source_is_opened_behind_what_a_call_left_behind_has_on_its_way(tmp_path):
    begun, disk, there = threading.Event(), threading.Event(), asyncio.Event()

    def slow(_):
        begun.set()
        disk.wait(10)

    async def slow_disk():
        found._desk.writer.submit(slow, size=1)
        await until(begun.is_set)

    async def hung():
        there.set()
        await hang()

    world = World([slow_disk, sample(1), hung], [ENDED])
    async with supervised(world, tmp_path) as found:
        await there.wait()
        await found.replace(found.assignment)
        waiting = found._desk.writer.counters  # the sample's row, and who waits for it
        await until(lambda: len(world.resumed) == 2 or waiting().waiting_jobs == 2)
        disk.set()
        await over(found)
    assert world.resumed == [None, "1"]


async def test_a_source_that_was_given_up_gets_another_chance_when_it_is_replaced(tmp_path):
    world = World([ENDED], door=[RefusedError("no such node", connector="m"), None])
    async with supervised(world, tmp_path) as found:
        await over(found)
        await found.replace(assignment(world.make))
        await until(lambda: found.state == "ended")
        assert found.reason == ""


async def test_a_replacement_that_cannot_be_made_changes_nothing(tmp_path):
    world = World([sample(1), hang])
    async with supervised(world, tmp_path) as found:
        await until(lambda: world.accepted)
        with pytest.raises(ZeroDivisionError):
            await found.replace(assignment(lambda: 1 / 0))
        assert (found.state, world.open) == ("running", 1)


async def test_a_source_that_can_is_retuned_without_a_break(tmp_path):
    world = World([sample(1, tag=1), hang])
    async with supervised(world, tmp_path, a=1, b=2) as found:
        await until(lambda: world.accepted)
        wanted = []

        async def retune(tags):
            wanted.extend(tags)

        found.source.retune = retune
        tags = [TagRef(id=1, address="x"), TagRef(id=3, address="y")]
        await found.retune(assignment(world.make, a=1, c=3), tags)
        assert wanted == tags
        assert (len(world.openings), standing(found).silent) == (1, ("c",))


async def test_a_source_that_cannot_be_retuned_is_opened_anew(tmp_path):
    world = World([sample(1), hang])
    async with supervised(world, tmp_path) as found:
        await until(lambda: world.accepted)
        await found.retune(assignment(world.make), [])
        await until(lambda: len(world.openings) == 2)


async def test_tags_that_a_source_refuses_change_nothing(tmp_path):
    world = World([sample(1), hang])
    async with supervised(world, tmp_path) as found:
        await until(lambda: world.accepted)

        async def retune(_tags):
            raise RefusedError("no such node", connector="m")

        found.source.retune = retune
        before = found.assignment
        with pytest.raises(RefusedError):
            await found.retune(assignment(world.make), [])
        assert (found.assignment, found.state) == (before, "running")


async def test_a_source_that_is_made_anew_while_it_is_retuned_is_made_for_the_new_tags(tmp_path):
    cut = asyncio.Event()

    async def gone():
        await cut.wait()
        raise lost()

    world, other = World([sample(1), gone], [hang], closing=ValueError("oops")), World([hang])
    async with supervised(world, tmp_path, a=1) as found:
        await until(lambda: world.accepted)

        async def retune(_tags):
            cut.set()
            await until(lambda: world.made == 2)

        found.source.retune = retune
        await found.retune(assignment(other.make, b=2), [TagRef(id=2, address="y")])
        await until(lambda: other.made == 1 and found.state == "silent")
        assert found.source.world is other
        assert standing(found).silent == ("b",)


async def test_whoever_asks_for_a_stop_may_be_cancelled_and_the_source_is_closed_nevertheless(
    tmp_path,
):
    closing, end, closed = asyncio.Event(), asyncio.Event(), []

    async def slowly():
        closing.set()
        await end.wait()
        closed.append(True)

    world = World([sample(1), hang], closing=slowly)
    async with supervised(world, tmp_path) as found:
        await until(lambda: world.accepted)
        replacing = asyncio.create_task(found.replace(assignment(world.make)))
        await closing.wait()
        replacing.cancel()
        await asyncio.wait((replacing,))
        end.set()
        await found.stop()
        assert closed == [True]
        assert world.made == 2
        assert len(world.openings) == 1

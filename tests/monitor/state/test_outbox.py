import logging
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.keeping import START, message, points, same

from connectors.points import Message, Points
from monitor.state.database import Database
from monitor.state.errors import CorruptError
from monitor.state.losses import Losses
from monitor.state.outbox import Outbox

ALL = (Message, Points)


@pytest.fixture
def outbox(database):
    """An outbox with a database sink and a webhook."""
    outbox = Outbox(database)
    with database.atomic() as tx:
        outbox.register(tx, {"influx": (Points,), "hook": (Message,)})
    return outbox


def put(outbox, *items):
    with outbox.database.atomic() as tx:
        return outbox.put(tx, items)


def numbers(outbox, sink, limit_items=100, limit_bytes=1 << 20):
    found = outbox.pending(sink, limit_items=limit_items, limit_bytes=limit_bytes)
    return [number for number, _ in found]


def advance(outbox, sink, number):
    with outbox.database.atomic() as tx:
        outbox.advance(tx, sink, number)


def prune(outbox):
    with outbox.database.atomic() as tx:
        return outbox.prune(tx, limit=1000)


def test_items_read_back_equal_after_a_restart(tmp_path):
    with Database(tmp_path) as database, database.atomic() as tx:
        Outbox(database).register(tx, {"all": ALL})
        Outbox(database).put(tx, [message("m1"), points(1, 2)])
    with Database(tmp_path) as database:
        found = Outbox(database).pending("all", limit_items=9, limit_bytes=1 << 20)
    assert [number for number, _ in found] == [1, 2]
    assert same(found[0][1], message("m1"))
    assert same(found[1][1], points(1, 2))


def test_texts_of_points_read_back_equal(outbox):
    told = replace(points(1, 2), texts={"said": ("too hot", "")})
    put(outbox, told)
    assert same(outbox.pending("influx", limit_items=1, limit_bytes=1)[0][1], told)


def test_a_field_named_time_is_not_the_time(outbox):
    item = points(1)
    odd = Points(measurement="x", tags={}, time=item.time, fields={"time": item.fields["valid"]})
    put(outbox, odd)
    assert same(outbox.pending("influx", limit_items=1, limit_bytes=1)[0][1], odd)


def test_a_message_put_twice_is_stored_once(outbox):
    assert put(outbox, message("m1"), message("m2"), message("m1")) == 2
    assert put(outbox, message("m2")) == 0
    assert numbers(outbox, "hook") == [1, 2]


def test_items_of_a_transaction_that_failed_are_not_sent(outbox):
    with pytest.raises(ZeroDivisionError), outbox.database.atomic() as tx:
        outbox.put(tx, [message(str(outbox.put(tx, [message("m1")]) // 0))])
    assert numbers(outbox, "hook") == []


def test_each_sink_gets_what_it_accepts_at_its_own_pace(outbox):
    put(outbox, message("m1"), points(1), message("m2"), points(2))
    assert numbers(outbox, "hook") == [1, 3]
    assert numbers(outbox, "influx") == [2, 4]
    advance(outbox, "influx", 4)
    advance(outbox, "influx", 2)  # a cursor never goes back
    assert numbers(outbox, "influx") == []
    assert numbers(outbox, "hook") == [1, 3]


def test_a_batch_is_bounded_in_items_and_bytes_but_never_empty(outbox):
    put(outbox, *(message(f"m{number}") for number in range(5)))
    size = outbox.backlog("hook").bytes // 5
    assert numbers(outbox, "hook", limit_items=2) == [1, 2]
    assert numbers(outbox, "hook", limit_bytes=3 * size) == [1, 2, 3]
    assert numbers(outbox, "hook", limit_bytes=1) == [1]


def test_a_new_sink_starts_at_the_end_and_a_known_one_where_it_was(outbox):
    put(outbox, message("m1"))
    with outbox.database.atomic() as tx:
        outbox.register(tx, {"influx": (Points,), "hook": (Message,), "new": ALL})
    put(outbox, message("m2"))
    assert numbers(outbox, "hook") == [1, 2]
    assert numbers(outbox, "new") == [2]


def test_a_sink_that_is_gone_is_forgotten_with_a_warning(outbox, caplog):
    put(outbox, message("m1"), message("m2"), points(1))
    with caplog.at_level(logging.WARNING), outbox.database.atomic() as tx:
        outbox.register(tx, {"influx": (Points,)})
    assert "Sink hook is gone; 2 items were not delivered to it." in caplog.text
    with pytest.raises(KeyError, match="hook"):
        numbers(outbox, "hook")
    assert prune(outbox) == 2


def test_an_unknown_sink_is_an_error_everywhere(outbox):
    for ask in (lambda: numbers(outbox, "x"), lambda: outbox.backlog("x")):
        with pytest.raises(KeyError, match="'x' is not registered"):
            ask()
    with pytest.raises(KeyError, match="'x' is not registered"):
        advance(outbox, "x", 1)


def test_only_what_every_accepting_sink_has_passed_is_deleted(outbox):
    put(outbox, points(1), message("m1"), points(2), message("m2"))
    assert prune(outbox) == 0
    advance(outbox, "influx", 3)
    assert prune(outbox) == 2  # the webhook, which never took points, holds none of them
    assert numbers(outbox, "hook") == [2, 4]
    advance(outbox, "hook", 2)
    assert prune(outbox) == 1
    assert numbers(outbox, "hook") == [4]


def test_a_dead_letter_is_put_aside_for_its_sink_and_survives_pruning(outbox):
    with outbox.database.atomic() as tx:
        outbox.register(tx, {"hook": (Message,), "pager": (Message,)})
    put(outbox, message("m1"), message("m2"))
    with outbox.database.atomic() as tx:
        outbox.dead_letter(tx, "hook", 1, "400: no such asset")
        outbox.dead_letter(tx, "hook", 1, "again")
    assert numbers(outbox, "hook") == [2]
    assert numbers(outbox, "pager") == [1, 2]
    assert outbox.backlog("hook").items == 1
    for sink in ("hook", "pager"):
        advance(outbox, sink, 2)
    assert prune(outbox) == 2
    (letter,) = outbox.dead_letters()
    assert (letter.sink, letter.number, letter.reason) == ("hook", 1, "400: no such asset")
    assert same(letter.item, message("m1"))


def test_a_reason_as_long_as_a_page_is_cut(outbox):
    with outbox.database.atomic() as tx:
        outbox.register(tx, {"hook": (Message,)})
    put(outbox, message("m1"))
    with outbox.database.atomic() as tx:
        outbox.dead_letter(tx, "hook", 1, "no " * 100_000)
    (letter,) = outbox.dead_letters()
    assert len(letter.reason) == 1000


def test_a_damaged_item_is_named_and_can_be_put_aside(outbox):
    put(outbox, message("m1"), message("m2"))
    with outbox.database.atomic() as tx:
        tx.execute("UPDATE outbox SET body = zeroblob(20) WHERE number = 1")
    with pytest.raises(CorruptError, match="outbox item 1") as caught:
        numbers(outbox, "hook")
    with outbox.database.atomic() as tx:
        outbox.dead_letter(tx, "hook", caught.value.number, "does not read back")
    assert numbers(outbox, "hook") == [2]
    assert outbox.dead_letters()[0].item is None


def test_the_backlog_says_how_much_and_how_old(outbox):
    assert outbox.backlog("hook").oldest is None
    put(outbox, message("m1", 7), message("m2", 3), points(1, 5))
    hook = outbox.backlog("hook")
    assert (hook.items, hook.oldest) == (2, START + 3 * 10**9)
    assert outbox.backlog("influx").oldest == START + 5 * 10**9
    assert hook.bytes > 100


def test_over_its_bound_the_oldest_points_go_and_are_counted_and_messages_stay(outbox):
    put(outbox, points(1), message("m1"), points(2), points(3), message("m2"))
    advance(outbox, "influx", 1)
    size = outbox.backlog("influx").bytes // 2
    total = 3 * size + outbox.backlog("hook").bytes
    with outbox.database.atomic() as tx:
        assert outbox.trim(tx, limit_bytes=total, limit=9) == 0
        assert outbox.trim(tx, limit_bytes=total - size - 1, limit=9) == 2
    assert numbers(outbox, "influx") == [4]
    assert outbox.backlog("influx").dropped == 1  # the first it had
    with outbox.database.atomic() as tx:
        assert outbox.trim(tx, limit_bytes=0, limit=9) == 1
    assert numbers(outbox, "hook") == [2, 5]
    assert outbox.backlog("hook").dropped == 0


def test_pruning_and_trimming_go_in_bounded_steps(outbox):
    put(outbox, *(points(second) for second in range(5)), message("m1"), message("m2"))
    for wanted in (2, 2, 1, 0):
        with outbox.database.atomic() as tx:
            assert outbox.trim(tx, limit_bytes=0, limit=2) == wanted
    assert outbox.backlog("influx").dropped == 5
    put(outbox, points(1))
    advance(outbox, "influx", 8)
    advance(outbox, "hook", 8)
    for wanted in (2, 1, 0):
        with outbox.database.atomic() as tx:
            assert outbox.prune(tx, limit=2) == wanted


def test_how_much_is_held_is_known_whatever_came_and_went(outbox):
    put(outbox, points(1), message("m1"), message("m1"), points(1, 2))
    refuse(outbox, 2)
    advance(outbox, "influx", 1)
    prune(outbox)
    held = dict(outbox.database.query("SELECT what, bytes FROM held"))
    ((waiting,),) = outbox.database.query("SELECT SUM(LENGTH(body)) FROM outbox")
    ((refused,),) = outbox.database.query("SELECT SUM(LENGTH(body)) FROM dead_letter")
    assert (held["outbox"], held["dead_letter"]) == (waiting, refused)


def refuse(outbox, *given):
    with outbox.database.atomic() as tx:
        for number in given:
            outbox.dead_letter(tx, "hook", number, "400: no such asset")


def forget(outbox, *, now, before=0, limit_bytes=1 << 20, limit=9):
    with outbox.database.atomic() as tx:
        return outbox.forget_dead_letters(
            tx, now=now, before=before, limit_bytes=limit_bytes, limit=limit
        )


def letters(outbox):
    return [letter.number for letter in outbox.dead_letters()]


def test_dead_letters_are_kept_from_the_first_look_at_them_and_counted_when_they_go(outbox):
    put(outbox, *(message(f"m{number}") for number in range(1, 5)))
    refuse(outbox, 1, 2)
    assert forget(outbox, now=100) == 0
    refuse(outbox, 3)
    assert forget(outbox, now=200, before=99) == 0
    assert letters(outbox) == [1, 2, 3]
    assert forget(outbox, now=300, before=199, limit=1) == 1
    assert forget(outbox, now=300, before=199, limit=9) == 1
    assert (letters(outbox), sum(outbox.dead_letter_counts().values())) == ([3], 1)
    assert Losses(outbox.database).counts()["dead_letters"] == 2


def test_dead_letters_over_their_bound_go_before_their_time_the_oldest_first(outbox):
    put(outbox, *(message(f"m{number}") for number in range(1, 5)))
    size = outbox.backlog("hook").bytes // 4
    refuse(outbox, 3, 1, 4)
    assert forget(outbox, now=1, limit_bytes=3 * size) == 0
    assert forget(outbox, now=1, limit_bytes=2 * size) == 1
    assert letters(outbox) == [1, 4]
    assert Losses(outbox.database).counts()["dead_letters"] == 1


@given(
    st.lists(
        st.one_of(
            st.just("message"),
            st.just("points"),
            st.just("prune"),
            st.tuples(st.sampled_from(["influx", "hook", "all"]), st.integers(1, 4)),
        ),
        max_size=30,
    )
)
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_whatever_happens_each_sink_gets_each_of_its_items_once_and_in_order(database, steps):
    outbox = Outbox(database)
    accepts = {"influx": (Points,), "hook": (Message,), "all": ALL}
    with database.atomic() as tx:
        outbox.register(tx, {})
        outbox.register(tx, accepts)
    wanted = {sink: [] for sink in accepts}
    got = {sink: [] for sink in accepts}

    def deliver(sink, count):
        for number, item in outbox.pending(sink, limit_items=count, limit_bytes=1 << 20):
            got[sink].append(item)
            advance(outbox, sink, number)

    for step in steps:
        match step:
            case "message" | "points":
                ((last,),) = database.query("SELECT coalesce(MAX(seq), 0) FROM sqlite_sequence")
                item = message(f"m{last}-{len(wanted['all'])}") if step == "message" else points(1)
                put(outbox, item)
                for sink, types in accepts.items():
                    if isinstance(item, types):
                        wanted[sink].append(item)
            case "prune":
                prune(outbox)
            case (sink, count):
                deliver(sink, count)
    for sink in accepts:
        deliver(sink, 1000)
        assert same_all(got[sink], wanted[sink])
    prune(outbox)
    assert database.query("SELECT COUNT(*) FROM outbox") == [(0,)]


def same_all(left, right):
    return len(left) == len(right) and all(map(same, left, right))

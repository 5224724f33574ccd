import math
from dataclasses import replace

import numpy as np
import pytest
from support.keeping import SECOND, START, batch, event, same, scores

from models.naming import Named
from monitor.core.digest import digest
from monitor.core.records import Gap, Results, Scores, Transition
from monitor.state.database import Database, DatabaseReader
from monitor.state.errors import CorruptError
from monitor.state.losses import Losses
from monitor.state.names import Family, Names
from monitor.state.store import AlarmState, Store

RAISED, RETURNED = Transition.RAISED, Transition.RETURNED


@pytest.fixture
def store(database):
    return Store(database)


def write(store, *, done, **results):
    with store.database.atomic() as tx:
        return store.write(tx, Results(**{k: tuple(v) for k, v in results.items()}), done=done)


def seconds(found):
    return [(tick - START) / SECOND for block in found for tick in block.tick.tolist()]


def test_scores_read_back_bit_for_bit_after_a_restart(tmp_path):
    odd = scores([0, 1], surprise=[math.nan, -0.0], value=[math.nan, math.inf])
    with Database(tmp_path) as database:
        write(Store(database), done=1, scores=[odd])
    with Database(tmp_path) as database:
        (found,) = Store(database).scores()
        assert same(found, odd)
        assert Store(database).done() == 1


def test_results_and_done_are_stored_together_or_not_at_all(store):
    broken = Results(scores=(scores([0]),), alarms=(event(RAISED, 0, blame={"x": object()}),))
    with pytest.raises(TypeError), store.database.atomic() as tx:
        store.write(tx, broken, done=1)
    assert store.done() == 0
    assert list(store.scores()) == []


def test_results_of_a_record_that_is_done_are_not_stored_again(store):
    late = batch(1).body
    first = {"scores": [scores([0])], "alarms": [event(RAISED, 0)], "late": [late]}
    assert write(store, done=5, **first)
    for done in (5, 4):
        assert not write(store, done=done, **first)
    assert store.done() == 5
    assert seconds(store.scores()) == [0]
    assert len(list(store.late())) == 1


def test_scores_are_found_by_kind_asset_and_time(store):
    write(store, done=1, scores=[scores([0, 1, 0, 1], asset=[0, 0, 3, 3])])
    write(store, done=2, scores=[scores([2, 3], asset=3), scores([2], asset=1, kind="fan")])
    assert seconds(store.scores("pump")) == [0, 1, 0, 1, 2, 3]
    assert seconds(store.scores("fan")) == [2]
    assert seconds(store.scores(asset=3)) == [0, 1, 2, 3]
    assert seconds(store.scores(asset=2)) == []
    within = store.scores(asset=3, since=START, until=START + 2 * SECOND)
    assert seconds(within) == [1, 2]  # (since, until]


def test_the_newest_row_of_each_asset_is_found_whichever_block_it_is_in(store):
    with store.database.atomic() as tx:
        Names(store.database).asset_ids(tx, ["a", "b", "c"])
    names = {name: number for number, name in Names(store.database).of(Family.ASSET).items()}
    a, b = names["a"], names["b"]
    write(store, done=1, scores=[scores([0, 8, 0, 3], asset=[a, a, b, b])])
    write(store, done=2, scores=[scores([4, 5], asset=b, surprise=[1, 7])])
    write(store, done=3, scores=[scores([1, 2], asset=a)])  # comes later, and is older
    found = store.latest()
    assert set(found) == {a, b}  # of c there is nothing
    assert (seconds([found[a]]), seconds([found[b]])) == ([8], [5])
    assert found[b].surprise.tolist() == [7]


def test_scores_of_one_asset_come_in_order_of_tick_whatever_others_their_blocks_hold(store):
    write(store, done=1, scores=[scores([1, 2, 99, 100], asset=[0, 0, 1, 1])])
    write(store, done=2, scores=[scores([3, 4], asset=0)])
    write(store, done=3, scores=[scores([5, 101], asset=[0, 1])])
    assert seconds(store.scores(asset=0)) == [1, 2, 3, 4, 5]
    assert seconds(store.scores(asset=1)) == [99, 100, 101]
    until = START + 4 * SECOND
    assert seconds(store.scores(asset=0, since=START + SECOND, until=until)) == [2, 3, 4]


def test_a_damaged_block_is_named(store):
    write(store, done=1, scores=[scores([0])])
    with store.database.atomic() as tx:
        tx.execute("UPDATE score_block SET kind = 'fan'")
    with pytest.raises(CorruptError, match="score block 1 of fan") as caught:
        list(store.scores())
    assert caught.value.number == 1


def test_the_digest_is_that_of_the_scores_under_their_names(store):
    with store.database.atomic() as tx:
        Names(store.database).asset_ids(tx, ["p1", "p2"])
    write(store, done=1, scores=[scores([0, 0], asset=[0, 1])])
    write(store, done=2, scores=[scores([1, 1], asset=[0, 1])])
    whole = Scores.join([scores([0, 0], asset=[0, 1]), scores([1, 1], asset=[0, 1])])
    assert store.digest() == digest([whole], {0: "p1", 1: "p2"})
    assert store.digest(until=START) != store.digest()


def test_an_alarm_goes_from_active_to_acknowledged_to_returned(store):
    story = [
        (event(RAISED, 0), AlarmState.ACTIVE),
        (event(Transition.ACKNOWLEDGED, 5, who="ann"), AlarmState.ACKNOWLEDGED),
        (event(RETURNED, 9, value=1.0, reason="below 2.4"), AlarmState.RETURNED),
    ]
    for done, (happened, state) in enumerate(story, start=1):
        write(store, done=done, alarms=[happened])
        (alarm,) = store.alarms()
        assert alarm.state is state
        assert alarm.changed == happened.tick
    assert (alarm.reason, alarm.value, alarm.who) == ("surprise 4.0 over 3.0", 4.0, "ann")
    assert alarm.blame == {"flow": 0.75, "heat": 0.25}
    assert store.alarm_events() == [happened for happened, _ in story]


def test_an_alarm_looks_like_what_was_told_of_it_last(store):
    unknown, leak = Named("unknown"), Named("leak", 0.9)
    write(store, done=1, alarms=[event(RAISED, 0, diagnosis=unknown)])
    assert store.alarms()[0].diagnosis == unknown
    named = event(Transition.DIAGNOSED, 5, diagnosis=leak, active=True)
    write(store, done=2, alarms=[named, event(Transition.ACKNOWLEDGED, 6, who="ann")])
    (alarm,) = store.alarms()
    assert alarm.diagnosis == leak
    assert alarm.active
    assert [one.diagnosis for one in store.alarm_events()] == [unknown, leak, None]


def test_shelving_hides_an_alarm_and_does_not_change_it(store):
    shelved = event(Transition.SHELVED, 1, who="ann", reason="in repair", shelved_until=99)
    write(store, done=1, alarms=[event(RAISED, 0), shelved])
    (alarm,) = store.alarms(active_only=True)
    assert alarm.shelved_until == 99
    assert alarm.state is AlarmState.ACTIVE
    write(store, done=2, alarms=[event(Transition.UNSHELVED, 2), event(RETURNED, 3)])
    (alarm,) = store.alarms()
    assert (alarm.shelved_until, alarm.state) == (None, AlarmState.RETURNED)
    assert store.shelves() == []


def test_a_shelf_holds_all_alarms_of_its_point_and_no_other(store):
    told = event(RAISED, 0, active=True)
    other = event(RAISED, 0, id="b1", point="flow high", active=True)
    put = event(Transition.SHELVED, 1, who="ann", reason="in repair", shelved_until=50, active=True)
    hidden = [
        event(RETURNED, 2, active=False, shelved_until=50),
        event(RAISED, 3, id="a2", raised=START + 3 * SECOND, active=True, shelved_until=50),
    ]
    longer = replace(put, id="a2", tick=START + 4 * SECOND, reason="not done", shelved_until=99)
    write(store, done=1, alarms=[told, other, put, *hidden, longer])
    assert {one.id: one.shelved_until for one in store.alarms()} == {"a1": 99, "a2": 99, "b1": None}
    assert {one.id for one in store.alarms(shelved_only=True)} == {"a1", "a2"}
    (shelf,) = store.shelves()
    assert (shelf.until, shelf.who, shelf.why) == (99, "ann", "not done")
    assert [(alarm.id, alarm.active) for alarm in shelf.told] == [("a1", False), ("a2", True)]
    assert (shelf.newest.id, shelf.newest.active) == ("a2", True)
    assert store.alarm_events(alarm="a1") == [told, put, hidden[0]]
    write(store, done=2, alarms=[event(Transition.UNSHELVED, 5, id="a2")])
    assert all(one.shelved_until is None for one in store.alarms())


def test_a_transition_that_comes_again_changes_nothing(store):
    write(store, done=1, alarms=[event(RAISED, 0), event(RETURNED, 3)])
    write(store, done=2, alarms=[event(RAISED, 0)])
    (alarm,) = store.alarms()
    assert alarm.state is AlarmState.RETURNED
    assert len(store.alarm_events()) == 2


def test_alarms_are_found_by_asset_time_and_whether_they_stand(store):
    write(
        store,
        done=1,
        alarms=[
            event(RAISED, 0),
            event(RETURNED, 2),
            event(RAISED, 5, id="b", asset="p2", raised=START + 5 * SECOND),
        ],
    )
    assert [alarm.id for alarm in store.alarms()] == ["b", "a1"]
    assert [alarm.id for alarm in store.alarms(active_only=True)] == ["b"]
    assert [alarm.id for alarm in store.alarms(asset="p1")] == ["a1"]
    assert [alarm.id for alarm in store.alarms(since=START)] == ["b"]
    assert [found.tick for found in store.alarm_events(alarm="a1", since=START)] == [
        START + 2 * SECOND
    ]


def test_a_value_that_is_no_number_stays_one(store):
    write(store, done=1, alarms=[event(RAISED, 0, value=math.nan, threshold=math.inf)])
    assert math.isnan(store.alarms()[0].value)
    assert math.isnan(store.alarm_events()[0].value)
    assert store.alarms()[0].threshold == math.inf


def test_gaps_are_kept_once(store):
    gaps = [Gap(asset="p1", since=START, until=START + 60 * SECOND)]
    write(store, done=1, gaps=gaps)
    write(store, done=2, gaps=gaps)
    assert store.gaps() == gaps
    assert store.gaps("p2") == []


def forget(store, what, **given):
    with store.database.atomic() as tx:
        return getattr(store, f"forget_{what}")(tx, **given)


def test_gaps_are_forgotten_by_their_end_in_bounded_steps(store):
    gaps = [Gap(asset="p1", since=n, until=n + 10) for n in range(4)]
    write(store, done=1, gaps=gaps)
    assert forget(store, "gaps", before=12, limit=2) == 2
    assert forget(store, "gaps", before=12, limit=2) == 1
    assert store.gaps() == gaps[3:]


def test_late_samples_are_kept_from_the_first_look_at_them_and_counted_when_they_go(store):
    write(store, done=1, late=[batch(1, size=3).body, batch(2).body])
    found = list(store.late())
    assert [number for number, _ in found] == [1, 2]
    assert same(found[0][1], batch(1, size=3).body)
    assert list(store.late(after=2)) == []
    assert forget(store, "late", now=100, before=50, limit=9) == 0
    write(store, done=2, late=[batch(3, size=5).body])
    assert forget(store, "late", now=200, before=99, limit=9) == 0
    assert forget(store, "late", now=300, before=199, limit=1) == 1
    assert Losses(store.database).counts() == {"late_samples": 3, "dead_letters": 0}
    assert forget(store, "late", now=300, before=199, limit=9) == 1
    assert [number for number, _ in store.late()] == [3]
    assert Losses(store.database).counts()["late_samples"] == 4


def test_an_old_alarm_is_forgotten_with_its_events_but_never_one_that_stands_or_is_shelved(store):
    alarms = []
    for number, name in enumerate(("gone", "stands", "shelved", "again", "young")):
        raised = START + (number + 10 * (name == "young")) * SECOND
        alarms.append(event(RAISED, 0, id=name, raised=raised))
        if name != "stands":
            alarms.append(event(RETURNED, 10, id=name, raised=raised))
    alarms += [
        event(Transition.SHELVED, 11, id="shelved", who="ann", shelved_until=START + SECOND),
        event(Transition.ACKNOWLEDGED, 50, id="again", who="ann"),
    ]
    write(store, done=1, alarms=alarms)
    before = START + 13 * SECOND
    assert forget(store, "alarms", before=before, limit=9) == 1
    assert forget(store, "alarms", before=before, limit=9) == 0
    left = {"stands", "shelved", "again", "young"}
    assert {alarm.id for alarm in store.alarms()} == left
    assert {found.id for found in store.alarm_events()} == left
    assert forget(store, "alarms", before=START + 99 * SECOND, limit=1) == 1
    assert {alarm.id for alarm in store.alarms()} == {"stands", "shelved", "young"}


def test_the_last_status_written_is_the_status(store):
    assert store.status() is None
    for count in (1, 2):
        with store.database.atomic() as tx:
            store.write_status(tx, {"received": count, "by": {"press": 1.5}})
    with DatabaseReader(store.database.folder) as reader:
        assert Store(reader).status() == {"received": 2, "by": {"press": 1.5}}


def test_a_result_without_rows_moves_done_alone(store):
    empty = scores([])
    assert isinstance(empty.tick, np.ndarray)
    assert write(store, done=1, scores=[empty])
    assert list(store.scores()) == []

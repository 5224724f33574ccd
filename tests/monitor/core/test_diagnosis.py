"""When an alarm has a name, when that is told, and what the name depends on."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from support.building import SECOND, START, kind

from models.diagnosis import Diagnosis, Episode, fit
from models.naming import UNKNOWN
from models.settings import DiagnosisSettings
from monitor.core.alarms import Alarms
from monitor.core.holding import Frames
from monitor.core.plan import AlarmSettings, ChannelSettings
from monitor.core.records import Scores, ScoreState, Transition

# x goes up (leak), or y goes down (wear); both together were never taught
LEAK, WEAR, NOVEL = (1.0, 0.0, 1), (0.0, 1.0, -1), (0.5, 0.5, -1)
SETTINGS = DiagnosisSettings(memory_ticks=20, least_ticks=3)


@pytest.fixture(scope="module")
def head() -> Diagnosis:
    rng = np.random.default_rng(0)

    def shown(x, y, side):
        around = rng.normal(0, 0.03, (12, 4))
        return np.array([x, y, x * side, y * side]) + around + rng.normal(0, 0.02, 4)

    return fit(
        [
            Episode(fault=name, asset="pump", features=shown(*fault))
            for name, fault in (("leak", LEAK), ("wear", WEAR))
            for _ in range(5)
        ],
        SETTINGS,
    )


def frames(count, *, assets=1):
    row = np.tile(np.arange(assets), count)
    order = np.argsort(row, kind="stable")
    tick = np.repeat(START + np.arange(count) * SECOND, assets)
    shape = (count * assets, 2)
    return Frames(
        asset=row[order],
        tick=tick[order],
        value=np.zeros(shape),
        age=np.zeros(shape, np.float32),
        valid=np.ones(shape, bool),
        forced=np.zeros(shape, bool),
        quality=np.zeros(shape, np.uint8),
        fresh=np.zeros(shape[0], bool),
    )


def scores(of, surprise, faults):
    count = len(of)
    blame = np.array([fault[:2] for fault in faults], np.float32)
    side = np.array([fault[2] for fault in faults], np.float32)[:, None]
    return Scores(
        kind="k",
        channels=("x", "y"),
        asset=of.asset.astype(np.int32),
        tick=of.tick,
        raw=np.zeros(count, np.float32),
        surprise=np.array(surprise, np.float32),
        blame=blame,
        coverage=np.ones(count, np.float32),
        state=np.full(count, ScoreState.OK, np.uint8),
        value=np.broadcast_to(side, (count, 2)).astype(np.float32),
        expected=np.zeros((count, 2), np.float32),
        spread=np.ones((count, 2), np.float32),
    )


def watch(head, *, assets=("a0",), **alarm):
    of = kind(
        channels={"x": ChannelSettings(), "y": ChannelSettings()}, alarm=AlarmSettings(**alarm)
    )
    return Alarms(of, assets, site="plant", threshold=4.0, head=head)


def story(alarms, surprise, faults, *, chunks=None):
    """What is told of surprises of one asset: (second, transition, name)."""
    of = frames(len(surprise))
    found = scores(of, surprise, faults)
    events = []
    edges = [0, *(chunks or []), len(surprise)]
    for since, until in itertools.pairwise(edges):
        rows = np.isin(np.arange(len(surprise)), np.arange(since, until))
        events += alarms.step(of.rows(rows), found.rows(rows))
    return events


def told(events):
    return [
        (
            (event.tick - START) // SECOND,
            str(event.transition),
            event.diagnosis and event.diagnosis.fault,
        )
        for event in events
    ]


def test_a_name_comes_when_it_has_stood_for_some_ticks_and_goes_with_the_return(head):
    events = story(watch(head), [0, 9, 9, 9, 9, 9, 9, 9, 0], [LEAK] * 9)
    assert told(events) == [
        (1, "raised", UNKNOWN),
        (5, "diagnosed", "leak"),
        (8, "returned", "leak"),
    ]
    assert events[1].reason.startswith("looks like leak (")
    assert events[1].diagnosis.probability > 0.5
    assert events[1].id == events[0].id
    assert events[1].active


def test_an_alarm_that_waits_before_it_is_raised_may_have_its_name_at_once(head):
    events = story(watch(head, on_delay_s=4), [9] * 6, [WEAR] * 6)
    assert told(events) == [(4, "raised", "wear")]
    assert "looks like wear" in events[0].reason


def test_a_fault_that_was_not_taught_stays_unknown(head):
    assert told(story(watch(head), [9] * 12, [NOVEL] * 12)) == [(0, "raised", UNKNOWN)]


def test_the_side_tells_faults_of_one_channel_apart(head):
    risen = (0.0, 1.0, 1)  # y, but up: nobody called that wear
    assert told(story(watch(head), [9] * 12, [risen] * 12)) == [(0, "raised", UNKNOWN)]


def test_another_name_is_told_when_the_fault_becomes_another(head):
    faults = [LEAK] * 10 + [WEAR] * 90
    names = [
        name for _, what, name in told(story(watch(head), [9] * 100, faults)) if what != "raised"
    ]
    assert names[0] == "leak"
    assert names[-1] == "wear"


def test_what_one_alarm_was_does_not_name_the_next(head):
    surprise = [9] * 10 + [0] * 5 + [9] * 10
    faults = [LEAK] * 15 + [WEAR] * 10
    names = [
        name for _, what, name in told(story(watch(head), surprise, faults)) if what == "diagnosed"
    ]
    assert names == ["leak", "wear"]


def test_without_a_head_nothing_is_named():
    events = story(watch(None), [9] * 10 + [0], [LEAK] * 11)
    assert told(events) == [(0, "raised", None), (10, "returned", None)]


@pytest.mark.parametrize("cut", range(1, 20))
def test_names_are_the_same_however_frames_are_cut_and_after_a_restart(head, cut):
    surprise = [0, 9, 9, 3.5, 9, 9, 9, 9, 2, 0, 9, 9, 9, 9, 9, 9, 9, 9, 9, 0]
    faults = [LEAK] * 9 + [WEAR] * 11
    whole = story(watch(head), surprise, faults)
    assert story(watch(head), surprise, faults, chunks=[cut]) == whole

    of = frames(len(surprise))
    found = scores(of, surprise, faults)
    before, after = watch(head), watch(head)
    rows = np.arange(len(surprise)) < cut
    events = before.step(of.rows(rows), found.rows(rows))
    after.restore(before.snapshot(), ["a0"])
    assert events + after.step(of.rows(~rows), found.rows(~rows)) == whole


def test_a_name_has_the_same_bits_whoever_else_is_in_the_batch(head):
    surprise, faults = [9] * 10 + [0], [LEAK] * 11
    alone = story(watch(head), surprise, faults)
    of = frames(11, assets=3)
    other = [WEAR] * 11
    together = scores(of, [9] * 22 + surprise, [*other, *[NOVEL] * 11, *faults])
    events = watch(head, assets=("a2", "a1", "a0")).step(of, together)
    assert [event for event in events if event.asset == "a0"] == alone


def test_another_head_begins_anew(head):
    renamed = Diagnosis(
        head.card.model_copy(update={"faults": ("crack", "wear")}), head.mean, head.whiten
    )
    of = frames(10)
    found = scores(of, [9] * 9 + [0], [LEAK] * 10)
    before, after = watch(head), watch(renamed)
    rows = np.arange(10) < 6
    before.step(of.rows(rows), found.rows(rows))
    after.restore(before.snapshot(), ["a0"])
    assert told(after.step(of.rows(~rows), found.rows(~rows))) == [(9, "returned", UNKNOWN)]


def test_a_snapshot_of_a_time_before_heads_is_taken_back(head):
    before, after = watch(None), watch(head)
    of = frames(5)
    before.step(of, scores(of, [9] * 5, [LEAK] * 5))
    after.restore(before.snapshot(), ["a0"])
    later = replace(of, tick=of.tick + 5 * SECOND)
    events = after.step(later, scores(later, [9] * 5, [LEAK] * 5))
    assert [event.transition for event in events] == [Transition.DIAGNOSED]


def test_an_acknowledged_alarm_stays_so_when_it_is_named(head):
    from monitor.core.records import Action, Command

    alarms = watch(head)
    of = frames(9)
    found = scores(of, [9] * 9, [LEAK] * 9)
    first = np.arange(9) < 1
    (raised,) = alarms.step(of.rows(first), found.rows(first))
    seen = Command(action=Action.ACKNOWLEDGE, target=raised.id, who="ann")
    assert len(alarms.board.acknowledge(seen, now=0)) == 1
    alarms.step(of.rows(~first), found.rows(~first))
    assert alarms.board.acknowledge(seen, now=0) == []

"""Alarms of class pipeline: a source that is gone, has a wrong clock, or loses samples."""

from dataclasses import replace
from itertools import zip_longest

import numpy as np
import pytest
from support.building import NOW, SECOND, START, kind, plan, samples

from connectors.batch import Notice, NoticeKind
from monitor.core.pipeline import Pipeline
from monitor.core.plan import ChannelSettings, LinkSettings
from monitor.core.records import (
    Action,
    AlarmClass,
    Beat,
    Cause,
    Command,
    Epoch,
    Record,
    Transition,
)

STEP = 5  # seconds from beat to beat: as much as counts as silence
OF = kind(channels={name: ChannelSettings(stale_s=20) for name in ("x", "y")}, idle_s=30)
SITE = replace(
    plan(OF, 7, sources=("s", "t"), spread=True),
    links=LinkSettings(lost_s=300, back_s=60, clock_s=60, quiet_s=600),
)
LOST = Notice(source="s", kind=NoticeKind.LOST, reason="connection refused")
OVERFLOW = Notice(source="s", kind=NoticeKind.OVERFLOW, reason="queue of 10")
TAGS = {"s": range(0, 14, 2), "t": range(1, 14, 2)}


def heard(*sources, second):
    """A sample of each tag of these sources."""
    return [samples(*((tag, second, 1.0) for tag in TAGS[s]), source=s) for s in sources]


def lived(seconds, *, says=(), silent=(), pipeline=None, first=5):
    """A plant, each STEP; gives all events of the source s, and of anybody.

    ``says``: (second, notice or samples); ``silent``: (source, from, until).
    """
    pipeline = pipeline or Pipeline(SITE, {})
    events = []
    for second in range(first, seconds, STEP):
        talks = [s for s in "st" if not any(s == q and a <= second < b for q, a, b in silent)]
        bodies = [*heard(*talks, second=second), *(body for at, body in says if at == second)]
        for body in (*bodies, Beat()):
            events += pipeline.step(Record(START + second * SECOND, body)).alarms
    return events


def told(events):
    return [
        ((e.tick - START) // SECOND, e.asset, e.point, str(e.transition))
        for e in events
        if e.alarm_class is AlarmClass.PIPELINE
    ]


def test_a_source_that_is_gone_is_one_alarm_that_names_whom_it_blinds_and_returns_when_it_is_back():
    events = lived(900, silent=[("s", 100, 600)], says=[(100, LOST)])
    assert told(events) == [(400, "s", "lost", "raised"), (655, "s", "lost", "returned")]
    assert events[0].reason == (
        "source s was not heard for 300 s (connection refused); "
        "blind: a0, a1, a2, a3, a4 and 2 more"
    )


def test_who_says_nothing_is_as_lost_as_who_says_so():
    assert told(lived(900, silent=[("s", 100, 600)]))[0] == (430, "s", "lost", "raised")


def test_a_source_that_is_back_in_time_is_none():
    assert told(lived(500, silent=[("s", 100, 390)], says=[(100, LOST)])) == []


def test_a_source_that_is_gone_for_a_moment_again_and_again_is_not_lost():
    blips = range(100, 900, 50)
    silent = [("s", blip, blip + STEP) for blip in blips]
    assert told(lived(900, silent=silent, says=[(blip, LOST) for blip in blips])) == []


def test_what_a_lost_source_leaves_stale_is_told_once():
    assert {e.alarm_class for e in lived(900, silent=[("s", 100, 600)])} == {AlarmClass.PIPELINE}


def test_one_channel_that_is_stale_while_its_source_is_heard_is_the_instrument_s():
    pipeline, events = Pipeline(SITE, {}), []
    for second in range(1, 100):
        tags = [tag for tag in range(0, 14, 2) if tag or second < 20]
        bodies = samples(*((tag, second, 1.0) for tag in tags)), *heard("t", second=second)
        for body in (*bodies, Beat()):
            events += pipeline.step(Record(START + second * SECOND, body)).alarms
    assert [(e.asset, e.point, e.alarm_class) for e in events] == [
        ("a0", "x failure", AlarmClass.INSTRUMENT)
    ]


def test_a_recording_that_ended_is_not_lost():
    ended = Notice(source="s", kind=NoticeKind.ENDED)
    assert told(lived(900, silent=[("s", 100, 900)], says=[(100, ended)])) == []


def test_nobody_is_lost_because_we_did_not_listen():
    pipeline = Pipeline(SITE, {})
    lived(50, pipeline=pipeline)
    begins = Epoch(config="c", bundles={}, cause=Cause.START)
    assert not pipeline.step(Record(START + 5000 * SECOND, begins)).alarms
    assert told(lived(5100, first=5005, pipeline=pipeline)) == []


@pytest.mark.parametrize(("lasting", "raises"), [(60, False), (65, True)])
def test_a_wrong_clock_is_an_alarm_when_it_lasts_and_the_source_is_not_called_lost(lasting, raises):
    says = [
        (second, samples((0, second + 3600, 1.0))) for second in range(100, 100 + lasting, STEP)
    ]
    silent = [("s", 100, 100 + lasting)]
    events = lived(1000, says=says, silent=silent)
    assert bool(told(events)) == raises
    if raises:
        assert told(events) == [(160, "s", "clock", "raised"), (760, "s", "clock", "returned")]
        assert events[0].reason.startswith(
            "out of specification: the clock of source s is wrong: its samples are stamped in the "
            "future, and refused; that concerns a0, "
        )


def test_a_source_that_is_lost_is_not_back_because_the_service_began_anew():
    site = replace(SITE, links=LinkSettings(lost_s=300, back_s=10))
    pipeline, silent = Pipeline(site, {}), [("s", 100, 600)]
    assert [what for *_, what in told(lived(500, silent=silent, pipeline=pipeline))] == ["raised"]
    begins = Epoch(config="c", bundles={}, cause=Cause.START)
    pipeline.step(Record(START + 500 * SECOND, begins))
    after = lived(700, first=505, silent=silent, pipeline=pipeline)
    assert told(after) == [(605, "s", "lost", "returned")]


def instrument_alarms(records):
    pipeline = Pipeline(SITE, {})
    events = [event for record in records for event in pipeline.step(record).alarms]
    found = [e for e in events if e.alarm_class is AlarmClass.INSTRUMENT]
    return sorted((e.tick, e.asset, e.point, str(e.transition)) for e in found)


def with_refused_stamps(seconds=120):
    """What each source sends: s refused stamps now and then, and one of its channels ends."""
    queues = {"s": [], "t": []}
    for second in range(1, seconds):
        for source, tags in TAGS.items():
            there = [tag for tag in tags if tag or second < 40]
            queues[source].append(samples(*((tag, second, 1.0) for tag in there), source=source))
        if second % 7 == 0 or 60 < second < 70:
            queues["s"].append(samples((0, second + 1e7, 1.0)))
    for source, queue in queues.items():
        queue.append(Notice(source=source, kind=NoticeKind.ENDED))
    return queues


@pytest.mark.parametrize("seed", range(3))
def test_refused_stamps_change_no_instrument_alarm_however_sources_come_in_turn(seed):
    queues = with_refused_stamps()
    turns = [name for name, queue in queues.items() for _ in queue]
    np.random.default_rng(seed).shuffle(turns)
    come = {name: iter(queue) for name, queue in queues.items()}
    mixed = [Record(NOW, next(come[name])) for name in turns]
    pairs = zip_longest(*queues.values())
    bodies = [body for pair in pairs for body in pair if body is not None]
    live = [Record(START + n * SECOND // 2, body) for n, body in enumerate(bodies)]
    assert instrument_alarms(mixed) == instrument_alarms(live)
    assert instrument_alarms(mixed) == [(START + 70 * SECOND, "a0", "x failure", "raised")]


def test_what_is_refused_for_its_stamp_is_told_of_the_source_not_of_its_channels():
    says = [(second, samples((0, second + 3600, 1.0))) for second in range(100, 600, STEP)]
    events = lived(600, says=says, silent=[("s", 100, 600)])
    assert [(e.asset, e.point) for e in events] == [("s", "clock")]


def test_samples_that_a_peer_drops_want_maintenance_until_it_keeps_them():
    events = lived(1000, says=[(100, OVERFLOW), (300, OVERFLOW)])
    assert told(events) == [
        (100, "s", "samples lost", "raised"),
        (900, "s", "samples lost", "returned"),
    ]
    assert events[0].reason.startswith("maintenance required: the peer of source s dropped samples")
    assert "(queue of 10)" in events[0].reason


@pytest.mark.parametrize("cut", [50, 250, 450, 630])
def test_it_goes_on_from_a_snapshot_and_from_what_people_were_told(cut):
    silent, says = [("s", 100, 600)], [(100, LOST)]
    whole = lived(900, silent=silent, says=says)
    first, second = Pipeline(SITE, {}), Pipeline(SITE, {})
    before = lived(cut, silent=silent, says=says, pipeline=first)
    second.restore(first.snapshot())
    standing = [
        alarm
        for e in before
        if (alarm := first._links.board.find(e.id)) is not None and alarm.active
    ]
    second.settle(standing)
    assert before + lived(900, silent=silent, says=says, pipeline=second, first=cut) == whole


def test_it_can_be_acknowledged_and_ends_where_its_source_is_no_longer_configured():
    pipeline = Pipeline(SITE, {})
    (event,) = lived(500, silent=[("s", 100, 500)], pipeline=pipeline)
    seen = Command(action=Action.ACKNOWLEDGE, target=event.id, who="ann")
    (answer,) = pipeline.step(Record(NOW, seen)).alarms
    assert (answer.transition, answer.id) == (Transition.ACKNOWLEDGED, event.id)
    standing = pipeline._links.board.find(event.id)
    other = Pipeline(plan(OF, 7, sources=("t",)), {})
    other.settle([standing])
    begins = Epoch(config="c", bundles={}, cause=Cause.START)
    (end,) = other.step(Record(NOW, begins)).alarms
    assert (end.id, end.transition, end.reason) == (
        event.id,
        Transition.RETURNED,
        "no longer configured",
    )

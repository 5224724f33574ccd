"""When surprises and values become alarms, what the alarms say, and when they go away."""

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import example
from hypothesis import given as for_any
from hypothesis import strategies as st
from support.building import NOW, SECOND, START, kind

from models.contract import Deviation
from monitor.core.alarms import Alarms
from monitor.core.board import alarm_id
from monitor.core.holding import Frames
from monitor.core.plan import AlarmSettings, ChannelSettings, LimitSettings
from monitor.core.records import Action, AlarmClass, Command, Scores, ScoreState, Transition

NAN = float("nan")
OK, WARMING, BLIND, OFF = ScoreState
RAISED, RETURNED = Transition.RAISED, Transition.RETURNED
ALONE = "; no other disagrees: see to its sensor, too"


def frames(values, *, fresh=(0,), start=0, row=0):
    """One frame a second with these values in channel x; None is not valid."""
    count = len(values)
    x = np.array([NAN if value is None else value for value in values], np.float64)
    value = np.stack([x, np.full(count, 1.0)], axis=1)
    return Frames(
        asset=np.full(count, row),
        tick=START + (start + np.arange(count)) * SECOND,
        value=value,
        age=np.zeros((count, 2), np.float32),
        valid=~np.isnan(value),
        forced=np.zeros(value.shape, bool),
        quality=np.zeros(value.shape, np.uint8),
        fresh=np.isin(np.arange(count), fresh),
    )


def scores(of, surprise, *, state=OK, coverage=1.0):
    count = len(of)
    blame = np.tile(np.array([0.25, 0.75], np.float32), (count, 1))
    return Scores(
        kind="k",
        channels=("x", "y"),
        asset=of.asset.astype(np.int32),
        tick=of.tick,
        raw=np.zeros(count, np.float32),
        surprise=np.array(surprise, np.float32),
        blame=blame,
        coverage=np.broadcast_to(np.float32(coverage), count),
        state=np.broadcast_to(np.uint8(state), count),
        value=np.clip(of.value, -3e38, 3e38).astype(np.float32),
        expected=np.zeros((count, 2), np.float32),
        spread=np.ones((count, 2), np.float32),
    )


def scores_of(given, rows):
    """Some of the scores."""
    per_frame = {field.name for field in fields(given)} - {"kind", "channels"}
    return replace(given, **{name: getattr(given, name)[rows] for name in per_frame})


def watch(*, assets=("a0",), threshold=4.0, limits=None, unit=None, tick_ms=1000, **alarm):
    channels = {"x": ChannelSettings(limits=limits, unit=unit), "y": ChannelSettings()}
    of = kind(tick_ms=tick_ms, channels=channels, alarm=AlarmSettings(**alarm))
    return Alarms(of, assets, site="plant", threshold=threshold)


def seen(events):
    """(second, transition) of each event."""
    return [((event.tick - START) / SECOND, str(event.transition)) for event in events]


def surprises(alarms, surprise, **more):
    of = frames([1.0] * len(surprise))
    return alarms.step(of, scores(of, surprise, **more))


# ---- process alarms -----------------------------------------------------------------------------


def test_a_surprise_at_the_threshold_is_an_alarm_one_below_is_none():
    assert seen(surprises(watch(), [3.9, 3.99, 4.0])) == [(2, "raised")]
    assert seen(surprises(watch(), [3.9, 3.99])) == []


def test_it_is_raised_only_after_the_on_delay_without_a_break():
    assert seen(surprises(watch(on_delay_s=2), [5, 5, 0, 5, 5, 5, 5])) == [(5, "raised")]


def test_it_returns_below_the_clear_ratio_for_the_off_delay():
    surprise = [5, 3.5, 3.5, 3.1, 3.1, 5, 3.1, 3.1, 3.1]
    found = surprises(watch(clear_ratio=0.8, off_delay_s=2), surprise)
    assert seen(found) == [(0, "raised"), (8, "returned")]


def test_just_under_the_threshold_does_not_flap():
    assert seen(surprises(watch(clear_ratio=0.8), [4, 3.9, 4, 3.9, 3.2])) == [(0, "raised")]


def test_with_a_return_ratio_it_ends_when_most_of_the_surprise_is_over():
    found = surprises(watch(return_ratio=0.3), [5, 100, 31, 29, 25, 31, 36])
    assert seen(found) == [(0, "raised"), (3, "returned")]
    assert "surprise 29.0 below 30.0; it had been 100.0" in found[1].reason


def test_what_a_fault_left_behind_raises_nothing_until_it_is_a_fault_again():
    alarms = watch(return_ratio=0.3, clear_ratio=0.6)
    found = surprises(alarms, [100, 20, 49, 20, 50, 29])
    assert seen(found) == [(0, "raised"), (1, "returned"), (4, "raised"), (5, "returned")]
    assert "at or over 50.0" in found[2].reason


def test_after_a_rest_the_threshold_is_its_own_again():
    found = surprises(watch(return_ratio=0.3), [100, 20, 3.1, 4])
    assert seen(found) == [(0, "raised"), (1, "returned"), (3, "raised")]


@pytest.mark.parametrize("state", [WARMING, BLIND, OFF])
def test_what_does_not_count_is_neither_a_peak_nor_a_rest(state):
    found = surprises(
        watch(return_ratio=0.3), [9, 100, 5, 0, 5, 2.9], state=[OK, state, OK, state, OK, OK]
    )
    assert seen(found) == [(0, "raised"), (5, "returned")]


@for_any(
    st.lists(st.sampled_from([0.0, 3.0, 4.0, 9.0, 40.0, 100.0]), max_size=30),
    st.integers(0, 30),
    st.sampled_from([0.0, 0.3, 0.7]),
)
def test_a_return_ratio_gives_the_same_however_frames_are_cut_and_after_a_restart(
    surprise, at, ratio
):
    whole = seen(surprises(watch(return_ratio=ratio), surprise))
    first, second = watch(return_ratio=ratio), watch(return_ratio=ratio)
    cut = min(at, len(surprise))
    found = seen(surprises(first, surprise[:cut]))
    second.restore(first.snapshot(), ("a0",))
    rest = frames([1.0] * (len(surprise) - cut), fresh=() if cut else (0,), start=cut)
    assert found + seen(second.step(rest, scores(rest, surprise[cut:]))) == whole


def test_a_return_ratio_is_below_the_clear_ratio():
    with pytest.raises(ValueError, match=r"want return_ratio below clear_ratio, got 0\.8 and 0\.8"):
        AlarmSettings(return_ratio=0.8)


def test_with_little_evidence_nothing_is_raised_and_nothing_cleared():
    assert surprises(watch(min_coverage=0.5), [9, 9], coverage=0.4) == []
    alarms = watch(min_coverage=0.5)
    assert seen(surprises(alarms, [9])) == [(0, "raised")]
    low = frames([1.0] * 3, fresh=(), start=1)
    assert alarms.step(low, scores(low, [0, 0, 0], coverage=0.4)) == []


@pytest.mark.parametrize("state", [WARMING, BLIND, OFF])
def test_what_does_not_count_raises_nothing_and_clears_nothing(state):
    assert surprises(watch(), [9, 9], state=state) == []
    alarms = watch()
    surprises(alarms, [9])
    rest = frames([1.0] * 5, fresh=(), start=1)
    assert alarms.step(rest, scores(rest, [0] * 5, state=state)) == []
    back = frames([1.0], fresh=(), start=9)
    assert seen(alarms.step(back, scores(back, [0]))) == [(9, "returned")]


@pytest.mark.parametrize("state", [WARMING, BLIND, OFF])
def test_what_does_not_count_pauses_the_timers(state):
    found = surprises(watch(on_delay_s=2), [5, 5, 5, 5, 5, 5], state=[OK, OK, state, OK, OK, OK])
    assert seen(found) == [(4, "raised")]


def test_little_evidence_pauses_the_timers():
    coverage = np.array([1, 1, 0.4, 1, 1], np.float32)
    found = surprises(watch(on_delay_s=2, min_coverage=0.5), [5] * 5, coverage=coverage)
    assert seen(found) == [(4, "raised")]


def test_a_gap_pauses_the_timers():
    alarms = watch(on_delay_s=2)
    of = frames([1.0] * 5, fresh=(0, 2))
    assert seen(alarms.step(of, scores(of, [5] * 5))) == [(3, "raised")]


def test_without_a_model_there_is_no_process_alarm():
    assert surprises(watch(threshold=None), [9]) == []


def test_the_reason_says_what_was_seen_against_what_for_how_long_and_where():
    raised, returned = surprises(watch(), [6.25, 1])
    assert raised.reason == (
        "surprise 6.2 at or over 4.0; "
        "most of it from y 75%: measured 1, expected 0 +- 1; then x 25%"
    )
    assert returned.reason == "surprise 1.0 below 3.2; all in all from y 75%, x 25%"
    assert (raised.value, raised.threshold) == (6.25, 4.0)
    assert raised.blame == {"y": 0.75, "x": 0.25}
    assert list(raised.blame) == ["y", "x"]
    assert (raised.asset, raised.alarm_class, raised.point) == (
        "a0",
        AlarmClass.PROCESS,
        "surprise",
    )


def test_a_channel_without_blame_is_not_named():
    of = frames([1.0])
    given = replace(scores(of, [9]), blame=np.array([[0, 1]], np.float32))
    (event,) = watch().step(of, given)
    assert event.blame == {"y": 1.0}
    assert event.reason.endswith("most of it from y 100%: measured 1, expected 0 +- 1" + ALONE)


@pytest.mark.parametrize(
    ("value", "expected", "spread", "words"),
    [
        (3.14159, 4.0, 0.213, ": measured 3.1, expected 4.0 +- 0.2 bar"),
        (8312.4, 8290.1, 12.2, ": measured 8312, expected 8290 +- 12 bar"),
        (0.0123, 0.01, 0.0004, ": measured 0.0123, expected 0.0100 +- 0.0004 bar"),
        (1.5, 1.25, 1e-9, ": measured 1.5, expected 1.25 +- 1e-09 bar"),
        (1.5, 1.25, 0.0, ": measured 1.5, expected 1.25 bar"),
        (1.5, 1.25, NAN, ": measured 1.5, expected 1.25 bar"),
        (3.9, 4.0, 0.213, ""),  # one frame that shows nothing is no reason
        (NAN, 4.0, 0.2, ""),
        (3.1, NAN, NAN, ""),
    ],
)
def test_what_was_measured_is_said_against_what_was_expected_never_as_nan(
    value, expected, spread, words
):
    of = frames([value])
    blame = np.array([[1, 0]], np.float32)
    known = {"expected": np.float32([[expected, 0]]), "spread": np.float32([[spread, 1]])}
    (event,) = watch(unit="bar").step(of, replace(scores(of, [9]), blame=blame, **known))
    assert event.reason == f"surprise 9.0 at or over 4.0; most of it from x 100%{words}{ALONE}"


def lay(ticks, by, times):
    """A model that says so of channel x, whatever row it is asked for; y lay nowhere."""
    deviation = Deviation(
        ticks=np.array([ticks, ticks]), by=np.float32([by, 0]), times=np.float32([times, 0])
    )
    return lambda _row: deviation


@pytest.mark.parametrize(
    ("ticks", "by", "times", "words"),
    [
        (
            120,
            0.1234,
            5.06,
            (
                ": averaged over 2 min 0.12 bar above what was expected beside the others, "
                "5.1 times its healthy spread"
            ),
        ),
        (
            1,
            -1234.0,
            31.0,
            ": 1234 bar below what was expected beside the others, 31.0 times its healthy spread",
        ),
        (16, NAN, NAN, ""),
    ],
)
def test_an_alarm_says_how_far_off_a_channel_was_over_the_time_in_which_that_was_strange(
    ticks, by, times, words
):
    of = frames([1.4])
    given = replace(scores(of, [9]), blame=np.array([[1, 0]], np.float32))
    (event,) = watch(unit="bar").step(of, given, explain=lay(ticks, by, times))
    assert event.reason == f"surprise 9.0 at or over 4.0; most of it from x 100%{words}{ALONE}"


def test_the_model_is_asked_at_the_raise_alone():
    asked = []
    of = frames([1.0] * 5)
    watch().step(of, scores(of, [1, 9, 9, 9, 1]), explain=asked.append)
    assert asked == [1]


@pytest.mark.parametrize(
    ("tick_ms", "delay_s", "words"),
    [(60_000, 10, " for 60 s"), (60_000, 90, " for 2 min"), (1000, 10, " for 10 s"), (1000, 0, "")],
)
def test_how_long_it_lasted_is_said_in_whole_frames(tick_ms, delay_s, words):
    of = frames([1.0] * 12)
    of = replace(of, tick=START + np.arange(12) * tick_ms * 1_000_000)
    raised, *_ = watch(on_delay_s=delay_s, tick_ms=tick_ms).step(of, scores(of, [9] * 12))
    assert f"at or over 4.0{words};" in raised.reason


def test_a_surprise_that_no_channel_is_blamed_for_is_said_by_itself():
    of = frames([1.0])
    (event,) = watch().step(of, replace(scores(of, [9]), blame=np.zeros((1, 2), np.float32)))
    assert event.reason == "surprise 9.0 at or over 4.0"


# ---- names --------------------------------------------------------------------------------------


def test_an_alarm_keeps_its_id_from_raise_to_return_and_wherever_it_is_worked_out():
    raised, returned = surprises(watch(), [9, 0])
    again, _ = surprises(watch(assets=("other", "a0")[1:]), [9, 0])
    assert raised.id == returned.id == again.id
    assert raised.id == alarm_id("plant", "a0", AlarmClass.PROCESS, "surprise", raised.tick)
    assert returned.raised == raised.raised == raised.tick
    assert raised.id == "1767f3a530cfdbda7f69c8bfad8fb859"  # kept in databases: never another


@pytest.mark.parametrize(
    "other",
    [
        ("plan", "a0", AlarmClass.PROCESS, "surprise", 1),
        ("plant", "a1", AlarmClass.PROCESS, "surprise", 1),
        ("plant", "a0", AlarmClass.LIMIT, "surprise", 1),
        ("plant", "a0", AlarmClass.PROCESS, "x high", 1),
        ("plant", "a0", AlarmClass.PROCESS, "surprise", 2),
    ],
)
def test_everything_an_alarm_names_is_in_its_id(other):
    assert alarm_id(*other) != alarm_id("plant", "a0", AlarmClass.PROCESS, "surprise", 1)


def test_the_next_raise_is_another_alarm():
    events = surprises(watch(), [9, 0, 9])
    assert [str(event.transition) for event in events] == ["raised", "returned", "raised"]
    assert events[0].id != events[2].id


# ---- limits -------------------------------------------------------------------------------------


def limited(values, *, fresh=(0,), tick_ms=1000, unit=None, **limits):
    alarms = watch(threshold=None, limits=LimitSettings(**limits), unit=unit, tick_ms=tick_ms)
    of = frames(values, fresh=fresh)
    return alarms.step(of, scores(of, [0] * len(values), state=BLIND))


@pytest.mark.parametrize(
    ("limit", "values"),
    [
        ("high", [10, 10.1, 10]),
        ("high_high", [10, 10.1, 10]),
        ("low", [10, 9.9, 10]),
        ("low_low", [10, 9.9, 10]),
    ],
)
def test_a_limit_alarms_beyond_it_and_returns_at_it_without_any_model(limit, values):
    events = limited(values, **{limit: 10})
    assert seen(events) == [(1, "raised"), (2, "returned")]
    assert {event.point for event in events} == {f"x {limit}"}
    assert {event.alarm_class for event in events} == {AlarmClass.LIMIT}
    assert events[0].value == values[1]


def test_the_first_sample_can_alarm():
    assert seen(limited([11], high=10)) == [(0, "raised")]
    assert seen(limited([11, 11], high=10, on_delay_s=1)) == [(1, "raised")]


def test_samples_further_apart_than_a_gap_alarm_one_by_one():
    events = limited([9, 11, 11, 9], fresh=(0, 1, 2, 3), high=10)
    assert seen(events) == [(1, "raised"), (3, "returned")]


def test_a_deadband_is_how_far_back_it_must_come():
    assert seen(limited([0, 11, 9, 8.1, 8], high=10, deadband=2)) == [
        (1, "raised"),
        (4, "returned"),
    ]
    assert seen(limited([0, -11, -9, -8.1, -8], low=-10, deadband=2)) == [
        (1, "raised"),
        (4, "returned"),
    ]


def test_limits_have_delays():
    values = [0, 11, 11, 0, 11, 11, 11, 0, 0, 11, 0, 0, 0]
    events = limited(values, high=10, on_delay_s=2, off_delay_s=2)
    assert seen(events) == [(6, "raised"), (12, "returned")]


def test_a_rate_is_units_per_second_up_or_down():
    assert seen(limited([0, 4, 9, 9], rate=4)) == [(2, "raised"), (3, "returned")]
    assert seen(limited([9, 4, 0, 0], rate=4)) == [(1, "raised"), (2, "returned")]
    assert seen(limited([0, 4, 4], rate=7, tick_ms=500)) == [(1, "raised"), (2, "returned")]


def test_values_as_far_apart_as_numbers_go_alarm_and_warn_nobody():
    raised, _ = limited([-1.7e308, 1.7e308, 1.7e308], rate=4)
    assert raised.reason == "x inf /s, above rate 4"


def test_a_rate_is_not_taken_across_a_gap_or_a_hole():
    assert seen(limited([0, 1, 99, 99], fresh=(0, 2), rate=4)) == []
    assert seen(limited([0, None, 99, 99], rate=4)) == []


def test_a_value_that_is_not_valid_neither_raises_nor_clears():
    assert seen(limited([0, 11, None, None, 0], high=10)) == [(1, "raised"), (4, "returned")]


def test_a_value_that_is_not_valid_pauses_the_delays():
    values = [0, 11, 11, None, 11, 11, 0, 0, None, 0, 0]
    events = limited(values, high=10, on_delay_s=2, off_delay_s=2)
    assert seen(events) == [(5, "raised"), (10, "returned")]


def test_a_machine_that_stands_still_pauses_a_delay_unless_its_value_is_beyond_the_limit():
    def events(values, states):
        alarms = watch(limits=LimitSettings(high=10, on_delay_s=2, off_delay_s=2), threshold=None)
        of = frames(values)
        return seen(alarms.step(of, scores(of, [0] * len(values), state=states)))

    assert events([11, 11, 0, 0, 11, 11], [OK, OK, OFF, OFF, OK, OK]) == [(5, "raised")]
    assert events([11, 11, 11], [OFF, OFF, OFF]) == [(2, "raised")]
    on = [11, 11, 11]
    back = [0, 0, 0, 0, 0]
    assert events(on + back, [OK] * 5 + [OFF, OK, OK]) == [(2, "raised"), (7, "returned")]
    again = [0, 0, 11, 0, 0, 0]
    assert events(on + again, [OK] * 5 + [OFF, OK, OK, OK]) == [(2, "raised"), (8, "returned")]


steps = st.tuples(st.sampled_from([None, 0, 4, 11, 30]), st.booleans(), st.booleans())


@example(rows=[(0, False, False), (30, True, False)], delay=0, cut=0)
@example(rows=[(0, False, False), (30, True, False)], delay=0, cut=1)
@for_any(rows=st.lists(steps, max_size=40), delay=st.integers(0, 3), cut=st.integers(0, 40))
def test_to_a_limit_of_running_machines_it_is_as_if_the_others_were_gaps(rows, delay, cut):
    values, runs, gaps = (list(column) for column in zip(*rows, strict=True)) if rows else ([],) * 3
    limits = {"high": 10, "deadband": 5, "rate": 20, "on_delay_s": delay, "off_delay_s": delay}
    of = frames(values, fresh=np.flatnonzero(gaps))
    running = np.array(runs, np.bool_)
    given = scores(of, [0] * len(values), state=np.where(running, OK, OFF))

    alarms = watch(limits=LimitSettings(**limits, only_running=True))
    found = []
    for part in (np.arange(len(of)) < cut, np.arange(len(of)) >= cut):
        found += alarms.step(of.rows(part), scores_of(given, part))
    after_a_rest = of.fresh | ~np.append([True], running)[: len(of)]
    alone = replace(of, fresh=after_a_rest).rows(running)
    plain = watch(limits=LimitSettings(**limits))
    assert found == plain.step(alone, scores_of(given, running))


def test_an_alarm_of_a_limit_of_running_machines_stays_while_it_stands():
    alarms = watch(limits=LimitSettings(low=2, only_running=True), threshold=None)
    of = frames([5, 1, 0, 0, 5, 5, 1, 5])
    state = [OK, OK, OFF, OFF, OFF, OK, OFF, OFF]
    assert seen(alarms.step(of, scores(of, [0] * 8, state=state))) == [
        (1, "raised"),
        (5, "returned"),
    ]


def test_the_reason_of_a_limit_is_in_its_unit():
    raised, returned = limited([0, 12.5, 9.5], high=10, unit="bar")
    assert raised.reason == "x 12.5 bar, above high 10"
    assert returned.reason == "x 9.5 bar, back below high 10"
    raised, returned = limited([0, -3.0, 1], low=-2)
    assert raised.reason == "x -3, below low -2"
    assert returned.reason == "x 1, back above low -2"
    raised, _ = limited([0, 12.5, 12.5], rate=10, unit="bar")
    assert raised.reason == "x 12.5 bar/s, above rate 10"


def test_each_limit_of_a_channel_alarms_by_itself():
    events = limited([0, 11, 21, 11, 0], high=10, high_high=20)
    assert sorted((*moment, e.point) for moment, e in zip(seen(events), events, strict=True)) == [
        (1, "raised", "x high"),
        (2, "raised", "x high_high"),
        (3, "returned", "x high_high"),
        (4, "returned", "x high"),
    ]


def test_assets_do_not_share_their_limits_timers():
    alarms = watch(assets=("a0", "a1"), threshold=None, limits=LimitSettings(high=10, rate=99))
    parts = [frames([0, 11, 11], row=0), frames([0, 0, 11], row=1)]
    of = Frames.join(parts)
    events = alarms.step(of, scores(of, [0] * 6))
    assert [(e.asset, moment) for e, moment in zip(events, seen(events), strict=True)] == [
        ("a0", (1, "raised")),
        ("a1", (2, "raised")),
    ]


# ---- acknowledging, saving ----------------------------------------------------------------------


def acknowledge(alarms, target):
    command = Command(action=Action.ACKNOWLEDGE, target=target, who="ann", why="seen")
    return [str(event.transition) for event in alarms.board.acknowledge(command, now=NOW)]


def test_an_alarm_is_acknowledged_once_active_or_returned():
    alarms = watch()
    (raised,) = surprises(alarms, [9])
    assert acknowledge(alarms, raised.id) == ["acknowledged"]
    assert acknowledge(alarms, raised.id) == []
    back = frames([1.0], fresh=(), start=1)
    alarms.step(back, scores(back, [0]))
    assert acknowledge(alarms, raised.id) == []  # it was seen while it was active
    again = frames([1.0], fresh=(), start=2)
    (second,) = alarms.step(again, scores(again, [9]))
    assert acknowledge(alarms, raised.id) == []  # over: there is a newer one
    assert acknowledge(alarms, second.id) == ["acknowledged"]


def test_one_that_returned_unseen_can_still_be_acknowledged():
    alarms = watch()
    raised, _ = surprises(alarms, [9, 0])
    assert acknowledge(alarms, raised.id) == ["acknowledged"]


def test_alarms_go_on_where_they_were_saved_for_the_assets_and_limits_that_stay():
    limits = LimitSettings(high=10, rate=99, on_delay_s=2)
    first = watch(assets=("a0", "a1"), limits=limits)
    of = Frames.join([frames([0, 11, 11], row=0), frames([0, 0, 11], row=1)])
    raised = first.step(of, scores(of, [0, 9, 9, 0, 0, 0]))
    assert seen(raised) == [(1, "raised")]

    second = watch(assets=("a2", "a0"), limits=LimitSettings(low=-1, high=10, on_delay_s=2))
    second.restore(first.snapshot(), ("a0", "a1"))
    rest = frames([11, 0], fresh=(), start=3, row=1)
    events = second.step(rest, scores(rest, [0, 0]))
    assert [
        (e.asset, e.point, *moment) for e, moment in zip(events, seen(events), strict=True)
    ] == [
        ("a0", "surprise", 3, "returned"),
        ("a0", "x high", 3, "raised"),
        ("a0", "x high", 4, "returned"),
    ]
    assert acknowledge(second, raised[0].id) == ["acknowledged"]


@pytest.mark.parametrize("remembered", [True, False])
def test_an_alarm_that_returns_names_who_was_to_blame_all_the_while(remembered):
    alarms, again = watch(), watch()
    of = frames([1.0] * 4)
    said = scores(of, [5, 5, 5, 5])
    said.blame[1:] = [1.0, 0.0]
    (raised,) = alarms.step(of, said)
    assert list(raised.blame) == ["y", "x"]
    kept = alarms.snapshot()
    if not remembered:  # an earlier version wrote it
        del kept["episode"]
    again.restore(kept, ("a0",))
    (returned,) = again.step(end := frames([1.0], fresh=(), start=4), scores(end, [1]))
    assert list(returned.blame) == (["x", "y"] if remembered else ["y", "x"])
    assert ("all in all from x 81%, y 19%" in returned.reason) is remembered

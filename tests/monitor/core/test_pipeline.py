"""The step as a whole: what must hold whatever is sent, and single cases in plain sight."""

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import checks
from support.building import (
    BAD,
    NOW,
    SECOND,
    START,
    assets,
    kind,
    plan,
    rich_kind,
    samples,
    stepped,
)
from support.checks import Case, assert_conserved, run

from connectors.batch import Notice, NoticeKind
from monitor.core.pipeline import Pipeline
from monitor.core.plan import (
    AlarmSettings,
    ChannelSettings,
    LimitSettings,
    Plan,
    RunningSettings,
)
from monitor.core.records import (
    Action,
    AlarmClass,
    Beat,
    Cause,
    Command,
    Epoch,
    Record,
    Results,
    ScoreState,
    Transition,
)

MODELS = ("ewma", "gru", "lstm")
seen = {name: channel for name, channel in rich_kind().channels.items() if channel.model}
SITES = {
    "one asset": plan(rich_kind()),
    "two sources": plan(rich_kind(), 3, sources=("s", "t")),
    "all seen by the model": plan(rich_kind(channels=seen, running=None), 2),
    "two sources an asset": plan(rich_kind(), 3, sources=("s", "t"), spread=True),
}
seeds = st.integers(0, 2**32 - 1)

OF_MODELS = (checks.check_any_delivery, checks.check_scores, checks.check_restore)
OF_SAMPLES = (
    checks.check_frames,
    checks.check_late_sample,
    checks.check_clock,
    checks.check_mess,
)


# ---- properties ---------------------------------------------------------------------------------


@pytest.mark.parametrize("check", OF_MODELS)
@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("model", MODELS)
@given(seed=seeds)
@settings(max_examples=2, deadline=None)
def test_it_holds_for_every_model(check, site, model, bundles, seed):
    check(Case(plan=SITES[site], bundle=bundles[model], seed=seed))


@pytest.mark.parametrize("check", OF_SAMPLES)
@pytest.mark.parametrize("site", SITES)
@given(seed=seeds)
@settings(max_examples=5, deadline=None)
def test_it_holds_for_whatever_is_sent(check, site, bundles, seed):
    check(Case(plan=SITES[site], bundle=bundles["ewma"], seed=seed))


def test_a_stream_that_closes_no_frame_has_none(bundles):
    case = Case(plan=SITES["one asset"], bundle=bundles["ewma"], seed=8_250_989)
    assert not len(checks.frames_of(case, case.records()))
    checks.check_frames(case)


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("check", [*OF_MODELS, *OF_SAMPLES])
@given(seed=seeds, site=st.sampled_from(list(SITES)), model=st.sampled_from(MODELS))
@settings(max_examples=15, deadline=None)
def test_it_holds_for_many_streams(check, site, model, bundles, seed):
    check(Case(plan=SITES[site], bundle=bundles[model], seed=seed, ticks=100))


@pytest.mark.parametrize("model", MODELS)
@given(seed=seeds)
@settings(max_examples=1, deadline=None)
def test_any_delivery_of_twenty_assets_gives_the_same(model, bundles, seed):
    twenty = plan(rich_kind(), 20, sources=("s", "t"))
    checks.check_any_delivery(Case(plan=twenty, bundle=bundles[model], seed=seed, ticks=15))


@pytest.mark.parametrize("model", MODELS)
@given(seed=seeds, kept=st.permutations(range(5)), dropped=st.integers(0, 4))
@settings(max_examples=4, deadline=None)
def test_assets_come_go_and_change_places_without_touching_the_others(
    model, bundles, seed, kept, dropped
):
    before = plan(rich_kind(), 3, sources=("s", "t"))
    five = plan(rich_kind(), 5, sources=("s", "t"))
    after = replace(five, assets=tuple(five.assets[row] for row in kept[dropped:]))
    checks.check_another_plan(Case(plan=before, bundle=bundles[model], seed=seed), after)


@given(seed=seeds, kept=st.permutations(range(5)), dropped=st.integers(0, 4))
@settings(max_examples=4, deadline=None)
def test_a_plan_that_is_given_up_again_leaves_no_trace_on_assets_that_it_had(
    bundles, seed, kept, dropped
):
    before = plan(rich_kind(), 3, sources=("s", "t"))
    five = plan(rich_kind(), 5, sources=("s", "t"))
    after = replace(five, assets=tuple(five.assets[row] for row in kept[dropped:]))
    checks.check_there_and_back(Case(plan=before, bundle=bundles["gru"], seed=seed), after)


def test_the_streams_hold_what_the_properties_speak_of(bundles):
    states, transitions, gaps, repeats = set(), set(), 0, 0
    for seed in range(10):
        case = Case(plan=SITES["two sources"], bundle=bundles["ewma"], seed=seed, ticks=60)
        pipeline = case.pipeline()
        results = run(pipeline, case.records())
        states |= {state for block in results.scores for state in block.state.tolist()}
        transitions |= {(event.alarm_class, event.transition) for event in results.alarms}
        gaps += len(results.gaps)
        repeats += sum(counts.duplicate for counts in pipeline.conservation.values())
    assert states == {state.value for state in ScoreState}
    of_cameras = {AlarmClass.PICTURE, AlarmClass.COMBINED}  # there are none here
    of_assets = set(AlarmClass) - {AlarmClass.PIPELINE} - of_cameras
    assert {(what, how) for what in of_assets for how in list(Transition)[:2]} <= transitions
    assert gaps
    assert repeats


def test_a_frame_closes_as_soon_as_it_is_complete():
    checks.check_promptness()


def test_a_source_alive_between_two_ticks_vouches_for_neither():
    checks.check_a_span_between_ticks()


def test_a_gap_counts_for_no_delay_but_what_was_before_it_does():
    checks.check_timers_over_a_gap()


# ---- single cases -------------------------------------------------------------------------------


def seconds(results):
    ticks = np.concatenate([block.tick for block in results.scores]) if results.scores else []
    return [(int(tick) - START) / SECOND for tick in ticks]


def alive(since, until, source="s"):
    return Notice(
        source=source,
        kind=NoticeKind.ALIVE,
        since=START + round(since * SECOND),
        until=START + round(until * SECOND),
    )


def test_alive_notices_make_no_frame_before_the_first_sample():
    pipeline = Pipeline(plan(kind()), {})
    assert seconds(stepped(pipeline, alive(0, 5), alive(5, 10), Beat())) == []
    assert seconds(stepped(pipeline, samples((0, 10.5, 1.0)), alive(10, 12))) == [11, 12]


def test_a_source_alive_until_the_far_future_makes_nothing_late():
    pipeline = Pipeline(plan(kind()), {})
    stepped(pipeline, samples((0, 1.0, 1.0)), received=START + SECOND)
    stepped(pipeline, alive(1, 10**8), alive(10**7, 10**8), received=START + SECOND)
    results = stepped(
        pipeline, samples((0, 62.0, 2.0), (0, 62.1, 2.0)), received=START + 62 * SECOND
    )
    assert not results.late
    assert seconds(results) == [62]


def test_silence_is_counted_in_beats_not_by_how_far_the_clock_was_set():
    def results(wall):
        pipeline = Pipeline(plan(kind(), 2, sources=("s", "t"), spread=True), {})
        stepped(pipeline, samples((0, 1.0, 1.0)), samples((1, 0.9, 1.0), source="t"))
        return seconds(Results.join([pipeline.step(Record(NOW + t, Beat())) for t in wall]))

    assert results([t * SECOND for t in range(31)]) == []
    assert results([t * SECOND for t in range(32)]) == [1]
    assert results([10**6 * SECOND, 0, 10**6 * SECOND]) == []
    assert results([10**6 * SECOND, *(t * SECOND for t in range(28))]) == [1]


def test_records_that_were_stamped_side_by_side_make_no_time_pass_twice():
    pipeline = Pipeline(plan(kind(), 2, sources=("s", "t"), spread=True), {})
    stepped(pipeline, samples((0, 1.0, 1.0)), samples((1, 0.9, 1.0), source="t"))
    walls = [t * SECOND + apart for t in range(1, 30) for apart in (SECOND // 2, 0, SECOND // 3)]
    assert seconds(Results.join([pipeline.step(Record(NOW + w, Beat())) for w in walls])) == []
    found = [pipeline.step(Record(NOW + 31 * SECOND, Beat())) for _ in range(2)]
    assert seconds(Results.join(found)) == [1]


def test_nobody_was_heard_before_a_start():
    pipeline = Pipeline(plan(kind(), 1, sources=("s", "t"), spread=True), {})
    stepped(pipeline, samples((0, 1.0, 1.0)), samples((1, 0.9, 1.0), source="t"))
    for t in range(29):
        stepped(pipeline, Beat(), received=NOW + t * SECOND)
    found = stepped(pipeline, Epoch(config="", bundles={}), received=NOW + 30 * SECOND)
    assert seconds(found) == []
    assert seconds(stepped(pipeline, Beat(), received=NOW + 40 * SECOND)) == []


def test_silence_goes_on_over_a_reload_and_begins_there_for_an_asset_that_is_new():
    first = Pipeline(plan(kind(), 1, sources=("s", "t"), spread=True), {})
    stepped(first, samples((0, 1.0, 1.0)), samples((1, 0.9, 1.0), source="t"))
    for t in range(30):
        stepped(first, Beat(), received=NOW + t * SECOND)
    other = Pipeline(plan(kind(), 2, sources=("s", "t"), spread=True), {})
    other.restore(first.snapshot())
    reload = Epoch(config="", bundles={}, cause=Cause.RELOAD)
    found = stepped(other, reload, samples((2, 40.0, 1.0)), received=NOW + 30 * SECOND)
    assert seconds(found) == []
    found = [seconds(stepped(other, Beat(), received=NOW + t * SECOND)) for t in range(31, 63)]
    assert [one for one in found if one] == [[1], [40]]
    assert found[0] == [1], "silent for 31 s"
    assert found[30] == [40], "31 s after the reload"


def test_samples_of_a_source_that_the_tag_no_longer_has_are_refused_not_mixed_in():
    pipeline = Pipeline(plan(kind(), 2, sources=("s", "t")), {})
    stepped(
        pipeline,
        samples((0, 1.0, 1.0), (2, 1.0, 1.0)),  # tag 2 is of source t
        samples((0, 1.0, 1.0), source="stranger"),
    )
    counts = pipeline.conservation
    assert counts["s"].rejected == {"unknown_tag": 1}
    assert counts["stranger"].rejected == {"unknown_tag": 1}
    assert_conserved(pipeline)


def test_rejected_notices_are_counted():
    pipeline = Pipeline(plan(kind()), {})
    stepped(pipeline, Notice(source="s", kind=NoticeKind.REJECTED, reason="no number", count=3))
    counts = pipeline.conservation["s"]
    assert (counts.received, counts.rejected) == (3, {"no number": 3})


def test_reasons_and_examples_that_come_from_outside_do_not_grow_without_end():
    pipeline = Pipeline(plan(kind()), {})
    for number in range(200):
        reason, example = f"{number} {'x' * 5000}", "y" * 5000
        stepped(
            pipeline,
            Notice(source="s", kind=NoticeKind.REJECTED, reason=reason, count=2, example=example),
        )
    counts = pipeline.conservation["s"]
    assert (counts.received, sum(counts.rejected.values())) == (400, 400)
    assert len(counts.rejected) == 51
    assert counts.rejected["other"] == 300
    assert len(json.dumps(pipeline.status())) < 100_000


def test_a_source_is_as_it_said_last_and_its_last_stamp_is_one_that_was_taken():
    pipeline = Pipeline(plan(kind(), 2, sources=("s", "t")), {})

    def known():
        return pipeline.status()["sources"]["s"]

    assert known() == {"state": "waiting", "last_ns": None}
    stepped(pipeline, samples((0, -1_650_000_000, 1.0)))
    assert known() == {"state": "waiting", "last_ns": None}  # 1970: nothing was taken
    stepped(pipeline, samples((0, 2.0, 1.0), (0, 1.0, 1.0), (0, 9e6, 1.0)))  # the last: too far off
    assert known() == {"state": "running", "last_ns": START + 2 * SECOND}
    stepped(pipeline, samples((0, 1.5, 1.0)), Notice(source="s", kind=NoticeKind.LOST))
    assert known() == {"state": "lost", "last_ns": START + 2 * SECOND}
    stepped(pipeline, Notice(source="s", kind=NoticeKind.ENDED))
    assert known()["state"] == "ended"
    other = Pipeline(plan(kind(), 2, sources=("s", "t")), {})
    other.restore(pipeline.snapshot())
    assert other.status() == pipeline.status()
    assert other.status()["sources"]["t"] == {"state": "waiting", "last_ns": None}


def test_the_first_example_of_each_reason_is_kept_also_in_a_snapshot():
    pipeline = Pipeline(plan(kind()), {})
    for reason, example in (("odd", ""), ("odd", "line 2"), ("odd", "line 3"), ("even", "line 4")):
        notice = Notice(
            source="s", kind=NoticeKind.REJECTED, reason=reason, count=1, example=example
        )
        stepped(pipeline, notice)
    other = Pipeline(plan(kind()), {})
    other.restore(pipeline.snapshot())
    assert other.status()["examples"] == {"s": {"odd": "line 2", "even": "line 4"}}
    before = {name: x for name, x in pipeline.snapshot().items() if name not in ADDED_LATER}
    other = Pipeline(plan(kind()), {})
    other.restore(before)
    assert other.conservation == pipeline.conservation, "snapshots of before are still good"


ADDED_LATER = ("sources", "examples", "thresholds")


def test_the_threshold_in_force_is_told_for_each_kind(bundles):
    given_by_hand = rich_kind(alarm=AlarmSettings(threshold=4))
    for of, provisional in ((rich_kind(), True), (given_by_hand, False)):
        bundle = bundles["ewma"].with_threshold(5.5, provisional=True)
        (found,) = Pipeline(plan(of), {"k": bundle}).status()["thresholds"].values()
        level = 5.5 if provisional else 4
        assert found == {"value": level, "provisional": provisional, "not_learnt": []}
    assert Pipeline(plan(kind()), {}).status()["thresholds"] == {}


def test_two_kinds_stand_side_by_side(bundles):
    fan = kind(tick_ms=2000, channels={"flow": ChannelSettings()})
    pumps = assets(1, rich_kind())
    fans = [replace(assets(1, fan)[0], name="f", id=9, kind="fan", tags={"flow": (50, "s")})]
    site = Plan(site="plant", kinds={"k": rich_kind(), "fan": fan}, assets=(*pumps, *fans))
    pipeline = Pipeline(site, {"k": bundles["ewma"]})
    points = [(tag, second, 50.0) for second in (1, 2, 3) for tag in range(5)]
    found = run(
        pipeline,
        [Record(NOW, samples((50, 2, 1.0), *points, (50, 4, 2.0), (50, 4.1, 2.0), (0, 6, 1.0)))],
    )
    assert [(block.kind, block.asset.tolist()) for block in found.scores] == [
        ("k", [0, 0, 0]),
        ("fan", [9, 9]),
    ]
    assert found.scores[1].tick.tolist() == [START + 2 * SECOND, START + 4 * SECOND]


def test_status_counts_frames_by_their_state():
    pipeline = Pipeline(plan(kind()), {})
    stepped(pipeline, samples((0, 1.0, 1.0), (0, 3.0, 1.0), (0, 3.1, 1.0)))
    assert pipeline.status()["frames"] == {"ok": 0, "warming": 0, "blind": 3, "off": 0}


def test_a_snapshot_does_not_change_when_the_step_goes_on(bundles):
    case = Case(plan=SITES["two sources"], bundle=bundles["gru"], seed=3)
    records, pipeline = case.records(), case.pipeline()
    run(pipeline, records[: len(records) // 2])
    tree = pipeline.snapshot()
    before = pickle.dumps(tree)
    run(pipeline, records[len(records) // 2 :])
    assert pickle.dumps(tree) == before
    other = case.pipeline()
    other.restore(tree)
    run(other, records[len(records) // 2 :])
    assert pickle.dumps(tree) == before


def test_a_kind_that_is_gone_stays_in_the_count():
    pipeline = Pipeline(plan(kind()), {})
    stepped(pipeline, samples((0, 1.0, 1.0), (0, 1.0, 1.0), (0, 3.0, 1.0)))
    other = Pipeline(Plan(site="plant", kinds={}, assets=()), {})
    other.restore(pipeline.snapshot())
    assert other.conservation == pipeline.conservation
    again = Pipeline(plan(kind()), {})
    again.restore(other.snapshot())
    stepped(again, samples((0, 4.0, 1.0)))
    assert (again.conservation["s"].stored, again.conservation["s"].duplicate) == (3, 1)
    assert_conserved(again)


def test_an_alarm_at_the_models_own_threshold_needs_a_model_that_has_one(bundles):
    without = bundles["ewma"].with_threshold(None, provisional=True)
    with pytest.raises(ValueError, match=r"alarm\.threshold is auto.*Train it again"):
        Pipeline(plan(rich_kind()), {"k": without})
    given_by_hand = rich_kind(alarm=AlarmSettings(threshold=4))
    Pipeline(plan(given_by_hand), {"k": without})


def test_a_person_acknowledges_once():
    limited = kind(channels={"x": ChannelSettings(limits={"high": 5})})
    pipeline = Pipeline(plan(limited), {})
    (raised,) = stepped(pipeline, samples((0, 1.0, 9.0, 0), (0, 2.0, 9.0), (0, 2.5, 0, BAD))).alarms
    seen = Command(action=Action.ACKNOWLEDGE, target=raised.id, who="ann", why="checked")
    (event,) = stepped(pipeline, seen).alarms
    assert (event.id, event.transition, event.who) == (raised.id, Transition.ACKNOWLEDGED, "ann")
    assert (event.tick, event.reason, event.raised) == (NOW, "checked", raised.tick)
    assert stepped(pipeline, seen, replace(seen, target="another")).alarms == ()


# ---- alarms that nothing can end any more -------------------------------------------------------

LIMITED = kind(
    channels={"x": ChannelSettings(limits={"high": 5, "low": 0}), "y": ChannelSettings()}
)
EPOCH = Epoch(config="", bundles={})
BEYOND = samples((0, 1.0, 9.0, 0), (0, 2.0, 9.0), (0, 2.5, 9.0))


def without(of, **channels):
    return of.model_copy(update={"channels": {**of.channels, **channels}})


CHANGED = {
    "the limit": plan(without(LIMITED, x=ChannelSettings(limits={"low": 0}))),
    "the channel": plan(kind(channels={"y": ChannelSettings()})),
    "the asset": Plan(site="plant", kinds={"k": LIMITED}, assets=()),
    "the kind": Plan(site="plant", kinds={}, assets=()),
    "the name of the site": replace(plan(LIMITED), site="works"),
}


def raised_and_restored(changed, *, bundles=None):
    """What was raised, and a pipeline of the changed plan that goes on from there."""
    first = Pipeline(plan(LIMITED), {})
    found = stepped(first, BEYOND)
    other = Pipeline(changed, bundles or {})
    other.restore(first.snapshot())
    other.settle(checks.standing(found))
    return found.alarms, other


@pytest.mark.parametrize("what", CHANGED)
def test_an_alarm_ends_once_when_it_is_no_longer_configured(what):
    (raised,), other = raised_and_restored(CHANGED[what])
    assert stepped(other, Beat()).alarms == ()
    (event,) = stepped(other, EPOCH, received=NOW + SECOND).alarms
    assert (event.id, event.asset, event.point) == (raised.id, "a0", "x high")
    assert (event.transition, event.reason) == (Transition.RETURNED, "no longer configured")
    assert (event.tick, event.raised, event.threshold) == (NOW + SECOND, raised.tick, 5)
    assert np.isnan(event.value)
    assert stepped(other, EPOCH, Beat(), EPOCH).alarms == ()


def test_an_alarm_of_a_model_that_was_removed_ends_and_another_model_starts_without_it(bundles):
    site = plan(rich_kind(channels=seen, running=None, alarm=AlarmSettings(threshold=1)))
    strange = [(tag, float(t), 50 + 40.0 * (t > 8)) for t in range(1, 14) for tag in range(3)]
    first = Pipeline(site, {"k": bundles["ewma"]})
    found = stepped(first, samples(*strange), Notice(source="s", kind=NoticeKind.ENDED))
    standing = checks.standing(found)
    other = Pipeline(site, {})
    other.restore(first.snapshot())
    other.settle(standing)
    (event,) = stepped(other, EPOCH).alarms
    assert (event.point, event.reason) == ("surprise", "no longer configured")
    assert event.id in {alarm.id for alarm in standing}
    again = Pipeline(site, {"k": bundles["ewma"]})
    again.restore(other.snapshot())
    strange = [
        (tag, float(t), 50 + 40.0 * (20 < t < 26)) for t in range(14, 40) for tag in range(3)
    ]
    found = stepped(again, EPOCH, samples(*strange), Notice(source="s", kind=NoticeKind.ENDED))
    assert {e.point for e in found.alarms if e.transition is Transition.RETURNED} >= {"surprise"}
    assert event.id not in {later.id for later in found.alarms}


def test_an_alarm_of_a_limit_that_stays_is_active_until_it_returns():
    stays = plan(without(LIMITED, y=ChannelSettings(limits={"high": 1})), 2)
    (raised,), other = raised_and_restored(stays)
    assert stepped(other, EPOCH).alarms == ()
    (event,) = stepped(other, samples((0, 3.0, 1.0), (0, 4.5, 1.0))).alarms
    assert (event.id, event.transition) == (raised.id, Transition.RETURNED)
    assert event.reason == "x 1, back below high 5"


def test_what_is_still_to_be_said_is_in_the_snapshot():
    (raised,), other = raised_and_restored(CHANGED["the limit"])
    third = Pipeline(CHANGED["the limit"], {})
    third.restore(other.snapshot())
    assert [event.id for event in stepped(third, EPOCH).alarms] == [raised.id]
    fourth = Pipeline(CHANGED["the limit"], {})
    fourth.restore(third.snapshot())
    assert stepped(fourth, EPOCH).alarms == ()


def test_an_alarm_that_people_know_of_is_active_although_the_replay_did_not_raise_it():
    found = stepped(Pipeline(plan(LIMITED), {}), BEYOND)
    higher = Pipeline(plan(without(LIMITED, x=ChannelSettings(limits={"high": 10}))), {})
    assert stepped(higher, BEYOND).alarms == ()
    higher.settle(checks.standing(found))
    assert stepped(higher, EPOCH).alarms == ()
    seen = Command(action=Action.ACKNOWLEDGE, target=found.alarms[0].id, who="ann")
    (acknowledged, returned) = stepped(higher, seen, samples((0, 3.5, 9.0))).alarms
    assert (acknowledged.id, acknowledged.transition) == (returned.id, Transition.ACKNOWLEDGED)
    assert (returned.id, returned.transition) == (found.alarms[0].id, Transition.RETURNED)


def test_an_alarm_that_people_were_told_is_over_is_not_ended_again():
    first = Pipeline(plan(LIMITED), {})
    (raised,) = stepped(first, BEYOND).alarms
    first.settle([])
    (again,) = stepped(first, EPOCH, samples((0, 3.5, 9.0))).alarms
    assert again.transition is Transition.RAISED
    assert again.id != raised.id


def test_a_snapshot_from_before_alarms_were_settled_is_read():
    (raised,), other = raised_and_restored(plan(LIMITED))
    tree = {name: value for name, value in other.snapshot().items() if name != "gone"}
    third = Pipeline(plan(LIMITED), {})
    third.restore(tree)
    (event,) = stepped(third, EPOCH, samples((0, 3.5, 1.0), (0, 4.5, 1.0))).alarms
    assert (event.id, event.transition) == (raised.id, Transition.RETURNED)


NIGHTS = [0.0] * 40
DAYS = [8.0] * 60


def nights(*, only_running, flow):
    """(second, transition) of a pump's low flow; its current falls with each night."""
    limits = LimitSettings(low=2, deadband=0.5, on_delay_s=10, off_delay_s=10)
    of = kind(
        channels={
            "flow": ChannelSettings(
                limits=limits.model_copy(update={"only_running": only_running})
            ),
            "current": ChannelSettings(model=False),
        },
        running=RunningSettings(channel="current", above=0.5, startup_s=15, coastdown_s=5),
    )
    current = [5.0 * (value > 0) for value in DAYS + NIGHTS] * 3
    flows = [(0, second, value) for second, value in enumerate(flow)]
    currents = [(1, second, value) for second, value in enumerate(current)]
    found = stepped(Pipeline(plan(of), {}), samples(*sorted(flows + currents, key=lambda s: s[1])))
    return [((event.tick - START) // SECOND, str(event.transition)) for event in found.alarms]


def test_a_pump_that_stands_each_night_has_no_low_flow_unless_it_has_while_it_runs():
    healthy = (DAYS + NIGHTS) * 3
    assert [one for _, one in nights(only_running=False, flow=healthy)].count("raised") == 3
    assert nights(only_running=True, flow=healthy) == []

    slow_start = [*healthy]
    slow_start[100:112] = [0.0] * 12  # within startup_s
    assert nights(only_running=True, flow=slow_start) == []

    blocked = [*healthy]
    blocked[45:60] = [1.0] * 15  # until the night: still active in it, and returns the next day
    assert nights(only_running=True, flow=blocked) == [
        (55, "raised"),
        (60, "tripped"),
        (125, "returned"),
    ]

    blocked = [*healthy]
    blocked[55:60] = blocked[115:130] = [1.0] * 15  # no 10 s by itself before the night
    assert nights(only_running=True, flow=blocked)[0] == (121, "raised")

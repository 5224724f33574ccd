"""From samples to alarms for instrument people, beside scores that go on without the sensor."""

import numpy as np
import pytest
from support.building import BAD, SECOND, START, kind, plan, samples, stepped

from connectors.batch import GOOD_LOCAL_OVERRIDE, Notice, NoticeKind
from models.bundle import Bundle
from monitor.core.pipeline import Pipeline
from monitor.core.plan import (
    AlarmSettings,
    ChannelSettings,
    InstrumentSettings,
    LimitSettings,
    RunningSettings,
    SensorSettings,
)
from monitor.core.records import (
    Action,
    AlarmClass,
    Cause,
    Command,
    Epoch,
    Record,
    Results,
    ScoreState,
    Transition,
)

ENDED = Notice(source="s", kind=NoticeKind.ENDED)
LENGTH = 240
NOT_JUDGED = SensorSettings(frozen_s="off", noise=False, jump=False)


def machine(**of_x):
    """Three channels that move at random; what is given of x may replace its value or status."""
    random = np.random.default_rng(1)
    points = []
    for second in range(1, LENGTH):
        x = (50 + random.normal(),)
        for moment, what in of_x.items():
            if second >= int(moment.removeprefix("s")):
                x = what(second, x[0])
        points.append((0, second, *x))
        points += [(tag, second, 50 + random.normal()) for tag in (1, 2)]
    return samples(*points)


def watched(bundle: Bundle | None, batch, **settings):
    names = ("x", "y", "z")
    channels = {
        "x": ChannelSettings(unit="bar", sensor=settings.pop("sensor", SensorSettings())),
        **{name: ChannelSettings() for name in names[1:]},
        "y_std": ChannelSettings(tag="y", aggregate="std", sensor=NOT_JUDGED),
        "z_top": ChannelSettings(tag="z"),
    }
    channels = {name: channels[name] for name in ("x", "y", "y_std", "z", "z_top")}
    of = kind(channels=channels, alarm=AlarmSettings(threshold=6, on_delay_s=2), **settings)
    pipeline = Pipeline(plan(of), {} if bundle is None else {"k": bundle})
    return stepped(pipeline, batch, ENDED)


def told(results):
    """(second, class, point, transition) of each event."""
    return [
        ((e.tick - START) // SECOND, str(e.alarm_class), e.point, str(e.transition))
        for e in results.alarms
    ]


def test_a_frozen_sensor_is_an_instrument_s_alarm_and_none_of_the_process(bundles):
    results = watched(bundles["ewma"], machine(s100=lambda *_: (53.0,)))
    (event,) = results.alarms
    assert (event.alarm_class, event.point) == (AlarmClass.INSTRUMENT, "x failure")
    assert event.reason == "failure: x is frozen at 53 bar while others move, for 10 s"
    (scores,) = results.scores
    assert scores.state[-1] == ScoreState.OK
    assert scores.coverage[-1] == pytest.approx(0.8)
    assert scores.value[-1, 0] == 53.0  # it is shown all the same


@pytest.mark.parametrize("model", ["ewma", "gru"])
@pytest.mark.parametrize(
    "fails",
    [
        lambda *_: (51.0,),
        lambda _, x: (x + 40,),
        lambda second, x: (x + 40 * (second % 20 == 0),),
        lambda _, x: (x, GOOD_LOCAL_OVERRIDE),
        lambda _, x: (x, BAD),
    ],
    ids=["frozen", "offset", "spikes", "forced", "bad"],
)
def test_no_fault_of_an_instrument_raises_an_alarm_of_the_process(bundles, model, fails):
    results = watched(bundles[model], machine(s100=fails))
    assert {event.alarm_class for event in results.alarms} == {AlarmClass.INSTRUMENT}
    assert all(event.point.startswith("x ") for event in results.alarms)


@pytest.mark.parametrize(
    ("fails", "point"),
    [
        (lambda _, x: (x, BAD), "x failure"),
        (lambda _, x: (x, GOOD_LOCAL_OVERRIDE), "x function check"),
        (lambda _, x: (x + 400,), "x out of specification"),
        (lambda _, x: (x, 0x40000000), "x out of specification"),
    ],
)
def test_what_needs_no_model_is_judged_from_the_first_day(fails, point):
    of = SensorSettings(range=(0, 100))
    results = watched(None, machine(s100=fails), sensor=of)
    assert told(results) == [(110, "instrument", point, "raised")]


def test_it_is_raised_after_its_delay_and_returns_after_its_other():
    delays = InstrumentSettings(on_delay_s=5, off_delay_s=20)
    batch = machine(s100=lambda second, x: (x, BAD if second < 130 else 0))
    assert told(watched(None, batch, instrument=delays)) == [
        (105, "instrument", "x failure", "raised"),
        (150, "instrument", "x failure", "returned"),
    ]


def test_one_bad_sample_raises_nothing():
    batch = machine(s100=lambda second, x: (x, BAD if second < 105 else 0))
    assert told(watched(None, batch)) == []


def test_a_sensor_that_was_at_fault_settles_before_the_model_sees_it_again(bundles):
    batch = machine(s100=lambda second, x: (53.0 if second < 180 else x,))
    results = watched(bundles["ewma"], batch)
    (scores,) = results.scores
    seen = scores.coverage > 0.9
    assert not seen[120:189].any()
    assert seen[190:].all()  # settle_s, 10 s
    assert {event.alarm_class for event in results.alarms} == {AlarmClass.INSTRUMENT}


# ---- machines that stop -------------------------------------------------------------------------


def stopping(*, stops, raised=20, trip_s=900.0):
    """A machine with a hot bearing that stops; what became of the alarm."""
    of = kind(
        channels={
            "speed": ChannelSettings(),
            "heat": ChannelSettings(limits=LimitSettings(high=80)),
        },
        running=RunningSettings(channel="speed", above=100, trip_s=trip_s),
    )
    points = []
    for second in range(1, 120):
        points.append((0, second, 1000.0 if second < stops else 0.0))
        points.append((1, second, 90.0 if raised <= second < stops + 10 else 60.0))
    return told(stepped(Pipeline(plan(of), {}), samples(*points), ENDED))


def test_going_off_clears_no_alarm_and_a_stop_soon_after_one_is_a_trip():
    assert stopping(stops=50) == [
        (20, "limit", "heat high", "raised"),
        (50, "limit", "heat high", "tripped"),
    ]


def test_a_stop_long_after_an_alarm_is_none():
    assert [what for *_, what in stopping(stops=50, trip_s=29)] == ["raised", "stopped"]


def test_a_stop_without_an_alarm_says_nothing():
    assert stopping(stops=50, raised=200) == []


def test_an_alarm_that_comes_with_the_stop_is_not_why_it_stopped():
    assert [what for *_, what in stopping(stops=50, raised=50)] == ["raised"]


def test_an_alarm_goes_when_the_machine_runs_again_and_is_healthy():
    of = kind(
        channels={
            "speed": ChannelSettings(),
            "heat": ChannelSettings(limits=LimitSettings(high=80)),
        },
        running=RunningSettings(channel="speed", above=100, startup_s=5),
    )
    points = []
    for second in range(1, 100):
        points.append((0, second, 0.0 if 30 <= second < 60 else 1000.0))
        points.append((1, second, 90.0 if 20 <= second < 30 else 60.0))
    results = stepped(Pipeline(plan(of), {}), samples(*points), ENDED)
    assert [(tick, what) for tick, _, _, what in told(results)] == [
        (20, "raised"),
        (30, "tripped"),
        (65, "returned"),
    ]
    assert all(e.active for e in results.alarms if e.transition is Transition.TRIPPED)


# ---- units that change --------------------------------------------------------------------------


def changed(*, ends, tags=(0,), channels=("x", "y")):
    """A unit that changes at 20 s, and what ends it at 60 s."""
    of = kind(channels={name: ChannelSettings(tag=name[0]) for name in channels})
    pipeline = Pipeline(plan(of), {})
    events = []
    for second in range(1, 150):
        bodies = [samples((0, second, 1.0), (1, second, 2.0))]
        if second == 20:
            bodies.append(Notice(source="s", kind=NoticeKind.UNIT_CHANGED, tags=tags, reason="psi"))
        if second == 60:
            bodies += ends(events)
        for body in bodies:
            events += pipeline.step(Record(START + second * SECOND, body)).alarms
    return told(Results(alarms=tuple(events))), pipeline.status()["unit_changed"].get("s", {})


@pytest.mark.parametrize(
    "ends",
    [
        lambda events: [Command(action=Action.ACKNOWLEDGE, target=events[0].id, who="ann")],
        lambda _: [Notice(source="s", kind=NoticeKind.UNIT_RESTORED, tags=(0,))],
        lambda _: [
            Epoch(config="a", bundles={}, cause=Cause.RELOAD),
            Epoch(config="b", bundles={}, cause=Cause.RELOAD),
        ],
    ],
    ids=["seen", "right again", "another configuration"],
)
def test_a_unit_that_changed_asks_for_a_check_until_somebody_looked_or_it_is_right(ends):
    events, left = changed(ends=ends)
    assert [e for e in events if e[3] != "acknowledged"] == [
        (30, "instrument", "x function check", "raised"),
        (120, "instrument", "x function check", "returned"),
    ]
    assert left == {}


def test_of_the_tags_of_a_source_only_those_are_known_whose_alarm_was_seen():
    def ends(events):
        return [
            Command(action=Action.ACKNOWLEDGE, target=event.id, who="ann")
            for event in events
            if event.point.startswith("x")
        ]

    events, left = changed(ends=ends, tags=())
    assert [e for e in events if e[3] == "returned"] == [
        (120, "instrument", "x function check", "returned")
    ]
    assert left == {"1": "psi"}


def test_who_has_seen_one_channel_of_a_tag_knows_the_unit_of_the_others():
    events, left = changed(
        ends=lambda events: [Command(action=Action.ACKNOWLEDGE, target=events[0].id, who="ann")],
        channels=("x", "x_mean", "y"),
    )
    checks = [(point, what) for _, _, point, what in events if what != "acknowledged"]
    assert sorted(checks) == [
        (f"{channel} function check", what)
        for channel in ("x", "x_mean")
        for what in ("raised", "returned")
    ]
    assert left == {}


def test_a_unit_that_nobody_looks_at_stays_an_alarm_over_a_restart():
    begins = Epoch(config="", bundles={}, cause=Cause.START)
    events, left = changed(ends=lambda _: [begins])
    assert [what for *_, what in events] == ["raised"]
    assert left == {"0": "psi"}


def running_machine(speed, *, others):
    """240 s of a machine whose speed is ``speed`` from 100 s on; its state of each second."""
    random = np.random.default_rng(1)
    points = []
    for second in range(1, LENGTH):
        points.append((0, second, (50 + random.normal()) if second < 100 else speed(second)))
        after = 0 if second < 100 else others
        points += [(tag, second, 50 + random.normal() + after) for tag in (1, 2)]
    return samples(*points)


def states_of(bundle, batch, **settings):
    results = watched(bundle, batch, running=RunningSettings(channel="x", above=20), **settings)
    (scores,) = results.scores
    return scores.state, told(results)


def test_a_running_tag_that_falls_alone_is_an_instrument_s_fault_and_scoring_goes_on(bundles):
    batch = running_machine(lambda second: 1 + 0.01 * (second % 3), others=0)
    state, events = states_of(bundles["ewma"], batch)
    assert (state[100:108] == ScoreState.OFF).all()  # until it is known
    assert (state[115:] == ScoreState.OK).all()
    assert ("instrument", "x out of specification", "raised") in [e[1:] for e in events]
    assert {e[1] for e in events} == {"instrument"}


def test_a_machine_that_truly_stops_is_off_and_its_running_tag_good(bundles):
    state, events = states_of(bundles["ewma"], running_machine(lambda _: 1.0, others=-40))
    assert (state[100:] == ScoreState.OFF).all()
    assert events == []


def test_a_running_tag_out_of_its_range_tells_nothing(bundles):
    of = SensorSettings(range=(10, 100))
    batch = running_machine(lambda _: 1.0, others=-40)
    state, _ = states_of(bundles["ewma"], batch, sensor=of)
    assert not (state == ScoreState.OFF).any()


# ---- how much is left to judge by ---------------------------------------------------------------


@pytest.mark.parametrize(("bad", "raises"), [((), True), ((1, 2), False)])
def test_a_process_alarm_wants_enough_of_the_evidence_in_the_step_too(bundles, bad, raises):
    random = np.random.default_rng(1)
    points = []
    for second in range(1, LENGTH):
        for tag in range(3):
            drift = max(second - 120, 0) if tag == 0 else 0
            status = BAD if tag in bad and second >= 60 else 0
            points.append((tag, second, 50 + random.normal() + drift, status))
    results = watched(bundles["ewma"], samples(*points), sensor=NOT_JUDGED)
    (scores,) = results.scores
    assert (scores.coverage[-1] >= 0.5) == raises
    assert (AlarmClass.PROCESS in {event.alarm_class for event in results.alarms}) == raises

"""What cameras saw, in the step: alarms of class picture, and where every picture has gone."""

import numpy as np
import pytest
from support.plants import SECOND, START

from monitor.core.conservation import Conservation
from monitor.core.pipeline import Pipeline
from monitor.core.plan import Camera, PictureAlarmSettings, Plan
from monitor.core.records import (
    Action,
    Beat,
    Command,
    Grade,
    PictureResult,
    PicturesTaken,
    Record,
    SeenDefect,
    Standing,
)
from monitor.live.messages import message

RECEIVED = (START + 10_000) * SECOND


def plan(**alarm):
    settings = PictureAlarmSettings(**({"return_after": 2} | alarm))
    cameras = (
        Camera(name="top", id=4, asset="m0", source="eyes", alarm=settings),
        Camera(name="side", id=5, asset="m1", source="eyes"),
    )
    return Plan(site="works", kinds={}, assets=(), cameras=cameras)


def result(second, *, grade=Grade.ACCEPT, surprise=0.5, camera=4, **changed):
    given = {
        "camera": camera,
        "time": (START + second) * SECOND,
        "part": f"p{second}",
        "label": "good",
        "probability": 0.75,
        "model": "b0",
        "surprise": surprise,
        "grade": grade,
        "source": "eyes",
        "hash": f"{second:x}",
    }
    return PictureResult(**(given | changed))


def taken(*seconds, repeated=0, camera=4):
    count = len(seconds)
    return PicturesTaken(
        source="eyes",
        camera=np.full(count, camera, np.int32),
        time=np.array([(START + second) * SECOND for second in seconds], np.int64),
        part=(None,) * count,
        recipe=(None,) * count,
        hash=tuple(f"{second:x}" for second in seconds),
        repeated=repeated,
    )


def stepped(step, *bodies):
    """The transitions, as (point, transition, second), in their order."""
    events = [event for body in bodies for event in step.step(Record(RECEIVED, body)).alarms]
    return [
        (event.asset, event.point, str(event.transition), event.tick // SECOND - START)
        for event in events
    ]


def test_a_rejected_part_raises_and_parts_in_a_row_that_are_not_return():
    found = stepped(
        Pipeline(plan(), {}),
        result(1),
        result(2, grade=Grade.REJECT),
        result(3),
        result(4, grade=Grade.REJECT),
        result(5, grade=Grade.REWORK),
        result(6),
        result(7),
    )
    assert found == [("m0", "top reject", "raised", 2), ("m0", "top reject", "returned", 6)]


def test_a_strange_picture_raises_once_so_many_in_a_row_were_and_the_deadband_starts_anew():
    surprises = [4.0, 2.9, 4.0, 4.0, 2.0, 2.7, 2.0, 2.0]
    pictures = [result(n, surprise=one, grade=Grade.NONE) for n, one in enumerate(surprises)]
    found = stepped(Pipeline(plan(raise_after=2), {}), *pictures)
    assert found == [("m0", "top surprise", "raised", 3), ("m0", "top surprise", "returned", 7)]


def changes(step, *bodies):
    return [event for body in bodies for event in step.step(Record(RECEIVED, body)).alarms]


def test_pictures_of_one_second_raise_alarms_that_are_told_apart():
    pictures = [
        result(5, grade=grade, hash=name)
        for grade, name in zip((Grade.REJECT, Grade.ACCEPT) * 2, "abcd", strict=True)
    ]
    first, second, third, fourth = found = changes(Pipeline(plan(return_after=1), {}), *pictures)
    assert (first.id, third.id) == (second.id, fourth.id)
    assert first.id != third.id
    assert len({message(one, site="works").id for one in found}) == 4
    assert [one.tick - result(5).time for one in found] == [0, 1, 2, 3]


def test_an_older_picture_returns_an_alarm_after_it_was_raised_and_raises_the_next_one_later():
    found = changes(
        Pipeline(plan(return_after=1), {}),
        result(100, grade=Grade.REJECT),
        result(3),
        result(4, grade=Grade.REJECT),
    )
    assert [one.tick - found[0].tick for one in found] == [0, 1, 2]
    assert [one.raised - found[0].tick for one in found] == [0, 0, 2]


def test_what_the_store_says_stands_returns_after_it_was_raised():
    (raised,) = changes(Pipeline(plan(return_after=1), {}), result(100, grade=Grade.REJECT))
    step = Pipeline(plan(return_after=1), {})  # whose snapshot was lost
    kept = ("id", "asset", "alarm_class", "point", "raised", "threshold")
    told = {name: getattr(raised, name) for name in kept}
    step.settle([Standing(**told, acknowledged=False)])
    (returned,) = changes(step, result(3))
    assert returned.tick == raised.tick + 1


def test_a_grade_of_nobody_neither_raises_nor_returns():
    bad = result(1, grade=Grade.REJECT)
    assert stepped(Pipeline(plan(), {}), bad, *(result(n, grade=Grade.NONE) for n in range(9))) == [
        ("m0", "top reject", "raised", 1)
    ]


def test_each_camera_has_alarms_of_its_own():
    step = Pipeline(plan(), {})
    found = stepped(step, result(1, surprise=9.0), result(2, surprise=9.0, camera=5))
    assert [one[:2] for one in found] == [("m0", "top surprise"), ("m1", "side surprise")]


def test_the_reason_names_part_defects_and_sizes():
    seen = SeenDefect(
        label="scratch", probability=0.9, box=(0, 0, 4, 2), width_mm=2.0, height_mm=1.0,
        grade=Grade.REJECT,
    )  # fmt: skip
    (event,) = (
        Pipeline(plan(), {})
        .step(Record(RECEIVED, result(1, grade=Grade.REJECT, defects=(seen,))))
        .alarms
    )
    assert event.alarm_class == "picture"
    assert "part p1" in event.reason
    assert "scratch (90%, 2.0 x 1.0 mm)" in event.reason


def test_what_was_not_inspected_says_nothing():
    step = Pipeline(plan(), {})
    bad = {"grade": Grade.REJECT, "surprise": 9.0}
    assert stepped(step, result(1, rejected="inspection_failed", **bad)) == []
    assert stepped(step, result(2, model="", **bad)) == []
    assert stepped(step, result(3, camera=99, **bad)) == []


def test_its_alarms_can_be_acknowledged_and_shelved():
    step = Pipeline(plan(), {})
    (raised,) = step.step(Record(RECEIVED, result(1, surprise=9.0))).alarms
    until = RECEIVED + 60 * SECOND
    said = stepped(
        step,
        Command(action=Action.ACKNOWLEDGE, target=raised.id, who="ann"),
        Command(action=Action.SHELVE, target=raised.id, who="ann", why="known", until=until),
    )
    assert [one[2] for one in said] == ["acknowledged", "shelved"]
    events = [step.step(Record(RECEIVED, result(n, surprise=0.1))).alarms for n in (2, 3)]
    (returned,) = [event for found in events for event in found]
    assert returned.silent


def test_every_picture_is_accounted_for_at_every_record():
    step = Pipeline(plan(), {})
    counts = []
    for body in (
        taken(1, 2, 3),
        result(1),
        taken(4, repeated=2),
        result(2, rejected="picture_unreadable"),
        result(3),
        Beat(),
        result(4),
    ):
        step.step(Record(RECEIVED, body))
        assert step.conservation["eyes"].holds
        counts.append(step.conservation["eyes"])
    assert [one.waiting for one in counts] == [3, 2, 3, 2, 1, 1, 0]
    assert counts[-1] == Conservation(
        received=6, stored=3, duplicate=2, rejected={"picture_unreadable": 1}
    )


def test_a_result_whose_picture_was_in_a_lost_record_still_balances():
    step = Pipeline(plan(), {})
    step.step(Record(RECEIVED, result(1)))
    assert step.conservation["eyes"] == Conservation(received=1, stored=1)


@pytest.mark.parametrize("cut", range(11))
def test_it_goes_on_from_a_snapshot_as_if_there_had_been_none(cut):
    bodies = [
        taken(*range(6)),
        result(0),
        result(1, surprise=9.0),
        result(2, grade=Grade.REJECT),
        result(3),
        result(4, rejected="inspection_failed"),
        result(5),
        taken(6, repeated=1),
        result(2),
        result(2),
        result(2, grade=Grade.REJECT),
    ]
    whole, first, second = (Pipeline(plan(), {}) for _ in range(3))
    expected = stepped(whole, *bodies)
    found = stepped(first, *bodies[:cut])
    second.restore(first.snapshot())
    found += stepped(second, *bodies[cut:])
    assert found == expected
    assert second.conservation == whole.conservation


def test_an_alarm_of_a_camera_that_is_no_longer_configured_ends_with_the_next_epoch():
    from monitor.core.records import Cause, Epoch

    step = Pipeline(plan(), {})
    (raised,) = step.step(Record(RECEIVED, result(1, surprise=9.0))).alarms
    other = Pipeline(Plan(site="works", kinds={}, assets=()), {})
    other.restore(step.snapshot())
    other.settle(
        [
            Standing(
                id=raised.id,
                asset=raised.asset,
                alarm_class=raised.alarm_class,
                point=raised.point,
                raised=raised.raised,
                threshold=raised.threshold,
                acknowledged=False,
            )
        ]
    )
    epoch = Epoch(config="c1", bundles={}, cause=Cause.RELOAD)
    assert [one[1:3] for one in stepped(other, epoch)] == [("top surprise", "returned")]

"""What the pictures of a camera foretell, in the step: outlooks, and a warning before a reject."""

from dataclasses import replace

import numpy as np
import pytest
from support.growing import progression
from support.plants import SECOND, START

from models.vision.acceptance import Grade
from monitor.core.pipeline import Pipeline
from monitor.core.plan import Camera, PictureAlarmSettings, Plan
from monitor.core.records import PictureResult, Record, Results
from monitor.state.database import Database
from monitor.state.snapshot import Snapshots, save
from monitor.state.store import Store

RECEIVED = (START + 10_000) * SECOND
LIMIT = 900.0  # pixels: a length of 30


def plan(*, limit=LIMIT, scale=None, **alarm):
    settings = PictureAlarmSettings(**({"return_after": 2} | alarm))
    top = Camera(
        name="top", id=4, asset="m0", source="eyes", alarm=settings, warn_area=limit,
        mm_per_pixel=scale,
    )  # fmt: skip
    side = Camera(name="side", id=5, asset="m1", source="eyes", warn_area=limit)
    return Plan(site="works", kinds={}, assets=(), cameras=(top, side))


def picture(number, *, length=0.0, camera=4, **changed):
    """A picture on which something has so many pixels squared; rejected above the limit."""
    draw = np.random.default_rng(number)
    area = length**2
    given = {
        "camera": camera,
        "time": (START + 60 * number) * SECOND,
        "part": "spindle",
        "label": "pit" if area else "good",
        "probability": 0.9,
        "model": "b0",
        "surprise": 0.5,
        "grade": Grade.REJECT if area > LIMIT else Grade.ACCEPT,
        "source": "eyes",
        "hash": f"{number:x}",
        "area_px": area,
        "features": draw.normal(size=2).astype("<f4").tobytes(),
    }
    return PictureResult(**(given | changed))


def said(step, results):
    """The outlook after each."""
    return [step.step(Record(RECEIVED, one)).pictures[0].outlook for one in results]


def told(step, results):
    """The transitions, as (point, transition, number of the picture)."""
    events = [event for one in results for event in step.step(Record(RECEIVED, one)).alarms]
    return [
        (event.point, str(event.transition), (event.tick // SECOND - START) // 60)
        for event in events
    ]


GROWING = [picture(number, length=5.0 * number) for number in range(12)]


def test_a_warning_comes_before_the_reject():
    step = Pipeline(plan(), {}, {"top": progression(longer=15.0)})
    assert told(step, GROWING) == [("top growth", "raised", 4), ("top reject", "raised", 7)]


@pytest.mark.parametrize(("limit", "raised"), [(1220.0, 1), (1230.0, 0)])
def test_the_middle_of_what_is_foretold_counts(limit, raised):
    step = Pipeline(plan(limit=limit), {}, {"top": progression(longer=15.0)})
    results = step.step(Record(RECEIVED, picture(1, length=20.0)))
    (outlook,) = [one.outlook for one in results.pictures]
    assert outlook.low < 1220 < outlook.area < 1230 < outlook.high
    assert len(results.alarms) == raised


def test_a_warning_names_what_is_foretold_and_its_limit():
    step = Pipeline(plan(), {}, {"top": progression(longer=15.0)})
    events = [e for one in GROWING[:5] for e in step.step(Record(RECEIVED, one)).alarms]
    (event,) = events
    assert event.value == pytest.approx(35.0**2)
    assert event.threshold == LIMIT
    assert event.picture == "4"
    assert "of part spindle has 400 px, and is foretold to have 1225 (" in event.reason
    assert "over its limit of 900" in event.reason


def test_a_warning_returns_once_it_is_foretold_no_longer():
    step = Pipeline(plan(), {}, {"top": progression(longer=15.0)})
    lengths = [0, 20, 20, 14, 0, 0, 0]  # between 11.8 and 15 lies the deadband
    found = told(step, [picture(number, length=one) for number, one in enumerate(lengths)])
    assert found == [("top growth", "raised", 1), ("top growth", "returned", 5)]


def test_what_is_too_large_already_is_no_warning():
    step = Pipeline(plan(), {}, {"top": progression(longer=15.0)})
    assert told(step, [picture(1, length=31.0)]) == [("top reject", "raised", 1)]


def test_without_a_limit_outlooks_are_told_and_nothing_is_raised():
    step = Pipeline(plan(limit=None), {}, {"top": progression(longer=15.0)})
    results = [step.step(Record(RECEIVED, one)) for one in GROWING[:6]]
    assert [one for found in results for one in found.alarms] == []
    assert results[5].pictures[0].outlook.area == pytest.approx(40.0**2)


def test_areas_are_in_mm2_where_the_camera_has_a_scale():
    (px,) = said(Pipeline(plan(), {}, {"top": progression()}), [GROWING[4]])
    (mm2,) = said(Pipeline(plan(scale=0.5), {}, {"top": progression()}), [GROWING[4]])
    assert (px.unit, mm2.unit) == ("px", "mm2")
    assert (mm2.now, mm2.area) == (100.0, px.area / 4)
    assert px.low <= px.area <= px.high


def test_onset_is_told_until_something_has_begun():
    outlooks = said(Pipeline(plan(), {}, {"top": progression()}), GROWING[:3])
    assert 0 < outlooks[0].onset < 1
    assert [one.onset for one in outlooks[1:]] == [None, None]


def test_a_camera_without_a_model_of_progression_has_no_outlook():
    step = Pipeline(plan(), {}, {"top": progression()})
    assert said(step, [picture(1, camera=5)]) == [None]
    assert said(Pipeline(plan(), {}), GROWING[:1]) == [None]


def test_other_places_pictures_do_not_matter():
    models = {"top": progression(), "side": progression(seed=1)}
    alone = said(Pipeline(plan(), {}, models), GROWING)
    others = [picture(100 + n, length=3.0 * n, camera=5) for n in range(len(GROWING))]
    mixed = [one for pair in zip(others, GROWING, strict=True) for one in pair]
    assert said(Pipeline(plan(), {}, models), mixed)[1::2] == alone


def test_a_snapshot_that_was_kept_and_a_replay_give_the_same_bits(tmp_path):
    models = {"top": progression()}
    whole = said(Pipeline(plan(), {}, models), GROWING)
    assert len({one.area - one.now for one in whole}) == len(whole)  # it hangs on what was seen
    first = Pipeline(plan(), {}, models)
    said(first, GROWING[:6])
    with Database(tmp_path) as database:
        with database.atomic() as tx:
            Store(database).write(tx, Results(), done=6)
        save(database, Snapshots(database), first.snapshot(), record=6)
        tree = Snapshots(database).latest().tree
    again = Pipeline(plan(), {}, models)
    again.restore(tree)
    assert said(again, GROWING[6:]) == whole[6:]
    anew = Pipeline(plan(), {}, models)
    assert said(anew, GROWING) == whole


def test_another_model_begins_anew():
    first = Pipeline(plan(), {}, {"top": progression()})
    said(first, GROWING[:6])
    other = {"top": progression(seed=1)}
    again = Pipeline(plan(), {}, other)
    again.restore(first.snapshot())
    assert said(again, GROWING[6:]) == said(Pipeline(plan(), {}, other), GROWING[6:])


def test_a_snapshot_of_an_earlier_version_has_no_growth():
    first = Pipeline(plan(), {}, {"top": progression()})
    tree = first.snapshot()
    del tree["cameras"]["growth"]
    Pipeline(plan(), {}, {"top": progression()}).restore(tree)


def test_another_part_begins_anew():
    step = Pipeline(plan(), {}, {"top": progression()})
    said(step, GROWING)
    new = [replace(one, part="another") for one in GROWING]
    assert said(step, new) == said(Pipeline(plan(), {}, {"top": progression()}), new)


@pytest.mark.parametrize(
    "changed",
    [
        {"rejected": "picture_unreadable", "model": ""},
        {"model": "another"},
        {"area_px": None},
        {"features": b""},
        {"features": np.array([np.nan, 1.0], "<f4").tobytes()},
    ],
)
def test_a_picture_that_tells_nothing_has_no_outlook_and_only_time_goes_by(changed):
    models = {"top": progression()}
    nothing = replace(GROWING[2], **changed)
    outlooks = said(Pipeline(plan(), {}, models), [*GROWING[:2], nothing, *GROWING[3:]])
    assert outlooks[2] is None
    one_fewer = said(Pipeline(plan(), {}, models), [*GROWING[:2], *GROWING[3:]])
    assert outlooks[3] != one_fewer[2]  # two pictures went by, not one


def test_a_model_that_counts_time_is_shown_the_time_between_pictures():
    late = [replace(one, time=one.time + 3600 * SECOND) for one in GROWING[6:]]
    rows = [*GROWING[:6], *late]
    by_time, by_count = progression(unit="h"), progression()
    assert said(Pipeline(plan(), {}, {"top": by_count}), rows) == said(
        Pipeline(plan(), {}, {"top": by_count}), GROWING
    )
    assert (
        said(Pipeline(plan(), {}, {"top": by_time}), rows)[6:]
        != (said(Pipeline(plan(), {}, {"top": by_time}), GROWING)[6:])
    )


def test_a_picture_stamped_before_its_predecessor_is_taken_as_it_comes():
    step = Pipeline(plan(), {}, {"top": progression(unit="h")})
    outlooks = said(step, [GROWING[3], GROWING[2], GROWING[4]])
    assert None not in outlooks


def test_an_older_picture_counts_as_taken_at_the_moment_of_the_last_and_no_time_counts_twice():
    first, older, next_one = (
        replace(GROWING[n], time=s * SECOND) for n, s in enumerate((100, 50, 101))
    )
    at_once = replace(older, time=first.time)
    one, other = (
        said(Pipeline(plan(), {}, {"top": progression(unit="s")}), [first, second, next_one])
        for second in (older, at_once)
    )
    assert one == other

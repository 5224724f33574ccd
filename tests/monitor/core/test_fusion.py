"""Which sensor evidence and which picture make one judgement."""

import itertools
import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.building import NOW, SECOND, START, kind, plan, rich_kind, samples

from connectors.batch import Notice, NoticeKind
from models.fusion import combine
from monitor.core.alarms import Alarms
from monitor.core.digest import digest
from monitor.core.fusion import MOST_PENDING, Fused, Fusion
from monitor.core.holding import Frames
from monitor.core.pipeline import Pipeline
from monitor.core.plan import AlarmSettings, Camera, FusionSettings
from monitor.core.records import (
    AlarmClass,
    Judgements,
    PictureResult,
    Record,
    Results,
    Scores,
    Spoke,
    Transition,
)

NAN = np.nan


def fusion(*lags, **settings):
    """One with an asset of each lag, in s; None: without a camera."""
    given_settings = {"wait_s": 1, "half_life_s": 60} | settings
    return Fusion(
        "k",
        FusionSettings(**given_settings),
        tick_ms=1000,
        ids=np.arange(10, 10 + len(lags), dtype=np.int32),
        lags=[None if lag is None else round(lag * SECOND) for lag in lags],
    )


def frames(of, seconds, surprise, *, row=0, counts=True):
    """The judgements of frames at these seconds after START."""
    count = len(seconds)
    return of.frames(
        np.full(count, row),
        START + np.array(seconds, np.int64) * SECOND,
        np.broadcast_to(np.asarray(surprise, np.float32), count),
        np.broadcast_to(np.asarray(counts, bool), count),
    ).judgements


def picture(of, second, surprise, *, row=0, name=""):
    of.picture(row, START + round(second * 1000) * 1_000_000, surprise, name)


def test_a_picture_meets_what_the_sensors_said_when_its_part_was_made():
    of = fusion(2)
    picture(of, 8, 5.0)  # taken at 10
    found = frames(of, range(1, 13), np.arange(1, 13))
    assert found.sensor[3:].tolist() == list(range(1, 10))  # 1 s of waiting and 2 of lag before
    assert found.picture[10:].tolist() == [5.0, 5.0]  # a second after it was taken
    assert np.isnan(found.picture[:10]).all()
    assert found.sensor[10] == 8
    assert found.age[10:].tolist() == [0.0, 1.0]
    assert found.asset.tolist() == [10] * 12


def test_an_absent_side_is_said_to_be_absent_and_counts_for_nothing():
    of = fusion(0, wait_s=0)
    picture(of, 3, 2.0)
    found = frames(of, range(1, 6), 1.5, counts=[True, False, True, False, True])
    sides = [Spoke.SENSORS, Spoke.NOBODY, Spoke.BOTH, Spoke.PICTURES, Spoke.BOTH]
    assert found.spoke.tolist() == sides
    assert found.surprise[[0, 3]].tolist() == [1.5, 2.0]
    assert np.isnan(found.surprise[1])
    assert found.weight.tolist()[:2] == [0, 0]
    assert found.sensor[2] == 1.5
    assert found.picture[2] == 2.0
    assert found.surprise[2] == combine(found.sensor, found.picture, found.weight)[2]


def test_a_picture_loses_weight_as_it_ages_and_then_is_absent():
    of = fusion(0, wait_s=0, half_life_s=2)
    picture(of, 1, 6.0)
    found = frames(of, range(1, 24), 0.5)
    assert found.weight[[0, 2, 4]].tolist() == pytest.approx([0.5, 1 / 3, 0.2])
    assert (np.diff(found.surprise) <= 0).all()
    assert found.spoke[:21].tolist() == [Spoke.BOTH] * 21
    assert found.spoke[21:].tolist() == [Spoke.SENSORS] * 2
    assert found.surprise[21:].tolist() == [0.5, 0.5]


def test_the_pictures_of_one_tick_count_as_one_whose_p_is_the_worst_times_their_number():
    for order in itertools.permutations([(9.2, 1.0), (9.6, 3.0), (10.0, 0.5)]):
        of = fusion(0, wait_s=0)
        for second, surprise in order:
            picture(of, second, surprise)
        found = frames(of, range(8, 12), 1.0)
        assert found.picture[2:].tolist() == [np.float32(3.0 - np.log10(3))] * 2
        assert found.age[2:].tolist() == [0.0, 1.0]
    picture(of, 10.1, 0.2)
    assert frames(of, [12], 1.0).picture.tolist() == [np.float32(0.2)]


def test_the_picture_that_is_named_is_the_worst_of_its_tick_and_none_once_it_has_faded():
    of = fusion(0, wait_s=0, half_life_s=1)
    for order in itertools.permutations([(3.0, "b"), (3.0, "c"), (1.0, "a")]):
        of = fusion(0, wait_s=0, half_life_s=1)
        for surprise, name in order:
            picture(of, 2, surprise, name=name)
        other = fusion(0, wait_s=0, half_life_s=1)
        other.restore(json.loads(json.dumps(of.snapshot())), np.array([0]), np.array([0]))
        ticks = START + np.arange(1, 15) * SECOND
        found = other.frames(
            np.zeros(14, np.intp), ticks, np.ones(14, np.float32), np.ones(14, bool)
        )
        assert list(found.picture) == ["", *["c"] * 11, "", ""]


def test_a_picture_that_is_late_is_counted_and_counts_from_then_on():
    of = fusion(0, wait_s=1)
    frames(of, range(1, 11), 1.0)
    picture(of, 9, 4.0)
    assert of.late == 1
    assert frames(of, [11], 1.0).picture.tolist() == [4.0]
    picture(of, 8, 9.0)  # older than the one in force
    assert of.late == 2
    assert frames(of, [12], 1.0).picture.tolist() == [4.0]
    picture(of, 12, 2.0)
    assert of.late == 2
    other = fusion(0, wait_s=1)
    other.restore(of.snapshot(), np.array([0]), np.array([0]))
    picture(other, 11, 2.0)
    assert other.late == 3


def test_what_the_sensors_said_before_a_gap_still_meets_its_pictures():
    of = fusion(2)
    frames(of, [1, 2, 3], [1, 2, 3])
    found = frames(of, [6, 40, 41], [6, 40, 41])
    assert found.sensor[0] == 3
    assert np.isnan(found.sensor[1:]).all()


def test_an_asset_without_a_camera_has_no_judgements():
    of = fusion(None, 0)
    picture(of, 1, 9.0, row=0)
    assert len(frames(of, range(1, 5), 1.0, row=0)) == 0
    both = of.frames(
        np.array([0, 0, 1]),
        START + np.array([5, 6, 5]) * SECOND,
        np.ones(3, np.float32),
        [True] * 3,
    )
    assert both.row.tolist() == [2]
    assert both.judgements.asset.tolist() == [11]


def test_what_is_held_is_bounded():
    of = fusion(20, wait_s=5)
    for second in range(MOST_PENDING + 50):
        picture(of, second, 1.0)
    assert of.forgotten == 50
    frames(of, range(1, 3000), 1.0)
    kept = of.snapshot()["lines"]["0"]
    assert len(kept["sensor"]) == 26
    assert len(kept["seen"]) == 1


@pytest.mark.parametrize("surprise", [NAN, np.inf, -1.0])
def test_a_surprise_that_is_none_is_refused(surprise):
    with pytest.raises(ValueError, match="want 0 or more"):
        picture(fusion(0), 1, surprise)


@given(st.integers(0, 2**32 - 1))
def test_nothing_depends_on_how_frames_are_cut_or_when_pictures_that_are_in_time_come(seed):
    chance = np.random.default_rng(seed)
    seconds = np.flatnonzero(chance.random(60) < 0.9) + 1
    surprise, counts = chance.exponential(1, len(seconds)), chance.random(len(seconds)) < 0.9
    waiting = list(
        zip(np.round(chance.uniform(0, 60, 25), 3), chance.exponential(1, 25), strict=True)
    )
    whole = fusion(2, wait_s=3)
    for one in waiting:
        picture(whole, *one)
    wanted = frames(whole, seconds, surprise, counts=counts)

    of, found, at = fusion(2, wait_s=3), [], 0
    while at < len(seconds):
        until = int(chance.integers(at + 1, min(at + 20, len(seconds)) + 1))
        due = seconds[until - 1] - 3 + chance.uniform(0, 5)  # what these frames judge, and more
        coming = [one for one in waiting if one[0] <= due]
        waiting = [one for one in waiting if one[0] > due]
        for n in chance.permutation(len(coming)):
            picture(of, *coming[n])
        found.append(frames(of, seconds[at:until], surprise[at:until], counts=counts[at:until]))
        at = until
        other = fusion(2, wait_s=3)
        other.restore(json.loads(json.dumps(of.snapshot())), np.array([0]), np.array([0]))
        of = other
    assert of.late == 0
    for column in ("surprise", "sensor", "picture", "age", "weight", "spoke"):
        joined = np.concatenate([getattr(one, column) for one in found])
        assert joined.tobytes() == getattr(wanted, column).tobytes()


LAG = 2  # s
CAMERA = Camera(name="top", id=7, asset="a0", source="eyes", lag=LAG * SECOND)


def inspected(second, surprise, **changed):
    """The record of a picture of what was made at a second after START."""
    given_result = {
        "camera": CAMERA.id,
        "time": START + round(second * 1000) * 1_000_000 + CAMERA.lag,
        "part": None,
        "label": "good",
        "probability": 0.9,
        "model": "b0",
        "surprise": surprise,
        "source": "eyes",
        "hash": f"hash of {second}",
    }
    return Record(NOW, PictureResult(**(given_result | changed)))


def machine(of, bundle, *, lag):
    """A pipeline of two assets; the first has a camera, unless its lag is None."""
    cameras = () if lag is None else (replace(CAMERA, lag=lag * SECOND),)
    site = replace(plan(of, 2), cameras=cameras)
    return Pipeline(site, {"k": bundle})


def run(pipeline, *, pictures=(), cut=7, seconds=80, again=None, strange=()):
    """Two machines; their first is shown these pictures: (second, surprise).

    They are healthy, but for these seconds in which the first is ``strange``.

    ``again`` makes a pipeline that goes on from a snapshot after each batch.
    """
    chance, found = np.random.default_rng(5), []
    waiting = sorted(pictures)
    values = 50 + chance.normal(size=(seconds, 8))
    values[list(strange), :3] += 30
    for at in range(1, seconds, cut):
        part = range(at, min(at + cut, seconds))
        while waiting and waiting[0][0] < part[-1]:
            found.append(pipeline.step(inspected(*waiting.pop(0))))
        points = [
            (tag, second, values[second, tag] if tag % 4 != 3 else 500.0)
            for second in part
            for tag in range(8)
        ]
        found.append(pipeline.step(Record(NOW, samples(*points))))
        if again is not None:
            tree, pipeline = pipeline.snapshot(), again()
            pipeline.restore(tree)
    found.append(pipeline.step(Record(NOW, Notice(source="s", kind=NoticeKind.ENDED))))
    return Results.join(found)


def fused_kind(**settings):
    given_settings = {"wait_s": 3, "half_life_s": 5, "threshold": 3.0}
    return rich_kind(
        lateness_ms=0,
        fusion=FusionSettings(**(given_settings | settings)),
        alarm=AlarmSettings(threshold=3.0, on_delay_s=1, off_delay_s=2),
    )


BAD_PARTS = [(18.0 + n, 6.0 if n < 6 else 0.1) for n in range(15)]


def test_without_a_camera_everything_is_as_without_fusion_to_the_bit(bundles):
    plain = run(machine(fused_kind().model_copy(update={"fusion": None}), bundles["gru"], lag=None))
    for lag in (None, LAG):
        fused = run(machine(fused_kind(), bundles["gru"], lag=lag), pictures=BAD_PARTS)
        names = {0: "a0", 1: "a1"}
        assert digest(fused.scores, names) == digest(plain.scores, names)
        own = (AlarmClass.PICTURE, AlarmClass.COMBINED)
        assert [one for one in fused.alarms if one.alarm_class not in own] == list(plain.alarms)
        assert any(one.alarm_class in own for one in fused.alarms) == (lag is not None)
        assert (len(fused.judgements) > 0) == (lag is not None)
    assert fused.judgements[0].kind == "k"
    pipeline = machine(fused_kind(), bundles["gru"], lag=None)
    assert pipeline.status()["judgements"] == {}
    assert "fusion" not in pipeline.snapshot()["kinds"]["k"]


def combined(results):
    return [one for one in results.alarms if one.alarm_class is AlarmClass.COMBINED]


STRANGE = range(15, 26)  # seconds in which the sensors of a0 are strange, too


def test_bad_pictures_of_a_calm_machine_raise_their_own_alarm_and_no_combined_one(bundles):
    results = run(machine(fused_kind(), bundles["gru"], lag=LAG), pictures=BAD_PARTS)
    assert AlarmClass.PICTURE in {one.alarm_class for one in results.alarms}
    assert np.nanmax(results.judgements[0].surprise) > 5  # together they are over the threshold
    assert combined(results) == []


def test_what_both_say_raises_a_combined_alarm_that_names_each_side_and_the_picture(bundles):
    pipeline = machine(fused_kind(), bundles["gru"], lag=LAG)
    results = run(pipeline, pictures=BAD_PARTS, strange=STRANGE)
    raised, returned = combined(results)
    assert (raised.asset, raised.point, raised.transition) == ("a0", "combined", "raised")
    assert raised.threshold == 3.0
    assert (raised.tick - START) // SECOND == 24  # made at 18, taken at 20, waited 3, on for 1
    assert raised.reason.startswith(f"surprise of both {raised.value:.1f} at or over 3.0 for 1 s")
    assert ", picture 6.0, 0 s old, 50% of the evidence" in raised.reason
    assert raised.picture == "hash of 19.0"  # the newest that was evidence
    assert returned.transition is Transition.RETURNED
    judged = results.judgements[0]
    assert set(judged.asset.tolist()) == {0}
    assert judged.tick.tolist() == results.scores[0].tick[results.scores[0].asset == 0].tolist()


@pytest.mark.parametrize("cut", [1, 3, 26])
def test_combined_alarms_do_not_depend_on_batches_or_restarts(bundles, cut):
    bad = {"pictures": BAD_PARTS, "strange": STRANGE}
    wanted = run(machine(fused_kind(), bundles["gru"], lag=LAG), **bad)
    again = partial(machine, fused_kind(), bundles["gru"], lag=LAG)
    for restarted in (None, again):
        found = run(again(), **bad, cut=cut, again=restarted)
        assert combined(found) == combined(wanted) != []


def test_a_combined_alarm_survives_a_restart(bundles):
    pipeline = machine(fused_kind(), bundles["gru"], lag=LAG)
    results = run(pipeline, pictures=BAD_PARTS, strange=range(16, 27), seconds=27)
    (raised,) = combined(results)
    later = machine(fused_kind(), bundles["gru"], lag=LAG)
    later.restore(pipeline.snapshot())
    kept = later._kinds["k"].alarms
    stands = [one for one in kept.board.active("a0") if one.id == raised.id]
    assert len(stands) == 1
    assert kept.settle(stands) == []
    assert kept.settle([replace(stands[0], point="other")]) != []


def told(sensor, picture, *, weight=0.5, threshold=5.0, **alarm):
    """What becomes of a combined alarm, one row a second; None is a silent side."""
    of = kind(fusion=FusionSettings(), alarm=AlarmSettings(**alarm))
    alarms = Alarms(of, ["a0"], site="plant", threshold=threshold)
    count = len(sensor)
    one, other = (
        np.array([NAN if said is None else said for said in side], np.float32)
        for side in (sensor, picture)
    )
    heard, shown = ~np.isnan(one), ~np.isnan(other)
    shares = np.where(shown, np.asarray(weight, np.float32), 0).astype(np.float32)
    tick = START + np.arange(count) * SECOND
    judged = Judgements(
        kind="k",
        asset=np.zeros(count, np.int32),
        tick=tick,
        surprise=combine(one, other, shares),
        sensor=one,
        picture=other,
        age=np.where(shown, 0, NAN).astype(np.float32),
        weight=shares,
        spoke=(heard * Spoke.SENSORS + shown * Spoke.PICTURES).astype(np.uint8),
    )
    row = np.arange(count)
    fused = Fused(row, judged, [f"p{n}" if shown[n] else "" for n in row])
    given_frames = Frames(
        asset=np.zeros(count, np.intp),
        tick=tick,
        value=np.ones((count, 2)),
        age=np.zeros((count, 2), np.float32),
        valid=np.ones((count, 2), bool),
        forced=np.zeros((count, 2), bool),
        quality=np.zeros((count, 2), np.uint8),
        fresh=row == 0,
    )
    calm = Scores(
        kind="k",
        channels=tuple(of.channels),
        asset=judged.asset,
        tick=tick,
        raw=np.zeros(count, np.float32),
        surprise=np.zeros(count, np.float32),
        blame=np.full((count, 2), 0.5, np.float32),
        coverage=np.ones(count, np.float32),
        state=np.zeros(count, np.uint8),
        value=np.ones((count, 2), np.float32),
        expected=np.ones((count, 2), np.float32),
        spread=np.ones((count, 2), np.float32),
    )
    return alarms.step(given_frames, calm, fused=fused)


def times(events):
    return [((event.tick - START) // SECOND, str(event.transition)) for event in events]


def test_two_sides_that_are_both_a_little_strange_raise_it_where_neither_alone_would():
    found = told([1, 2.6, 2.6, 2.6], [2.6, 1, 2.5, 2.6])  # at 5 each alone; half of it each
    assert times(found) == [(2, "raised")]
    assert "surprise of both 5.0 at or over 5.0; sensors 2.6, picture 2.5" in found[0].reason
    assert found[0].picture == "p2"


def test_one_side_alone_raises_nothing_however_strange():
    assert told([9, 9, 9], [0.1, 2.4, None]) == []
    assert told([0.1, 2.4, None], [9, 9, 9]) == []


def test_a_picture_that_has_faded_must_say_more():
    assert told([3], [3], weight=0.1) == []  # its p counts five times
    assert times(told([3], [3], weight=0.4)) == [(0, "raised")]


def test_either_side_ends_it_and_only_after_the_off_delay():
    for calm in ([0.5] * 3, [1.9] * 3):
        for sides in (([4, *calm], [4] * 4), ([4] * 4, [4, *calm])):
            assert times(told(*sides, off_delay_s=2)) == [(0, "raised"), (3, "returned")]
    assert times(told([4, 0.5, 4, 0.5, 4], [4] * 5, off_delay_s=2)) == [(0, "raised")]


def test_a_picture_that_fades_does_not_end_it_and_a_calm_one_does():
    fading = [0.5, 0.2, 0.01, 0.001]
    assert times(told([4] * 4, [4] * 4, weight=fading)) == [(0, "raised")]
    assert times(told([4, None, None, None], [4] * 4, weight=fading)) == [(0, "raised")]
    found = told([4] * 4, [4, 4, 0.5, 0.5], weight=fading, off_delay_s=1)
    assert times(found) == [(0, "raised"), (3, "returned")]


def test_just_under_half_the_threshold_it_does_not_flutter():
    assert times(told([2.6, 2.4, 2.6, 2.2, 2.6], [4] * 5)) == [(0, "raised")]


def test_a_side_that_falls_silent_leaves_it_standing_until_the_other_is_calm():
    assert times(told([4, 4, 4, 4], [4, None, None, None])) == [(0, "raised")]
    assert times(told([4, None, None], [4, None, None])) == [(0, "raised")]
    found = told([4, 4, 0.5], [4, None, None])
    assert times(found) == [(0, "raised"), (2, "returned")]
    assert "; sensors 0.5, no picture" in found[1].reason
    assert found[1].picture == ""
    found = told([4, None, None], [4, 4, 0.5])
    assert times(found) == [(0, "raised"), (2, "returned")]
    assert "; sensors silent, picture 0.5" in found[1].reason


@pytest.mark.parametrize(
    "nothing",
    [
        {"surprise": None, "model": ""},
        {"surprise": np.nan},
        {"surprise": np.inf},
        {"rejected": "picture_unreadable"},
        {"camera": 8},
    ],
)
def test_a_picture_that_says_nothing_is_no_evidence(nothing):
    pipeline = machine(kind(fusion=FusionSettings(wait_s=0)), None, lag=LAG)
    pipeline.step(inspected(2, 1.5))
    pipeline.step(inspected(2, **({"surprise": 9.0} | nothing)))
    points = [(tag, second, 1.0) for second in range(1, 8) for tag in range(2)]
    (judged,) = pipeline.step(Record(NOW, samples(*points))).judgements
    assert set(judged.picture[np.isfinite(judged.picture)].tolist()) == {1.5}


def test_a_kind_without_a_model_has_judgements_by_its_pictures_and_no_combined_alarm():
    of = kind(fusion=FusionSettings(wait_s=0))
    pipeline = machine(of, None, lag=LAG)
    pipeline.step(inspected(2, 9.0))
    points = [(tag, second, 1.0) for second in range(1, 6) for tag in range(2)]
    results = pipeline.step(Record(NOW, samples(*points, (0, 6, 1.0), (1, 6, 1.0))))
    (judged,) = results.judgements
    assert set(judged.spoke.tolist()) == {Spoke.NOBODY, Spoke.PICTURES}
    assert results.alarms == ()

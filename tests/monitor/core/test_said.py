"""What sources say beside plain samples: what is missing, what was set by hand, stamped anew."""

from dataclasses import replace

import numpy as np
import pytest
from support.building import (
    BAD,
    NOW,
    SECOND,
    START,
    Grid,
    kind,
    plan,
    rich_kind,
    samples,
    stepped,
)

from connectors.batch import Flag, Notice, NoticeKind, forced
from monitor.core.missing import GapKind
from monitor.core.pipeline import Pipeline
from monitor.core.plan import ChannelSettings, LimitSettings

FORCED = 0x0096_0000


def notice(kind, since=0, until=0, *tags, **given):
    return Notice(
        source="s",
        kind=kind,
        since=START + since * SECOND,
        until=START + until * SECOND,
        tags=tags,
        **given,
    )


def restored(pipeline):
    other = Pipeline(plan(kind()), {})
    other.restore(pipeline.snapshot())
    return other


def test_a_snapshot_from_before_any_of_this_was_kept_is_read():
    pipeline = Pipeline(plan(kind()), {})
    stepped(pipeline, samples((0, 1.0, 1.0), (0, 3.5, 1.0)))
    tree = pipeline.snapshot()
    for name in ("gaps", "marks", "unit_changed", "forced", "outrun", "repeats_forgotten"):
        del tree[name]
    del tree["kinds"]["k"]["settling"]
    other = Pipeline(plan(kind()), {})
    other.restore(tree)
    assert other.status() == pipeline.status()


@pytest.mark.parametrize("word", ["gap", "overflow", "filled"])
def test_what_a_source_says_is_missing_or_filled_is_a_result_and_counted(word):
    pipeline = Pipeline(plan(kind()), {})
    said = notice(NoticeKind(word), 2, 5, 1, 0, reason="cable out")
    (found,) = stepped(pipeline, said, received=NOW + 7).source_gaps
    assert (found.kind, found.reason, found.received) == (GapKind(word), "cable out", NOW + 7)
    assert (found.since, found.until, found.tags) == (said.since, said.until, (0, 1))
    stepped(pipeline, replace(said, tags=()))
    counts = {"s": {word: 2, f"{word}_ns": 6 * SECOND}}
    assert pipeline.status()["gaps"] == restored(pipeline).status()["gaps"] == counts


def test_other_notices_say_that_nothing_is_missing():
    pipeline = Pipeline(plan(kind()), {})
    assert stepped(pipeline, notice(NoticeKind.ALIVE, 0, 9)).source_gaps == ()
    assert pipeline.status()["gaps"] == {}


def test_samples_that_are_not_as_others_are_counted_by_what_is_odd_about_them():
    pipeline = Pipeline(plan(kind()), {})
    batch = samples((0, 1.0, 1.0, FORCED), (1, 1.0, 1.0), (0, 2.0, 1.0), (1, 2.0, 1.0, FORCED))
    flags = [0, Flag.RESTAMPED, Flag.RESTAMPED | Flag.REPLAYED, Flag.RETAINED]
    stepped(pipeline, replace(batch, flags=np.array(flags, np.uint8)), samples((0, 3.0, 1.0)))
    counts = {"s": {"restamped": 2, "replayed": 1, "forced": 2}}
    assert pipeline.status()["marks"] == restored(pipeline).status()["marks"] == counts


def test_a_value_set_by_hand_is_known_by_its_code_whatever_its_other_bits():
    status = np.array([FORCED, FORCED | 0x0480, 0, 0x0097_0000, 0x8096_0000], np.uint32)
    assert forced(status).tolist() == [True, True, False, False, False]


def test_tags_whose_unit_changed_are_named_with_the_last_reason():
    pipeline = Pipeline(plan(kind()), {})
    assert pipeline.status()["unit_changed"] == {}
    stepped(
        pipeline,
        notice(NoticeKind.UNIT_CHANGED, 0, 0, 0, 1, reason="bar to psi"),
        notice(NoticeKind.UNIT_CHANGED, 0, 0, 1, reason="psi to bar"),
    )
    changed = {"s": {"0": "bar to psi", "1": "psi to bar"}}
    assert (
        pipeline.status()["unit_changed"] == restored(pipeline).status()["unit_changed"] == changed
    )


def test_units_that_changed_without_a_name_are_those_of_all_tags_of_that_source():
    pipeline = Pipeline(plan(kind(), 2, sources=("s", "t"), spread=True), {})
    stepped(pipeline, notice(NoticeKind.UNIT_CHANGED, reason="new program"))
    assert pipeline.status()["unit_changed"] == {"s": {"0": "new program", "2": "new program"}}


def test_all_tags_by_the_word_of_an_earlier_version_are_those_of_the_source():
    tree = Pipeline(plan(kind()), {}).snapshot()
    tree["unit_changed"] = {"s": {"all": "", "1": "bar to psi"}, "gone": {"all": ""}}
    other = Pipeline(plan(kind()), {})
    other.restore(tree)
    assert other.status()["unit_changed"] == {"s": {"0": "", "1": "bar to psi"}, "gone": {}}


def test_units_that_are_right_again_without_a_name_are_those_of_all_tags():
    pipeline = Pipeline(plan(kind()), {})
    stepped(
        pipeline,
        notice(NoticeKind.UNIT_CHANGED, 0, 0, 0, reason="bar to psi"),
        notice(NoticeKind.UNIT_CHANGED),
        notice(NoticeKind.UNIT_RESTORED),
    )
    assert pipeline.status()["unit_changed"] == {"s": {}}


# ---- set by hand --------------------------------------------------------------------------------

CHANNELS = {
    "x": ChannelSettings(limits=LimitSettings(high=100)),
    "x_mean": ChannelSettings(tag="x", aggregate="mean"),
    "y": ChannelSettings(),
}
SHOWN = plan(kind(channels=CHANNELS))


def grid_of(*points):
    grid = Grid(kind(channels=CHANNELS))
    grid.push(*points)
    return grid, grid.rest()


def test_a_value_set_by_hand_is_shown_until_the_process_speaks_again():
    grid, frames = grid_of((0, 1, 7.0, FORCED), (0, 4, 8.0), (1, 4, 1.0))
    assert frames.value[:, 0].tolist() == [7.0, 7.0, 7.0, 8.0]
    assert frames.forced[:, 0].tolist() == [True, True, True, False]
    assert not frames.forced[:, 2].any()
    assert grid.builder.forced == []


def test_a_mean_with_one_sample_set_by_hand_is_no_evidence_though_the_last_one_may_be():
    grid, frames = grid_of((0, 0.5, 7.0, FORCED), (0, 1, 8.0), (0, 3, 9.0), (1, 3, 1.0))
    assert frames.forced[:, :2].tolist() == [[False, True], [False, True], [False, False]]
    grid, frames = grid_of((0, 1, 7.0), (0, 2, 9.0, FORCED), (1, 3, 1.0))
    assert frames.forced[:, :2].tolist() == [[False, False], [True, True], [True, True]]
    assert grid.builder.forced == [("a0", "x"), ("a0", "x_mean")]


def test_a_bad_value_is_not_shown_whoever_set_it():
    _, frames = grid_of((0, 1, 7.0, FORCED), (0, 2, 8.0, BAD), (1, 3, 1.0))
    assert frames.forced[:, 0].tolist() == [True, False, False]


def test_the_model_does_not_see_what_was_set_by_hand_but_a_limit_does(bundles):
    of = rich_kind(running=None, lateness_ms=0)
    pipeline = Pipeline(plan(of), {"k": bundles["ewma"]})
    calm = [(tag, second, 50.0) for second in range(1, 30) for tag in range(3)]
    by_hand = [
        (tag, second, 500.0 if tag == 0 else 50.0, FORCED if tag == 0 else 0)
        for second in range(30, 40)
        for tag in range(3)
    ]
    ended = Notice(source="s", kind=NoticeKind.ENDED)
    found = stepped(pipeline, samples(*calm), samples(*by_hand), ended)
    scores = found.scores[-1] if len(found.scores) == 1 else found.scores[0]
    forced_at = scores.tick >= START + 30 * SECOND
    assert scores.coverage[forced_at].tolist() == pytest.approx([0.8] * 10)
    assert (scores.coverage[~forced_at][:29] == 1).all()
    assert scores.value[forced_at, 0].tolist() == [500.0] * 10
    assert not scores.blame[forced_at, 0].any()
    assert "x high" in {event.point for event in found.alarms}
    assert pipeline.status()["forced"] == {"a0": ["x"]}
    assert pipeline.status()["marks"]["s"]["forced"] == 10


def test_what_was_set_by_hand_is_still_so_after_a_restart():
    pipeline = Pipeline(SHOWN, {})
    stepped(pipeline, samples((0, 1, 7.0, FORCED), (1, 1, 1.0), (1, 3, 1.0), (0, 2.5, 7.0, FORCED)))
    other = Pipeline(SHOWN, {})
    other.restore(pipeline.snapshot())
    assert other.status()["forced"] == pipeline.status()["forced"] == {"a0": ["x", "x_mean"]}


# ---- read from history --------------------------------------------------------------------------


def replayed(*points):
    batch = samples(*points)
    return replace(batch, flags=np.full(len(batch), Flag.REPLAYED, np.uint8))


def test_history_that_comes_in_time_is_taken_as_if_it_had_come_live():
    live, again = Pipeline(SHOWN, {}), Pipeline(SHOWN, {})
    early, middle, late = [(0, 1, 1.0), (1, 1, 1.0)], [(0, 5, 2.0)], [(0, 12, 3.0), (1, 12, 3.0)]
    clean = stepped(
        live,
        samples(*early),
        samples(*middle),
        notice(NoticeKind.ALIVE, 1, 10),
        samples(*late),
        Notice(source="s", kind=NoticeKind.ENDED),
    )
    found = stepped(
        again,
        samples(*early),
        notice(NoticeKind.GAP, 1, 10),
        replayed(*middle),
        notice(NoticeKind.FILLED, 1, 10),
        notice(NoticeKind.ALIVE, 1, 10),
        samples(*late),
        Notice(source="s", kind=NoticeKind.ENDED),
    )
    (one,), (other,) = clean.scores, found.scores
    assert one.tick.tolist() == other.tick.tolist()
    assert np.array_equal(one.value, other.value, equal_nan=True)
    assert again.conservation == live.conservation


def test_history_that_comes_too_late_is_kept_and_ends_no_alarm():
    pipeline = Pipeline(SHOWN, {})
    (raised,) = stepped(
        pipeline, samples((0, 1, 500.0), (0, 9, 500.0), (1, 9, 1.0), (0, 9.5, 500.0))
    ).alarms
    found = stepped(
        pipeline,
        notice(NoticeKind.GAP, 1, 9),
        replayed((0, 3, 1.0), (0, 4, 1.0)),
        notice(NoticeKind.FILLED, 1, 9),
        notice(NoticeKind.ALIVE, 1, 9),
    )
    assert raised.active
    assert found.alarms == ()
    assert [late.time.tolist() for late in found.late] == [[START + 3 * SECOND, START + 4 * SECOND]]
    assert pipeline.conservation["s"].late == 2

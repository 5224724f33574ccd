"""Samples to frames: what a frame holds, when it closes, what is late, what is a gap."""

import numpy as np
import pytest
from support.building import BAD, NOW, SECOND, START, Grid, kind, seconds

from monitor.core.plan import Asset, ChannelSettings

NAN = float("nan")


def x_of(frames):
    return [None if np.isnan(v) else v for v in frames.value[:, 0].tolist()]


def only(**channel):
    return {"channels": {"x": ChannelSettings(**channel)}}


def test_a_frame_covers_the_tick_before_its_instant_and_that_instant():
    grid = Grid(kind(**only()))
    grid.push((0, 1.001, 1.0), (0, 2.0, 2.0), (0, 2.001, 3.0), (0, 3.0, 4.0))
    frames = grid.rest()
    assert seconds(frames) == [2.0, 3.0]
    assert x_of(frames) == [2.0, 4.0]


def test_ticks_lie_on_multiples_of_the_tick_since_1970_whenever_the_first_sample_comes():
    grid = Grid(kind(tick_ms=7000, **only()))
    grid.push((0, 0.3, 1.0), (0, 30.0, 2.0))
    assert all(tick % (7 * SECOND) == 0 for tick in grid.close().tick.tolist())


def test_a_frame_waits_for_the_lateness():
    grid = Grid(kind(lateness_ms=2000, **only()))
    grid.push((0, 1.0, 1.0), (0, 3.0, 2.0))
    assert len(grid.close()) == 0
    grid.push((0, 3.001, 3.0))
    assert seconds(grid.close()) == [1.0]


def test_a_sample_at_the_instant_of_a_frame_leaves_it_open_for_others_of_that_instant():
    grid = Grid(kind())
    grid.push((0, 1.0, 1.0))
    assert len(grid.close()) == 0
    assert not grid.push((1, 1.0, 2.0)).late.any()
    grid.push((0, 1.001, 3.0))
    assert grid.close().value.tolist() == [[1.0, 2.0]]


def test_a_frame_waits_for_the_slowest_source():
    asset = Asset(name="a", id=0, kind="k", tags={"x": (0, "s"), "y": (1, "t")})
    grid = Grid(kind(), asset)
    grid.push((0, 1.0, 1.0), (0, 9.0, 2.0), source="s")
    assert len(grid.close()) == 0
    grid.push((1, 3.0, 5.0), source="t")
    assert seconds(grid.close()) == [1.0, 2.0]
    silent = NOW + 31 * SECOND
    grid.push((0, 10.001, 2.0), source="s", received=silent)
    assert seconds(grid.close(silent))[-1] == 10.0  # t has been silent for longer than idle_s


@pytest.mark.parametrize("second", [1_000_000 + 61, -1_700_000_000])
def test_a_source_whose_clock_is_wrong_holds_nothing_back_for_longer_than_a_silent_one(second):
    asset = Asset(name="a", id=0, kind="k", tags={"x": (0, "s"), "y": (1, "t")})
    grid = Grid(kind(), asset)
    for t in range(40):
        grid.push((0, 0.5 + t, 1.0), source="s", received=NOW + t * SECOND)
        grid.push((1, second + t, 1.0), source="t", received=NOW + t * SECOND)
    assert len(grid.close(NOW + 30 * SECOND)) == 0
    assert seconds(grid.close(NOW + 39 * SECOND))[-1] == 39.0


def test_a_source_that_ended_does_not_begin_again_with_a_sample_that_is_refused():
    asset = Asset(name="a", id=0, kind="k", tags={"x": (0, "s"), "y": (1, "t")})
    grid = Grid(kind(), asset)
    grid.push((1, 0.5, 1.0), source="t")
    grid.builder.ended("t")
    grid.push((1, 10**9, 1.0), source="t")
    grid.push((0, 3.5, 1.0), source="s")
    assert seconds(grid.close())[-1] == 3.0


def test_a_source_that_ended_holds_nothing_back_and_everything_closes():
    grid = Grid(kind(lateness_ms=5000, **only()))
    grid.push((0, 1.0, 1.0), (0, 2.5, 2.0))
    grid.builder.ended("s")
    assert seconds(grid.close()) == [1.0, 2.0, 3.0]


def test_a_bad_sample_makes_the_channel_invalid_until_the_next_good_one():
    grid = Grid(kind(**only()))
    grid.push((0, 1.0, 1.0), (0, 2.0, 99.0, BAD), (0, 4.0, 3.0), (0, 5.0, 4.0))
    frames = grid.rest()
    assert x_of(frames) == [1.0, None, None, 3.0, 4.0]
    assert frames.age[:, 0].tolist() == [0.0, 1.0, 2.0, 0.0, 0.0]


def test_an_uncertain_sample_is_used():
    grid = Grid(kind(**only()))
    grid.push((0, 1.0, 1.0, 0x4000_0000), (0, 2.0, 2.0))
    assert x_of(grid.close())[0] == 1.0


def test_a_value_is_held_with_its_age_until_it_is_stale():
    grid = Grid(kind(**only(stale_s=2)))
    grid.push((0, 1.0, 1.0), (0, 5.0, 2.0))
    frames = grid.rest()
    assert x_of(frames) == [1.0, 1.0, 1.0, None, 2.0]
    assert frames.age[:, 0].tolist() == [0, 1, 2, 3, 0]


def test_a_value_that_its_source_vouches_for_does_not_age():
    grid = Grid(kind(**only(stale_s=2)))
    grid.push((0, 1.0, 1.0))
    grid.builder.alive("s", START + SECOND, START + 6 * SECOND, received=NOW, now=NOW)
    frames = grid.close()
    assert x_of(frames) == [1.0] * 6
    assert frames.age[:, 0].tolist() == [0.0] * 6


def test_a_vouching_source_never_makes_a_bad_value_good():
    grid = Grid(kind(**only()))
    grid.push((0, 1.0, NAN, BAD))
    grid.builder.alive("s", START + SECOND, START + 3 * SECOND, received=NOW, now=NOW)
    assert x_of(grid.close()) == [None, None, None]


def test_nothing_is_closed_before_the_first_sample_however_alive_the_source_is():
    grid = Grid(kind(**only()))
    grid.builder.alive("s", START, START + 6 * SECOND, received=NOW, now=NOW)
    assert len(grid.close()) == 0


def test_a_jump_over_gap_ticks_makes_no_empty_frames_but_a_gap():
    grid = Grid(kind(gap_ticks=3, **only()))
    grid.push((0, 1.0, 1.0), (0, 5.0, 2.0), (0, 5.1, 2.0))
    frames, gaps = grid.builder.close(NOW)
    assert seconds(frames) == [1.0, 5.0]
    assert frames.fresh.tolist() == [True, True]
    assert [(g.asset, g.since - START, g.until - START) for g in gaps] == [
        ("a0", SECOND, 5 * SECOND)
    ]


def test_a_jump_of_just_gap_ticks_is_filled():
    grid = Grid(kind(gap_ticks=3, **only()))
    grid.push((0, 1.0, 1.0), (0, 4.0, 2.0))
    frames = grid.rest()
    assert seconds(frames) == [1.0, 2.0, 3.0, 4.0]
    assert frames.fresh.tolist() == [True, False, False, False]


def test_equal_tag_and_time_the_first_journaled_counts():
    grid = Grid(kind(**only()))
    grid.push((0, 1.0, 1.0), (0, 1.0, 2.0))
    grid.push((0, 1.0, 3.0), (0, 2.0, 4.0))
    assert x_of(grid.rest()) == [1.0, 4.0]
    assert grid.builder.duplicate == {"s": 2}
    assert grid.builder.stored == {"s": 2}


def test_a_repeat_of_a_closed_sample_is_a_duplicate_not_late():
    grid = Grid(kind(**only()))
    grid.push((0, 1.0, 1.0), (0, 5.0, 2.0))
    grid.close()
    intake = grid.push((0, 1.0, 1.0), (0, 1.5, 7.0), (0, 6.0, 1.0))
    assert intake.duplicate == 1
    assert intake.late.tolist() == [False, True, False]
    again = grid.push((0, 1.5, 7.0))
    assert (again.duplicate, again.late.tolist()) == (1, [False])


def test_a_repeat_in_an_open_frame_is_one_however_long_the_frame_waits():
    grid = Grid(kind(lateness_ms=90_000, remember_s=1, **only(aggregate="mean")))
    grid.push((0, 0.5, 1.0), (0, 80.0, 1.0))
    grid.push((0, 0.5, 5.0))
    assert x_of(grid.rest())[0] == 1.0
    assert grid.builder.duplicate == {"s": 1}


def test_a_repeat_older_than_remember_s_counts_as_late():
    grid = Grid(kind(remember_s=2, **only()))
    grid.push((0, 1.0, 1.0), (0, 9.0, 2.0))
    grid.close()
    assert grid.push((0, 1.0, 1.0)).late.tolist() == [True]


def test_a_late_sample_never_touches_a_frame():
    grid = Grid(kind(**only()))
    grid.push((0, 1.0, 1.0), (0, 3.0, 2.0))
    grid.rest()
    grid.push((0, 2.5, 99.0), (0, 4.0, 3.0))
    assert x_of(grid.rest()) == [3.0]


@pytest.mark.parametrize(
    ("second", "reason"), [(1_000_000 + 61, "ahead"), (-1_700_000_000, "ancient")]
)
def test_stamps_of_the_future_and_of_1970_are_refused_before_they_move_the_watermark(
    second, reason
):
    grid = Grid(kind(**only()))
    grid.push((0, 1.0, 1.0))
    intake = grid.push((0, second, 5.0))
    assert intake.rejected == {reason: 1}
    assert seconds(grid.rest()) == [1.0]


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("last", 6.0),
        ("mean", 4.0),
        ("min", 2.0),
        ("max", 6.0),
        ("rms", np.sqrt(56 / 3)),
        ("std", np.sqrt(8 / 3)),
        ("time_mean", 2.0 * 0.5 + 4.0 * 0.5),  # the 6 stands for no time yet
    ],
)
def test_each_aggregate_of_one_tick(how, expected):
    grid = Grid(kind(**only(aggregate=how)))
    grid.push((0, 1.0, 2.0), (0, 1.25, 2.0), (0, 1.5, 4.0), (0, 2.0, 6.0), (0, 3.0, 0.0))
    assert grid.close().value[1, 0] == pytest.approx(expected)


def test_bad_samples_are_left_out_of_an_aggregate():
    grid = Grid(kind(**only(aggregate="mean")))
    grid.push((0, 0.5, 1.0), (0, 0.6, 1e9, BAD), (0, 0.7, 3.0), (0, 2.0, 0.0))
    assert grid.close().value[0, 0] == 2.0


def test_a_time_mean_counts_what_stood_before_the_first_sample_of_the_tick():
    grid = Grid(kind(**only(aggregate="time_mean")))
    grid.push((0, 0.5, 10.0), (0, 1.75, 20.0), (0, 2.5, 0.0), (0, 3.0, 0.0))
    assert grid.rest().value[:, 0].tolist() == [10.0, 12.5, 10.0]


def test_one_tag_can_feed_several_channels():
    of = kind(
        channels={
            "rms": ChannelSettings(tag="x", aggregate="rms"),
            "top": ChannelSettings(tag="x", aggregate="max"),
        }
    )
    grid = Grid(of)
    grid.push((0, 0.2, 3.0), (0, 0.4, 4.0), (0, 2.0, 0.0))
    assert grid.close().value[0].tolist() == pytest.approx([np.sqrt(12.5), 4.0])


def test_two_channels_of_one_tag_and_one_aggregate_both_show_it():
    channels = {name: ChannelSettings(tag="t", aggregate="max") for name in ("x", "y")}
    grid = Grid(kind(channels=channels))
    grid.push((0, 0.5, 1.0), (0, 1.0, 3.0), (0, 1.5, 2.0))
    assert grid.rest().value.tolist() == [[3.0, 3.0], [2.0, 2.0]]


def test_what_is_held_survives_being_cut_into_many_closes():
    whole, cut = (
        Grid(kind(**only(aggregate="time_mean"))),
        Grid(kind(**only(aggregate="time_mean"))),
    )
    points = [(0, t / 4 + 0.125, float(t % 7)) for t in range(40) if t % 5]
    whole.push(*points)
    whole.builder.ended("s")
    values = []
    for point in points:
        cut.push(point)
        values.append(cut.close().value)
    cut.builder.ended("s")
    values.append(cut.close().value)
    assert np.array_equal(np.concatenate(values), whole.close().value, equal_nan=True)

"""Time for drawing: gaps cut out, and no more points than a picture can show."""

from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from support.building import SECOND, START

from monitor.history.timeline import MARKS, WIDTH, Buckets, Timeline

BERLIN = ZoneInfo("Europe/Berlin")
NAN = float("nan")


def ticks(*stretches: tuple[int, int]) -> np.ndarray:
    """Seconds first to last, both with a frame, of each stretch."""
    return np.concatenate([START + SECOND * np.arange(a, b + 1) for a, b in stretches])


def drawn(*stretches: tuple[int, int]) -> tuple[Timeline, Buckets]:
    tick = ticks(*stretches)
    timeline = Timeline.of(tick - SECOND, tick)
    return timeline, Buckets.of(timeline, tick - SECOND, tick)


def values(*given: float) -> np.ndarray:
    return np.array(given, np.float32)


def test_without_a_gap_time_runs_evenly_from_left_to_right() -> None:
    timeline, _ = drawn((1, 100))

    assert timeline.gaps() == []
    assert timeline.at(START + SECOND * np.array([0, 25, 100])) == pytest.approx([0, 0.25, 1])


def test_a_gap_takes_the_same_room_however_long_it_was() -> None:
    for length in (10, 1_000_000):
        timeline, _ = drawn((1, 50), (51 + length, 100 + length))
        ((left, right),) = timeline.gaps()
        assert (left, right) == pytest.approx((0.494, 0.506))
        assert timeline.gaps_s == length


def test_many_gaps_leave_most_of_the_picture_to_the_frames() -> None:
    timeline, _ = drawn(*((100 * n, 100 * n + 2) for n in range(1, 400)))

    assert sum(right - left for left, right in timeline.gaps()) == pytest.approx(0.25)


def test_what_lies_within_a_gap_or_outside_is_not_lost() -> None:
    timeline, _ = drawn((1, 50), (151, 200))
    before, inside, after = timeline.at(START + SECOND * np.array([-9, 100, 999]))

    assert (before, after) == (0, 1)
    assert timeline.right[0] < inside < timeline.left[1]


def test_a_million_frames_are_drawn_as_buckets_that_keep_the_one_spike() -> None:
    tick = START + SECOND * np.arange(1, 1_000_001)
    value = np.zeros(len(tick), np.float32)
    value[654_321], value[123_456] = 9, -7
    timeline = Timeline.of(tick - SECOND, tick)
    buckets = Buckets.of(timeline, tick - SECOND, tick)

    assert len(buckets.first) <= WIDTH
    assert (buckets.high(value).max(), buckets.low(value).min()) == (9, -7)
    peak = buckets.peaks(value)
    assert 654_321 in peak
    assert (np.searchsorted(buckets.first, peak, side="right") - 1).tolist() == list(
        range(len(peak))
    )


def test_few_frames_are_drawn_one_by_one() -> None:
    _, buckets = drawn((1, 5))

    assert buckets.low(values(3, 1, NAN, 2, 5)).tolist()[3:] == [2, 5]
    assert np.isnan(buckets.high(values(3, 1, NAN, 2, 5))[2])


def test_a_line_ends_at_a_gap_and_begins_anew_behind_it() -> None:
    _, buckets = drawn((1, 2), (60, 61))
    _, line = buckets.trace(values(1, 2, 3, 4))

    assert np.isnan(line).tolist() == [False, False, True, False, False]


def test_rows_of_different_lengths_stand_side_by_side() -> None:
    end = START + SECOND * np.array([3600, 3660, 3661, 3662])
    start = START + SECOND * np.array([0, 3600, 3660, 3661])
    timeline = Timeline.of(start, end)
    buckets = Buckets.of(timeline, start, end)

    assert timeline.gaps() == []
    assert buckets.left[1:] == pytest.approx(buckets.right[:-1])
    assert buckets.right[0] == pytest.approx(3600 / 3662)


def test_steps_are_drawn_from_edge_to_edge_and_cut_open_at_gaps() -> None:
    _, buckets = drawn((1, 2), (60, 60))
    edges, line = buckets.steps(values(1, 2, 3))

    assert line[[0, 1, 2, 3, 5, 6]].tolist() == [1, 1, 2, 2, 3, 3]
    assert np.isnan(line).tolist() == [*[False] * 4, True, False, False]
    assert edges[[0, -1]] == pytest.approx([0, 1])


def test_the_mean_of_a_bucket_leaves_out_what_is_missing() -> None:
    buckets = Buckets(first=np.array([0, 2, 4]), left=np.zeros(3), right=np.ones(3))
    found = buckets.mean(values(1, 3, NAN, 5, NAN, NAN))

    assert found[:2].tolist() == [2, 5]
    assert np.isnan(found[2])


def test_over_years_the_labels_are_days_and_say_the_year() -> None:
    end = START + 86_400 * SECOND * np.arange(1, 1001)
    marks = Timeline.of(end - 86_400 * SECOND, end).marks(BERLIN)

    assert 4 <= len(marks) <= MARKS
    assert marks[0][1] == "14 Nov\n2023"
    assert {label.split("\n")[1] for _, label in marks} >= {"2024", "2025", "2026"}


def test_nothing_but_missing_values_leaves_no_peak_undefined() -> None:
    _, buckets = drawn((1, 3))

    assert buckets.peaks(values(NAN, NAN, NAN)).tolist() == [0, 1, 2]


def test_chosen_neighbours_are_one_span_and_a_gap_divides() -> None:
    timeline, buckets = drawn((1, 4), (60, 62))
    chosen = np.array([True, False, True, True, True, False, False])

    found = buckets.spans(chosen)

    expected = [(0, 1), (2, 4), (59, 60)]
    places = [tuple(timeline.at(START + SECOND * np.array(span))) for span in expected]
    assert found == [pytest.approx(place) for place in places]
    assert buckets.spans(np.ones(7, bool)) == [
        (pytest.approx(a), pytest.approx(b))
        for a, b in zip(timeline.left, timeline.right, strict=True)
    ]


def test_labels_are_on_the_clock_of_the_site_and_apart_from_each_other() -> None:
    timeline, _ = drawn((1, 7200))
    marks = timeline.marks(BERLIN)  # START is 22:13:20 UTC, 23:13:20 in Berlin

    assert {"23:30", "00:00", "00:30"} <= {label.split("\n")[-1] for _, label in marks}
    assert len(marks) <= MARKS
    assert all(b - a >= 1 / MARKS for (a, _), (b, _) in pairwise(marks))


def test_where_strokes_are_recorded_the_labels_say_when_each_began() -> None:
    timeline, _ = drawn((1, 3), (31, 33), (61, 63))

    labels = [label for _, label in timeline.marks(ZoneInfo("UTC"))]

    assert labels[0] == "22:13:20"
    assert {"22:13:50", "22:14:20"} <= set(labels)


def test_over_days_a_recording_that_begins_at_midnight_is_labelled_with_that_day() -> None:
    midnight = START + (2800 + 86_400) * SECOND  # START is 23:13:20 in Berlin
    end = midnight + 10 * SECOND * np.arange(14 * 8640)
    after_a_gap = (end < end[0] + 3 * 86_400 * SECOND) | (end > end[0] + 280_000 * SECOND)
    marks = Timeline.of(end - 10 * SECOND, end)
    assert marks.marks(BERLIN)[0][1] == "16 Nov\n2023"

    cut = end[after_a_gap]
    labels = [label for _, label in Timeline.of(cut - 10 * SECOND, cut).marks(BERLIN)]
    assert "19 Nov\n05:47" in labels

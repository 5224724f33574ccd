"""Groups of samples to one value each, and the small array tools beside them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.batch import BAD, GOOD
from monitor.core.aggregate import Groups, changes, common, ends, last_true, ranges
from monitor.core.plan import Aggregate

NAN = float("nan")
TICK = 1000
NOTHING_HELD = np.array([NAN])


def groups(*samples):
    """Samples (time, value, status) of one tag of one asset, on a tick of 1000."""
    full = [(*sample, GOOD)[:3] for sample in samples]
    time = np.array([time for time, _, _ in full], np.int64)
    return Groups(
        slot=np.zeros(len(full), np.intp),
        tick=-(-time // TICK),
        time=time,
        value=np.array([value for _, value, _ in full], np.float64),
        status=np.array([status for _, _, status in full], np.uint32),
        tags=1,
    )


def value(how, *samples, held=NOTHING_HELD):
    return values(groups(*samples), how, held)


def values(found, how, held=NOTHING_HELD):
    """All channels of a tag: here one."""
    column = np.zeros(len(found.tick), np.intp)
    return found.value(Aggregate(how), held[:, None], column, TICK).tolist()


PLAIN = ["last", "mean", "min", "max", "rms", "std", "time_mean"]


@pytest.mark.parametrize("how", PLAIN)
def test_no_samples_have_no_value(how):
    assert value(how) == []


@pytest.mark.parametrize("how", PLAIN)
@pytest.mark.parametrize("held", [NAN, 3.0])
def test_bad_samples_alone_have_no_value(how, held):
    assert np.isnan(value(how, (1, 5.0, BAD), (7, NAN, BAD), held=np.array([held]))).all()


@pytest.mark.parametrize("how", [how for how in PLAIN if how != "std"])
def test_one_sample_is_its_own_value(how):
    assert value(how, (1500, 5.0)) == [5.0]


def test_the_value_of_a_group_does_not_depend_on_its_neighbours():
    random = np.random.default_rng(0)
    samples = [(int(time), random.normal()) for time in range(1, 40_000, 37)]
    whole = groups(*samples)
    for how in (Aggregate.MEAN, Aggregate.RMS, Aggregate.STD):
        alone = [
            value(how, *[s for s in samples if -(-s[0] // TICK) == tick])[0]
            for tick in whole.tick.tolist()
        ]
        assert values(whole, how) == alone


def test_a_time_mean_weighs_each_value_by_how_long_it_stood():
    assert value("time_mean", (250, 1.0), (750, 5.0)) == [(1.0 * 500 + 5.0 * 250) / 750]


def test_a_time_mean_begins_with_what_was_held():
    assert value("time_mean", (250, 1.0), held=np.array([9.0])) == [(9.0 * 250 + 1.0 * 750) / 1000]


def test_a_time_mean_goes_on_from_the_tick_before_unless_that_ended_bad():
    assert value("time_mean", (500, 1.0), (1500, 3.0)) == [1.0, 2.0]
    assert value("time_mean", (500, 1.0), (900, 0.0, BAD), (1500, 3.0)) == [1.0, 3.0]


def test_a_time_mean_of_a_sample_on_the_tick_is_what_stood_before():
    assert value("time_mean", (1000, 7.0)) == [7.0]
    assert value("time_mean", (1000, 7.0), held=np.array([2.0])) == [2.0]


def test_a_bad_sample_at_the_end_is_told():
    found = groups((100, 1.0), (200, 9.0, BAD), (1100, NAN, BAD), (2100, 2.0))
    assert found.last_usable.tolist() == [False, False, True]
    assert found.any_usable.tolist() == [True, False, True]
    assert found.last_time.tolist()[::2] == [100, 2100]


@given(st.lists(st.integers(0, 3)))
def test_changes_begin_the_runs_that_ends_end(column):
    array = np.array(column, np.int64)
    starts, last = np.flatnonzero(changes(array)), ends(array)
    assert len(starts) == len(last)
    for first, end in zip(starts.tolist(), last.tolist(), strict=True):
        assert len(set(column[first : end + 1])) == 1
    assert sum((last - starts + 1).tolist()) == len(column)


@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(0, 4))))
def test_ranges_count_up_from_each_first(parts):
    first = np.array([first for first, _ in parts], np.int64)
    length = np.array([length for _, length in parts], np.int64)
    assert ranges(first, length).tolist() == [f + i for f, n in parts for i in range(n)]


def test_last_true_looks_back_along_the_first_axis():
    flags = np.array([[0, 1], [1, 0], [0, 0]], bool)
    assert last_true(flags).tolist() == [[-1, 0], [1, 0], [1, 0]]


def test_common_names_stand_in_both():
    old, new = common(["a", "b", "c"], ["c", "x", "a"])
    assert (old.tolist(), new.tolist()) == ([0, 2], [2, 0])
    old, new = common(["a"], ["b"])
    assert (old.tolist(), new.tolist()) == ([], [])

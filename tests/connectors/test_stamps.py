"""Whether a stamp can be true."""

import numpy as np
import pytest

from connectors.stamps import OLDEST_NS, SECOND, believable

NOW = 1_704_067_200 * SECOND
DAY = 86_400 * SECOND


@pytest.mark.parametrize(
    ("time", "true"),
    [
        (NOW, True),
        (NOW + 60 * SECOND, True),
        (NOW + 60 * SECOND + 1, False),
        (NOW - 30 * DAY, True),
        (946_684_800 * SECOND, False),  # 2000-01-01: a PLC without its battery
        (946_684_800 * SECOND + 300 * DAY, False),
        (0, False),
        (OLDEST_NS, True),
        (np.iinfo(np.int64).max, False),
        (np.iinfo(np.int64).min, False),
    ],
)
def test_a_stamp_is_believed_unless_it_lies_ahead_or_before_all_plants(time, true):
    assert believable(np.array([time]), NOW, ahead_s=60).tolist() == [true]


def test_each_sample_is_judged_by_when_it_came_itself():
    times = np.array([NOW, NOW])
    came = np.array([NOW - 10 * SECOND, NOW])
    assert believable(times, came, ahead_s=5).tolist() == [False, True]
    assert believable(np.array([], np.int64), NOW, ahead_s=5).tolist() == []


def test_a_clock_of_our_own_that_lost_its_time_makes_nobody_else_wrong():
    assert believable(np.array([NOW, 5]), 60 * SECOND, ahead_s=60).tolist() == [True, False]


def test_the_oldest_that_is_believed_can_be_named():
    assert believable(np.array([5, 6]), 10, ahead_s=0, oldest_ns=6).tolist() == [False, True]

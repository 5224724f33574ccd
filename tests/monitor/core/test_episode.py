"""Which channels an alarm came from over all the time for which it stood."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.core.aggregate import NEVER
from monitor.core.conditions import Change
from monitor.core.episode import EpisodeBlame

FLOW, PRESSURE, EVEN = [1.0, 0.0], [0.0, 1.0], [0.5, 0.5]


def told(blame, over, changes, *, asset=None, cuts=(), episode=None, raised=None):
    """What is told at each row, the rows stepped in pieces; changes are (row, active)."""
    blame_RC, over_R = np.array(blame, np.float32), np.array(over, np.bool_)
    asset_R = np.zeros(len(over_R), np.intp) if asset is None else np.array(asset)
    episode = episode or EpisodeBlame(int(asset_R.max()) + 1, 2)
    raised_A = np.full(int(asset_R.max()) + 1, NEVER, np.int64) if raised is None else raised
    found = {}
    for start, stop in itertools.pairwise([0, *sorted(cuts), len(over_R)]):
        mine = [
            Change(row - start, int(asset_R[row]), active=active, raised=row)
            for row, active in changes
            if start <= row < stop
        ]
        rows = slice(start, stop)
        here = episode.step(
            asset_R[rows], blame_RC[rows], over=over_R[rows], raised_A=raised_A, changes=mine
        )
        found |= {row + start: one for row, one in here.items()}
        for change in mine:
            raised_A[change.point] = change.raised if change.active else NEVER
    return found


def test_what_returns_names_the_channels_of_all_the_time_it_stood() -> None:
    blame = [PRESSURE, FLOW, FLOW, FLOW, PRESSURE, EVEN]
    found = told(blame, [0, 1, 1, 1, 1, 0], [(1, True), (5, False)])
    assert found[5] == pytest.approx([0.75, 0.25])


def test_frames_below_the_threshold_accuse_nobody() -> None:
    blame = [FLOW, PRESSURE, PRESSURE, PRESSURE]
    found = told(blame, [1, 0, 0, 0], [(0, True), (3, False)])
    assert found[3] == pytest.approx([1.0, 0.0])


def test_an_alarm_before_has_no_part_in_the_next() -> None:
    blame = [FLOW, FLOW, EVEN, FLOW, PRESSURE, EVEN]
    changes = [(0, True), (2, False), (4, True), (5, False)]
    found = told(blame, [1, 1, 0, 1, 1, 0], changes)
    assert found[5] == pytest.approx([0.0, 1.0])


def test_an_alarm_of_which_nothing_was_seen_accuses_nobody() -> None:
    assert told([FLOW, FLOW], [0, 0], [(0, True), (1, False)]) == {}
    raised = np.array([7])  # it stood when the program began, and ends at once
    assert told([EVEN], [0], [(0, False)], raised=raised) == {}


def test_each_asset_has_its_own() -> None:
    blame = [FLOW, FLOW, EVEN, PRESSURE, PRESSURE, EVEN]
    changes = [(0, True), (2, False), (3, True), (5, False)]
    found = told(blame, [1, 1, 0, 1, 1, 0], changes, asset=[0, 0, 0, 1, 1, 1])
    assert found[2] == pytest.approx([1.0, 0.0])
    assert found[5] == pytest.approx([0.0, 1.0])


@given(st.sets(st.integers(1, 29)), st.integers(0, 1000))
def test_the_same_to_the_bit_however_the_rows_are_cut(cuts: set[int], seed: int) -> None:
    chance = np.random.default_rng(seed)
    share = chance.random(30, np.float32)
    blame, over = np.stack([share, 1 - share], 1), chance.random(30) < 0.7
    changes = [(3, True), (11, False), (15, True), (28, False)]
    whole, cut = told(blame, over, changes), told(blame, over, changes, cuts=cuts)
    assert {row: one.tolist() for row, one in whole.items()} == {
        row: one.tolist() for row, one in cut.items()
    }


def test_a_snapshot_goes_on_with_the_channels_that_are_still_there() -> None:
    episode = EpisodeBlame(1, 2)
    told([FLOW, FLOW, FLOW, PRESSURE], [1, 1, 1, 1], [(0, True)], episode=episode)
    again = EpisodeBlame(2, 2)
    first, second = np.array([0]), np.array([1])
    again.restore(episode.snapshot(), (first, np.array([0, 1])), (second, np.array([1, 0])))
    found = told(
        [EVEN],
        [0],
        [(0, False)],
        asset=[1],
        episode=again,
        raised=np.array([NEVER, 5]),
    )
    assert found[0] == pytest.approx([0.25, 0.75])

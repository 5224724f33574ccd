"""Which side of a broken relation is named first when an alarm is raised."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.building import SECOND, START

from monitor.core.moving import Moving, weighed
from monitor.core.records import Scores, ScoreState

CHANNELS = ("opening", "flow")
rng = np.random.default_rng(0)


def scores(value: np.ndarray, *, assets: int = 1) -> Scores:
    """Rows of some assets, one after the other, each with the same values [T, C]."""
    ticks = len(value)
    value = np.tile(value, (assets, 1)).astype(np.float32)
    rows = len(value)
    return Scores(
        kind="valve",
        channels=CHANNELS,
        asset=np.repeat(np.arange(assets), ticks).astype(np.int32),
        tick=np.tile(START + np.arange(ticks) * SECOND, assets),
        raw=np.zeros(rows, np.float32),
        surprise=np.zeros(rows, np.float32),
        blame=np.full(value.shape, 0.5, np.float32),
        coverage=np.ones(rows, np.float32),
        state=np.full(rows, ScoreState.OK, np.uint8),
        value=value,
        expected=np.zeros_like(value),
        spread=np.ones_like(value),
    )


def moved(value, *, fresh=(), silent=(), cuts=(), moving=None):
    """How far each channel had moved at the last row, the rows stepped in pieces."""
    moving = moving or Moving(1, len(CHANNELS))
    whole, count = scores(np.asarray(value)), len(value)
    fresh_R = np.isin(np.arange(count), fresh)
    counts = ~np.isin(np.arange(count), silent)
    found = {}
    bounds = [0, *sorted({cut for cut in cuts if 0 < cut < count}), count]
    for start, end in itertools.pairwise(bounds):
        which = np.zeros(count, bool)
        which[start:end] = True
        found = moving.step(
            whole.asset[which].astype(np.intp),
            whole.rows(which),
            counts=counts[which],
            fresh=fresh_R[which],
            at=[end - start - 1],
        )
    return found[bounds[-1] - bounds[-2] - 1]


def noise(ticks: int) -> np.ndarray:
    return rng.normal(0, 0.1, (ticks, 2))


def test_the_side_that_left_its_place_is_named_before_the_one_that_stayed() -> None:
    value = noise(400)
    value[380:, 0] += 2.0  # the valve opens further, and the flow is as it was
    share = weighed(np.array([0.4, 0.6], np.float32), moved(value))
    assert share[0] > 0.8
    assert share.sum() == pytest.approx(1)


def test_what_moves_so_all_day_is_no_proof() -> None:
    value = noise(2000)
    value[:, 0] += np.sin(np.arange(2000) / 20)  # it follows the load
    value[1985:, 1] += 0.7
    opening, flow = moved(value)
    assert flow > 2 * opening


def test_hours_later_nothing_has_moved_and_blame_is_nearly_as_it_was() -> None:
    value = noise(1500)
    value[400:, 0] += 2.0
    opening, flow = moved(value)
    assert opening < 3
    assert flow < 3


def test_a_hair_of_a_channel_that_never_moved_is_no_proof() -> None:
    value = noise(400)
    value[:, 0] = 7.0
    value[399, 0] += 1e-4
    value[380:, 1] += 1.0
    opening, flow = moved(value)
    assert opening < 0.01 * flow


def test_what_lies_before_a_gap_is_forgotten() -> None:
    value = noise(400)
    value[380:] += 5.0
    assert moved(value).max() > 5
    assert moved(value, fresh=[380]).max() < 3


def test_rows_that_say_nothing_and_values_that_are_missing_move_nothing() -> None:
    value = noise(400)
    wild = value.copy()
    wild[200:220] = 50.0
    wild[300:310, 1] = np.nan
    silent = range(200, 220)
    expected = moved(value, silent=silent)
    found = moved(wild, silent=silent)
    assert found[0] == expected[0]
    assert found[1] == pytest.approx(expected[1], rel=0.3)


def test_where_nothing_moved_blame_stays_as_it_was() -> None:
    blame = np.array([0.3, 0.7], np.float32)
    assert weighed(blame, np.zeros(2)).tolist() == blame.tolist()


@given(st.lists(st.integers(1, 119), max_size=6), st.sets(st.integers(0, 119), max_size=4))
def test_the_same_however_the_rows_are_cut(cuts: list[int], fresh: set[int]) -> None:
    value = np.random.default_rng(1).normal(0, 1, (120, 2))
    value[30:40, 1] = np.nan
    whole = moved(value, fresh=sorted(fresh))
    assert moved(value, fresh=sorted(fresh), cuts=cuts).tolist() == whole.tolist()


def test_a_snapshot_goes_on_to_the_bit_with_what_is_still_there() -> None:
    value = noise(200)
    first, second = Moving(1, 2), Moving(2, 2)
    moved(value[:150], moving=first)
    both = np.array([0, 1])
    second.restore(first.snapshot(), (np.array([0]), both), (np.array([1]), both))
    found = second.step(
        np.ones(50, np.intp),
        scores(value[150:]),
        counts=np.ones(50, bool),
        fresh=np.zeros(50, bool),
        at=[49],
    )
    assert found[49].tolist() == moved(value, cuts=[150]).tolist()


def test_many_assets_move_apart_from_each_other() -> None:
    value = noise(100)
    moving = Moving(3, 2)
    whole = scores(value, assets=3)
    found = moving.step(
        whole.asset.astype(np.intp),
        whole,
        counts=np.ones(300, bool),
        fresh=np.zeros(300, bool),
        at=[99, 299],
    )
    assert set(found) == {99, 299}
    assert found[99].tolist() == found[299].tolist() == moved(value).tolist()

"""Sensors and pictures as one surprise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.fusion import CAP, GONE, agreed, balance, combine, fade, share

# surprises as calibrations give them
SURPRISE = st.floats(0, 400, width=32)
WEIGHT = st.floats(0.01, 0.99)


def one(sensor, picture, weight=0.5):
    column = [np.array([given], np.float32) for given in (sensor, picture)]
    return float(combine(*column, np.array([weight]))[0])


def by_definition(sensor, picture, weight):
    """The rule as it is written; in logarithms where cot(pi p) is 1 / (pi p) to every digit."""
    logs = np.log([1 - weight, weight]) + np.log(10) * np.array([sensor, picture])
    if max(sensor, picture) > 20:
        return np.logaddexp(*logs) / np.log(10)
    p = np.minimum(10.0 ** -np.array([sensor, picture]), CAP)
    return -np.log10(np.arctan2(1, ([1 - weight, weight] / np.tan(np.pi * p)).sum()) / np.pi)


@given(SURPRISE, SURPRISE, WEIGHT)
def test_it_is_the_cauchy_combination_at_any_depth(sensor, picture, weight):
    assert one(sensor, picture, weight) == pytest.approx(
        by_definition(sensor, picture, weight), rel=1e-6, abs=1e-6
    )


def test_it_is_exact_where_floats_end():
    for sensor, picture in ((300, 0), (0, 300), (300, 300), (320, 2), (1e4, 1e4), (0, 0)):
        assert np.isfinite(one(sensor, picture))
    assert one(300, 300) == pytest.approx(300)
    assert one(1e4, 0) == pytest.approx(1e4 - np.log10(2))


@given(SURPRISE, WEIGHT)
def test_two_sides_that_say_the_same_say_it_together(surprise, weight):
    low = -np.log10(CAP)
    assert one(surprise, surprise, weight) == pytest.approx(max(surprise, low), abs=1e-4)


@given(SURPRISE, SURPRISE, SURPRISE, WEIGHT)
def test_more_evidence_of_a_side_never_makes_it_less(lower, higher, other, weight):
    lower, higher = sorted((lower, higher))
    assert one(lower, other, weight) <= one(higher, other, weight) + 1e-5
    assert one(other, lower, weight) <= one(other, higher, weight) + 1e-5


def test_a_side_that_is_calm_takes_back_little_of_what_the_other_says():
    assert one(4.0, 0.0) > one(4.0, 0.3) - 0.01
    assert one(4.0, 0.0) > 3.69


@given(SURPRISE)
def test_an_absent_side_changes_nothing_to_the_bit(surprise):
    for sides in ((surprise, np.nan), (np.nan, surprise)):
        assert np.float32(one(*sides)) == np.float32(surprise)
    assert np.float32(one(surprise, 300.0, 0.0)) == np.float32(surprise)
    assert np.isnan(one(np.nan, np.nan))


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 8, 9, 64, 300])
def test_a_row_does_not_depend_on_its_neighbours_to_the_bit(rows):
    chance = np.random.default_rng(rows)
    sides = chance.exponential(2, (2, rows)).astype(np.float32)
    weight = chance.uniform(0.1, 0.9, rows)
    whole = combine(*sides, weight)
    apart = [combine(*sides[:, n : n + 1], weight[n : n + 1])[0] for n in range(rows)]
    assert whole.tobytes() == np.array(apart, np.float32).tobytes()


@pytest.mark.parametrize("together", [-0.5, 0.0, 0.5, 0.95])
@pytest.mark.parametrize("weight", [0.5, 0.8])
def test_healthy_sides_reach_a_threshold_as_seldom_as_one_however_they_depend(together, weight):
    from scipy.stats import norm

    chance = np.random.default_rng(3)
    normal = chance.standard_normal((2, 400_000))
    normal[1] = together * normal[0] + np.sqrt(1 - together**2) * normal[1]
    fused = combine(
        *(-norm.logsf(normal) / np.log(10)).astype(np.float32), np.full(400_000, weight)
    )
    for depth in (1.0, 2.0, 3.0):
        assert np.mean(fused >= depth) < 1.2 * 10**-depth


def test_a_picture_has_half_its_weight_after_each_half_life_and_is_gone_after_ten():
    left = fade(np.array([-5.0, 0.0, 60.0, 120.0, 599.0, 601.0, np.inf]), 60.0)
    assert left[:4].tolist() == [1.0, 1.0, 0.5, 0.25]
    assert left[4] > GONE
    assert left[5:].tolist() == [0.0, 0.0]
    assert share(0.5, np.array([1.0, 0.0])).tolist() == [0.5, 0.0]
    assert share(0.8, np.array([0.25]))[0] == pytest.approx(0.2 / 0.4)


def test_an_older_picture_never_says_more():
    age = np.linspace(0, 700, 200)
    weight = share(0.5, fade(age, 60.0))
    sensor, picture = np.full(200, 0.3, np.float32), np.full(200, 6.0, np.float32)
    fused = combine(sensor, picture, weight)
    assert (np.diff(fused) <= 0).all()
    assert fused[0] > 5.6
    assert fused[-1] == np.float32(0.3)


def test_weights_follow_from_how_well_each_side_tells_faults():
    assert balance(sensor_auroc=0.75, picture_auroc=0.75) == 0.5
    assert balance(sensor_auroc=0.6, picture_auroc=0.9) == 0.95
    assert balance(sensor_auroc=0.9, picture_auroc=0.75) == pytest.approx(0.217, abs=1e-3)
    assert balance(sensor_auroc=0.5, picture_auroc=0.2) == 0.5
    assert balance(sensor_auroc=1.0, picture_auroc=1.0) == 0.5
    with pytest.raises(ValueError, match=r"picture_auroc: got 1.2, want an AUROC"):
        balance(sensor_auroc=0.5, picture_auroc=1.2)


def both(sensor, picture, weight=0.5):
    column = [np.array([given], np.float32) for given in (sensor, picture)]
    return float(agreed(*column, np.array([weight]))[0])


@given(SURPRISE, SURPRISE, WEIGHT)
def test_what_both_say_is_twice_the_calmer_side_by_its_share(sensor, picture, weight):
    parts = sensor + np.log10(2 * (1 - weight)), picture + np.log10(2 * weight)
    assert both(sensor, picture, weight) == pytest.approx(max(2 * min(parts), 0), abs=1e-3)
    assert both(sensor, picture) == pytest.approx(2 * min(sensor, picture), abs=1e-4)


def test_one_side_alone_never_agrees_with_itself_however_strange():
    for strange in (6.0, 300.0):
        assert both(strange, 0.2) == both(0.2, strange) == pytest.approx(0.4)


def test_an_absent_side_leaves_what_the_other_allows():
    assert both(np.nan, 3.0) == pytest.approx(6.0)
    assert both(3.0, np.nan) == both(3.0, 9.0, 0.0) == pytest.approx(6.0)
    assert np.isnan(both(np.nan, np.nan))


def test_healthy_sides_agree_as_rarely_as_the_surprise_says():
    chance = np.random.default_rng(3)
    sides = -np.log10(chance.random((2, 1_000_000))).astype(np.float32)
    for weight, most in ((0.5, 1.0), (0.2, 0.64)):  # 4 w (1 - w)
        found = agreed(*sides, np.full(1_000_000, weight))
        for level in (2.0, 3.0):
            assert np.mean(found >= level) == pytest.approx(most * 10**-level, rel=0.15)
    assert np.mean(agreed(sides[0], sides[0], np.full(1_000_000, 0.5)) >= 4) <= 1.05e-2  # the same

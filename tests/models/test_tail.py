"""A generalised Pareto tail: what it says beyond the data, and how sure that is."""

import numpy as np
import pytest
from scipy.stats import genpareto

from models.tail import SHAPE_LIMIT, Tail

SHARE = 0.005  # one peak in 200: rarer than what 100 of them show


def drawn(shape, seed, count=100):
    return 3.0 + genpareto(shape, scale=0.4).rvs(count, random_state=np.random.default_rng(seed))


@pytest.mark.parametrize("shape", [0.0, 0.2])
def test_the_level_of_a_share_is_near_the_true_one_where_there_is_much_data(shape):
    true = 3.0 + genpareto(shape, scale=0.4).isf(SHARE)
    assert Tail.fit(drawn(shape, 0, 3000), 3.0).level(SHARE) == pytest.approx(true, rel=0.1)


@pytest.mark.parametrize("shape", [0.0, 0.2])
def test_the_bound_is_above_the_true_level_about_as_often_as_it_says(shape):
    true = 3.0 + genpareto(shape, scale=0.4).isf(SHARE)
    bounds = [Tail.fit(drawn(shape, seed), 3.0).upper(SHARE, 0.95) for seed in range(20)]
    assert sum(bound >= true for bound in bounds) >= 17
    assert np.median(bounds) < 3.0 + 4 * (true - 3.0), "and yet says something"


def test_a_smaller_share_has_a_higher_level_and_a_higher_bound():
    tail = Tail.fit(drawn(0.1, 1), 3.0)
    shares = (0.5, 0.1, 0.01, 0.001)
    levels, bounds = [tail.level(s) for s in shares], [tail.upper(s, 0.95) for s in shares]
    assert levels == sorted(levels)
    assert bounds == sorted(bounds)
    assert all(bound > level for bound, level in zip(bounds, levels, strict=True))
    assert tail.level(1.0) == tail.upper(1.0, 0.95) == 3.0


def test_a_tail_that_would_end_is_taken_for_one_that_does_not():
    tail = Tail.fit(3.0 + np.random.default_rng(0).uniform(0, 1, 200), 3.0)
    assert tail.shape == 0.0
    assert 0 <= tail.shape <= SHAPE_LIMIT


def test_peaks_that_are_no_tail_are_found_out():
    assert Tail.fit(drawn(0.1, 2), 3.0).misfit > 0.05
    assert Tail.fit(3.0 + np.repeat([0.001, 2.0], 50), 3.0).misfit < 0.05


def test_it_reads_back_from_json_to_the_bit():
    tail = Tail.fit(drawn(0.1, 3), 3.0)
    assert Tail.model_validate_json(tail.model_dump_json()) == tail

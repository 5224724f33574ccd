import numpy as np
from support.machines import healthy, stretch

from models.contract import Stretch
from models.scaling import SCALED_LIMIT, STILL_SHARE, Scales, Scaling


def test_healthy_values_become_mean_zero_deviation_one() -> None:
    one = stretch(healthy(2000, 1))
    scaled, valid = Scaling.fit([one]).apply(one.value, one.valid)

    assert scaled.dtype == np.float32
    assert valid.all()
    np.testing.assert_allclose(scaled.mean(0), 0.0, atol=1e-5)
    np.testing.assert_allclose(scaled.std(0), 1.0, atol=1e-5)


def test_the_last_digit_of_a_steady_channel_is_one_deviation_at_the_most() -> None:
    value = np.full((1000, 1), 20.0)
    value[500] = 20.1

    scaling = Scaling.fit([stretch(value)])

    np.testing.assert_allclose(scaling.deviation, 0.1, rtol=1e-9)
    np.testing.assert_allclose(scaling.floor, 1.0)


def test_a_channel_that_never_moved_resolves_a_thousandth_of_its_level() -> None:
    value = np.stack([np.full(100, -40.0), np.zeros(100)], axis=1)

    scaling = Scaling.fit([stretch(value)])

    np.testing.assert_allclose(scaling.deviation, [40 * STILL_SHARE, STILL_SHARE])


def test_what_is_not_valid_is_zero_and_what_is_no_number_is_not_valid() -> None:
    scaling = Scaling.fit([stretch(healthy(100, 1, 2))])
    value = np.array([[np.nan, 50.0], [np.inf, 50.0], [50.0, 1e300]])
    given = np.array([[True, False], [True, True], [True, True]])

    scaled, valid = scaling.apply(value, given)

    assert valid.tolist() == [[False, False], [False, True], [True, True]]
    assert scaled[~valid].tolist() == [0.0, 0.0, 0.0]
    assert scaled[2, 1] == SCALED_LIMIT


def test_back_is_the_way_back() -> None:
    value = healthy(50, 2)
    scaling = Scaling.fit([stretch(value)])
    scaled, _ = scaling.apply(value, np.ones(value.shape, np.bool_))

    np.testing.assert_allclose(scaling.scale.back(scaled), value, rtol=1e-5)
    spread = scaling.scale.spread_back(np.ones((1, 4), np.float32))
    np.testing.assert_allclose(spread[0], value.std(0))


def test_json_keeps_it_to_the_bit() -> None:
    scaling = Scaling.fit([stretch(healthy(99, 3))])

    assert Scaling.model_validate_json(scaling.model_dump_json()) == scaling


def days(count: float, seed: int, *, level: float = 0.0, asset: str = "a") -> Stretch:
    """So many days of a machine, a minute a tick once ``tick_ms`` says so."""
    return stretch(healthy(round(count * 1440), seed) + level, asset=asset)


def test_a_scaling_of_its_own_lies_the_nearer_to_the_pooled_one_the_less_history_there_is() -> None:
    pooled = Scaling.fit([days(3, 1)])
    apart = []
    for count in (1, 3, 9):
        found = pooled.own([days(count, 2, level=20.0)], tick_ms=60_000)
        assert found is not None
        apart.append(found[0].mean[0] - pooled.mean[0])
        assert found[1].all()
    np.testing.assert_allclose(apart, [16, 18.5, 19.5], atol=0.7)


def test_a_day_is_the_least_that_a_scaling_of_its_own_is_made_from() -> None:
    pooled = Scaling.fit([days(3, 1)])
    assert pooled.own([days(0.99, 2)], tick_ms=60_000) is None
    assert pooled.own([days(0.5, 2), days(0.5, 3)], tick_ms=60_000) is not None


def test_a_channel_that_never_moved_keeps_the_pooled_scaling() -> None:
    pooled = Scaling.fit([days(3, 1)])
    still = days(2, 2, level=20.0)
    still.value[:, 1] = 50.0
    found = pooled.own([still], tick_ms=60_000)
    assert found is not None
    own, moved = found
    assert moved.tolist() == [True, False, True, True]
    assert (own.mean[1], own.deviation[1]) == (pooled.mean[1], pooled.deviation[1])
    assert own.mean[0] > pooled.mean[0]
    assert pooled.own([stretch(np.full((2880, 4), 5.0))], tick_ms=60_000) is None


def test_what_two_machines_differ_by_is_scaled_away() -> None:
    both = [days(10, 1, asset="a"), days(10, 2, level=30.0, asset="b")]
    scales = Scales.fit(both, both, tick_ms=60_000)
    for one in both:
        scaled, _ = scales.of(one.asset).apply(one.value, one.valid)
        assert abs(scaled.mean()) < 0.5
    assert (scales.floor <= 1).all()


def test_of_a_single_machine_the_pool_is_its_own() -> None:
    one = days(10, 1)
    assert Scales.fit([one], [one], tick_ms=60_000).own == {}

import numpy as np
from support.machines import healthy, stretch

from models.scaling import SCALED_LIMIT, STILL_SHARE, Scaling


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

    np.testing.assert_allclose(scaling.back(scaled), value, rtol=1e-5)
    np.testing.assert_allclose(scaling.spread_back(np.ones((1, 4), np.float32))[0], value.std(0))


def test_json_keeps_it_to_the_bit() -> None:
    scaling = Scaling.fit([stretch(healthy(99, 3))])

    assert Scaling.model_validate_json(scaling.model_dump_json()) == scaling

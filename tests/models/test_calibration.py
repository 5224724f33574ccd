import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError
from scipy.stats import genpareto

from models.calibration import SHAPE_LIMIT, Calibration


def scores(count: int = 5000, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).gamma(3.0, 0.3, count).astype(np.float32)


def test_surprise_is_the_order_of_magnitude_of_how_rare_it_is() -> None:
    calibration = Calibration.fit(scores())
    fresh = scores(400_000, 1)

    surprise = calibration.apply(fresh)

    for level in (0.5, 1.0, 2.0, 3.0):
        assert -np.log10((surprise >= level).mean()) == pytest.approx(level, abs=0.25)


def test_the_tail_is_scipys() -> None:
    calibration = Calibration.fit(scores())
    raw = calibration.raw[-1] + np.array([0.0, 0.5, 3.0, 100.0])

    beyond = genpareto.logsf(raw, calibration.shape, calibration.raw[-1], calibration.scale)

    wanted = calibration.surprise[-1] - beyond / np.log(10)
    np.testing.assert_allclose(calibration.apply(raw), wanted, rtol=1e-6)


def test_the_largest_healthy_score_is_kept() -> None:
    healthy = scores()

    assert Calibration.fit(healthy).largest == healthy.max()


@settings(max_examples=60, deadline=None)
@given(
    arrays(
        np.float32,
        st.integers(100, 400),
        elements=st.floats(0, 1000, width=32, allow_subnormal=False),
    )
)
def test_more_is_never_less_surprising_and_beyond_health_always_more(healthy: np.ndarray) -> None:
    calibration = Calibration.fit(healthy)
    step = max(calibration.largest, 1.0) * 0.5
    inside = calibration.apply(np.linspace(0, calibration.largest, 500))
    beyond = calibration.apply(calibration.largest + step * np.arange(1, 200))

    assert (np.diff(inside) >= 0).all()
    assert (np.diff(beyond) > 0).all()
    assert beyond[0] > inside[-1]
    assert np.isfinite(beyond).all()
    assert 0 <= calibration.shape <= SHAPE_LIMIT


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(100, 3000))
def test_there_is_no_jump_where_the_tail_begins(seed: int, count: int) -> None:
    calibration = Calibration.fit(scores(count, seed))
    start = calibration.raw[-1]

    below, above = calibration.apply(np.nextafter(start, [-np.inf, np.inf]))

    assert above - below <= 1e-6


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_json_keeps_it_to_the_bit(seed: int) -> None:
    calibration = Calibration.fit(scores(300, seed))

    again = Calibration.model_validate_json(calibration.model_dump_json())

    assert again == calibration
    raw = np.linspace(0, 9, 999)
    assert np.array_equal(again.apply(raw), calibration.apply(raw))


def test_healthy_scores_that_are_all_equal_are_no_surprise_and_more_is() -> None:
    calibration = Calibration.fit(np.full(1000, 2.0))

    assert calibration.apply(np.array([1.0, 2.0])).tolist() == [0.0, 0.0]
    assert calibration.apply(np.array([2.1]))[0] > 3.0


def test_too_few_healthy_frames_are_refused_in_words() -> None:
    with pytest.raises(ValueError, match=r"at least 100 healthy frames .* got 99"):
        Calibration.fit(np.ones(99))


def test_a_healthy_score_that_is_no_number_is_refused() -> None:
    healthy = scores(200)
    healthy[7] = np.nan

    with pytest.raises(ValueError, match="not finite"):
        Calibration.fit(healthy)


@pytest.mark.parametrize(
    ("field", "value"),
    [("scale", 0.0), ("shape", -0.1), ("raw", [1.0, 1.0]), ("surprise", [1.0]), ("scale", None)],
)
def test_a_mapping_that_is_none_is_refused(field: str, value: object) -> None:
    content = json.loads(Calibration.fit(scores(200)).model_dump_json()) | {field: value}

    with pytest.raises(ValidationError):
        Calibration.model_validate(content)

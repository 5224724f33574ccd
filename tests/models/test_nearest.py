"""A judge of the nearest healthy example, a level that drifts, and scores that are smoothed."""

import functools

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.drift import DriftingLevel
from models.nearest import PROTOTYPES, TILE, Nearest
from models.settings import EwmaSettings

F32 = NDArray[np.float32]
CHANNELS = 3


def circle(rows: int, radius: float = 3.0) -> F32:
    """Healthy life that is a round: its mean is a place where it never is."""
    angle = np.linspace(0, 15 * np.pi, rows)
    third = np.zeros(rows)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), third], 1).astype(np.float32)


@functools.cache
def fitted() -> Nearest:
    """Learnt once for all tests; none changes it."""
    judge = Nearest(CHANNELS, (1,))
    valid = np.ones((1500, CHANNELS), np.bool_)
    judge.fit(circle(1500), valid, floor=np.full(CHANNELS, 0.01))
    return judge


def measured(judge: Nearest, rows: F32, valid: NDArray[np.bool_] | None = None) -> tuple[F32, F32]:
    seen = np.ones(rows.shape, np.bool_) if valid is None else valid
    raw, blame = judge.measure(torch.from_numpy(rows), torch.from_numpy(seen))
    return raw.numpy(), blame.numpy()


def test_the_healthy_mean_is_strange_where_healthy_life_never_is() -> None:
    judge = fitted()

    raw, _ = measured(judge, np.array([[0, 0, 0], [3, 0, 0], [0, -3, 0]], np.float32))

    assert raw[0] > 10
    assert raw[1:].max() <= 1.5


def test_blame_is_on_the_channel_that_left_and_sums_to_one() -> None:
    _, blame = measured(fitted(), np.array([[3, 0, 2], [0, -6, 0]], np.float32))

    assert blame.argmax(1).tolist() == [2, 1]
    assert blame.sum(1) == pytest.approx(1.0, abs=1e-6)


def test_a_channel_that_is_not_valid_neither_scores_nor_is_blamed() -> None:
    rows = np.array([[3, 0, 50], [3, 0, 0]], np.float32)
    valid = np.array([[True, True, False]] * 2)

    raw, blame = measured(fitted(), rows, valid)

    assert raw[0] == raw[1]
    assert blame[:, 2].tolist() == [0, 0]
    raw, blame = measured(fitted(), rows, np.zeros((2, 3), np.bool_))
    assert raw.tolist() == [0, 0]
    assert blame.sum() == 0


def test_a_row_has_the_same_bits_whoever_else_is_measured() -> None:
    judge = Nearest(CHANNELS, (1, 4))
    generator = np.random.default_rng(3)
    frames = generator.normal(size=(1000, 2 * CHANNELS)).astype(np.float32)
    judge.fit(frames, np.ones((1000, 2 * CHANNELS), np.bool_), floor=np.full(CHANNELS, 0.01))
    rows = generator.normal(size=(3 * TILE + 5, 2 * CHANNELS)).astype(np.float32)
    valid = generator.random((len(rows), 2 * CHANNELS)) < 0.8

    together = measured(judge, rows, valid)

    for n in (0, 7, TILE, len(rows) - 1):
        alone = measured(judge, rows[n : n + 1], valid[n : n + 1])
        assert alone[0].tobytes() == together[0][n : n + 1].tobytes()
        assert alone[1].tobytes() == together[1][n : n + 1].tobytes()


def test_no_healthy_frame_is_farther_from_a_prototype_than_the_prototypes_are_apart() -> None:
    judge = fitted()

    raw, _ = measured(judge, circle(1500))

    apart = judge.prototypes[:, None] - judge.prototypes
    distance = np.sqrt(np.square(apart).sum(2)) + 1e9 * np.eye(PROTOTYPES)
    assert raw.max() * judge.reference <= distance.min() * (1 + 1e-5)


def test_fewer_different_frames_than_prototypes_are_kept_as_they_are_and_loaded_again() -> None:
    judge = Nearest(CHANNELS, (1,))
    frames = np.repeat(circle(10), 30, axis=0)
    judge.fit(frames, np.ones(frames.shape, np.bool_), floor=np.full(CHANNELS, 0.01))
    other = Nearest(CHANNELS, (1,))

    other.load_tensors(judge.tensors())

    assert len(np.unique(judge.prototypes, axis=0)) == len(np.unique(frames, axis=0))
    assert np.array_equal(measured(other, 2 * frames)[0], measured(judge, 2 * frames)[0])


def drift(values: list[float], spread_span: int | None = None) -> tuple[list[float], list[float]]:
    """Expected and spread before each value of one channel; NaN is not valid."""
    level = DriftingLevel(1, 9, spread_span)
    state = level.initial(1)
    expected, spread = [], []
    for value in values:
        valid = torch.tensor([[np.isfinite(value)]])
        mean, around, state = level.step(torch.tensor([[value]]).nan_to_num(), valid, state)
        expected.append(float(mean[0, 0]))
        spread.append(float(around[0, 0]))
    return expected, spread


def test_the_first_value_is_no_surprise_and_the_next_ones_count_alike() -> None:
    expected, _ = drift([5.0, 8.0, 2.0, 5.0])

    assert expected == pytest.approx([5.0, 5.0, 6.5, 5.0])


def test_a_step_becomes_the_level_and_what_is_not_valid_moves_nothing() -> None:
    expected, spread = drift([0.0] * 50 + [1.0] * 60 + [np.nan] * 3 + [1.0])

    assert expected[50] == 0.0
    assert expected[109] == pytest.approx(1.0, abs=1e-3)
    assert expected[110:113] == [expected[113]] * 3
    assert set(spread) == {1.0}


def test_the_spread_follows_the_errors_where_it_is_asked_to() -> None:
    noise = np.random.default_rng(0).normal(scale=0.2, size=400).tolist()

    _, spread = drift(noise, spread_span=60)

    assert spread[0] == 1.0
    assert np.mean(spread[200:]) == pytest.approx(0.21, abs=0.04)


def test_a_spread_that_drifts_wants_a_level_that_does() -> None:
    with pytest.raises(ValueError, match="spread_span: want level_span"):
        EwmaSettings(spread_span=10)

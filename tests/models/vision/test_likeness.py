"""Whether made pictures are like real ones, as various, and no copies: what the figures say."""

import numpy as np
import pytest

from models.vision.likeness import Likeness, compare, frechet, kernel, random_features

NAMES = ("spots", "stripes")
FEATURES = random_features(1)


def pictures(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [N, 16, 16, 1]: bright spots or stripes somewhere, in noise; and which."""
    chance = np.random.default_rng(seed)
    shown = chance.normal(100, 8, (count, 16, 16, 1))
    kinds = np.arange(count) % 2
    for n, kind in enumerate(kinds):
        row, column = chance.integers(2, 13, 2)
        if kind:
            shown[n, :, column] += chance.uniform(40, 90)
        else:
            shown[n, row : row + 3, column : column + 3] += chance.uniform(60, 120)
    return shown.clip(0, 255).astype(np.uint8), kinds.astype(np.int64)


REAL = pictures(120, 0)


def against_real(made: np.ndarray, kinds: np.ndarray) -> Likeness:
    return compare(*REAL, made, kinds, names=NAMES, features=FEATURES)


def test_other_pictures_of_the_same_kind_are_alike_as_various_and_no_copies() -> None:
    found = against_real(*pictures(120, 1))

    assert abs(found.kernel) < 0.2
    assert found.precision > 0.8
    assert found.recall > 0.8
    assert found.copied < 0.1
    assert 0.8 < found.diversity < 1.2


def test_pictures_of_noise_are_not_alike() -> None:
    noise = np.random.default_rng(2).integers(0, 256, REAL[0].shape).astype(np.uint8)
    found = against_real(noise, REAL[1])

    assert found.kernel > 10 * abs(against_real(*pictures(120, 1)).kernel)
    assert found.frechet > 100
    assert found.precision == 0


def test_pictures_learnt_by_heart_are_called_copies() -> None:
    assert against_real(*REAL).copied == 1.0
    half = np.concatenate([REAL[0][:60], pictures(120, 1)[0][60:]])
    assert 0.5 <= against_real(half, REAL[1]).copied < 0.6


def test_a_class_that_is_always_the_same_picture_is_the_poorest() -> None:
    made, kinds = pictures(120, 1)
    made[kinds == 1] = made[1]
    found = against_real(made, kinds)

    assert found.diversity == 0
    assert found.poorest == "stripes"
    assert found.recall < 0.8


def test_half_of_the_classes_only_are_precise_but_do_not_recall() -> None:
    made, kinds = pictures(240, 1)
    found = against_real(made[kinds == 0], kinds[kinds == 0])

    assert found.precision > 0.8
    assert found.recall < 0.7


def test_the_frechet_distance_of_two_normal_clouds_is_that_of_the_formula() -> None:
    chance = np.random.default_rng(0)
    cloud = chance.normal(0, 1, (20_000, 2))
    moved = chance.normal(0, 1, (20_000, 2)) * [1.0, 3.0] + [2.0, 0.0]

    assert frechet(cloud, cloud) == pytest.approx(0, abs=1e-6)
    assert frechet(cloud, moved) == pytest.approx(2.0**2 + (3.0 - 1.0) ** 2, rel=0.05)


def test_the_kernel_distance_of_two_draws_from_the_same_is_about_nothing_either_way() -> None:
    chance = np.random.default_rng(0)
    found = [kernel(*chance.normal(0, 1, (2, 60, 8))) for _ in range(40)]

    assert min(found) < 0 < max(found)
    assert abs(np.mean(found)) < 0.05


def test_features_are_the_same_for_the_same_seed_and_of_a_picture_alone() -> None:
    shown = REAL[0][:5]

    assert (FEATURES(shown) == random_features(1)(shown)).all()
    assert not (FEATURES(shown) == random_features(1, seed=1)(shown)).all()
    np.testing.assert_allclose(FEATURES(shown)[2:3], FEATURES(shown[2:3]), rtol=1e-4, atol=1e-5)


def test_too_few_pictures_to_compare_are_refused() -> None:
    made, kinds = pictures(4, 1)
    with pytest.raises(ValueError, match="want 5 real and made pictures or more, got 120 and 4"):
        against_real(made, kinds)

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.surprise import LEAST_SHRINKAGE, Mahalanobis, shrunk_covariance

C = 4
MIX = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.4, -0.6]])


def residuals(count: int, seed: int = 0) -> NDArray[np.float32]:
    """Coupled residuals [M, C]."""
    random = np.random.default_rng(seed)
    coupled = random.normal(size=(count, 2)) @ MIX.T + 0.3 * random.normal(size=(count, C))
    return coupled.astype(np.float32)


def fitted(*, spans: tuple[int, ...] = (1,)) -> Mahalanobis:
    judge = Mahalanobis(C, spans)
    smoothed, state = [], torch.zeros(1, len(spans) * C)
    everything = torch.ones(1, C, dtype=torch.bool)
    for row in torch.from_numpy(residuals(2000)):
        state = judge.smooth(row[None], everything, [1], state)
        smoothed.append(state[0].numpy())
    judge.fit(np.stack(smoothed), np.ones((2000, C), np.bool_), floor=np.full(C, 1e-3))
    return judge


def valid(*rows: str) -> Tensor:
    """Rows as words: 'x' valid, '.' not."""
    return torch.tensor([[letter == "x" for letter in row] for row in rows])


def test_the_raw_score_is_the_mahalanobis_distance_in_healthy_ones() -> None:
    judge = fitted()
    z = torch.from_numpy(residuals(50, 1))

    raw, _ = judge.measure(z, torch.ones(50, C, dtype=torch.bool))

    square = np.einsum("ni,ij,nj->n", z, np.linalg.inv(judge.covariance[0]), z)
    np.testing.assert_allclose(raw, np.sqrt(square) / judge.reference[0], rtol=1e-4)
    assert np.isclose(np.quantile(raw, 0.99), 1.0, atol=0.25)


def test_blame_is_by_how_much_the_squared_distance_falls_without_the_channel() -> None:
    judge = fitted()
    z = torch.from_numpy(residuals(5, 2))
    raw, blame = judge.measure(z, valid(*["xxxx"] * 5))
    falls = []
    for channel in range(C):
        word = "".join("." if n == channel else "x" for n in range(C))
        without, _ = judge.measure(z, valid(*[word] * 5))
        falls.append(raw.square() - without.square())
    share = torch.stack(falls, 1)

    torch.testing.assert_close(blame, share / share.sum(1, keepdim=True), rtol=1e-3, atol=1e-4)


def test_channels_that_are_not_valid_are_integrated_out_exactly() -> None:
    judge = fitted()
    z = torch.from_numpy(residuals(3, 3))

    raw, blame = judge.measure(z, valid("x.xx", "x.xx", "x.xx"))

    pick = [0, 2, 3]
    precision = np.linalg.inv(judge.covariance[0][np.ix_(pick, pick)])
    square = np.einsum("ni,ij,nj->n", z[:, pick], precision, z[:, pick])
    np.testing.assert_allclose(raw, np.sqrt(square) / judge.reference[0], rtol=1e-4)
    assert (blame[:, 1] == 0).all()


def test_rows_of_many_patterns_have_the_bits_they_have_alone() -> None:
    judge = fitted(spans=(1, 4))
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(200, 2 * C, generator=generator)
    seen = torch.rand(200, C, generator=generator) > 0.4
    raw, blame = judge.measure(z, seen)

    for row in range(200):
        alone = judge.measure(z[row : row + 1], seen[row : row + 1])
        assert torch.equal(alone[0], raw[row : row + 1])
        assert torch.equal(alone[1], blame[row : row + 1])


def test_a_channel_that_is_not_valid_keeps_its_mean() -> None:
    judge = Mahalanobis(2, (1, 3))
    before = torch.tensor([[1.0, 2.0, 3.0, 4.0]])

    after = judge.smooth(torch.tensor([[5.0, 7.0]]), valid("x."), [1], before)

    assert after.tolist() == [[5.0, 2.0, 4.0, 4.0]]  # alpha is 1 and 1/2


def test_a_small_lasting_shift_is_found_by_a_slow_scale_only() -> None:
    fast, slow = fitted(spans=(1,)), fitted(spans=(1, 32))
    everything = valid("xxxx")
    shift = torch.tensor([[0.0, 0.0, 1.2, 0.0]])
    states = [torch.zeros(1, C), torch.zeros(1, 2 * C)]
    for row in torch.from_numpy(residuals(300, 7)):
        for n, judge in enumerate((fast, slow)):
            states[n] = judge.smooth(row[None] + shift, everything, [1], states[n])

    assert slow.measure(states[1], everything)[0] > 2.0
    assert fast.measure(states[0], everything)[0] < 2.0


def test_an_asset_that_just_came_up_is_not_strange() -> None:
    raw, blame = fitted(spans=(1, 16)).measure(torch.zeros(1, 2 * C), valid("xxx."))

    assert raw.tolist() == [0.0]
    torch.testing.assert_close(blame, torch.tensor([[1 / 3, 1 / 3, 1 / 3, 0.0]]))


def test_no_rows_are_no_trouble() -> None:
    judge = fitted()

    raw, blame = judge.measure(torch.zeros(0, C), torch.zeros(0, C, dtype=torch.bool))

    assert list(raw.shape) == [0]
    assert list(blame.shape) == [0, C]


def test_a_channel_that_never_moved_is_believed_to_its_resolution() -> None:
    frames = residuals(500).astype(np.float64)
    frames[:, 3] = 0.0
    least = np.array([0.01, 0.01, 0.01, 1.0])

    covariance = shrunk_covariance(
        frames, np.ones((500, C), np.bool_), least=least, independent=500
    )

    assert covariance[3, 3] == pytest.approx(1.0)


def test_shrinkage_grows_as_frames_become_few() -> None:
    def correlation(count: int) -> float:
        frames = residuals(count).astype(np.float64)
        covariance = shrunk_covariance(
            frames, np.ones((count, C), np.bool_), least=np.full(C, 0.01), independent=count
        )
        raw = np.sqrt(np.square(frames).mean(0))
        empirical = float((frames[:, 0] * frames[:, 1]).mean() / (raw[0] * raw[1]))
        return float(covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])) / empirical

    assert correlation(20_000) == pytest.approx(1 - LEAST_SHRINKAGE, abs=0.005)
    assert correlation(12) < 0.97


def test_channels_never_seen_together_still_make_a_covariance() -> None:
    frames = residuals(300).astype(np.float64)
    seen = np.ones((300, C), np.bool_)
    seen[::2, 0] = False
    seen[1::2, 1] = False

    covariance = shrunk_covariance(frames, seen, least=np.full(C, 0.01), independent=300)

    assert np.linalg.eigvalsh(covariance).min() > 0


@pytest.mark.parametrize("channels", [1, 3, 9, 11, 24, 52])
def test_rows_have_the_same_bits_among_any_number_of_rows(channels: int) -> None:
    judge = Mahalanobis(channels, (1, 4))
    generator = torch.Generator().manual_seed(channels)
    mixing = torch.rand(channels, channels, generator=generator).double().numpy()
    judge.covariance = np.stack([np.eye(channels) + mixing @ mixing.T] * 2)
    z = torch.randn(300, 2 * channels, generator=generator)
    everything = torch.ones(300, channels, dtype=torch.bool)
    raw, blame = judge.measure(z, everything)

    for count in range(1, 301):
        some = judge.measure(z[300 - count :], everything[:count])
        assert torch.equal(some[0], raw[300 - count :])
        assert torch.equal(some[1], blame[300 - count :])

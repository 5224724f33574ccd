import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.surprise import SHRINKAGE, Mahalanobis, shrunk_covariance

C = 4
MIX = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.4, -0.6]])


def residuals(count: int, seed: int = 0) -> NDArray[np.float32]:
    """Coupled residuals [M, C]."""
    random = np.random.default_rng(seed)
    coupled = random.normal(size=(count, 2)) @ MIX.T + 0.3 * random.normal(size=(count, C))
    return coupled.astype(np.float32)


def fitted(*, spans: tuple[int, ...] = (1,), lags: int = 1) -> Mahalanobis:
    judge = Mahalanobis(C, spans, lags)
    smoothed, state = [], torch.zeros(1, judge.width)
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


@pytest.mark.parametrize("lags", [1, 3])
def test_blame_is_by_how_much_the_squared_distance_falls_without_the_channel(lags: int) -> None:
    judge = fitted(lags=lags)
    z = torch.from_numpy(residuals(5 * lags, 2)).view(5, judge.width)
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
    judge = fitted(spans=(1, 4), lags=3)
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(200, judge.width, generator=generator)
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

    covariance = shrunk_covariance(frames, np.ones((500, C), np.bool_), least=least)

    assert covariance[3, 3] == pytest.approx(1.0)


def test_correlations_are_shrunk_by_the_same_share_however_many_frames_there_are() -> None:
    for count in (200, 20_000):
        frames = residuals(count).astype(np.float64)
        covariance = shrunk_covariance(
            frames, np.ones((count, C), np.bool_), least=np.full(C, 0.01)
        )
        raw = np.sqrt(np.square(frames).mean(0))
        empirical = float((frames[:, 0] * frames[:, 1]).mean() / (raw[0] * raw[1]))
        shrunk = float(covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1]))

        assert shrunk / empirical == pytest.approx(1 - SHRINKAGE, abs=1e-6)


@pytest.mark.parametrize("frames", [12, 60, 1000])
def test_more_shrinkage_would_see_less_of_a_fault_however_few_the_frames(
    frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    channels = 20

    def found() -> float:
        """How often a faulty frame is farther off than a healthy one, over some machines."""
        shares = []
        for machine in range(20):
            random = np.random.default_rng(machine)
            mixing, noise = random.normal(size=(6, channels)), random.uniform(0.1, 0.6, channels)
            healthy = random.normal(size=(frames + 600, 6)) @ mixing
            healthy += random.normal(size=healthy.shape) * noise
            learnt, well, ill = np.split(healthy, [frames, frames + 300])
            ill[np.arange(300), random.integers(0, channels, 300)] += 1.0
            seen = np.ones(learnt.shape, np.bool_)
            covariance = shrunk_covariance(learnt, seen, least=np.full(channels, 0.01))
            form = np.linalg.inv(covariance)
            of_well, of_ill = (np.einsum("nc,cd,nd->n", z, form, z) for z in (well, ill))
            shares.append(float((of_ill[:, None] > of_well).mean()))
        return float(np.mean(shares))

    as_it_is = found()
    monkeypatch.setattr("models.surprise.SHRINKAGE", 0.2)
    assert found() < as_it_is - 0.005


def test_scales_are_compared_by_what_they_did_not_learn_from() -> None:
    judge = fitted(spans=(1, 64))  # the slow one has few independent frames, and knows them well
    alone = fitted(spans=(1,))

    assert judge.reference[0] == pytest.approx(alone.reference[0])  # the unit is the finest's
    assert judge.reference[1] > judge.reference[0]


def test_channels_never_seen_together_still_make_a_covariance() -> None:
    frames = residuals(300).astype(np.float64)
    seen = np.ones((300, C), np.bool_)
    seen[::2, 0] = False
    seen[1::2, 1] = False

    covariance = shrunk_covariance(frames, seen, least=np.full(C, 0.01))

    assert np.linalg.eigvalsh(covariance).min() > 0


@pytest.mark.parametrize(
    ("channels", "lags"),
    [(1, 1), (3, 1), (9, 1), (11, 1), (24, 1), (52, 1), (1, 9), (5, 2), (52, 3)],
)
def test_rows_have_the_same_bits_among_any_number_of_rows(channels: int, lags: int) -> None:
    judge = Mahalanobis(channels, (1, 4), lags)
    generator = torch.Generator().manual_seed(channels)
    size = len(judge.covariance[0])
    mixing = torch.rand(size, size, generator=generator).double().numpy()
    judge.covariance = np.stack([np.eye(size) + mixing @ mixing.T] * len(judge.covariance))
    z = torch.randn(300, judge.width, generator=generator)
    everything = torch.ones(300, channels, dtype=torch.bool)
    raw, blame = judge.measure(z, everything)

    for count in range(1, 301):
        some = judge.measure(z[300 - count :], everything[:count])
        assert torch.equal(some[0], raw[300 - count :])
        assert torch.equal(some[1], blame[300 - count :])


def test_lags_are_the_means_of_the_ticks_before_newest_first() -> None:
    judge = Mahalanobis(2, (1, 3), lags=3)
    everything = torch.ones(9, 2, dtype=torch.bool)
    residual = torch.arange(18.0).view(9, 2)
    counts = [3, 3, 2, 1]  # rows end one after the other
    state = judge.smooth(residual[:3], everything[:3], [3], torch.zeros(3, judge.width))

    swept = judge.smooth(residual, everything, counts, state)

    one_by_one, now = [], state
    for rows in torch.split(torch.arange(9), counts):
        now = judge.smooth(residual[rows], everything[rows], [len(rows)], now)
        one_by_one.append(now)
    assert torch.equal(swept, torch.cat(one_by_one))
    first = torch.tensor([0.0, 1.0, 0.0, 0.5])  # of the first row: as it came, and smoothed
    assert torch.equal(state[0], torch.cat([first, torch.zeros(8)]))
    assert torch.equal(swept[3, 8:], first)
    assert torch.equal(swept[3, 4:8], swept[0, :4])


def test_lags_know_how_a_channel_follows_another_in_time() -> None:
    def following(count: int, delay: int) -> NDArray[np.float32]:
        load = np.random.default_rng(4).normal(size=count)
        follower = np.roll(load, delay) + 0.1 * np.random.default_rng(5).normal(size=count)
        return np.stack([load, follower], 1).astype(np.float32)

    def raw(lags: int, delay: int) -> float:
        judge = Mahalanobis(2, (1,), lags)
        everything = torch.ones(2000, 2, dtype=torch.bool)

        def kept(frames: NDArray[np.float32]) -> Tensor:
            given = torch.from_numpy(frames)
            return judge.smooth(given, everything, [1] * 2000, torch.zeros(1, judge.width))

        judge.fit(kept(following(2000, 1)).numpy(), everything.numpy(), floor=np.full(2, 1e-3))
        return float(judge.measure(kept(following(2000, delay)), everything)[0].median())

    assert raw(2, 2) > 2.5 * raw(2, 1)
    assert raw(1, 2) < 1.1 * raw(1, 1)


@pytest.mark.parametrize("lags", [1, 3])
def test_a_small_lasting_shift_is_explained_by_the_scale_that_saw_it_and_by_how_far(
    lags: int,
) -> None:
    judge = fitted(spans=(1, 32), lags=lags)
    everything, state = valid("xxxx"), torch.zeros(1, judge.width)
    for row in torch.from_numpy(residuals(300, 4)):
        state = judge.smooth((row + torch.tensor([0.0, 0, 0.8, 0]))[None], everything, [1], state)

    found = judge.explain(state[0].numpy(), everything[0].numpy())

    assert found.ticks.tolist() == [32] * 4
    assert found.by[2] == pytest.approx(0.8, abs=0.15)
    assert found.times[2] == found.times.max() > 4


def test_what_is_explained_is_what_blame_is_made_of() -> None:
    judge = fitted()
    z = torch.from_numpy(residuals(1, 5))
    _, blame = judge.measure(z, valid("x.xx"))

    found = judge.explain(z[0].numpy(), valid("x.xx")[0].numpy())

    seen = [0, 2, 3]
    square = np.square(found.times[seen])
    np.testing.assert_allclose(square / square.sum(), blame[0, seen], rtol=1e-3)
    assert np.isnan([found.by[1], found.times[1]]).all()


def test_healthy_channels_lie_about_one_healthy_spread_off() -> None:
    judge = fitted()
    times = [judge.explain(row, np.ones(C, np.bool_)).times for row in residuals(500, 6)]

    np.testing.assert_allclose(np.sqrt(np.square(times).mean(0)), 1.0, atol=0.1)

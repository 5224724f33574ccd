import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.surprise import SHRINKAGE, Mahalanobis, SmoothingJudge, shrunk_covariance

C = 4
MIX = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.4, -0.6]])


def residuals(count: int, seed: int = 0) -> NDArray[np.float32]:
    """Coupled residuals [M, C]."""
    random = np.random.default_rng(seed)
    coupled = random.normal(size=(count, 2)) @ MIX.T + 0.3 * random.normal(size=(count, C))
    return coupled.astype(np.float32)


def fitted(*, spans: tuple[int, ...] = (1,), lags: int = 1) -> Mahalanobis:
    judge = Mahalanobis(C, spans, lags)
    smoothed = kept(judge, torch.from_numpy(residuals(2000)))
    known = np.ones((2000, len(spans) * C), np.bool_)
    judge.fit(smoothed.numpy(), known, floor=np.full(C, 1e-3))
    return judge


def nothing(judge: SmoothingJudge, rows: int = 1) -> tuple[Tensor, Tensor]:
    """What a judge keeps of rows of which it has not seen a tick."""
    return torch.zeros(rows, judge.width), torch.ones(rows, judge.width)


def kept(judge: SmoothingJudge, residual: Tensor) -> Tensor:
    """The means of one row after each tick, of which all is seen."""
    everything = torch.ones(residual.shape, dtype=torch.bool)
    return judge.smooth(residual, everything, [1] * len(residual), *nothing(judge))[0]


def shown(judge: SmoothingJudge, residual: Tensor, valid_T: Tensor) -> tuple[Tensor, ...]:
    """The same, with the shares and what is known, where the first channel is hidden at times."""
    seen = torch.ones(residual.shape, dtype=torch.bool)
    seen[:, 0] = valid_T
    residual = torch.where(seen, residual, 0.0)
    return judge.smooth(residual, seen, [1] * len(residual), *nothing(judge))


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


def test_a_small_lasting_shift_is_found_by_a_slow_scale_only() -> None:
    shifted = torch.from_numpy(residuals(300, 7)) + torch.tensor([0.0, 0.0, 1.2, 0.0])

    def last(spans: tuple[int, ...]) -> float:
        judge = fitted(spans=spans)
        return float(judge.measure(kept(judge, shifted)[-1:], valid("xxxx" * len(spans)))[0])

    assert last((1, 32)) > 2.0
    assert last((1,)) < 2.0


def test_a_mean_is_of_what_was_seen_alone() -> None:
    judge = Mahalanobis(2, (1, 3))
    before = torch.tensor([[1.0, 2.0, 3.0, 4.0]]), torch.tensor([[1.0, 1.0, 1.0, 0.5]])

    after, seen, _ = judge.smooth(torch.tensor([[5.0, 0.0]]), valid("x."), [1], *before)
    again, _, _ = judge.smooth(torch.tensor([[5.0, 7.0]]), valid("xx"), [1], after, seen)

    assert after.tolist() == [[5.0, 2.0, 4.0, 4.0]]  # alpha is 1 and 1/2
    torch.testing.assert_close(seen, torch.tensor([[1.0, 0.0, 1.0, 0.25]]), atol=1e-3, rtol=0)
    share = 0.5 / (0.5 + 0.5 * 0.25)  # of what is new, in what was seen
    wanted = torch.tensor([[5.0, 7.0, 4.5, 4.0 + 3.0 * share]])
    torch.testing.assert_close(again, wanted, atol=0.02, rtol=0)


def test_what_was_hidden_for_long_forgets_its_fault_and_is_judged_by_the_fine_scales_first() -> (
    None
):
    judge = Mahalanobis(2, (1, 16), lags=2)
    ticks = torch.arange(400)
    fault, hidden = (ticks >= 40) & (ticks < 100), (ticks >= 60) & (ticks < 300)
    residual = torch.where(fault, 50.0, 1.0)[:, None].repeat(1, 2)
    residual[:, 1] = 1.0

    means, _, known = shown(judge, residual, ~hidden)

    back = [int(known[300:, column].nonzero()[0]) for column in (0, 2)]
    assert back == [1, 12]  # two lags are seen then; three quarters of the slow mean, of both
    assert not known[60:300, [0, 2]].any()
    assert known[:, [1, 3]].all()
    fast, slow = (column + 4 * lag for lag in (0, 1) for column in (0, 2)), means[320:, [2, 6]]
    torch.testing.assert_close(means[301:, list(fast)][:, [0, 2]], torch.ones(99, 2))
    torch.testing.assert_close(slow, torch.ones(80, 2), atol=0.01, rtol=0)


def test_what_was_hidden_for_a_tick_goes_on_at_all_scales() -> None:
    judge = Mahalanobis(1, (1, 4, 64))
    random = torch.Generator().manual_seed(1)
    residual = 3.0 + torch.randn(300, 1, generator=random)

    means, _, known = shown(judge, residual, torch.arange(300) != 250)

    assert known[251:].all()
    assert not known[250].any()
    assert abs(float(means[251, 2] - means[249, 2])) < 0.2


def test_shares_come_back_to_one_so_that_bits_are_those_of_who_was_never_hidden() -> None:
    judge = Mahalanobis(2, (1, 64), lags=3)
    residual = torch.from_numpy(residuals(3000)[:, :2])

    means, seen, _ = shown(judge, residual, (torch.arange(3000) < 10) | (torch.arange(3000) >= 60))

    assert (seen[-1] == 1.0).all()
    assert torch.equal(means[:, 1], kept(judge, residual)[:, 1])


def test_a_channel_that_never_returns_keeps_clear_of_subnormal_numbers() -> None:
    judge = Mahalanobis(2, (1, 4))

    means, seen, known = shown(judge, torch.ones(3000, 2), torch.arange(3000) < 5)

    assert float(seen[-1].min()) > 1e-4
    assert float(means[-1].min()) > 0.1
    assert not known[5:, [0, 2]].any()


def test_a_sensor_that_returns_is_strange_to_nobody() -> None:
    judge = fitted(spans=(1, 32), lags=2)
    residual = torch.from_numpy(residuals(900, 9)) + torch.tensor(MIX @ [3.0, 0.0]).float()
    hidden = (torch.arange(900) >= 300) & (torch.arange(900) < 600)
    faulty = residual.clone()
    faulty[250:600, 0] += 20.0  # it is at fault for a while before it is hidden

    means, _, known = shown(judge, faulty, ~hidden)

    raw, _ = judge.measure(means, known)
    well, _ = judge.measure(kept(judge, residual), torch.ones_like(known))
    assert raw[250:300].max() > 5.0 * well.max()
    assert raw[300:].max() <= 1.2 * well.max()


def test_an_asset_that_just_came_up_is_not_strange() -> None:
    raw, blame = fitted(spans=(1, 16)).measure(torch.zeros(1, 2 * C), valid("xxx." * 2))

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
    state, all_of_it, _ = judge.smooth(residual[:3], everything[:3], [3], *nothing(judge, 3))

    swept, *_ = judge.smooth(residual, everything, counts, state, all_of_it)

    first = torch.tensor([0.0, 1.0, 0.0, 0.5])  # of the first row: as it came, and smoothed
    assert torch.equal(state[0], torch.cat([first, torch.zeros(8)]))
    assert torch.equal(swept[3, 8:], first)
    assert torch.equal(swept[3, 4:8], swept[0, :4])


@pytest.mark.parametrize("lags", [1, 3])
def test_smoothing_does_not_depend_on_who_else_is_hidden_or_on_how_ticks_are_cut(lags: int) -> None:
    judge = Mahalanobis(2, (1, 3), lags)
    generator = torch.Generator().manual_seed(lags)
    residual = torch.randn(20, 5, 2, generator=generator)  # ticks of five rows
    seen = torch.rand(20, 5, 2, generator=generator) > 0.3
    seen[:, 0] = True
    residual = torch.where(seen, residual, 0.0)

    swept = judge.smooth(residual.flatten(0, 1), seen.flatten(0, 1), [5] * 20, *nothing(judge, 5))

    for row in range(5):
        found, state = [], nothing(judge)
        for tick in range(20):
            now = judge.smooth(residual[tick, [row]], seen[tick, [row]], [1], *state)
            found.append(now)
            state = now[:2]
        for whole, parts in zip(swept, zip(*found, strict=True), strict=True):
            assert torch.equal(whole.view(20, 5, -1)[:, row], torch.cat(parts))


def test_lags_know_how_a_channel_follows_another_in_time() -> None:
    def following(count: int, delay: int) -> NDArray[np.float32]:
        load = np.random.default_rng(4).normal(size=count)
        follower = np.roll(load, delay) + 0.1 * np.random.default_rng(5).normal(size=count)
        return np.stack([load, follower], 1).astype(np.float32)

    def raw(lags: int, delay: int) -> float:
        judge = Mahalanobis(2, (1,), lags)
        everything = torch.ones(2000, 2, dtype=torch.bool)
        healthy, other = (
            kept(judge, torch.from_numpy(following(2000, ticks))) for ticks in (1, delay)
        )
        judge.fit(healthy.numpy(), everything.numpy(), floor=np.full(2, 1e-3))
        return float(judge.measure(other, everything)[0].median())

    assert raw(2, 2) > 2.5 * raw(2, 1)
    assert raw(1, 2) < 1.1 * raw(1, 1)


@pytest.mark.parametrize("lags", [1, 3])
def test_a_small_lasting_shift_is_explained_by_the_scale_that_saw_it_and_by_how_far(
    lags: int,
) -> None:
    judge = fitted(spans=(1, 32), lags=lags)
    residual = torch.from_numpy(residuals(300, 4)) + torch.tensor([0.0, 0, 0.8, 0])

    means = kept(judge, residual)
    found = judge.explain(means[-1].numpy(), np.ones(judge.copies * C, np.bool_))

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

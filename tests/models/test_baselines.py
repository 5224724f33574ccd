import numpy as np
import pytest
import torch
from support.machines import healthy

from models.baselines import Subspace
from models.settings import PcaSettings


def fitted(channels: int = 5, explained: float = 0.7) -> tuple[Subspace, torch.Tensor]:
    value = healthy(3000, 0, channels)
    scaled = ((value - value.mean(0)) / value.std(0)).astype(np.float32)
    judge = Subspace(channels, PcaSettings(explained=explained))
    twice = np.concatenate([scaled, scaled], 1)
    judge.fit(twice, np.ones(twice.shape, np.bool_), floor=np.full(channels, 1e-3))
    return judge, torch.from_numpy(twice)


def test_t2_and_spe_are_those_of_the_kept_components() -> None:
    judge, frames = fitted()
    z = frames[:20, :5].double().numpy()
    values, vectors = np.linalg.eigh(judge.covariance)
    plane, variance = vectors[:, -1:], values[-1:]  # one component explains 70 %
    t2 = np.square(z @ plane) @ (1 / variance)
    spe = np.square(z - z @ plane @ plane.T).sum(1)

    raw, _ = judge.measure(frames[:20], torch.ones(20, 10, dtype=torch.bool))

    largest = np.maximum(np.sqrt(t2) / judge.reference[0], np.sqrt(spe) / judge.reference[1])
    np.testing.assert_allclose(raw, largest, rtol=1e-4)


@pytest.mark.parametrize(("number", "statistic"), [(0, "t2"), (1, "spe")])
def test_one_of_the_two_distances_can_stand_alone(number: int, statistic: str) -> None:
    both, frames = fitted()
    valid = torch.ones(len(frames), 5, dtype=torch.bool)
    one = PcaSettings.model_validate({"explained": 0.7, "statistics": [statistic]})
    alone = Subspace(5, one)
    alone.fit(frames[:, :5].numpy(), valid.numpy(), floor=np.full(5, 1e-3))
    forms = both.forms(np.ones((2, 5), np.bool_))

    raw, _ = alone.measure(frames[:20, :5], valid[:20])

    z = frames[:20, :5].double().numpy()
    distance = np.sqrt(np.einsum("nc,cd,nd->n", z, forms[number], z))
    np.testing.assert_allclose(raw, distance / alone.reference[0], rtol=1e-4)


def test_a_missing_channel_is_filled_in_from_the_others() -> None:
    judge, frames = fitted()
    seen = torch.ones(1, 10, dtype=torch.bool)
    seen[0, [2, 7]] = False
    pick = [0, 1, 3, 4]
    z = frames[7, :5].double().numpy().copy()
    covariance = judge.covariance
    z[2] = covariance[2, pick] @ np.linalg.solve(covariance[np.ix_(pick, pick)], z[pick])
    filled = torch.from_numpy(np.concatenate([z, z])[None].astype(np.float32))

    masked, _ = judge.measure(frames[7:8], seen)
    complete, _ = judge.measure(filled, torch.ones(1, 10, dtype=torch.bool))

    torch.testing.assert_close(masked, complete, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("channels", "explained"), [(1, 0.9), (2, 0.999), (3, 0.01)])
def test_any_number_of_channels_has_a_plane(channels: int, explained: float) -> None:
    judge, frames = fitted(channels, explained)
    raw, blame = judge.measure(frames[:50], torch.ones(50, 2 * channels, dtype=torch.bool))

    assert torch.isfinite(raw).all()
    torch.testing.assert_close(blame.sum(1), torch.ones(50))

import numpy as np
import pytest
import torch
from support.machines import CHANNELS, QUICK, fleet, healthy
from torch import Tensor

from models.discriminator import LIMIT, SIZES, Discriminator
from models.settings import EwmaSettings
from models.training import train

C, SPANS = 4, (1, 16)


def smoothed(ticks: int, seed: int, shift: tuple[float, ...] = (0.0,) * C) -> Tensor:
    """What a judge keeps of a machine whose channels go together, after each tick."""
    judge = Discriminator(C, SPANS)
    value = (healthy(ticks, seed) - 50.0) / 3.0 + np.array(shift)
    seen = torch.ones(ticks, C, dtype=torch.bool)
    rows = torch.from_numpy(value.astype(np.float32))
    before = torch.zeros(1, judge.width), torch.ones(1, judge.width)
    return judge.smooth(rows, seen, [1] * ticks, *before)[0]


def everything(rows: int) -> Tensor:
    return torch.ones(rows, len(SPANS) * C, dtype=torch.bool)


@pytest.fixture(scope="module")
def judge() -> Discriminator:
    made = Discriminator(C, SPANS)
    frames = smoothed(1500, 1).numpy()
    made.fit(frames, everything(1500).numpy(), floor=np.full(C, 1e-3))
    return made


def planted(seed: int, spread: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """Frames before and after faults were planted, and where."""
    before, others = smoothed(4000, 2)[:2000], smoothed(4000, 2)[2000:]
    generator = torch.Generator().manual_seed(seed)
    after, faulty = Discriminator(C, SPANS).planted(
        before, others, torch.full((C,), spread), generator
    )
    return before, after, faulty


def by_channel(frames: Tensor) -> Tensor:
    """[M, S, C]."""
    return frames.view(len(frames), len(SPANS), C)


def test_only_channels_that_are_labelled_are_changed_and_all_of_them_are() -> None:
    before, after, faulty = planted(0)

    changed = (by_channel(before) != by_channel(after)).any(1)
    assert not changed[~faulty].any()
    assert changed[faulty].float().mean() > 0.999


def test_half_of_the_frames_stay_healthy_and_most_faults_leave_channels_alone() -> None:
    _, _, faulty = planted(0)

    assert 0.45 < faulty.any(1).float().mean() < 0.55
    assert (faulty.sum(1) == 1).float().mean() > 0.25
    assert faulty.float().mean(0).min() > 0.15


def test_the_same_seed_plants_the_same_faults_and_another_others() -> None:
    one, again, other = planted(3), planted(3), planted(4)

    assert torch.equal(one[1], again[1])
    assert torch.equal(one[2], again[2])
    assert not torch.equal(one[1], other[1])


def test_faults_are_no_larger_than_they_may_be() -> None:
    before, after, _ = planted(0, spread=1e3)  # beside it what is healthy is nothing
    moved = (by_channel(after) - by_channel(before)).abs()

    assert moved[:, 1].max() <= 1.05 * SIZES[1] * 1e3
    assert moved[:, 1].max() > 0.5 * SIZES[1] * 1e3


@pytest.mark.parametrize("channel", range(C))
def test_a_planted_fault_raises_the_score_and_the_right_channel_is_blamed(
    judge: Discriminator, channel: int
) -> None:
    well, _ = judge.measure(smoothed(600, 5), everything(600))
    shift = tuple(4.0 if n == channel else 0.0 for n in range(C))
    raw, blame = judge.measure(smoothed(600, 5, shift)[100:], everything(500))

    assert raw.median() > well.quantile(0.99)
    assert (blame.argmax(1) == channel).float().mean() > 0.9


def test_a_channel_that_goes_its_own_way_is_stranger_than_health(judge: Discriminator) -> None:
    well, other = smoothed(600, 5), smoothed(600, 6)
    broken = by_channel(well).clone()
    broken[:, :, 2] = by_channel(other)[:, :, 2]  # as healthy as any, by itself
    raw, _ = judge.measure(broken.flatten(1), everything(600))

    assert raw.median() > 2.0 * judge.measure(well, everything(600))[0].median()


def test_rows_have_the_same_bits_among_any_number_of_rows(judge: Discriminator) -> None:
    z = smoothed(300, 7)
    known = torch.rand(300, 2 * C, generator=torch.Generator().manual_seed(1)) > 0.2
    raw, blame = judge.measure(z, known)

    for count in range(1, 301):
        some_raw, some_blame = judge.measure(z[-count:], known[-count:])
        assert torch.equal(some_raw, raw[-count:])
        assert torch.equal(some_blame, blame[-count:])


def test_what_is_not_known_is_not_looked_at_and_nothing_known_accuses_nobody(
    judge: Discriminator,
) -> None:
    z, known = smoothed(50, 8), everything(50)
    known[:, [1, C + 1, C + 2]], known[40:] = False, False
    wild = by_channel(z).clone()
    wild[:, :, 1] = 100.0
    wild[:, 1, 2] = 100.0
    raw, blame = judge.measure(z, known)

    assert torch.equal(judge.measure(wild.flatten(1), known)[0], raw)
    assert (blame[:, 1] == 0).all()
    torch.testing.assert_close(blame[:40].sum(1), torch.ones(40))
    assert raw[40:].tolist() == [0.0] * 10
    assert (blame[40:] == 0).all()


def test_numbers_beyond_all_measure_stay_finite(judge: Discriminator) -> None:
    raw, blame = judge.measure(torch.full((3, judge.width), 1e6 * LIMIT), everything(3))

    assert bool(torch.isfinite(raw).all())
    assert bool(torch.isfinite(blame).all())


def test_trained_twice_loaded_again_and_moved_it_gives_the_same_bits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("models.discriminator.STEPS", 40)
    settings = EwmaSettings(spans=SPANS, judge="discriminator")
    one, again = (train(fleet(300), CHANNELS, settings, QUICK).bundle for _ in range(2))
    assert one.hash == again.hash

    loaded = settings.build(C)
    loaded.load_tensors(one.detector.tensors())
    rows = torch.from_numpy(healthy(60, 9).astype(np.float32)) - 50.0
    seen = torch.ones(60, C, dtype=torch.bool)
    swept, _ = one.detector.sweep(rows, seen, [1] * 60, one.detector.initial(1))
    other, _ = loaded.sweep(rows, seen, [1] * 60, loaded.initial(1))
    moved = loaded.to("cpu:0")  # takes the code of a GPU
    there, _ = moved.sweep(rows, seen, [1] * 60, moved.initial(1))

    assert torch.equal(swept.raw, other.raw)
    assert torch.equal(swept.blame, other.blame)
    torch.testing.assert_close(there.raw, swept.raw, atol=1e-4, rtol=1e-4)


def test_fitting_leaves_the_global_generator_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.discriminator.STEPS", 5)
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    Discriminator(C, SPANS).fit(
        smoothed(200, 1).numpy(), everything(200).numpy(), floor=np.full(C, 1e-3)
    )

    assert torch.equal(torch.rand(3), expected)


def test_a_channel_that_only_slow_scales_know_has_its_say(judge: Discriminator) -> None:
    frames = smoothed(200, 5, shift=(0.0, 4.0, 0.0, 0.0))[-1:]
    known = everything(1)
    known[0, 1] = False  # the finest scale of the second channel

    _, blame = judge.measure(frames, known)

    assert blame[0].argmax() == 1

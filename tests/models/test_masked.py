import numpy as np
import pytest
import torch
from support.machines import CHANNELS, QUICK, healthy, stretch
from torch import Tensor

from models.contract import Stretch
from models.masked import Masked, MaskedGru, MaskedLstm, dealt
from models.settings import MaskedGruSettings
from models.training import train

KINDS = [MaskedGru, MaskedLstm]


def estimator(kind: type[MaskedGru] | type[MaskedLstm], *, channels: int = 5) -> Masked:
    """One with weights that are large enough to matter."""
    made = kind(channels, 8, 3)
    generator = torch.Generator().manual_seed(4)
    made.load_tensors(
        {
            name: x if name in ("group", "floor") else torch.randn(x.shape, generator=generator)
            for name, x in made.tensors().items()
        }
    )
    return made


def readings(ticks: int, rows: int, channels: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    value = torch.randn(ticks, rows, channels, generator=generator)
    return value, torch.rand(ticks, rows, channels, generator=generator) > 0.2


@pytest.mark.parametrize("kind", KINDS)
def test_the_step_says_what_the_whole_sequence_says(
    kind: type[MaskedGru] | type[MaskedLstm],
) -> None:
    step = estimator(kind)
    value, valid = readings(60, 7)
    with torch.inference_mode():
        state = step.initial(7)
        mean, spread, after = step.sequence(value, valid, state)
        for t in range(60):
            expected, sure, state = step.step(value[t], valid[t], state)
            assert (expected - mean[t]).abs().max() <= 1e-4
            assert (sure / spread[t] - 1).abs().max() <= 1e-4

    assert all((part - after[name]).abs().max() <= 1e-4 for name, part in state.items())


@pytest.mark.parametrize("kind", KINDS)
def test_no_channel_is_estimated_by_a_memory_that_ever_saw_its_group(
    kind: type[MaskedGru] | type[MaskedLstm],
) -> None:
    step = estimator(kind)
    value, valid = readings(10, 1)
    group = step.network.group

    def estimates(changed: int | None) -> Tensor:
        given, state, said = value.clone(), step.initial(1), []
        if changed is not None:
            given[:, :, changed] += 3.0
        for t in range(10):
            expected, spread, state = step.step(given[t], torch.ones_like(valid[t]), state)
            said.append(torch.cat([expected, spread]))
        return torch.stack(said)

    with torch.inference_mode():
        before = estimates(None)
        for channel in range(5):
            same = (estimates(channel) == before).flatten(0, 1).all(0)
            assert torch.equal(same, group == group[channel])


def test_the_estimate_of_a_tick_sees_the_other_channels_of_that_tick() -> None:
    step = estimator(MaskedGru)
    value, valid = readings(1, 1)
    with torch.inference_mode():
        one, _, _ = step.step(value[0], torch.ones_like(valid[0]), step.initial(1))
        value[0, 0, 0] += 3.0
        other, _, _ = step.step(value[0], torch.ones_like(valid[0]), step.initial(1))

    assert bool((one != other)[0, 1:].any())
    assert one[0, 0] == other[0, 0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [3, 5, 8])
def test_a_row_has_the_same_bits_among_any_number_of_rows(
    kind: type[MaskedGru] | type[MaskedLstm], channels: int
) -> None:
    step = estimator(kind, channels=channels)
    value, valid = readings(2, 300, channels)

    def run(rows: Tensor) -> list[Tensor]:
        state, found = step.initial(len(rows)), []
        for t in range(2):
            expected, spread, state = step.step(value[t][rows], valid[t][rows], state)
            found += [expected, spread, *state.values()]
        return found

    with torch.inference_mode():
        together = run(torch.arange(300))
        for count in (*range(1, 34), 64, 100, 255, 300):
            rows = torch.randperm(300, generator=torch.Generator().manual_seed(count))[:count]
            assert all(torch.equal(a[rows], b) for a, b in zip(together, run(rows), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_each_memory_is_given_value_and_validity_of_the_others_and_nothing_else(
    kind: type[MaskedGru] | type[MaskedLstm],
) -> None:
    step = estimator(kind)
    given = []
    step.network.cell.register_forward_pre_hook(lambda _cell, inputs: given.append(inputs[0]))
    value, valid = readings(7, 2)
    with torch.inference_mode():
        step.sequence(value, valid, step.initial(2))

    seen = torch.where(valid, value, 0.0)
    for group in range(3):
        shown = (step.network.group != group).float()
        wanted = torch.cat([seen * shown, valid * shown], 2)
        assert torch.equal(given[0].view(7, 2, 3, 10)[:, :, group], wanted)


def test_kin_are_dealt_apart_and_copies_stay_together() -> None:
    random = np.random.default_rng(0)
    load, heat = random.normal(size=(2, 3000))
    noise = random.normal(size=(3000, 8))
    # three of the load, a copy of the first; three of the heat; one alone
    kin = np.stack([load, load, load, load, heat, heat, heat, noise[:, 7]], 1)
    value = kin + noise * [0.5, 0.5, 0.5, 0.0, 0.5, 0.5, 0.5, 1.0]
    value[:, 3] = value[:, 0] * 40.0 + 7.0
    valid = random.random(value.shape) > 0.1

    group = dealt(value.astype(np.float32), valid, 4)

    assert group[0] == group[3]
    assert len({*group[[0, 1, 2]]}) == 3
    assert len({*group[[4, 5, 6]]}) == 3
    assert sorted(np.bincount(group, minlength=4)) == [2, 2, 2, 2]


def test_channels_that_never_moved_are_dealt_too() -> None:
    value = np.zeros((50, 3), np.float32)

    assert sorted(dealt(value, np.ones(value.shape, np.bool_), 3)) == [0, 1, 2]
    assert dealt(value[:, :1], np.ones((50, 1), np.bool_), 1).tolist() == [0]


def test_fewer_channels_than_groups_make_fewer_groups() -> None:
    runs = [stretch(healthy(250, n, 2), asset=f"a{n}") for n in range(2)]

    bundle = train(runs, CHANNELS[:2], MaskedGruSettings(hidden=4, spans=(1,)), QUICK).bundle

    assert bundle.initial(3)["hidden"].shape == (3, 2, 4)


def test_the_groups_are_kept_in_the_bundle() -> None:
    def like(n: int) -> Stretch:
        value = healthy(250, n)
        value[:, 3] = value[:, 0] + 1.0  # a copy
        return stretch(value, asset=f"a{n}")

    settings = MaskedGruSettings(hidden=4, spans=(1,), groups=2)
    tensors = train([like(0), like(1)], CHANNELS, settings, QUICK).bundle.detector.tensors()

    group = tensors["predictor.group"].tolist()
    assert group[0] == group[3]
    assert sorted(group) == [0, 0, 1, 1]

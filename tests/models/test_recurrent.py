import pytest
import torch
from torch import Tensor, nn

from models import recurrent
from models.recurrent import (
    Forecaster,
)
from models.settings import GruSettings, LstmSettings, RecurrentSettings

KINDS = [GruSettings, LstmSettings]


def forecaster(settings: type[RecurrentSettings], channels: int, hidden: int) -> Forecaster:
    predictor = settings(hidden=hidden).build(channels).predictor
    assert isinstance(predictor, Forecaster)
    predictor.network.start(torch.Generator().manual_seed(3))
    predictor.refresh()
    return predictor


def readings(ticks: int, rows: int, channels: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(4)
    value = 3 * torch.randn(ticks, rows, channels, generator=generator)
    return value, torch.rand(ticks, rows, channels, generator=generator) > 0.1


@pytest.mark.parametrize("settings", KINDS)
@pytest.mark.parametrize(("channels", "hidden"), [(8, 64), (5, 32), (1, 4), (3, 20)])
def test_the_step_is_the_sequence_form_after_a_thousand_ticks(
    settings: type[RecurrentSettings], channels: int, hidden: int
) -> None:
    step = forecaster(settings, channels, hidden)
    value, valid = readings(1000, 3, channels)
    nothing = tuple(torch.zeros(3, hidden) for _ in step.states)
    state = step.initial(3)
    with torch.inference_mode():
        mean, log_spread, _ = step.network(torch.where(valid, value, 0.0), valid.float(), nothing)
        for t in range(1000):
            expected, spread, state = step.step(value[t], valid[t], state)
            assert (expected - mean[t]).abs().max() <= 3e-5
            assert (spread - log_spread[t].exp()).abs().max() <= 3e-5


@pytest.mark.parametrize("settings", KINDS)
def test_many_ticks_at_once_are_those_ticks_one_by_one(
    settings: type[RecurrentSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    step = forecaster(settings, 3, 8)
    value, valid = readings(40, 5, 3)
    monkeypatch.setattr(recurrent, "SEQUENCE_FLOATS", 7 * 5 * 8)  # seven ticks a piece
    with torch.inference_mode():
        _, _, begun = step.step(value[0] + 1, valid[0], step.initial(5))
        mean, spread, after = step.sequence(value, valid, begun)
        state = begun
        for t in range(40):
            expected, sure, state = step.step(value[t], valid[t], state)
            assert (expected - mean[t]).abs().max() <= 3e-5
            assert (sure - spread[t]).abs().max() <= 3e-5

    assert all((part - after[name]).abs().max() <= 3e-5 for name, part in state.items())


@pytest.mark.parametrize("settings", KINDS)
@pytest.mark.parametrize(("channels", "hidden"), [(8, 64), (5, 36), (1, 4)])
def test_a_row_has_the_same_bits_among_any_number_of_rows(
    settings: type[RecurrentSettings], channels: int, hidden: int
) -> None:
    step = forecaster(settings, channels, hidden)
    value, valid = readings(2, 300, channels)

    def run(rows: Tensor) -> list[Tensor]:
        state = step.initial(len(rows))
        found = []
        for t in range(2):
            expected, spread, state = step.step(value[t][rows], valid[t][rows], state)
            found += [expected, spread, *state.values()]
        return found

    with torch.inference_mode():
        together = run(torch.arange(300))
        generator = torch.Generator().manual_seed(5)
        for count in range(1, 301):
            rows = torch.randperm(300, generator=generator)[:count]
            alone = run(rows)
            assert all(torch.equal(a[rows], b) for a, b in zip(together, alone, strict=True))


@pytest.mark.parametrize("settings", KINDS)
def test_more_rows_than_a_tile_are_the_same_rows(
    settings: type[RecurrentSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    step = forecaster(settings, 3, 8)
    value, valid = readings(1, 50, 3)
    with torch.inference_mode():
        whole = step.step(value[0], valid[0], step.initial(50))
        monkeypatch.setattr(recurrent, "TILE", 16)
        tiled = step.step(value[0], valid[0], step.initial(50))

    assert torch.equal(whole[0], tiled[0])
    assert torch.equal(whole[1], tiled[1])
    assert all(torch.equal(part, tiled[2][name]) for name, part in whole[2].items())


@pytest.mark.parametrize("settings", KINDS)
def test_old_work_space_goes_before_it_is_too_much(
    settings: type[RecurrentSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    step = forecaster(settings, 3, 8)
    monkeypatch.setattr(recurrent, "WORK_ROWS", 60)
    value, valid = readings(1, 50, 3)
    for count in (50, 10, 9, 50):
        step.step(value[0][:count], valid[0][:count], step.initial(count))
        assert sum(step._work) <= 60


@pytest.mark.parametrize("settings", KINDS)
def test_the_forecast_of_a_tick_does_not_see_it(settings: type[RecurrentSettings]) -> None:
    step = forecaster(settings, 2, 8)
    value, valid = readings(1, 4, 2)
    with torch.inference_mode():
        expected, _, state = step.step(value[0], valid[0], step.initial(4))
        other, _, other_state = step.step(value[0] + 1, valid[0], step.initial(4))

    assert torch.equal(expected, other)
    assert not torch.equal(state["hidden"], other_state["hidden"])


@pytest.mark.parametrize("settings", KINDS)
def test_the_network_is_given_value_and_validity_and_nothing_else(
    settings: type[RecurrentSettings],
) -> None:
    network = forecaster(settings, 5, 8).network
    given = []
    network.cell.register_forward_pre_hook(lambda _cell, inputs: given.append(inputs[0]))
    value, valid = readings(7, 2, 5)
    value = torch.where(valid, value, 0.0)
    nothing = tuple(torch.zeros(2, 8) for _ in range(2 if settings is LstmSettings else 1))

    network(value, valid.float(), nothing)

    assert torch.equal(given[0], torch.cat([value, valid.float()], 2))


@pytest.mark.parametrize("settings", KINDS)
def test_no_forecast_is_surer_than_the_sensor_resolves(settings: type[RecurrentSettings]) -> None:
    step = forecaster(settings, 2, 8)
    with torch.no_grad():
        step.network.head.bias[2:] = -20.0  # claims to know to nine digits
    step.prepare([], [], torch.tensor([0.5, 1e-9]))
    value, valid = readings(1, 3, 2)
    with torch.inference_mode():
        _, spread, _ = step.step(value[0], valid[0], step.initial(3))

    assert torch.allclose(spread, torch.tensor([0.5, recurrent.LEAST_FLOOR]))


@pytest.mark.parametrize("settings", KINDS)
def test_weights_of_another_size_are_named(settings: type[RecurrentSettings]) -> None:
    small = settings(hidden=4).build(2)
    tensors = settings(hidden=8).build(2).tensors()
    del tensors["judge.reference"]
    tensors["predictor.extra"] = torch.zeros(1)

    with pytest.raises(ValueError, match=r"head.weight: want .*\[4, 4\], got .*\[4, 8\]") as caught:
        small.load_tensors(tensors)

    assert "judge.reference is missing" in str(caught.value)
    assert "predictor.extra is not known" in str(caught.value)


def test_making_a_network_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(9)
    expected = torch.rand(2)
    torch.manual_seed(9)

    GruSettings(hidden=8).build(3)

    assert torch.equal(torch.rand(2), expected)


def test_the_sequence_form_is_torchs_own_gru() -> None:
    network = forecaster(GruSettings, 2, 8).network

    assert type(network.cell) is nn.GRU


def test_whatever_is_no_plain_cpu_keeps_floats_whole() -> None:
    backends = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [backend.allow_tf32 for backend in backends]
    for backend in backends:
        backend.allow_tf32 = True
    try:
        GruSettings(hidden=8).build(2).to("cpu:0")
        assert not any(backend.allow_tf32 for backend in backends)
    finally:
        for backend, allowed in zip(backends, before, strict=True):
            backend.allow_tf32 = allowed

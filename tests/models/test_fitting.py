import functools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from support.machines import CHANNELS, QUICK, fleet

from models.crossfit import scaled_run
from models.fitting import Dropout, losses, penalty, rate
from models.gradient import GradientFit
from models.recurrent import Forecaster
from models.scaling import Scaling
from models.settings import LstmSettings, MaskedGruSettings, RecurrentSettings, TrainingSettings
from models.training import train

LSTM = LstmSettings(hidden=4, spans=(1, 4))


def fit(
    settings: TrainingSettings, ticks: int = 250, *, model: RecurrentSettings = LSTM
) -> GradientFit:
    stretches = fleet(ticks)
    predictor = model.build(4).predictor
    assert isinstance(predictor, Forecaster)
    runs = [scaled_run(one, Scaling.fit(stretches)) for one in stretches]
    return GradientFit(predictor, runs, settings, fold=0)


def fitted(**given: object) -> GradientFit:
    made = fit(
        TrainingSettings.model_validate({"epochs": 6, "chunk_ticks": 50, "device": "cpu"} | given)
    )
    while not made.finished:
        made.run_epoch(lambda: False)
    return made


ALL = {
    "sgd": {"optimizer": "sgd", "momentum": 0.9, "learning_rate": 0.05},
    "sgd alone": {"optimizer": "sgd", "learning_rate": 0.1},
    "rmsprop": {"optimizer": "rmsprop", "momentum": 0.5, "learning_rate": 3e-3},
    "betas": {"betas": (0.8, 0.99), "learning_rate": 1e-2},
    "cosine": {"schedule": "cosine", "warmup_epochs": 2, "learning_rate": 1e-2},
    "step": {"schedule": "step", "schedule_epochs": 2, "learning_rate": 1e-2},
    "plateau": {
        "schedule": "plateau",
        "schedule_epochs": 1,
        "min_delta": 0.05,
        "learning_rate": 0.03,
    },
    "mse": {"loss": "mse", "learning_rate": 1e-2},
    "mae": {"loss": "mae", "learning_rate": 1e-2},
    "huber": {"loss": "huber", "learning_rate": 1e-2},
    "held small": {"l1": 1e-4, "l2": 1e-3, "dropout": 0.3, "learning_rate": 1e-2},
    "free": {"gradient_norm": None, "batch_size": 1, "learning_rate": 3e-3},
}


@functools.cache
def stayed_where_it_was(name: str) -> GradientFit:
    return fitted(epochs=4, **ALL[name])


@pytest.mark.parametrize("name", ALL)
def test_every_way_to_fit_gets_better_and_is_taken_up_again_to_the_same_bits(name: str) -> None:
    stayed = stayed_where_it_was(name)
    settings, moved, validation = stayed.settings, fit(stayed.settings), []
    while not moved.finished:
        validation.append(moved.run_epoch(lambda: False)[1])
        tensors, numbers = moved.capture()
        moved = fit(settings)
        moved.restore(tensors, numbers)

    told = stayed.finish()
    assert told == moved.finish()
    assert told.validation_loss < validation[0] - 0.01
    ends = moved.forecaster.tensors()
    assert all(torch.equal(x, ends[key]) for key, x in stayed.forecaster.tensors().items())


def test_each_of_them_ends_with_weights_of_its_own() -> None:
    ends = {name: stayed_where_it_was(name).network.head.bias.tolist() for name in ALL}

    assert len({tuple(bias) for bias in ends.values()}) == len(ALL)


@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
def test_where_the_loss_knows_no_spread_it_is_the_error_of_each_channel(loss: str) -> None:
    made = fitted(loss=loss, learning_rate=1e-2, epochs=12)
    made.finish()
    squares, count, spread = np.zeros(4), 0, np.zeros(0)
    for mean, log_spread, chunk in made._forecasts():
        spread = log_spread.exp().numpy()
        counts = (chunk.counts[..., 0] > 0).numpy()
        squares += ((chunk.value - mean).numpy()[counts] ** 2).sum(0)
        count += counts.sum()

    assert np.allclose(spread, np.sqrt(squares / count), rtol=1e-4)
    assert (spread == spread[0, 0]).all()
    assert 0.1 < spread.min() < spread.max() < 1.0


def test_a_model_of_squares_sees_a_planted_fault_as_one_of_the_likelihood_does() -> None:
    settings = QUICK.model_copy(update={"epochs": 6, "loss": "mse"})
    runs = fleet(400)
    bundle = train(runs, CHANNELS, LSTM, settings).bundle
    broken = replace(runs[0], value=runs[0].value.copy())
    broken.value[300:, 2] += 6.0
    state, surprise = bundle.initial(1), []
    for row in broken.value:
        judged, state = bundle.step(row[None], np.ones((1, 4), np.bool_), state)
        surprise.append(float(judged.surprise[0]))

    assert max(surprise[300:310]) > max(surprise[50:300])


def test_losses_are_as_they_are_written_down() -> None:
    error, log_spread = torch.tensor([0.5, -3.0]), torch.tensor([math.log(2.0), 0.0])

    assert losses("mse", error, log_spread).tolist() == [0.25, 9.0]
    assert losses("mae", error, log_spread).tolist() == [0.5, 3.0]
    assert losses("huber", error, log_spread).tolist() == [0.125, 2.5]
    assert torch.allclose(
        losses("likelihood", error, log_spread), torch.tensor([0.03125 + math.log(2.0), 4.5])
    )


def test_the_step_of_each_schedule() -> None:
    def steps(cuts: int = 0, **given: object) -> list[float]:
        settings = TrainingSettings.model_validate({"epochs": 6, "learning_rate": 1.0} | given)
        return [round(rate(settings, epoch, cuts), 3) for epoch in range(6)]

    assert steps() == [1.0] * 6
    assert steps(warmup_epochs=3) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert steps(schedule="cosine", warmup_epochs=2) == [0.333, 0.667, 1.0, 0.854, 0.5, 0.146]
    assert steps(schedule="step", schedule_epochs=2) == [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
    assert steps(schedule="plateau", cuts=2, schedule_factor=0.1) == [0.01] * 6


def test_a_plateau_makes_the_step_smaller_and_a_better_loss_does_not() -> None:
    made = fit(
        TrainingSettings(
            epochs=50, patience=4, schedule="plateau", schedule_epochs=2, min_delta=9.0
        )
    )
    rates = []
    while not made.finished:
        rates.append(made.rate)
        made.run_epoch(lambda: False)

    assert rates == [3e-3, 3e-3, 3e-3, 1.5e-3, 1.5e-3]  # the first is always better
    made = fit(TrainingSettings(epochs=6, learning_rate=1e-2, schedule="plateau"))
    while not made.finished:
        made.run_epoch(lambda: False)
    assert made.rate == 1e-2


def test_penalties_are_of_weights_and_not_of_biases() -> None:
    layer = torch.nn.Linear(2, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[3.0, -4.0]]))
        layer.bias.fill_(100.0)

    cost = penalty(layer, TrainingSettings(l1=0.1, l2=0.01))

    assert cost is not None
    assert float(cost.detach()) == pytest.approx(0.1 * 7 + 0.005 * 25)
    assert penalty(layer, TrainingSettings()) is None


def test_penalties_keep_weights_small() -> None:
    def size(**given: object) -> float:
        weights = fitted(learning_rate=1e-2, **given).network.cell.weight_hh_l0
        return float(weights.detach().square().sum())

    assert size(l2=1e-1) < size()
    assert size(l1=1e-2) < size()


def test_dropout_hides_the_same_parts_for_all_ticks_and_none_when_not_training() -> None:
    dropout, generator = Dropout(), torch.Generator().manual_seed(0)
    memory = torch.ones(5, 200, 8)
    assert torch.equal(dropout(memory), memory)  # nobody gave it anything to draw with

    dropout.share = 0.25
    dropout.draw = lambda *shape: torch.rand(shape, generator=generator)
    seen = dropout(memory)

    assert torch.equal(seen, seen[:1].expand_as(seen))
    assert sorted(seen.unique().tolist()) == pytest.approx([0.0, 4 / 3])
    assert abs(float(seen.mean()) - 1.0) < 0.05
    assert torch.equal(dropout.eval()(memory), memory)


def test_scores_are_made_without_dropout() -> None:
    made = fitted(dropout=0.9)
    made.finish()
    value = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(0))
    valid = torch.ones(3, 2, 4, dtype=torch.bool)
    sequence, _, _ = made.forecaster.sequence(value, valid, made.forecaster.initial(2))
    state, one = made.forecaster.initial(2), []
    for tick, seen in zip(value, valid, strict=True):
        expected, _, state = made.forecaster.step(tick, seen, state)
        one.append(expected)

    assert torch.allclose(sequence, torch.stack(one), atol=1e-5)


@pytest.mark.parametrize("given", [{"dropout": 0.3}, {"loss": "mse"}], ids=["dropout", "mse"])
def test_a_masked_estimator_is_fitted_in_the_same_ways(given: dict[str, object]) -> None:
    model = MaskedGruSettings(hidden=4, groups=2)
    plain, made = (fit(QUICK.model_copy(update=more), model=model) for more in ({}, given))
    first = made.run_epoch(lambda: False)

    assert first[0] != plain.run_epoch(lambda: False)[0]
    assert made.run_epoch(lambda: False)[1] < first[1]
    spread = torch.cat([log_spread.exp() for _, log_spread, _ in made._forecasts()])
    assert (len(spread.flatten(0, 1).unique(dim=0)) == 1) == (given == {"loss": "mse"})


def test_a_gradient_that_is_not_cut_may_be_longer() -> None:
    cut, free = fit(TrainingSettings(epochs=1)), fit(TrainingSettings(gradient_norm=None))
    for made in (cut, free):
        made.run_epoch(lambda: False)

    assert cut.gradient_norm > 0  # told as it was before
    assert free.gradient_norm > 0


def test_a_small_batch_makes_more_steps_of_longer_rows() -> None:
    wide, narrow = fit(TrainingSettings(), 5000), fit(TrainingSettings(batch_size=2), 5000)

    assert len(wide.rows) > 2 * len(narrow.rows)


def test_mixed_precision_wants_a_gpu() -> None:
    with pytest.raises(ValueError, match="precision bf16: wants a GPU"):
        fit(TrainingSettings(precision="bf16", device="cpu"))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"schedule": "plateau", "patience": 3}, "schedule_epochs: got 3, want fewer than pat"),
        ({"epochs": 5, "warmup_epochs": 5}, "warmup_epochs: got 5, want fewer than epochs"),
        ({"dropout": 1.0}, "less than 1"),
        ({"gradient_norm": 0}, "greater than 0"),
    ],
)
def test_settings_that_can_do_nothing_are_refused(given: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        TrainingSettings.model_validate(given)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_mixed_precision_learns_what_whole_floats_learn_and_scores_in_whole_floats() -> None:
    def learnt(precision: str) -> float:
        settings = QUICK.model_copy(
            update={"epochs": 8, "device": "cuda", "precision": precision, "learning_rate": 1e-2}
        )
        trained = train(fleet(500), CHANNELS, LSTM, settings)
        assert all(t.dtype != torch.bfloat16 for t in trained.bundle.detector.tensors().values())
        assert trained.fits[-1].beats_mean
        return trained.fits[-1].validation_loss

    assert abs(learnt("bf16") - learnt("float32")) < 0.05

import numpy as np
import torch
from support.machines import fleet, stretch

from models.crossfit import scaled_run
from models.gradient import Batch, GradientFit, Run
from models.recurrent import WARMUP_TICKS, Forecaster
from models.scaling import Scaling
from models.settings import LstmSettings, TrainingSettings


def runs(ticks: int = 250) -> list[Run]:
    stretches = fleet(ticks)
    return [scaled_run(one, Scaling.fit(stretches)) for one in stretches]


def fit(settings: TrainingSettings) -> GradientFit:
    predictor = LstmSettings(hidden=4).build(4).predictor
    assert isinstance(predictor, Forecaster)
    return GradientFit(predictor, runs(), settings, fold=0)


def test_moved_elsewhere_after_every_epoch_it_ends_the_same_though_the_best_is_long_gone() -> None:
    settings = TrainingSettings(epochs=5, patience=5, learning_rate=0.3, device="cpu")
    stayed, moved = fit(settings), fit(settings)
    losses = []
    while not stayed.finished:
        losses.append(stayed.run_epoch(lambda: False)[1])
        tensors, numbers = moved.capture()
        moved = fit(settings)
        moved.restore(tensors, numbers)
        moved.run_epoch(lambda: False)
    tensors, numbers = moved.capture()
    moved = fit(settings)
    moved.restore(tensors, numbers)
    stayed.finish()
    moved.finish()

    assert np.argmin(losses) < len(losses) - 1  # or this would prove nothing
    assert moved.best_loss == stayed.best_loss == min(losses)
    for name, tensor in stayed.forecaster.tensors().items():
        assert torch.equal(tensor, moved.forecaster.tensors()[name])


def test_a_fit_tells_what_it_kept_and_why_it_stopped() -> None:
    impatient = fit(TrainingSettings(epochs=50, patience=1, learning_rate=0.3, device="cpu"))
    losses = []
    while not impatient.finished:
        losses.append(impatient.run_epoch(lambda: False))
    told = impatient.finish()

    best = min(range(len(losses)), key=lambda n: losses[n][1])
    assert (told.training_loss, told.validation_loss) == losses[best]
    assert (told.epochs, told.best_epoch) == (len(losses), best + 1)
    assert told.stopped_early

    limited = fit(TrainingSettings(epochs=1, device="cpu"))
    limited.run_epoch(lambda: False)
    assert not limited.finish().stopped_early


def test_a_network_that_learnt_nothing_does_no_better_than_the_mean() -> None:
    noise = np.random.default_rng(0).normal(size=(300, 4))
    flat = stretch(noise)
    predictor = LstmSettings(hidden=4).build(4).predictor
    assert isinstance(predictor, Forecaster)
    own = scaled_run(flat, Scaling.fit([flat]))
    of_noise = GradientFit(predictor, [own], TrainingSettings(epochs=1, device="cpu"), fold=0)
    of_noise.run_epoch(lambda: False)
    learning = fit(TrainingSettings(epochs=8, learning_rate=1e-2, chunk_ticks=50, device="cpu"))
    while not learning.finished:
        learning.run_epoch(lambda: False)

    assert abs(of_noise.finish().mean_loss - 0.5) < 0.1  # half of a variance of one
    assert not of_noise.finish().beats_mean
    assert learning.finish().beats_mean


def test_warm_up_and_filling_do_not_count_in_the_loss() -> None:
    batch = Batch.of([run.part(0, n) for run, n in zip(runs(), (60, 40, 33), strict=True)], "cpu")

    assert batch.counts[:WARMUP_TICKS].sum() == 0
    assert batch.counts.sum((0, 2)).tolist() == [28, 8, 1]


def test_a_channel_that_falls_out_is_still_to_be_forecast() -> None:
    half = fit(TrainingSettings(channel_dropout=0.5, device="cpu"))
    chunk = half._batch(half.rows)

    value, given = half._disturbed(chunk)

    dropped = given.sum(0) == 0
    assert 0 < dropped.sum() < dropped.numel()
    assert (value.abs().sum(0) > 0).all()


def test_a_channel_that_reports_on_change_holds_its_value_until_it_moved_enough() -> None:
    often = fit(TrainingSettings(channel_dropout=0.9, device="cpu"))
    chunk = often._batch(often.rows)

    value, _ = often._disturbed(chunk)

    seen = chunk.valid > 0
    assert ((value - chunk.value).abs()[seen] <= 0.5).all()
    steps = value.diff(dim=0)
    assert (steps == 0).float().mean() > 0.2
    assert torch.equal(value[0], chunk.value[0])


def test_without_dropout_nothing_is_disturbed() -> None:
    calm = fit(TrainingSettings(channel_dropout=0.0, device="cpu"))
    chunk = calm._batch(calm.rows)

    value, given = calm._disturbed(chunk)

    assert torch.equal(value, chunk.value)
    assert torch.equal(given, chunk.valid)


def test_the_last_part_of_each_assets_time_is_kept_for_validation() -> None:
    ticks = np.arange(200, dtype=np.float64)[:, None].repeat(4, 1)
    scaling = Scaling(mean=(0.0,) * 4, deviation=(1.0,) * 4, resolution=(1.0,) * 4)
    predictor = LstmSettings(hidden=4).build(4).predictor
    assert isinstance(predictor, Forecaster)
    counted = scaled_run(stretch(ticks), scaling)

    one = GradientFit(predictor, [counted], TrainingSettings(validation_share=0.25), fold=0)

    assert max(row.value.max() for row in one.rows) == 149
    assert one.validating[0].value[WARMUP_TICKS, 0] == 150

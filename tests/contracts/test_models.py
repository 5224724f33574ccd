"""What every kind of model keeps to, whichever are found."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from _pytest.mark import ParameterSet
from numpy.typing import NDArray
from pydantic import BaseModel, TypeAdapter
from support.machines import CHANNELS, QUICK, column, fleet, healthy

import models
from models.bundle import Bundle, OwnScaling
from models.contract import Judgement, State
from models.settings import (
    DetectorSettings,
    EnsembleSettings,
    EwmaSettings,
    RecurrentSettings,
    TrainingSettings,
)
from models.training import train

F64 = NDArray[np.float64]
Mask = NDArray[np.bool_]

SMALL = {"hidden": 8, "spans": (1, 4, 16)}
LAGGED = ("ewma", "lstm")  # with lags; the others without
TICKS = 1000
PLANTED = 2  # the channel that faults are planted on


def small(kind: str) -> DetectorSettings:
    """The settings of a kind, made small where it has a size."""
    settings = models.discover()[kind]
    if settings is EnsembleSettings:
        return EnsembleSettings(members=(small("gru"), small("ewma"), small("pca")))
    given = SMALL | ({"lags": 3} if kind in LAGGED else {})
    return settings(**{key: x for key, x in given.items() if key in settings.model_fields})


def kinds() -> Iterator[ParameterSet]:
    """Every kind there is; those that are trained by gradients take their time."""
    for name, settings in models.discover().items():
        slow = issubclass(settings, RecurrentSettings | EnsembleSettings)
        yield pytest.param(name, marks=[pytest.mark.slow, pytest.mark.timeout(90)] if slow else [])


@pytest.fixture(scope="module", params=kinds())
def kind(request: pytest.FixtureRequest) -> str:
    torch.set_num_threads(1)
    return str(request.param)


@pytest.fixture(scope="module")
def bundle(kind: str) -> Bundle:
    """Trained on three machines, for long enough to be of use."""
    settings = TrainingSettings(epochs=15, learning_rate=2e-2, chunk_ticks=40, device="cpu")
    return train(fleet(TICKS), CHANNELS, small(kind), settings).bundle


def run(
    bundle: Bundle, value_TNC: F64, valid_TNC: Mask | None = None
) -> tuple[list[Judgement], State]:
    """Step through all ticks."""
    valid = np.ones(value_TNC.shape, np.bool_) if valid_TNC is None else valid_TNC
    state = bundle.initial(value_TNC.shape[1])
    judged = []
    for now, seen in zip(value_TNC, valid, strict=True):
        judgement, state = bundle.step(now, seen, state)
        judged.append(judgement)
    return judged, state


def swept(bundle: Bundle, value_TNC: F64, valid_TNC: Mask | None = None) -> Judgement:
    """The same in one sweep: columns [T, N, ...]."""
    valid = np.ones(value_TNC.shape, np.bool_) if valid_TNC is None else valid_TNC
    ticks, rows, channels = value_TNC.shape
    judged, _ = bundle.sweep(
        value_TNC.reshape(-1, channels),
        valid.reshape(-1, channels),
        [rows] * ticks,
        bundle.initial(rows),
    )
    columns = {field.name: getattr(judged, field.name) for field in fields(Judgement)}
    return Judgement(**{n: x.reshape(ticks, rows, *x.shape[1:]) for n, x in columns.items()})


def surprise(bundle: Bundle, value_TC: F64, valid_TC: Mask | None = None) -> NDArray[np.float32]:
    """[T] of one machine."""
    valid = None if valid_TC is None else valid_TC[:, None]
    return swept(bundle, value_TC[:, None], valid).surprise[:, 0]


def same(one: Sequence[Judgement], other: Sequence[Judgement], rows: NDArray[np.int64]) -> bool:
    """Whether rows of the one are the other, to the bit."""
    return all(
        np.array_equal(getattr(a, field.name)[rows], getattr(b, field.name))
        for a, b in zip(one, other, strict=True)
        for field in fields(Judgement)
    )


def patchy(ticks: int, rows: int) -> tuple[F64, Mask]:
    """Values of many machines, with channels missing here and there, and machines all blind."""
    random = np.random.default_rng(5)
    value = np.stack([healthy(ticks, 100 + n) for n in range(rows)], axis=1)
    valid = random.random(value.shape) > 0.15
    valid[1::3, rows // 2] = False
    return np.where(valid, value, np.nan), valid


def test_all_kinds_are_found() -> None:
    found = {"gru", "lstm", "masked_gru", "masked_lstm", "ewma", "pca", "ensemble"}

    assert found <= set(models.discover())


def test_a_configuration_names_a_model_by_its_type(kind: str) -> None:
    parsed: BaseModel = TypeAdapter(models.ModelSettings).validate_python({"type": kind})

    assert type(parsed) is models.discover()[kind]


def test_every_setting_is_described(kind: str) -> None:
    described = models.discover()[kind].model_fields.items()

    assert [name for name, field in described if name != "type" and not field.description] == []


def test_a_batch_of_eight_equals_eight_batches_of_one(bundle: Bundle) -> None:
    value, valid = patchy(6, 8)
    together, _ = run(bundle, value, valid)

    for row in range(8):
        pick = np.array([row])
        alone, _ = run(bundle, value[:, pick], valid[:, pick])
        assert same(together, alone, pick)


def test_rows_have_the_same_bits_in_any_company(bundle: Bundle) -> None:
    value, valid = patchy(3, 300)
    together, _ = run(bundle, value, valid)
    random = np.random.default_rng(0)

    for count in (*range(1, 34), 63, 64, 65, 127, 200, 299, 300):
        rows = random.permutation(300)[:count]
        some, _ = run(bundle, value[:, rows], valid[:, rows])
        assert same(together, some, rows), f"{count} rows"


def test_permuting_rows_permutes_scores(bundle: Bundle) -> None:
    value, valid = patchy(5, 21)
    rows = np.random.default_rng(1).permutation(21)

    assert same(run(bundle, value, valid)[0], run(bundle, value[:, rows], valid[:, rows])[0], rows)


def test_stepping_in_pieces_with_the_state_kept_is_stepping_in_one_go(bundle: Bundle) -> None:
    value, valid = patchy(20, 11)
    whole, _ = run(bundle, value, valid)
    random = np.random.default_rng(2)
    table = bundle.initial(11)
    for tick, judgement in enumerate(whole):
        rest = random.permutation(11)
        for rows in np.split(rest, sorted(random.integers(0, 12, 2))):  # pieces of any size
            before = {name: part[torch.from_numpy(rows)] for name, part in table.items()}
            some, after = bundle.step(value[tick, rows], valid[tick, rows], before)
            assert same([judgement], [some], rows)
            for name, part in after.items():
                table[name][torch.from_numpy(rows)] = part


def test_a_detector_is_given_scaled_value_and_validity_and_nothing_else(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[object, ...]] = []
    sweep = bundle.detector.sweep
    monkeypatch.setattr(bundle.detector, "sweep", lambda *seen: given.append(seen) or sweep(*seen))
    value, valid = patchy(1, 9)

    state = bundle.initial(9)
    bundle.step(value[0], valid[0], state)

    scaled, usable = bundle.card.scaling.apply(value[0], valid[0])
    ((shown, seen, counts, before),) = given
    assert torch.equal(shown, torch.from_numpy(scaled))
    assert torch.equal(seen, torch.from_numpy(usable))
    assert counts == [9]  # rows of the tick, as a sweep takes many
    assert before is state


def test_a_row_scaled_by_its_own_has_the_same_bits_whoever_else_is_there(bundle: Bundle) -> None:
    ranges = bundle.card.data
    own = {
        name: OwnScaling(
            scaling=bundle.card.scaling.model_copy(
                update={"mean": tuple(mean + shift for mean in bundle.card.scaling.mean)}
            ),
            learnt=next(iter(ranges.values())),
        )
        for name, shift in (("m1", 5.0), ("m4", -3.0))
    }
    adopted = bundle.with_own(own)
    names = [f"m{n}" for n in range(9)]
    value, valid = patchy(20, 9)

    def judged(rows: list[int]) -> list[Judgement]:
        state, found = adopted.initial(len(rows)), []
        scale = adopted.scale_of([names[row] for row in rows])
        for now, seen in zip(value[:, rows], valid[:, rows], strict=True):
            one, state = adopted.step(now, seen, state, scale)
            found.append(one)
        return found

    everybody, pooled = judged(list(range(9))), run(bundle, value, valid)[0]
    for rows in ([1], [4, 1], [8, 0, 4, 2], [3]):
        alone = judged(rows)
        for field in fields(Judgement):
            want = column(everybody, field.name)[:, rows]
            np.testing.assert_array_equal(column(alone, field.name), want)
    for field in fields(Judgement):
        theirs, ours = column(pooled, field.name), column(everybody, field.name)
        others = [n for n in range(9) if n not in (1, 4)]
        np.testing.assert_array_equal(ours[:, others], theirs[:, others])
    assert (column(everybody, "raw")[:, 1] != column(pooled, "raw")[:, 1]).any()


def test_the_state_given_is_left_as_it_was(bundle: Bundle) -> None:
    value, valid = patchy(5, 9)
    _, state = run(bundle, value, valid)
    before = {name: part.clone() for name, part in state.items()}

    bundle.step(value[0], valid[0], state)
    bundle.step(value[1], valid[1], state)

    assert all(torch.equal(part, before[name]) for name, part in state.items())


def test_frames_with_nothing_valid_stay_finite_and_accuse_nobody(bundle: Bundle) -> None:
    value = np.full((30, 3, 4), np.nan)
    value[10:20] = healthy(10, 3)[:, None]
    judged, state = run(bundle, value, np.isfinite(value))

    for field in fields(Judgement):
        assert np.isfinite(column(judged, field.name)).all()
    assert (column(judged, "raw")[:10] == 0).all()
    assert (column(judged, "blame")[20:] == 0).all()
    assert all(bool(torch.isfinite(part).all()) for part in state.values())


@pytest.mark.parametrize("wild", [1e300, -1e300, np.inf, np.nan])
def test_a_wild_value_leaves_everything_finite(bundle: Bundle, wild: float) -> None:
    value = healthy(40, 8)[:, None].copy()
    value[20, 0, 1] = wild

    judged, state = run(bundle, value)

    for field in fields(Judgement):
        assert np.isfinite(column(judged, field.name)).all()
    assert all(bool(torch.isfinite(part).all()) for part in state.values())


def test_blame_is_shared_among_the_valid_and_sums_to_one(bundle: Bundle) -> None:
    value, valid = patchy(30, 7)
    blame = column(run(bundle, value, valid)[0], "blame")

    assert (blame[~valid] == 0).all()
    assert (blame >= 0).all()
    total = blame.sum(2)
    knows = total > 0  # else too little was seen lately to go by
    np.testing.assert_allclose(total[knows], 1.0, atol=1e-5)
    assert knows[valid.any(2)].mean() > 0.9


def test_expected_and_spread_are_in_the_units_of_the_channels(bundle: Bundle) -> None:
    value = healthy(400, 31)
    judged = swept(bundle, value[:, None])
    expected, spread = judged.expected[100:, 0], judged.spread[100:, 0]
    error = (value[100:] - expected) / spread

    assert np.abs(error).mean() < 1.5
    assert 0.5 < error.std() < 1.5


def test_saved_and_loaded_it_gives_the_same_bits(bundle: Bundle, tmp_path: Path) -> None:
    value, valid = patchy(12, 5)
    bundle.save(tmp_path / "model")
    again = Bundle.load(tmp_path / "model", device="cpu")

    assert again.hash == bundle.hash
    assert again.card == bundle.card
    assert same(run(bundle, value, valid)[0], run(again, value, valid)[0], np.arange(5))


def test_the_same_seed_and_data_give_the_same_bundle(kind: str) -> None:
    first, second = (train(fleet(300), CHANNELS, small(kind), QUICK).bundle for _ in range(2))

    assert first.hash == second.hash


def test_what_a_model_learns_does_not_depend_on_when_it_was(kind: str) -> None:
    early = train(fleet(300), CHANNELS, small(kind), QUICK).bundle
    late = train(fleet(300, start=10_000_000), CHANNELS, small(kind), QUICK).bundle

    assert early.card.weights_sha256 == late.card.weights_sha256
    assert early.card.calibration == late.card.calibration


def test_values_that_are_not_valid_are_not_looked_at(bundle: Bundle) -> None:
    value, valid = patchy(15, 6)
    other = np.where(valid, value, 1e9)

    assert same(run(bundle, value, valid)[0], run(bundle, other, valid)[0], np.arange(6))


def test_training_leaves_the_global_generators_alone(kind: str) -> None:
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002 - the global generator is what is looked at
    expected = torch.rand(3), np.random.random(3)  # noqa: NPY002 - as above
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002 - as above

    train(fleet(300), CHANNELS, small(kind), QUICK)

    assert torch.equal(torch.rand(3), expected[0])
    assert np.array_equal(np.random.random(3), expected[1])  # noqa: NPY002 - as above


def with_step(value: F64) -> F64:
    """One channel jumps, and stays."""
    faulty = value.copy()
    faulty[500:, PLANTED] += 6.0
    return faulty


def with_break(value: F64) -> F64:
    """One channel goes its own healthy-looking way: only how it goes with the others is wrong."""
    faulty = value.copy()
    faulty[500:, PLANTED] = healthy(len(value), 77)[500:, PLANTED]
    return faulty


@pytest.mark.parametrize("planted", [with_step, with_break])
def test_a_planted_fault_scores_above_every_healthy_frame_and_is_blamed(
    bundle: Bundle, planted: Callable[[F64], F64]
) -> None:
    value = healthy(800, 50)
    well = surprise(bundle, value)
    judged = swept(bundle, planted(value)[:, None])
    ill, raw = judged.surprise[:, 0], judged.raw[:, 0]
    loud = np.flatnonzero(raw > bundle.card.calibration.largest)

    assert np.array_equal(well[:500], ill[:500])
    assert ill[500:].max() > well.max() + 1.0
    assert len(loud) > 0
    assert loud[0] >= 500
    blame = judged.blame[loud, 0].mean(0)
    assert blame.argmax() == PLANTED


@pytest.fixture(scope="module")
def calm(bundle: Bundle) -> NDArray[np.float32]:
    """What surprises it of machines that are well, once it is warm."""
    return swept(bundle, well_machines()).surprise[bundle.warmup_ticks :]


def well_machines() -> F64:
    return np.stack([healthy(700, seed) for seed in range(51, 57)], axis=1)


@pytest.mark.parametrize("dead", range(4))
def test_a_dead_channel_that_is_masked_does_not_look_like_a_fault(
    bundle: Bundle, calm: NDArray[np.float32], dead: int
) -> None:
    value = well_machines()
    value[400:, :, dead] = 0.0
    valid = np.ones(value.shape, np.bool_)
    unmasked = swept(bundle, value, valid).surprise[400:]
    valid[400:, :, dead] = False

    masked = swept(bundle, value, valid).surprise[400:]

    assert masked.max() < calm.max() + 0.5  # half a decade: these models are trained in seconds
    assert masked.mean() < 1.2 * calm.mean()
    assert unmasked.max() > calm.max() + 3.0


def test_300_healthy_rows_before_move_no_score_after_the_warm_up(bundle: Bundle) -> None:
    value = healthy(900, 52)
    with_past = surprise(bundle, value)[300:]
    without = surprise(bundle, value[300:])

    warm = bundle.warmup_ticks
    assert np.abs(with_past - without)[warm:].max() <= 1e-3


@pytest.mark.parametrize(
    "given",
    [
        {"judge": "nearest"},
        {"score_span": 16},
        {"level_span": 32},
        {"level_span": 16, "spread_span": 32, "judge": "nearest", "score_span": 8},
    ],
)
def test_nor_do_they_where_levels_drift_and_scores_are_smoothed(given: dict[str, object]) -> None:
    settings = EwmaSettings.model_validate({"spans": (1, 4, 16), **given})
    drifting = train(fleet(TICKS), CHANNELS, settings, QUICK).bundle

    test_300_healthy_rows_before_move_no_score_after_the_warm_up(drifting)


def test_a_constant_channel_does_not_alarm_on_its_last_digit(kind: str) -> None:
    runs = fleet(400)
    for one in runs:
        one.value[:, 3] = 20.0
        one.value[50::100, 3] = 20.1  # its resolution, seen now and then
    bundle = train(runs, CHANNELS, small(kind), QUICK).bundle
    value = healthy(400, 60)
    value[:, 3] = 20.0
    flipped = value.copy()
    flipped[300, 3] = 20.1

    assert surprise(bundle, flipped)[300] < surprise(bundle, value)[300] + 1.0


# ---- on a GPU -----------------------------------------------------------------------------------

# "cpu:0" takes the code of a GPU: whatever is not plainly "cpu" does
cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
on_a_gpu = [pytest.mark.gpu, pytest.mark.slow, pytest.mark.timeout(180), cuda]
devices = pytest.mark.parametrize("device", ["cpu:0", pytest.param("cuda", marks=on_a_gpu)])


def moved(bundle: Bundle, device: str, folder: Path) -> Bundle:
    """The same bundle on a device of its own."""
    bundle.save(folder)
    loaded = Bundle.load(folder, device="cpu")
    return replace(loaded, detector=loaded.detector.to(device))


@devices
def test_a_gpu_scores_as_the_cpu_does(bundle: Bundle, device: str, tmp_path: Path) -> None:
    value, valid = patchy(200, 40)
    there = moved(bundle, device, tmp_path / "model")

    here_judged, here = run(bundle, value, valid)
    there_judged, after = run(there, value, valid)

    for name in ("surprise", "expected", "spread"):
        difference = column(here_judged, name) - column(there_judged, name)
        assert np.abs(difference).max() <= 1e-3
    for name, part in here.items():
        assert (part - after[name].cpu()).abs().max() <= 1e-4


@devices
def test_a_gpu_takes_many_ticks_at_once_and_scores_the_same(
    bundle: Bundle, device: str, tmp_path: Path
) -> None:
    value, valid = patchy(120, 9)
    there = moved(bundle, device, tmp_path / "model")
    counts = [9] * 50 + [6] + [5] * 39 + [1] * 30  # rows end one after the other
    value_RC = np.concatenate([now[:count] for now, count in zip(value, counts, strict=False)])
    valid_RC = np.concatenate([now[:count] for now, count in zip(valid, counts, strict=False)])

    judged, here = bundle.sweep(value_RC, valid_RC, counts, bundle.initial(9))
    other, after = there.sweep(value_RC, valid_RC, counts, there.initial(9))

    for name in ("surprise", "expected", "spread"):
        assert np.abs(getattr(judged, name) - getattr(other, name)).max() <= 1e-3
    for name, part in here.items():
        assert (part - after[name].cpu()).abs().max() <= 1e-4


@pytest.mark.gpu
@cuda
def test_auto_takes_the_gpu_there_is_and_keeps_floats_whole(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    bundle.save(tmp_path / "model")

    loaded = Bundle.load(tmp_path / "model", device="auto")

    assert loaded.detector.device == "cuda"
    assert {part.device.type for part in loaded.initial(1).values()} == {"cuda"}
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


@pytest.mark.gpu
@pytest.mark.timeout(180)
@cuda
def test_what_a_gpu_trained_scores_on_a_cpu(kind: str, tmp_path: Path) -> None:
    settings = TrainingSettings(epochs=3, learning_rate=1e-2, chunk_ticks=40, device="cuda")
    trained = train(fleet(400), CHANNELS, small(kind), settings).bundle
    trained.save(tmp_path / "model")
    value, valid = patchy(60, 5)

    loaded = Bundle.load(tmp_path / "model", device="cpu")

    assert loaded.hash == trained.hash
    there, _ = run(trained, value, valid)
    here, _ = run(loaded, value, valid)
    difference = column(there, "surprise") - column(here, "surprise")
    assert np.abs(difference).max() <= 1e-3

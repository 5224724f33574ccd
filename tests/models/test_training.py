import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.machines import CHANNELS, QUICK, fleet, healthy, stretch

from models.contract import Stretch
from models.crossfit import Piece, Record, folds_of
from models.scaling import Scales, Scaling
from models.settings import EwmaSettings, GruSettings, LstmSettings, TrainingSettings
from models.training import Epoch, Interrupted, Trained, _cross_scores, train

GRU = GruSettings(hidden=4, spans=(1, 4))
LSTM = LstmSettings(hidden=4, spans=(1, 4))
EWMA = EwmaSettings(spans=(1, 4))


def stop_after(asked: int) -> Callable[[], bool]:
    """Says stop when asked for the n-th time."""
    count = 0

    def should_stop() -> bool:
        nonlocal count
        count += 1
        return count > asked

    return should_stop


def train_small(checkpoint: Path | None, should_stop: Callable[[], bool]) -> Trained:
    return train(fleet(250), CHANNELS, LSTM, QUICK, checkpoint=checkpoint, should_stop=should_stop)


@pytest.fixture(scope="module")
def asked() -> list[bool]:
    """What an uninterrupted training was told when it asked whether to stop."""
    return []


@pytest.fixture(scope="module")
def uninterrupted(asked: list[bool]) -> Trained:
    def should_stop() -> bool:
        asked.append(False)
        return False

    return train_small(None, should_stop)


# Nothing done yet, within an epoch, scoring what a fold holds out, in a later fold, the last epoch.
@pytest.mark.parametrize("share", [0.0, 0.005, 0.01, 0.03, 0.2, 0.35, 0.7, 0.98, 0.999])
def test_stopped_and_taken_up_again_it_ends_with_the_same_bits(
    share: float, tmp_path: Path, uninterrupted: Trained, asked: list[bool]
) -> None:
    checkpoint = tmp_path / "checkpoint"
    with pytest.raises(Interrupted) as caught:
        train_small(checkpoint, stop_after(int(share * len(asked))))
    assert caught.value.checkpoint == checkpoint

    resumed = train_small(checkpoint, lambda: False)

    assert resumed.bundle.hash == uninterrupted.bundle.hash
    for one, other in zip(resumed.held_out, uninterrupted.held_out, strict=True):
        assert np.array_equal(one.surprise, other.surprise)
    assert checkpoint.exists(), "whoever saves the bundle removes it"


def test_stopped_again_and_again_it_ends_with_the_same_bits(
    tmp_path: Path, uninterrupted: Trained
) -> None:
    checkpoint = tmp_path / "checkpoint"
    stops = 0
    for patience in range(10, 3000, 15):  # a little further each time: scoring is done again
        try:
            trained = train_small(checkpoint, stop_after(patience))
        except Interrupted:
            stops += 1
        else:
            break

    assert stops >= 2
    assert trained.bundle.hash == uninterrupted.bundle.hash


def test_stopped_without_a_checkpoint_it_keeps_nothing() -> None:
    with pytest.raises(Interrupted, match="nothing is kept") as caught:
        train(fleet(250), CHANNELS, LSTM, QUICK, should_stop=lambda: True)

    assert caught.value.checkpoint is None


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(
            fleet(250), CHANNELS, LSTM, QUICK, checkpoint=tmp_path / "c", should_stop=lambda: True
        )

    with pytest.raises(ValueError, match="of another training"):
        train(fleet(251), CHANNELS, LSTM, QUICK, checkpoint=tmp_path / "c")


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]"])
def test_a_broken_checkpoint_is_refused_in_words(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(Interrupted):
        train(
            fleet(250), CHANNELS, LSTM, QUICK, checkpoint=tmp_path / "c", should_stop=lambda: True
        )
    (tmp_path / "c" / "checkpoint.json").write_bytes(content)

    with pytest.raises(ValueError, match="Remove it to start anew"):
        train(fleet(250), CHANNELS, LSTM, QUICK, checkpoint=tmp_path / "c")


def test_progress_counts_folds_and_epochs_from_one() -> None:
    told: list[Epoch] = []

    train(fleet(250), CHANNELS, GRU, QUICK, progress=told.append)

    assert [(now.fit, now.fits, now.epoch, now.epochs) for now in told] == [
        (fold, 4, epoch, 2) for fold in (1, 2, 3, 4) for epoch in (1, 2)
    ]
    assert {now.what for now in told} == {"model"}
    assert all(now.learning_rate == QUICK.learning_rate and now.gradient_norm > 0 for now in told)


def test_each_fit_is_told_also_of_those_done_before_a_stop(
    tmp_path: Path, uninterrupted: Trained, asked: list[bool]
) -> None:
    with pytest.raises(Interrupted):
        train_small(tmp_path / "c", stop_after(len(asked) // 2))
    kept = json.loads((tmp_path / "c" / "checkpoint.json").read_bytes())
    assert kept["fits"], "or this would prove nothing"

    resumed = train_small(tmp_path / "c", lambda: False)

    assert len(uninterrupted.fits) == 4
    assert resumed.fits == uninterrupted.fits
    kept_loss = uninterrupted.bundle.card.metrics["validation_loss"]
    assert kept_loss == uninterrupted.fits[-1].validation_loss
    assert train(fleet(250), CHANNELS, EWMA, QUICK).fits == ()


def test_another_seed_gives_another_model() -> None:
    one, other = (
        train(fleet(250), CHANNELS, LSTM, QUICK.model_copy(update={"seed": seed}))
        for seed in (1, 2)
    )

    assert one.bundle.card.weights_sha256 != other.bundle.card.weights_sha256


def test_training_learns_what_comes_next() -> None:
    losses: list[float] = []
    settings = TrainingSettings(epochs=8, learning_rate=1e-2, chunk_ticks=50, device="cpu")

    train(
        fleet(500),
        CHANNELS,
        LSTM,
        settings,
        progress=lambda now: losses.append(now.validation_loss),
    )

    assert losses[-1] < losses[-8] - 0.2  # nats a value


def test_it_stops_when_validation_no_longer_gets_better() -> None:
    told: list[int] = []
    settings = TrainingSettings(epochs=50, patience=1, learning_rate=0.3, device="cpu")

    train(fleet(250), CHANNELS, LSTM, settings, progress=lambda now: told.append(now.epoch))

    assert max(told) < 50


def test_the_order_of_the_stretches_does_not_matter() -> None:
    runs = fleet(250)

    one = train(runs, CHANNELS, EWMA, QUICK).bundle
    other = train(runs[::-1], CHANNELS, EWMA, QUICK).bundle

    assert one.hash == other.hash


def test_each_asset_is_scored_by_a_model_that_never_saw_it() -> None:
    runs = fleet(600)
    offset = replace(runs[2], value=runs[2].value + 8.0)  # this unit reads higher

    trained = train([*runs[:2], offset], CHANNELS, EWMA, QUICK)

    highest = {one.asset: float(one.surprise[~one.warming].mean()) for one in trained.held_out}
    assert highest["a2"] > max(highest["a0"], highest["a1"])
    assert len(trained.held_out) == 3


def test_each_fold_is_judged_by_what_the_others_held() -> None:
    run = stretch(healthy(400, 1))
    noise = np.random.default_rng(0).normal(size=(400, 4)).astype(np.float32)
    quiet, loud = (
        [Record(Piece(run, 0), scale * noise, run.valid, run.valid, np.ones(400, np.bool_))]
        for scale in (1.0, 10.0)
    )

    scores = _cross_scores(
        EwmaSettings(spans=(1,)).build(4).judge, [quiet, loud], Scales(Scaling.fit([run]), {})
    )

    assert np.median(scores[1] / scores[0]) == pytest.approx(100.0, rel=0.01)


def test_of_one_asset_blocks_of_time_are_held_out_and_every_tick_is_scored_once() -> None:
    runs = [stretch(healthy(500, 1)), stretch(healthy(300, 2), start=1000)]

    trained = train(runs, CHANNELS, EWMA, QUICK)

    tick = np.concatenate([one.tick for one in trained.held_out])
    assert sorted(tick) == sorted(np.concatenate([run.tick for run in runs]))
    warming = np.concatenate([one.warming for one in trained.held_out])
    assert warming.sum() == 2 * trained.bundle.warmup_ticks  # once at the start of each run


def test_no_tick_is_both_learnt_from_and_counted_in_one_fold() -> None:
    for runs in (fleet(300, assets=6), [stretch(healthy(999, 1))]):
        for fold in folds_of(runs, 20):
            learnt = {(run.asset, int(t)) for run in fold.learning for t in run.tick}
            held = {
                (piece.stretch.asset, int(t))
                for piece in fold.held
                for t in piece.stretch.tick[piece.lead :]
            }
            assert held
            assert not learnt & held
            assert len(learnt | held) == sum(map(len, runs))


def test_held_out_scores_say_coverage_and_warm_up() -> None:
    runs = fleet(300)
    runs[1].valid[100:150, :2] = False
    runs[1].valid[200:210] = False

    trained = train(runs, CHANNELS, EWMA, QUICK)

    one = trained.held_out[1]
    assert one.coverage[99] == 1.0
    assert one.coverage[120] == 0.5
    assert one.coverage[205] == 0.0
    assert one.warming.sum() == trained.bundle.warmup_ticks == 16


def test_the_card_says_what_the_model_was_made_from() -> None:
    card = train(fleet(300), CHANNELS, GRU, QUICK).bundle.card

    assert card.kind == "gru"
    assert card.channels == CHANNELS
    assert card.tick_ms == 1000
    assert card.data["a1"].frames == 300
    assert card.data["a1"].last == 299 * 10**9
    assert card.seeds == (0,)
    assert card.metrics["folds"] == 3
    assert card.threshold is None
    assert card.training["epochs"] == 2


def test_what_stands_where_nothing_was_valid_does_not_matter() -> None:
    runs = fleet(300)
    runs[0].valid[50:90, 1] = False
    other = replace(runs[0], value=np.where(runs[0].valid, runs[0].value, 1e6))

    one = train(runs, CHANNELS, EWMA, QUICK).bundle
    two = train([other, *runs[1:]], CHANNELS, EWMA, QUICK).bundle

    assert one.hash == two.hash


def flat(value: float) -> Callable[[Stretch], Stretch]:
    return lambda run: replace(run, value=np.full(run.value.shape, value))


def never_valid(run: Stretch) -> Stretch:
    run.valid[:, 2] = False
    return run


def torn(run: Stretch) -> Stretch:
    tick = run.tick.copy()
    tick[100:] += 10**9
    return replace(run, tick=tick)


def narrow(run: Stretch) -> Stretch:
    return replace(run, value=run.value[:, :3])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (flat(50.0), "every channel is constant over 900 frames"),
        (never_valid, "no valid value of c2 in 900 frames"),
        (torn, "without gaps"),
        (narrow, r"stretch of a0: want value and valid \[300, 4\], got \[300, 3\]"),
    ],
)
def test_data_that_make_no_model_are_refused_in_words(
    spoil: Callable[[Stretch], Stretch], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        train([spoil(run) for run in fleet(300)], CHANNELS, EWMA, QUICK)


@pytest.mark.parametrize(
    ("runs", "words"),
    [
        ([], "no frame in which a machine ran, want .* Correct `running`"),
        (fleet(15), "longer than the model's warm-up of 16 ticks; the longest of 3 has 15"),
        (fleet(30), "at least 200 frames, got 90"),
        (fleet(20, assets=12), "at least 100 healthy frames after warm-up"),
    ],
)
def test_too_little_data_are_refused_in_words(runs: list[Stretch], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        train(runs, CHANNELS, EWMA, QUICK)


def test_a_loss_that_is_no_number_is_an_error_in_words() -> None:
    settings = QUICK.model_copy(update={"learning_rate": 1e30})

    with pytest.raises(ValueError, match="loss is not finite after epoch 1"):
        train(fleet(250), CHANNELS, LSTM, settings)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_where_there_is_none_is_an_error_in_words() -> None:
    with pytest.raises(ValueError, match="torch finds no CUDA device"):
        train(fleet(250), CHANNELS, LSTM, QUICK.model_copy(update={"device": "cuda"}))


def test_a_channel_that_one_unit_lacks_is_masked_not_feared() -> None:
    runs = fleet(400, assets=2)
    runs[0].valid[:, 3] = False
    runs[1].value[:, 3] += 1e6

    trained = train(runs, CHANNELS, EWMA, QUICK)

    assert trained.held_out[1].coverage.max() == pytest.approx(0.75)
    assert json.loads(trained.bundle.card.model_dump_json())["data_hash"]


@pytest.mark.parametrize("settings", [EWMA, GRU], ids=["ewma", "gru"])
def test_a_channel_that_never_moved_is_neither_always_surprising_nor_never(
    settings: EwmaSettings | GruSettings,
) -> None:
    def still(ticks: int, seed: int) -> Stretch:
        value = healthy(ticks, seed)
        value[:, 3] = 80.0
        return stretch(value, asset=f"a{seed}")

    bundle = train([still(150, n) for n in range(3)], CHANNELS, settings, QUICK).bundle
    value = still(100, 9).value
    value[60:, 3] = 81.0  # a hundredth and more of its level: ten times what it resolves
    state, surprise, blame = bundle.initial(1), [], []
    for row in value:
        judged, state = bundle.step(row[None], np.ones((1, 4), np.bool_), state)
        surprise.append(float(judged.surprise[0]))
        blame.append(float(judged.blame[0, 3]))
    calm, after = np.array(surprise[20:60]), np.array(surprise[60:])
    assert np.median(calm) < 1
    assert np.mean(calm > 2) < 0.1
    assert after.max() > calm.max() + 1
    assert blame[60] > 0.5


def test_a_pretrained_network_is_kept_and_all_else_is_the_units_own() -> None:
    many = train(fleet(300), CHANNELS, GRU, QUICK).bundle
    own = stretch(healthy(300, 9) + 20.0, asset="new")

    one = train([own], CHANNELS, GRU, QUICK, pretrained=many.detector)

    before, after = many.detector.tensors(), one.bundle.detector.tensors()
    network = {name for name in before if name.startswith("predictor.")}
    assert network
    assert all(torch.equal(before[name], after[name]) for name in network)
    assert not torch.equal(before["judge.covariance"], after["judge.covariance"])
    assert one.bundle.card.scaling.mean[0] == pytest.approx(own.value[:, 0].mean())
    assert one.fits == ()


def test_a_pretrained_detector_of_other_settings_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match=r"predictor.cell.weight_hh_l0: want .*, got "):
        train(fleet(250), CHANNELS, GRU, QUICK, pretrained=GruSettings(hidden=8).build(4))

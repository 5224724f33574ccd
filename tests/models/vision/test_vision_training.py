"""From labelled pictures to an inspection: what is learnt, stopped, taken up again, refused."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.bars import CLASSES, FIT, SETTINGS, bars
from torch import Tensor

from models.runtime import computed
from models.training import Epoch, Interrupted
from models.vision import training
from models.vision.fit import Fit
from models.vision.preprocess import PictureError
from models.vision.report import Report
from models.vision.settings import VisionFitSettings
from models.vision.training import Examples, Trained, train

SHORT = FIT.model_copy(update={"epochs": 3})
FEW = bars(24)


def test_what_was_never_seen_is_told_apart(trained: Trained) -> None:
    other = bars(30, seed=1)

    report = Report.of(trained.inspection.inspect(other.pictures), other.labels, good="good")

    assert report.scores.accuracy > 0.9
    assert report.scores.binary_auroc is not None
    assert report.scores.binary_auroc > 0.97


def test_the_card_says_what_was_learnt_from_and_what_was_held_out(
    trained: Trained,
) -> None:
    card = trained.inspection.card

    assert card.classes == CLASSES
    assert card.good == "good"
    assert card.seen.channels == 1
    assert card.seen.depth == "uint8"
    assert sum(card.learnt.values()) == int((~trained.held_out).sum())
    assert sum(card.held_out.values()) == int(trained.held_out.sum())
    assert 0.3 < trained.held_out.mean() < 0.4
    assert card.calibration.frames == card.held_out["good"]


def test_the_same_seed_gives_the_same_bits_and_another_seed_others() -> None:
    one, again, other = (
        train(FEW, SETTINGS, SHORT.model_copy(update={"seed": seed})).inspection.card
        for seed in (4, 4, 5)
    )

    assert one.weights_sha256 == again.weights_sha256
    assert one.weights_sha256 != other.weights_sha256


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_a_training_that_was_stopped_goes_on_to_the_same_bits(
    tmp_path: Path, average: float
) -> None:
    told: list[Epoch] = []
    asked = iter(range(1000))
    short = SHORT.model_copy(update={"average": average})
    whole = train(FEW, SETTINGS, short).inspection.card
    with pytest.raises(Interrupted, match="goes on from") as stopped:
        train(
            FEW,
            SETTINGS,
            short,
            progress=told.append,
            checkpoint=tmp_path / "kept",
            should_stop=lambda: next(asked) > 4,  # in the second pass
        )
    assert stopped.value.checkpoint == tmp_path / "kept"
    assert [one.epoch for one in told] == [1]

    again = train(FEW, SETTINGS, short, progress=told.append, checkpoint=tmp_path / "kept")

    assert [one.epoch for one in told] == [1, 2, 3]
    assert again.inspection.card.weights_sha256 == whole.weights_sha256


class Thrown:
    """A weight that each step throws about 1."""

    count = 400

    def __init__(self) -> None:
        self.network = torch.nn.Linear(1, 1, bias=False)

    def loss(self, numbers: Sequence[int], generator: torch.Generator) -> Tensor:
        """How far the weight is from 1 and some more."""
        thrown = 1 + torch.randn(len(numbers), generator=generator).mean()
        return (self.network.weight - thrown).square().sum()

    def validate(self) -> float:
        """How far it is from 1."""
        return float((self.network.weight - 1).square().sum())


def test_where_steps_throw_weights_about_their_mean_is_nearer_to_what_is_sought() -> None:
    far = {}
    for average in (0.0, 0.98):
        settings = VisionFitSettings(
            epochs=1,
            batch_size=2,
            optimizer="sgd",
            learning_rate=0.4,
            schedule="constant",
            warmup_epochs=0,
            average=average,
        )
        draw = torch.Generator().manual_seed(0)
        fit = Fit(Thrown(), settings, draw, fingerprint="")
        fit.run(number=1, fits=1, progress=None, checkpoint=None, should_stop=lambda: False)
        far[average] = fit.best_loss

    assert far[0.98] < 0.02
    assert far[0.0] > 5 * far[0.98]


def test_training_in_fewer_bits_learns_as_well_and_keeps_float32() -> None:
    fit = FIT.model_copy(update={"precision": "bfloat16"})
    other = bars(30, seed=1)

    found = train(bars(60), SETTINGS, fit, good="good").inspection

    report = Report.of(found.inspect(other.pictures), other.labels, good="good")
    assert report.scores.accuracy > 0.9
    assert {x.dtype for x in found._tensors.values()} <= {torch.float32, torch.int64}


@pytest.mark.parametrize("able", [True, False])
def test_the_precision_auto_is_bfloat16_where_the_processor_has_instructions_for_it(
    *, able: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": able})
    one = torch.ones(2, 2)

    with computed("auto", "cpu"):
        found = (one @ one).dtype

    assert found == (torch.bfloat16 if able else torch.float32)


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    one = SHORT.model_copy(update={"epochs": 2})
    train(FEW, SETTINGS, one, checkpoint=tmp_path / "kept")

    with pytest.raises(ValueError, match="a checkpoint of another training"):
        train(bars(24, seed=9), SETTINGS, one, checkpoint=tmp_path / "kept")
    (tmp_path / "kept" / "fit-1" / "checkpoint.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match="no checkpoint of a training"):
        train(FEW, SETTINGS, one, checkpoint=tmp_path / "kept")


def test_it_stops_when_it_gets_no_better_and_keeps_the_best() -> None:
    told: list[Epoch] = []
    draw = np.random.default_rng(0)
    meaningless = replace(FEW, labels=draw.choice(CLASSES, len(FEW.labels)).tolist())
    fit = FIT.model_copy(update={"epochs": 40, "patience": 2})

    found = train(meaningless, SETTINGS, fit, progress=told.append)

    ((made,), (kept_epoch,)) = found.epochs, found.best_epoch
    assert made < 40
    assert kept_epoch == made - 2
    best = min(told, key=lambda one: one.validation_loss)
    assert best.epoch == kept_epoch
    kept = found.inspection.card.metrics["validation_loss"]
    assert kept == pytest.approx(best.validation_loss)


def test_near_copies_are_held_out_together_when_no_groups_are_given() -> None:
    draw = np.random.default_rng(0)
    twice = [one for one in FEW.pictures for _ in range(2)]
    noisy = [
        np.clip(one + draw.integers(0, 2, one.shape), 0, 255).astype(np.uint8) for one in twice
    ]
    labels = [one for one in FEW.labels for _ in range(2)]
    fit = SHORT.model_copy(update={"epochs": 2})

    out = train(Examples(pictures=noisy, labels=labels), SETTINGS, fit).held_out

    assert bool((out[::2] == out[1::2]).all())
    assert out.any()


def test_where_pictures_say_nothing_a_class_is_as_probable_as_it_is_frequent_or_as_any() -> None:
    """By the setting: as it comes, or all alike."""
    alike = [one for one, label in zip(FEW.pictures, FEW.labels, strict=True) if label == "good"]
    pictures = alike * 6
    labels = ["rare" if n % 12 == 0 else "much" for n in range(len(pictures))]
    given = Examples(pictures=pictures, labels=labels, groups=range(len(pictures)))
    share = {}
    for balance in (0.0, 1.0):
        fit = FIT.model_copy(update={"epochs": 8, "balance": balance})
        found = train(given, SETTINGS, fit).inspection.inspect(alike)
        share[balance] = np.mean([one.probabilities["rare"] for one in found])

    assert share[0.0] < 0.2
    assert share[1.0] == pytest.approx(0.5, abs=0.15)


def test_a_backbone_is_a_start_that_learning_goes_on_from(tmp_path: Path, trained: Trained) -> None:
    trained.inspection.save(tmp_path / "bundle")
    told: list[Epoch] = []

    train(
        FEW,
        SETTINGS,
        SHORT,
        backbone=tmp_path / "bundle" / "weights.safetensors",
        progress=told.append,
    )
    fresh: list[Epoch] = []
    train(FEW, SETTINGS, SHORT, progress=fresh.append)

    assert told[0].training_loss < 0.8 * fresh[0].training_loss


def test_a_backbone_of_another_width_is_refused(tmp_path: Path, trained: Trained) -> None:
    trained.inspection.save(tmp_path / "bundle")
    wide = SETTINGS.network.model_copy(update={"width": 8})

    with pytest.raises(ValueError, match=r"conv1.weight: want \[8, 1, 3, 3\], got \[4, 1, 3, 3\]"):
        train(
            FEW,
            SETTINGS.model_copy(update={"network": wide}),
            SHORT,
            backbone=tmp_path / "bundle" / "weights.safetensors",
        )


def wrong() -> Iterator[tuple[str, Examples, str]]:
    yield "one picture", Examples(pictures=FEW.pictures[:1], labels=["good"]), "two classes or more"
    yield "none", Examples(pictures=[], labels=[]), "got 0 of none"
    yield "labels too few", replace(FEW, labels=FEW.labels[1:]), "labels: want 72.*got 71"
    yield "groups too few", replace(FEW, groups=[1]), "groups: want 72.*got 1"
    yield "lone class", replace(FEW, labels=["lone", *FEW.labels[1:]]), "class 'lone'"
    colour = [np.repeat(FEW.pictures[0], 3, 2), *FEW.pictures[1:]]
    yield "colours", replace(FEW, pictures=colour), "1 channels, uint8 with 3 channels"
    yield "templates too few", replace(FEW, templates=FEW.pictures[1:]), "want 72"


@pytest.mark.parametrize(
    ("given", "said"), [pytest.param(*rest, id=name) for name, *rest in wrong()]
)
def test_examples_that_make_no_inspection_are_refused(given: Examples, said: str) -> None:
    with pytest.raises((ValueError, PictureError), match=said):
        train(given, SETTINGS, SHORT)


def test_a_good_class_that_no_picture_has_is_refused() -> None:
    with pytest.raises(ValueError, match="no picture is labelled 'fine'"):
        train(FEW, SETTINGS, SHORT, good="fine")


def test_too_few_good_pictures_to_calibrate_by_are_refused() -> None:
    wanted = "want 20 pictures of class 'good' .* got 8 of 24. Give more"
    with pytest.raises(ValueError, match=wanted):
        train(FEW, SETTINGS, SHORT.model_copy(update={"epochs": 2}), good="good")


def test_made_pictures_teach_and_are_never_held_out_and_a_class_needs_real_ones(
    examples: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [n < 9 for n in range(len(examples.labels))]
    compared = []
    monkeypatch.setattr(
        training, "grouped", lambda pictures: compared.extend(pictures) or np.arange(len(compared))
    )
    few = FIT.model_copy(update={"epochs": 1})
    trained = train(replace(examples, made=made, groups=None), SETTINGS, few, good="good")

    assert not trained.held_out[:9].any()
    assert len(compared) == len(made) - 9  # made pictures tie no real ones together
    assert trained.inspection.card.made == {"good": 3, "lying": 3, "standing": 3}
    with pytest.raises(ValueError, match="real pictures of each class, 'lying' has none"):
        train(
            replace(examples, made=[label == "lying" for label in examples.labels]),
            SETTINGS,
            few,
            good="good",
        )
    with pytest.raises(ValueError, match="made: want 180, one for each picture, got 3"):
        train(replace(examples, made=[True] * 3), SETTINGS, few, good="good")

"""A small generator of pictures: trained, stopped, gone wrong, kept, and what it fills up."""

from pathlib import Path

import numpy as np
import pytest
import torch

from models.bundle import BundleError
from models.training import Interrupted
from models.vision.adversarial import (
    AdversarialFit,
    CollapsedError,
    Discriminator,
    _card,
    changed,
    train,
)
from models.vision.generator import (
    Check,
    Network,
    PictureGenerator,
    tensors_of,
)
from models.vision.settings import GeneratorSettings

QUICK = GeneratorSettings(
    noise=8, width=4, widest=8, steps=24, batch_size=8, check_every=8, half_life=4, device="cpu"
)


def pictures(count: int = 60, *, height: int = 16, width: int = 12) -> tuple[np.ndarray, list[str]]:
    """Dark ones, and fewer light ones; uint8 [N, H, W, 1]."""
    chance = np.random.default_rng(0)
    labels = ["light" if n % 4 == 0 else "dark" for n in range(count)]
    level = np.array([190 if label == "light" else 70 for label in labels])
    shown = level[:, None, None, None] + chance.normal(0, 15, (count, height, width, 1))
    shown += chance.normal(0, 15, (count, 1, 1, 1))
    return shown.clip(0, 255).astype(np.uint8), labels


@pytest.fixture(scope="module")
def trained() -> PictureGenerator:
    settings = QUICK.model_copy(update={"steps": 90, "check_every": 30, "learning_rate": 3e-3})
    return train(*pictures(), settings)


def test_made_pictures_are_of_the_class_that_was_asked_for(trained: PictureGenerator) -> None:
    made = trained.make(["light"] * 20 + ["dark"] * 20, seed=1)
    light, dark = made[:20].mean((1, 2, 3)), made[20:].mean((1, 2, 3))

    assert made.dtype == np.uint8
    assert made.shape == (40, 16, 12, 1)
    assert light.min() > dark.max()
    assert len(np.unique(made.reshape(40, -1), axis=0)) == 40


def test_every_check_stands_on_the_card_and_the_best_of_them_is_kept(
    trained: PictureGenerator,
) -> None:
    checks = trained.card.checks

    assert [check.step for check in checks] == [30, 60, 90]
    assert trained.card.ended == "steps"
    best = min((one for one in checks if one.diversity >= 0.25), key=lambda one: one.kernel)
    assert trained.card.steps == best.step
    assert trained.card.learnt == {"dark": 45, "light": 15}


def test_classes_are_filled_up_to_a_number_and_those_that_have_it_get_none(
    trained: PictureGenerator,
) -> None:
    shown, labels = pictures()
    made, of = trained.fill(shown, labels, 30)
    none, nothing = trained.fill(shown, labels, 10)

    assert of == ["light"] * 15
    assert made.shape == (15, 16, 12, 1)
    assert none.shape == (0, 16, 12, 1)
    assert nothing == []


def test_the_same_seed_gives_the_same_pictures_and_another_others(
    trained: PictureGenerator,
) -> None:
    one, same, other = (trained.make(["dark"] * 3, seed=seed) for seed in (5, 5, 6))

    assert (one == same).all()
    assert not (one == other).all()


def test_a_training_that_is_stopped_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    whole = train(*pictures(), QUICK)
    left = [13]  # steps until somebody stops it

    def stop() -> bool:
        left[0] -= 1
        return left[0] < 0

    with pytest.raises(Interrupted, match="goes on from"):
        train(*pictures(), QUICK, checkpoint=tmp_path / "kept", should_stop=stop)
    again = train(*pictures(), QUICK, checkpoint=tmp_path / "kept")

    assert again.card == whole.card
    assert all(
        torch.equal(again.network.state_dict()[name], tensor)
        for name, tensor in whole.network.state_dict().items()
    )


def test_a_checkpoint_of_another_training_or_of_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(*pictures(), QUICK, checkpoint=tmp_path / "kept", should_stop=lambda: True)
    with pytest.raises(ValueError, match="a checkpoint of another training"):
        train(*pictures(56), QUICK, checkpoint=tmp_path / "kept")
    (tmp_path / "kept" / "checkpoint.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match="no checkpoint of a training"):
        train(*pictures(), QUICK, checkpoint=tmp_path / "kept")


def as_if_made_pictures_were_all_the_same(shown: np.ndarray) -> np.ndarray:
    real = {one.tobytes(): n for n, one in enumerate(pictures()[0])}
    places = np.array([real.get(one.tobytes(), -1) for one in shown])
    found: np.ndarray = np.random.default_rng(0).normal(0, 1, (61, 4))[places].astype(np.float32)
    return found


def test_a_generator_that_makes_one_picture_only_is_stopped_and_that_is_said() -> None:
    settings = QUICK.model_copy(update={"steps": 160})
    told: list[Check] = []

    with pytest.raises(CollapsedError, match="differ only 0% as much as real ones do") as raised:
        train(
            *pictures(),
            settings,
            features=as_if_made_pictures_were_all_the_same,
            progress=told.append,
        )
    assert raised.value.step == 48  # at the second check after a quarter of all steps
    assert told[-1].step == 48


def begun(settings: GeneratorSettings) -> AdversarialFit:
    shown, labels = pictures()
    card = _card(shown, labels, settings)
    return AdversarialFit(shown, np.array([card.classes.index(one) for one in labels]), card)


def test_what_was_good_before_a_collapse_is_kept_and_the_card_tells_of_it() -> None:
    fit = begun(QUICK)
    good = fit.check()
    poor = good.model_copy(update={"diversity": 0.1, "kernel": -1.0, "step": 23})
    fit.checks = [good.model_copy(update={"diversity": 0.9}), poor, poor]
    fit.best, fit.best_step = tensors_of(fit.average), 16
    fit.step = 23
    ended = fit.ended()

    assert ended is not None
    assert ended[0] == "collapse"
    kept = fit.finish(*ended)
    assert kept.card.steps == 16
    assert "differ only 10% as much" in kept.card.why


def test_no_loss_that_is_no_number_goes_on() -> None:
    fit = begun(QUICK)
    fit.discriminator.begin.weight.data.fill_(float("nan"))
    with pytest.raises(FloatingPointError):
        fit.advance()


def test_without_getting_better_it_ends_before_its_steps_are_done() -> None:
    fit = begun(QUICK.model_copy(update={"steps": 100, "patience": 3}))
    first = fit.check().model_copy(update={"diversity": 1.0})
    fit.checks, fit.best_step = [first], 20

    fit.step = 48
    assert fit.ended() is None
    fit.step = 49  # three checks of eight steps after the first quarter
    assert fit.ended() == ("patience", "it got no better after step 20")


@pytest.mark.parametrize(("height", "width", "colours"), [(40, 24, 1), (17, 31, 3), (8, 64, 1)])
def test_pictures_of_any_sides_are_made_and_judged(height: int, width: int, colours: int) -> None:
    sizes = {"classes": 2, "height": height, "width": width, "colours": colours}
    kind = torch.tensor([0, 1, 1])
    made = Network(QUICK, **sizes)(torch.zeros(3, QUICK.noise), kind)

    assert made.shape == (3, colours, height, width)
    assert Discriminator(QUICK, **sizes)(made, kind).shape == (3,)


def test_changes_are_drawn_for_each_picture_keep_its_size_and_let_the_gradient_through() -> None:
    x = torch.rand(6, 3, 16, 12).sub(0.5).requires_grad_()
    after = changed(x, 1.0, torch.Generator().manual_seed(0))
    (slope,) = torch.autograd.grad(after.square().sum(), x)

    assert after.shape == x.shape
    assert len({float(one) for one in (after - x).abs().mean((1, 2, 3)).detach()}) == 6
    assert (slope.abs().sum((1, 2, 3)) > 0).all()
    assert changed(x, 0.0, torch.Generator()) is x


def test_a_generator_is_read_back_as_it_was_and_a_damaged_one_is_refused(
    trained: PictureGenerator, tmp_path: Path
) -> None:
    trained.save(tmp_path / "steel")
    again = PictureGenerator.load(tmp_path / "steel")

    assert again.card == trained.card
    assert (again.make(["dark"], seed=0) == trained.make(["dark"], seed=0)).all()
    card = tmp_path / "steel" / "card.json"
    card.write_text(card.read_text().replace('"generator"', '"inspection"'), encoding="utf-8")
    with pytest.raises(BundleError, match="want a card of kind 'generator', got one of kind 'ins"):
        PictureGenerator.load(tmp_path / "steel")


def test_pictures_of_another_kind_are_refused_in_words(trained: PictureGenerator) -> None:
    shown, labels = pictures()
    with pytest.raises(ValueError, match="want classes out of dark, light, got blue"):
        trained.make(["blue"], seed=0)
    with pytest.raises(
        ValueError, match=r"want pictures uint8 \[N, 16, 12, 1\], got uint8 \[60, 8,"
    ):
        trained.fill(shown[:, :8], labels, 30)
    with pytest.raises(ValueError, match="60 pictures, but 59 labels"):
        trained.fill(shown, labels[1:], 30)
    with pytest.raises(ValueError, match=r"want pictures uint8 \[N, H, W, 1 or 3\], got uint16"):
        train(shown.astype(np.uint16), labels, QUICK)
    with pytest.raises(ValueError, match="want sides of 8 to 256 pixels, got 7x12"):
        train(shown[:, :7], labels, QUICK)
    with pytest.raises(ValueError, match="want two pictures of a class or more, got blue 1"):
        train(shown, ["blue", *labels[1:]], QUICK)
    with pytest.raises(ValueError, match="60 pictures, but 59 labels"):
        train(shown, labels[1:], QUICK)

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
from support.machines import CHANNELS, QUICK, column, fleet, healthy

import models
from models import bundle as bundle_room
from models.adoption import forgotten
from models.bundle import AssetRange, Bundle, BundleError, Channel, OwnScaling, write_folder
from models.contract import Judgement
from models.scaling import Scaling
from models.settings import EwmaSettings
from models.threshold import Support
from models.training import train

OLD = Path(__file__).parent.parent / "data" / "bundles"


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return train(fleet(300), CHANNELS, EwmaSettings(spans=(1, 4)), QUICK).bundle


@pytest.fixture
def folder(bundle: Bundle, tmp_path: Path) -> Path:
    bundle.save(tmp_path / "pump")
    return tmp_path / "pump"


def change_card(folder: Path, **fields: object) -> None:
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps(card | fields))


def cut_short(folder: Path) -> None:
    content = (folder / "weights.safetensors").read_bytes()
    (folder / "weights.safetensors").write_bytes(content[:-8])


def foreign_weights(folder: Path) -> None:
    import torch

    content = safetensors.torch.save({"judge.reference": torch.ones(2, dtype=torch.float64)})
    (folder / "weights.safetensors").write_bytes(content)
    change_card(folder, weights_sha256=hashlib.sha256(content).hexdigest())


def no_weights(folder: Path) -> None:
    (folder / "weights.safetensors").write_bytes(b"not tensors")
    change_card(folder, weights_sha256=hashlib.sha256(b"not tensors").hexdigest())


def half_a_card(folder: Path) -> None:
    content = (folder / "card.json").read_bytes()
    (folder / "card.json").write_bytes(content[: len(content) // 2])


def without_calibration(folder: Path) -> None:
    card = json.loads((folder / "card.json").read_text())
    del card["calibration"]
    (folder / "card.json").write_text(json.dumps(card))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: (f / "card.json").unlink(), "cannot be read: No such file"),
        (lambda f: (f / "weights.safetensors").unlink(), "cannot be read: No such file"),
        (half_a_card, "no JSON"),
        (lambda f: (f / "card.json").write_text("[1, 2]"), "no model card"),
        (lambda f: (f / "card.json").write_bytes(b"\xff\xfe\x00"), "no JSON"),
        (lambda f: change_card(f, schema_version=2), "got 2. Upgrade the program"),
        (lambda f: change_card(f, schema_version=0), "got 0. Train the model again"),
        (
            lambda f: change_card(f, kind="oracle"),
            "This version knows ensemble, ewma, gru, lstm, masked_gru, masked_lstm, pca",
        ),
        (lambda f: change_card(f, settings={"spans": [4, 1]}), "rising whole numbers"),
        (lambda f: change_card(f, colour="red"), "colour: Extra inputs"),
        (without_calibration, "calibration: Field required"),
        (cut_short, "Cut short, changed, or from another bundle"),
        (foreign_weights, "judge.covariance is missing"),
        (no_weights, "not the weights of a ewma of 4 channels"),
        (lambda f: change_card(f, channels=[CHANNELS[0].model_dump()]), "scaling of 4"),
    ],
)
def test_a_folder_that_is_no_bundle_is_refused_in_words(
    folder: Path, spoil: Callable[[Path], object], words: str
) -> None:
    spoil(folder)

    with pytest.raises(BundleError) as caught:
        Bundle.load(folder)

    assert words in str(caught.value)
    assert str(folder) in str(caught.value)
    assert caught.value.path == folder


def own_of(count: int = 4) -> OwnScaling:
    """A scaling that is not the pooled one."""
    scaling = Scaling(mean=(7.0,) * count, deviation=(2.0,) * count, resolution=(0.1,) * count)
    return OwnScaling(scaling=scaling, learnt=AssetRange(first=0, last=9, frames=10))


def test_what_a_machine_is_scaled_by_comes_back_with_the_card(
    bundle: Bundle, tmp_path: Path
) -> None:
    adopted = bundle.with_own({"m2": own_of()})
    adopted.save(tmp_path / "a")
    back = Bundle.load(tmp_path / "a")

    assert back.card == adopted.card
    assert back.hash == adopted.hash != bundle.hash
    assert bundle.scale_of(["m1", "m2"]) is None


def test_a_machine_is_not_learnt_that_was_neither_trained_on_nor_adopted(bundle: Bundle) -> None:
    learnt = list(bundle.card.data)
    assert not bundle.card.own
    assert bundle.not_learnt([*learnt, "late", "later"]) == ("late", "later")
    adopted = bundle.with_own({"late": own_of()})
    assert adopted.not_learnt([*learnt, "late", "later"]) == ("later",)


def test_a_card_without_scalings_of_its_own_is_written_as_it_always_was(folder: Path) -> None:
    assert "own" not in json.loads((folder / "card.json").read_text())


def test_a_new_model_has_forgotten_who_was_adopted_from_days_later_than_it_has_learnt_from(
    bundle: Bundle,
) -> None:
    first, second = list(bundle.card.data)[:2]

    def model(**days: tuple[int, int]) -> Bundle:
        learnt = {m: AssetRange(first=a, last=b, frames=5) for m, (a, b) in days.items()}
        scalings = {m: own_of().model_copy(update={"learnt": one}) for m, one in learnt.items()}
        return bundle.with_own(scalings)

    trained = {first: bundle.card.data[first]}
    before = model(**{second: (100, 200), "late": (100, 200)}).with_own(
        {m: own_of().model_copy(update={"learnt": one}) for m, one in trained.items()}
    )
    assert forgotten(before, bundle) == {
        name: AssetRange(first=100, last=200, frames=5) for name in (second, "late")
    }
    assert list(forgotten(before, model(**{second: (0, 150), "late": (0, 200)}))) == [second]
    assert forgotten(bundle, bundle) == {}


def test_a_threshold_that_unlike_machines_did_not_raise_is_written_as_it_always_was(
    bundle: Bundle, tmp_path: Path
) -> None:
    earlier = {
        "alarm": {"on_delay_s": 0.0},
        "assets": 3,
        "counted": [[1.0, 0]],
        "healthy_days": 90.0,
        "own": False,
        "per_asset_30_days": 1.0,
        "tail": None,
    }
    support = Support.model_validate(earlier)
    for unlike, wanted in ((0.0, earlier), (0.5, earlier | {"unlike": 0.5})):
        one = support.model_copy(update={"unlike": unlike})
        bundle.with_threshold(3.0, provisional=False, support=one).save(tmp_path / "a")
        assert json.loads((tmp_path / "a" / "card.json").read_text())["support"] == wanted
        assert Bundle.load(tmp_path / "a").card.support == one


def test_a_scaling_of_another_number_of_channels_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    bundle.with_own({"m2": own_of(3)}).save(tmp_path / "a")
    with pytest.raises(BundleError, match="4 channels, but a scaling of m2's own of 3"):
        Bundle.load(tmp_path / "a")


def test_the_same_bundle_writes_the_same_bytes(bundle: Bundle, tmp_path: Path) -> None:
    bundle.save(tmp_path / "a")
    Bundle.load(tmp_path / "a").save(tmp_path / "b")

    for name in ("card.json", "weights.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_hash_tells_a_threshold_from_another(bundle: Bundle) -> None:
    four = bundle.with_threshold(4.0, provisional=False)

    assert four.hash != bundle.hash
    assert four.hash == bundle.with_threshold(4.0, provisional=False).hash
    assert four.card.threshold == 4.0
    assert bundle.card.threshold is None


def test_saving_over_a_bundle_replaces_it_and_leaves_nothing_beside(
    bundle: Bundle, folder: Path
) -> None:
    (folder / "stray").touch()
    other = bundle.with_threshold(3.0, provisional=True)

    other.save(folder)

    assert Bundle.load(folder).hash == other.hash
    assert [path.name for path in folder.parent.iterdir()] == ["pump"]
    assert sorted(path.name for path in folder.iterdir()) == ["card.json", "weights.safetensors"]


def test_while_a_bundle_is_replaced_one_stands_under_its_name_at_every_moment(
    bundle: Bundle, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = bundle.with_threshold(3.0, provisional=True)
    seen = []

    def looked_after(what: Callable[..., Any]) -> Callable[..., Any]:
        """The step, and what a kill after it would leave."""

        def step(*given: Any, **named: Any) -> Any:
            found = what(*given, **named)
            seen.append(Bundle.load(folder).hash)
            return found

        return step

    for owner, name in (
        (Path, "rename"),
        (bundle_room, "_exchange"),
        (bundle_room, "_sync"),
        (shutil, "rmtree"),
    ):
        monkeypatch.setattr(owner, name, looked_after(getattr(owner, name)))
    other.save(folder)

    assert set(seen) == {bundle.hash, other.hash}


def test_where_names_cannot_be_exchanged_a_bundle_is_replaced_all_the_same(
    bundle: Bundle, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_room, "_exchange", lambda *_: False)
    other = bundle.with_threshold(3.0, provisional=True)

    other.save(folder)

    assert Bundle.load(folder).hash == other.hash
    assert [path.name for path in folder.parent.iterdir()] == ["pump"]


def test_a_write_that_fails_leaves_the_old_folder_as_it_was(folder: Path) -> None:
    before = (folder / "card.json").read_bytes()

    with pytest.raises(FileNotFoundError):
        write_folder(folder, {"card.json": b"new", "no/such/folder": b""})

    assert (folder / "card.json").read_bytes() == before
    assert [path.name for path in folder.parent.iterdir()] == ["pump"]


@pytest.mark.parametrize(
    ("channels", "tick_ms", "words"),
    [
        (CHANNELS[1:], 1000, "channel 'c0' is missing"),
        (
            (*CHANNELS, Channel(name="new", unit=None, aggregate="last")),
            1000,
            "channel 'new' is not one of the model's",
        ),
        (
            (CHANNELS[0].model_copy(update={"unit": "psi"}), *CHANNELS[1:]),
            1000,
            "channel 'c0': want unit 'bar', got 'psi'",
        ),
        (
            (CHANNELS[0].model_copy(update={"aggregate": "mean"}), *CHANNELS[1:]),
            1000,
            "channel 'c0': want aggregate 'last', got 'mean'",
        ),
        (
            CHANNELS[::-1],
            1000,
            "want the channels in the order c0, c1, c2, c3, got c3, c2, c1, c0",
        ),
        (CHANNELS, 500, "want tick_ms 1000, got 500"),
    ],
)
def test_frames_the_model_was_not_made_for_are_named(
    bundle: Bundle, channels: tuple[Channel, ...], tick_ms: int, words: str
) -> None:
    with pytest.raises(BundleError) as caught:
        bundle.check_fits(channels, tick_ms)

    assert words in str(caught.value)


def test_frames_it_was_made_for_fit(bundle: Bundle) -> None:
    bundle.check_fits(CHANNELS, 1000)


def test_a_card_holds_no_time_of_its_making(bundle: Bundle) -> None:
    content = bundle.card.model_dump()

    assert sorted(content["created_with"]) == ["numpy", "python", "torch"]


def answers(bundle: Bundle) -> list[Judgement]:
    """To the same questions, always."""
    value = healthy(60, 5, len(bundle.card.channels))[:, None]
    value[40:, 0, 0] += 5.0
    valid = np.ones(value.shape, np.bool_)
    valid[20:25, 0, 1] = False
    state = bundle.initial(1)
    judged = []
    for now, seen in zip(value, valid, strict=True):
        judgement, state = bundle.step(now, seen, state)
        judged.append(judgement)
    return judged


@pytest.mark.parametrize(
    "path", sorted(path for path in OLD.glob("*/")), ids=lambda path: path.name
)
def test_an_old_bundle_keeps_its_hash_and_says_nothing_of_a_budget(path: Path) -> None:
    bundle = Bundle.load(path, device="cpu")

    assert bundle.hash == hashlib.sha256((path / "card.json").read_bytes()).hexdigest()
    assert bundle.card.support is None


def test_there_are_old_bundles_of_every_schema_and_kind() -> None:
    assert {path.name for path in OLD.iterdir() if path.is_dir()} >= {
        f"{kind}-schema-1" for kind in models.discover()
    }


@pytest.mark.parametrize(
    "path", sorted(path for path in OLD.glob("*/")), ids=lambda path: path.name
)
def test_an_old_bundle_loads_and_says_what_it_always_said(path: Path) -> None:
    bundle = Bundle.load(path, device="cpu")
    said = json.loads((OLD / "answers.json").read_text())[path.name]

    judged = answers(bundle)

    np.testing.assert_allclose(column(judged, "surprise")[:, 0], said["surprise"], atol=1e-3)
    np.testing.assert_allclose(column(judged, "blame")[-1, 0], said["last_blame"], atol=1e-3)
    np.testing.assert_allclose(column(judged, "expected")[-1, 0], said["last_expected"], rtol=1e-4)

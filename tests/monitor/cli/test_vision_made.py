"""`watchkeeper vision generate` and `compare` as a user and as a script see them."""

import csv
import json
import shutil
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from support.bars import bars
from support.commands import Said, Stopping, watchkeeper
from support.labelled import folders, save

from models.vision.generator import PictureGenerator
from models.vision.inspection import Inspection
from monitor.cli import console

SMALL = """
preprocess: {height: 24, width: 24}
network: {width: 4, depth: [1, 1], stem: half}
fit: {epochs: 1, warmup_epochs: 0, batch_size: 16, validation_share: 0.35}
generator:
  {noise: 8, width: 4, widest: 8, steps: 40, batch_size: 8, check_every: 20, half_life: 2}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of which those that lie are rare, and what was generated from them."""
    root = tmp_path_factory.mktemp("made")
    (root / "settings.yaml").write_text(SMALL, encoding="utf-8")
    given = bars(40)
    rare = [n for n, label in enumerate(given.labels or ()) if label != "lying" or n % 2]
    labels = list(given.labels or ())
    folders(root / "pictures", [given.pictures[n] for n in rare], [labels[n] for n in rare])
    said = generate(root, root / "model", "--fill", 20, "--json")
    assert said.code == 0, said.err
    (root / "generate.json").write_text(said.out, encoding="utf-8")
    return root


def generate(root: Path, out: Path, *words: object, pictures: str = "pictures") -> Said:
    given = (root / pictures, "--out", out, "--settings", root / "settings.yaml", *words)
    return watchkeeper("vision", "generate", *given)


def train(root: Path, out: Path, *words: object) -> Said:
    given = (root / "pictures", "--out", out, "--settings", root / "settings.yaml", *words)
    return watchkeeper("vision", "train", *given)


def test_rare_classes_are_filled_up_to_a_number_that_learns_in_a_folder_of_their_own(
    home: Path,
) -> None:
    found = json.loads((home / "generate.json").read_text(encoding="utf-8"))
    card = PictureGenerator.load(home / "model").card
    with (home / "model.pictures" / "labels.csv").open(encoding="utf-8") as opened:
        rows = list(csv.DictReader(opened))

    assert found["learnt"] == card.learnt == {"good": 26, "lying": 13, "standing": 26}
    assert found["made"] == {"lying": 7}
    assert [(row["label"], row["made"]) for row in rows] == [("lying", "1")] * 7
    assert all((home / "model.pictures" / row["image"]).is_file() for row in rows)
    assert [check["step"] for check in found["checks"]] == [20, 40]
    page = (home / "model.report" / "report.html").read_text(encoding="utf-8")
    assert "data:image/png;base64," in page
    assert "learnt from few pictures: lying 13" in page
    assert not (home / "model.checkpoint").exists()


def test_made_pictures_teach_and_what_is_held_out_has_not_taught_them(
    home: Path, tmp_path: Path
) -> None:
    plain = train(home, tmp_path / "plain", "--json")
    said = train(home, tmp_path / "filled", "--made", home / "model.pictures", "--json")
    assert said.code == 0, said.err
    assert json.loads(said.out)["made"] == {"lying": 7}
    assert json.loads(said.out)["held_out"] == json.loads(plain.out)["held_out"]
    assert Inspection.load(tmp_path / "filled").card.learnt["lying"] == 20
    assert "have taught what was made" not in said.err

    other = train(home, tmp_path / "other", "--made", home / "model.pictures", "--seed", "1")
    assert other.code == 0
    assert "of the pictures held out have taught what was made" in other.err


def test_a_comparison_judges_all_three_by_the_same_real_pictures(
    home: Path, tmp_path: Path
) -> None:
    given = (home / "pictures", "--settings", home / "settings.yaml", "--fill", 16, "--seeds", 2)
    said = watchkeeper("vision", "compare", *given, "--out", tmp_path / "found")
    assert said.code == 0, said.err
    found = json.loads((tmp_path / "found" / "report.json").read_text(encoding="utf-8"))

    assert sorted(found["seeds"]) == ["0", "1"]
    assert sum(found["judged"].values()) == 20
    for one in found["seeds"].values():
        assert sorted(one) == ["copies", "generated", "real"]
        pictures = {arm: sum(map(sum, one[arm]["confusion"]["counts"])) for arm in one}
        assert set(pictures.values()) == {20}
    assert found["verdict"] in said.out
    assert "lying: recall" in said.out
    assert found["verdict"] in (tmp_path / "found" / "report.html").read_text(encoding="utf-8")


def test_a_fill_that_makes_nothing_to_compare_is_said_before_anything_is_learnt(
    home: Path, tmp_path: Path
) -> None:
    given = (home / "pictures", "--settings", home / "settings.yaml", "--fill", 5)
    said = watchkeeper("vision", "compare", *given, "--out", tmp_path / "found")
    assert said.code == 4
    assert "good 21, lying 10, standing 21" in " ".join(said.err.split())
    assert not (tmp_path / "found").exists()


def test_a_generator_that_is_interrupted_goes_on_to_the_same_bits_and_not_with_other_settings(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(console, "interruptible", lambda: nullcontext(Stopping(30)))
        said = generate(home, tmp_path / "model")
    assert said.code == 130
    assert "the same training goes on from" in said.err
    assert not (tmp_path / "model").exists()

    said = generate(home, tmp_path / "model", "--seed", "1")
    assert said.code == 4
    assert "a checkpoint of another training" in said.err

    said = generate(home, tmp_path / "model")
    assert said.code == 0, said.err
    card = PictureGenerator.load(tmp_path / "model").card
    assert card.weights_sha256 == PictureGenerator.load(home / "model").card.weights_sha256


def one_class(root: Path) -> None:
    shutil.rmtree(root / "pictures" / "lying")
    shutil.rmtree(root / "pictures" / "standing")


def few(root: Path) -> None:
    for path in sorted((root / "pictures" / "lying").iterdir())[4:]:
        path.unlink()


def sixteen_bits(root: Path) -> None:
    for path in (root / "pictures").rglob("*.png"):
        save(path, np.random.default_rng(len(str(path))).integers(0, 65535, (24, 24), np.uint16))


def too_large(root: Path) -> None:
    text = SMALL.replace("height: 24, width: 24", "height: 264, width: 264")
    (root / "settings.yaml").write_text(text, encoding="utf-8")


def not_empty(root: Path) -> None:
    (root / "model.pictures").mkdir()
    (root / "model.pictures" / "mine.png").write_bytes(b"")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (one_class, "want pictures of two classes or more, got good only"),
        (few, "want 5 pictures of a class or more to learn from, beside those that are held out"),
        (sixteen_bits, "want pictures of 8 bits, got 16"),
        (too_large, "got 264 x 264 pixels, and a generator makes pictures of 8 to 256 pixels"),
        (not_empty, "model.pictures: is there, and is not empty. Give another folder with --made"),
    ],
)
def test_what_cannot_be_generated_from_is_refused_in_words(
    home: Path, tmp_path: Path, spoil: object, says: str
) -> None:
    shutil.copytree(home / "pictures", tmp_path / "pictures")
    shutil.copy(home / "settings.yaml", tmp_path)
    assert callable(spoil)
    spoil(tmp_path)
    said = generate(tmp_path, tmp_path / "model", "--fill", 20)
    assert said.code == 4
    assert says in said.err.replace("\n", " ")
    assert not (tmp_path / "model").exists()


def test_a_folder_that_was_not_generated_is_no_made_folder(home: Path, tmp_path: Path) -> None:
    said = train(home, tmp_path / "model", "--made", home / "pictures")
    assert said.code == 2
    assert "no folder that `watchkeeper vision generate` wrote" in said.err.replace("\n", " ")

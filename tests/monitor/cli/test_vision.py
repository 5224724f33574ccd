"""`watchkeeper vision` as a user and as a script see it."""

import csv
import io
import json
import os
import re
import shutil
from contextlib import nullcontext
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from support.bars import bars
from support.commands import Said, Stopping, watchkeeper
from support.labelled import coco, folders, plain, save

from models.vision.inspection import Inspection
from monitor import cli
from monitor.cli import console
from monitor.site.vision.report import COLUMNS

SMALL = """
preprocess: {height: 24, width: 24}
network: {width: 4, depth: [1, 1], stem: half}
fit:
  epochs: 4
  batch_size: 16
  learning_rate: 0.01
  validation_share: 0.35
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures in folders, settings, and an inspection that was trained from them."""
    root = tmp_path_factory.mktemp("vision")
    (root / "settings.yaml").write_text(SMALL, encoding="utf-8")
    made = bars(60)
    folders(root / "pictures", made.pictures, made.labels or ())
    other = bars(8, seed=1)
    folders(root / "kept_aside", other.pictures, other.labels or ())
    said = train(root, root / "model", "--json")
    assert said.code == 0, said.err
    (root / "train.json").write_text(said.out, encoding="utf-8")
    return root


def train(root: Path, out: Path, *words: object, pictures: str = "pictures") -> Said:
    given = ("--settings", root / "settings.yaml", "--good", "good", *words)
    return watchkeeper("vision", "train", root / pictures, "--out", out, *given)


# ---- train


def test_training_gives_an_inspection_and_says_how_good_it_is(home: Path) -> None:
    found = json.loads((home / "train.json").read_text(encoding="utf-8"))
    card = Inspection.load(home / "model").card
    assert found["classes"] == ["good", "lying", "standing"] == list(card.classes)
    assert card.good == "good"
    assert sum(found["learnt"].values()) + sum(found["held_out"].values()) == 180
    assert found["held_out_report"]["whole"]["accuracy"] > 0.6  # chance: a third
    assert (home / "model.report" / "confusion.png").is_file()
    assert not (home / "model.checkpoint").exists()


def test_people_are_told_by_class_and_as_a_whole(home: Path, tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text(
        SMALL.replace("epochs: 4", "epochs: 1\n  warmup_epochs: 0"), encoding="utf-8"
    )
    shutil.copytree(home / "pictures", tmp_path / "pictures")
    (tmp_path / "pictures" / "good" / "broken.png").write_bytes(b"none")
    (tmp_path / "pictures" / "good" / "old.bmp").write_bytes(b"none")
    said = train(tmp_path, tmp_path / "model", "--seed", "3")
    assert said.code == 0
    assert "1 .bmp passed over: JPEG and PNG are read" in said.err
    assert "180 pictures, labels by the names of folders; classes: good 60" in said.err
    assert "1 picture left out: " in said.err
    assert "broken.png" in said.err
    assert said.out.startswith("trained: ")
    assert "accuracy: " in said.out
    assert "raise fit.epochs above 1" in said.out
    assert Inspection.load(tmp_path / "model").card.seeds == (3,)


def test_a_training_that_is_interrupted_goes_on_to_the_same_bits(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(console, "interruptible", lambda **_: nullcontext(Stopping(20)))
        said = train(home, tmp_path / "model")
    assert said.code == 130
    assert "the same training goes on from" in said.err
    kept = tmp_path / "model.checkpoint" / "fit-1" / "checkpoint.json"
    assert json.loads(kept.read_text(encoding="utf-8"))["epoch"] == 2  # 8 steps each
    assert not (tmp_path / "model").exists()

    said = train(home, tmp_path / "model", "--seed", "1")
    assert said.code == 2
    assert "a checkpoint of another training" in said.err

    said = train(home, tmp_path / "model")
    assert said.code == 0, said.err
    assert "goes on from model.checkpoint: model 1, after epoch 2" in said.err
    assert not kept.parent.parent.exists()
    assert Inspection.load(tmp_path / "model").hash == Inspection.load(home / "model").hash


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("--good", "fine"), 2, "--good: no picture is labelled 'fine'. There are good, lying"),
        (("--groups", "part"), 2, "--groups: want a column of a table of labels, or a pattern"),
        (("--groups", "([0-9]{9})"), 2, "is not found in good/000.png"),
        (("--templates", "none.png"), 2, "--templates: none.png: no such file or folder"),
        (("--labels", "none.csv"), 2, "none.csv: no such file or folder of labels"),
        (("--settings", "none.yaml"), 2, "none.yaml: no such file. `watchkeeper example vision`"),
        (("--backbone", "none.pt"), 3, "none.pt: no such file"),
        (("--out", "."), 4, ".: is there, and is no inspection"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_learnt(
    home: Path, words: tuple[str, ...], code: int, says: str
) -> None:
    said = train(home, home / "other", *words)
    assert (said.code, says in said.err) == (code, True), said.err
    assert not (home / "other").exists()


def test_a_setting_that_is_wrong_is_shown_with_its_line(home: Path, tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text("fit:\n  epoch: 3\n", encoding="utf-8")
    said = train(home, tmp_path / "model", "--settings", tmp_path / "settings.yaml")
    assert said.code == 2
    assert "settings.yaml:2:3: fit.epoch: no such setting. Did you mean 'epochs'?" in said.err


def test_pictures_that_make_no_inspection_are_refused(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text(SMALL, encoding="utf-8")
    for pictures, says in (
        ({"good/1": 1}, "class 'good' is one picture, and a part is to be held out"),
        ({"good/1": 1, "dent/1": 3}, "class 'dent' is one picture, and a part is to be held out"),
        ({"good/1": 1, "dent/": 0}, "no picture of class dent. Put some into its folder"),
        ({}, "no picture in it or below it"),
    ):
        shutil.rmtree(tmp_path / "few", ignore_errors=True)
        (tmp_path / "few").mkdir()
        for name, value in pictures.items():
            if name.endswith("/"):
                (tmp_path / "few" / name).mkdir()
            else:
                plain(tmp_path / "few" / f"{name}.png", value=value)
        said = train(tmp_path, tmp_path / "model", pictures="few")
        assert said.code in (2, 4)
        assert says in said.err, said.err
    draw = np.random.default_rng(0)
    for name in ("good", "dent"):
        for number in range(4):
            noise = draw.integers(0, 255, (24, 24), np.uint8)
            save(tmp_path / "few" / name / f"{number}.png", noise)
    said = train(tmp_path, tmp_path / "model", pictures="few")
    assert "want 20 pictures of class 'good' or more held out" in said.err, said.err


def test_pictures_of_mixed_colours_are_refused_and_of_mixed_sizes_taken(
    home: Path, tmp_path: Path
) -> None:
    shutil.copytree(home / "pictures", tmp_path / "pictures")
    save(tmp_path / "pictures" / "lying" / "wide.png", np.full((30, 26), 90, np.uint8))
    (tmp_path / "settings.yaml").write_text(
        SMALL.replace("epochs: 4", "epochs: 1\n  warmup_epochs: 0"), encoding="utf-8"
    )
    assert train(tmp_path, tmp_path / "model").code == 0
    assert Inspection.load(tmp_path / "model").card.seen.heights == (24, 30)

    save(tmp_path / "pictures" / "lying" / "red.png", np.full((24, 24, 3), 90, np.uint8))
    said = train(tmp_path, tmp_path / "again")
    assert said.code == 2
    assert "181 of 8 bits grey" in said.err
    assert "1 of 8 bits RGB" in said.err
    assert "red.png" in said.err


# ---- evaluate


def test_an_inspection_is_measured_on_other_pictures(home: Path, tmp_path: Path) -> None:
    words = ("vision", "evaluate", home / "model", home / "kept_aside")
    said = watchkeeper(*words, "--out", tmp_path / "evaluation", "--json")
    assert said.code == 0
    assert said.json["pictures"] == 24
    assert set(said.json["classes"]) == {"good", "lying", "standing"}
    written = json.loads((tmp_path / "evaluation" / "report.json").read_text(encoding="utf-8"))
    assert written["whole"] == said.json["whole"]

    said = watchkeeper(*words, "--out", tmp_path / "evaluation")
    lines = said.out.splitlines()
    assert lines[0].split() == ["pictures", "precision", "recall", "f1", "auroc"]
    assert lines[1].split()[:2] == ["good", "8"]


@pytest.mark.parametrize(
    ("folder", "says"),
    [
        ("pits/1.png", "'pits': no class of this inspection; its classes are good, lying, standin"),
        ("good/large.png", "large.png: 99 x 99 pixels; those that were learnt from were 24 to 24"),
    ],
)
def test_labels_and_pictures_that_are_not_the_inspections_are_refused(
    home: Path, tmp_path: Path, folder: str, says: str
) -> None:
    side = 99 if "large" in folder else 24
    plain(tmp_path / "few" / folder, width=side, height=side)
    said = watchkeeper(
        "vision", "evaluate", home / "model", tmp_path / "few", "--out", tmp_path / "evaluation"
    )
    assert said.code == 2
    assert says in said.err, said.err


# ---- inspect


@pytest.fixture
def mixed(home: Path, tmp_path: Path) -> Path:
    """Pictures that can be inspected, and others."""
    folder = tmp_path / "new"
    shutil.copytree(home / "kept_aside", folder)
    (folder / "broken.png").write_bytes(b"none")
    (folder / "scan.tif").write_bytes(b"none")
    plain(folder / "other" / "large.png", width=99, height=99)
    save(folder / "other" / "red.png", np.full((24, 24, 3), 90, np.uint8))
    return folder


def test_what_cannot_be_inspected_is_named_and_the_rest_is(
    home: Path, mixed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "inspection"
    said = watchkeeper("vision", "inspect", home / "model", mixed, "--out", out, "--json")
    assert said.code == 1
    assert "3 pictures could not be inspected" in said.err
    assert "1 .tif passed over: JPEG and PNG are read" in said.err
    assert (said.json["pictures"], said.json["inspected"]) == (27, 24)
    refused = said.json["refused"]
    assert sorted(refused) == ["broken.png", "other/large.png", "other/red.png"]
    assert "no JPEG and no PNG" in refused["broken.png"]
    assert "99 x 99 pixels" in refused["other/large.png"]
    assert "with 3" in refused["other/red.png"]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert all(name in page for name in refused)


def test_the_report_has_a_page_a_row_for_each_defect_and_overlays(
    home: Path, tmp_path: Path
) -> None:
    table = tmp_path / "acceptance.yaml"
    table.write_text(
        "classes:\n  lying: [{of: count, reject_over: 0}]\n  standing: []\n", encoding="utf-8"
    )
    out = tmp_path / "inspection"
    words = ("vision", "inspect", home / "model", home / "kept_aside", "--out", out)
    said = watchkeeper(*words, "--acceptance", table, "--mm-per-pixel", "0.05")
    assert said.code == 0, said.err
    assert "inspected: 24 pictures" in said.out
    assert "where it looked" not in said.err
    with (out / "defects.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert {row["picture"] for row in rows} == {
        path.relative_to(home / "kept_aside").as_posix()
        for path in (home / "kept_aside").rglob("*.png")
    }
    wrong = [row for row in rows if row["label"] != "good"]
    assert wrong
    for row in wrong:
        assert (out / row["overlay"]).is_file()
        assert Path(row["overlay"]).suffixes == [".png"]
        assert row["length_mm"] == row["area_px"] == row["size_by"] == ""  # where it looked
        assert row["grade"] == ("reject" if row["label"] == "lying" else "accept")
    accepted = [row for row in wrong if row["label"] == "standing"]
    assert {row["rule"] for row in accepted} == {"standing: no rule"}
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count("<article>") == 24
    assert "src='data:image/jpeg;base64," in page
    assert "://" not in page  # it holds all that it shows
    assert page.index("reject</b>") < page.index("accept</b>")  # the worst first


def test_a_rule_of_a_size_that_the_inspection_cannot_know_is_said_and_not_judged(
    home: Path, tmp_path: Path
) -> None:
    table = tmp_path / "acceptance.yaml"
    table.write_text("classes: {lying: [{of: length_px, reject_over: 1}], standing: []}\n", "utf-8")
    words = ("vision", "inspect", home / "model", home / "kept_aside", "--out", tmp_path / "x")
    said = watchkeeper(*words, "--acceptance", table)
    assert "acceptance.yaml: the model has learnt classes: it says where it looked" in said.err
    with (tmp_path / "x" / "defects.csv").open(encoding="utf-8", newline="") as file:
        lying = [row for row in csv.DictReader(file) if row["label"] == "lying"]
    assert {(row["grade"], row["rule"]) for row in lying} == {("none", "lying: length_px")}


def test_pictures_of_one_name_keep_their_overlays(home: Path, tmp_path: Path) -> None:
    lying = next((home / "kept_aside" / "lying").glob("*.png")).read_bytes()
    (tmp_path / "in").mkdir()
    for name in ("7.png", "7.JPG"):  # what a file is is told by its content
        (tmp_path / "in" / name).write_bytes(lying)
    out = tmp_path / "out"
    said = watchkeeper("vision", "inspect", home / "model", tmp_path / "in", "--out", out)
    assert said.code == 0, said.err
    assert {one.name for one in (out / "overlays").iterdir()} == {"7.png", "7.png.png"}


def test_one_class_alone_wants_to_be_called_good(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "pictures" / "lying", tmp_path / "pictures" / "lying")
    said = watchkeeper("vision", "train", tmp_path / "pictures", "--out", tmp_path / "model")
    assert said.code == 2
    assert "every picture is labelled 'lying'; want two classes or more, or" in said.err
    assert "training model" not in said.err


def test_a_training_that_is_stopped_within_its_first_pass_does_not_speak_of_a_checkpoint(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(console, "interruptible", lambda **_: nullcontext(Stopping(3)))
        said = train(home, tmp_path / "model")
    assert said.code == 130
    assert "training was stopped within its first pass; nothing is kept" in said.err
    assert not (tmp_path / "model.checkpoint").exists()


def test_names_are_shown_whatever_is_in_them_and_a_table_holds_no_formula(
    home: Path, tmp_path: Path
) -> None:
    one = next((home / "kept_aside" / "lying").iterdir())
    names = ["=1+2.png", "a#b?c%20.png", os.fsdecode(b"d\xff.png"), os.fsdecode(b"@\xfe.png")]
    for name in names[:3]:
        (tmp_path / "new" / name).parent.mkdir(exist_ok=True)
        shutil.copy(one, tmp_path / "new" / name)
    (tmp_path / "new" / names[3]).write_bytes(b"none")
    out = tmp_path / "inspection"
    said = watchkeeper("vision", "inspect", home / "model", tmp_path / "new", "--out", out)
    assert said.code == 1, said.err
    with (out / "defects.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["picture"] for row in rows] == [
        *("'=1+2.png", "'@\\udcfe.png", "a#b?c%20.png", "d\\udcff.png")
    ]
    page = (out / "report.html").read_text(encoding="utf-8")
    links = re.findall("href='([^']+)'", page)
    assert len(links) == 3
    for link in links:
        assert (out / unquote(urlsplit(link).path)).is_file()


def test_what_is_printed_may_hold_a_name_that_is_no_utf8(monkeypatch: pytest.MonkeyPatch) -> None:
    held = io.BytesIO()
    out = io.TextIOWrapper(held, "utf-8")
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr(cli, "app", lambda **_: out.write("d\udcff"))
    cli.main()
    out.flush()
    assert held.getvalue() == b"d\\udcff"


def test_a_folder_of_somebody_else_is_not_written_to(home: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    words = ("vision", "inspect", home / "model", home / "kept_aside")
    said = watchkeeper(*words, "--out", tmp_path)
    assert said.code == 4
    assert "is there, and is no report" in said.err
    words = ("vision", "evaluate", home / "model", home / "kept_aside")
    said = watchkeeper(*words, "--out", tmp_path)
    assert said.code == 4
    assert "is there, and is no report" in said.err
    (tmp_path / "model.report").mkdir()
    (tmp_path / "model.report" / "mine.txt").touch()
    said = train(home, tmp_path / "model")
    assert said.code == 4
    assert "model.report: is there, and is no report. Rename it, or give another" in said.err
    assert not (tmp_path / "model.checkpoint").exists()


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("--templates", "a.png"), 2, "has learnt without templates: leave --templates out"),
        (("--mm-per-pixel", "0"), 2, "want mm above 0"),
        (("--acceptance", "none.yaml"), 2, "none.yaml: no such file. docs/severity.md shows one"),
    ],
)
def test_what_is_asked_wrongly_is_said(
    home: Path, tmp_path: Path, words: tuple[str, ...], code: int, says: str
) -> None:
    given = ("vision", "inspect", home / "model", home / "kept_aside", "--out", tmp_path / "x")
    said = watchkeeper(*given, *words)
    assert (said.code, says in said.err) == (code, True), said.err


# ---- boxes, beside templates


BOXES = """
network: {width: 4, depth: [1, 1], stem: half}
finder:
  network: {width: 8, depth: [1, 1], stem: half}
  crop: 32
  patch: 20
fit:
  epochs: 2
  batch_size: 16
  learning_rate: 0.01
  validation_share: 0.35
"""


def test_boxes_of_coco_are_learnt_beside_templates_measured_and_found(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    images, annotations = {}, []
    for number in range(60):
        name = f"{number:02d}.png"
        board = draw.integers(60, 90, (40, 48), np.uint8)
        save(tmp_path / "golden" / name, board)
        if number % 3:
            x, y = (int(one) for one in draw.integers(4, 30, 2))
            board[y : y + 5, x : x + 12] += 100
            annotations.append({"image_id": number + 1, "bbox": [x, y, 12, 5]})
        save(tmp_path / "boards" / name, board)
        images[name] = (48, 40)
    coco(tmp_path / "boards" / "labels.json", images, annotations, ["bar"])
    (tmp_path / "settings.yaml").write_text(BOXES, encoding="utf-8")
    given = (tmp_path / "boards", "--templates", tmp_path / "golden")
    pattern = ("--groups", "([0-9]+)")
    words = ("--out", tmp_path / "model", "--settings", tmp_path / "settings.yaml", *pattern)

    said = watchkeeper("vision", "train", *given, *words)
    assert said.code == 0, said.err
    assert "boxes: bar 40" in said.err
    assert "map 50: " in said.out
    card = Inspection.load(tmp_path / "model").card
    assert (card.task, card.good, card.seen.paired) == ("boxes", "good", True)
    assert (card.settings.preprocess.height, card.settings.preprocess.width) == (40, 48)

    out = ("--out", tmp_path / "evaluation", "--json")
    said = watchkeeper("vision", "evaluate", tmp_path / "model", *given, *out)
    assert said.code == 0, said.err
    assert said.json["classes"]["bar"]["marked"] == 40
    assert 0 <= said.json["whole"]["map_50"] <= 1

    out = ("--out", tmp_path / "inspection", "--json")
    said = watchkeeper("vision", "inspect", tmp_path / "model", *given, *out)
    assert said.code == 0, said.err
    assert said.json["inspected"] == 60

    said = watchkeeper("vision", "inspect", tmp_path / "model", tmp_path / "boards")
    assert said.code == 2
    assert "compares with golden templates: give --templates" in said.err
    (tmp_path / "boards" / "labels.json").unlink()
    table = "image,label\n" + "".join(f"{name},bar\n" for name in images)
    (tmp_path / "boards" / "labels.csv").write_text(table, encoding="utf-8")
    said = watchkeeper("vision", "evaluate", tmp_path / "model", *given)
    assert said.code == 2
    assert "gives one class for each picture, and this inspection has learnt from boxes" in said.err


PIXELS = """
network: {width: 4, depth: [1, 1], stem: half}
mask:
  network: {width: 8, depth: [1, 1], stem: half}
  crop: 32
  made_up: [5, 16]
finder:
  network: {width: 4, depth: [1, 1], stem: half}
  crop: 32
  patch: 20
fit:
  epochs: 2
  batch_size: 8
  learning_rate: 0.02
  validation_share: 0.35
"""


def plates(folder: Path, count: int, *, wrong: int) -> list[dict[str, object]]:
    """Pictures of 40 x 48, the last of them with a dark patch; what COCO says of those."""
    draw, annotations = np.random.default_rng(count), []
    for number in range(count):
        plate = draw.normal(128, 8, (40, 48))
        if number >= count - wrong:
            x, y, across, down = (int(one) for one in draw.integers(6, 14, 4))
            plate[y : y + down, x : x + across] -= 90
            corners = [x, y, x + across, y, x + across, y + down, x, y + down]
            annotations.append({"image_id": number + 1, "segmentation": [corners]})
        save(folder / f"{number:03d}.png", np.clip(plate, 0, 255).astype(np.uint8))
    return annotations


def test_masks_of_coco_are_learnt_as_masks_unless_boxes_are_asked_for(tmp_path: Path) -> None:
    folder = tmp_path / "plates"
    annotations = plates(folder, 90, wrong=24)
    coco(folder / "labels.json", {f"{n:03d}.png": (48, 40) for n in range(90)}, annotations)
    (tmp_path / "settings.yaml").write_text(PIXELS, encoding="utf-8")
    words = ("--settings", tmp_path / "settings.yaml", "--groups", "([0-9]+)")

    said = watchkeeper("vision", "train", folder, "--out", tmp_path / "model", *words)
    assert said.code == 0, said.err
    assert "masks: pit 24" in said.err
    assert "aupro: " in said.out
    assert Inspection.load(tmp_path / "model").card.task == "masks"

    out = ("--out", tmp_path / "evaluation", "--json")
    said = watchkeeper("vision", "evaluate", tmp_path / "model", folder, *out)
    assert said.code == 0, said.err
    assert said.json["classes"]["pit"]["pictures"] == 24
    assert 0 <= said.json["whole"]["pixel_ap"] <= 1

    said = watchkeeper("vision", "train", folder, "--out", tmp_path / "other", "--boxes", *words)
    assert said.code == 0, said.err
    assert Inspection.load(tmp_path / "other").card.task == "boxes"
    said = watchkeeper("vision", "evaluate", tmp_path / "other", folder, *out)
    assert said.code == 0, said.err  # whoever knows masks knows boxes


def test_good_pictures_alone_are_learnt_and_others_measured_by_any_label(tmp_path: Path) -> None:
    plates(tmp_path / "pictures" / "good", 70, wrong=0)
    (tmp_path / "settings.yaml").write_text(PIXELS, encoding="utf-8")

    said = train(tmp_path, tmp_path / "model", "--groups", "([0-9]+)")
    assert said.code == 0, said.err
    assert Inspection.load(tmp_path / "model").card.task == "good"

    plates(tmp_path / "aside" / "good", 6, wrong=0)
    plates(tmp_path / "aside" / "pit", 5, wrong=5)
    out = ("--out", tmp_path / "evaluation", "--json")
    said = watchkeeper("vision", "evaluate", tmp_path / "model", tmp_path / "aside", *out)
    assert said.code == 0, said.err
    assert said.json["classes"]["anomaly"]["pictures"] == 5
    assert said.json["classes"]["good"]["pictures"] == 6

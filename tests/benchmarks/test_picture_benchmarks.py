"""The benchmarks of pictures run on any folder of their layout, and seeds add up over runs."""

import importlib
import io
import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.bars import FIT, SETTINGS, bars

from models.bundle import code_version
from models.vision.inspected import Defect, Inspected

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

Run = Callable[..., dict[str, Any]]


def folder(path: Path, count: int, *, seed: int = 0) -> Path:
    """A folder of so many pictures of each class, as the sets are laid out."""
    given = bars(count, seed=seed)
    path.mkdir()
    lines = ["image,label"]
    with zipfile.ZipFile(path / "images.zip", "w") as archive:
        for number, (picture, label) in enumerate(zip(given.pictures, given.labels, strict=True)):
            kept = io.BytesIO()
            Image.fromarray(picture[..., 0]).save(kept, "png")
            archive.writestr(f"{number}.png", kept.getvalue())
            lines.append(f"{number}.png,{label}")
    (path / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Start a benchmark of bars with these words; gives what it keeps."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    pictures = importlib.import_module("_pictures")
    monkeypatch.setattr(pictures, "SPEED_ROUNDS", 1)

    def started(*words: str | Path, epochs: int = 3) -> dict[str, Any]:
        task = pictures.Task(
            name="bars",
            settings=SETTINGS,
            fit=FIT.model_copy(update={"epochs": epochs}),
            good="good",
            floors={"accuracy": 0.9},
            speed_pictures=8,
        )
        kept = tmp_path / "kept.json"
        given = ["bars.py", *map(str, words), "--json", str(kept)]
        monkeypatch.setattr(sys, "argv", given)
        pictures.main(task, "Bars.")
        found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
        return found

    return started


def test_seeds_of_several_runs_add_up_and_other_settings_begin_anew(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = folder(tmp_path / "data", 80)

    run("--data", data, "--seeds", "3")
    both = run("--data", data, "--seeds", "5")
    other = run("--data", data, "--seeds", "3", epochs=2)

    assert both["seeds"] == [3, 5]
    each = [both["by_seed"][seed]["accuracy"] for seed in ("3", "5")]
    assert both["metrics"]["accuracy"] == pytest.approx(np.mean(each))
    assert both["spread"]["accuracy"] == [min(each), max(each)]
    assert both["pictures"] == {"learning": 192, "judged": 48}
    assert both["judged_by"].startswith("a part held back")
    assert {"balanced_accuracy", "recall_lying", "binary_auroc", "pictures_per_s"} <= set(
        both["metrics"]
    )
    assert other["seeds"] == [3]
    assert "| accuracy | " in capsys.readouterr().out


def test_pictures_of_a_test_folder_judge_and_what_was_made_is_kept(
    run: Run, tmp_path: Path
) -> None:
    data, test = folder(tmp_path / "data", 60), folder(tmp_path / "test", 10, seed=1)

    found = run("--data", data, "--test", test, "--seeds", "0", "--keep", tmp_path / "kept")

    assert found["pictures"] == {"learning": 180, "judged": 30}
    assert found["judged_by"] == "the test part"
    made = tmp_path / "kept" / "bars-0"
    assert (made / "bundle" / "card.json").is_file()
    assert (made / "report" / "report.md").is_file()
    assert not (made / "checkpoint").exists()


def test_a_training_that_went_on_keeps_the_time_of_the_whole_one(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = folder(tmp_path / "data", 80)
    words = ("--data", data, "--seeds", "0", "--keep", tmp_path / "kept")
    before = run(*words)["by_seed"]["0"]

    def broken(*_args: object) -> float:
        raise InterruptedError

    with monkeypatch.context() as patched:
        patched.setattr(importlib.import_module("_pictures"), "_speed", broken)
        with pytest.raises(InterruptedError):
            run(*words)
    assert (tmp_path / "kept" / "bars-0" / "checkpoint").is_dir()
    after = run(*words)["by_seed"]["0"]

    assert after["training_cpu_s"] == before["training_cpu_s"]
    assert after["accuracy"] == before["accuracy"]


def test_seeds_of_as_many_other_pictures_begin_anew(run: Run, tmp_path: Path) -> None:
    run("--data", folder(tmp_path / "data", 80), "--seeds", "3")
    other = run("--data", folder(tmp_path / "other", 80, seed=1), "--seeds", "5")

    assert other["seeds"] == [5]
    assert other["code"] == {"5": code_version()}


def test_a_folder_of_another_layout_is_refused(run: Run, tmp_path: Path) -> None:
    data = folder(tmp_path / "data", 2)
    (data / "images.zip").write_bytes(b"no archive")

    with pytest.raises(SystemExit, match=r"images.zip: File is not a zip file"):
        run("--data", data)
    (data / "labels.csv").write_text("name,label\na,b\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="want columns image, label"):
        run("--data", data)


def pairs(path: Path, count: int) -> Path:
    """A folder of boards beside their templates, with a dot or a ring drawn onto each but one."""
    draw = np.random.default_rng(0)
    path.mkdir()
    lines = ["image,x1,y1,x2,y2,label"]
    with zipfile.ZipFile(path / "pairs.zip", "w") as archive:
        for number in range(count):
            template = draw.random((48, 48)) > 0.98
            test = template.copy()
            x, y = draw.integers(8, 32, 2)
            if number:
                test[y : y + 8, x : x + 8] = True
                test[y + 3 : y + 5, x + 3 : x + 5] = bool(number % 2)
                lines.append(f"{number:04},{x},{y},{x + 8},{y + 8},{['ring', 'dot'][number % 2]}")
            for picture, name in ((test, "test"), (template, "temp")):
                kept = io.BytesIO()
                Image.fromarray(picture).save(kept, "png")
                archive.writestr(f"{number:04}_{name}.png", kept.getvalue())
    (path / "boxes.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_boards_are_read_beside_their_templates_and_counted_as_the_public_scorers_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    deeppcb = importlib.import_module("deeppcb")
    data = deeppcb.read_pairs(pairs(tmp_path / "data", 5))
    found = [
        Inspected(
            label="dot",
            probability=0.9,
            probabilities={},
            anomaly=0.0,
            surprise=0.0,
            heat=np.zeros((48, 48), np.uint8),
            features=np.zeros(1, np.float32),
            defects=tuple(Defect(label="dot", probability=0.9, box=one.box) for one in own),
        )
        for own in data.boxes
    ]
    inspection = SimpleNamespace(each=lambda *_, **__: iter(found))

    figures = data.figures(inspection, tmp_path / "report")

    assert data.names[1] == "0001"
    assert data.shown == [("good",), ("dot",), ("ring",), ("dot",), ("ring",)]
    assert data.pictures[1].shape == data.templates[1].shape == (48, 48, 1)
    assert data.pictures[1].dtype == np.uint8
    assert figures["ap50_dot"] == pytest.approx(5 / 6)  # of 2 dots, and 2 rings called so, in turn
    assert figures["map50"] == pytest.approx(5 / 12)
    assert figures["f1_33"] == 0.5
    assert (tmp_path / "report" / "found.csv").read_text().count(",dot,0.9") == 4


def test_a_folder_of_boards_without_their_boxes_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    deeppcb = importlib.import_module("deeppcb")
    data = pairs(tmp_path / "data", 2)
    (data / "boxes.csv").write_text("image,label\n0001,dot\n", encoding="utf-8")

    with pytest.raises(importlib.import_module("_detection").LayoutError, match="want columns"):
        deeppcb.read_pairs(data)


def test_each_set_names_settings_that_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)

    for name in ("deeppcb", "solar_ir", "xsdd"):
        task = importlib.import_module(name).TASK
        assert task.name == name
        assert task.floors

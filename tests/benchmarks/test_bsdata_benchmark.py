"""The benchmark of pits runs on any folder of its layout, and ways to learn add up over runs."""

import dataclasses
import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.vision.settings import (
    InspectionSettings,
    MaskSettings,
    NetworkSettings,
    PreprocessSettings,
)

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
HIGH, WIDE = 32, 48
SMALL = NetworkSettings(width=4, depth=(1, 1), stem="half")

Run = Callable[..., dict[str, Any]]


def folder(path: Path) -> Path:
    """Twelve places of seventeen frames, two of them larger: from the eleventh on a pit grows."""
    draw = np.random.default_rng(0)
    (path / "frames").mkdir(parents=True)
    (path / "masks").mkdir()
    lines = ["image,location,index_in_sequence,annotated,frames_before_first_annotation"]
    for place in range(12):
        larger = 1 + (place > 9)
        for index in range(17):
            picture = draw.normal(150, 5, (HIGH * larger, WIDE * larger, 3))
            side = 2 * larger * max(index - 9, 0)
            mask = np.zeros(picture.shape[:2], np.bool_)
            mask[4 : 4 + side, 5 + place : 5 + place + side] = True
            picture[mask] = 40
            name = f"{place}_{index}"
            Image.fromarray(picture.astype(np.uint8)).save(path / "frames" / f"{name}.png")
            if side:
                Image.fromarray(mask).save(path / "masks" / f"{name}.png")
            before = "" if side else 10 - index
            lines.append(f"{name}.png,place {place},{index},{int(side > 0)},{before}")
    (path / "frames.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Start it with these words; gives what it keeps."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    bsdata = importlib.import_module("bsdata")
    settings = InspectionSettings(
        preprocess=PreprocessSettings(height=HIGH, width=WIDE),
        network=SMALL,
        mask=MaskSettings(network=SMALL, crop=16, made_up=(3, 10)),
    )
    fit = bsdata.TASK.fit.model_copy(update={"validation_share": 0.5})
    monkeypatch.setattr(
        bsdata, "TASK", dataclasses.replace(bsdata.TASK, settings=settings, fit=fit)
    )
    monkeypatch.setattr(bsdata, "SPEED_ROUNDS", 1)
    monkeypatch.setattr(bsdata, "PROGRESSION", {"members": 2, "epochs": 2})

    def started(*words: str | Path) -> dict[str, Any]:
        kept = tmp_path / "kept.json"
        monkeypatch.setattr(sys, "argv", ["bsdata.py", *map(str, words), "--json", str(kept)])
        bsdata.main()
        found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
        return found

    return started


def test_each_way_to_learn_adds_its_figures_to_those_of_its_seed(run: Run, tmp_path: Path) -> None:
    data = folder(tmp_path / "data")
    words = ("--data", data, "--quick", "--seeds", "4", "--learn")

    run(*words, "masks")
    found = run(*words, "good", "labels")

    assert found["seeds"] == [4]
    assert {
        "pixel_ap",
        "aupro",
        "dice",
        "image_auroc",
        "severity_spearman",
        "area_error",
        "progression_gain",
        "pictures_per_s",
        "pointing",
        "good_image_auroc",
        "labels_pointing",
    } <= set(found["metrics"])
    assert all(np.isfinite(value) for value in found["metrics"].values())
    pictures = found["pictures"]
    assert pictures["learning"] + pictures["judged"] == 12 * 17
    assert pictures["judged"] % 17 == 0


@pytest.mark.usefixtures("run")
def test_a_frame_before_the_first_pit_or_without_one_after_it_is_doubtful(tmp_path: Path) -> None:
    data = folder(tmp_path / "data")
    lines = (data / "frames.csv").read_text(encoding="utf-8")
    (data / "frames.csv").write_text(
        lines.replace("0_12.png,place 0,12,1,", "0_12.png,place 0,12,0,"), encoding="utf-8"
    )

    frames = sys.modules["bsdata"].read(data)[:17]

    assert [frame.doubtful for frame in frames] == [n in {7, 8, 9, 12} for n in range(17)]
    assert [frame.label for frame in frames] == ["good"] * 10 + ["pit", "pit", "good"] + ["pit"] * 4


def test_a_folder_without_its_pictures_is_refused(run: Run, tmp_path: Path) -> None:
    data = folder(tmp_path / "data")
    (data / "frames" / "3_2.png").write_bytes(b"no picture")

    with pytest.raises(SystemExit, match=r"3_2.png: cannot be read as a picture"):
        run("--data", data)

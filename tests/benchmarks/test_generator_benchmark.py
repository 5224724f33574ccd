"""The benchmarks of made pictures and of progression judge as they say they do."""

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image
from support.bars import FIT, SETTINGS, bars

from models.vision import comparing
from models.vision.settings import GeneratorSettings

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def generator(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("generator")


@pytest.fixture
def progression(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("progression")


def test_made_pictures_and_copies_teach_alone_and_all_three_are_judged_by_the_same(
    generator: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = sys.modules["_pictures"].Task(
        name="bars",
        settings=SETTINGS,
        fit=FIT.model_copy(update={"epochs": 1}),
        good="good",
        floors={},
    )
    question = generator.Question(
        task=task,
        rare=("lying",),
        settings=GeneratorSettings(
            noise=8, width=4, widest=8, steps=40, batch_size=8, check_every=40, half_life=2
        ),
    )
    given = bars(60)
    rows = [n for n, label in enumerate(given.labels) if label != "lying" or n % 2]
    data = sys.modules["_pictures"].Labelled(
        names=tuple(map(str, rows)),
        pictures=tuple(given.pictures[n] for n in rows),
        labels=tuple(given.labels[n] for n in rows),
    )
    taught = []
    learn = comparing.train

    def watched(examples, *args, **options):
        trained = learn(examples, *args, **options)
        taught.append((examples, trained))
        return trained

    monkeypatch.setattr(comparing, "train", watched)
    figures = generator.measured(question, 0, data, data, None)

    plain, copies, made = taught
    learnt = plain[1].inspection.card.learnt["lying"]
    assert plain[1].inspection.card.made == {}
    for examples, trained in (copies, made):
        assert trained.inspection.card.made == {"lying": 2 * learnt}  # three times with its own
        assert trained.inspection.card.held_out == plain[1].inspection.card.held_out
        assert not trained.held_out[len(rows) :].any()
        assert len(examples.pictures) == len(rows) + 2 * learnt
    real = {picture.tobytes() for picture in plain[0].pictures}
    held = {
        picture.tobytes()
        for picture, out in zip(plain[0].pictures, plain[1].held_out, strict=True)
        if out
    }
    assert {picture.tobytes() for picture in copies[0].pictures[len(rows) :]} <= real - held
    assert not {picture.tobytes() for picture in made[0].pictures[len(rows) :]} & real
    assert {f"{arm}_recall_lying" for arm in comparing.ARMS} <= figures.keys()
    assert figures["collapsed"] == 0


def test_a_pit_is_foretold_from_folders_of_frames(
    progression: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [
        "image,location,index_in_sequence,annotated,frames_before_first_annotation,pit_area_px"
    ]
    (tmp_path / "frames").mkdir()
    for place in range(4):
        for index in range(16):
            name, area = f"{place}_{index}.png", max(index - 5, 0) ** 2 * (place + 2)
            shown = np.full((16, 24), 100 + index, np.uint8)
            Image.fromarray(shown).save(tmp_path / "frames" / name)
            before = 6 - index if area == 0 else ""
            lines.append(f"{name},place {place},{index},{int(area > 0)},{before},{area or ''}")
    (tmp_path / "frames.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    kept = tmp_path / "kept.json"
    given = ["progression.py", "--data", str(tmp_path), "--quick", "--json", str(kept)]
    monkeypatch.setattr(sys, "argv", given)

    progression.main("progression", "", progression.measure)
    found = json.loads(kept.read_text(encoding="utf-8"))
    places = progression.read(tmp_path)

    assert found["metrics"]["gain"] > -1
    assert found["baselines"]["stays as it is"]["gain"] == 0
    assert places[0].known.tolist() == [True] * 3 + [False] * 3 + [True] * 10
    assert places[0].area.tolist()[5:8] == [0, 2, 8]


def test_pairs_that_span_the_jump_of_all_places_are_left_out_of_the_gain_elsewhere(
    progression: ModuleType,
) -> None:
    place = progression.Place(
        name="a",
        position=np.arange(50.0, 64.0),
        features=np.zeros((14, 1), np.float32),
        area=np.where(np.arange(50, 64) < 57, 100.0, 200.0),
        known=np.ones(14, np.bool_),
    )
    stays = np.repeat(place.area[:, None], 5, axis=1).astype(np.float32)
    knows = np.where((place.position < 57)[:, None] & (place.position >= 52)[:, None], 200, stays)
    outlook = progression.Outlook(area=knows, low=knows, high=knows, onset=knows[:, 0])
    slow = replace(place, area=place.area + np.arange(14.0))  # or nothing would err elsewhere
    found = progression.figures([(slow, outlook)], progression.ProgressionSettings())

    assert found["stays as it is"]["area_error"] == pytest.approx((5 * 105 + 4 * 5) / 9)
    assert found["GRU"]["gain"] > 0.8
    assert found["GRU"]["gain_elsewhere"] < 0

"""What an earlier version has kept: every later one loads it, and hears the same of it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.bars import CLASSES, bar

from models.vision.generator import PictureGenerator
from models.vision.inspection import Inspection
from models.vision.progression import Progression
from models.vision.sequences import Place, follow

OLD = Path(__file__).parents[2] / "data" / "vision"


def inspection(folder: Path) -> dict[str, Any]:
    draw = np.random.default_rng(7)
    found = Inspection.load(folder).inspect([bar(label, draw) for label in CLASSES])
    return {
        "label": [one.label for one in found],
        "probability": [one.probability for one in found],
        "surprise": [one.surprise for one in found],
    }


def progression(folder: Path) -> dict[str, Any]:
    growing = np.arange(12.0)
    outlook = follow(
        Progression.load(folder),
        Place(
            name="a",
            position=growing,
            features=np.stack([growing / 12, growing * 0], 1).astype(np.float32),
            area=growing**2,
            known=np.ones(12, np.bool_),
        ),
    )
    return {"area": outlook.area[-1].tolist(), "low": outlook.low[-1].tolist()}


def generator(folder: Path) -> dict[str, Any]:
    old = PictureGenerator.load(folder)
    made = old.make(old.card.classes * 2, seed=7)
    return {"mean": made.mean((1, 2, 3)).tolist(), "spread": made.std((1, 2, 3)).tolist()}


KINDS = {"inspection": inspection, "progression": progression, "generator": generator}


@pytest.mark.parametrize("path", sorted(OLD.glob("*/")), ids=lambda path: path.name)
def test_an_old_model_of_pictures_loads_and_says_what_it_always_said(path: Path) -> None:
    said = json.loads((OLD / "answers.json").read_text(encoding="utf-8"))[path.name]
    found = KINDS[path.name.partition("-")[0]](path)
    assert found.keys() == said.keys()
    for name, values in found.items():
        if isinstance(values[0], str):
            assert values == said[name]
        else:
            np.testing.assert_allclose(values, said[name], rtol=1e-3, atol=1e-3)


def test_there_is_an_old_one_of_every_kind() -> None:
    assert {path.name for path in OLD.glob("*/")} >= {f"{kind}-schema-1" for kind in KINDS}

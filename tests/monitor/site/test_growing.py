"""`watchkeeper vision progression`: a folder of pictures and a table of places to a model."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from support.commands import watchkeeper
from support.pictures import png

from models.vision.inspected import Defect, Inspected
from models.vision.inspection import Inspection
from models.vision.preprocess import PictureError
from models.vision.progression import Measured, Progression, ProgressionSettings
from monitor.cli import vision

SIDE = 32


class Bright:
    """What is bright is a pit; its features are how bright a picture is, and nothing."""

    hash = "7" * 64

    def __init__(self, task="masks"):
        self.card = SimpleNamespace(task=task, seen=SimpleNamespace(paired=False))

    def check(self, picture, what):
        if picture.shape[2] != 1:
            raise PictureError(f"{what}: want 1 channel")
        return picture

    def inspect(self, pictures, templates=None):  # noqa: ARG002 (takes none)
        return [self._one(picture) for picture in pictures]

    def _one(self, picture):
        mask = picture[:, :, 0] > 128
        pit = Defect(label="pit", probability=0.9, box=(0.0, 0.0, SIDE, SIDE), mask=mask)
        wrong = bool(mask.any())
        return Inspected(
            label="pit" if wrong else "good",
            probability=0.9,
            probabilities={"good": 0.1, "pit": 0.9},
            anomaly=0.0,
            surprise=0.0,
            heat=np.zeros((SIDE, SIDE), np.uint8),
            defects=(pit,) if wrong else (),
            features=np.array([picture.mean() / 255, 0.0], np.float32),
        )


def rows(places=4, pictures=12):
    """Lines of a table: each place has a pit that grows from its third picture on."""
    return [
        [f"{place}_{n}.png", f"p{place}", n] for place in range(places) for n in range(pictures)
    ]


def area(place, n):
    return max(n - 2, 0) ** 2 * (1 + place % 2)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder with pictures and a table; the inspection is a stand-in, learning is short."""
    monkeypatch.setattr(Inspection, "load", classmethod(lambda *_, **__: Bright()))
    short = ProgressionSettings(ahead=2, within=3, members=2, epochs=30, hidden=8)
    monkeypatch.setattr(vision, "_progression_settings", lambda *_: short)
    for name, place, n in rows():
        picture = np.full((SIDE * SIDE, 1), 40, np.uint8)
        picture[: area(int(place[1:]), n)] = 200
        (tmp_path / name).write_bytes(png(picture.reshape(SIDE, SIDE, 1)))
    table(tmp_path, rows())
    return tmp_path


def table(folder, lines, *more, names=("image", "place", "position")):
    said = [",".join([*names, *more]), *(",".join(map(str, line)) for line in lines)]
    (folder / "places.csv").write_text("\n".join(said) + "\n", encoding="utf-8")


def learn(home, *words):
    return watchkeeper("vision", "progression", "model", home, "--out", home / "growth", *words)


def test_areas_are_those_of_the_masks_and_the_model_knows_whose_features_it_learnt(home):
    said = learn(home, "--json")
    assert said.code == 0, said.err
    found = json.loads(said.out)
    assert found["areas"] == "masks"
    assert found["places"] == dict.fromkeys(("p0", "p1", "p2", "p3"), 12)
    model = Progression.load(home / "growth")
    assert model.card.inspection == Bright.hash
    assert (model.card.position_unit, model.card.area_unit) == ("pictures", "px")
    stays = [area(p, n + 2) - area(p, n) for p in range(4) for n in range(3, 10)]
    assert found["persistence"] == pytest.approx(np.mean(stays))


def test_measured_areas_of_the_table_come_before_those_of_masks(home):
    twice = [[*row, 0.25 * 2 * area(int(row[1][1:]), row[2])] for row in rows()]
    table(home, twice, "area_mm2")
    found = json.loads(learn(home, "--json", "--mm-per-pixel", "0.5").out)
    assert found["areas"] == "table"
    stays = [2 * (area(p, n + 2) - area(p, n)) for p in range(4) for n in range(3, 10)]
    assert found["persistence"] == pytest.approx(np.mean(stays))


def test_people_are_told_the_errors_beside_the_simple_ways(home):
    said = learn(home, "--unit", "h")
    assert said.code == 0, said.err
    assert "from 48 pictures of 4 places; areas by the inspection's masks" in said.out
    for name in ("this model", "it stays as it is", "a line through the last areas"):
        assert name in said.out
    assert Progression.load(home / "growth").card.position_unit == "h"


@pytest.mark.parametrize(
    ("error", "says"), [(3.0, "'it stays as it is': its error is 3.0, that"), (1.9, "not better")]
)
def test_a_model_that_is_no_better_says_so(home, monkeypatch, error, says):
    worse = Measured(
        pictures=9, error=error, persistence=2.0 if error > 2 else 1.0, linear=4.0, within=0.8,
        onset_auroc=None,
    )  # fmt: skip
    monkeypatch.setattr("models.vision.sequences.measure", lambda *_: worse)
    said = learn(home)
    assert says in said.err
    assert "Do not use it" in said.err


def test_a_picture_that_cannot_be_inspected_is_named_and_left_out(home):
    (home / "1_5.png").write_bytes(b"none")
    said = learn(home)
    assert said.code == 0, said.err
    assert "1 picture left out: " in said.err
    assert "1_5.png" in said.err
    assert Progression.load(home / "growth").card.places["p1"] == 11


def test_an_inspection_without_masks_wants_areas_in_the_table(home, monkeypatch):
    monkeypatch.setattr(Inspection, "load", classmethod(lambda *_, **__: Bright("boxes")))
    said = learn(home)
    assert said.code == 2
    assert "this inspection gives no masks, so areas must be in the table" in said.err
    table(home, [[*row, area(int(row[1][1:]), row[2])] for row in rows()], "area_px")
    said = learn(home)
    assert said.code == 0, said.err
    assert "the service cannot use it" in said.err


def changed(number, column, value):
    lines = rows()
    lines[number] = [*lines[number][:column], value, *lines[number][column + 1 :]]
    return lines


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (rows(places=2), "2 places (p0, p1); want 3 or more"),
        ([*rows(), ["0_0.png", "p9", 1]], "one picture only of place p9"),
        (changed(3, 2, 2), "places.csv:5: place p0 is at position 2 after 2 in line 4; want posit"),
        (changed(3, 2, 1), "position 1 after 2 in line 4"),
        (changed(3, 2, "three"), "places.csv:5: position is 'three'; want a number"),
        (changed(3, 1, ""), "places.csv:5: no place"),
        (changed(3, 0, "x.png"), "1 of 48 pictures that places.csv names are not there: x.png"),
    ],
)
def test_what_is_wrong_with_a_table_is_said_with_its_line(home, lines, says):
    table(home, lines)
    said = learn(home)
    assert said.code == 2
    assert says in said.err
    assert not (home / "growth").exists()


def test_columns_and_tables_that_are_missing_or_too_many_are_said(home):
    table(home, rows(), names=("image", "place", "frame"))
    assert "no column position; got image, place, frame. Want image, place and" in learn(home).err
    table(home, [[*row, 1, 1] for row in rows()], "area_px", "area_mm2")
    assert "columns area_px and area_mm2; want one of them" in learn(home).err
    table(home, [[*row, 1] for row in rows()], "area_mm2")
    assert "say how large a pixel is, --mm-per-pixel" in learn(home).err
    table(home, [[*row, -1] for row in rows()], "area_px")
    assert "area_px -1; want 0 or more" in learn(home).err
    (home / "other.csv").write_text("")
    assert "several tables: other.csv, places.csv. Name one by --table" in learn(home).err
    assert "--unit: got 'weeks'" in learn(home, "--unit", "weeks").err


def test_places_where_nothing_grows_teach_nothing(home):
    table(home, [[*row, 0] for row in rows()], "area_px")
    said = learn(home)
    assert said.code != 0
    assert "want places with an area, and one 2 steps of 1 later" in said.err


def test_settings_out_of_bounds_are_said():
    said = watchkeeper("vision", "progression", "m", "f", "--out", "o", "--ahead", "0")
    assert said.code == 2
    assert "--ahead: got 0" in said.err

"""An inspection in use: alone or among others, from its folder, and what it refuses."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.bars import FIT, SETTINGS, SIDE, bar, bars

from models.bundle import BundleError
from models.vision.inspection import Inspection
from models.vision.preprocess import PictureError
from models.vision.report import Report
from models.vision.training import Trained, train

OTHER = bars(10, seed=2)


def close(one: object, other: object) -> bool:
    """Two results of one picture, but for the order of sums."""
    return (
        one.label == other.label  # type: ignore[attr-defined]
        and one.probabilities == pytest.approx(other.probabilities, abs=1e-6)  # type: ignore[attr-defined]
        and one.anomaly == pytest.approx(other.anomaly, abs=1e-5)  # type: ignore[attr-defined]
        and np.allclose(one.features, other.features, atol=1e-5)  # type: ignore[attr-defined]
        and int(np.abs(one.heat.astype(int) - other.heat).max()) <= 1  # type: ignore[attr-defined]
    )


def test_a_picture_is_judged_alike_alone_and_among_any_others(trained: Trained) -> None:
    inspection = trained.inspection
    together = inspection.inspect(OTHER.pictures)
    backwards = inspection.inspect(OTHER.pictures[::-1])[::-1]

    for picture, one, other in zip(OTHER.pictures, together, backwards, strict=True):
        assert close(one, other)
        assert close(one, inspection.inspect([picture])[0])


def test_the_network_never_gets_more_than_a_block_at_once(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    inspection = trained.inspection
    seen = []
    monkeypatch.setattr(inspection, "_abreast", 4)
    read = inspection._reader.read
    monkeypatch.setattr(
        inspection._reader,
        "read",
        lambda x, *rest, **more: seen.append(len(x)) or read(x, *rest, **more),
    )

    assert len(inspection.inspect(OTHER.pictures)) == 30
    assert max(seen) == 4


def test_a_folder_gives_back_the_same_inspection(tmp_path: Path, trained: Trained) -> None:
    trained.inspection.save(tmp_path / "bundle")

    loaded = Inspection.load(tmp_path / "bundle")

    assert loaded.card == trained.inspection.card
    assert loaded.hash == trained.inspection.hash
    for one, other in zip(
        loaded.inspect(OTHER.pictures), trained.inspection.inspect(OTHER.pictures), strict=True
    ):
        assert one.probabilities == other.probabilities
        assert one.heat.tobytes() == other.heat.tobytes()


def test_the_map_is_hot_at_the_bar_and_the_box_lies_there(trained: Trained) -> None:
    draw = np.random.default_rng(7)
    hits, boxes = 0, 0
    for _ in range(20):
        empty = bar("good", draw)
        row, column = draw.integers(2, 8, 2)
        empty[row : row + 3, column : column + 14] = 200
        (found,) = trained.inspection.inspect([empty])
        assert found.heat.shape == (SIDE, SIDE)
        y, x = np.unravel_index(found.heat.argmax(), found.heat.shape)
        hits += row - 3 <= y < row + 6 and column - 3 <= x < column + 17
        for defect in found.defects[:1]:
            x1, y1, x2, y2 = defect.box
            boxes += x1 < column + 14 and x2 > column and y1 < row + 3 and y2 > row

    assert hits >= 18
    assert boxes >= 18


def test_a_good_picture_has_no_defects_and_surprises_less_than_a_bad_one(
    trained: Trained,
) -> None:
    found = trained.inspection.inspect(OTHER.pictures)
    right = [(one, label) for one, label in zip(found, OTHER.labels, strict=True)]

    for one, _ in right:
        assert (one.label == "good") == (not one.defects)
        assert sum(one.probabilities.values()) == pytest.approx(1, abs=1e-5)
    good = [one.surprise for one, label in right if label == "good"]
    bad = [one.surprise for one, label in right if label != "good"]
    assert np.median(bad) > 3 * max(np.median(good), 0.1)


def test_without_a_good_class_what_is_unlike_all_that_was_learnt_surprises() -> None:
    fit = FIT.model_copy(update={"epochs": 4})
    given = bars(30)
    inspection = train(given, SETTINGS, fit).inspection
    draw = np.random.default_rng(3)
    checks = (np.indices((SIDE, SIDE)).sum(0) // 3 % 2 * 255).astype(np.uint8)[..., None]
    strange = [np.clip(checks - draw.integers(0, 20, checks.shape), 0, 255).astype(np.uint8)]

    usual = [one.surprise for one in inspection.inspect(OTHER.pictures)]

    assert inspection.card.good is None
    assert inspection.inspect(strange)[0].surprise > max(usual)


def test_sixteen_bit_pictures_with_golden_templates_are_told_apart_by_the_difference() -> None:
    """The same bar is good or bad by whether its template has it."""
    draw = np.random.default_rng(0)
    pictures, templates, labels = [], [], []
    for number in range(120):
        picture = bar("lying", draw, dtype=np.uint16)
        pictures.append(picture)
        templates.append(picture if number % 2 else bar("good", draw, dtype=np.uint16))
        labels.append("good" if number % 2 else "extra")
    given = replace(bars(1), pictures=pictures, labels=labels, templates=templates)
    given = replace(given, groups=range(120))
    fit = FIT.model_copy(update={"epochs": 15})
    inspection = train(given, SETTINGS, fit, good="good").inspection

    found = inspection.inspect(pictures, templates)

    assert Report.of(found, labels, good="good").scores.accuracy > 0.95
    with pytest.raises(PictureError, match="compares with golden templates: give one each"):
        inspection.inspect(pictures)
    with pytest.raises(PictureError, match="want 120, one for each picture, got 119"):
        inspection.inspect(pictures, templates[1:])
    with pytest.raises(PictureError, match="template 1: want uint16"):
        inspection.inspect(pictures, [one[:20] for one in templates])
    with pytest.raises(PictureError, match="picture 1: want uint16 with 1 channels"):
        inspection.inspect(OTHER.pictures, OTHER.pictures)


def test_pictures_unlike_those_learnt_from_are_refused(trained: Trained) -> None:
    inspection = trained.inspection

    with pytest.raises(PictureError, match=r"picture 2: want uint8 with 1 channels.*with 3"):
        inspection.inspect([OTHER.pictures[0], np.zeros((SIDE, SIDE, 3), np.uint8)])
    with pytest.raises(PictureError, match=r"24 x 48 pixels; .* were 24 to 24 high"):
        inspection.inspect([np.zeros((48, SIDE, 1), np.uint8)])
    with pytest.raises(PictureError, match="has learnt without: give none"):
        inspection.inspect(OTHER.pictures, OTHER.pictures)
    assert inspection.inspect([]) == []


def spoilt(name: str, folder: Path) -> None:
    """Something that happens to folders."""
    card, weights = folder / "card.json", folder / "weights.safetensors"
    content = json.loads(card.read_text(encoding="utf-8"))
    if name == "cut":
        weights.write_bytes(weights.read_bytes()[:-10])
    elif name == "absent":
        weights.unlink()
    elif name == "sensor":
        content = {**content, "kind": "gru"}
    elif name == "newer":
        content = {**content, "schema_version": 2}
    elif name == "classes":
        content["classes"].append("fourth")
    elif name == "unknown good":
        content["good"] = "fine"
    elif name == "setting":
        content["settings"]["network"]["width"] = "wide"
    card.write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cut", "Cut short, changed, or from another bundle"),
        ("absent", "weights.safetensors: cannot be read"),
        ("sensor", "want a card of kind 'inspection', got one of kind 'gru'"),
        ("newer", "want schema_version 1, got 2. Upgrade"),
        ("classes", "not the weights of this card: .*head.weight"),
        ("unknown good", "good is 'fine', and the classes are good, lying, standing"),
        ("setting", "settings.network.width: "),
    ],
)
def test_a_spoilt_folder_is_refused_in_words(
    tmp_path: Path, trained: Trained, name: str, said: str
) -> None:
    trained.inspection.save(tmp_path / "bundle")
    spoilt(name, tmp_path / "bundle")

    with pytest.raises(BundleError, match=said):
        Inspection.load(tmp_path / "bundle")


def test_a_report_is_a_table_json_and_pictures(tmp_path: Path, trained: Trained) -> None:
    labels = [*OTHER.labels[:-1], "good"]  # one that is wrong
    report = Report.of(trained.inspection.inspect(OTHER.pictures), labels, good="good")

    report.write(tmp_path, OTHER.pictures)

    assert "| lying | 10 | " in (tmp_path / "report.md").read_text(encoding="utf-8")
    kept = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert kept["whole"]["accuracy"] == report.scores.accuracy
    assert np.array(kept["confusion"]["counts"]).sum() == 30
    for name in ("confusion", "curve", "mistakes"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert len(OTHER.pictures) - 1 in report.mistakes()


def test_the_network_in_use_learns_nothing(trained: Trained) -> None:
    assert not any(one.requires_grad for one in trained.inspection._reader._network.parameters())

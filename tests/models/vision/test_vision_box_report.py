"""How good found boxes are, told for people: ranked, as they are used, and of whole pictures."""

import json
from pathlib import Path

import numpy as np
import pytest

from models.vision.box_report import BoxReport
from models.vision.inspected import Defect, Inspected
from models.vision.stock import Marked

HERE, THERE = (0.0, 0.0, 10.0, 10.0), (20.0, 20.0, 30.0, 30.0)


def inspected(*defects: tuple[str, float, tuple[float, float, float, float]]) -> Inspected:
    sure = max((one[1] for one in defects), default=0.0)
    return Inspected(
        label="pit" if sure > 0.5 else "good",
        probability=max(sure, 1 - sure),
        probabilities={"good": 1 - sure, "pit": sure},
        anomaly=sure,
        surprise=0.0,
        heat=np.zeros((32, 32), np.uint8),
        defects=tuple(Defect(label=a, probability=b, box=c) for a, b, c in defects),
        features=np.zeros(2, np.float32),
    )


FOUND = (
    inspected(("pit", 0.9, HERE), ("dent", 0.3, THERE)),
    inspected(("pit", 0.6, THERE)),  # nothing is there
    inspected(("pit", 0.1, HERE)),
)
MARKED = (
    [Marked(label="pit", box=HERE), Marked(label="dent", box=THERE)],
    [],
    [Marked(label="pit", box=HERE)],
)


def test_ranked_counts_all_places_and_used_only_those_that_are_called_defects() -> None:
    report = BoxReport.of(FOUND, MARKED, sure=0.5)

    assert report.marked == {"dent": 1, "pit": 2}
    pit = report.ranked[0.5].average_precision["pit"]
    assert pit == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)  # found first, and as the third of three
    assert report.ranked[0.5].average_precision["dent"] == 1.0
    assert report.by_class == {"dent": (0.0, 0.0), "pit": (0.5, 0.5)}  # the dent is not sure enough
    assert (report.used.precision, report.used.recall) == (0.5, pytest.approx(1 / 3))
    assert report.auroc == 0.5  # of the two with a mark one lies above the good one, one below


def test_it_is_written_as_a_table_json_and_a_curve(tmp_path: Path) -> None:
    report = BoxReport.of(FOUND, MARKED, sure=0.5)
    report.write(tmp_path)

    assert "| pit | 2 | 0.833 | 0.500 | 0.500 |" in (tmp_path / "report.md").read_text()
    numbers = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert numbers == report.numbers()
    assert numbers["whole"]["picture_auroc"] == 0.5
    assert (tmp_path / "curve.png").is_file()


def test_pictures_without_a_good_one_have_no_curve(tmp_path: Path) -> None:
    report = BoxReport.of(FOUND[:1], MARKED[:1], sure=0.5)
    report.write(tmp_path)

    assert report.numbers()["whole"]["picture_auroc"] is None
    assert not (tmp_path / "curve.png").exists()


def test_counts_that_differ_and_pictures_without_a_mark_are_refused() -> None:
    with pytest.raises(ValueError, match="marked: want 3"):
        BoxReport.of(FOUND, MARKED[:2], sure=0.5)
    with pytest.raises(ValueError, match="no picture has a marked defect"):
        BoxReport.of(FOUND[1:2], MARKED[1:2], sure=0.5)

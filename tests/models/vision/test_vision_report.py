"""What people are shown of an inspection, whatever its classes are called."""

from pathlib import Path

import numpy as np

from models.vision.inspected import Inspected
from models.vision.report import Report

ODD = "a$_$ | b\nc"  # no mathematics, no cell of a table, no line


def inspected(label: str, sure: float) -> Inspected:
    return Inspected(
        label=label,
        probability=sure,
        probabilities={label: sure, ({ODD, "good"} - {label}).pop(): 1 - sure},
        anomaly=sure,
        surprise=0.0,
        heat=np.zeros((32, 32), np.uint8),
        defects=(),
        features=np.zeros(2, np.float32),
    )


def test_a_class_may_have_a_name_with_marks_of_mathematics_and_of_tables(tmp_path: Path) -> None:
    report = Report.of([inspected(ODD, 0.9), inspected("good", 0.7)], ["good", ODD], good="good")
    report.write(tmp_path, [np.full((32, 32, 1), 90, np.uint8)] * 2)
    assert {path.name for path in tmp_path.iterdir()} >= {"confusion.png", "mistakes.png"}
    lines = (tmp_path / "report.md").read_text(encoding="utf-8").splitlines()
    assert "| a$_$ \\| b c | 1 |" in lines[2] + lines[3]
    assert report.numbers()["classes"][ODD]["pictures"] == 1

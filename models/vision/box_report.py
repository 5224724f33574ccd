"""How good an inspection is that finds places, for people: as models/vision/report.py for classes.

Ranked by probability, down to ``LEAST``: average precision. From the probability on from which the
inspection calls a place a defect: precision and recall, as it is used. Of whole pictures: is
anything wrong on them.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.vision.box_scores import Boxes, BoxScores, box_scores
from models.vision.inspected import Inspected
from models.vision.report import DPI, OVERKILLS, draw_curve, in_table
from models.vision.scores import Curve, auroc, overkill_and_escape
from models.vision.stock import Marked

LEAST = 0.02  # of a place's probability, in what is ranked
OVERLAPS = (0.5, 0.75)  # least overlap of a hit
SAME = 0.5  # the same, for precision and recall


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxReport:
    """What an inspection made of pictures whose defects are marked."""

    marked: Mapping[str, int]  # class -> how many
    ranked: Mapping[float, BoxScores]  # by least overlap
    used: BoxScores  # only of what is called a defect, all alike
    by_class: Mapping[str, tuple[float, float]]  # precision and recall of each, as used
    auroc: float  # of pictures: is anything marked on them
    curve: Curve | None

    @classmethod
    def of(
        cls,
        found: Sequence[Inspected],
        marked: Sequence[Sequence[Marked]],
        *,
        sure: float,
    ) -> "BoxReport":
        """Of pictures; what was found down to LEAST. Raises ValueError where none is marked."""
        if len(found) != len(marked):
            raise ValueError(f"marked: want {len(found)}, one for each picture, got {len(marked)}")
        own = [Boxes.listed((one.label, one.box, 1.0) for one in each) for each in marked]
        said = [
            Boxes.listed((one.label, one.box, one.probability) for one in each.defects)
            for each in found
        ]
        called = [_alike(one, sure) for one in said]
        bad = np.array([len(each) > 0 for each in marked])
        anomaly = np.array([one.anomaly for one in found])
        names = sorted({one.label for each in marked for one in each})
        each_class = {}
        for name in names:
            alone = box_scores([o.of(name) for o in own], [c.of(name) for c in called], SAME)
            each_class[name] = (alone.precision, alone.recall)
        return cls(
            marked={name: sum(int((o.label == name).sum()) for o in own) for name in names},
            ranked={overlap: box_scores(own, said, overlap) for overlap in OVERLAPS},
            used=box_scores(own, called, SAME),
            by_class=each_class,
            auroc=auroc(bad, anomaly),
            curve=overkill_and_escape(bad, anomaly),
        )

    def table(self) -> str:
        """In Markdown: a line a class, then the whole."""
        lines = [
            "| class | marked | AP@.5 | precision | recall |",
            "| --- | --- | --- | --- | --- |",
        ]
        for name, count in self.marked.items():
            of_it = (self.ranked[SAME].average_precision[name], *self.by_class[name])
            cells = " | ".join(f"{one:.3f}" for one in of_it)
            lines.append(f"| {in_table(name)} | {count} | {cells} |")
        whole = self.numbers()["whole"]
        lines += [
            "",
            *(f"- {name.replace('_', ' ')}: {x:.3f}" for name, x in whole.items() if x is not None),
        ]
        return "\n".join(lines)

    def numbers(self) -> dict[str, Any]:
        """The same, for JSON; null for what cannot be counted."""
        whole: dict[str, float | None] = {
            f"map_{overlap * 100:g}": one.mean for overlap, one in self.ranked.items()
        }
        whole |= {
            "best_f1": self.ranked[SAME].f1,
            "precision": self.used.precision,
            "recall": self.used.recall,
            "f1": self.used.f1,
            "picture_auroc": self.auroc if math.isfinite(self.auroc) else None,
        }
        if self.curve is not None:
            for overkill in OVERKILLS:
                whole[f"escape_at_overkill_{overkill:g}"] = self.curve.escape_at(overkill)
        return {
            "whole": whole,
            "classes": {
                name: {
                    "marked": count,
                    "average_precision": self.ranked[SAME].average_precision[name],
                    "precision": self.by_class[name][0],
                    "recall": self.by_class[name][1],
                }
                for name, count in self.marked.items()
            },
        }

    def write(self, folder: Path) -> None:
        """report.md, report.json, and curve.png where there are good pictures and others."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.md").write_text(self.table() + "\n", encoding="utf-8")
        content = json.dumps(self.numbers(), indent=1, allow_nan=False) + "\n"
        (folder / "report.json").write_text(content, encoding="utf-8")
        if self.curve is not None:
            draw_curve(self.curve).savefig(folder / "curve.png", dpi=DPI)


def _alike(said: Boxes, sure: float) -> Boxes:
    """What is called a defect, in the same order, as if all were as sure."""
    enough = said.score >= sure
    return Boxes(said.box[enough], said.label[enough], np.ones(int(enough.sum())))

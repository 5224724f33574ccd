"""How good an inspection is, for people: a table, JSON, and pictures.

The pictures are PNG files: who was taken for whom, overkill against escape, and the worst mistakes
with the map of where the network looked.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from models.vision.contract import Pixels
from models.vision.inspected import Inspected
from models.vision.mask_scores import MaskScores, mask_scores
from models.vision.overlay import overlay
from models.vision.scores import Curve, Scores, scored
from models.vision.stock import Region

# N pictures, K classes

Bool = NDArray[np.bool_]

DPI = 100
TOLERANCE = 15  # pixels beside a defect that a map's highest place may lie (Zhang et al., 2018)
MISTAKES = 12  # shown, the surest ones first
ACROSS = 4  # of them beside each other
OVERKILLS = (0.001, 0.01, 0.05)  # shares of good pictures, at which escape is told

INK, MUTED, STRANGE = "#1d2733", "#66727f", "#b4231f"


@dataclass(frozen=True, slots=True)
class Report:
    """What an inspection made of labelled pictures."""

    scores: Scores
    labels: tuple[str, ...]
    found: tuple[Inspected, ...]
    pixels: MaskScores | None = None

    @classmethod
    def of(
        cls,
        found: Sequence[Inspected],
        labels: Sequence[str],
        *,
        good: str | None = None,
        masks: Sequence[Sequence[Region]] | None = None,
        sure: float = 0.5,
    ) -> "Report":
        """Of pictures with these labels, and what is painted on each, if anybody did.

        ``sure``: what a map's areas are counted from. Raises ValueError for a label that is no
        class.
        """
        if len(found) != len(labels) or not found:
            raise ValueError(
                f"labels: want {len(found)}, one for each picture and at least one, "
                f"got {len(labels)}"
            )
        classes = tuple(found[0].probabilities)
        shares = np.array([[one.probabilities[name] for name in classes] for one in found])
        anomaly = np.array([one.anomaly for one in found])
        scores = scored(labels, shares, classes, good=good, anomaly=anomaly)
        return cls(
            scores,
            tuple(labels),
            tuple(found),
            None if masks is None else _of_masks(found, masks, sure),
        )

    def table(self) -> str:
        """In Markdown: a line a class, then the whole."""
        lines = [
            "| class | pictures | precision | recall | F1 | AUROC |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        for name, one in self.scores.by_class.items():
            cells = map(_shown, (one.precision, one.recall, one.f1, one.auroc))
            lines.append(f"| {in_table(name)} | {one.pictures} | {' | '.join(cells)} |")
        whole = self.numbers()["whole"]
        lines += ["", *(f"- {name.replace('_', ' ')}: {_shown(x)}" for name, x in whole.items())]
        return "\n".join(lines)

    def numbers(self) -> dict[str, Any]:
        """The same and the confusion matrix, for JSON; null for what cannot be counted."""
        scores = self.scores
        whole: dict[str, float | None] = {
            "accuracy": scores.accuracy,
            "balanced_accuracy": scores.balanced_accuracy,
            "macro_f1": scores.macro_f1,
        }
        if scores.binary_auroc is not None:
            whole |= {
                "binary_accuracy": scores.binary_accuracy,
                "binary_auroc": _finite(scores.binary_auroc),
            }
        if scores.curve is not None:
            for overkill in OVERKILLS:
                name = f"escape_at_overkill_{overkill:g}"
                whole[name] = scores.curve.escape_at(overkill)
        if self.pixels is not None:
            whole |= {name: _finite(x) for name, x in asdict(self.pixels).items()}
        by_class = {
            name: {
                "pictures": one.pictures,
                **{
                    what: _finite(getattr(one, what))
                    for what in ("precision", "recall", "f1", "auroc")
                },
            }
            for name, one in scores.by_class.items()
        }
        return {
            "whole": whole,
            "classes": by_class,
            "confusion": {"classes": list(scores.classes), "counts": scores.confusion.tolist()},
        }

    def write(self, folder: Path, pictures: Sequence[Pixels] | None = None) -> None:
        """report.md, report.json, confusion.png, curve.png; with the pictures also mistakes.png.

        The last two only where there is something to show.
        """
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.md").write_text(self.table() + "\n", encoding="utf-8")
        content = json.dumps(self.numbers(), indent=1, allow_nan=False) + "\n"
        (folder / "report.json").write_text(content, encoding="utf-8")
        draw_confusion(self.scores).savefig(folder / "confusion.png", dpi=DPI)
        if self.scores.curve is not None:
            draw_curve(self.scores.curve).savefig(folder / "curve.png", dpi=DPI)
        if pictures is not None and (wrong := self.mistakes()):
            figure = draw_looks(
                [pictures[n] for n in wrong],
                [self.found[n] for n in wrong],
                [self.labels[n] for n in wrong],
            )
            figure.savefig(folder / "mistakes.png", dpi=DPI)

    def mistakes(self) -> list[int]:
        """The numbers of pictures that were taken for another class, the surest first."""
        wrong = [n for n, one in enumerate(self.found) if one.label != self.labels[n]]
        return sorted(wrong, key=lambda n: -self.found[n].probability)[:MISTAKES]


def in_table(name: str) -> str:
    """A name as a cell of a table in Markdown: a bar or a new line would end it."""
    return " ".join(name.split()).replace("|", "\\|")


def painted(regions: Sequence[Region], shape: tuple[int, ...]) -> Bool:
    """All that is painted on a picture [H, W]."""
    whole = np.zeros(shape[:2], np.bool_)
    for one in regions:
        whole |= one.mask
    return whole


def _of_masks(
    found: Sequence[Inspected], masks: Sequence[Sequence[Region]], sure: float
) -> MaskScores:
    pairs = zip(found, masks, strict=True)
    return mask_scores(
        ((one.heat, painted(own, one.heat.shape)) for one, own in pairs),
        threshold=sure,
        tolerance=TOLERANCE,
    )


def draw_confusion(scores: Scores) -> Figure:
    """Who was taken for whom: counts, coloured by the share of the row."""
    count = len(scores.classes)
    side = 3.0 + 0.55 * count
    figure = Figure(figsize=(side + 1, side), facecolor="white", layout="constrained")
    panel = figure.add_subplot(label="confusion")
    of = scores.confusion.sum(1, keepdims=True)
    share = scores.confusion / np.maximum(of, 1)
    panel.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.argwhere(scores.confusion > 0).tolist():
        colour = "white" if share[row, column] > 0.5 else INK
        text = str(scores.confusion[row, column])
        panel.text(column, row, text, ha="center", va="center", color=colour, fontsize=9)
    panel.set_xticks(range(count), scores.classes, rotation=45, ha="right", parse_math=False)
    panel.set_yticks(range(count), scores.classes, parse_math=False)
    panel.set_xlabel("what was said")
    panel.set_ylabel("what it is")
    panel.set_title(f"accuracy {scores.accuracy:.3f}", color=INK, loc="left")
    return figure


def draw_curve(curve: Curve) -> Figure:
    """Escape over overkill, both as shares; overkill from its least step on, as a logarithm."""
    figure = Figure(figsize=(7, 5), facecolor="white", layout="constrained")
    panel = figure.add_subplot(label="curve")
    least = float(curve.overkill[curve.overkill > 0].min())
    panel.step(np.maximum(curve.overkill, least / 2), curve.escape, color=STRANGE, where="pre")
    panel.set_xscale("log")
    panel.set_ylim(bottom=0)
    panel.set_xlabel("overkill: share of good pictures that are called bad")
    panel.set_ylabel("escape: share of bad pictures that are called good")
    panel.grid(alpha=0.3)
    return figure


def draw_looks(
    pictures: Sequence[Pixels], found: Sequence[Inspected], labels: Sequence[str]
) -> Figure:
    """Pictures with the map of where the network looked, and what it said."""
    rows = math.ceil(len(pictures) / ACROSS)
    figure = Figure(figsize=(3.2 * ACROSS, 3.6 * rows), facecolor="white", layout="constrained")
    panels = np.atleast_1d(figure.subplots(rows, ACROSS)).ravel()
    for panel in panels:
        panel.set_axis_off()
    for panel, picture, one, label in zip(panels, pictures, found, labels, strict=False):
        _draw_look(panel, picture, one, label)
    return figure


def _draw_look(panel: Axes, picture: Pixels, one: Inspected, label: str) -> None:
    panel.imshow(overlay(picture, one))
    said = f"{one.label} {one.probability:.2f}"
    colour = STRANGE if one.label != label else INK
    panel.set_title(f"{said}\nis {label}", fontsize=8, color=colour, parse_math=False)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _shown(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.3f}"

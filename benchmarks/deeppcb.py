"""DeepPCB: six defects of printed circuit boards, 640 x 640 pixels, each beside its template.

Tang, He, Huang and Yang, arXiv 1902.06197, 2019; MIT, "for research purpose". Boxes around defects;
most of them were drawn onto pictures of real boards. A folder holds boxes.csv (image, x1, y1, x2,
y2, label) and pairs.zip (<image>_test.png, <image>_temp.png).
"""

import csv
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from _detection import LayoutError
from _pictures import Task, decoded, main
from PIL import UnidentifiedImageError

from models.vision.box_scores import Boxes, box_scores, pooled
from models.vision.contract import Pixels
from models.vision.inspection import Inspection
from models.vision.settings import (
    AugmentSettings,
    FinderSettings,
    InspectionSettings,
    NetworkSettings,
    PreprocessSettings,
    VisionFitSettings,
)
from models.vision.stock import Examples, Marked

GOOD = "good"
SIDES = ("x1", "y1", "x2", "y2")
TOLD = 0.02  # places are ranked from this probability on
AUTHORS, LATER = 0.33, 0.5  # least overlap of a hit: the authors' own, and that of later papers

TASK = Task(
    name="deeppcb",
    settings=InspectionSettings(
        preprocess=PreprocessSettings(height=640, width=640, grey=True),
        network=NetworkSettings(width=16, depth=(1, 1, 1)),
        finder=FinderSettings(
            network=NetworkSettings(width=16, depth=(1, 1, 1, 1)),
            reduce=2,
            crop=320,
            crops=2,
            patch=64,
        ),
    ),
    fit=VisionFitSettings(
        epochs=50,
        batch_size=16,
        validation_share=0.1,
        smoothing=0.05,
        average=0.99,
        precision="auto",
        augment=AugmentSettings(flip_horizontal=True, flip_vertical=True, quarter_turns=True),
    ),
    good=GOOD,
    floors={"map50": 0.97, "f1_33": 0.96},
    speed_pictures=24,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Pictures beside their templates, and what is marked on them."""

    names: tuple[str, ...]
    pictures: tuple[Pixels, ...]
    templates: tuple[Pixels, ...]
    boxes: tuple[tuple[Marked, ...], ...]

    @property
    def shown(self) -> Sequence[tuple[str, ...]]:
        """The defects on each, or that it is good."""
        return [tuple(sorted({one.label for one in own})) or (GOOD,) for own in self.boxes]

    def some(self, numbers: Sequence[int]) -> "Pairs":
        """Those with these numbers."""
        return Pairs(
            names=tuple(self.names[n] for n in numbers),
            pictures=tuple(self.pictures[n] for n in numbers),
            templates=tuple(self.templates[n] for n in numbers),
            boxes=tuple(self.boxes[n] for n in numbers),
        )

    def examples(self) -> Examples:
        """As they are learnt from."""
        return Examples(pictures=self.pictures, templates=self.templates, boxes=self.boxes)

    def figures(self, inspection: Inspection, folder: Path | None) -> dict[str, float]:
        """How well an inspection finds what is marked; what it found goes to a folder."""
        found = list(inspection.each(self.pictures, self.templates, least=TOLD))
        marked = [Boxes.listed((one.label, one.box, 1.0) for one in own) for own in self.boxes]
        said = [
            Boxes.listed((one.label, one.box, one.probability) for one in each.defects)
            for each in found
        ]
        if folder is not None:
            _write(folder / "found.csv", self.names, said)
        coarse, fine = (box_scores(marked, said, overlap) for overlap in (AUTHORS, LATER))
        return {
            "map50": fine.mean,
            "map33": coarse.mean,
            "f1_33": coarse.f1,
            "pooled_ap33": pooled(marked, said, AUTHORS),
            "f1_50": fine.f1,
            "precision_33": coarse.precision,
            "recall_33": coarse.recall,
            **{f"ap50_{name}": value for name, value in fine.average_precision.items()},
        }


def read_pairs(folder: Path) -> Pairs:
    """Those of a folder. Raises LayoutError."""
    table = folder / "boxes.csv"
    marked: dict[str, list[Marked]] = {}
    try:
        with table.open(encoding="utf-8", newline="") as lines:
            for row in csv.DictReader(lines):  # a name of digits stays a name
                x1, y1, x2, y2 = (float(row[side]) for side in SIDES)
                one = Marked(label=row["label"], box=(x1, y1, x2, y2))
                marked.setdefault(row["image"], []).append(one)
    except (OSError, KeyError, ValueError) as error:
        raise LayoutError(f"{table}: want columns image, x1, y1, x2, y2, label: {error}") from error
    try:
        with zipfile.ZipFile(folder / "pairs.zip") as archive:
            suffix = "_test.png"
            names = sorted(n.removesuffix(suffix) for n in archive.namelist() if suffix in n)
            pictures = tuple(decoded(archive.read(f"{name}{suffix}")) for name in names)
            templates = tuple(decoded(archive.read(f"{name}_temp.png")) for name in names)
    except (OSError, KeyError, zipfile.BadZipFile, UnidentifiedImageError) as error:
        raise LayoutError(f"{folder / 'pairs.zip'}: {error}") from error
    boxes = tuple(tuple(marked.get(name, ())) for name in names)
    return Pairs(names=tuple(names), pictures=pictures, templates=templates, boxes=boxes)


def _write(path: Path, names: Sequence[str], said: Sequence[Boxes]) -> None:
    """One line for each box."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["image", *SIDES, "label", "score"])
        for name, own in zip(names, said, strict=True):
            for box, label, score in zip(own.box, own.label, own.score, strict=True):
                lines.writerow([name, *box.tolist(), label, score])


if __name__ == "__main__":
    main(TASK, __doc__ or "", read_pairs)

"""Take the demo's pictures out of the public set X-SDD, and train the network that inspects them.

``python scripts/make_demo_pictures.py --data FOLDER --out configs/demo`` reads ``images.zip`` and
``labels.csv``. It writes ``pictures/UNIT/STROKE.png``, the files as they are in the set, and
``surface``, a network that has learnt from the pictures that were left, none of them a near copy of
one that was taken. configs/demo/pictures/NOTICE says where they come from. The files in the
repository were made by this script; chance decides which pictures are taken, before any network is
there.
"""

import argparse
import csv
import io
import shutil
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from models.runtime import use_one_thread
from models.training import Epoch
from models.vision.contract import Pixels
from models.vision.settings import (
    AugmentSettings,
    InspectionSettings,
    NetworkSettings,
    PreprocessSettings,
    VisionFitSettings,
)
from models.vision.splits import grouped
from models.vision.training import Examples, train

USUAL = "red_iron"  # no class of the set is good steel: the demo's plant lives with this one
DEFECTS = ("surface_scratch", "slag_inclusion", "iron_sheet_ash")  # in turns
EVERY = 2  # strokes from picture to picture
# Which strokes of each unit have a picture, and from which one on there are defects, as
# watched.json says of the actuators.
STROKES = {"unit_5": (range(7, 47, EVERY), None), "unit_3": (range(5, 45, EVERY), 25)}
SEED = 0

SETTINGS = InspectionSettings(
    preprocess=PreprocessSettings(height=128, width=128, grey=True, normalise="picture"),
    network=NetworkSettings(width=12, depth=(1, 1, 1, 1)),  # 0.7 MB
)
FIT = VisionFitSettings(
    seed=SEED,
    epochs=40,
    balance=0.5,
    smoothing=0.05,
    augment=AugmentSettings(
        flip_horizontal=True,
        flip_vertical=True,
        rotation=5,
        scale=0.1,
        shift=0.05,
        contrast=0.2,
        brightness=0.2,
        noise=0.05,
        mixup=0.2,
    ),
)


def read(folder: Path) -> tuple[list[bytes], list[str]]:
    """The files of a folder and their labels, in the order of labels.csv."""
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as table:
        rows = list(csv.DictReader(table))
    with zipfile.ZipFile(folder / "images.zip") as archive:
        return [archive.read(row["image"]) for row in rows], [row["label"] for row in rows]


def pixels(content: bytes) -> Pixels:
    """A file as uint8 [H, W, 3]."""
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def taken(labels: Sequence[str], groups: Sequence[int]) -> dict[str, int]:
    """The number of the picture for each place, as ``unit_3/25``: alone in its group, by chance."""
    alone = np.bincount(groups)[np.asarray(groups)] == 1
    draw = np.random.default_rng(SEED)
    left = {
        name: iter(draw.permutation(np.flatnonzero((np.asarray(labels) == name) & alone)).tolist())
        for name in (USUAL, *DEFECTS)
    }
    places = {}
    for unit, (strokes, changes) in STROKES.items():
        for place, stroke in enumerate(strokes):
            bad = changes is not None and stroke >= changes
            name = DEFECTS[place % len(DEFECTS)] if bad else USUAL
            places[f"{unit}/{stroke:02}"] = next(left[name])
    return places


def main() -> None:
    """Write pictures and network into the folder asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with images.zip")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--checkpoint", type=Path, help="folder to take a stopped training up from")
    asked = parser.parse_args()
    use_one_thread()

    contents, labels = read(asked.data)
    pictures = [pixels(content) for content in contents]
    groups = grouped(pictures).tolist()
    places = taken(labels, groups)
    for place, number in places.items():
        path = asked.out / "pictures" / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents[number])
    left = sorted(set(range(len(labels))) - set(places.values()))

    def told(now: Epoch) -> None:
        sys.stdout.write(f"epoch {now.epoch} of {now.epochs}: {now.validation_loss:.3f}\n")

    trained = train(
        Examples(
            pictures=[pictures[n] for n in left],
            labels=[labels[n] for n in left],
            groups=[groups[n] for n in left],
        ),
        SETTINGS,
        FIT,
        good=USUAL,
        progress=told,
        checkpoint=asked.checkpoint,
    )
    trained.inspection.save(asked.out / "surface")
    if asked.checkpoint is not None:
        shutil.rmtree(asked.checkpoint)
    for place, number in places.items():
        (found,) = trained.inspection.inspect([pictures[number]])
        said = f"{found.label} {found.probability:.2f}, surprise {found.surprise:.2f}"
        sys.stdout.write(f"{place}: {labels[number]}, seen as {said}\n")


if __name__ == "__main__":
    main()

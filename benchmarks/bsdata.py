"""BSData: pits on a ball screw, pixel by pixel, as they grow.

Schlagenhauf and Landwehr, Data in Brief 107643, 2021; CC BY-SA 4.0. Each place of the spindle was
photographed during one run to failure; frames of a place are near copies, so places are what is
held back and held out. Frames up to three before the first annotation, and those without one after
it, are doubtful: nothing is learnt from them, and image figures are told with and without.

    python benchmarks/bsdata.py --data FOLDER [--test FOLDER] [--learn masks good labels]
        [--seeds 0 1 2] [--keep FOLDER] [--quick] [--json FILE]

FOLDER holds frames.csv (image, location, index_in_sequence, annotated,
frames_before_first_annotation), frames/ and masks/. Three ways to learn: `masks`; from good
pictures alone (figures that begin with good_); and from labels, to see whether the map of a
network that was never told where pits are points at them (labels_). A later run adds seeds and
ways to those that are there; with --keep an interrupted one goes on.
"""

import argparse
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from _detection import LayoutError, numbers, read_csv, say
from _machine import RESULTS, race
from _pictures import HELD_BACK, SPLIT_SEED, Kept, Task
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from progression import figures

from models.runtime import use_one_thread
from models.training import Epoch
from models.vision import sequences
from models.vision.inspected import Inspected
from models.vision.inspection import Inspection
from models.vision.mask_scores import mask_scores
from models.vision.progression import ProgressionSettings
from models.vision.report import TOLERANCE
from models.vision.scores import auroc
from models.vision.sequences import Place
from models.vision.settings import (
    AugmentSettings,
    InspectionSettings,
    MaskSettings,
    NetworkSettings,
    PreprocessSettings,
    VisionFitSettings,
)
from models.vision.splits import held_out
from models.vision.stock import Examples, Region
from models.vision.training import train

# H, W height and width of a picture

U8 = NDArray[np.uint8]
Bool = NDArray[np.bool_]

GOOD, PIT = "good", "pit"
DOUBTFUL = 3  # frames before the first annotation
PROGRESSION = {"members": 5, "epochs": 300}
SPEED_PICTURES = 10
SPEED_ROUNDS = 5
QUICK_FRAMES = 12  # of each place, with --quick
PASSES = {  # of each way to learn
    "masks": {"epochs": 16},
    "good": {"epochs": 30},
    "labels": {"epochs": 8},
}

TASK = Task(
    name="bsdata",
    settings=InspectionSettings(
        preprocess=PreprocessSettings(height=460, width=1130),
        mask=MaskSettings(
            network=NetworkSettings(width=8, depth=(1, 1, 1, 1, 1), stem="half"), crop=256, crops=3
        ),
    ),
    fit=VisionFitSettings(
        batch_size=8,
        learning_rate=4e-3,
        augment=AugmentSettings(rotation=5, scale=0.1, contrast=0.2, brightness=0.2, noise=0.03),
    ),
    good=GOOD,
    floors={"pixel_ap": 0.78, "dice": 0.73, "image_auroc": 0.94},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One photograph of a place."""

    picture: U8
    mask: Bool  # [H, W] what is a pit
    place: str
    position: float  # in the sequence
    doubtful: bool

    @property
    def label(self) -> str:
        """Of the whole picture."""
        return PIT if self.mask.any() else GOOD

    @property
    def regions(self) -> list[Region]:
        """As training wants it."""
        return [Region(label=PIT, mask=self.mask)] if self.mask.any() else []


def read(folder: Path) -> list[Frame]:
    """The frames of a folder, place after place, in order. Raises LayoutError."""
    columns = read_csv(folder / "frames.csv")
    names = ("index_in_sequence", "annotated", "frames_before_first_annotation")
    index, annotated, before = numbers(folder / "frames.csv", names, columns).T
    location, image = columns["location"], columns["image"]
    frames = []
    for place in sorted(set(location.tolist())):
        begun = False
        rows = np.flatnonzero(location == place)
        for row in rows[np.argsort(index[rows])]:
            picture = _opened(folder / "frames" / str(image[row]), "RGB")
            mask = np.zeros(picture.shape[:2], np.bool_)
            if annotated[row]:
                drawn = folder / "masks" / f"{Path(str(image[row])).stem}.png"
                mask = _opened(drawn, "L") > 0
            if mask.shape != picture.shape[:2]:
                raise LayoutError(f"{image[row]}: its mask is of another size")
            begun |= bool(annotated[row])
            frames.append(
                Frame(
                    picture=picture,
                    mask=mask,
                    place=str(place),
                    position=float(index[row]),
                    doubtful=not annotated[row] and (begun or 1 <= before[row] <= DOUBTFUL),
                )
            )
    return frames


def _opened(path: Path, mode: str) -> U8:
    try:
        with Image.open(path) as opened:
            return np.asarray(opened.convert(mode))
    except (OSError, UnidentifiedImageError) as error:
        raise LayoutError(f"{path}: cannot be read as a picture: {error}") from error


def inspect(inspection: Inspection, frames: Sequence[Frame]) -> list[tuple[Inspected, U8]]:
    """Each frame at the size that was learnt, and its map at its own."""
    found = []
    for frame in frames:
        picture = frame.picture
        size = TASK.settings.preprocess
        if picture.shape[:2] != (size.height, size.width):  # places were photographed in two sizes
            picture = resized(picture, (size.width, size.height))
        (one,) = inspection.inspect([picture])
        heat = one.heat
        if heat.shape != frame.mask.shape:
            heat = resized(heat, frame.mask.shape[::-1])
        found.append((one, heat))
    return found


def resized(picture: U8, size: tuple[int, int]) -> U8:
    """A picture or a map at another width and height."""
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR))


def of_masks(inspection: Inspection, frames: Sequence[Frame]) -> dict[str, float]:
    """Figures of pixels, pictures and areas."""
    found = inspect(inspection, frames)
    pairs = [(heat, frame.mask) for (_, heat), frame in zip(found, frames, strict=True)]
    scores = mask_scores(pairs, threshold=inspection.card.limit, tolerance=TOLERANCE)
    return {
        "pixel_ap": scores.pixel_ap,
        "aupro": scores.aupro,
        "aupro_05": scores.aupro_05,
        "dice": scores.dice,
        "dice_at_own_threshold": scores.dice_at,
        "severity_spearman": scores.severity_spearman,
        "area_error": scores.area_error,
        "pointing": scores.pointing,
        **of_pictures([one for one, _ in found], frames),
    }


def of_pictures(found: Sequence[Inspected], frames: Sequence[Frame]) -> dict[str, float]:
    """How well anomalies rank pictures: all of them, and without the doubtful ones."""
    pit = np.array([frame.label == PIT for frame in frames])
    sure = np.array([not frame.doubtful for frame in frames])
    anomaly = np.array([one.anomaly for one in found])
    return {
        "image_auroc": auroc(pit, anomaly),
        "image_auroc_without_doubtful": auroc(pit[sure], anomaly[sure]),
    }


def of_progression(
    inspection: Inspection, learning: Sequence[Frame], judged: Sequence[Frame], seed: int
) -> dict[str, float]:
    """What a GRU, taught by the places that were learnt from, says of the others five frames on."""
    settings = ProgressionSettings(seed=seed, **PROGRESSION)
    model = sequences.fit(places(inspection, learning), settings, area_unit="px").model
    said = [(place, sequences.follow(model, place)) for place in places(inspection, judged)]
    return {"progression_gain": figures(said, settings)["GRU"]["gain"]}


def places(inspection: Inspection, frames: Sequence[Frame]) -> list[Place]:
    """The rows of the frames, with the network's features and the painted areas."""
    found = []
    for name in sorted({frame.place for frame in frames}):
        own = [frame for frame in frames if frame.place == name]
        place = Place(
            name=name,
            position=np.array([frame.position for frame in own]),
            features=np.stack([one.features for one, _ in inspect(inspection, own)]),
            area=np.array([float(frame.mask.sum()) for frame in own]),
            known=np.array([not frame.doubtful for frame in own]),
        )
        found.append(place.only(place.known))
    return found


def examples(frames: Sequence[Frame]) -> Examples:
    """As masks are learnt from."""
    return Examples(
        pictures=[frame.picture for frame in frames],
        groups=[frame.place for frame in frames],
        masks=[frame.regions for frame in frames],
    )


def measured(
    way: str,
    seed: int,
    changed: Mapping[str, int],
    *,
    learning: Sequence[Frame],
    judged: Sequence[Frame],
    keep: Path | None,
) -> dict[str, float]:
    """Train one way with one seed, and count."""
    known = [frame for frame in learning if not frame.doubtful]
    if way == "good":
        known = [frame for frame in known if frame.label == GOOD]
    given = examples(known)
    if way != "masks":
        given = replace(given, masks=None, labels=[frame.label for frame in known])
    folder = None if keep is None else keep / f"{TASK.name}-{way}-{seed}"
    resumed = folder is not None and (folder / "checkpoint").exists()

    def told(now: Epoch) -> None:
        say(
            f"{way}, seed {seed}, epoch {now.epoch} of {now.epochs}: "
            f"{now.training_loss:.3f}, held out {now.validation_loss:.3f}"
        )

    before = time.process_time()
    trained = train(
        given,
        TASK.settings,
        TASK.fit.model_copy(update={"seed": seed, **changed}),
        good=GOOD,
        progress=told,
        checkpoint=None if folder is None else folder / "checkpoint",
    )
    cpu_s = round(time.process_time() - before, 1)
    inspection = trained.inspection
    if folder is not None:
        inspection.save(folder / "bundle")
    figures_ = of_masks(inspection, judged)
    if way == "masks":
        figures_ |= of_progression(inspection, learning, judged, seed)
        figures_["pictures_per_s"] = speed(inspection, judged)
    figures_["best_epoch"] = trained.best_epoch[-1]
    if not resumed:
        figures_["training_cpu_s"] = cpu_s
    if folder is not None:
        shutil.rmtree(folder / "checkpoint")  # or the next run trains nothing
    return figures_ if way == "masks" else {f"{way}_{name}": x for name, x in figures_.items()}


def speed(inspection: Inspection, frames: Sequence[Frame]) -> float:
    """Decoded frames a second of CPU time, all of inspect(), on one core."""
    some = [frames[n % len(frames)] for n in range(SPEED_PICTURES)]
    (times,) = race({"inspect": lambda: lambda: inspect(inspection, some)}, SPEED_ROUNDS)
    return SPEED_PICTURES / times.best


def parts(data: list[Frame], test: list[Frame] | None) -> tuple[list[Frame], list[Frame]]:
    """What is learnt from, and what is judged by: other places."""
    if test is not None:
        return data, test
    shown, own = [(frame.label,) for frame in data], [frame.place for frame in data]
    out = held_out(shown, own, HELD_BACK, seed=SPLIT_SEED)
    back = {frame.place for frame, one in zip(data, out, strict=True) if one}
    say(f"held back: {', '.join(sorted(back))}")
    return (
        [frame for frame in data if frame.place not in back],
        [frame for frame in data if frame.place in back],
    )


def main() -> None:
    """Every seed, every way."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the train part")
    parser.add_argument("--test", type=Path, help="folder with places that nothing is chosen by")
    parser.add_argument("--learn", nargs="+", choices=PASSES, default=list(PASSES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--quick", action="store_true", help="one pass of few frames: it runs")
    parser.add_argument("--keep", type=Path, help="folder for bundles and checkpoints")
    parser.add_argument("--json", type=Path, help="where to keep the figures")
    given = parser.parse_args()
    use_one_thread()
    try:
        test = None if given.test is None else read(given.test)
        learning, judged = parts(read(given.data), test)
    except LayoutError as error:
        sys.exit(f"{parser.prog}: {error}")
    kept = Kept(
        given.json or RESULTS / f"{TASK.name}.json",
        TASK,
        tested=test is not None,
        parts=(examples(learning), examples(judged)),
        beside={"passes": PASSES, "quick": given.quick},
    )
    if given.quick:
        learning, judged = few(learning), few(judged)
    for seed in given.seeds:
        for way in given.learn:
            changed = {"epochs": 1, "warmup_epochs": 0} if given.quick else PASSES[way]
            found = measured(way, seed, changed, learning=learning, judged=judged, keep=given.keep)
            kept.add(seed, found)
            if given.json or not given.quick:
                kept.write()
    say("")
    print(kept.table())


def few(frames: Sequence[Frame]) -> list[Frame]:
    """Some of each place, from its first to its last."""
    found = []
    for name in sorted({frame.place for frame in frames}):
        own = [frame for frame in frames if frame.place == name]
        found += own[:: max(len(own) // QUICK_FRAMES, 1)]
    return found


if __name__ == "__main__":
    main()

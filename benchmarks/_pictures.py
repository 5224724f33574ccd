"""What the benchmarks of pictures need: reading, splitting, seeds that accumulate, speed.

Nothing here scores by itself: ``models.vision`` trains, inspects and counts, as the product does.
``--test FOLDER`` holds labelled pictures that nothing was chosen by; without it, a part of
``--data`` is held back from everything else, by groups of near copies, the same part for every
seed. Results are kept by seed: a later run adds its seeds to those of the same settings.
"""

import argparse
import io
import json
import shutil
import statistics
import sys
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import numpy as np
from _detection import LayoutError, read_csv, say
from _machine import RESULTS, machine, race, table, write
from PIL import Image, UnidentifiedImageError

from models.bundle import code_version
from models.runtime import use_one_thread
from models.training import Epoch
from models.vision.contract import Pixels
from models.vision.inspection import Inspection
from models.vision.report import Report
from models.vision.settings import InspectionSettings, VisionFitSettings
from models.vision.splits import grouped, held_out
from models.vision.stock import Examples, content_hash
from models.vision.training import train

HELD_BACK = 0.2  # of --data, where there is no --test
SPLIT_SEED = 0  # of what is held back: the same for every seed of training
SPEED_ROUNDS = 5
SHA256 = "pictures_sha256"
QUICK_PICTURES, QUICK_LEAST = 20, 80  # with --quick: of each class, and of all


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One set of pictures, and how they are learnt."""

    name: str
    settings: InspectionSettings
    fit: VisionFitSettings
    good: str | None = None
    floors: Mapping[str, float]  # metric -> what it should reach
    speed_pictures: int = 256  # inspected at once, to tell how fast


class Data(Protocol):
    """Pictures with what is known of them."""

    @property
    def pictures(self) -> Sequence[Pixels]:
        """As they came."""

    @property
    def templates(self) -> Sequence[Pixels] | None:
        """A golden one for each, where they are compared."""

    @property
    def shown(self) -> Sequence[tuple[str, ...]]:
        """The classes on each."""

    def some(self, numbers: Sequence[int]) -> Self:
        """Those with these numbers."""

    def examples(self) -> Examples:
        """As they are learnt from."""

    def figures(self, inspection: Inspection, folder: Path | None) -> dict[str, float]:
        """How good an inspection is on them; a report goes to the folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """Pictures with classes."""

    names: tuple[str, ...]
    pictures: tuple[Pixels, ...]
    labels: tuple[str, ...]
    templates: None = None

    @property
    def shown(self) -> Sequence[tuple[str, ...]]:
        """The class of each."""
        return [(label,) for label in self.labels]

    def some(self, numbers: Sequence[int]) -> "Labelled":
        """Those with these numbers."""
        return Labelled(
            names=tuple(self.names[n] for n in numbers),
            pictures=tuple(self.pictures[n] for n in numbers),
            labels=tuple(self.labels[n] for n in numbers),
        )

    def examples(self) -> Examples:
        """As they are learnt from."""
        return Examples(pictures=self.pictures, labels=self.labels)

    def figures(self, inspection: Inspection, folder: Path | None) -> dict[str, float]:
        """How many classes are told right; a report goes to the folder."""
        report = Report.of(
            inspection.inspect(self.pictures), self.labels, good=inspection.card.good
        )
        if folder is not None:
            report.write(folder, self.pictures)
        found = report.numbers()
        return {
            **{name: value for name, value in found["whole"].items() if value is not None},
            **{
                f"recall_{name}": one["recall"]
                for name, one in found["classes"].items()
                if one["recall"] is not None
            },
        }


def read_labelled(folder: Path) -> Labelled:
    """labels.csv (image, label) and images.zip of a folder. Raises LayoutError."""
    columns = read_csv(folder / "labels.csv")
    if not {"image", "label"} <= columns.keys():
        raise LayoutError(f"{folder / 'labels.csv'}: want columns image, label")
    names = tuple(str(name) for name in columns["image"])
    try:
        with zipfile.ZipFile(folder / "images.zip") as archive:
            pictures = tuple(decoded(archive.read(name)) for name in names)
    except (OSError, KeyError, zipfile.BadZipFile, UnidentifiedImageError) as error:
        raise LayoutError(f"{folder / 'images.zip'}: {error}") from error
    return Labelled(
        names=names, pictures=pictures, labels=tuple(str(one) for one in columns["label"])
    )


def decoded(content: bytes) -> Pixels:
    """A picture [H, W, C] of what a file holds."""
    opened = Image.open(io.BytesIO(content))
    picture = np.asarray(opened.convert("L") if opened.mode == "1" else opened)
    return picture if picture.ndim == 3 else picture[..., None]


D = TypeVar("D", bound=Data)


def main(task: Task, about: str, read: Callable[[Path], Data] = read_labelled) -> None:
    """What a benchmark of pictures does."""
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the train part")
    parser.add_argument("--test", type=Path, help="folder with pictures that nothing is chosen by")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, help="fewer than the task's own, to try it out")
    parser.add_argument("--quick", action="store_true", help="two epochs of few pictures: it runs")
    parser.add_argument("--keep", type=Path, help="folder for bundles, reports and checkpoints")
    parser.add_argument("--json", type=Path, help="where to keep the figures")
    given = parser.parse_args()
    use_one_thread()
    try:
        learning, judged = parts(read(given.data), None if given.test is None else read(given.test))
    except LayoutError as error:
        sys.exit(f"{parser.prog}: {error}")
    if given.quick:
        learning, judged = _few(learning), _few(judged)
        fit = task.fit.model_copy(update={"epochs": 2, "warmup_epochs": 0, "validation_share": 0.3})
        task = replace(task, fit=fit)
    elif given.epochs:
        task = replace(task, fit=task.fit.model_copy(update={"epochs": given.epochs}))
    where = given.json or RESULTS / f"{task.name}.json"
    kept = Kept(
        where, task, tested=given.test is not None, parts=(learning.examples(), judged.examples())
    )
    for seed in given.seeds:
        kept.add(seed, _measured(task, seed, learning, judged, given.keep))
        if given.json or not given.quick:
            kept.write()
    say("")
    print(kept.table())


def parts(data: D, test: D | None) -> tuple[D, D]:
    """What is learnt from, and what is judged by."""
    if test is not None:
        return data, test
    out = held_out(data.shown, grouped(data.pictures), HELD_BACK, seed=SPLIT_SEED)
    return data.some(np.flatnonzero(~out).tolist()), data.some(np.flatnonzero(out).tolist())


def _few(data: D) -> D:
    """Some pictures of each class."""
    shown = data.shown
    names = {name for own in shown for name in own}
    of = {name: [n for n, own in enumerate(shown) if name in own] for name in names}
    first = range(min(QUICK_LEAST, len(shown)))
    return data.some(sorted({*first, *(n for own in of.values() for n in own[:QUICK_PICTURES])}))


def _measured(
    task: Task, seed: int, learning: Data, judged: Data, keep: Path | None
) -> dict[str, float]:
    """Train with one seed, and count."""
    folder = None if keep is None else keep / f"{task.name}-{seed}"
    checkpoint = None if folder is None else folder / "checkpoint"
    resumed = checkpoint is not None and checkpoint.exists()

    def told(now: Epoch) -> None:
        say(
            f"{task.name}, seed {seed}, epoch {now.epoch} of {now.epochs}: "
            f"{now.training_loss:.3f}, held out {now.validation_loss:.3f}"
        )

    before = time.process_time()
    trained = train(
        learning.examples(),
        task.settings,
        task.fit.model_copy(update={"seed": seed}),
        good=task.good,
        progress=told,
        checkpoint=checkpoint,
    )
    cpu_s = time.process_time() - before
    inspection = trained.inspection
    if folder is not None:
        inspection.save(folder / "bundle")
    figures = {
        **judged.figures(inspection, None if folder is None else folder / "report"),
        "pictures_per_s": _speed(inspection, judged, task.speed_pictures),
        "best_epoch": trained.best_epoch[-1],
    }
    if not resumed:
        figures["training_cpu_s"] = round(cpu_s, 1)
    if checkpoint is not None:
        shutil.rmtree(checkpoint)  # or the next run trains nothing
    return figures


def _speed(inspection: Inspection, judged: Data, count: int) -> float:
    """Decoded pictures a second of CPU time, all of inspect(), on one core."""
    some = judged.some([n % len(judged.shown) for n in range(count)])
    (times,) = race(
        {"inspect": lambda: lambda: inspection.inspect(some.pictures, some.templates)},
        SPEED_ROUNDS,
    )
    return count / times.best


class Kept:
    """Figures by seed, those of earlier runs with the same settings and pictures among them.

    Code and processor may have changed between seeds: those of each are written beside.
    """

    def __init__(
        self,
        path: Path,
        task: Task,
        *,
        tested: bool,
        parts: tuple[Examples, Examples],  # learnt from, judged by
        beside: Mapping[str, Any] | None = None,  # what else makes figures the same kind
    ) -> None:
        self.path = path
        self.task = task
        self.head: dict[str, Any] = {
            "set": task.name,
            "judged_by": "the test part" if tested else "a part held back from the train part",
            "pictures": {
                name: len(part.pictures)
                for name, part in zip(("learning", "judged"), parts, strict=True)
            },
            SHA256: [content_hash(part) for part in parts],
            "settings": task.settings.model_dump(mode="json"),
            "fit": task.fit.model_dump(mode="json", exclude={"seed"}),
            **(beside or {}),
        }
        self.by_seed: dict[str, dict[str, float]] = {}
        self.code: dict[str, str] = {}
        self.cpu: dict[str, str] = {}
        if path.exists():
            earlier = json.loads(path.read_text(encoding="utf-8"))
            earlier.setdefault(SHA256, self.head[SHA256])  # of before it was kept
            if all(earlier.get(name) == value for name, value in self.head.items()):
                self.by_seed = earlier["by_seed"]
                self.code = earlier.get("code", {})
                before = dict.fromkeys(self.by_seed, earlier["machine"]["cpu"])  # it was kept
                self.cpu = earlier.get("cpu", before)

    def add(self, seed: int, figures: dict[str, float]) -> None:
        """Those of one seed, in the place of earlier ones; what is not told again stays."""
        self.by_seed[str(seed)] = {**self.by_seed.get(str(seed), {}), **figures}
        self.code[str(seed)] = code_version()
        self.cpu[str(seed)] = machine()["cpu"]

    def write(self) -> None:
        """The file, with the means and the spread of all seeds."""
        columns = self._columns()
        content = {
            **self.head,
            "seeds": sorted(map(int, self.by_seed)),
            "metrics": {name: statistics.fmean(values) for name, values in columns.items()},
            "spread": {name: [min(values), max(values)] for name, values in columns.items()},
            "by_seed": self.by_seed,
            "code": self.code,
            "cpu": self.cpu,
        }
        write(self.path, content)

    def table(self) -> str:
        """Mean and spread of all seeds, beside what should be reached."""
        rows = [
            [
                name,
                f"{statistics.fmean(values):.4g}",
                f"{min(values):.4g} to {max(values):.4g}",
                self.task.floors.get(name, ""),
            ]
            for name, values in self._columns().items()
        ]
        seeds = ", ".join(sorted(self.by_seed))
        return table((self.task.name, f"mean of seeds {seeds}", "spread", "floor"), rows)

    def _columns(self) -> dict[str, list[float]]:
        """Metrics that every seed has."""
        figures = list(self.by_seed.values())
        names = [name for name in figures[0] if all(name in one for one in figures)]
        return {name: [one[name] for one in figures] for name in names}

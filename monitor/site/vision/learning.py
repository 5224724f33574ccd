"""An inspection made of the labelled pictures of a folder, and measured on labelled ones.

Beside the inspection's folder NAME stand, while it is learnt, NAME.checkpoint and NAME.lock, and
afterwards NAME.report: what it makes of the pictures that were held out.
"""

import json
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from connectors.labelled import Files, LabelsError
from models.bundle import CARD
from models.training import Interrupted, Progress
from models.vision.box_report import LEAST, BoxReport
from models.vision.bundle import Task, VisionCard
from models.vision.inspection import Inspection
from models.vision.preprocess import PictureError
from models.vision.report import Report
from models.vision.stock import Marked
from models.vision.training import ANOMALY, train
from monitor.site.problems import MismatchedError, PlantError, did_you_mean
from monitor.site.vision.gathering import Gathered, Told, check_classes, silent
from monitor.site.vision.making import seen_before
from monitor.site.vision.settings import LearningSettings
from monitor.state.locks import held

CHECKPOINT = "checkpoint.json"  # in a folder for each network
REPORT = "report.json"  # in the folder of every report
GOOD = "good"  # what a picture without a mark is called, unless it is said
KINDS: Mapping[Task, str] = {
    "classes": "one class for each picture",
    "good": "good pictures",
    "boxes": "boxes",
    "masks": "masks",
}
MEASURED_BY: Mapping[Task, tuple[Task, ...]] = {  # which labels say how good what was learnt is
    "classes": ("classes",),
    "good": ("classes", "boxes", "masks"),
    "boxes": ("boxes", "masks"),
    "masks": ("masks",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Learnt:
    """What came of a training."""

    card: VisionCard
    path: Path
    report: Report | BoxReport  # of the pictures that were held out
    report_path: Path
    epochs: tuple[int, ...]  # passes made, of each network
    best_epoch: tuple[int, ...]
    taught: int  # pictures
    held_out: int
    seen_before: int  # pictures held out that taught what was made


def learn(
    gathered: Gathered,
    path: Path,
    settings: LearningSettings,
    *,
    task: Task | None = None,
    good: str | None = None,
    backbone: Path | None = None,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    warn: Callable[[str], None] = warnings.warn,
) -> Learnt:
    """Train, save, and measure on what was held out; the same call goes on where it was stopped.

    ``task``: boxes, where labels have masks, too; else what the labels say. ``warn`` is told what
    is odd about them. Raises PlantError where
    the folder is another's, MismatchedError where nothing can be made of these pictures,
    LockedError, and Interrupted where should_stop() says so.
    """
    if path.exists() and not (path / CARD).is_file():
        raise PlantError(f"{path}: is there, and is no inspection. Give another name with --out.")
    words = f"{path}: {{process}} is training it. Wait until it has ended, or give another --out."
    checkpoint, report_path = (
        path.with_name(path.name + end) for end in (".checkpoint", ".report")
    )
    check_report(report_path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with held(path.with_name(path.name + ".lock"), by_another=words):
        try:
            trained = train(
                gathered.examples(task or gathered.task),
                settings.inspection,
                settings.fit,
                good=good if good is not None or gathered.task == "classes" else GOOD,
                backbone=backbone,
                progress=progress,
                checkpoint=checkpoint,
                should_stop=should_stop,
                warn=warn,
            )
        except (ValueError, PictureError) as error:
            raise MismatchedError(str(error)) from error
        except Interrupted as stopped:
            if any(checkpoint.rglob(CHECKPOINT)):
                raise
            words = "training was stopped within its first pass; nothing is kept"
            raise Interrupted(words, checkpoint=None) from stopped
        trained.inspection.save(path)
        shutil.rmtree(checkpoint, ignore_errors=True)
    out = np.flatnonzero(trained.held_out).tolist()
    report = measured(trained.inspection, gathered, out)
    written(report, report_path, gathered.pictures.some(out))
    return Learnt(
        card=trained.inspection.card,
        path=path,
        report=report,
        report_path=report_path,
        epochs=trained.epochs,
        best_epoch=trained.best_epoch,
        taught=len(trained.held_out) - len(out),
        held_out=len(out),
        seen_before=seen_before(gathered, out),
    )


def check_good(gathered: Gathered, good: str | None) -> None:
    """Raises LabelsError where classes cannot be learnt, before anything is made ready."""
    classes = gathered.counts
    if gathered.task != "classes":
        return
    if good is not None and good not in classes:
        raise LabelsError(f"--good: no picture is labelled {good!r}.{did_you_mean(good, classes)}")
    if len(classes) == 1 and good is None:
        only = next(iter(classes))
        raise LabelsError(
            f"{gathered.labelled.form}: every picture is labelled {only!r}; want two classes or "
            f"more, or, where these are good ones, --good {only}."
        )


def going_on(path: Path) -> str:
    """From where a training goes on that was stopped, in words; nothing: it begins."""
    path = path.absolute()
    found = sorted(path.with_name(path.name + ".checkpoint").rglob(CHECKPOINT))
    try:
        passes = [json.loads(one.read_bytes())["epoch"] for one in found]
    except (OSError, ValueError, KeyError, TypeError):
        return ""  # whoever takes it up says what is wrong with it
    if not passes:
        return ""
    return f"goes on from {path.name}.checkpoint: model {len(passes)}, after epoch {passes[-1]}"


def measured(
    inspection: Inspection,
    gathered: Gathered,
    numbers: Sequence[int] | None = None,
    *,
    told: Told = silent,
) -> Report | BoxReport:
    """What an inspection makes of labelled pictures, or of those with these numbers.

    Raises LabelsError where the labels are not of its classes, or of another kind than it learnt.
    """
    card = inspection.card
    if gathered.task not in MEASURED_BY[card.task]:
        raise LabelsError(
            f"{gathered.labelled.form}: gives {KINDS[gathered.task]}, and this inspection has "
            f"learnt from {KINDS[card.task]}. Give labels of that kind."
        )
    if card.task != "good":
        check_classes(gathered, card.classes, card.good)
    wanted = range(len(gathered.pictures)) if numbers is None else numbers
    pictures, templates = gathered.pictures.some(wanted), gathered.templates
    try:
        for path, picture in zip(pictures.paths, pictures, strict=True):
            inspection.check(picture, str(path))
        found = []
        each = inspection.each(
            pictures,
            None if templates is None else templates.some(wanted),
            least=LEAST if card.task == "boxes" else None,
        )
        for one in each:
            found.append(one)
            told(len(found), len(pictures))
    except PictureError as error:
        raise LabelsError(str(error)) from error
    marked = [gathered.marked[n] for n in wanted] if gathered.task != "classes" else []
    if card.task in ("boxes", "masks") and not any(marked):
        raise LabelsError(
            f"{gathered.labelled.form}: no picture has a mark: nothing can be measured."
        )
    if card.task == "boxes":
        return BoxReport.of(found, marked, sure=card.limit)
    regions = gathered.regions
    return Report.of(
        found,
        [_label(gathered, n, card) for n in wanted],
        good=card.good,
        masks=[regions[n] for n in wanted] if gathered.task == "masks" else None,
        sure=card.limit,
    )


def check_report(folder: Path) -> None:
    """Raises PlantError for a folder that is there, and is another's."""
    foreign = folder.is_dir() and any(folder.iterdir()) and not (folder / REPORT).is_file()
    if foreign or (folder.exists() and not folder.is_dir()):
        raise PlantError(f"{folder}: is there, and is no report. Rename it, or give another --out.")


def _label(gathered: Gathered, number: int, card: VisionCard) -> str:
    """What a picture is, in the inspection's words; by its largest mark, where it has marks."""
    good = card.good or GOOD
    if gathered.labelled.labels is not None:
        label = gathered.labelled.labels[number]
    else:
        marks = gathered.marked[number]
        label = max(marks, key=_area).label if marks else good
    return ANOMALY if card.task == "good" and label != good else label


def _area(mark: Marked) -> float:
    x1, y1, x2, y2 = mark.box
    return (x2 - x1) * (y2 - y1)


def written(report: Report | BoxReport, folder: Path, pictures: Files) -> None:
    """As table, JSON and pictures, into a folder."""
    if isinstance(report, Report):
        report.write(folder, pictures)
    else:
        report.write(folder)

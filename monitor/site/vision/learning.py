"""An inspection made of the labelled pictures of a folder, and measured on labelled ones.

Beside the inspection's folder NAME stand, while it is learnt, NAME.checkpoint and NAME.lock, and
afterwards NAME.report: what it makes of the pictures that were held out.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from connectors.labelled import Files, LabelsError
from models.bundle import CARD
from models.training import Progress
from models.vision.box_report import LEAST, BoxReport
from models.vision.bundle import VisionCard
from models.vision.inspection import Inspection
from models.vision.preprocess import PictureError
from models.vision.report import Report
from models.vision.training import train
from monitor.site.problems import PlantError
from monitor.site.vision.gathering import Gathered, Told, check_classes, silent
from monitor.site.vision.settings import LearningSettings
from monitor.state.locks import held

GOOD = "good"  # what a picture without a mark is called, unless it is said


@dataclass(frozen=True, slots=True, kw_only=True)
class Learnt:
    """What came of a training."""

    card: VisionCard
    path: Path
    report: Report | BoxReport  # of the pictures that were held out
    report_path: Path
    epochs: tuple[int, ...]  # passes made, of each network
    best_epoch: tuple[int, ...]


def learn(
    gathered: Gathered,
    path: Path,
    settings: LearningSettings,
    *,
    good: str | None = None,
    backbone: Path | None = None,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Learnt:
    """Train, save, and measure on what was held out; the same call goes on where it was stopped.

    Raises PlantError where nothing can be made of these pictures or the folder is another's,
    LockedError, and Interrupted where should_stop() says so.
    """
    if path.exists() and not (path / CARD).is_file():
        raise PlantError(f"{path}: is there, and is no inspection. Give another name with --out.")
    path.parent.mkdir(parents=True, exist_ok=True)
    words = f"{path}: {{process}} is training it. Wait until it has ended, or give another --out."
    checkpoint, report_path = (
        path.with_name(path.name + end) for end in (".checkpoint", ".report")
    )
    with held(path.with_name(path.name + ".lock"), by_another=words):
        try:
            trained = train(
                gathered.examples,
                settings.inspection,
                settings.fit,
                good=good if good is not None or not gathered.has_boxes else GOOD,
                backbone=backbone,
                progress=progress,
                checkpoint=checkpoint,
                should_stop=should_stop,
            )
        except (ValueError, PictureError) as error:
            raise PlantError(str(error)) from error
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
    )


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
    if (card.task != "classes") != gathered.has_boxes:
        kinds = {False: "one class for each picture", True: "marks"}
        raise LabelsError(
            f"{gathered.labelled.form}: gives {kinds[gathered.has_boxes]}, and this inspection has "
            f"learnt from {kinds[not gathered.has_boxes]}. Give labels of that kind."
        )
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
            least=LEAST if gathered.has_boxes else None,
        )
        for one in each:
            found.append(one)
            told(len(found), len(pictures))
    except PictureError as error:
        raise LabelsError(str(error)) from error
    if gathered.labelled.labels is not None:
        return Report.of(found, [gathered.labelled.labels[n] for n in wanted], good=card.good)
    marked = [gathered.marked[n] for n in wanted]
    if not any(marked):
        raise LabelsError(
            f"{gathered.labelled.form}: no picture has a mark: nothing can be measured."
        )
    return BoxReport.of(found, marked, sure=card.sure or 0.5)


def written(report: Report | BoxReport, folder: Path, pictures: Files) -> None:
    """As table, JSON and pictures, into a folder."""
    if isinstance(report, Report):
        report.write(folder, pictures)
    else:
        report.write(folder)

"""From what a network saw on a picture to what the journal is told of it: sizes, and the grade.

The network says what is wrong and where; the camera's acceptance table says how bad that is
(models/vision/severity.py). Without a table nothing is graded.
"""

import math
from dataclasses import dataclass
from typing import Literal

from connectors.payloads.image import Pixels
from models.vision.acceptance import AcceptanceSettings, Grade
from models.vision.contract import Inspector
from models.vision.inspected import Defect, Inspected
from models.vision.progression import Progression
from models.vision.severity import Graded, Size, area_px, grade, size_of
from monitor.core.records import PictureResult, SeenDefect
from monitor.live.templates import Templates
from monitor.state.pictures import Waiting

Overlays = Literal["wrong", "all", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraSetup:
    """What a camera's pictures are inspected with."""

    name: str
    inspector: Inspector | None  # None: they are kept, and nobody looks at them
    mm_per_pixel: float | None
    timeout_s: float = 60.0  # for one picture
    recipe: str | None  # of pictures that come without one
    acceptance: AcceptanceSettings | None = None  # None: nothing is graded
    templates: Templates | None = None  # None: it compares with none
    overlays: Overlays = "wrong"  # which pictures are kept with what was found drawn on them
    strange: float = math.inf  # the surprise above which a picture without defects is wrong, too
    progression: Progression | None = None  # what the step foretells by


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of looking at a picture."""

    inspected: Inspected | None = None
    graded: Graded | None = None
    rejected: str = ""  # why it was not inspected


def judged(camera: CameraSetup, inspected: Inspected, pixels: Pixels) -> Seen:
    """A picture that was inspected, graded. Raises ValueError where its masks do not fit it."""
    if camera.acceptance is None:
        return Seen(inspected)
    scale = camera.mm_per_pixel
    return Seen(inspected, grade(inspected, camera.acceptance, mm_per_pixel=scale, picture=pixels))


def shows(camera: CameraSetup, told: PictureResult) -> bool:
    """Whether people are to be shown what was found on a picture."""
    if told.surprise is None or camera.overlays == "none":
        return False
    return camera.overlays == "all" or told.is_wrong or told.surprise > camera.strange


def result(one: Waiting, seen: Seen, camera: CameraSetup | None) -> PictureResult:
    """What the journal is told of a picture."""
    known, graded = seen.inspected, seen.graded
    inspector = camera.inspector if camera is not None else None
    scale = camera.mm_per_pixel if camera is not None else None
    return PictureResult(
        source=one.source,
        camera=one.camera,
        time=one.time,
        part=one.part,
        recipe=recipe_of(one, camera),
        hash=one.hash,
        model=inspector.hash if inspector is not None and known is not None else "",
        label="" if known is None else known.label,
        probability=0.0 if known is None else float(known.probability),
        surprise=None if known is None else float(known.surprise),
        grade=Grade.NONE if graded is None else graded.grade,
        rule="" if graded is None else graded.rule,
        reason="" if graded is None else graded.reason,
        defects=() if known is None else _defects(known, graded, scale),
        rejected=seen.rejected,
        area_px=None if known is None else area_px(known),
        features=b"" if known is None else known.features.astype("<f4").tobytes(),
    )


def recipe_of(one: Waiting, camera: CameraSetup | None) -> str | None:
    """What is made on a picture, as far as that is known."""
    return one.recipe or (camera.recipe if camera is not None else None)


def _defects(
    inspected: Inspected, graded: Graded | None, mm_per_pixel: float | None
) -> tuple[SeenDefect, ...]:
    found = inspected.defects
    sizes = [size_of(one, mm_per_pixel) for one in found] if graded is None else graded.sizes
    grades = [Grade.NONE] * len(found) if graded is None else graded.grades
    return tuple(
        _defect(one, size, its, mm_per_pixel)
        for one, size, its in zip(found, sizes, grades, strict=True)
    )


def _defect(defect: Defect, size: Size, its: Grade, mm_per_pixel: float | None) -> SeenDefect:
    """A defect with its size, where that is known."""
    x1, y1, x2, y2 = map(float, defect.box)
    return SeenDefect(
        label=defect.label,
        probability=float(defect.probability),
        box=(x1, y1, x2, y2),
        width_mm=(x2 - x1) * mm_per_pixel if mm_per_pixel and defect.bounded else None,
        height_mm=(y2 - y1) * mm_per_pixel if mm_per_pixel and defect.bounded else None,
        area_mm2=size.area_mm2 if size.by_mask else None,
        length_mm=size.length_mm,
        grade=its,
    )

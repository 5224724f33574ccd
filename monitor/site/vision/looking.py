"""Every picture of a folder inspected, one after the other; what cannot be is told, and passed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from connectors.labelled import Files, LabelsError, pictures_in, portable
from connectors.payloads.image import PictureError as UnreadableError
from connectors.payloads.image import Pixels
from models.vision.acceptance import AcceptanceSettings
from models.vision.inspected import Inspected
from models.vision.inspection import Inspection
from models.vision.preprocess import PictureError
from models.vision.severity import Graded, Size, grade, size_of
from monitor.site.vision.gathering import Told, silent, templates_of

ABREAST = 16  # pictures that are unpacked and inspected together


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """One picture of the folder, and what came of it."""

    name: str  # below the folder
    refused: str = ""  # why it could not be inspected
    pixels: Pixels | None = None
    found: Inspected | None = None
    graded: Graded | None = None  # where there is an acceptance table
    sizes: tuple[Size, ...] = ()  # of each defect


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is to be inspected, and how it is graded."""

    folder: Path
    paths: Sequence[Path]
    templates: Sequence[Path] | None
    acceptance: AcceptanceSettings | None
    mm_per_pixel: float | None


def asked(
    inspection: Inspection,
    folder: Path,
    *,
    out: Path,
    templates: str | None = None,
    acceptance: AcceptanceSettings | None = None,
    mm_per_pixel: float | None = None,
) -> Asked:
    """The pictures of a folder, without those that were written to ``out``. Raises LabelsError."""
    return wanted(
        inspection,
        folder,
        pictures_in(folder, without=out),
        templates=templates,
        acceptance=acceptance,
        mm_per_pixel=mm_per_pixel,
    )


def wanted(
    inspection: Inspection,
    folder: Path,
    paths: Sequence[Path],
    *,
    templates: str | None = None,
    acceptance: AcceptanceSettings | None = None,
    mm_per_pixel: float | None = None,
) -> Asked:
    """These pictures of a folder. Raises LabelsError."""
    if inspection.card.seen.paired != (templates is not None):
        want = "compares with golden templates: give --templates"
        if templates is not None:
            want = "has learnt without templates: leave --templates out"
        raise LabelsError(f"--templates: this inspection {want}.")
    return Asked(
        folder=folder,
        paths=paths,
        templates=None if templates is None else templates_of(folder, paths, templates),
        acceptance=acceptance,
        mm_per_pixel=mm_per_pixel,
    )


def look(inspection: Inspection, what: Asked, *, told: Told = silent) -> Iterator[Looked]:
    """All of them, in the order of their names."""
    for first in range(0, len(what.paths), ABREAST):
        numbers = range(first, min(first + ABREAST, len(what.paths)))
        yield from _some(inspection, what, numbers)
        told(numbers[-1] + 1, len(what.paths))


def _some(inspection: Inspection, what: Asked, numbers: Sequence[int]) -> Iterator[Looked]:
    pictures = Files([what.paths[n] for n in numbers])
    templates = None if what.templates is None else Files([what.templates[n] for n in numbers])
    refused, sound = {}, []
    for at in range(len(pictures)):
        if why := _why_not(inspection, pictures, templates, at):
            refused[at] = why
        else:
            sound.append(at)
    found = iter(
        inspection.inspect(
            pictures.some(sound), None if templates is None else templates.some(sound)
        )
    )
    for at, path in enumerate(pictures.paths):
        name = portable(path.relative_to(what.folder).as_posix())
        if at in refused:
            yield Looked(name=name, refused=portable(refused[at]))
            continue
        yield _looked(name, pictures[at], next(found), what)


def _why_not(inspection: Inspection, pictures: Files, templates: Files | None, at: int) -> str:
    """Why a picture cannot be inspected; nothing: it can."""
    path = pictures.paths[at]
    try:
        picture = inspection.check(pictures[at], str(path))
        template = picture if templates is None else templates[at]
    except (UnreadableError, PictureError) as error:
        return str(error)
    if template.shape != picture.shape or template.dtype != picture.dtype:
        return (
            f"{path}: want a template of {picture.dtype} {list(picture.shape)} as itself, got "
            f"{template.dtype} {list(template.shape)}"
        )
    return ""


def _looked(name: str, picture: Pixels, found: Inspected, what: Asked) -> Looked:
    graded = None
    if what.acceptance is not None:
        graded = grade(found, what.acceptance, mm_per_pixel=what.mm_per_pixel, picture=picture)
    sizes = tuple(size_of(one, what.mm_per_pixel) for one in found.defects)
    return Looked(name=name, pixels=picture, found=found, graded=graded, sizes=sizes)

"""Picture files, and what people have said of them, before anything is learnt.

Coordinates are pixels of the picture as it is stored: the first one lies between 0 and 1.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from connectors.payloads.image import (
    MOST_MEGAPIXELS,
    Bounds,
    PictureError,
    Pixels,
    Reason,
    decode,
    passed_over,
    size_of,
)

# h, w height and width of a mask

Bool = NDArray[np.bool_]
Box = tuple[float, float, float, float]  # x1, y1, x2, y2

SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
BOUNDS = Bounds(bytes=1 << 30, pixels=MOST_MEGAPIXELS * 1_000_000)  # they are the user's own
KEPT_BYTES = 1 << 30  # of unpacked pictures; beyond, they are unpacked each time they are asked for
OVER_PX = 1.0  # tools round: a box may reach beyond its picture by so much, and is cut
NAMED = 3  # of what is wrong many times


class LabelsError(Exception):
    """Labels that cannot be learnt from: says what, where, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A defect that somebody has marked."""

    label: str
    box: Box
    mask: Bool | None = None  # [h, w] of the rounded box; None: only the box is known


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """Pictures with a class each, or with marks; all sequences in the order of ``paths``."""

    form: str  # how it was said, for people
    paths: Sequence[Path]
    labels: Sequence[str] | None = None
    marks: Sequence[Sequence[Mark]] | None = None  # none on a picture: it is good
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)  # what else a table says
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Names of classes go into cards and reports: they are text, whatever they came from."""
        if self.labels is not None:
            object.__setattr__(self, "labels", [portable(one) for one in self.labels])
        if self.marks is not None:
            marks = [[replace(one, label=portable(one.label)) for one in own] for own in self.marks]
            object.__setattr__(self, "marks", marks)

    def some(self, numbers: Sequence[int]) -> "Labelled":
        """Those with these numbers."""
        return Labelled(
            form=self.form,
            paths=[self.paths[n] for n in numbers],
            labels=None if self.labels is None else [self.labels[n] for n in numbers],
            marks=None if self.marks is None else [self.marks[n] for n in numbers],
            columns={name: [all_[n] for n in numbers] for name, all_ in self.columns.items()},
            warnings=self.warnings,
        )


class Files(Sequence[Pixels]):
    """Pictures uint8 or uint16 [H, W, C], unpacked when they are asked for and kept while they fit.

    Asking for one raises PictureError, with the file's name, where it is no sound picture.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = tuple(paths)
        self._kept: dict[int, Pixels] = {}
        self._bytes = 0

    def __len__(self) -> int:
        """How many."""
        return len(self.paths)

    @overload
    def __getitem__(self, number: int) -> Pixels: ...
    @overload
    def __getitem__(self, number: slice) -> "Files": ...
    def __getitem__(self, number: int | slice) -> "Pixels | Files":
        """One of them, or several."""
        if isinstance(number, slice):
            return Files(self.paths[number])
        number = range(len(self.paths))[number]
        if number not in self._kept:
            pixels = pixels_of(self.paths[number])
            if self._bytes + pixels.nbytes > KEPT_BYTES:
                return pixels
            self._kept[number] = pixels
            self._bytes += pixels.nbytes
        return self._kept[number]

    def some(self, numbers: Sequence[int]) -> "Files":
        """Those with these numbers; what is unpacked stays so."""
        made = Files([self.paths[n] for n in numbers])
        made._kept = {at: self._kept[n] for at, n in enumerate(numbers) if n in self._kept}
        made._bytes = sum(one.nbytes for one in made._kept.values())
        return made

    def unreadable(self, told: Callable[[int], None] = lambda _: None) -> dict[int, str]:
        """Why, of each that is no sound picture, by its number; ``told`` how many were tried."""
        found = {}
        for number in range(len(self.paths)):
            try:
                self[number]
            except PictureError as error:
                found[number] = str(error)
            told(number + 1)
        return found


def pixels_of(path: Path) -> Pixels:
    """The pixels of a file. Raises PictureError, with its name."""
    try:
        return decode(path.read_bytes(), BOUNDS)
    except PictureError as error:
        raise PictureError(error.reason, f"{path}: {error}") from error
    except OSError as error:
        raise PictureError(Reason.UNREADABLE, f"{path}: {error.strerror or error}") from error


def pictures_in(folder: Path, *, without: Path | None = None) -> list[Path]:
    """Every JPEG and PNG below a folder, by name; hidden ones and those in ``without`` left out.

    Raises LabelsError where there is none.
    """
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "no such folder"
        raise LabelsError(f"{folder}: {what}. Give the folder that the pictures are in.")
    found = [path for path in _below(folder, without) if path.suffix.lower() in SUFFIXES]
    if not found:
        others = others_in(folder, without=without)
        raise LabelsError(
            f"{folder}: no picture in it or below it; want files that end in .jpg, .jpeg or .png."
            f"{others and f' There are {others}.'}"
        )
    return sorted(found, key=lambda path: path.relative_to(folder).parts)


def others_in(folder: Path, *, without: Path | None = None) -> str:
    """Which pictures of kinds that are not read lie below a folder, in words; "": none."""
    return passed_over(path.name for path in _below(folder, without))


def _below(folder: Path, without: Path | None) -> Iterator[Path]:
    left_out = None if without is None else without.resolve()
    for where, folders, files in os.walk(folder):
        here = Path(where)
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and (here / name).resolve() != left_out
        ]
        yield from (here / name for name in files if not name.startswith("."))


def size_if_read(path: Path) -> tuple[int, int] | None:
    """Width and height; None: it is no picture, which is told when it is to be learnt from."""
    try:
        return size_of(path)
    except PictureError:
        return None


def as_labelled(where: str, path: Path, said: tuple[str, str], size: tuple[int, int]) -> None:
    """Raises LabelsError where a picture has not the width and height that labels say it has."""
    if said != (str(size[0]), str(size[1])):
        raise LabelsError(
            f"{where}: says {path.name} has {said[0]} x {said[1]} pixels, and it has {size[0]} x "
            f"{size[1]}: its boxes would lie elsewhere. Give the pictures that were labelled."
        )


def within(box: Box, size: tuple[int, int], where: str) -> Box:
    """The box, cut to a picture of so many pixels, width and height. Raises LabelsError."""
    width, height = size
    x1, y1, x2, y2 = box
    if not np.isfinite(box).all() or x2 <= x1 or y2 <= y1:
        raise LabelsError(f"{where}: got a box {shown(box)}, want x1 < x2 and y1 < y2.")
    cut = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
    over = max(abs(one - other) for one, other in zip(box, cut, strict=True))
    if over > OVER_PX or cut[0] >= cut[2] or cut[1] >= cut[3]:
        raise LabelsError(
            f"{where}: the box {shown(box)} is not within its picture of {width} x {height} "
            "pixels. Correct it, or give the picture that was labelled."
        )
    return cut


def portable(text: str) -> str:
    r"""Text that any file and any screen takes: what is no UTF-8 in a name becomes as \udcff."""
    return text.encode("utf-8", "backslashreplace").decode()


def shown(box: Sequence[float]) -> str:
    """A box for people: x1, y1, x2, y2."""
    return f"[{', '.join(f'{one:g}' for one in box)}]"


def several(words: Sequence[object]) -> str:
    """The first few of many, and how many more."""
    more = f" and {len(words) - NAMED} more" if len(words) > NAMED else ""
    return ", ".join(map(str, words[:NAMED])) + more

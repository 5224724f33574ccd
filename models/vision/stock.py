"""What is learnt from: pictures with what is known of them, as the network will see them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.vision.bundle import Seen
from models.vision.contract import Pixels
from models.vision.preprocess import (
    PictureError,
    checked,
    paired,
    placement,
    prepared,
)
from models.vision.settings import InspectionSettings

# N pictures, C channels, H W as prepared

U8 = NDArray[np.uint8]
Bool = NDArray[np.bool_]
Crop = tuple[int, int, int, int]  # x1, y1, x2, y2: pixels of the picture as it came

HALF = 0.5
KEPT_BYTES = 2 << 30  # prepared pictures are kept up to here; beyond, they are prepared each time


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked:
    """A defect that somebody has marked on a picture."""

    label: str
    box: tuple[float, float, float, float]  # x1, y1, x2, y2: pixels of the picture as it came

    def within(self, crop: Crop | None) -> bool:
        """Whether its middle is."""
        x1, y1, x2, y2 = self.box
        x, y = (x1 + x2) / 2, (y1 + y2) / 2
        return crop is None or (crop[0] <= x < crop[2] and crop[1] <= y < crop[3])


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """What somebody has painted over on a picture: all pixels of a defect, or of a class."""

    label: str
    mask: Bool  # [H, W] of the picture as it came

    def within(self, crop: Crop | None) -> bool:
        """Whether any of it is."""
        if crop is None:
            return True
        x1, y1, x2, y2 = crop
        return bool(self.mask[y1:y2, x1:x2].any())


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """Pictures with what is known of them: a class each, boxes, or masks.

    The sequences may be lazy.
    """

    pictures: Sequence[Pixels]
    labels: Sequence[str] | None = None
    boxes: Sequence[Sequence[Marked]] | None = None  # none on a picture: it is good
    masks: Sequence[Sequence[Region]] | None = None  # likewise
    templates: Sequence[Pixels] | None = None  # a golden one for each
    groups: Sequence[object] | None = None  # equal: never on both sides; None: near copies are
    made: Sequence[bool] | None = None  # by a generator: these teach, and are never held out

    @property
    def are_made(self) -> Bool:
        """Which pictures [N] a generator made."""
        return np.array([False] * len(self.pictures) if self.made is None else self.made, np.bool_)


class Stock:
    """Pictures as the network sees them, kept while they fit."""

    def __init__(self, examples: Examples, settings: InspectionSettings) -> None:
        self.examples = examples
        self.settings = settings.preprocess
        self._kept: dict[int, Tensor] = {}
        self._hash = hashlib.sha256()
        shapes, kinds = set(), set()
        for number, picture in enumerate(examples.pictures):
            what = f"picture {number + 1}"
            made = self._prepared(number, checked(picture, what))
            shapes.add(picture.shape)
            kinds.add((picture.dtype.name, picture.shape[2]))
            if len(kinds) > 1:
                raise PictureError(
                    f"{what}: pictures of several kinds: "
                    f"{', '.join(f'{d} with {c} channels' for d, c in sorted(kinds))}. "
                    "Give pictures of one camera setting."
                )
            if examples.masks is not None:
                self._check_masks(examples.masks[number], picture, what)
            if made.numel() * made.element_size() * len(examples.pictures) <= KEPT_BYTES:
                self._kept[number] = made
            _hash(self._hash, examples, number, picture)
        self.channels = len(made)
        depth, channels = kinds.pop()
        self.seen = Seen(
            depth=depth,
            channels=channels,
            heights=(min(s[0] for s in shapes), max(s[0] for s in shapes)),
            widths=(min(s[1] for s in shapes), max(s[1] for s in shapes)),
            paired=self.paired,
        )

    @property
    def paired(self) -> bool:
        """Whether each picture is compared with a golden one."""
        return self.examples.templates is not None

    @property
    def size(self) -> tuple[int, int]:
        """H, W of a prepared picture."""
        return self.settings.height, self.settings.width

    @property
    def hash(self) -> str:
        """SHA-256 of pictures, templates and labels."""
        return self._hash.hexdigest()

    def places(self, number: int) -> list[tuple[str, tuple[float, float, float, float]]]:
        """Label and box, in pixels as prepared, of each defect that is marked within the crop."""
        assert self.examples.boxes is not None  # noqa: S101 (only asked where boxes are learnt)
        where = placement(self.examples.pictures[number], self.settings)
        return [
            (one.label, where.box(one.box))
            for one in self.examples.boxes[number]
            if one.within(self.settings.crop)
        ]

    def painted(self, number: int, classes: Sequence[str], good: int) -> tuple[U8, list[str]]:
        """The number of each pixel's class on a picture, as prepared [H, W]; of two, the last.

        A pixel that is half covered counts. Of what covers none by half, as a scratch thinner than
        a pixel, those count that are half as covered as the one that is most; the labels of such
        are told, too.
        """
        assert self.examples.masks is not None  # noqa: S101 (only asked where masks are learnt)
        where = placement(self.examples.pictures[number], self.settings)
        found, thin = np.full(where.size, good, np.uint8), []
        for region in self.examples.masks[number]:
            cover = where.cover(region.mask)
            most = float(cover.max())
            if 0 < most < HALF:
                thin.append(region.label)
            if most > 0:
                found[cover >= HALF * (1 if most >= HALF else most)] = classes.index(region.label)
        return found, thin

    def batch(self, numbers: Sequence[int]) -> Tensor:
        """Float32 [N, C, H, W]."""
        found = [
            self._kept[n] if n in self._kept else self._prepared(n, self.examples.pictures[n])
            for n in numbers
        ]
        return torch.stack(found)

    @staticmethod
    def _check_masks(regions: Sequence[Region], picture: Pixels, what: str) -> None:
        for one in regions:
            if not one.mask.any():
                raise PictureError(f"{what}: mask of {one.label}: nothing is painted; leave it out")
            if one.mask.shape != picture.shape[:2] or one.mask.dtype != np.bool_:
                raise PictureError(
                    f"{what}: mask of {one.label}: want bool {list(picture.shape[:2])} as the "
                    f"picture, got {one.mask.dtype} {list(one.mask.shape)}"
                )

    def _prepared(self, number: int, picture: Pixels) -> Tensor:
        made = prepared(picture, self.settings)
        if self.examples.templates is None:
            return made
        return paired(made, prepared(self.examples.templates[number], self.settings))


def content_hash(examples: Examples) -> str:
    """SHA-256 of pictures, templates and labels, as of a Stock of them."""
    found = hashlib.sha256()
    for number, picture in enumerate(examples.pictures):
        _hash(found, examples, number, picture)
    return found.hexdigest()


def _hash(into: "hashlib._Hash", examples: Examples, number: int, picture: Pixels) -> None:
    """One picture, and what is known of it."""
    into.update(repr((_known(examples, number), picture.shape)).encode())
    into.update(picture.tobytes())
    if examples.templates is not None:
        into.update(examples.templates[number].tobytes())


def _known(examples: Examples, number: int) -> object:
    if examples.labels is not None:
        return examples.labels[number]
    if examples.boxes is not None:
        return [(one.label, one.box) for one in examples.boxes[number]]
    if examples.masks is not None:
        return [
            (one.label, hashlib.sha256(np.packbits(one.mask).tobytes()).hexdigest())
            for one in examples.masks[number]
        ]
    return None

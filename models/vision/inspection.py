"""Pictures in, what is wrong with them out: a trained network in use.

One picture's results do not depend on the others of a call: batch norms are folded into weights,
nothing else looks across pictures. Only the order in which the CPU library sums depends on how many
pictures it gets at once, by about 1e-6 of a logit. Pictures go through in blocks of a bounded size,
whatever the batch.
"""

import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from models.bundle import BundleError, Device, resolve
from models.vision import bundle
from models.vision.bundle import Task, VisionCard
from models.vision.contract import Pixels
from models.vision.inspected import Inspected
from models.vision.masks import Masks
from models.vision.places import Places
from models.vision.preprocess import (
    PictureError,
    checked,
    paired,
    placement,
    prepared,
)
from models.vision.whole import Whole

# H W C height, width and channels of a picture as it came

BLOCK_PIXELS = 16 * 128 * 128  # of prepared pictures that go through the network at once
BLOCK = 64  # pictures, at the most
OTHER_SIZE = 0.25  # a picture may be larger or smaller by this share than any that was seen

READERS: Mapping[Task, type[Whole] | type[Places] | type[Masks]] = {
    "classes": Whole,
    "boxes": Places,
    "masks": Masks,
    "good": Masks,
}


class Inspection:
    """A trained network and its card."""

    def __init__(
        self, card: VisionCard, tensors: Mapping[str, Tensor], *, device: Device = "cpu"
    ) -> None:
        """Raises ValueError where the tensors are not those of the card."""
        self.card = card
        self._tensors = dict(tensors)
        try:
            self._reader = READERS[card.task](card, tensors, resolve(device))
        except (RuntimeError, KeyError) as error:
            raise ValueError(
                f"not the weights of this card: {' '.join(str(error).split())}"
            ) from error
        size = card.settings.preprocess
        self._abreast = min(max(BLOCK_PIXELS // (size.height * size.width), 1), BLOCK)

    @classmethod
    def load(cls, folder: Path | str, *, device: Device = "cpu") -> "Inspection":
        """Read a folder. Raises BundleError saying what is wrong with it and what to do."""
        folder = Path(folder)
        card, tensors = bundle.read(folder)
        try:
            return cls(card, tensors, device=device)
        except ValueError as error:
            raise BundleError(f"{folder}: {error}", path=folder) from error

    def save(self, folder: Path | str) -> None:
        """Write the folder, whole or not at all; one that is there already is replaced."""
        bundle.write(Path(folder), self.card, self._tensors)

    @functools.cached_property
    def hash(self) -> str:
        """SHA-256 of the card, and through it of everything."""
        return hashlib.sha256(bundle.card_bytes(self.card)).hexdigest()

    def inspect(
        self, pictures: Sequence[Pixels], templates: Sequence[Pixels] | None = None
    ) -> list[Inspected]:
        """What is wrong with each picture, uint8 or uint16 [H, W, C], with its template if paired.

        Raises PictureError for a picture of another depth, of other channels or of a size unlike
        all that were learnt from, and for templates that are missing, too many or of another size.
        """
        return list(self.each(pictures, templates))

    def each(
        self,
        pictures: Sequence[Pixels],
        templates: Sequence[Pixels] | None = None,
        *,
        least: float | None = None,
    ) -> Iterator[Inspected]:
        """The same, one after the other: pictures may be a sequence that reads as it is asked.

        ``least``: of places that are found, how probable a defect is told from on; the card's own
        if left out.
        """
        check_templates(self.card.seen.paired, len(pictures), templates)
        for first in range(0, len(pictures), self._abreast):
            numbers = range(first, min(first + self._abreast, len(pictures)))
            block = [self.check(pictures[n], f"picture {n + 1}") for n in numbers]
            shown = [prepared(picture, self.card.settings.preprocess) for picture in block]
            if templates is not None:
                shown = [
                    self._beside(test, picture, templates[n], f"template {n + 1}")
                    for n, test, picture in zip(numbers, shown, block, strict=True)
                ]
            where = [placement(picture, self.card.settings.preprocess) for picture in block]
            yield from self._reader.read(torch.stack(shown), where, least=least)

    def check(self, picture: Pixels, what: str) -> Pixels:
        """The picture, if it is like those that were learnt from. Raises PictureError."""
        seen = self.card.seen
        picture = checked(picture, what)
        height, width, channels = picture.shape
        if picture.dtype.name != seen.depth or channels != seen.channels:
            raise PictureError(
                f"{what}: want {seen.depth} with {seen.channels} channels, as was learnt from; "
                f"got {picture.dtype} with {channels}. Set the camera so, or train with such "
                "pictures."
            )
        for side, (least, most), name in (
            (height, seen.heights, "high"),
            (width, seen.widths, "wide"),
        ):
            if not least * (1 - OTHER_SIZE) <= side <= most * (1 + OTHER_SIZE):
                raise PictureError(
                    f"{what}: {width} x {height} pixels; those that were learnt from were "
                    f"{least} to {most} {name}. Set the camera so, or train with such pictures."
                )
        return picture

    def _beside(self, test: Tensor, picture: Pixels, template: Pixels, what: str) -> Tensor:
        if checked(template, what).shape != picture.shape or template.dtype != picture.dtype:
            raise PictureError(
                f"{what}: want {picture.dtype} {list(picture.shape)} as its picture, got "
                f"{template.dtype} {list(template.shape)}"
            )
        return paired(test, prepared(template, self.card.settings.preprocess))


def check_templates(
    is_paired: bool,  # noqa: FBT001 (the one thing that is asked)
    count: int,
    templates: Sequence[Pixels] | None,
) -> None:
    """Raises PictureError unless there is a template for each picture, or none is wanted."""
    if is_paired and templates is None:
        raise PictureError(
            "templates: this inspection compares with golden templates: give one each"
        )
    if not is_paired and templates is not None:
        raise PictureError("templates: this inspection has learnt without: give none")
    if templates is not None and len(templates) != count:
        raise PictureError(f"templates: want {count}, one for each picture, got {len(templates)}")

"""A picture with what was found on it: the map as a tint, outlines of masks, and boxes."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.vision.inspected import U8, Inspected
from models.vision.preprocess import Pixels

# H, W height and width of the picture as it came; h, w as it is shown

Pixel = TypeVar("Pixel", np.uint8, np.bool_)

LEAST = 320  # pixels of the longer side, as shown: small pictures are enlarged by whole steps
STRETCHED = (1.0, 99.0)  # percentiles that become black and white
TINT, LINE = np.array((255, 70, 20), np.float32), np.array((255, 225, 60), np.uint8)
STRONGEST = 0.5  # of the tint, where the map is at its highest


def shown(picture: Pixels) -> U8:
    """A picture [H, W, C] of any depth as uint8 RGB [h, w, 3], stretched in contrast."""
    low, high = np.percentile(picture, STRETCHED)
    light = (picture.astype(np.float32) - low) * (255 / max(high - low, 1))
    grown = _grown(np.clip(light + 0.5, 0, 255).astype(np.uint8), _factor(picture))
    return np.ascontiguousarray(np.broadcast_to(grown, (*grown.shape[:2], 3)))


def overlaid(picture: Pixels, found: Inspected) -> U8:
    """The same with what was found."""
    factor = _factor(picture)
    made = shown(picture)
    share = (_grown(found.heat, factor).astype(np.float32) * (STRONGEST / 255))[..., None]
    made = (made * (1 - share) + TINT * share).astype(np.uint8)
    line = max(2, round(max(made.shape) / 120))
    for defect in reversed(found.defects):  # the most probable on top
        x1, y1, x2, y2 = (round(side * factor) for side in defect.box)
        if defect.mask is not None:
            mask = _grown(defect.mask, factor)
            edge = mask & ~ndimage.binary_erosion(mask, iterations=line)
            part = made[y1:, x1:][: mask.shape[0], : mask.shape[1]]
            part[edge[: part.shape[0], : part.shape[1]]] = LINE
        _frame(made, (x1, y1, x2, y2), line)
    return made


def _frame(made: U8, box: tuple[int, int, int, int], line: int) -> None:
    """A rectangle around a box, within the picture."""
    height, width = made.shape[:2]
    x1, y1 = max(box[0] - line, 0), max(box[1] - line, 0)
    x2, y2 = min(box[2] + line, width), min(box[3] + line, height)
    for part in (
        made[y1 : y1 + line, x1:x2],
        made[max(y2 - line, 0) : y2, x1:x2],
        made[y1:y2, x1 : x1 + line],
        made[y1:y2, max(x2 - line, 0) : x2],
    ):
        part[:] = LINE


def _factor(picture: Pixels) -> int:
    side: int = max(picture.shape[:2])
    return max(1, -(-LEAST // side))


def _grown(given: NDArray[Pixel], factor: int) -> NDArray[Pixel]:
    """Each pixel as a square of pixels."""
    return given.repeat(factor, axis=0).repeat(factor, axis=1)

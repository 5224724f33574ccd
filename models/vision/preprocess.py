"""From a picture as it came to what a network sees: crop, denoise, resize, contrast, normalise.

Pure functions. A picture is uint8 or uint16 [H, W, C]; within, it is float32 in 0..1, black to
white of its depth. ``Placement`` takes boxes and maps there and back.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from models.vision.contract import Pixels, UnlikeError
from models.vision.settings import PreprocessSettings

# H, W height and width of the picture as it came; h, w as it is prepared; C channels

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

STRETCHED = (1.0, 99.0)  # percentiles that become black and white
LEVELS = 4096  # of lightness, that are told apart where they are made equally frequent
FLAT = 1e-3  # a picture whose lightness varies less has no contrast to be normalised by
SIGMA = 6.0  # a gaussian of so many pixels across has a deviation of one


class PictureError(UnlikeError):
    """A picture that cannot be inspected: says which, what it is, and what is wanted."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where in the picture as it came the prepared one lies."""

    picture: tuple[int, int]  # H, W
    crop: tuple[int, int, int, int]  # x1, y1, x2, y2
    size: tuple[int, int]  # h, w

    def box(self, box: Sequence[float]) -> tuple[float, float, float, float]:
        """A box x1, y1, x2, y2 of the picture as it came, in pixels of the prepared one."""
        (x, y, _, _), (across, down) = self.crop, self._scale
        x1, y1, x2, y2 = box
        return (x1 - x) * across, (y1 - y) * down, (x2 - x) * across, (y2 - y) * down

    def box_back(self, box: Sequence[float]) -> tuple[float, float, float, float]:
        """A box of the prepared picture, in pixels of the picture as it came, within it."""
        (left, top, right, bottom), (across, down) = self.crop, self._scale
        x1, y1, x2, y2 = box
        return (
            min(max(x1 / across + left, left), right),
            min(max(y1 / down + top, top), bottom),
            min(max(x2 / across + left, left), right),
            min(max(y2 / down + top, top), bottom),
        )

    def map_back(self, heat: Tensor) -> Tensor:
        """A map float32 [a, b] over the prepared picture, as [H, W]; 0 outside the crop."""
        x1, y1, x2, y2 = self.crop
        inner = resized(heat[None], (y2 - y1, x2 - x1))[0]
        height, width = self.picture
        return functional.pad(inner, (x1, width - x2, y1, height - y2))

    def cover(self, mask: Bool) -> F32:
        """How much of each prepared pixel [h, w], 0 to 1, a mask [H, W] as it came covers."""
        x1, y1, x2, y2 = self.crop
        part = torch.from_numpy(np.ascontiguousarray(mask[y1:y2, x1:x2]))
        return np.asarray(resized(part[None].float(), self.size)[0].numpy())

    @property
    def prepared_per_pixel(self) -> float:
        """How many pixels of the prepared picture a pixel of the picture as it came covers."""
        across, down = self._scale
        return across * down

    @property
    def _scale(self) -> tuple[float, float]:
        x1, y1, x2, y2 = self.crop
        return self.size[1] / (x2 - x1), self.size[0] / (y2 - y1)


def checked(picture: Pixels, what: str = "picture") -> Pixels:
    """The picture, if it is one. Raises PictureError."""
    if picture.ndim != 3 or picture.dtype not in (np.uint8, np.uint16) or 0 in picture.shape:
        raise PictureError(
            f"{what}: want uint8 or uint16 [H, W, C], got {picture.dtype} {list(picture.shape)}"
        )
    return picture


def placement(picture: Pixels, settings: PreprocessSettings) -> Placement:
    """Where the prepared picture will lie. Raises PictureError where the crop is not within it."""
    height, width = picture.shape[:2]
    crop = settings.crop or (0, 0, width, height)
    if crop[2] > width or crop[3] > height:
        raise PictureError(
            f"picture of {width} x {height} pixels: the crop {list(crop)} is not within it. "
            "Correct crop, or the camera's picture size."
        )
    return Placement((height, width), crop, (settings.height, settings.width))


def prepared(picture: Pixels, settings: PreprocessSettings) -> Tensor:
    """What the network sees of a picture: float32 [C, h, w]. Raises PictureError."""
    x1, y1, x2, y2 = placement(checked(picture), settings).crop
    part = picture[y1:y2, x1:x2].astype(np.float32) / np.float32(np.iinfo(picture.dtype).max)
    if settings.grey and part.shape[2] > 1:
        part = part.mean(2, keepdims=True)
    if settings.denoise == "median":
        part = ndimage.median_filter(part, (settings.denoise_size, settings.denoise_size, 1))
    elif settings.denoise == "gaussian":
        deviation = settings.denoise_size / SIGMA
        part = ndimage.gaussian_filter(part, (deviation, deviation, 0))
    given = torch.from_numpy(np.ascontiguousarray(part.transpose(2, 0, 1)))
    made = resized(given, (settings.height, settings.width))
    if settings.contrast == "stretch":
        made = torch.from_numpy(_stretched(made.numpy()))
    elif settings.contrast == "equalise":
        made = torch.from_numpy(_equalised(made.numpy()))
    if settings.normalise == "picture":
        return (made - made.mean()) / made.std(correction=0).clamp(min=FLAT)
    return made * 2.0 - 1.0


def paired(test: Tensor, template: Tensor) -> Tensor:
    """A prepared picture beside its golden template: it, the template, the difference [3 C, h, w].

    Raises PictureError where the two have not as many channels.
    """
    if test.shape != template.shape:
        raise PictureError(
            f"template: want {len(test)} channels as the picture has, got {len(template)}"
        )
    return torch.cat([test, template, test - template])


def resized(picture: Tensor, size: tuple[int, int]) -> Tensor:
    """[C, H, W] at another size, [C, h, w]: bilinear, and what gets smaller is averaged first."""
    if picture.shape[1:] == size:
        return picture
    return functional.interpolate(picture[None], size, mode="bilinear", antialias=True)[0]


def _stretched(picture_CHW: F32) -> F32:
    """All channels together, so that colours stay."""
    dark, light = np.percentile(picture_CHW, STRETCHED)
    made: F32 = np.clip((picture_CHW - dark) / max(light - dark, FLAT), 0, 1).astype(np.float32)
    return made


def _equalised(picture_CHW: F32) -> F32:
    """Each lightness by the share of pixels below it, ties in their middle."""
    level = np.minimum((picture_CHW * LEVELS).astype(np.int64), LEVELS - 1)
    counts = np.bincount(level.ravel(), minlength=LEVELS)
    share: F64 = (np.cumsum(counts) - counts / 2) / level.size
    return share.astype(np.float32)[level]

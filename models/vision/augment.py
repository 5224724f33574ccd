"""Training pictures, varied: as the camera might have seen the same part, or another like it.

Works on batches of prepared pictures. What is drawn comes from one generator, so that the same seed
gives the same pictures. Boxes and masks follow their picture through every change of place.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from models.vision.settings import AugmentSettings

# N pictures, C channels, H W height and width, K classes, M boxes of all pictures


@dataclass(frozen=True, slots=True, kw_only=True)
class Lot:
    """A batch of pictures with what is known of them."""

    picture: Tensor  # float32 [N, C, H, W]
    share: Tensor  # float32 [N, K] how much of each class; sums to 1
    mask: Tensor | None = None  # float32 [N, K, H, W] how much of each class, place by place
    box: Tensor | None = None  # float32 [M, 4] x1, y1, x2, y2 in pixels of the prepared picture
    box_of: Tensor | None = None  # int64 [M] which picture of the batch
    box_class: Tensor | None = None  # int64 [M]
    box_weight: Tensor | None = None  # float32 [M] below 1 where its picture is mixed in


def varied(lot: Lot, settings: AugmentSettings, generator: torch.Generator) -> Lot:
    """Another version of the batch; what is not asked for is not done."""
    lot = _turned(lot, settings, generator)
    if settings.rotation or settings.scale or settings.shift:
        lot = _warped(lot, settings, generator)
    picture, count = lot.picture, len(lot.picture)

    def draw(spread: float) -> Tensor:
        """Evenly, within the spread either way [N, 1, 1, 1]."""
        return (torch.rand(count, 1, 1, 1, generator=generator) * 2 - 1) * spread

    if settings.contrast:
        mean = picture.mean((1, 2, 3), keepdim=True)
        picture = (picture - mean) * (1 + draw(settings.contrast)) + mean
    if settings.brightness:
        picture = picture + draw(settings.brightness)
    if settings.noise:
        picture = picture + settings.noise * torch.randn(picture.shape, generator=generator)
    lot = replace(lot, picture=picture)
    return _mixed(lot, settings.mixup, generator) if settings.mixup else lot


def _turned(lot: Lot, settings: AugmentSettings, generator: torch.Generator) -> Lot:
    """Flips and quarter turns: each pixel goes somewhere, none is made up.

    Quarter turns change rows and columns in a picture that is not square; it is turned by halves
    then.
    """
    count, (height, width) = len(lot.picture), lot.picture.shape[2:]
    upside = torch.zeros(count, dtype=torch.bool)
    mirrored, swapped = upside.clone(), upside.clone()
    if settings.flip_horizontal:
        mirrored ^= torch.rand(count, generator=generator) < 0.5
    if settings.flip_vertical:
        upside ^= torch.rand(count, generator=generator) < 0.5
    if settings.quarter_turns:  # a quarter turn is a swap of rows and columns, and a flip
        turns = torch.randint(4, (count,), generator=generator)
        if height != width:
            turns = turns // 2 * 2
        upside ^= (turns == 1) | (turns == 2)
        mirrored ^= (turns == 2) | (turns == 3)
        swapped = (turns == 1) | (turns == 3)

    def moved(maps: Tensor) -> Tensor:
        maps = maps.clone()
        for chosen, axes in ((mirrored, (3,)), (upside, (2,))):
            maps[chosen] = maps[chosen].flip(axes)
        if bool(swapped.any()):
            maps[swapped] = maps[swapped].transpose(2, 3)
        return maps

    box = lot.box
    if box is not None and lot.box_of is not None:
        x1, y1, x2, y2 = box.unbind(1)
        flip = mirrored[lot.box_of]
        x1, x2 = torch.where(flip, width - x2, x1), torch.where(flip, width - x1, x2)
        flip = upside[lot.box_of]
        y1, y2 = torch.where(flip, height - y2, y1), torch.where(flip, height - y1, y2)
        swap = swapped[lot.box_of][:, None]
        box = torch.where(swap, torch.stack([y1, x1, y2, x2], 1), torch.stack([x1, y1, x2, y2], 1))
    mask = None if lot.mask is None else moved(lot.mask)
    return replace(lot, picture=moved(lot.picture), mask=mask, box=box)


def _warped(lot: Lot, settings: AugmentSettings, generator: torch.Generator) -> Lot:
    """Rotation, scale and shift in one go, about the middle; beyond the edge, what is at it."""
    count, (height, width) = len(lot.picture), lot.picture.shape[2:]
    angle, larger, right, down = torch.rand(4, count, generator=generator) * 2 - 1
    angle = angle * math.radians(settings.rotation)
    larger = 1 + larger * settings.scale
    cos, sin = angle.cos() * larger, angle.sin() * larger
    turn = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)  # [N, 2, 2]
    move = torch.stack([right * width, down * height], 1) * settings.shift  # [N, 2] pixels
    # A place p of the new picture, from its middle in pixels, shows what was at back (p - move).
    back = torch.linalg.inv(turn)
    half = torch.tensor([width, height]) / 2
    linear = back * half[None, None, :] / half[None, :, None]  # in halves of the picture
    offset = -(back @ move[:, :, None]) / half[None, :, None]
    grid = functional.affine_grid(
        torch.cat([linear, offset], 2), [count, 1, height, width], align_corners=False
    )
    picture = functional.grid_sample(
        lot.picture, grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    mask = lot.mask
    if mask is not None:
        mask = functional.grid_sample(
            mask, grid, mode="nearest", padding_mode="border", align_corners=False
        )
    lot = replace(lot, picture=picture, mask=mask)
    if lot.box is None or lot.box_of is None:
        return lot
    x1, y1, x2, y2 = lot.box.unbind(1)
    corners = torch.stack(
        [torch.stack([x, y], 1) for x, y in ((x1, y1), (x2, y1), (x2, y2), (x1, y2))], 1
    )
    there = (corners - half) @ turn[lot.box_of].transpose(1, 2) + move[lot.box_of][:, None] + half
    low = torch.minimum(there.amin(1).clamp(min=0), 2 * half)
    high = torch.minimum(there.amax(1).clamp(min=0), 2 * half)
    return _kept(replace(lot, box=torch.cat([low, high], 1)), ((high - low) > 1).all(1))


def _kept(lot: Lot, keep: Tensor) -> Lot:
    """The batch with some of its boxes: what was moved out of the picture is no box any more."""
    parts = {
        name: getattr(lot, name)[keep] for name in ("box", "box_of", "box_class", "box_weight")
    }
    return replace(lot, **parts)


def _mixed(lot: Lot, alpha: float, generator: torch.Generator) -> Lot:
    """Each picture with a share of another, at most half; what is known of both likewise."""
    count = len(lot.picture)
    other = torch.randperm(count, generator=generator)
    gamma = torch._standard_gamma(  # noqa: SLF001 (the one draw of a gamma that takes a generator)
        torch.full((2, count), alpha), generator=generator
    )
    part = gamma[0] / gamma.sum(0).clamp(min=torch.finfo(torch.float32).tiny)
    part = torch.minimum(part, 1 - part)  # of the other

    def blend(x: Tensor) -> Tensor:
        share = part.reshape(-1, *[1] * (x.dim() - 1))
        return x * (1 - share) + x[other] * share

    changed: dict[str, Tensor | None] = {
        "picture": blend(lot.picture),
        "share": blend(lot.share),
        "mask": None if lot.mask is None else blend(lot.mask),
    }
    if lot.box is not None and lot.box_of is not None and lot.box_weight is not None:
        back = torch.argsort(other)  # picture n is mixed into back[n]
        into = back[lot.box_of]
        assert lot.box_class is not None  # noqa: S101 (it comes with the boxes)
        changed |= {
            "box": torch.cat([lot.box, lot.box]),
            "box_of": torch.cat([lot.box_of, into]),
            "box_class": torch.cat([lot.box_class, lot.box_class]),
            "box_weight": torch.cat(
                [lot.box_weight * (1 - part[lot.box_of]), lot.box_weight * part[into]]
            ),
        }
    return replace(lot, **changed)  # type: ignore[arg-type]  # each value is of its field's type

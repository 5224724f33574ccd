"""Defects that are made up on good pictures, where nobody has any: what a good one does not show.

A place of ragged outline is filled with what lies elsewhere (CutPaste: Li et al., CVPR 2021), with
its own content lighter or darker, or with grain, and blended in (DRAEM: Zavrtanik et al., ICCV
2021). A network that learns to find such places has to know what good ones look like.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from models.vision.augment import Lot

# N pictures, C channels, H W height and width

SPARED = 0.3  # of the pictures, that stay good
MOST = 3  # places of one picture
KNOTS = 5  # of the noise that makes an outline ragged, along a side
RAGGED = 0.6  # deviation of that noise, in radii
FLAT = 2.0  # a place is up to so many times as long as wide
FAINTEST = 0.4  # of what is blended in
LIGHTER = 0.7  # at the most; the range is -1 to 1
GRAIN = 0.3  # deviation, at the most


def made_up(
    lot: Lot,
    size: tuple[int, int],
    good: int,
    generator: torch.Generator,
    *,
    templates: bool = False,
) -> Lot:
    """Pictures of a lot of two classes with defects, whose masks [N, 2, H, W] say where they are.

    ``size``: pixels across, the least and the most. ``templates``: channels are those of the
    picture, its template and their difference; the template stays as it is.
    """
    assert lot.mask is not None  # noqa: S101 (masks are what it is for)
    whole, masks = lot.picture.clone(), lot.mask.clone()
    own = whole.shape[1] // 3 if templates else whole.shape[1]
    pictures = whole[:, :own]
    for number in range(len(pictures)):
        drawn = torch.rand(2, generator=generator).tolist()
        if drawn[0] < SPARED:
            continue
        for _ in range(1 + int(drawn[1] * MOST)):
            where = outline(pictures.shape[2:], size, generator)
            filled = _filling(pictures, number, generator)
            strength = FAINTEST + (1 - FAINTEST) * float(torch.rand((), generator=generator))
            change = where * strength * (filled - pictures[number])
            pictures[number] += change
            if templates:
                whole[number, 2 * own :] += change
            masks[number, 1 - good] = torch.maximum(masks[number, 1 - good], where)
    masks[:, good] = 1 - masks[:, 1 - good]
    return replace(lot, picture=whole, mask=masks)


def outline(shape: torch.Size, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """A ragged place, float32 [H, W] of 0 and 1."""
    x, y, long, flat, turn = torch.rand(5, generator=generator).tolist()
    height, width = shape
    least, most = size
    half = least * (most / least) ** long / 2
    across = torch.arange(width) + 0.5 - x * width
    down = (torch.arange(height) + 0.5 - y * height)[:, None]
    cos, sin = math.cos(math.pi * turn), math.sin(math.pi * turn)
    narrow = 1 + flat * (FLAT - 1)
    radius = torch.hypot(across * cos + down * sin, (down * cos - across * sin) * narrow) / half
    knots = torch.randn(1, 1, KNOTS, KNOTS, generator=generator) * RAGGED
    noise = functional.interpolate(knots, (2 * most, 2 * most), mode="bicubic")[0, 0]
    at_x = (across / half * most / 2 + most).long().clamp(0, 2 * most - 1)
    at_y = (down[:, 0] / half * most / 2 + most).long().clamp(0, 2 * most - 1)
    found: Tensor = (radius + noise[at_y][:, at_x].clamp(-0.5, 0.5) < 1).float()
    return found


def _filling(pictures: Tensor, number: int, generator: torch.Generator) -> Tensor:
    """What a place is filled with, as a whole picture [C, H, W]."""
    kind, other, down, right, light = torch.rand(5, generator=generator).tolist()
    height, width = pictures.shape[2:]
    filled: Tensor
    own, light = pictures[number], LIGHTER * (2 * light - 1)
    if kind < 0.5:  # what lies elsewhere, turned by half
        donor = pictures[int(other * len(pictures))].flip((1, 2))
        filled = donor.roll((int(down * height), int(right * width)), (1, 2))
    elif kind < 0.8:
        filled = own + light
    else:
        grain = torch.randn(1, height, width, generator=generator) * GRAIN * right
        filled = own.mean((1, 2), keepdim=True) + light + grain
    return filled

"""Where on a picture something is wrong: one map of centres for all classes, and a box at each.

A backbone, its stages joined again from coarse to fine (feature pyramid: Lin et al., CVPR 2017),
and per place of the finest stage: how likely a defect has its centre there (CenterNet: Zhou et al.,
2019), and how far it reaches to the left, up, right and down (FCOS: Tian et al., ICCV 2019; learnt
at all places near a centre, by the boxes' overlap: TTFNet, Liu et al., AAAI 2020). Which class it
is, is not asked here: a classifier looks at what was found, in full resolution.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.vision.network import Backbone, norm_of
from models.vision.settings import NetworkSettings

# N pictures, C channels, H W height and width as prepared, h w of the finest stage
# M boxes of all pictures: float32 [M, 4] x1, y1, x2, y2, pixels as prepared

RARE = math.log(0.01 / 0.99)  # where the logit of a centre starts: nearly no place is one
SPREAD = 0.54 / 6.0  # deviation of the bump around a centre, in sides of the box (TTFNet)
LEAST_SPREAD = 0.6  # of it, in places
NEAR = 0.3  # places as high on a bump as this learn its box
REACH = 4.0  # e^x is not learnt beyond: 55 places
OVERLAP_WEIGHT = 5.0  # of a box's loss beside that of a centre (TTFNet)


class Pyramid(nn.Module):
    """The stages of a backbone as one map, of the finest one's size."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        widths = [settings.width << number for number in range(len(settings.depth))]
        self.width = min(2 * widths[0], widths[-1])
        self.lateral = nn.ModuleList([nn.Conv2d(one, self.width, 1) for one in widths])
        self.conv1 = nn.Conv2d(self.width, self.width, 3, padding=1, bias=False)
        self.bn1 = norm_of(self.width, settings.norm)

    def forward(self, stages: list[Tensor]) -> Tensor:
        """The stages, the finest first, to [N, width, h, w]."""
        joined = self.lateral[-1](stages[-1])
        for lateral, stage in zip(self.lateral[-2::-1], stages[-2::-1], strict=True):
            joined = functional.interpolate(joined, stage.shape[2:], mode="nearest")
            joined = joined + lateral(stage)
        made: Tensor = functional.relu(self.bn1(self.conv1(joined)))
        return made


class Finder(nn.Module):
    """Pictures to centres and boxes."""

    def __init__(self, settings: NetworkSettings, channels: int, reduce: int = 1) -> None:
        super().__init__()
        self.reduce = reduce
        self.backbone = Backbone(settings, channels)
        self.pyramid = Pyramid(settings)
        self.centre = nn.Conv2d(self.pyramid.width, 1, 1)
        self.sides = nn.Conv2d(self.pyramid.width, 4, 1)
        self.stride = self.backbone.stride * reduce

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[N, C, H, W] to logits of centres [N, h, w] and distances to sides [N, 4, h, w] > 0.

        Distances are in places.
        """
        _, centre, sides = self.look(x)
        return centre, sides

    def look(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same after features [N, F]: the mean of the coarsest stage."""
        stages = self.backbone(functional.avg_pool2d(x, self.reduce) if self.reduce > 1 else x)
        joined = self.pyramid(stages)
        centre = self.centre(joined)[:, 0] + RARE
        return stages[-1].mean((2, 3)), centre, self.sides(joined).clamp(max=REACH).exp()


@dataclass(frozen=True, slots=True)
class Target:
    """What a finder should say of a batch."""

    bump: Tensor  # float32 [N, h, w] 1 at the place of a centre, falling off around it
    box: Tensor  # float32 [N, 4, h, w] distances to the sides of the box that the place learns
    weight: Tensor  # float32 [N, h, w] 0 where no box is learnt; those of a box sum to its own
    at: Tensor  # bool [N, h, w] the places of centres


def target(
    box: Tensor,
    box_of: Tensor,
    box_weight: Tensor,
    *,
    count: int,
    size: tuple[int, int],
    stride: int,
) -> Target:
    """Of boxes [M, 4] on ``count`` pictures with maps of this size. Smaller boxes win a place."""
    height, width = size
    bump = torch.zeros(count, height, width)
    sides = torch.zeros(count, 4, height, width)
    weight = torch.zeros(count, height, width)
    at = torch.zeros(count, height, width, dtype=torch.bool)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    extent = (box[:, 2:] - box[:, :2]).clamp(min=1.0)
    for number in torch.argsort(extent.prod(1), descending=True).tolist():
        picture = int(box_of[number])
        x1, y1, x2, y2 = (box[number] / stride).tolist()
        column = min(max(int((x1 + x2) / 2), 0), width - 1)
        row = min(max(int((y1 + y2) / 2), 0), height - 1)
        across = max(SPREAD * (x2 - x1), LEAST_SPREAD)
        down = max(SPREAD * (y2 - y1), LEAST_SPREAD)
        own = torch.exp(-0.5 * (((x - column) / across) ** 2 + ((y - row) / down) ** 2))
        share = float(box_weight[number])
        bump[picture] = torch.maximum(bump[picture], own * share)
        at[picture, row, column] = True
        near = own >= NEAR
        distances = torch.stack([x + 0.5 - x1, y + 0.5 - y1, x2 - x - 0.5, y2 - y - 0.5])
        near &= (distances > 0).all(0)
        sides[picture][:, near] = distances[:, near]
        weight[picture][near] = own[near] / own[near].sum() * share
    return Target(bump, sides, weight, at)


def finding_loss(centre: Tensor, sides: Tensor, wanted: Target) -> Tensor:
    """Focal loss of the centres, and the overlap that the boxes lack; a mean over boxes."""
    boxes = wanted.weight.sum().clamp(min=1.0)
    sure = centre.sigmoid().clamp(1e-4, 1 - 1e-4)
    hit = wanted.at
    at = (1 - sure).square() * sure.log() * wanted.bump * hit
    off = (1 - wanted.bump) ** 4 * sure.square() * (1 - sure).log() * ~hit
    return (
        -(at + off).sum() / boxes
        + OVERLAP_WEIGHT * ((1 - _overlap(sides, wanted.box)) * wanted.weight).sum() / boxes
    )


def _overlap(one: Tensor, other: Tensor) -> Tensor:
    """Intersection over union [N, h, w] of boxes by their distances [N, 4, h, w] to one place."""
    inner = torch.minimum(one, other)
    both = (inner[:, 0] + inner[:, 2]) * (inner[:, 1] + inner[:, 3])
    areas = [(each[:, 0] + each[:, 2]) * (each[:, 1] + each[:, 3]) for each in (one, other)]
    return both / (areas[0] + areas[1] - both).clamp(min=1e-6)


@dataclass(frozen=True, slots=True)
class Found:
    """Places of one picture, the surest first."""

    score: Tensor  # float32 [M]
    box: Tensor  # float32 [M, 4] pixels as prepared


def found(centre: Tensor, sides: Tensor, *, stride: int, least: float, most: int) -> Found:
    """The peaks of one picture's map of centres, logits [h, w], and their boxes; no doubles.

    ``least``: probability. At most ``most``. Of two boxes that overlap by half and more the surer
    stays.
    """
    score = centre.sigmoid()
    peak = functional.max_pool2d(score[None, None], 3, 1, padding=1)[0, 0] == score
    row, column = (peak & (score >= least)).nonzero(as_tuple=True)
    order = score[row, column].argsort(descending=True, stable=True)[:most]
    row, column = row[order], column[order]
    left, up, right, down = sides[:, row, column]
    x, y = column + 0.5, row + 0.5
    box = torch.stack([x - left, y - up, x + right, y + down], 1) * stride
    kept = suppressed(box)
    return Found(score[row, column][kept], box[kept])


def suppressed(box: Tensor, most: float = 0.5) -> Tensor:
    """Which of the boxes [M, 4], the surest first, stay (int64): none overlaps a surer one more."""
    overlap = overlaps(box, box)
    stay: list[int] = []
    for number in range(len(box)):
        if not stay or float(overlap[number, stay].max()) <= most:
            stay.append(number)
    return torch.tensor(stay, dtype=torch.int64)


def overlaps(one: Tensor, other: Tensor) -> Tensor:
    """Intersection over union [M, L] of boxes [M, 4] and [L, 4]."""
    low = torch.maximum(one[:, None, :2], other[None, :, :2])
    high = torch.minimum(one[:, None, 2:], other[None, :, 2:])
    both = (high - low).clamp(min=0).prod(2)
    areas = [(each[:, 2:] - each[:, :2]).prod(1) for each in (one, other)]
    return both / (areas[0][:, None] + areas[1][None] - both).clamp(min=1e-6)

"""Which pixels are a defect's: the residual backbone, and a decoder back up to its finest stage.

As a U-Net (Ronneberger et al., MICCAI 2015): from the coarsest stage on, each is enlarged, joined
with the next finer one, and looked over by a convolution of that one's width. The finest stage is
half the picture with stem half; what lies between its places is interpolated. It is convolutional
throughout: it learns from parts of pictures, and reads whole ones.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.vision.network import Backbone, norm_of
from models.vision.settings import NetworkSettings

# N pictures, C channels, H W height and width as prepared, h w of the finest stage, K classes


class Decoder(nn.Module):
    """The stages of a backbone as one map, of the finest one's size and width."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        widths = [settings.width << number for number in range(len(settings.depth))]
        self.lateral = nn.ModuleList()  # from each stage but the finest to the width of the next
        self.join = nn.ModuleList()
        for fine, coarse in pairwise(widths):
            self.lateral.append(nn.Conv2d(coarse, fine, 1))
            self.join.append(
                nn.Sequential(
                    nn.Conv2d(fine, fine, 3, padding=1, bias=False), norm_of(fine, settings.norm)
                )
            )
        self.width = widths[0]

    def forward(self, stages: list[Tensor]) -> Tensor:
        """The stages, the finest first, to [N, width, h, w]."""
        x = stages[-1]
        for number in reversed(range(len(self.lateral))):
            fine = stages[number]
            up = functional.interpolate(self.lateral[number](x), fine.shape[2:], mode="nearest")
            x = functional.relu(self.join[number](up + fine))
        return x


class Segmenter(nn.Module):
    """Pictures to the logits of each class, place by place."""

    def __init__(self, settings: NetworkSettings, channels: int, classes: int) -> None:
        super().__init__()
        self.backbone = Backbone(settings, channels)
        self.decoder = Decoder(settings)
        self.head = nn.Conv2d(self.decoder.width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to logits [N, K, h, w]."""
        return self.look(x)[1]

    def look(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The same after features [N, F]: the mean of the coarsest stage."""
        stages = self.backbone(x)
        return stages[-1].mean((2, 3)), self.head(self.decoder(stages))


@dataclass(frozen=True, slots=True)
class Sums:
    """What the loss of some pictures is made of; those of others may be added."""

    entropy: Tensor  # of all places
    both: Tensor  # [K - 1] of each defect class: said and true at once
    either: Tensor  # [K - 1] said, and true
    places: int

    @classmethod
    def of(cls, logits: Tensor, share: Tensor, *, good: int) -> "Sums":
        """Of logits [N, K, h, w], and how much of each class a place is of, [N, K, h, w]."""
        others = torch.arange(logits.shape[1]) != good
        said, true = logits.softmax(1)[:, others], share[:, others]
        return cls(
            entropy=-(share * logits.log_softmax(1)).sum(),
            both=(said * true).sum((0, 2, 3)),
            either=(said + true).sum((0, 2, 3)),
            places=share[:, 0].numel(),
        )

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(
            self.entropy + other.entropy,
            self.both + other.both,
            self.either + other.either,
            self.places + other.places,
        )

    @property
    def loss(self) -> Tensor:
        """Cross entropy of a place, and what the overlap of each defect class lacks of 1.

        The overlap is Dice's, of all places together (Milletari et al., 3DV 2016): it weighs a
        class that is rare as much as one that is not.
        """
        return self.entropy / self.places + (1 - (2 * self.both + 1) / (self.either + 1)).mean()

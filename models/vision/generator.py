"""Pictures of rare classes, made by a small conditional generator.

One residual network: noise and a class become a coarse grid of channels, which is doubled in size
until it is a picture; noise and class steer every block (as in FiLM: Perez et al., AAAI 2018). No
normalisation: each block begins as the identity (Zhang et al., Fixup, ICLR 2019), as R3GAN has it
(Huang et al., NeurIPS 2024). How it is trained stands in ``adversarial.py``.

Made pictures are for training alone. They show nothing that the real ones did not hold, and whether
they help is measured on real pictures (benchmarks/generator.py).
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

from models.bundle import BundleError
from models.vision.bundle import ModelCard, read_as, write
from models.vision.settings import GeneratorSettings

# N pictures, H height, W width, C colours, Z noise, D channels

U8 = NDArray[np.uint8]
Wanted = Callable[[Counter[str]], Mapping[str, int]]  # of those there are, how many there shall be

COARSEST = 8  # the grid is halved while its shorter side is at least this
SIDES = (8, 256)  # pixels a side, least and most
SLOPE = 0.2  # of the leaky rectifier
AT_ONCE = 64  # pictures made at once, for the sake of memory


class Check(BaseModel):
    """What was measured at one step of training: made pictures against those learnt from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    step: int
    frechet: float
    kernel: float
    precision: float
    recall: float
    copied: float
    diversity: float
    poorest: str


class GeneratorCard(ModelCard):
    """All about a generator but its weights."""

    kind: Literal["generator"] = "generator"
    classes: tuple[str, ...] = Field(min_length=1)
    learnt: dict[str, int]  # class -> pictures
    height: int = Field(ge=SIDES[0], le=SIDES[1])
    width: int = Field(ge=SIDES[0], le=SIDES[1])
    colours: Literal[1, 3]
    settings: GeneratorSettings
    steps: int  # whose weights are kept
    ended: Literal["steps", "patience", "collapse"]
    why: str  # it ended, in words
    checks: tuple[Check, ...]


class Block(nn.Module):
    """Two convolutions beside the identity, steered by a code; as the identity at first.

    Between them the grid may change its size: the narrow half of the work is done where it is fine.
    """

    def __init__(self, before: int, between: int, after: int, code: int = 0) -> None:
        super().__init__()
        self.skip = nn.Conv2d(before, after, 1, bias=False) if before != after else nn.Identity()
        self.first = nn.Conv2d(before, between, 3, padding=1)
        self.second = nn.Conv2d(between, after, 3, padding=1)
        self.steer = nn.Linear(code, 2 * between) if code else None

    def forward(
        self,
        x: Tensor,
        resized: Callable[[Tensor], Tensor],
        code: Tensor | None = None,
        grain: Tensor | None = None,
    ) -> Tensor:
        """[N, before, h, w] and [N, Z] to [N, after, h', w']; grain [N, between, h', w']."""
        y = resized(self.first(functional.leaky_relu(x, SLOPE)))
        if self.steer is not None and code is not None:
            gain, shift = self.steer(code)[:, :, None, None].chunk(2, dim=1)
            y = y * (1.0 + gain) + shift
        if grain is not None:
            y = y + grain
        made: Tensor = resized(self.skip(x)) + self.second(functional.leaky_relu(y, SLOPE))
        return made


class Network(nn.Module):
    """Noise [N, Z] and classes int64 [N] to pictures [N, C, H, W] of deviation 0.5, about 0."""

    level: Tensor
    spread: Tensor

    def __init__(
        self, settings: GeneratorSettings, *, classes: int, height: int, width: int, colours: int
    ) -> None:
        super().__init__()
        self.grids = grids(height, width)
        deep = depths(settings, len(self.grids))
        self.kinds = nn.Embedding(classes, settings.noise)
        self.begin = nn.Linear(2 * settings.noise, deep[-1] * math.prod(self.grids[-1]))
        code = 2 * settings.noise
        self.blocks = nn.ModuleList(
            Block(deep[min(level + 1, len(deep) - 1)], deep[level], deep[level], code)
            for level in reversed(range(len(deep)))
        )
        self.grain = nn.Parameter(torch.zeros(len(deep), max(deep)))  # of noise, in every channel
        self.register_buffer("level", torch.zeros(()))  # of pictures, from -1 to 1
        self.register_buffer("spread", torch.ones(()))  # twice their deviation
        self.deep = deep
        self.end = nn.Conv2d(deep[0], colours, 3, padding=1)

    def forward(self, noise: Tensor, kind: Tensor, grain: torch.Generator | None = None) -> Tensor:
        """``grain``: chance for what differs from pixel to pixel; None: without."""
        code = torch.cat([noise, self.kinds(kind)], dim=1)
        x = self.begin(code).view(len(noise), self.deep[-1], *self.grids[-1])
        x = x.contiguous(memory_format=torch.channels_last)
        for block, level in zip(self.blocks, reversed(range(len(self.deep))), strict=True):
            fine = None
            if grain is not None:
                drawn = torch.randn(len(x), 1, *self.grids[level], generator=grain).to(x.device)
                fine = drawn * self.grain[level, : self.deep[level], None, None]
            x = block(x, partial(enlarged, size=self.grids[level]), code, fine)
        made: Tensor = self.end(functional.leaky_relu(x, SLOPE))
        return made


def enlarged(x: Tensor, size: tuple[int, int]) -> Tensor:
    """To this grid, smoothly."""
    return x if x.shape[2:] == size else functional.interpolate(x, size=size, mode="bilinear")


@dataclass(frozen=True, eq=False)
class PictureGenerator:
    """A trained generator."""

    card: GeneratorCard
    network: Network

    def make(self, labels: Sequence[str], *, seed: int) -> U8:
        """One picture of each class named, uint8 [N, H, W, C]. The same seed, the same pictures.

        Raises ValueError for a class that was not learnt.
        """
        if strange := sorted(set(labels) - set(self.card.classes)):
            raise ValueError(
                f"generator: want classes out of {', '.join(self.card.classes)}, got "
                f"{', '.join(strange)}"
            )
        kinds = np.array([self.card.classes.index(label) for label in labels], np.int64)
        return make(self.network, kinds, noise=self.card.settings.noise, seed=seed)

    def fill(
        self, pictures: U8, labels: Sequence[str], per_class: int, *, seed: int = 0
    ) -> tuple[U8, list[str]]:
        """Made pictures, uint8 [M, H, W, C], and their classes: with them each has ``per_class``.

        Of a class that has as many already, none. Raises ValueError for pictures of another size,
        and for a class that was not learnt.
        """
        wanted = (self.card.height, self.card.width, self.card.colours)
        if pictures.dtype != np.uint8 or pictures.shape[1:] != wanted:
            raise ValueError(
                f"generator: want pictures uint8 [N, {', '.join(map(str, wanted))}], got "
                f"{pictures.dtype} {list(pictures.shape)}. Bring them to the size it was made for."
            )
        if len(labels) != len(pictures):
            raise ValueError(f"generator: {len(pictures)} pictures, but {len(labels)} labels")
        missing = lacking(labels, lambda count: dict.fromkeys(count, per_class))
        return self.make(missing, seed=seed), missing

    def save(self, path: Path | str) -> None:
        """Write the folder, whole or not at all."""
        write(Path(path), self.card, tensors_of(self.network))

    @classmethod
    def load(cls, path: Path | str) -> "PictureGenerator":
        """Read what save() wrote. Raises BundleError saying what is wrong with it."""
        card, tensors = read_as(GeneratorCard, Path(path))
        network = network_of(card)
        try:
            network.load_state_dict(tensors)
        except RuntimeError as error:
            raise BundleError(
                f"{path}: not the weights of this card: {error}", path=Path(path)
            ) from error
        return cls(card, network.eval())


def lacking(labels: Sequence[str], wanted: Wanted) -> list[str]:
    """The class of each picture that is to be made."""
    count = Counter(labels)
    return [
        name
        for name, many in sorted(wanted(count).items())
        for _ in range(max(many - count[name], 0))
    ]


def network_of(card: GeneratorCard) -> Network:
    """An untrained one of the card's shape."""
    return Network(
        card.settings,
        classes=len(card.classes),
        height=card.height,
        width=card.width,
        colours=card.colours,
    )


def tensors_of(network: nn.Module) -> dict[str, Tensor]:
    """Copies of its weights, as they are kept."""
    return {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in network.state_dict().items()
    }


@torch.no_grad()
def make(network: Network, kinds: NDArray[np.int64], *, noise: int, seed: int) -> U8:
    """Pictures of these classes, uint8 [N, H, W, C]."""
    device = network.end.weight.device
    chance = torch.Generator().manual_seed(seed)
    height, width = network.grids[0]
    made = [np.empty((0, height, width, network.end.out_channels), np.uint8)]
    for start in range(0, len(kinds), AT_ONCE):
        kind = torch.from_numpy(kinds[start : start + AT_ONCE]).to(device)
        code = torch.randn(len(kind), noise, generator=chance).to(device)
        shown = network(code, kind, chance) * network.spread + network.level
        shown = (shown + 1.0) * 127.5
        made.append(shown.round().clamp(0, 255).byte().cpu().numpy().transpose(0, 2, 3, 1))
    return np.concatenate(made)


def grids(height: int, width: int) -> list[tuple[int, int]]:
    """Sizes from the whole picture to the coarsest grid; odd sides are halved upwards."""
    found = [(height, width)]
    while min(found[-1]) >= COARSEST:
        found.append((-(-found[-1][0] // 2), -(-found[-1][1] // 2)))
    return found


def depths(settings: GeneratorSettings, levels: int) -> list[int]:
    """Channels at each of them."""
    return [min(settings.width * 2**level, settings.widest) for level in range(levels)]

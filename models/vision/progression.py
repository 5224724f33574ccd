"""Whether a row of pictures of one place gets worse: how large next, and how soon it begins.

Each picture of a place gives the network's features, the area that is not as it should be, and how
long ago the last one was taken. A small GRU (Cho et al., EMNLP 2014) carries what it saw from one
to the next, and reads out of it: the area at each of the next steps, as a change from the area now,
with an interval; and, before anything is seen, how probable it is that something will be within
some steps. It is never told when a picture was taken, nor how many came before.

Sits in the step, after the journal: features are journaled with the picture's result, so a replay
gives the same outlooks to the bit, whatever the inspection network does on other hardware. The
state of a place is some hundred numbers, the cost of a picture is constant, and a row's bits depend
on that row alone. How it learns stands in ``sequences.py``.

An area is thought of as its square root, a length: lengths of pits grow evenly, areas do not.
"""

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

from models.bundle import BundleError
from models.contract import State, under
from models.recurrent import REGISTERS, whole
from models.vision.bundle import ModelCard, card_bytes, read_as, write

# N places, F features, K members, H hidden, A steps ahead, T pictures of a place

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Unit = Literal["pictures", "s", "h", "d"]  # that positions are counted in

SQUEEZED = 4  # numbers that all features are made into: places are few
FARTHEST = 4.0  # deviations from the mean beyond which a feature counts as no stranger
QUIET = -2.0  # what widths of intervals and chances begin from, before softplus and sigmoid
SEEN = 3  # inputs beside the features: the time since the last picture, the length, whether any


class ProgressionSettings(BaseModel):
    """What can be chosen about outlooks and how they are learnt."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    spacing: float = Field(1.0, gt=0)  # one step, in the unit that positions are given in
    ahead: int = Field(5, gt=0, le=50)  # steps
    within: int = Field(10, gt=0, le=200)  # steps in which something may begin
    level: float = Field(0.8, gt=0, lt=1)  # share of areas that are to lie in their interval
    members: int = Field(5, ge=2, le=50)  # networks, of which each leaves some places out
    hidden: int = Field(16, gt=0, le=128)
    epochs: int = Field(300, gt=0)
    learning_rate: float = Field(0.01, gt=0, le=1)
    weight_decay: float = Field(0.01, ge=0)
    warp: float = Field(0.35, ge=0, le=1)  # log deviation: how much faster or slower it is shown
    size: float = Field(0.35, ge=0, le=1)  # log deviation: how much larger or smaller
    noise: float = Field(0.15, ge=0, le=1)  # log deviation of a single area
    thin: float = Field(0.5, ge=0, lt=1)  # share of the pictures at the most that are passed over
    seed: int = Field(0, ge=0, lt=2**31)


class Measured(BaseModel):
    """How outlooks fared on places that the member asked had not learnt from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pictures: int  # with an area now and one `ahead` steps later
    error: float  # mean absolute, of the area `ahead` steps later, in its unit
    persistence: float  # the same of "it stays as it is"
    linear: float  # the same of a line through the last pictures
    within: float  # share that lay in the interval, before it was widened
    onset_auroc: float | None  # of the probability of beginning; None: too few to say

    @property
    def gain(self) -> float:
        """By which share the error is less than that of "it stays as it is"."""
        return 1 - self.error / self.persistence if self.persistence else 0.0

    @property
    def better(self) -> bool:
        """Whether the error is less than that of both simple ways."""
        return self.error < min(self.persistence, self.linear)


class ProgressionCard(ModelCard):
    """All about a model of progression but its weights."""

    kind: Literal["progression"] = "progression"
    settings: ProgressionSettings
    inspection: str = ""  # hash of the inspection whose features were learnt from; "": no one's
    position_unit: Unit = "pictures"
    area_unit: str
    scale: float = Field(gt=0)  # a length of 1, in the root of that unit
    mean: tuple[float, ...]  # [F] of each feature
    deviation: tuple[float, ...]  # [F]
    widened: tuple[float, ...]  # [A] by which each interval is wider either way, in lengths of 1
    places: dict[str, int]  # place -> pictures
    measured: Measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What is to be expected of N places."""

    area: F32  # [N, A] 1, 2, ... steps after this picture; half of what comes is larger
    low: F32  # [N, A]
    high: F32  # [N, A] between them lies `level` of what comes
    onset: F32  # [N] probability that it begins within so many steps; NaN where it has


class Course(nn.Module):
    """One member: what it makes of a row of pictures."""

    def __init__(self, *, features: int, hidden: int, ahead: int) -> None:
        super().__init__()
        self.ahead = ahead
        self.squeeze = nn.Linear(features, SQUEEZED)
        self.carry = nn.GRU(SEEN + SQUEEZED, hidden)
        self.read = nn.Linear(hidden + SEEN + SQUEEZED, whole(3 * ahead + 1))
        nn.init.zeros_(self.read.weight)
        nn.init.zeros_(self.read.bias)

    def forward(
        self, seen: Tensor, features: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """float32 [T, N, 3] and [T, N, F] and a state [1, N, H].

        Gives lengths [T, N, A, 3] (low, middle, high), the logit of beginning [T, N], the state.
        """
        given = torch.cat([seen, torch.tanh(self.squeeze(features))], dim=-1)
        hidden, state = self.carry(given, state)
        said = self.read(torch.cat([hidden, given], dim=-1))
        below, change, above = said[..., : 3 * self.ahead].chunk(3, dim=-1)
        middle = seen[..., 1:2] + change
        low = middle - functional.softplus(below.contiguous() + QUIET)
        high = middle + functional.softplus(above.contiguous() + QUIET)
        return torch.stack([low, middle, high], dim=-1), said[..., 3 * self.ahead] + QUIET, state


@dataclass(frozen=True, eq=False)
class Progression:
    """A trained model of progression: members whose mean is said."""

    card: ProgressionCard
    members: tuple[Course, ...]

    @functools.cached_property
    def hash(self) -> str:
        """SHA-256 of the card, and through it of everything."""
        return hashlib.sha256(card_bytes(self.card)).hexdigest()

    def initial(self, places: int) -> State:
        """The state of places that no picture was seen of; row n belongs to place n alone."""
        size = len(self.members), self.card.settings.hidden
        return {
            "hidden": torch.zeros(places, *size),
            "begun": torch.zeros(places, dtype=torch.bool),
        }

    @torch.no_grad()
    def step(self, features: F32, area: F64, gap: F64, state: State) -> tuple[Outlook, State]:
        """One more picture of N places.

        Args:
            features: float32 [N, F], of ``Inspected``.
            area: float64 [N] in the card's unit; 0 where nothing is wrong.
            gap: float64 [N] since the last picture of the place, in the unit of positions; 0 for
            the first.
            state: Left as it was.

        Raises ValueError for a number that is none, or negative, or another count of features.
        """
        rows, wide = len(area), len(self.card.mean)
        if features.shape != (rows, wide) or gap.shape != (rows,) or area.shape != (rows,):
            raise ValueError(
                f"progression: want features [N, {wide}], area [N] and gap [N], got "
                f"{list(features.shape)}, {list(area.shape)} and {list(gap.shape)}"
            )
        if not (np.isfinite(features).all() and (area >= 0).all() and (gap >= 0).all()):
            raise ValueError("progression: want finite features, and areas and gaps of 0 or more")
        padded = whole(rows, REGISTERS)  # a ragged end may take another path, with other bits
        seen = torch.zeros(1, padded, SEEN)
        seen[0, :rows] = torch.from_numpy(self.seen(area, gap))
        given = torch.zeros(1, padded, wide)
        given[0, :rows] = torch.from_numpy(self.scaled(features))
        lengths, logits, after = [], [], torch.empty_like(state["hidden"])
        for number, member in enumerate(self.members):
            before = torch.zeros(1, padded, self.card.settings.hidden)
            before[0, :rows] = state["hidden"][:, number]
            length, logit, hidden = member(seen, given, before)
            lengths.append(length[0])
            logits.append(logit[0])
            after[:, number] = hidden[0, :rows]
        begun = state["begun"] | torch.from_numpy(area > 0)
        chance = torch.stack(logits).mean(0).sigmoid()[:rows].numpy()
        length = torch.stack(lengths).mean(0)[:rows].numpy()
        wider = np.array(self.card.widened, np.float32)
        outlook = Outlook(
            area=self._area(length[..., 1]),
            low=self._area(np.minimum(length[..., 0] - wider, length[..., 1])),
            high=self._area(np.maximum(length[..., 2] + wider, length[..., 1])),
            onset=np.where(begun.numpy(), np.float32(np.nan), chance),
        )
        return outlook, {"hidden": after, "begun": begun}

    def seen(self, area: F64, gap: F64) -> F32:
        """Areas and gaps as the network is shown them, float32 [.., 3]."""
        steps = np.log1p(gap / self.card.settings.spacing)
        return np.stack([steps, np.sqrt(area) / self.card.scale, area > 0], -1).astype(np.float32)

    def scaled(self, features: F32) -> F32:
        """Features as the network is shown them."""
        away = (features - np.array(self.card.mean)) / np.array(self.card.deviation)
        found: F32 = np.clip(away, -FARTHEST, FARTHEST).astype(np.float32)
        return found

    def save(self, path: Path | str) -> None:
        """Write the folder, whole or not at all."""
        write(Path(path), self.card, tensors_of(self.members))

    @classmethod
    def load(cls, path: Path | str) -> "Progression":
        """Read what save() wrote. Raises BundleError saying what is wrong with it."""
        card, tensors = read_as(ProgressionCard, Path(path))
        count = 1 + max((int(name.split(".")[0]) for name in tensors), default=-1)
        members = tuple(course(card.settings, len(card.mean)) for _ in range(count))
        try:
            for number, member in enumerate(members):
                member.load_state_dict(under(f"{number}.", tensors))
        except RuntimeError as error:
            raise BundleError(
                f"{path}: not the weights of this card: {error}", path=Path(path)
            ) from error
        return cls(card, members)

    def _area(self, length: F32) -> F32:
        found: F32 = np.square(np.maximum(length, 0) * np.float32(self.card.scale))
        return found


def kept(state: State) -> dict[str, NDArray[Any]]:
    """A state as arrays, copies."""
    return {name: tensor.numpy().copy() for name, tensor in state.items()}


def again(arrays: Mapping[str, NDArray[Any]]) -> State:
    """The state that ``kept`` gave."""
    return {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}


def tensors_of(members: Sequence[Course]) -> dict[str, Tensor]:
    """Their weights, by number and name."""
    return {
        f"{number}.{name}": tensor
        for number, member in enumerate(members)
        for name, tensor in member.state_dict().items()
    }


def course(settings: ProgressionSettings, features: int) -> Course:
    """An untrained member."""
    return Course(features=features, hidden=settings.hidden, ahead=settings.ahead)

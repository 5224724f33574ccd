"""What a model promises.

A detector steps one tick at a time on rows that know nothing of each other, and says how strange
each tick is and which channels make it so. The same step scores live and in backfill, so both give
the same bits. Tensors in, tensors out.

Most are a `ResidualDetector` (models/residual.py): a predictor and a judge. An `Ensemble`
(models/ensemble.py) is made of several. Anything that keeps to this contract can stand in a bundle;
training knows how to make those two.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.runtime import use_whole_floats

# N rows (one asset each), C channels, T ticks, R rows of many ticks

Addend = TypeVar("Addend", Tensor, NDArray[np.float32])
State = dict[str, Tensor]  # each tensor [N, ...]: row n belongs to asset n and to nobody else


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a detector thinks of one tick of N assets. Scaled units, on the detector's device."""

    raw: Tensor  # float32 [N] the model's own unit; higher is stranger
    blame: Tensor  # float32 [N, C] sums to 1; 0 where not valid, all 0 with nothing to go by
    expected: Tensor  # float32 [N, C] what the model expected to see
    spread: Tensor  # float32 [N, C] one standard deviation around it


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """Evidence in the channels' own units, and calibrated: what a bundle's step gives."""

    raw: NDArray[np.float32]  # [N] the model's own unit
    surprise: NDArray[np.float32]  # [N] -log10 of the healthy tail probability
    blame: NDArray[np.float32]  # [N, C] sums to 1; 0 where not valid, all 0 with nothing to go by
    expected: NDArray[np.float32]  # [N, C] in the channel's unit
    spread: NDArray[np.float32]  # [N, C] one standard deviation, in the channel's unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Deviation:
    """How far each channel lay from what the others and the past led to expect, at one tick.

    Of one asset, in words for people: made at an alarm, never for a score. NaN where not known.
    """

    ticks: NDArray[np.int64]  # [C] that the deviation is a mean over
    by: NDArray[np.float32]  # [C] above (or below: negative); in the unit of an Evidence's spread
    times: NDArray[np.float32]  # [C] the same in its own healthy spreads, never negative


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """One unbroken run of one asset's frames, between two gaps or stops, for training."""

    asset: str
    tick: NDArray[np.int64]  # [T] ns since 1970 UTC
    value: NDArray[np.float64]  # [T, C] in the channels' units; NaN where not valid
    valid: NDArray[np.bool_]  # [T, C]

    def __len__(self) -> int:
        """Count of ticks."""
        return len(self.tick)


class Detector(ABC):
    """Turns ticks into evidence. Not for two threads at once: it may keep work space between calls.

    ``warmup_ticks``: ticks after a reset before a score counts.
    """

    device = "cpu"

    def __init__(self, *, channels: int, warmup_ticks: int) -> None:
        self.channels = channels
        self.warmup_ticks = warmup_ticks

    @abstractmethod
    def initial(self, rows: int) -> State:
        """The state of ``rows`` assets that have seen nothing yet."""

    @abstractmethod
    def sweep(
        self, value_RC: Tensor, valid_RC: Tensor, counts: Sequence[int], state: State
    ) -> tuple[Evidence, State]:
        """Many ticks of N rows: all of the first tick, then of the second, and so on.

        float32 [R, C] scaled values (anything where not valid), bool [R, C]. Tick t holds the first
        counts[t] rows: N at first, never more than before, R in all. The new state is what each
        row's last tick left; the one given is left as it was. A row's result depends on that row
        alone, to the bit.
        """

    def explain(self, value_TC: Tensor, valid_TC: Tensor, state: State) -> Deviation | None:  # noqa: ARG002 (for those that can)
        """What the score of the last of these ticks of one row came from; None: it cannot say.

        As for ``sweep``, with ``state`` as it was before the first of them.
        """
        return None

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Everything learnt, by name, on the CPU, as it is kept in weights.safetensors."""

    @abstractmethod
    def _take(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what tensors() gave; names and shapes are right."""

    @abstractmethod
    def _move(self, device: str) -> None:
        """Move everything learnt to a torch device."""

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what tensors() gave.

        Raises ValueError naming what is missing, extra or of another shape.
        """
        wanted = self.tensors()
        wrong = [f"{name} is missing" for name in sorted(wanted.keys() - tensors.keys())]
        wrong += [f"{name} is not known" for name in sorted(tensors.keys() - wanted.keys())]
        for name in sorted(wanted.keys() & tensors.keys()):
            got, want = tensors[name], wanted[name]
            if got.shape != want.shape or got.dtype != want.dtype:
                wrong.append(
                    f"{name}: want {want.dtype} {list(want.shape)}, got {got.dtype} "
                    f"{list(got.shape)}"
                )
            elif not bool(torch.isfinite(got).all()):
                wrong.append(f"{name} holds a number that is not finite")
        if wrong:
            raise ValueError("; ".join(wrong))
        self._take(tensors)

    def to(self, device: str) -> Self:
        """Move everything learnt to a torch device; gives itself. On a GPU, floats stay whole."""
        if device != "cpu":
            use_whole_floats()
        self._move(device)
        self.device = device
        return self


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those whose name begins so, without it."""
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def added(parts: Sequence[Addend]) -> Addend:
    """The sum, one part after the other; at least one.

    A library's own sum over a row may add in an order that depends on how many rows there are.
    """
    return reduce(add, parts)

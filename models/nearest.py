"""The distance to the nearest healthy prototype.

For machines whose healthy life is many shapes rather than one cloud: a stroke, a batch, a cycle.
The smoothed residuals at all scales together tell where in such a shape a machine is, in as few
numbers as there are scales and channels: a sketch of the recent past that takes the place of a
window (a bank of leaky integrators: Mozer, "Neural net architectures for temporal sequence
processing", 1994). Of the healthy ones at most 512 are kept, spread out as evenly as may be: each
in turn is the one farthest from those chosen (k-centres: Gonzalez, Theoretical Computer Science 38,
1985), so a healthy frame is never farther from a prototype than the last one chosen was. No chance
plays a part.

The raw score is the distance from the nearest, in its healthy distances; blame is each channel's
share of its square.
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.contract import added
from models.surprise import (
    F32,
    F64,
    REFERENCE_FRAMES,
    REFERENCE_QUANTILE,
    SmoothingJudge,
    blocks,
)

# N rows, M healthy frames, C channels, W numbers of each row, P prototypes

PROTOTYPES = 512  # also a whole number of the widest registers: a row's bits are its own
TILE = 64  # rows measured at once: their distances stay in the cache
TINY = 1e-30  # a square that is divided by is not 0
LEARNT_FRAMES = 32_768  # that prototypes are chosen from, evenly taken, at the most


class Nearest(SmoothingJudge):
    """The distance of the smoothed residuals, of all scales together, to the nearest prototype."""

    def __init__(self, channels: int, spans: tuple[int, ...], lags: int = 1) -> None:
        super().__init__(channels, spans, lags)
        if max(spans) > 1:
            self.memory_ticks += max(spans)  # e^-10: it is not a square that is small near 0
        self.prototypes: F32 = np.zeros((PROTOTYPES, self.width), np.float32)
        self.reference = 1.0  # the healthy distance
        self._ready()

    def fit(self, smoothed: F32, known: NDArray[np.bool_], *, floor: F64) -> None:  # noqa: ARG002 (scaling knows it)
        """Choose prototypes among healthy frames [M, W], [M, K]; those of which all is known.

        The healthy distance is that of blocks of time from prototypes of the others.
        """
        whole = smoothed[known.all(1)] if bool(known.all(1).any()) else smoothed
        distances = []
        for block in blocks(len(whole)):
            self._keep(centres(np.delete(whole, block, axis=0)), 1.0)
            some = whole[block][:: max(len(whole) // REFERENCE_FRAMES, 1)]
            everywhere = torch.ones(len(some), known.shape[1], dtype=torch.bool)
            distances.append(self.measure(torch.from_numpy(some), everywhere)[0].numpy())
        reference = float(np.quantile(np.concatenate(distances), REFERENCE_QUANTILE))
        self._keep(centres(whole), reference if reference > 0 else 1.0)

    def measure(self, smoothed: Tensor, known_NK: Tensor) -> tuple[Tensor, Tensor]:
        """Raw score [N], as if what is not known lay as far off as the rest.

        Blame [N, C].
        """
        parts = [
            self._measure(rows, known)
            for rows, known in zip(
                torch.split(smoothed, TILE), torch.split(known_NK, TILE), strict=True
            )
        ]
        raw, blame = (torch.cat(column) for column in zip(*parts, strict=True))
        return raw, blame

    def _measure(self, smoothed: Tensor, known_NK: Tensor) -> tuple[Tensor, Tensor]:
        """Number by number, one sum after the other: a row's bits are its own."""
        seen_NK = known_NK.to(torch.float32)
        seen_NW = seen_NK.repeat(1, self.lags)
        square_NP = smoothed.new_zeros(len(smoothed), PROTOTYPES)
        for now_N, seen_N, prototype_P in zip(
            smoothed.unbind(1), seen_NW.unbind(1), self._columns, strict=True
        ):
            apart_NP = (now_N[:, None] - prototype_P).mul_(seen_N[:, None])
            square_NP += apart_NP.mul_(apart_NP)
        apart_NW = (smoothed - self._rows[square_NP.argmin(1)]).mul_(seen_NW)
        share_NC = added((apart_NW * apart_NW).view(len(smoothed), -1, self.channels).unbind(1))
        total_N = added(share_NC.unbind(1))
        count_N = added(seen_NK.unbind(1)).clamp(min=1.0)
        raw_N = (total_N * (seen_NK.shape[1] / count_N)).sqrt() / self.reference
        blame_NC = torch.where(
            total_N[:, None] > 0,
            share_NC / total_N.clamp(min=TINY)[:, None],
            added(seen_NK.view(len(smoothed), -1, self.channels).unbind(1)) / count_N[:, None],
        )
        return raw_N, blame_NC

    def tensors(self) -> dict[str, Tensor]:
        """The prototypes, float32 [P, W], and the healthy distance, float64 [1]."""
        return {
            "prototypes": torch.from_numpy(self.prototypes.copy()),
            "reference": torch.tensor([self.reference], dtype=torch.float64),
        }

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what tensors() gave."""
        self._keep(tensors["prototypes"].cpu().numpy().copy(), float(tensors["reference"][0]))

    def to(self, device: str) -> None:
        """Work on a torch device from now on."""
        super().to(device)
        self._ready()

    def _keep(self, prototypes: F32, reference: float) -> None:
        self.prototypes, self.reference = prototypes, reference
        self._ready()

    def _ready(self) -> None:
        self._rows = torch.from_numpy(self.prototypes).to(self.device)
        self._columns = self._rows.t().contiguous().unbind(0)


def centres(frames: F32, count: int = PROTOTYPES) -> F32:
    """So many of the frames [M, W]; the first is repeated where fewer differ."""
    some = frames[:: -(-len(frames) // LEARNT_FRAMES)]
    chosen = np.zeros(count, np.int64)
    square = np.full(len(some), np.inf, np.float32)
    for number in range(1, count):
        apart = np.square(some - some[chosen[number - 1]]).sum(1)
        np.minimum(square, apart, out=square)
        chosen[number] = square.argmax()
        if square[chosen[number]] == 0:
            chosen[number:] = 0
            break
    return some[chosen]

"""A level that drifts: each channel is expected where it has lately been.

For machines whose healthy level is not one number: it follows the season, the product, or a sensor
that is calibrated anew. What is expected is the exponentially weighted mean of the channel's own
past and, if the spread drifts too, give or take the root of the like mean of the squared errors
(the exponentially weighted moments of Roberts, Technometrics 1, 1959, and of MacGregor and Harris,
J. Quality Technology 25, 1993). A fault shows while it is new: over some spans it becomes the
level. The first values after a reset count alike until they are as many as the span's weights
allow, so that a start far from the healthy mean is soon forgotten.

Sums, products, quotients and roots of each number by itself: correctly rounded, hence the same bits
for any number of rows.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from models.contract import State
from models.surprise import memory_of

# N rows, C channels

LEAST_SPREAD = 0.01  # scaled units: a channel that stood still is not surer than this
MOST_SEEN = 2.0**20  # values; float32 counts no further than 2^24, and spans end long before


class DriftingLevel:
    """Expects each channel at its slow mean, give or take 1 or its slow spread."""

    forecasts = True

    def __init__(self, channels: int, level_span: int, spread_span: int | None) -> None:
        self.channels = channels
        self.warmup_ticks = memory_of(max(level_span, spread_span or 0))
        self._level_weight = 2.0 / (level_span + 1.0)
        self._spread_weight = 2.0 / (spread_span + 1.0) if spread_span else 0.0
        self.device = "cpu"

    def initial(self, rows: int) -> State:
        """Nothing seen of any channel; its healthy spread, as if seen once."""
        shape = (rows, self.channels)
        return {
            "level": torch.zeros(shape, device=self.device),
            "variance": torch.ones(shape, device=self.device),
            "seen": torch.zeros(shape, device=self.device),  # values, as long as that matters
        }

    def step(
        self, value_NC: Tensor, valid_NC: Tensor, state: State
    ) -> tuple[Tensor, Tensor, State]:
        """Level and spread [N, C] before this tick; then the new state."""
        level, variance, seen = state["level"], state["variance"], state["seen"]
        first = valid_NC & (seen == 0)
        expected = torch.where(first, value_NC, level)  # that one is no surprise
        spread = variance.sqrt().clamp_(min=LEAST_SPREAD)
        error = torch.where(valid_NC, value_NC - expected, 0.0)
        count = (seen + 1.0).clamp_(max=MOST_SEEN)
        share = 1.0 / count
        shift = torch.where(valid_NC, share.clamp(min=self._level_weight) * error, 0.0)
        after = {
            "level": expected + shift,
            "variance": variance,
            "seen": torch.where(valid_NC, count, seen),
        }
        if self._spread_weight:
            weight = share.clamp(min=self._spread_weight)
            learnt = torch.where(valid_NC & ~first, weight * (error * error - variance), 0.0)
            after["variance"] = variance + learnt
        return expected, spread, after

    def tensors(self) -> dict[str, Tensor]:
        """Nothing is learnt beforehand."""
        return {}

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Nothing to take back."""

    def to(self, device: str) -> None:
        """The next state is made there."""
        self.device = device

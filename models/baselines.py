"""Baselines behind the same contract: EWMA-Mahalanobis and PCA T2/SPE.

Both expect every channel at its healthy mean; a network that does not beat them is not worth its
cost. PCA: T2 of the kept components and SPE, the squared distance from their plane (Jackson and
Mudholkar, Technometrics 21, 1979). Channels that are not valid are filled in by regression on the
valid ones (known data regression: Arteaga and Ferrer, J. Chemometrics 16, 2002).
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.contract import State
from models.drift import DriftingLevel
from models.judges import judge_of
from models.residual import ResidualDetector
from models.settings import EwmaSettings, PcaSettings
from models.surprise import (
    F32,
    F64,
    LEAST_VARIANCE,
    QuadraticJudge,
    shrunk_covariance,
)

# N rows, C channels, K components


class Level:
    """Expects every channel at its healthy mean, give or take its healthy spread.

    Remembers nothing.
    """

    warmup_ticks = 0
    forecasts = False

    def initial(self, rows: int) -> State:  # noqa: ARG002 (nothing is kept for any row)
        """No state."""
        return {}

    def step(
        self,
        value_NC: Tensor,
        valid_NC: Tensor,  # noqa: ARG002 (what is expected does not depend on what came)
        state: State,  # noqa: ARG002 (there is none)
    ) -> tuple[Tensor, Tensor, State]:
        """Zero, give or take one: scaled units."""
        return torch.zeros_like(value_NC), torch.ones_like(value_NC), {}

    def tensors(self) -> dict[str, Tensor]:
        """Nothing is learnt: the scaling holds it all."""
        return {}

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Nothing to take back."""

    def to(self, device: str) -> None:
        """Nothing to move."""


def ewma(settings: EwmaSettings, channels: int) -> ResidualDetector:
    """EWMA-Mahalanobis that has learnt nothing yet."""
    return ResidualDetector(
        channels=channels,
        predictor=Level()
        if settings.level_span is None
        else DriftingLevel(channels, settings.level_span, settings.spread_span),
        judge=judge_of(settings, channels),
        warmup_ticks=settings.warmup_ticks,
    )


def pca(settings: PcaSettings, channels: int) -> ResidualDetector:
    """PCA T2/SPE that has learnt nothing yet."""
    return ResidualDetector(
        channels=channels,
        predictor=Level(),
        judge=Subspace(channels, settings),
        warmup_ticks=settings.warmup_ticks,
    )


class Subspace(QuadraticJudge):
    """T2 and SPE, or one of them: quadratic forms of the same smoothed vector."""

    def __init__(self, channels: int, settings: PcaSettings) -> None:
        super().__init__(channels, (settings.span,) * len(settings.statistics))
        self.explained, self.statistics = settings.explained, settings.statistics
        self.covariance: F64 = np.eye(channels)

    def forms(self, known_SC: NDArray[np.bool_]) -> F64:
        """T2 and SPE of the vector filled in by regression: F' M F, with F the filling."""
        known_C = known_SC[0]  # both statistics are of the same means
        values, vectors = np.linalg.eigh(self.covariance)
        values, vectors = values[::-1], vectors[:, ::-1]  # the largest first
        share = np.cumsum(values) / values.sum()
        kept = max(min(int(np.searchsorted(share, self.explained)) + 1, self.channels - 1), 1)
        plane = vectors[:, :kept]
        within = (plane / values[:kept]) @ plane.T
        beyond = np.eye(self.channels) - plane @ plane.T
        fill = np.zeros((self.channels, self.channels))
        pick = np.ix_(known_C, known_C)
        fill[:, known_C] = self.covariance[:, known_C] @ np.linalg.inv(self.covariance[pick])
        form = {"t2": within, "spe": beyond}
        return np.stack([fill.T @ form[statistic] @ fill for statistic in self.statistics])

    def healthy(self) -> F64:
        """The covariance: both statistics measure the same vector."""
        return np.tile(self.covariance, (self.copies, 1, 1))

    def learn(self, smoothed: F32, known: NDArray[np.bool_], floor: F64) -> None:
        """The covariance of the healthy values."""
        alpha = float(self.alpha[0])
        self.covariance = shrunk_covariance(
            smoothed[:, 0, 0].astype(np.float64),
            known[:, 0],
            least=np.clip(np.square(floor), LEAST_VARIANCE, 1.0) * (alpha / (2.0 - alpha)),
        )

    def learnt(self) -> dict[str, F64]:
        """The covariance."""
        return {"covariance": self.covariance}

    def relearn(self, arrays: Mapping[str, F64]) -> None:
        """Take back what learnt() gave."""
        self.covariance = arrays["covariance"]

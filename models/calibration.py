"""Raw score to surprise: -log10 of the chance that a healthy frame scores as high.

Made from healthy frames that training never saw. In the bulk the chance is counted; above a high
quantile a generalised Pareto tail is fitted to what exceeds it (models/tail.py; joined as McNeil
and Frey, J. Empirical Finance 7, 2000), for there counting soon ends. That tail never ends, so a
stranger frame always surprises more.
"""

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, model_validator

from models.tail import SHAPE_LIMIT, fit_excess

F64 = NDArray[np.float64]

LEAST_FRAMES = 100  # fewer say nothing about a tail
LEAST_EXCEEDING = 25  # frames that the tail is fitted to, at the least
TAIL_SHARE = 0.02  # of the healthy frames, where there are enough
KNOTS = 256
LEAST_SCALE = (
    1e-3  # of the tail, relative to the score where it starts: healthy scores may all be equal
)


class Calibration(BaseModel):
    """The mapping, as it stands on the card: JSON keeps every float to the bit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    raw: tuple[float, ...]  # rising; the last is where the tail starts
    surprise: tuple[float, ...]  # not falling
    shape: float
    scale: float
    largest: float  # healthy raw score seen: what lies beyond was never seen in health
    frames: int  # healthy frames it was made from

    @model_validator(mode="after")
    def _is_a_mapping(self) -> "Calibration":
        numbers = np.array([*self.raw, *self.surprise, self.shape, self.scale, self.largest])
        if (
            len(self.raw) != len(self.surprise)
            or len(self.raw) < 1
            or not bool(np.isfinite(numbers).all())
            or not bool(np.all(np.diff(self.raw) > 0))
            or not bool(np.all(np.diff(self.surprise) >= 0))
            or self.scale <= 0
            or not 0 <= self.shape <= SHAPE_LIMIT
        ):
            raise ValueError(
                "calibration: want rising raw scores with surprises that never fall, a "
                "scale above 0 and a shape "
                f"in 0..{SHAPE_LIMIT}; got {len(self.raw)} and {len(self.surprise)} "
                f"knots, scale {self.scale}, "
                f"shape {self.shape}"
            )
        return self

    @classmethod
    def fit(
        cls, healthy: NDArray[np.floating], *, least: int = LEAST_FRAMES, what: str = "frames"
    ) -> "Calibration":
        """From raw scores [M] of healthy frames, or of whatever else ``what`` says.

        Raises ValueError where they are fewer than ``least``, or not finite.
        """
        scores: F64 = np.sort(healthy.astype(np.float64))
        count = len(scores)
        if count < least:
            after, longer = (
                (" after warm-up", "a longer history, or a model with a shorter warm-up")
                if what == "frames"
                else ("", f"more {what}")
            )
            raise ValueError(
                f"calibration: want at least {least} healthy {what}{after} that training did not "
                f"see, got {count}. Give {longer}."
            )
        if not bool(np.isfinite(scores[-1])) or not bool(np.isfinite(scores[0])):
            raise ValueError("calibration: a healthy score is not finite")
        exceeding = min(max(LEAST_EXCEEDING, round(TAIL_SHARE * count)), count // 4)
        start = scores[count - exceeding - 1]
        bulk = np.unique(scores[scores <= start])
        if len(bulk) > KNOTS:
            bulk = np.unique(np.quantile(bulk, np.linspace(0, 1, KNOTS)))
        at_least = count - np.searchsorted(scores, bulk, side="left")
        surprise = np.log10(count / at_least)
        excess = scores[scores > start] - start
        shape, scale = fit_excess(excess, least=LEAST_SCALE * max(float(start), LEAST_SCALE))
        return cls(
            raw=tuple(bulk.tolist()),
            surprise=tuple(surprise.tolist()),
            shape=shape,
            scale=scale,
            largest=float(scores[-1]),
            frames=count,
        )

    def apply(self, raw: NDArray[np.floating]) -> NDArray[np.float32]:
        """Surprise float32 [N] of raw scores [N]; worked out in float64."""
        score = raw.astype(np.float64)
        beyond = np.maximum(score - self.raw[-1], 0.0) / self.scale
        tail = np.log1p(self.shape * beyond) / self.shape if self.shape > 0 else beyond
        surprise: F64 = np.interp(score, self.raw, self.surprise) + tail / np.log(10.0)
        return surprise.astype(np.float32, copy=False)

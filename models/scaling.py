"""Channels in their units to numbers of one size, and back.

Mean and standard deviation of the healthy frames, with a floor under the deviation: a channel that
hardly moves must not turn the last digit of its sensor into a sensation. The floor is the smallest
step the channel was seen to take (its resolution); of one that never moved, a thousandth of its
level.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, model_validator

from models.contract import Stretch

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

STILL_SHARE = 1e-3  # of the level of a channel that never moved: taken for its resolution
SCALED_LIMIT = 1e6  # finite in float32, whatever a sensor says


class Scaling(BaseModel):
    """Per channel, in its unit. JSON keeps every float to the bit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mean: tuple[float, ...]  # [C]
    deviation: tuple[float, ...]  # [C] above 0, never below the resolution
    resolution: tuple[float, ...]  # [C] above 0

    @model_validator(mode="after")
    def _usable(self) -> "Scaling":
        numbers = np.array([self.mean, self.deviation, self.resolution], np.float64)
        if not bool(np.isfinite(numbers).all()) or not bool((numbers[1:] > 0).all()):
            raise ValueError("scaling: want finite means, and deviations and resolutions above 0")
        return self

    @classmethod
    def fit(cls, stretches: Sequence[Stretch]) -> "Scaling":
        """From healthy frames; a channel that was never valid is left as it is."""
        mean, deviation, resolution = [], [], []
        for channel in range(stretches[0].value.shape[1]):
            values = np.concatenate([s.value[s.valid[:, channel], channel] for s in stretches])
            values = values[np.isfinite(values)]
            if len(values) == 0:
                values = np.zeros(1)
            levels = np.unique(values)
            level = float(values.mean())
            if len(levels) > 1:
                step = max(float(np.diff(levels).min()), np.finfo(np.float32).eps * abs(level))
            else:
                step = STILL_SHARE * (abs(level) or 1.0)
            mean.append(level)
            deviation.append(max(float(values.std()), step))
            resolution.append(step)
        return cls(mean=tuple(mean), deviation=tuple(deviation), resolution=tuple(resolution))

    @property
    def floor(self) -> F64:
        """The resolution in scaled units, float64 [C], at most 1."""
        floor: F64 = np.asarray(self.resolution) / np.asarray(self.deviation)
        return floor

    def apply(self, value_NC: F64, valid_NC: NDArray[np.bool_]) -> tuple[F32, NDArray[np.bool_]]:
        """Scaled float32 [..., C], 0 where not valid; and valid, less what is no number."""
        usable = valid_NC & np.isfinite(value_NC)
        known = np.where(usable, value_NC, np.asarray(self.mean))
        scaled = (known - np.asarray(self.mean)) / np.asarray(self.deviation)
        return np.clip(scaled, -SCALED_LIMIT, SCALED_LIMIT).astype(np.float32), usable

    def back(self, scaled_NC: F32) -> F32:
        """Scaled float32 [N, C] to the channels' units, float32."""
        value: F64 = scaled_NC * np.asarray(self.deviation) + np.asarray(self.mean)
        return value.astype(np.float32)

    def spread_back(self, spread_NC: F32) -> F32:
        """A scaled spread, float32 [N, C], to the channels' units, float32."""
        spread: F64 = spread_NC * np.asarray(self.deviation)
        return spread.astype(np.float32)

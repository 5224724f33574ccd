"""Channels in their units to numbers of one size, and back.

Mean and standard deviation of the healthy frames, with a floor under the deviation: a channel that
hardly moves must not turn the last digit of its sensor into a sensation. The floor is the smallest
step the channel was seen to take (its resolution); of one that never moved, a thousandth of its
level.

Units of a kind differ by more than noise, so each may have a scaling of its own, learnt from its
own healthy days; what is left is what they share. Days are few: it is shrunk toward the pooled one,
by the same share in all channels. A load that was higher than usual raised all of them alike, and
channels that are shrunk each by its own share would no longer agree (docs/decisions/0046).
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, model_validator

from models.contract import Stretch

# N rows, C channels

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

STILL_SHARE = 1e-3  # of the level of a channel that never moved: taken for its resolution
SCALED_LIMIT = 1e6  # finite in float32, whatever a sensor says
POOL_DAYS = 0.25  # of a unit's own history that weigh as much as all units: a look at another load
LEAST_DAYS = 1.0  # of it: a machine's day has its shifts and its weather


@dataclass(frozen=True, slots=True)
class Scale:
    """Level and spread to scale by, float64: [C] for all rows alike, or [N, C], each its own."""

    mean: F64
    deviation: F64

    def rows(self, index: NDArray[np.integer]) -> "Scale":
        """Of [A, C], those of some rows [N]."""
        return Scale(self.mean[index], self.deviation[index])

    def apply(self, value_NC: F64, valid_NC: NDArray[np.bool_]) -> tuple[F32, NDArray[np.bool_]]:
        """Scaled float32 [..., C], 0 where not valid; and valid, less what is no number."""
        usable = valid_NC & np.isfinite(value_NC)
        known = np.where(usable, value_NC, self.mean)
        scaled = (known - self.mean) / self.deviation
        return np.clip(scaled, -SCALED_LIMIT, SCALED_LIMIT).astype(np.float32), usable

    def back(self, scaled_NC: F32) -> F32:
        """Scaled float32 [N, C] to the channels' units, float32."""
        value: F64 = scaled_NC * self.deviation + self.mean
        return value.astype(np.float32)

    def spread_back(self, spread_NC: F32) -> F32:
        """A scaled spread, float32 [N, C], to the channels' units, float32."""
        spread: F64 = spread_NC * self.deviation
        return spread.astype(np.float32)


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

    @functools.cached_property
    def scale(self) -> Scale:
        """The same for every row."""
        return Scale(np.asarray(self.mean), np.asarray(self.deviation))

    def apply(self, value_NC: F64, valid_NC: NDArray[np.bool_]) -> tuple[F32, NDArray[np.bool_]]:
        """See ``Scale``."""
        return self.scale.apply(value_NC, valid_NC)

    def own(
        self, stretches: Sequence[Stretch], *, tick_ms: int
    ) -> tuple["Scaling", NDArray[np.bool_]] | None:
        """One unit's own, from its healthy stretches, shrunk toward this pooled one.

        Gives also in which channels [C] it is its own: one that was never valid, or never moved,
        keeps the pooled scaling. None: less than LEAST_DAYS, or no channel moved.
        """
        days = sum(map(len, stretches)) * tick_ms / 86_400_000
        if days < LEAST_DAYS:
            return None
        weight = days / (days + POOL_DAYS)
        mean, deviation = list(self.mean), list(self.deviation)
        moved = np.zeros(len(mean), np.bool_)
        for channel, resolution in enumerate(self.resolution):
            values = np.concatenate([s.value[s.valid[:, channel], channel] for s in stretches])
            values = values[np.isfinite(values)]
            if len(values) == 0 or values.min() == values.max():
                continue
            moved[channel] = True
            mean[channel] += weight * (float(values.mean()) - mean[channel])
            spread = max(float(values.std()), resolution)
            deviation[channel] *= (spread / deviation[channel]) ** weight
        made = Scaling(mean=tuple(mean), deviation=tuple(deviation), resolution=self.resolution)
        return (made, moved) if moved.any() else None


@dataclass(frozen=True, slots=True)
class Scales:
    """The pooled scaling of a kind, and those that are a unit's own."""

    pooled: Scaling
    own: Mapping[str, Scaling]  # by asset

    @classmethod
    def fit(
        cls, pool: Sequence[Stretch], units: Sequence[Stretch], *, tick_ms: int | None
    ) -> "Scales":
        """Pooled from some stretches; a unit's own from all of its ``units``.

        A single unit is the pool: it has none of its own. ``tick_ms`` None: nor has any other.
        """
        pooled = Scaling.fit(pool)
        names = dict.fromkeys(stretch.asset for stretch in units)
        if tick_ms is None or len(names) < 2:  # one is the pool
            return cls(pooled, {})
        made = {
            name: pooled.own([one for one in units if one.asset == name], tick_ms=tick_ms)
            for name in names
        }
        return cls(pooled, {name: found[0] for name, found in made.items() if found is not None})

    def of(self, asset: str) -> Scaling:
        """The one that a unit is scaled by."""
        return self.own.get(asset, self.pooled)

    @property
    def floor(self) -> F64:
        """The resolution in scaled units, float64 [C], at most 1; the mean of all own ones."""
        floors: F64 = np.mean([one.floor for one in self.own.values()] or [self.pooled.floor], 0)
        return floors

"""What the healthy signal of an instrument looks like: how still, how quiet, and how sudden.

Learnt from the stretches that the network learns from, kept on the card of a bundle, and read by
`monitor/core/sensors.py`, which holds each channel against it. Nothing here is a distribution: the
extremes that healthy machines reached, to be passed by a wide margin before anything is said.

Noise is measured by bends, the difference of two changes that follow each other: what a machine
does smoothly is in the changes, but hardly in them.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy.ndimage import maximum_filter1d
from scipy.signal import lfilter

from models.contract import Stretch

# T ticks, C channels

F64 = NDArray[np.float64]

NOISE_TICKS = 60  # span of the mean of bends that is called the noise
ALPHA = 2.0 / (NOISE_TICKS + 1.0)
RESTLESS = 0.02  # a channel whose longest rest is a larger share of its history is one that rests
STIR = 0.9995  # quantile of the changes beyond which a channel stirs
NEAR_TICKS = 3  # stirs that are nearer to each other than this are of one cause


class Health(BaseModel):
    """How one channel moves while its machine is healthy, from a tick to the next."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ticks: int = Field(ge=0)  # that it was learnt from
    still: int = Field(ge=0)  # the longest time without a change, in ticks
    quiet: float = Field(ge=0)  # lowest mean bend over about NOISE_TICKS, in the channel's unit
    stir: float = Field(ge=0)  # changes beyond this are rare, in its unit
    jump: float = Field(ge=0)  # the largest change while no other channel stirs, in its unit

    @property
    def restless(self) -> bool:
        """Whether it moves so often that long rest, silence or a jump says something.

        A set point, a valve position or a counter is not.
        """
        return 0 < self.still <= RESTLESS * self.ticks and self.jump > 0


def health_of(stretches: Sequence[Stretch]) -> tuple[Health, ...]:
    """Of each channel [C], from healthy stretches. Raises IndexError for none.

    A rest lasts until the value is another, however long nothing was known of it meanwhile: so
    what comes on change alone is not taken for restless.
    """
    steps = [_steps(one) for one in stretches]
    changes = [np.abs(one) for one in steps]
    every = np.concatenate(changes)
    known = ~np.isnan(every).all(axis=0)
    stir = np.zeros(every.shape[1])
    stir[known] = np.nanquantile(every[:, known], STIR, axis=0)
    quiet, jump = np.full(len(stir), np.inf), np.zeros(len(stir))
    for one, step in zip(changes, steps, strict=True):
        stirs = maximum_filter1d(one > stir, 2 * NEAR_TICKS + 1, axis=0)  # NaN does not
        others = stirs.sum(axis=1, keepdims=True) > stirs
        jump = np.fmax(jump, np.where(others, 0.0, np.nan_to_num(one)).max(axis=0, initial=0.0))
        bends = np.abs(np.diff(step, axis=0))
        quiet = np.fmin(quiet, [_quietest(column[~np.isnan(column)]) for column in bends.T])
    rests = np.max([_longest_rests(one) for one in stretches], axis=0)
    return tuple(
        Health(
            ticks=sum(len(one) for one in stretches),
            still=int(rests[c]),
            quiet=float(quiet[c]) if np.isfinite(quiet[c]) else 0.0,
            stir=float(stir[c]),
            jump=float(jump[c]),
        )
        for c in range(len(stir))
    )


def _steps(one: Stretch) -> F64:
    """How far each channel moved in each tick [T, C]; NaN where it is not known."""
    value = np.where(one.valid, one.value, np.nan)
    return np.diff(value, axis=0, prepend=np.nan)


def _longest_rests(one: Stretch) -> list[int]:
    """The longest time without a change, in ticks [C]; 0 of what was never known."""
    rests = []
    for value, valid in zip(one.value.T, one.valid.T, strict=True):
        known = np.flatnonzero(valid)
        moved = known[1:][np.diff(value[known]) != 0]
        ends = np.concatenate([[0], moved, [len(value)]])
        rests.append(int(np.diff(ends).max()) if len(known) else 0)
    return rests


def _quietest(bend: F64) -> float:
    """The lowest mean bend of one channel [T]; infinite where there are too few."""
    if len(bend) <= NOISE_TICKS:
        return np.inf
    start = [(1.0 - ALPHA) * bend[0]]
    noise, _ = lfilter([ALPHA], [1.0, ALPHA - 1.0], bend, zi=start)
    return float(noise[NOISE_TICKS:].min())

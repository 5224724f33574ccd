"""What the healthy signal of an instrument looks like: how still, how quiet, and how sudden.

Learnt from the stretches that the network learns from, kept on the card of a bundle, and read by
`monitor/core/sensors.py`, which holds each channel against it. Nothing here is a distribution: the
extremes that healthy machines reached, to be passed by a wide margin before anything is said.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy.signal import lfilter

from models.contract import Stretch

# T ticks, C channels

NOISE_TICKS = 60  # span of the mean of changes that is called the noise
ALPHA = 2.0 / (NOISE_TICKS + 1.0)
RESTLESS = 0.02  # a channel whose longest rest is a larger share of its history is one that rests


class Health(BaseModel):
    """How one channel moves while its machine is healthy, from a tick to the next."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ticks: int = Field(ge=0)  # that it was learnt from
    still: int = Field(ge=0)  # the longest time without a change, in ticks
    quiet: float = Field(ge=0)  # lowest mean change over about NOISE_TICKS, in the channel's unit
    jump: float = Field(ge=0)  # largest change from a tick to the next, in the channel's unit

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
    channels = range(stretches[0].value.shape[1])
    return tuple(
        _of_channel([(one.value[:, c], one.valid[:, c]) for one in stretches]) for c in channels
    )


def _of_channel(runs: Sequence[tuple[NDArray[np.float64], NDArray[np.bool_]]]) -> Health:
    ticks, still, quiet, jump = 0, 0, np.inf, 0.0
    for value, valid in runs:
        known = np.flatnonzero(valid)
        if not len(known):
            continue
        ticks += len(value)
        seen = value[known]
        moved = known[1:][np.diff(seen) != 0]
        rests = np.diff(np.concatenate([[0], moved, [len(value)]]))
        still = max(still, int(rests.max()))
        change = np.abs(np.diff(seen))[np.diff(known) == 1]
        if not len(change):
            continue
        jump = max(jump, float(change.max()))
        if len(change) > NOISE_TICKS:
            noise, _ = lfilter([ALPHA], [1.0, ALPHA - 1.0], change, zi=[(1 - ALPHA) * change[0]])
            quiet = min(quiet, float(noise[NOISE_TICKS:].min()))
    return Health(ticks=ticks, still=still, quiet=quiet if np.isfinite(quiet) else 0.0, jump=jump)

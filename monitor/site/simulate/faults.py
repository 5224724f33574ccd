"""What goes wrong: faults of the process, and faults of the instrument that shows it.

A fault of the process changes what happens in the machine, and all its channels follow; how is told
where the machine is. A fault of an instrument changes what one channel shows, and nothing else.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
TRIPS_AT = 0.5  # share of its time after which a fault has tripped its machine


class Family(StrEnum):
    """What is broken."""

    PROCESS = "process"
    INSTRUMENT = "instrument"


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultKind:
    """One way to go wrong."""

    family: Family
    lasts_ms: int  # where nothing else is said
    rise: Callable[[F64], F64]  # share of its time that is over, to share of its severity
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault of one machine. Severity 1 is one that an engineer sees in a trend."""

    name: str  # of its kind, in FAULTS
    onset_ms: int  # since 1970 UTC
    end_ms: int  # it is repaired: the first moment without it
    severity: float = 1.0
    channel: str | None = None  # which one, of a fault of an instrument

    @property
    def kind(self) -> FaultKind:
        """What kind of fault it is."""
        return FAULTS[self.name]

    @property
    def trip_ms(self) -> int | None:
        """When it has tripped its machine, which stands still until the end."""
        if self.name != "trip":
            return None
        return self.onset_ms + int(TRIPS_AT * (self.end_ms - self.onset_ms))

    def later(self, by_ms: int) -> "Fault":
        """The same one, so much later."""
        return replace(self, onset_ms=self.onset_ms + by_ms, end_ms=self.end_ms + by_ms)

    def at(self, time_ms: NDArray[Any]) -> F64:
        """How severe it is at these moments; 0 where it is not."""
        over = (time_ms - self.onset_ms) / (self.end_ms - self.onset_ms)
        there = (time_ms >= self.onset_ms) & (time_ms < self.end_ms)
        return np.where(there, self.severity * self.kind.rise(np.clip(over, 0.0, 1.0)), 0.0)


def _at_once(over: F64) -> F64:
    return np.ones_like(over)


def _steadily(over: F64) -> F64:
    return over


def _quickly(over: F64) -> F64:
    return np.minimum(over / 0.05, 1.0)


def _faster_and_faster(over: F64) -> F64:
    """Damage feeds on itself: exp, from 0 to 1, a tenth of it after 40 % of the time."""
    steep = 4.0
    return np.expm1(steep * over) / math.expm1(steep)


def _until_it_trips(over: F64) -> F64:
    return np.minimum(over / TRIPS_AT, 1.0)


def _process(lasts_ms: int, rise: Callable[[F64], F64], words: str) -> FaultKind:
    return FaultKind(family=Family.PROCESS, lasts_ms=lasts_ms, rise=rise, words=words)


def _instrument(lasts_ms: int, rise: Callable[[F64], F64], words: str) -> FaultKind:
    return FaultKind(family=Family.INSTRUMENT, lasts_ms=lasts_ms, rise=rise, words=words)


FAULTS: Mapping[str, FaultKind] = {
    "step": _process(DAY_MS, _at_once, "something breaks or moves, and stays so"),
    "drift": _process(5 * DAY_MS, _steadily, "fouling, slowly more of it"),
    "oscillation": _process(12 * HOUR_MS, _at_once, "something hunts, in cycles of minutes"),
    "correlation_break": _process(DAY_MS, _at_once, "what moved together does so no more"),
    "bearing_wear": _process(5 * DAY_MS, _faster_and_faster, "a bearing wears, faster and faster"),
    "leak": _process(DAY_MS, _quickly, "some of what flows goes elsewhere"),
    "cavitation": _process(12 * HOUR_MS, _quickly, "the strainer clogs, and the pump cavitates"),
    "trip": _process(8 * HOUR_MS, _until_it_trips, "it gets worse until the machine trips"),
    "frozen": _instrument(6 * HOUR_MS, _at_once, "shows its last value again and again"),
    "spike": _instrument(6 * HOUR_MS, _at_once, "jumps for a single sample, now and then"),
    "offset": _instrument(DAY_MS, _at_once, "is off by a fixed amount"),
    "sensor_drift": _instrument(5 * DAY_MS, _steadily, "is off by more and more"),
    "noise_collapse": _instrument(6 * HOUR_MS, _at_once, "has lost nearly all of its noise"),
    "range_clamp": _instrument(6 * HOUR_MS, _at_once, "shows nothing above a limit"),
    "unit_change": _instrument(6 * HOUR_MS, _at_once, "shows another unit"),
    "dropout": _instrument(3 * HOUR_MS, _at_once, "loses samples: as many as its severity says"),
}

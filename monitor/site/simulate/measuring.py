"""From what is true to what an instrument shows, healthy or not."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitor.site.simulate.chance import even, key, normal
from monitor.site.simulate.faults import Fault
from monitor.site.simulate.machines import Instrument

# N moments

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

SPIKES = 0.03  # of the samples
COLLAPSED = 0.03  # of the noise is left
OTHER_UNITS = {  # factor and offset into a unit that an instrument may be set to by mistake
    "degC": (1.8, 32.0),  # degF
    "bar": (14.5038, 0.0),  # psi
    "m3/h": (4.4029, 0.0),  # US gallons a minute
    "mm/s": (0.03937, 0.0),  # in/s
    "rpm": (1 / 60, 0.0),  # Hz
    "kW": (1.34102, 0.0),  # hp
    "t/h": (0.277778, 0.0),  # kg/s
    "A": (0.001, 0.0),  # kA
    "%": (0.01, 0.0),  # a share
}


def measured(
    true_N: F64,
    time_ms: I64,
    instrument: Instrument,
    *,
    seed: int,
    name: str,
    faults: Mapping[Fault, float],
) -> F64:
    """What one instrument shows of what is true, [N], in its unit; NaN: there was no sample.

    Args:
        true_N: The truth, in the instrument's unit.
        time_ms: When, [N]; noise is a function of it.
        instrument: How it measures.
        seed: Of the plant.
        name: Of machine and channel; two names are two instruments.
        faults: What is wrong with it, and what it showed when that began.
    """
    own = key(seed, name)
    bias = instrument.bias * float(normal(key(seed, name, "bias"), 0)[0])
    spread = instrument.noise + instrument.share * np.abs(true_N)
    signal = Signal(
        span=instrument.span,
        unit=instrument.unit,
        x=true_N + bias,
        noise=normal(own, time_ms) * spread,
        lost=np.zeros(len(true_N), np.bool_),
    )
    for fault, onset in faults.items():
        severity = fault.at(time_ms)
        there = np.flatnonzero(severity)
        if len(there):
            chance = even(key(seed, name, fault.name), time_ms[there])
            SPOILS[fault.name](signal, there, severity[there], chance, onset)
    shown = np.rint((signal.x + signal.noise) * instrument.per_unit) / instrument.per_unit
    return np.where(signal.lost, np.nan, np.clip(shown, instrument.low, instrument.high))


@dataclass(slots=True, kw_only=True)
class Signal:
    """What is about to be shown; the faults change it."""

    span: float
    unit: str
    x: F64  # [N] without its noise
    noise: F64  # [N]
    lost: NDArray[np.bool_]  # [N]


# Each changes the rows ``there`` by how severe it is and by chance (both for these rows); ``onset``
# is what was shown when it began. Severity 1 is what is written here.
Spoil = Callable[[Signal, NDArray[np.intp], F64, F64, float], None]


def _frozen(signal: Signal, there: NDArray[np.intp], _1: F64, _2: F64, onset: float) -> None:
    signal.x[there], signal.noise[there] = onset, 0.0


def _spike(signal: Signal, there: NDArray[np.intp], severity: F64, chance: F64, _: float) -> None:
    """By 30 % of the range, up or down."""
    sign = np.where(chance < SPIKES / 2, 1.0, -1.0) * (chance < SPIKES)
    signal.x[there] += 0.3 * signal.span * severity * sign


def _offset(signal: Signal, there: NDArray[np.intp], severity: F64, _1: F64, _2: float) -> None:
    """By 6 % of the range."""
    signal.x[there] += 0.06 * signal.span * severity


def _noise_collapse(signal: Signal, there: NDArray[np.intp], _1: F64, _2: F64, _3: float) -> None:
    signal.noise[there] *= COLLAPSED


def _range_clamp(
    signal: Signal, there: NDArray[np.intp], severity: F64, _: F64, onset: float
) -> None:
    """At 1 % of the range below what was shown when it began."""
    most = onset - 0.01 * signal.span * severity
    over = signal.x[there] + signal.noise[there] - most
    signal.x[there] -= np.maximum(over, 0.0)


def _unit_change(signal: Signal, there: NDArray[np.intp], _1: F64, _2: F64, _3: float) -> None:
    factor, offset = OTHER_UNITS[signal.unit]
    signal.x[there] = signal.x[there] * factor + offset
    signal.noise[there] *= factor


def _dropout(signal: Signal, there: NDArray[np.intp], severity: F64, chance: F64, _: float) -> None:
    signal.lost[there] |= chance < severity


SPOILS: Mapping[str, Spoil] = {
    "frozen": _frozen,
    "spike": _spike,
    "offset": _offset,
    "sensor_drift": _offset,
    "noise_collapse": _noise_collapse,
    "range_clamp": _range_clamp,
    "unit_change": _unit_change,
    "dropout": _dropout,
}

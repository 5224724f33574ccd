"""An induction motor that drives a conveyor."""

import numpy as np

from monitor.site.simulate.conditions import F64, Conditions
from monitor.site.simulate.machines.kind import Instrument, MachineKind

RATED_CURRENT = 60.0  # A
RATED_POWER = 30.0  # kW
SYNCHRONOUS = 1500.0  # 1/min
FULL = 400.0  # t/h


def physics(c: Conditions) -> dict[str, F64]:
    """Torque from what lies on the belt; slip, current and heat from the torque.

    Slip goes with the torque; the current is what magnetises and what works, at right angles
    (equivalent circuit, Fitzgerald, Electric Machinery, 6). Winding: a lag of first order towards
    ambient + rise, the rise going with the square of the current (the thermal model of IEC
    60255-149). The bearing gets some of the winding's heat. Vibration goes with n2 and the torque.
    """
    carried = c.on * c.load * (1 + 0.03 * c.wander("feed", 300))
    slips = c.fault("correlation_break") * (1 + c.wander("slip", 900))
    drag = 0.07 * c.fault("step") + 0.12 * c.fault("oscillation") * c.wave(480)
    idle = c.of("idle torque", 0.2, 0.05) * (1 + 0.02 * c.wander("idle torque", 3600))
    torque = c.on * np.maximum(idle + drag + c.of("lift", 0.65) * carried, 0.05)
    n = c.on * (1 - c.of("slip", 0.02) * torque)
    current = RATED_CURRENT * np.sqrt((0.35 * c.on) ** 2 + (0.94 * torque) ** 2)
    clogged = 0.35 * c.fault("drift") + 0.8 * c.fault("trip")
    rise = c.of("winding rise", 75.0, 0.05) * (current / RATED_CURRENT) ** 2 * (1 + clogged)
    winding = c.lag(rise, c.of("winding", 2400.0, 0.05))
    wear = c.fault("bearing_wear")
    friction = c.of("bearing rise", 22.0, 0.05) * n**2 * (1 + 0.4 * wear)
    bearing = c.lag(friction + 0.08 * winding, c.of("bearing", 1500.0, 0.05))
    vibration = c.of("unbalance", 1.1, 0.1) * n**2 * (1 + 0.2 * torque) * (1 + 1.6 * wear)
    return {
        "throughput": FULL * carried * np.clip(1 - 0.09 * slips, 0.0, 1.0),
        "speed": n * SYNCHRONOUS,
        "current": current,
        "power": RATED_POWER * torque * n + 0.8 * (current / RATED_CURRENT) ** 2,
        "winding_temperature": c.ambient + winding,
        "bearing_temperature": c.ambient + bearing,
        "vibration": vibration * (1 + 0.03 * c.wander("vibration", 300)) + 0.05,
    }


MOTOR = MachineKind(
    name="motor",
    words="an induction motor that drives a conveyor",
    physics=physics,
    instruments={
        "throughput": Instrument(unit="t/h", low=0, high=600, noise=2.0, per_unit=2),
        "speed": Instrument(unit="rpm", low=0, high=1800, noise=0.3, per_unit=10),
        "current": Instrument(unit="A", low=0, high=120, noise=0.2, per_unit=20),
        "power": Instrument(unit="kW", low=0, high=60, noise=0.15, per_unit=20),
        "winding_temperature": Instrument(
            unit="degC", low=0, high=200, noise=0.2, per_unit=10, bias=0.5
        ),
        "bearing_temperature": Instrument(
            unit="degC", low=0, high=150, noise=0.1, per_unit=10, bias=0.3
        ),
        "vibration": Instrument(unit="mm/s", low=0, high=20, noise=0.01, per_unit=100, share=0.04),
    },
    faults={
        "step": ("winding_temperature", "current", "power"),  # a scraper drags
        "drift": ("winding_temperature",),  # dust on the fan
        "oscillation": ("current", "power"),  # the belt catches once a turn
        "correlation_break": ("throughput",),  # the belt slips
        "bearing_wear": ("vibration",),
        "trip": ("winding_temperature",),  # the fan has failed
    },
    stops_a_day=0.25,
    running=("speed", 150.0),
)

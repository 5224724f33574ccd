"""A heated tank on a line, whose outlet keeps the level within its range."""

import numpy as np

from monitor.site.simulate.conditions import F64, Conditions
from monitor.site.simulate.machines.kind import BAR_PER_M, Instrument, MachineKind

AREA = 12.0  # m2
HEIGHT = 5.0  # m
SET_POINT = 2.5  # m
GAIN = 24.0  # m2/h: outflow per height; with AREA a time constant of half an hour
USUAL = 31.0  # m3/h: the outflow at the set point


def physics(c: Conditions) -> dict[str, F64]:
    """Mass balance, a proportional controller for averaging, and a heat balance.

    Level: see ``Conditions.level``. Outlet: Q = Kv x sqrt(dp) with a linear valve (IEC 60534-2-1),
    dp the height of the liquid and what the line sucks. Temperature: a lag of first order towards
    the inlet's, less what is lost to the air, at the usual volume and flow.
    """
    inflow = c.lag(18 + 18 * c.load, 60.0) * (1 + 0.02 * c.wander("feed", 300))
    leak = 2.5 * c.fault("leak")  # at the bottom
    hunting = 5.0 * c.fault("oscillation") * c.wave(600)
    over = c.level(inflow, USUAL + leak + hunting, area=AREA, gain=GAIN)
    height = np.clip(SET_POINT + over, 0.0, HEIGHT)
    outflow = np.maximum(USUAL + hunting + GAIN * over, 0.0)
    bottom = height * BAR_PER_M * c.of("density", 1.0, 0.005)
    passes = c.of("Kv", 120.0) * np.sqrt(bottom + 0.2)
    slack = 3.0 * c.fault("correlation_break") * (1 + c.wander("linkage", 900))
    entering = 70 + 2.5 * c.wander("inlet", 9000)
    loss = c.of("heat loss", 0.08, 0.1) * (1 + 1.2 * c.fault("drift"))
    settles = (entering + 6 * c.fault("step") + loss * c.ambient) / (1 + loss)
    return {
        "inflow": inflow,
        "outflow": outflow,
        "level": 100 * height / HEIGHT,
        "bottom_pressure": bottom,
        "opening": np.clip(100 * outflow / passes + slack, 0.0, 100.0),
        "inlet_temperature": entering,
        "temperature": c.lag(settles, c.of("contents", 2400.0, 0.05)),
    }


TANK = MachineKind(
    name="tank",
    words="a heated tank whose outlet keeps the level",
    physics=physics,
    instruments={
        "inflow": Instrument(unit="m3/h", low=0, high=60, noise=0.15, per_unit=50, bias=0.1),
        "outflow": Instrument(unit="m3/h", low=0, high=60, noise=0.15, per_unit=50, bias=0.1),
        "level": Instrument(unit="%", low=0, high=100, noise=0.1, per_unit=20, bias=0.2),
        "bottom_pressure": Instrument(unit="bar", low=0, high=1, noise=0.001, per_unit=2000),
        "opening": Instrument(unit="%", low=0, high=100, noise=0.1, per_unit=10, bias=0.2),
        "inlet_temperature": Instrument(
            unit="degC", low=0, high=150, noise=0.1, per_unit=10, bias=0.3
        ),
        "temperature": Instrument(unit="degC", low=0, high=150, noise=0.1, per_unit=10, bias=0.3),
    },
    faults={
        "step": ("temperature",),  # the steam valve of its heater passes
        "drift": ("temperature",),  # the insulation gets wet
        "oscillation": ("opening", "outflow"),  # its controller hunts
        "correlation_break": ("opening",),  # the linkage of its outlet is loose
        "leak": ("opening", "level", "outflow", "bottom_pressure"),  # more comes than goes
    },
)

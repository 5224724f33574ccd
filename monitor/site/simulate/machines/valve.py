"""A control valve with a positioner, which keeps a flow."""

import numpy as np

from monitor.site.simulate.conditions import F64, Conditions
from monitor.site.simulate.machines.kind import Instrument, MachineKind

RANGEABILITY = 50.0


def physics(c: Conditions) -> dict[str, F64]:
    """The opening that lets the wanted flow through.

    Q = Kv sqrt(dp / SG) (IEC 60534-2-1, liquids, turbulent), equal percentage: Kv = Kvs R^(x-1)
    (IEC 60534-2-4). The pressure before it gives way a little, the one behind it is that of the
    line: p2 = p20 + r Q2. The controller keeps the flow, so faults show in the opening it needs.
    """
    wanted = 28 + 48 * c.load
    wanted = wanted * (1 + 0.08 * c.fault("oscillation") * c.wave(360))
    flow = c.lag(wanted, 30.0)
    lost = 4.5 * c.fault("leak")  # between the valve and the meter
    before = c.of("supply", 6.0, 0.02) + 0.08 * c.wander("supply", 5400) - 4e-5 * flow**2
    behind = c.of("line", 2.0, 0.03) + 0.03 * c.wander("line", 7200) + 1.2e-4 * flow**2
    full = c.of("Kvs", 63.0) * (1 - 0.3 * c.fault("drift") + 0.22 * c.fault("step"))
    needed = (flow + lost) / np.sqrt(before - behind)
    opening = 100 * (1 + np.log(needed / full) / np.log(RANGEABILITY))
    opening = np.clip(opening, 0.0, 100.0)
    slack = 3.0 * c.fault("correlation_break") * (1 + c.wander("linkage", 900))
    return {
        "command": np.clip(opening + slack, 0.0, 100.0),
        "position": opening,
        "flow": flow,
        "upstream_pressure": before,
        "downstream_pressure": behind,
        "temperature": c.lag(58 + 0.1 * c.ambient + 1.5 * c.wander("medium", 7200), 900.0),
    }


VALVE = MachineKind(
    name="valve",
    words="a control valve that keeps a flow",
    physics=physics,
    instruments={
        "command": Instrument(unit="%", low=0, high=100, noise=0.0, per_unit=10),
        "position": Instrument(unit="%", low=0, high=100, noise=0.1, per_unit=10, bias=0.2),
        "flow": Instrument(unit="m3/h", low=0, high=120, noise=0.3, per_unit=20, bias=0.2),
        "upstream_pressure": Instrument(
            unit="bar", low=0, high=10, noise=0.01, per_unit=500, bias=0.01
        ),
        "downstream_pressure": Instrument(
            unit="bar", low=0, high=10, noise=0.008, per_unit=500, bias=0.01
        ),
        "temperature": Instrument(unit="degC", low=0, high=150, noise=0.08, per_unit=10, bias=0.3),
    },
    faults={
        "step": ("command", "position"),  # a piece of the plug breaks off
        "drift": ("command", "position"),  # its trim fouls
        # it sticks and slips
        "oscillation": ("command", "position", "flow", "downstream_pressure"),
        "correlation_break": ("command",),  # the linkage of its actuator is loose
        "leak": ("command", "position"),  # between the valve and the meter
    },
)

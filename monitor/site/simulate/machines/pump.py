"""A centrifugal pump at a variable speed, on a line with a static head."""

import numpy as np

from monitor.site.simulate.conditions import F64, Conditions
from monitor.site.simulate.machines.kind import BAR_PER_M, Instrument, MachineKind

RATED_FLOW = 100.0  # m3/h
RATED_SPEED = 2950.0  # 1/min
KW_PER_M3H_M = 9.81 / 3600  # hydraulic power of water
SUPPLY_KV3 = 0.4 * np.sqrt(3) * 0.86 * 0.91  # kW of shaft power per A: 400 V, cos phi, efficiency
ATMOSPHERE, VAPOUR = 1.013, 0.023  # bar; of water at 20 degC


def physics(c: Conditions) -> dict[str, F64]:
    """Where the curve of the pump meets the curve of the line, and what follows from it.

    Pump: H = n2 H0 - a Q2 (affinity laws; Guelich, Centrifugal Pumps, 3.4). Line: H = Hs + R Q2.
    Efficiency is a parabola about the best point, which moves with the speed. Vibration grows with
    the square of the speed (unbalance) and away from the best point (Guelich 10.7). Cavitation
    begins well above NPSH3 = 2.5 m (Q/Qn)2 (ISO 9906), at up to twice of it, and takes head.
    The bearing is a lag of first order towards ambient + rise, friction going with n2.
    """
    n = c.on * (0.74 + 0.26 * c.load)
    shut_off = c.of("shut-off head", 60.0) * (1 - 0.08 * c.fault("step"))
    a = c.of("pump curve", 15.0) / RATED_FLOW**2
    static = c.of("static head", 15.0, 0.05) + 0.3 * c.wander("static head", 7200)
    line = c.of("line", 30.0, 0.05) / RATED_FLOW**2 * (1 + 0.06 * c.wander("line", 1800))
    line = line * (1 + 0.35 * c.fault("oscillation") * c.wave(480))
    lost = RATED_FLOW * c.on * 0.08 * c.fault("leak")
    lost += RATED_FLOW * c.on * 0.07 * c.fault("correlation_break") * (1 + c.wander("bypass", 900))
    lost = np.maximum(lost, 0.0)
    suction_loss = 0.2 / RATED_FLOW**2 * (1 + 8.5 * c.fault("cavitation"))
    source = c.of("source", 0.8, 0.05) + 0.03 * c.wander("source", 5400)

    def flows(head: F64) -> tuple[F64, F64]:
        """Through the pump, and through the line: n2 H0 - a (Q + lost)2 = Hs + R Q2."""
        spare = np.maximum(head - static - a * lost**2, 0.0)
        half = a * lost
        through_line = (np.sqrt(half**2 + (a + line) * spare) - half) / (a + line)
        return through_line + np.where(spare > 0, lost, 0.0), through_line

    def suction(flow: F64) -> F64:
        return np.maximum(source - suction_loss * flow**2, VAPOUR - ATMOSPHERE)

    flow, _ = flows(n**2 * shut_off)
    available = (suction(flow) + ATMOSPHERE - VAPOUR) / BAR_PER_M  # NPSH, m
    needed = 2.5 * np.maximum(flow / RATED_FLOW, 0.1) ** 2
    cavitates = np.clip(2.0 - available / needed, 0.0, 1.0)
    flow, through_line = flows(n**2 * shut_off * (1 - 0.1 * cavitates))
    head = static + line * through_line**2

    off_best = flow / np.maximum(n, 0.1) / RATED_FLOW - 0.9
    efficiency = c.of("efficiency", 0.78, 0.01) * (1 - 0.6 * off_best**2)
    rubs = c.fault("trip")
    power = KW_PER_M3H_M * flow * head / efficiency + n**3 * (0.5 + 2.5 * rubs)
    wear = c.fault("bearing_wear")
    rise = c.of("bearing rise", 28.0, 0.05) * n**2
    rise = rise * (1 + 0.35 * wear + 0.6 * c.fault("drift") + 1.2 * rubs)
    vibration = c.of("unbalance", 1.5, 0.1) * n**2 * (1 + 1.5 * off_best**2)
    vibration = vibration * (1 + 1.6 * wear + 0.5 * rubs + 1.5 * cavitates)
    return {
        "speed": n * RATED_SPEED,
        "flow": through_line,
        "suction_pressure": suction(flow),
        "discharge_pressure": suction(flow) + head * BAR_PER_M,
        "current": power / SUPPLY_KV3 + 4.0 * n,  # and what magnetises
        "bearing_temperature": c.lag(c.ambient + rise, c.of("bearing", 1800.0, 0.05)),
        "vibration": vibration * (1 + 0.03 * c.wander("vibration", 300)) + 0.05,
    }


PUMP = MachineKind(
    name="pump",
    words="a centrifugal pump at a variable speed",
    physics=physics,
    instruments={
        "speed": Instrument(unit="rpm", low=0, high=3600, noise=2.0, per_unit=1),
        "flow": Instrument(unit="m3/h", low=0, high=150, noise=0.4, per_unit=20, bias=0.3),
        "suction_pressure": Instrument(unit="bar", low=-1, high=3, noise=0.004, per_unit=1000),
        "discharge_pressure": Instrument(
            unit="bar", low=0, high=10, noise=0.012, per_unit=500, bias=0.01
        ),
        "current": Instrument(unit="A", low=0, high=60, noise=0.15, per_unit=20),
        "bearing_temperature": Instrument(
            unit="degC", low=0, high=150, noise=0.1, per_unit=10, bias=0.3
        ),
        "vibration": Instrument(unit="mm/s", low=0, high=20, noise=0.01, per_unit=100, share=0.04),
    },
    faults={
        # a channel of the impeller is blocked
        "step": ("discharge_pressure", "flow", "current", "suction_pressure"),
        "drift": ("bearing_temperature",),  # its cooler fouls
        # the valve in the line hunts
        "oscillation": ("flow", "discharge_pressure", "suction_pressure"),
        # a bypass opens and closes
        "correlation_break": ("discharge_pressure", "suction_pressure", "flow"),
        "bearing_wear": ("vibration",),
        "leak": ("discharge_pressure", "suction_pressure", "flow"),  # between pump and meter
        "cavitation": ("suction_pressure",),
        "trip": ("bearing_temperature", "vibration"),  # a seal runs dry and rubs
    },
    stops_a_day=0.25,
    running=("speed", 300.0),
)

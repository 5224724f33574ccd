"""The kinds of machines that can be simulated."""

from collections.abc import Mapping

from monitor.site.simulate.machines.kind import Instrument, MachineKind
from monitor.site.simulate.machines.motor import MOTOR
from monitor.site.simulate.machines.pump import PUMP
from monitor.site.simulate.machines.tank import TANK
from monitor.site.simulate.machines.valve import VALVE

__all__ = ["KINDS", "Instrument", "MachineKind"]

KINDS: Mapping[str, MachineKind] = {kind.name: kind for kind in (PUMP, MOTOR, VALVE, TANK)}

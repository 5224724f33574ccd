"""What a kind of machine is: its instruments, its physics, and what goes wrong in it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from monitor.site.simulate.conditions import F64, Conditions

BAR_PER_M = 0.0981  # of water, 1000 kg/m3


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """One channel, and how it is measured. All in ``unit``."""

    unit: str
    low: float  # the range: what is beyond it shows as its end
    high: float
    noise: float  # spread of a reading
    per_unit: int  # steps of the display, or of the converter, in one unit
    share: float = 0.0  # of the value, more noise: an r.m.s. of a short block scatters so
    bias: float = 0.0  # spread from instrument to instrument of what it is always off by

    @property
    def span(self) -> float:
        """Of the range."""
        return self.high - self.low

    @property
    def deadband(self) -> float:
        """What has changed by less is not reported where changes alone are."""
        return max(3 * self.noise, 1 / self.per_unit)


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineKind:
    """A kind of machine. ``physics`` gives what is true in it, by channel, [D, T] each.

    ``faults`` are those of the process, each with its label: the channels that it moves, in their
    healthy spreads, at least half as far as the one that it moves farthest; that one first. It
    follows from the physics alone (decision 56), and tests/monitor/site/test_fault_labels.py works
    it out again.
    """

    name: str
    words: str
    instruments: Mapping[str, Instrument]
    physics: Callable[[Conditions], dict[str, F64]]
    faults: Mapping[str, tuple[str, ...]]
    stops_a_day: float = 0.0
    running: tuple[str, float] | None = None  # the channel that says so, and above what

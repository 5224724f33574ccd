"""What a machine works under: the weather, its load, its starts and stops, and what wears in it.

Everything is a function of time. What has a memory (heat, a level) is stepped in `STEP_S` from half
a day before each midnight (UTC), by when the start is forgotten: so any day can be worked out by
itself, and comes out the same to the bit. No memory may be longer than `LONGEST_LAG_S`.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from monitor.site.simulate.chance import U64, even, key, normal
from monitor.site.simulate.faults import Fault

# D days, T steps of a day and of half a day before

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

STEP_S = 10  # of the physics; what is asked for in between is interpolated
DAY_S = 86_400
RUN_IN_S = DAY_S // 2
LONGEST_LAG_S = 45 * 60  # 16 of it fit into half a day: exp(-16) = 1e-7 of the start is left

SLOT_S = 4 * 3600  # the load changes about this often
RAMP_S = 600
LEAST_LOAD = 0.55
STOP_S = (1800, 10_800)  # from, to
START_UP_S, COAST_DOWN_S = 60, 90
WEATHER_S = 6 * 3600


class Conditions:
    """Whole days of one machine, from ``first_day`` on; every array is [D, T]."""

    def __init__(
        self,
        seed: int,
        name: str,
        *,
        first_day: int,
        days: int,
        faults: Sequence[Fault] = (),
        stops_a_day: float = 0.0,
    ) -> None:
        """``first_day``: since 1970. ``name``: of the machine; two names are two machines."""
        self._seed, self._name, self._faults = seed, name, faults
        steps = np.arange(-RUN_IN_S, DAY_S + STEP_S, STEP_S)
        self.time_s: I64 = (first_day + np.arange(days))[:, None] * DAY_S + steps
        self.on = self._running(stops_a_day)  # 0 standing still, 1 running
        self.ambient = self._ambient()  # degC
        self.load = self._load()  # 0 to 1

    def of(self, what: str, nominal: float, spread: float = 0.03) -> float:
        """A property of this very machine: nominal, with a relative spread from unit to unit."""
        return nominal * (1 + spread * float(normal(self._key(what), 0)[0]))

    def wander(self, what: str, period_s: float) -> F64:
        """Something that moves by itself, smoothly, about once a period; mean 0, spread about 1."""
        return _smooth(self._key(what), self.time_s, period_s)

    def wave(self, period_s: float) -> F64:
        """A sine."""
        return _sine(self.time_s / period_s)

    def fault(self, name: str) -> F64:
        """How severe all faults of this kind are together; 0 where there is none."""
        time_ms = self.time_s * 1000
        found = [fault.at(time_ms) for fault in self._faults if fault.name == name]
        return np.sum(found, axis=0) if found else np.zeros(self.time_s.shape)

    def lag(self, towards: F64, tau_s: float, start: F64 | None = None) -> F64:
        """What follows with a time constant: tau dx/dt = towards - x, exact between steps.

        ``start`` [D]: where it begins; left out: where it would come to rest. A machine that is
        slower than `LONGEST_LAG_S` by its spread is as slow as that.
        """
        tau_s = min(tau_s, LONGEST_LAG_S)  # or a day would depend on the one before
        keeps = float(np.exp(-STEP_S / tau_s))
        start = towards[:, 0] if start is None else start
        first = (keeps * start)[:, None]  # the state of the filter before its first input
        out, _ = lfilter([1 - keeps], [1.0, -keeps], towards, axis=1, zi=first)
        return np.asarray(out, np.float64)

    def level(self, inflow: F64, disturbance: F64, *, area: float, gain: float) -> F64:
        """The height over its set point in a vessel that a proportional controller drains.

        Mass balance, step by step: area (h[k+1] - h[k]) = (inflow - outflow)[k] of one step, with
        outflow = disturbance + gain h. Flows in m3/h, area m2, gain m2/h, height m.
        """
        share = STEP_S / 3600 / area
        net = inflow - disturbance
        keeps = 1 - share * gain
        rest = (net[:, :1] / gain) * keeps
        after, _ = lfilter([share], [1.0, -keeps], net[:, :-1], axis=1, zi=rest)
        return np.concatenate([net[:, :1] / gain, np.asarray(after, np.float64)], axis=1)

    def _key(self, what: str) -> U64:
        return key(self._seed, self._name, what)

    def _running(self, stops_a_day: float) -> F64:
        """Stops at random times; and from a trip until its repair."""
        on = np.ones(self.time_s.shape)
        today = self.time_s // DAY_S
        for day in (today, today - 1):  # a stop may last past midnight
            begin = day * DAY_S + even(self._key("stop at"), day) * DAY_S
            shortest, longest = STOP_S
            length = shortest + even(self._key("stop for"), day) * (longest - shortest)
            stops = even(self._key("stops"), day) < stops_a_day
            on = np.minimum(on, np.where(stops, _standing(self.time_s, begin, begin + length), 1))
        for fault in self._faults:
            if fault.trip_ms is not None:
                stop = _standing(self.time_s, fault.trip_ms / 1000, fault.end_ms / 1000)
                on = np.minimum(on, stop)
        return on

    def _ambient(self) -> F64:
        """Shared by all machines of a seed: the hour, the weather, the season."""
        hour = _sine(self.time_s / DAY_S - 0.375)  # warmest at 15:00
        year = _sine(self.time_s / (365.25 * DAY_S) - 0.3)  # and in July
        weather = _smooth(key(self._seed, "weather"), self.time_s, WEATHER_S)
        return 18 + 5 * year + 4 * hour + 2 * weather

    def _load(self) -> F64:
        """Levels that are kept for hours, ramps between, and a little unrest."""
        slot = self.time_s // SLOT_S
        levels, changes = self._key("level"), self._key("change")
        before, after = _each(even, levels, slot - 1), _each(even, levels, slot)
        change_s = (slot + 0.8 * _each(even, changes, slot)) * SLOT_S
        moved: F64 = np.clip((self.time_s - change_s) / RAMP_S, 0.0, 1.0)
        level = before + (after - before) * moved
        return LEAST_LOAD + (1 - LEAST_LOAD) * level + 0.015 * self.wander("unrest", 120)


def _sine(turns: F64) -> F64:
    sine: F64 = np.sin(turns % 1.0 * (2 * np.pi))
    return sine


def _standing(time_s: I64, begin: F64 | float, end: F64 | float) -> F64:
    """1 but between: it coasts down from the begin on and starts up at the end."""
    down = 1 - (time_s - begin) / COAST_DOWN_S
    up = (time_s - end) / START_UP_S
    on: F64 = np.clip(np.maximum(down, up), 0.0, 1.0)
    return on


def _smooth(of: U64, time_s: I64, period_s: float) -> F64:
    """Random knots a period apart, joined by smooth steps."""
    knot, over = np.divmod(time_s / period_s, 1.0)
    number = knot.astype(np.int64)
    step = over * over * (3 - 2 * over)
    before = _each(normal, of, number)
    joined: F64 = before + (_each(normal, of, number + 1) - before) * step
    return joined


def _each(draw: Callable[[U64, I64], F64], of: U64, number: I64) -> F64:
    """The same as ``draw(of, number)``, drawing each number once."""
    first = int(number.min())
    drawn = draw(of, np.arange(first, int(number.max()) + 1))
    return drawn[number - first]

"""What a simulation shows: machines with physics, and waves and noise where there is none."""

import numpy as np
from numpy.typing import NDArray

from monitor.site.simulate import signals
from monitor.site.simulate.plan import Form, Simulation
from monitor.site.simulate.unit import Unit

# K ticks, A assets, C channels, M samples of a block, N samples of anything

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]


class Values:
    """All values of a simulation, worked out as they are asked for. NaN: no sample was sent."""

    def __init__(self, simulation: Simulation) -> None:
        """Raises ValueError for a fault that its machine cannot have."""
        self._seed, self._lanes = simulation.seed, simulation.lanes
        self._units = [
            [
                Unit(
                    lane.kind,
                    name,
                    seed=simulation.seed,
                    faults=[
                        fault.later(simulation.begin_ms)
                        for asset, fault in simulation.faults
                        if asset == name
                    ],
                    period_ms=lane.period_ms,
                    changes_only=lane.changes_only,
                )
                for name in (lane.asset_names if lane.kind else ())
            ]
            for lane in simulation.lanes
        ]

    @property
    def units(self) -> list[Unit]:
        """All machines with physics."""
        return [unit for units in self._units for unit in units]

    def of(self, number: int, ticks: I64) -> F64 | F32:
        """All of a lane at some ticks, rising: [K, A, C]; of blocks [K, A, C, M]."""
        lane, tick_K = self._lanes[number], np.asarray(ticks, np.int64)
        if lane.kind:
            shown = [unit.values(tick_K * lane.period_ms) for unit in self._units[number]]
            return np.stack(shown, axis=1)
        asset_A = lane.first + np.arange(lane.assets)[:, None]
        where = asset_A, np.arange(lane.channels), tick_K[:, None, None]
        if lane.form is Form.BLOCK:
            return signals.block(self._seed, *where, lane.samples)
        return signals.values(self._seed, *where)

    def at(self, number: int, place: I64, column: I64, tick: I64) -> F64 | F32:
        """Single values of a lane, [N], ticks in any order; of blocks [N, M]."""
        lane = self._lanes[number]
        if lane.form is Form.BLOCK:
            return signals.block(self._seed, lane.first + place, column, tick, lane.samples)
        if not lane.kind:
            return signals.values(self._seed, lane.first + place, column, tick)
        found = np.empty(len(tick))
        for one in np.unique(place).tolist():
            rows = np.flatnonzero(place == one)
            ticks, back = np.unique(tick[rows], return_inverse=True)
            shown = self._units[number][one].values(ticks * lane.period_ms)
            found[rows] = shown[back, column[rows]]
        return found

    def sent(self, number: int, ticks: I64) -> Bools:
        """Whether there is a sample, [K, A, C]."""
        lane = self._lanes[number]
        if not lane.kind:
            return np.ones((len(ticks), lane.assets, lane.channels), np.bool_)
        units = self._units[number]
        there = [np.isfinite(unit.values(ticks * lane.period_ms)) for unit in units]
        return np.stack(there, axis=1)

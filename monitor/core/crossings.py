"""When surprise raises a process alarm, and when it returns: one rule, live and in counting.

Between scores and alarms. Raised at the threshold, it returns below a share of it. Where
``return_ratio`` is set it returns, too, when surprise has fallen to a share of its own peak: slow
time scales ring on after a fault that has ended.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from connectors.batch import I64
from monitor.core.aggregate import Bool, Index
from monitor.core.conditions import Change, Conditions, Peaks
from monitor.core.plan import SECOND, AlarmSettings

# R rows, A assets


class Crossing(NamedTuple):
    """One process alarm that is raised or returns."""

    change: Change
    level: float  # that was reached, or fallen below
    peak: float  # the highest surprise since the last one at rest


class ProcessConditions:
    """Which process alarms a surprise raises and returns; live, and where they are counted."""

    def __init__(self, alarm: AlarmSettings, threshold: float, assets: int) -> None:
        self._alarm, self._threshold = alarm, threshold
        self._over = Conditions(
            np.full(assets, round(alarm.on_delay_s * SECOND)),
            np.full(assets, round(alarm.off_delay_s * SECOND)),
        )
        self._peaks = Peaks(assets)

    @property
    def busy(self) -> Bool:
        """Of which assets [A] more than a surprise over the threshold matters."""
        return self._over.busy | self._peaks.busy

    @property
    def raised(self) -> I64:
        """Since when an alarm of each asset [A] stands; NEVER where none does. A copy."""
        return self._over.raised

    def step(
        self,
        *,
        asset: Index,
        tick: I64,
        surprise: NDArray[np.float32],
        counts: Bool,
        fresh: Bool,
    ) -> list[Crossing]:
        """What rows [R] bring, in order of tick within each asset.

        ``counts`` marks the rows that say something, ``fresh`` those after a gap.
        """
        alarm, threshold = self._alarm, self._threshold
        clear = threshold * alarm.clear_ratio
        peak_R = self._peaks.step(asset, surprise, says=counts, rest=surprise < clear)
        trace_R = alarm.return_ratio * peak_R  # what a fault may leave behind
        over_R = np.maximum(threshold, trace_R / alarm.clear_ratio)
        clear_R = np.maximum(clear, trace_R)
        found = self._over.step(
            asset,
            tick,
            says=counts,
            entered=counts & (surprise >= over_R),
            left=counts & (surprise < clear_R),
            fresh=fresh,
        )
        return [
            Crossing(
                change,
                float((over_R if change.active else clear_R)[change.row]),
                float(peak_R[change.row]),
            )
            for change in found
        ]

    def settle(self, raised_A: I64) -> None:
        """Let exactly these be active, since then [A]; NEVER is normal."""
        self._over.settle(raised_A)

    def snapshot(self) -> dict[str, Any]:
        """What the next changes depend on."""
        return {"surprise": self._over.snapshot(), "peaks": self._peaks.snapshot()}

    def restore(self, tree: Mapping[str, Any], old_A: Index, new_A: Index) -> None:
        """Take back what ``snapshot`` gave: asset ``old_A[i]`` of it is asset ``new_A[i]`` here."""
        self._over.restore(tree["surprise"], old_A, new_A)
        if "peaks" in tree:  # else an earlier version wrote it
            self._peaks.restore(tree["peaks"], old_A, new_A)

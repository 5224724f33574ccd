"""One machine: what its instruments show at any moment.

The physics gives what is true; each instrument is off by a little, scatters, may be faulty, and
rounds. What is shown is a function of seed, machine and time alone: stretches of any length give
the same numbers. NaN: there was no sample.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from monitor.site.simulate.conditions import DAY_S, RUN_IN_S, STEP_S, Conditions
from monitor.site.simulate.faults import Family, Fault
from monitor.site.simulate.machines import KINDS
from monitor.site.simulate.measuring import measured

# N moments, C channels, D days, T steps, B blocks of moments, P moments of a block

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

DAY_MS, STEP_MS = DAY_S * 1000, STEP_S * 1000
MOST_DAYS = 8  # worked out at once
BLOCK_MS = 15 * 60_000  # where changes alone are reported, every value is once in so long
MOST_BLOCKS = MOST_DAYS * DAY_MS // BLOCK_MS


class Unit:
    """One machine of a kind, with what goes wrong in it."""

    def __init__(
        self,
        kind: str,
        name: str,
        *,
        seed: int,
        faults: Sequence[Fault] = (),
        period_ms: int = STEP_MS,
        changes_only: bool = False,
    ) -> None:
        """Args:
        kind: One of ``KINDS``.
        name: Two names are two machines of the kind.
        seed: Other seeds, other weather and other machines.
        faults: What goes wrong, in any order.
        period_ms: From sample to sample; a divisor of 15 min where changes alone are reported.
        changes_only: Whether a sample is left out that is as the one reported last, within the
        instrument's dead band.

        Raises ValueError for a fault that this machine cannot have.
        """  # noqa: D205 - the arguments are all there is to say
        self.kind, self.name, self.faults = KINDS[kind], name, tuple(faults)
        self._seed, self._period_ms, self._changes_only = seed, period_ms, changes_only
        self._own = f"{kind}/{name}"
        self._days: tuple[int, int, F64] = (0, 0, np.empty(0))  # the first one, how many, values
        self._blocks: tuple[int, F64] = (0, np.empty(0))  # that were looked at last
        self._onsets: dict[Fault, float] = {}
        for fault in self.faults:
            self._check(fault)

    def _check(self, fault: Fault) -> None:
        if fault.kind.family is Family.PROCESS:
            if fault.name not in self.kind.faults:
                raise ValueError(
                    f"{self.name}: got the fault {fault.name}, want one that a {self.kind.name} "
                    f"can have: {', '.join(self.kind.faults)}"
                )
            if fault.channel is not None:
                raise ValueError(
                    f"{self.name}: {fault.name} is a fault of the process and has no channel; got "
                    f"{fault.channel}"
                )
        elif fault.channel not in self.kind.instruments:
            raise ValueError(
                f"{self.name}: {fault.name} is a fault of an instrument; got the channel "
                f"{fault.channel}, want one of {', '.join(self.kind.instruments)}"
            )

    def channels_of(self, fault: Fault) -> tuple[str, ...]:
        """The channels that show a fault, the one that shows it most first."""
        return self.kind.faults[fault.name] if fault.channel is None else (fault.channel,)

    def truth(self, time_ms: I64) -> F64:
        """What is true in the machine at these moments, [N, C]; ms since 1970 UTC, rising."""
        out = np.empty((len(time_ms), len(self.kind.instruments)))
        day_N = time_ms // DAY_MS
        start = 0
        while start < len(time_ms):
            end = int(np.searchsorted(day_N, day_N[start] + MOST_DAYS))
            first, last = int(day_N[start]), int(day_N[end - 1])
            days = self._physics(first, last)
            since_ms = time_ms[start:end] - first * DAY_MS
            day, within_ms = np.divmod(since_ms, DAY_MS)
            step, rest_ms = np.divmod(within_ms, STEP_MS)
            found = days[:, day, step]
            if rest_ms.any():
                found = found + (days[:, day, step + 1] - found) * (rest_ms / STEP_MS)
            out[start:end] = found.T
            start = end
        return out

    def values(self, time_ms: I64) -> F64:
        """What is shown at these moments, [N, C]; multiples of the period, rising.

        NaN: there was no sample, for it was lost or nothing had changed.
        """
        time_ms = np.asarray(time_ms, np.int64)
        if not self._changes_only:
            return self._shown(time_ms)
        out = np.empty((len(time_ms), len(self.kind.instruments)))
        block_N, within_N = np.divmod(time_ms, BLOCK_MS)
        start = 0
        while start < len(time_ms):
            end = int(np.searchsorted(block_N, block_N[start] + MOST_BLOCKS))
            first, reported_BPC = self._reported(int(block_N[start]), int(block_N[end - 1]))
            rows = slice(start, end)
            out[rows] = reported_BPC[block_N[rows] - first, within_N[rows] // self._period_ms]
            start = end
        return out

    def _physics(self, first: int, last: int) -> F64:
        """What is true in some days, [C, D, T], the midnight after each included."""
        known, count, values = self._days
        if known <= first and last < known + count:
            return values[:, first - known : last - known + 1]
        conditions = Conditions(
            self._seed,
            self._own,
            first_day=first,
            days=last - first + 1,
            faults=[fault for fault in self.faults if fault.kind.family is Family.PROCESS],
            stops_a_day=self.kind.stops_a_day,
        )
        true = self.kind.physics(conditions)
        values = np.stack([true[channel] for channel in self.kind.instruments])
        self._days = first, last - first + 1, values[:, :, RUN_IN_S // STEP_S :]
        return self._days[2]

    def _shown(self, time_ms: I64) -> F64:
        shown = self.truth(time_ms)
        for column, channel in enumerate(self.kind.instruments):
            faults = {
                fault: self._onset(fault) for fault in self.faults if fault.channel == channel
            }
            shown[:, column] = self._measured(channel, shown[:, column], time_ms, faults)
        return shown

    def _onset(self, fault: Fault) -> float:
        """What its channel would show, were it healthy, when a fault of an instrument begins."""
        if fault not in self._onsets:
            assert fault.channel is not None  # noqa: S101 - looked at when it was given
            column = list(self.kind.instruments).index(fault.channel)
            moment = np.array([-(-fault.onset_ms // self._period_ms) * self._period_ms])
            true = self.truth(moment)[:, column]
            self._onsets[fault] = float(self._measured(fault.channel, true, moment, {})[0])
        return self._onsets[fault]

    def _measured(
        self, channel: str, true_N: F64, time_ms: I64, faults: Mapping[Fault, float]
    ) -> F64:
        return measured(
            true_N,
            time_ms,
            self.kind.instruments[channel],
            seed=self._seed,
            name=f"{self._own}/{channel}",
            faults=faults,
        )

    def _reported(self, first: int, last: int) -> tuple[int, F64]:
        """What of some blocks is reported: the number of the first, and [B, P, C].

        The first sample of a block, then those that differ from the one reported before.
        """
        known, reported = self._blocks
        if known <= first and last < known + len(reported):
            return self._blocks
        times = np.arange(first * BLOCK_MS, (last + 1) * BLOCK_MS, self._period_ms)
        reported = self._shown(times).reshape(last - first + 1, BLOCK_MS // self._period_ms, -1)
        deadband = np.array([one.deadband for one in self.kind.instruments.values()])
        held = np.full(reported[:, 0].shape, np.inf)  # nothing yet: whatever comes has changed
        for moment in range(reported.shape[1]):
            now = reported[:, moment]
            changed = np.abs(now - held) >= deadband  # never where nothing came
            held = np.where(changed, now, held)
            now[~changed] = np.nan
        self._blocks = first, reported
        return self._blocks

"""The labels of process faults agree with the physics of their machines (decision 56)."""

from itertools import pairwise

import numpy as np
import pytest

from monitor.site.simulate.faults import DAY_MS, FAULTS, Fault
from monitor.site.simulate.machines import KINDS
from monitor.site.simulate.unit import Unit

SEED, UNITS = 77, 4
BEGIN = 20_454 * DAY_MS
ONSET = BEGIN + 7 * DAY_MS  # of the first unit's fault; the week before is what health is
TIMES = np.arange(BEGIN, ONSET + 6 * DAY_MS, 60_000)
SHOWN = 0.5  # of the deviation of the channel that shows it most
TIE = 0.1  # channels this near in their deviations may stand in either order


def runs(kind, truth_NC):
    if kind.running is None:
        return np.ones(len(truth_NC), np.bool_)
    channel, above = kind.running
    return truth_NC[:, list(kind.instruments).index(channel)] > above


def spread_of(kind, truth_NC):
    """Of what each instrument shows of a healthy machine: the truth, its noise, its steps."""
    noise_C = [
        np.mean((one.noise + one.share * np.abs(truth_N)) ** 2) + one.per_unit**-2 / 12
        for one, truth_N in zip(kind.instruments.values(), truth_NC.T, strict=True)
    ]
    return np.sqrt(truth_NC.var(axis=0) + noise_C)


def deviations_of(kind, number):
    """How far each fault moves each channel of a unit, [F, C]: medians, in healthy spreads."""
    unit = {"name": f"unit_{number}", "seed": SEED}
    healthy_NC = Unit(kind.name, **unit).truth(TIMES)
    week_NC = healthy_NC[TIMES < ONSET]
    spread_C = spread_of(kind, week_NC[runs(kind, week_NC)])
    found = []
    for name in kind.faults:
        onset_ms = ONSET + number * DAY_MS // UNITS
        fault = Fault(name=name, onset_ms=onset_ms, end_ms=onset_ms + FAULTS[name].lasts_ms)
        during = (fault.onset_ms <= TIMES) & (fault.end_ms > TIMES)
        without_NC = healthy_NC[during]
        with_NC = Unit(kind.name, **unit, faults=[fault]).truth(TIMES[during])
        both = runs(kind, without_NC) & runs(kind, with_NC)
        found.append(np.median(np.abs(with_NC - without_NC)[both], axis=0) / spread_C)
    return np.array(found)


@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_a_label_names_the_channels_that_a_fault_moves_at_least_half_as_far_as_any(kind):
    channels = list(kind.instruments)
    moved_FC = np.median([deviations_of(kind, number) for number in range(UNITS)], axis=0)
    wrong = []
    for (name, label), moved_C in zip(kind.faults.items(), moved_FC, strict=True):
        order = np.argsort(-moved_C)
        wanted = tuple(channels[c] for c in order if moved_C[c] >= SHOWN * moved_C.max())
        along = [moved_C[channels.index(channel)] for channel in label]
        falls = all(after <= before * (1 + TIE) for before, after in pairwise(along))
        if set(label) != set(wanted) or not falls:
            told = ", ".join(f"{channels[c]} {moved_C[c]:.2f}" for c in order)
            wrong.append(f"{name}: got {label}, want {wanted}: it moves {told}")
    assert not wrong, f"{kind.name}.py, faults:\n" + "\n".join(wrong)

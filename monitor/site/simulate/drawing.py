"""Faults chosen by chance: each kind that the machines can have, one after the other in each."""

from collections.abc import Mapping

from monitor.site.simulate.chance import even, key
from monitor.site.simulate.faults import FAULTS, Family, Fault
from monitor.site.simulate.machines import KINDS

SEVERITY = (0.7, 1.5)  # from, to
REST = 0.5  # between two faults of a machine, in times of the first one; a lag has forgotten it
WHOLE_MS = 60_000
LEAST_REST_MS = 6 * 3_600_000


def drawn(
    machines: Mapping[str, int],
    families: tuple[Family, ...],
    *,
    seed: int,
    since_ms: int,
    until_ms: int,
) -> tuple[tuple[str, Fault], ...]:
    """One fault of each kind for each kind of machine: which machine has it, and the fault.

    The first machine of several stays healthy. Faults of instruments take the channels in turn.

    Raises ValueError where the time does not suffice.
    """
    found = []
    for kind, count in machines.items():
        free_ms = dict.fromkeys(range(1 if count == 1 else 2, count + 1), since_ms)
        for name, channel in _of(kind, families, seed):
            own = key(seed, kind, name)
            number = min(free_ms, key=free_ms.__getitem__)
            lasts_ms = FAULTS[name].lasts_ms
            rest_ms = max(int(REST * lasts_ms), LEAST_REST_MS)
            waits_ms = int(rest_ms * even(own, 0)[0])
            onset_ms = free_ms[number] + waits_ms // WHOLE_MS * WHOLE_MS
            free_ms[number] = onset_ms + lasts_ms + rest_ms
            least, most = SEVERITY
            fault = Fault(
                name=name,
                onset_ms=onset_ms,
                end_ms=onset_ms + lasts_ms,
                severity=round(least + (most - least) * float(even(own, 1)[0]), 2),
                channel=channel,
            )
            found.append((f"{kind}_{number}", fault))
        if (over_ms := max(fault.end_ms for _, fault in found) - until_ms) > 0:
            raise ValueError(
                f"the faults of {count} machines of the kind {kind} need "
                f"{over_ms / 86_400_000:.1f} days more than there are; want more days, more "
                f"machines, or fewer faults."
            )
    return tuple(found)


def _of(kind: str, families: tuple[Family, ...], seed: int) -> list[tuple[str, str | None]]:
    """The faults of a kind of machine, the long ones first, with the channel of an instrument."""
    channels = list(KINDS[kind].instruments)
    turn = int(even(key(seed, kind), 0)[0] * len(channels))
    found: list[tuple[str, str | None]] = []
    for name, fault in FAULTS.items():
        if fault.family not in families:
            continue
        if fault.family is Family.INSTRUMENT:
            found.append((name, channels[turn % len(channels)]))
            turn += 1
        elif name in KINDS[kind].faults:
            found.append((name, None))
    return sorted(found, key=lambda one: -FAULTS[one[0]].lasts_ms)

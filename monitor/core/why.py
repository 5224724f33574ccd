"""Why an alarm is raised, and why it returns, in words that a person can act on.

What was crossed and for how long, and which channels it came from, against what was expected.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from models.contract import Deviation
from monitor.core.crossings import Crossing
from monitor.core.plan import KindSettings
from monitor.core.records import Scores
from monitor.core.words import duration, form

# C channels

ALONE = 0.9  # share in the blame: a drift of the sensor looks the same


def crossed(surprise: float, crossing: Crossing, threshold: float, kind: KindSettings) -> str:
    """What was crossed, in words, and for how long; where it returns, from how high."""
    alarm, (change, level, peak) = kind.alarm, crossing
    if change.active:
        return f"{surprise:.1f} at or over {level:.1f}{lasting(alarm.on_delay_s, kind)}"
    words = f"{surprise:.1f} below {level:.1f}{lasting(alarm.off_delay_s, kind)}"
    if alarm.return_ratio * peak > threshold * alarm.clear_ratio:
        words += f"; it had been {peak:.1f}"
    return words


def lasting(delay_s: float, kind: KindSettings) -> str:
    """For how long it was seen: frames as far as the delay; nothing where one was enough."""
    seen_s = math.ceil(delay_s * 1000 / kind.tick_ms) * kind.tick_ms / 1000
    return f" for {duration(seen_s)}" if delay_s else ""


def blamed(
    blame: Mapping[str, float],
    scores: Scores,
    row: int,
    found: Deviation | None,
    kind: KindSettings,
) -> str:
    """Where a surprise comes from, in words: the first channel against what was expected."""
    if not blame:
        return ""
    first, *others = shares(blame)
    name = next(iter(blame))
    at = row, list(kind.channels).index(name)
    unit = kind.channels[name].unit
    against = (
        _off(found, at[1], unit=unit, tick_ms=kind.tick_ms)
        if found is not None
        else _against(
            float(scores.value[at]),
            float(scores.expected[at]),
            float(scores.spread[at]),
            unit=unit,
        )
    )
    then = f"; then {', '.join(others)}" if others else ""
    lonely = "; no other disagrees: see to its sensor, too" if scores.blame[at] >= ALONE else ""
    return f"; most of it from {first}{against}{then}{lonely}"


def _off(found: Deviation, channel: int, *, unit: str | None, tick_ms: int) -> str:
    """How far a channel lay from what was expected, over the time in which that was strange."""
    by, times = float(found.by[channel]), float(found.times[channel])
    if not (math.isfinite(by) and math.isfinite(times)):
        return ""
    ticks = int(found.ticks[channel])
    over = f"averaged over {duration(ticks * tick_ms / 1000)} " if ticks > 1 else ""
    far = f"{abs(by):{form(abs(by) or 1.0, digits=2)}} {unit or ''}".rstrip()
    others = " beside the others" if np.isfinite(found.by).sum() > 1 else ""
    return (
        f": {over}{far} {'above' if by > 0 else 'below'} what was expected{others}, "
        f"{times:.1f} times its healthy spread"
    )


def _against(value: float, expected: float, spread: float, *, unit: str | None) -> str:
    """What was measured, against what was expected, as exactly as the spread makes sense of.

    Nothing where one of the two is not known, or where this one frame shows nothing odd.
    """
    if not (math.isfinite(value) and math.isfinite(expected)) or abs(value - expected) < spread:
        return ""
    as_said, within = ".6g", ""  # a float32 has no more
    if math.isfinite(spread) and spread > 0:
        as_said = form(spread, digits=1)
        within = f" +- {spread:{as_said}}"
    shown = f": measured {value:{as_said}}, expected {expected:{as_said}}{within}"
    return f"{shown} {unit or ''}".rstrip()


def largest_first(channels: Sequence[str], blame_C: NDArray[np.float32]) -> dict[str, float]:
    """The channels with a share in it."""
    order = np.argsort(-blame_C, kind="stable")
    return {channels[c]: float(blame_C[c]) for c in order if blame_C[c] > 0}


def shares(blame: Mapping[str, float]) -> list[str]:
    """The first three channels with their shares, in words."""
    return [f"{name} {share:.0%}" for name, share in blame.items()][:3]

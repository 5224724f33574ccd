"""Lengths of time, and numbers, as people read them: for reasons and findings."""

import math

UNITS = ((86_400, "days"), (3600, "h"), (60, "min"))  # in s, the largest first
MOST_DIGITS = 6  # behind the point; smaller ones are written with an exponent


def duration(seconds: float) -> str:
    """``45 s``, ``3.7 min``, ``12 h``, ``9.5 days``."""
    for unit, name in UNITS:
        if seconds >= 2 * unit:
            return f"{seconds / unit:.1f}".removesuffix(".0") + f" {name}"
    return f"{seconds:.3g} s"


def form(size: float, digits: int) -> str:
    """The format for numbers in which ``size``, more than 0, has so many digits."""
    behind = max(digits - 1 - math.floor(math.log10(size)), 0)
    return f".{behind}f" if behind <= MOST_DIGITS else ".6g"  # a float32 has no more

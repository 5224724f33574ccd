"""What several commands say in the same words."""

import math
from typing import TYPE_CHECKING, Any

from monitor.cli import console

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.threshold import Support


def stands_behind(support: "Support", *, provisional: bool) -> str:
    """What a threshold keeps, and how sure that is."""
    from monitor.history.budget import wanted_days  # noqa: PLC0415 - commands import when they run

    budget = support.per_asset_30_days
    healthy = console.duration(support.healthy_days * 86_400)
    wanted = console.duration(wanted_days(budget) * 86_400)
    keeps = f"{alarms(budget)} per asset in 30 days"
    more = math.expm1(support.unlike)
    raised = f"; raised by {more:.0%}, for the machines differ and are few" if more > 0.01 else ""
    if provisional:
        return (
            f"provisional, for {healthy} of healthy time cannot say whether it keeps to "
            f"{keeps}; {wanted} would{raised}"
        )
    return f"at most {keeps}, by {healthy} of healthy time{raised}"


def alarms(number: float) -> str:
    """``1 alarm``, ``0.5 alarms``."""
    return f"{figure(number)} {'alarm' if number == 1 else 'alarms'}"


def looks_like(diagnosis: "Mapping[str, Any] | None") -> str:
    """What an alarm of `status` looks like, behind its reason; nothing where nobody says."""
    from models.naming import Named  # noqa: PLC0415 - commands import when they run

    return "" if diagnosis is None else f"  ({Named(**diagnosis)})"


def figure(number: float) -> str:
    """Three digits of a number that may be large or small: ``0.107``, ``2.5``, ``30,000``."""
    return f"{float(f'{number:.3g}'):,g}"

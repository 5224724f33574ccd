"""How many process alarms there were, beside the budget; nothing is held back where it is spent.

Counted back from the newest score, so a recording of last year counts as it did then.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from monitor.core.plan import DAY, BudgetSettings
from monitor.core.records import AlarmClass
from monitor.state.store import Store

MONTH, WEEK = 30 * DAY, 7 * DAY


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """The alarm budget, and what of it was used."""

    per_asset_30_days: float
    per_site_week: float
    alarms_30_days: Mapping[str, int]  # by asset, those without any left out
    alarms_week: int  # of the whole site
    over: tuple[str, ...]  # the assets with more than their budget
    site_over: bool


def spent(store: Store, budget: BudgetSettings) -> Spent:
    """How it stands by the newest score."""
    newest = store.newest()
    month = store.raised(AlarmClass.PROCESS, since=newest - MONTH)
    week = sum(store.raised(AlarmClass.PROCESS, since=newest - WEEK).values())
    return Spent(
        per_asset_30_days=budget.per_asset_30_days,
        per_site_week=budget.per_site_week,
        alarms_30_days=month,
        alarms_week=week,
        over=tuple(name for name, count in month.items() if count > budget.per_asset_30_days),
        site_over=week > budget.per_site_week,
    )

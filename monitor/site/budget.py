"""The alarm budget of a plant against its history, as JSON values: what `watchkeeper budget` says.

For each kind the threshold that the budget leads to, others for less and for more, and what each
would have alarmed.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any
from zoneinfo import ZoneInfo

from models.bundle import Bundle
from monitor.core.kind import threshold_of
from monitor.core.plan import SECOND, BudgetSettings
from monitor.history.budget import (
    DAYS,
    same_delays,
    threshold_for,
    wanted_days,
)
from monitor.history.episodes import Episode
from monitor.history.review import Alarmed, Scored, alarmed, by_month, by_week, months, weeks
from monitor.site.config import Config
from monitor.site.past import Reviewed
from monitor.site.settings import Kind

OTHERS = (0.1, 0.3, 1.0, 3.0, 10.0)  # of the budget: what the table shows beside it
STEPS = (1.0, 0.5, 0.0, -0.5, -1.0)  # surprise: where there is no budget to vary


def report(config: Config, reviewed: Reviewed, budget: BudgetSettings) -> dict[str, Any]:
    """What would have fired, by kind, asset and month, and for the site by week."""
    zone = ZoneInfo(config.site.timezone)
    rate = budget.each(config.scored_assets)
    traces = [one.trace for scored in reviewed.scored.values() for one in scored]
    since = min(int(trace.tick[0]) for trace in traces)
    until = max(int(trace.tick[-1]) for trace in traces)
    kinds, chosen = {}, {}
    for name, scored in reviewed.scored.items():
        kinds[name], chosen[name] = _kind(
            config.kinds[name], reviewed.bundles[name], scored, rate, zone
        )
    found = sorted(
        ((name, *pair) for name, one in chosen.items() for pair in one.episodes),
        key=lambda each: each[2].raised,
    )
    raised = [episode.raised for _, _, episode in found]
    watched_days = sum(trace.watched_s for trace in traces) / 86_400
    return {
        "budget": {**budget.model_dump(), "each_asset_30_days": rate},
        "history": {
            "since_ns": since,
            "until_ns": until,
            "assets": len(traces),
            "watched_days": watched_days,
        },
        "allowed": rate / DAYS * watched_days,
        "alarms": len(found),
        "kinds": kinds,
        "assets": _assets(chosen, reviewed, months(since, until, zone), zone),
        "weeks": dict.fromkeys(weeks(since, until, zone), 0) | by_week(raised, zone),
        "episodes": [_episode(name, one, episode) for name, one, episode in found],
        "warnings": list(reviewed.rejections),
    }


def _kind(
    kind: Kind, bundle: Bundle, scored: Sequence[Scored], rate: float, zone: ZoneInfo
) -> tuple[dict[str, Any], Alarmed]:
    """The thresholds of a kind, and what the one of the budget would have alarmed."""
    in_force, support = threshold_of(kind, bundle), bundle.card.support
    assert in_force is not None  # noqa: S101 - there is a model
    by_hand = kind.alarm.threshold != "auto"
    levels: list[dict[str, Any]]
    if by_hand or support is None:
        levels = [
            {"per_asset_30_days": None, "threshold": at, "provisional": None, "chosen": not step}
            for step in STEPS
            if (at := in_force + step) > 0
        ]
    else:
        levels = [
            {
                "per_asset_30_days": rate * share,
                "threshold": (made := threshold_for(support, rate * share)).value,
                "provisional": made.provisional,
                "chosen": share == 1,
            }
            for share in OTHERS
        ]
    found = []
    for level in levels:
        found.append(alarmed(scored, kind.alarm, level["threshold"]))
        level.update(_counts(found[-1], zone))
    place = next(n for n, level in enumerate(levels) if level["chosen"])
    return {
        "threshold": levels[place]["threshold"],
        "provisional": bool(levels[place]["provisional"]),
        "in_force": in_force,
        "by_hand": by_hand,
        "support": None
        if support is None
        else {
            "healthy_days": support.healthy_days,
            "wanted_days": wanted_days(rate),
            "assets": support.assets,
            "allowed": rate / DAYS * support.healthy_days,
            "same_delays": same_delays(support, kind.alarm),
            "counted": [list(pair) for pair in support.counted],
            "tail": None if support.tail is None else support.tail.model_dump(exclude={"excess"}),
            "peaks": 0 if support.tail is None else len(support.tail.excess),
        },
        "levels": levels,
    }, found[place]


def _counts(one: Alarmed, zone: ZoneInfo) -> dict[str, Any]:
    raised = [episode.raised for _, episode in one.episodes]
    months_of: Counter[tuple[str, str]] = Counter()
    for scored, episode in one.episodes:
        (month,) = by_month([episode.raised], zone)
        months_of[scored.trace.asset, month] += 1
    return {
        "alarms": len(raised),
        "most_asset_month": max(months_of.values(), default=0),
        "most_week": max(by_week(raised, zone).values(), default=0),
    }


def _assets(
    chosen: dict[str, Alarmed], reviewed: Reviewed, all_months: Sequence[str], zone: ZoneInfo
) -> dict[str, Any]:
    found = {}
    for name, scored in reviewed.scored.items():
        for one in scored:
            raised = [episode.raised for owner, episode in chosen[name].episodes if owner is one]
            found[one.trace.asset] = {
                "kind": name,
                "watched_days": one.trace.watched_s / 86_400,
                "alarms": len(raised),
                "months": dict.fromkeys(all_months, 0) | by_month(raised, zone),
            }
    return found


def _episode(kind: str, scored: Scored, episode: Episode) -> dict[str, Any]:
    last = int(scored.trace.tick[-1]) if episode.returned is None else episode.returned
    return {
        "asset": episode.asset,
        "kind": kind,
        "raised_ns": episode.raised,
        "returned_ns": episode.returned,
        "lasted_s": (last - episode.raised) / SECOND,
        "peak": episode.peak,
        "channels": scored.blamed(episode),
    }

"""`watchkeeper budget`: what would have fired, before it may."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from monitor.cli import console
from monitor.cli.words import alarms, figure

if TYPE_CHECKING:
    from monitor.site.config import Config

MOST_WEEKS = 26  # shown, the last ones; --json has them all
MOST_MONTHS = 12
COLUMNS = (
    "per asset in 30 days",
    "threshold",
    "alarms",
    "most of an asset in a month",
    "in a week",
)


def command(
    file: Annotated[Path, typer.Argument(help="The configuration, a YAML file.")],
    *,
    since: Annotated[
        str | None, typer.Option(help="Nothing before this, as 2026-03-01T06:00:00Z.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="Nothing after this, as 2026-03-01T06:00:00Z.")
    ] = None,
    per_asset: Annotated[
        float | None,
        typer.Option(
            help="Try so many alarms for each asset in 30 days, not those of the configuration.",
        ),
    ] = None,
    per_site: Annotated[
        float | None, typer.Option(help="Try so many for the whole site in a week.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Draw it, too: thresholds, weeks and months, into this PNG.")
    ] = None,
    apply: Annotated[
        bool,
        typer.Option(
            "--apply",
            help="Put the thresholds of the budget on the models' cards; they count from the next "
            "start or reload.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Show what the models would have alarmed over the history, for the alarm budget and others.

    Scores the history of the sources with the code of the live run; nothing is stored, live state
    and alarms are not touched. An alarm counts once, however long it stands; alarms of plain limits
    do not count, for no budget decides on them. `provisional` is a threshold that the healthy
    history behind the model is too short for.
    """
    from monitor.live.clock import SystemClock  # noqa: PLC0415 - commands import when they run
    from monitor.site import past, plant  # noqa: PLC0415 - as above
    from monitor.site.budget import report  # noqa: PLC0415 - as above
    from monitor.site.config import load  # noqa: PLC0415 - as above

    config = load(file)
    start, end = console.instant(since, "--since"), console.instant(until, "--until")
    given = {"per_asset_30_days": per_asset, "per_site_week": per_site}
    for option, number in (("--per-asset", per_asset), ("--per-site", per_site)):
        if number is not None and not 0 < number < math.inf:
            raise console.StopError(
                f"{option}: got {number:g}, want more than 0: no history can promise that nothing "
                f"is ever raised.",
                code=console.Exit.USAGE,
            )
    budget = config.site.alarm_budget.model_copy(
        update={name: number for name, number in given.items() if number is not None}
    )
    with console.reading("scoring") as progress:
        reviewed = past.review_history(
            config, clock=SystemClock(), since=start, until=end, progress=progress
        )
    with console.reading("counting alarms"):
        found = report(config, reviewed, budget)
    for name, kind in found["kinds"].items() if apply else ():
        if not kind["by_hand"]:
            kind["in_force"] = plant.apply_budget(
                config, name, found["budget"]["each_asset_30_days"]
            )
    if picture is not None:
        from monitor.history.budget_plot import draw  # noqa: PLC0415 - matplotlib takes its time

        draw(found, picture)
    if as_json:
        console.say_json(found)
        return
    _say(found, config)
    if picture is not None:
        console.say(("drawn: ", "bold green"), str(picture))


def _say(found: dict[str, Any], config: "Config") -> None:
    zone = config.site.timezone
    budget, history = found["budget"], found["history"]
    each = budget["each_asset_30_days"]
    share = f": {figure(each)} for each asset" if each < budget["per_asset_30_days"] else ""
    console.say(
        f"budget   {alarms(budget['per_asset_30_days'])} per asset in 30 days, "
        f"{figure(budget['per_site_week'])} per site in a week{share}"
    )
    console.say(
        f"history  {console.local(history['since_ns'], zone)} to "
        f"{console.local(history['until_ns'], zone)}, "
        f"{console.count(history['assets'], 'asset')}, "
        f"{console.duration(history['watched_days'] * 86_400)} watched"
    )
    for warning in found["warnings"]:
        console.say(("warning  ", "yellow"), warning)
    for name, kind in found["kinds"].items():
        _say_kind(name, kind, each)
    over = found["alarms"] > found["allowed"]
    console.say(
        "alarms   ",
        (f"{found['alarms']:,}", "bold red" if over else "green"),
        f" would have been raised; the budget allows {figure(found['allowed'])} in this time",
    )
    _say_months(found["assets"])
    weeks = list(found["weeks"].items())[-MOST_WEEKS:]
    console.say("weeks    ", ", ".join(f"{week}: {number}" for week, number in weeks))
    for episode in found["episodes"][: console.MOST_SHOWN]:
        channels = ", ".join(f"{name} {part:.0%}" for name, part in episode["channels"].items())
        lasted = console.duration(episode["lasted_s"])
        console.say(
            f"{console.local(episode['raised_ns'], zone)}  {episode['asset']}  "
            f"{lasted if episode['returned_ns'] else f'{lasted}, still standing'}  "
            f"surprise up to {episode['peak']:.1f}  {channels}"
        )
    if (more := len(found["episodes"]) - console.MOST_SHOWN) > 0:
        console.say(f"... and {more} more; --json lists them all")


def _say_kind(name: str, kind: dict[str, Any], rate: float) -> None:
    """The threshold of a kind, how sure it is, and a table of others."""
    support = kind["support"]
    sure: tuple[str, str] | str = ""
    if kind["by_hand"]:
        how = "as the configuration says, whatever the budget"
    elif support is None:
        how = "of a model from before budgets: train it again"
        sure = (" (provisional)", "yellow")
    else:
        how = f"for {alarms(rate)} per asset in 30 days"
        healthy = console.duration(support["healthy_days"] * 86_400)
        wanted = console.duration(support["wanted_days"] * 86_400)
        sure = f", by {healthy} of healthy time"
        if kind["provisional"]:
            sure = (
                f" (provisional: {healthy} of healthy time cannot say; {wanted} would)",
                "yellow",
            )
    console.say(
        ("kind     ", ""), f"{name}: alarms at a surprise of {kind['threshold']:.2f}, {how}", sure
    )
    if support is not None and not kind["by_hand"] and not support["same_delays"]:
        changed = "`alarm` has changed since it was trained: its threshold is of other delays"
        console.say("         ", (f"{changed}; train it again", "yellow"))
    if abs(kind["in_force"] - kind["threshold"]) > 1e-9:
        console.say(
            f"         in force is {kind['in_force']:.2f}, chosen for another budget; --apply puts "
            f"{kind['threshold']:.2f} on the model's card"
        )
    console.say((f"         {'   '.join(COLUMNS)}", "dim"))
    for level in kind["levels"]:
        asked = level["per_asset_30_days"]
        mark = ">" if level["chosen"] else " "
        budget = "" if asked is None else figure(asked)
        console.say(
            f"       {mark} {budget:>20}   {level['threshold']:>9.2f}   {level['alarms']:>6,}"
            f"   {level['most_asset_month']:>27,}   {level['most_week']:>9,}",
            ("  provisional", "yellow") if level["provisional"] else "",
        )


def _say_months(assets: dict[str, Any]) -> None:
    """Alarms by asset and month; those with the most first."""
    ranked = sorted(assets.items(), key=lambda one: (-one[1]["alarms"], one[0]))
    shown = ranked[: console.MOST_SHOWN]
    names = list(shown[0][1]["months"])[-MOST_MONTHS:]
    width = max(len(name) for name, _ in shown)
    console.say((f"         {'':<{width}}  {'  '.join(names)}", "dim"))
    for name, asset in shown:
        cells = "  ".join(f"{asset['months'][month]:>7,}" for month in names)
        console.say(f"asset    {name:<{width}}  {cells}")
    if len(ranked) > len(shown):
        rest = sum(asset["alarms"] for _, asset in ranked[len(shown) :])
        console.say(f"         and {len(ranked) - len(shown)} more assets with {rest:,} in all")

"""The alarm budget against a history, as a picture: what `watchkeeper budget` says.

A panel for each kind, how many alarms each threshold makes; one of the weeks of the site; one of
the assets and months. Drawn from the report of monitor/site/budget.py.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from monitor.history.inks import EXPECTED, INK, MUTED, RULE, STRANGE
from monitor.history.plot import BLAME, DPI

ACROSS, PANEL, ROW = 12.0, 2.8, 0.22  # inches
MOST_ASSETS = 40  # with the most alarms


def draw(found: Mapping[str, Any], path: Path) -> None:
    """Write the picture of a report, as a PNG. Raises OSError where it cannot be written."""
    figure_of(found).savefig(path, dpi=DPI, format="png")


def figure_of(found: Mapping[str, Any]) -> Figure:
    """The same, not yet written; each panel is labelled with what it shows."""
    kinds, assets = found["kinds"], _worst(found["assets"])
    heights = [PANEL] * (len(kinds) + 1) + [max(ROW * len(assets), 0.6)]
    figure = Figure(figsize=(ACROSS, sum(heights) + 0.9 * len(heights)), layout="constrained")
    panels = figure.subplots(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    for panel, (name, kind) in zip(panels, kinds.items(), strict=False):
        _draw_kind(panel, name, kind, found["budget"]["each_asset_30_days"])
    _draw_weeks(panels[-2], found)
    _draw_months(panels[-1], assets)
    for panel in panels:
        panel.tick_params(colors=MUTED, labelcolor=INK)
        for side in panel.spines.values():
            side.set_color(RULE)
    return figure


def _worst(assets: Mapping[str, Any]) -> dict[str, Any]:
    ranked = sorted(assets.items(), key=lambda one: (-one[1]["alarms"], one[0]))
    return dict(ranked[:MOST_ASSETS])


def _draw_kind(panel: Axes, name: str, kind: Mapping[str, Any], budget: float) -> None:
    """Alarms an asset and 30 days over the threshold: healthy ones, the budget, the threshold."""
    panel.set_label(f"kind {name}")
    panel.set_yscale("log")
    support = kind["support"]
    if support is not None and support["healthy_days"] > 0:
        level, alarms = np.array(support["counted"], np.float64).T
        rate = alarms / support["healthy_days"] * 30
        floor = min([budget, *rate[rate > 0]]) / 10  # a logarithm has no 0
        panel.set_ylim(bottom=floor)
        seen = np.maximum(rate, floor)
        panel.step(level, seen, where="pre", color=INK, label="healthy, counted")
        if (tail := support["tail"]) is not None:
            beyond = np.linspace(tail["start"], max(kind["threshold"], level.max()) + 1, 200)
            far = (beyond - tail["start"]) / tail["scale"]
            shape = tail["shape"]
            share = np.exp(-far) if shape == 0 else (1 + shape * far) ** (-1 / shape)
            fitted = share * support["peaks"] / support["healthy_days"] * 30
            panel.plot(beyond, fitted, color=EXPECTED, label="healthy, fitted tail")
    panel.axhline(budget, color=MUTED, linestyle=":", label="budget")
    word = ", provisional" if kind["provisional"] else ""
    panel.axvline(
        kind["threshold"], color=STRANGE, label=f"threshold {kind['threshold']:.2f}{word}"
    )
    panel.set_xlabel("threshold (surprise)")
    panel.set_ylabel("alarms per asset\nin 30 days")
    panel.set_title(name, loc="left", color=INK)
    panel.legend(frameon=False, loc="upper right")


def _draw_weeks(panel: Axes, found: Mapping[str, Any]) -> None:
    """What would have fired on the whole site, week by week."""
    panel.set_label("weeks")
    weeks = found["weeks"]
    panel.bar(range(len(weeks)), list(weeks.values()), color=STRANGE)
    panel.axhline(found["budget"]["per_site_week"], color=MUTED, linestyle=":")
    step = max(len(weeks) // 20, 1)
    panel.set_xticks(range(0, len(weeks), step), list(weeks)[::step], rotation=45, ha="right")
    panel.yaxis.set_major_locator(MaxNLocator(integer=True))
    panel.set_ylabel("alarms of the site\nin a week")


def _draw_months(panel: Axes, assets: Mapping[str, Any]) -> None:
    """How many of each asset, month by month."""
    panel.set_label("months")
    months = list(next(iter(assets.values()))["months"])
    numbers = np.array([list(asset["months"].values()) for asset in assets.values()])
    panel.imshow(numbers, aspect="auto", cmap=BLAME, vmin=0, vmax=max(int(numbers.max()), 4))
    panel.set_xticks(range(len(months)), months, rotation=45, ha="right")
    panel.set_yticks(range(len(assets)), list(assets))
    for row, column in np.argwhere(numbers > 0):
        panel.text(column, row, str(numbers[row, column]), ha="center", va="center", color=INK)

"""What an asset did, what was expected, how surprising that was, and what it led to: one picture.

Drawn from what is stored, as a PNG of 1600 pixels across. From top to bottom: alarms, surprise
against its threshold, which channels it came from, what each camera saw, and each channel against
what was expected.
What is no longer kept at full rate is drawn from its minutes and hours: means within the lowest and
the highest.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from models.bundle import Bundle
from monitor.core.plan import ChannelSettings, KindSettings
from monitor.core.records import AlarmClass, ScoreState
from monitor.history import camera_lane
from monitor.history.camera_lane import Lane
from monitor.history.inks import ALARMS, EXPECTED, INK, MUTED, RULE, STRANGE
from monitor.history.shown import Raised, Shown, shown_of, when
from monitor.history.timeline import Buckets, Span
from monitor.state.database import DatabaseReader
from monitor.state.rollups import Width

# N rows (a frame, a minute or an hour each), C channels, B buckets

F32 = NDArray[np.float32]

BLAMED = 8  # channels in the blame panel, at the most
SPREADS = 2  # either side of what was expected: 95 % of healthy frames, were they Gaussian

LEAST_BAR = 0.002  # of the picture's width: short alarms must be seen

DPI = 100
ACROSS, LEFT, RIGHT = 16.0, 2.05, 0.3  # inches
TOP, BOTTOM, BETWEEN = 0.85, 0.95, 0.1  # inches
SECOND_LINE = 0.2  # inches, where the head says which resolution is shown
HEIGHT = {"alarms": 0.24, "blame": 0.21, "surprise": 1.9, "channel": 1.05}  # inches; two: a row

NAME_SIZE, NAME_FITS = 10.0, 17  # points; letters that leave room for the numbers at the axis

STATES = {
    ScoreState.WARMING: ("#f3e7c4", "warming up"),
    ScoreState.BLIND: ("#dcd3e6", "nothing valid to judge by"),
    ScoreState.OFF: ("#e4e7ea", "off or starting: not scored"),
}
INVALID = "#8e3fa8"
RESOLUTION = {Width.MINUTE: "a row a minute", Width.HOUR: "a row an hour"}
BAND = 0.28  # how strong the band between the lowest and the highest is
BLAME = LinearSegmentedColormap.from_list("blame", ["#ffffff", "#f0b27a", STRANGE, "#5c0f12"])


def draw(
    database: DatabaseReader,
    asset: str,
    path: Path,
    *,
    kind: KindSettings,
    bundle: Bundle | None,
    cameras: Sequence[str] = (),
    since: int | None = None,
    until: int | None = None,
    timezone: str = "UTC",
) -> None:
    """Write the picture of one asset in (since, until], ns since 1970 UTC, as a PNG.

    ``bundle`` is the model's, for its threshold; None without a model. ``cameras`` are the asset's.
    Raises NothingToDrawError,
    and OSError where the file cannot be written.
    """
    figure = figure_of(
        database,
        asset,
        kind=kind,
        bundle=bundle,
        cameras=cameras,
        since=since,
        until=until,
        timezone=timezone,
    )
    figure.savefig(path, dpi=DPI, format="png")


def figure_of(
    database: DatabaseReader,
    asset: str,
    *,
    kind: KindSettings,
    bundle: Bundle | None,
    cameras: Sequence[str] = (),
    since: int | None = None,
    until: int | None = None,
    timezone: str = "UTC",
) -> Figure:
    """The same, not yet written; each panel is labelled with what it shows."""
    zone = ZoneInfo(timezone)
    picture = shown_of(
        database,
        asset,
        kind=kind,
        bundle=bundle,
        cameras=cameras,
        since=since,
        until=until,
        zone=zone,
    )
    return _figure(picture, asset, zone)


def _figure(picture: Shown, asset: str, zone: ZoneInfo) -> Figure:
    """All panels, one below the other."""
    parts: dict[str, tuple[float, Callable[[Axes, Shown], None]]] = {
        "alarms": (HEIGHT["alarms"] * max(len(_lanes(picture)), 1), _draw_alarms)
    }
    if blamed := _most_blamed(picture):
        parts["surprise"] = (HEIGHT["surprise"], _draw_surprise)
        parts["blame"] = (HEIGHT["blame"] * len(blamed), partial(_draw_blame, blamed=blamed))
    for lane in picture.lanes:
        parts[f"camera {lane.camera}"] = (camera_lane.HEIGHT, partial(_draw_lane, lane=lane))
    for column, name in enumerate(picture.rows.channels):
        parts[f"channel {name}"] = (HEIGHT["channel"], partial(_draw_channel, column=column))
    top = TOP + SECOND_LINE * bool(picture.rows.coarse.any())
    down = top + sum(height + BETWEEN for height, _ in parts.values()) - BETWEEN + BOTTOM
    figure = Figure(figsize=(ACROSS, down), facecolor="white")
    y = down - top
    for label, (height, fill) in parts.items():
        y -= height
        box = (LEFT / ACROSS, y / down, 1 - (LEFT + RIGHT) / ACROSS, height / down)
        panel = figure.add_axes(box, label=label)
        _prepare(panel, picture)
        fill(panel, picture)
        y -= BETWEEN
    _label_time(panel, picture, zone)
    _head(figure, picture, asset, zone, down)
    return figure


def _prepare(panel: Axes, picture: Shown) -> None:
    """What every panel has: the same time, marked gaps, and where alarms stand."""
    panel.set_xlim(0, 1)
    panel.set_xticks([])
    for side in ("top", "right", "bottom"):
        panel.spines[side].set_visible(False)
    panel.spines["left"].set_color(RULE)
    panel.tick_params(axis="y", colors=MUTED, labelsize=8, length=0)
    for alarm in picture.alarms:
        colour = ALARMS[alarm.alarm_class]
        _shade(panel, [alarm.span], colour, order=0.2, alpha=0.09)
        if alarm.begins:
            panel.axvline(alarm.span[0], color=colour, linewidth=1.1, zorder=4)
    for first, _, _ in picture.stretches()[1:]:
        place = float(picture.timeline.at(picture.rows.start[first]))
        panel.axvline(place, color=MUTED, linewidth=0.9, zorder=4)
    gaps = picture.timeline.gaps()
    _shade(panel, gaps, "white", order=5)
    panel.vlines(
        [(left + right) / 2 for left, right in gaps],
        0,
        1,
        transform=panel.get_xaxis_transform(),
        color=RULE,
        linewidth=0.7,
        linestyle=(0, (2, 2)),
        zorder=6,
    )


def _shade_states(panel: Axes, picture: Shown) -> None:
    """Where no score counts, and why."""
    for state, (colour, _) in STATES.items():
        _shade(panel, picture.buckets.spans(picture.rows.mostly(state)), colour, order=0)


def _shade(
    panel: Axes, spans: Sequence[Span], colour: str, *, order: float, alpha: float = 1.0
) -> None:
    """Colour spans from the bottom of a panel to its top, as one thing to draw."""
    corners = [[(left, 0), (left, 1), (right, 1), (right, 0)] for left, right in spans]
    panel.add_collection(
        PolyCollection(
            corners,
            transform=panel.get_xaxis_transform(),
            facecolor=colour,
            edgecolor="none",
            alpha=alpha,
            zorder=order,
        ),
        autolim=False,
    )


def _lanes(picture: Shown) -> list[str]:
    """What alarms are of: a process alarm by its class, a limit by its channel and name."""
    return list(dict.fromkeys(_lane(alarm) for alarm in picture.alarms))


def _lane(alarm: Raised) -> str:
    return alarm.alarm_class if alarm.point == "surprise" else alarm.point


def _draw_alarms(panel: Axes, picture: Shown) -> None:
    """A bar an alarm, those of one thing in one lane."""
    lanes = _lanes(picture)
    panel.set_ylim(max(len(lanes), 1), 0)
    panel.set_yticks(np.arange(len(lanes)) + 0.5, lanes)
    panel.spines["left"].set_visible(False)
    _name(panel, "alarms", "")
    for alarm in picture.alarms:
        (left, right), lane = alarm.span, lanes.index(_lane(alarm))
        across = max(right - left, LEAST_BAR)
        bar = Rectangle((left, lane + 0.1), across, 0.8, color=ALARMS[alarm.alarm_class], zorder=7)
        panel.add_patch(bar)
    if not lanes:
        panel.text(0.004, 0.55, "none", color=MUTED, fontsize=9, va="center")


def _draw_surprise(panel: Axes, picture: Shown) -> None:
    """How strange each frame was, where that counts, against the threshold."""
    _shade_states(panel, picture)
    band = "\ngrey: up to the highest" if picture.rows.coarse.any() else ""
    _name(panel, "surprise", f"-log₁₀ of the\nhealthy chance{band}")
    rows = picture.rows
    _trace(panel, picture, rows.surprise, rows.surprise, rows.peak)
    top = float(np.nanmax(rows.peak, initial=0.0))
    if picture.level is not None:
        level = picture.level
        top = max(top, level.value)
        panel.axhline(level.value, color=STRANGE, linewidth=1.1, linestyle=(0, (6, 3)), zorder=6.5)
        word = "\n(provisional)" if level.provisional else ""
        panel.annotate(  # beside the panel: within it, it would cover the curve
            f"threshold {level.value:.1f}{word}",
            (0, 1),
            (-LEFT * 72 + 14, -44),
            xycoords="axes fraction",
            textcoords="offset points",
            va="top",
            color=STRANGE,
            fontsize=9,
            annotation_clip=False,
        )
    panel.set_ylim(0, top * 1.18 or 1.0)
    panel.yaxis.set_major_locator(MaxNLocator(5, integer=True))


def _draw_lane(panel: Axes, picture: Shown, lane: Lane) -> None:
    """One camera's pictures."""
    _name(panel, lane.camera, "pictures by surprise;\nred: with a defect;\nthe strangest shown")
    lane.draw(panel, picture.timeline, across=ACROSS - LEFT - RIGHT)


def _most_blamed(picture: Shown) -> list[int]:
    """The channels that the model sees, those with most of the blame, in the order of the kind."""
    rows, seen = picture.rows, np.flatnonzero(picture.seen)
    weight = rows.surprise * rows.states[:, ScoreState.OK]
    total = np.nansum(rows.blame[:, seen] * weight[:, None], axis=0)
    return sorted(seen[np.argsort(-total, kind="stable")][:BLAMED].tolist())


def _draw_blame(panel: Axes, picture: Shown, blamed: Sequence[int]) -> None:
    """Each channel's share, as dark as the surprise is near its threshold: else it is noise."""
    rows, buckets = picture.rows, picture.buckets
    peak = buckets.peaks(rows.peak)
    top = picture.level.value if picture.level is not None else np.nanmax(rows.peak, initial=1e-9)
    near = np.clip(rows.peak[peak] / top, 0, 1)  # NaN, not drawn, where no score counts
    shares = (rows.blame[peak][:, blamed] * near[:, None]).T
    edges = np.append(buckets.left, buckets.right[-1:])
    panel.pcolormesh(
        edges, np.arange(len(blamed) + 1), shares, cmap=BLAME, vmin=0, vmax=1, zorder=1
    )
    panel.set_ylim(len(blamed), 0)
    panel.set_yticks(np.arange(len(blamed)) + 0.5, [rows.channels[c] for c in blamed])
    _name(panel, "blame", "darker: nearer\nthe threshold" if len(blamed) > 2 else "")


def _draw_channel(panel: Axes, picture: Shown, column: int) -> None:
    """One channel against what was expected of it."""
    _shade_states(panel, picture)
    rows, buckets = picture.rows, picture.buckets
    name = rows.channels[column]
    settings = picture.kind.channels.get(name, ChannelSettings())
    expected = rows.expected[:, column]
    about = [settings.unit or ""]
    if np.isfinite(expected).any():
        spread = SPREADS * rows.spread[:, column]
        middle, low, high = buckets.trace(
            buckets.low(expected - spread), buckets.high(expected + spread)
        )
        panel.fill_between(middle, low, high, color=EXPECTED, alpha=0.22, linewidth=0, zorder=1)
        _line(panel, buckets, expected, EXPECTED, 1.0, order=3.5)
    elif not picture.seen[column] and (rows.counts | ~picture.rows.coarse).any():
        about.append("not seen by the model")
    _trace(panel, picture, rows.value[:, column], rows.low[:, column], rows.high[:, column])
    _name(panel, name, "\n".join(part for part in about if part))
    _shade_low(panel, buckets.spans(rows.mostly_missing()[:, column]), INVALID)
    for at in _limits(settings):
        panel.axhline(at, color=ALARMS[AlarmClass.LIMIT], linewidth=1, linestyle=(0, (6, 3)))
    panel.set_ylim(*_range(picture, column))
    panel.yaxis.set_major_locator(MaxNLocator(3))
    panel.ticklabel_format(axis="y", useOffset=False, style="plain")


def _limits(settings: ChannelSettings) -> list[float]:
    """The plain limits of a channel's value; a rate is not one of its values."""
    if (limits := settings.limits) is None:
        return []
    given = (limits.low_low, limits.low, limits.high, limits.high_high)
    return [limit for limit in given if limit is not None]


def _range(picture: Shown, column: int) -> tuple[float, float]:
    """What to show of a channel: all that was scored; a start from zero would flatten the rest."""
    rows = picture.rows
    ends = np.stack([rows.low[:, column], rows.high[:, column], rows.expected[:, column]], axis=1)
    shown = ends[rows.counts][np.isfinite(ends[rows.counts])]
    if not len(shown):
        shown = ends[:, :2][np.isfinite(ends[:, :2])]
    if not len(shown):
        return 0.0, 1.0
    low, high = float(shown.min()), float(shown.max())
    room = 0.08 * (high - low) or 0.01 * abs(high) or 1.0
    return low - room, high + room


def _trace(panel: Axes, picture: Shown, mean: F32, low: F32, high: F32) -> None:
    """What was measured [N]: frames as a line, coarser rows as their mean within low and high."""
    buckets, nan = picture.buckets, np.float32(np.nan)
    coarse = picture.rows.coarse
    _line(panel, buckets, np.where(coarse, nan, mean), INK, 0.8)
    if not coarse.any():
        return
    hide = ~buckets.any(coarse)
    middle, lowest, highest = (
        np.where(hide, nan, column)
        for column in (buckets.mean(mean), buckets.low(low), buckets.high(high))
    )
    edges, middle, lowest, highest = buckets.steps(middle, lowest, highest)
    panel.fill_between(edges, lowest, highest, color=INK, alpha=BAND, linewidth=0, zorder=2.5)
    panel.plot(edges, middle, color=INK, linewidth=0.8, zorder=3)


def _line(
    panel: Axes, buckets: Buckets, value: F32, colour: str, width: float, *, order: float = 3
) -> None:
    """A line through the lowest and the highest of each bucket."""
    middle, low, high = buckets.trace(buckets.low(value), buckets.high(value))
    ends = np.stack([low, high], axis=1).ravel()
    panel.plot(np.repeat(middle, 2), ends, color=colour, linewidth=width, zorder=order)


def _shade_low(panel: Axes, spans: Sequence[Span], colour: str) -> None:
    """Mark spans along the bottom of a panel."""
    panel.hlines(
        [0.02] * len(spans),
        [left for left, _ in spans],
        [right for _, right in spans],
        transform=panel.get_xaxis_transform(),
        color=colour,
        linewidth=3,
        zorder=4,
    )


def _name(panel: Axes, name: str, about: str) -> None:
    """What a panel shows, at its left."""
    panel.annotate(
        name,
        (0, 1),
        (-LEFT * 72 + 14, -2),
        xycoords="axes fraction",
        textcoords="offset points",
        va="top",
        fontsize=NAME_SIZE * min(1.0, NAME_FITS / len(name)),
        fontweight="bold",
        color=INK,
        annotation_clip=False,
    )
    panel.annotate(
        about,
        (0, 1),
        (-LEFT * 72 + 14, -16),
        xycoords="axes fraction",
        textcoords="offset points",
        va="top",
        fontsize=8,
        color=MUTED,
        annotation_clip=False,
    )


def _label_time(panel: Axes, picture: Shown, zone: ZoneInfo) -> None:
    """The only labels of time: below the lowest panel."""
    marks = picture.timeline.marks(zone)
    panel.set_xticks([place for place, _ in marks], [label for _, label in marks])
    panel.tick_params(axis="x", colors=MUTED, labelsize=9, length=4, color=MUTED)
    panel.spines["bottom"].set_visible(True)
    panel.spines["bottom"].set_color(RULE)


def _head(figure: Figure, picture: Shown, asset: str, zone: ZoneInfo, down: float) -> None:
    """Which asset, when, how much, and what the colours mean."""
    timeline, rows = picture.timeline, picture.rows
    first, last = int(timeline.start[0]), int(timeline.end[-1])
    left = 14 / 72 / ACROSS
    figure.text(left, 1 - 0.32 / down, asset, fontsize=16, fontweight="bold", color=INK)
    gaps = len(timeline.gaps())
    words = [
        f"{when(first, zone)} to {when(last, zone)}, {zone.key}",
        f"{rows.states.sum():,} frames, {rows.states[:, ScoreState.OK].sum():,} scored",
    ]
    if gaps:
        many = f"{gaps:,} gaps" if gaps > 1 else "1 gap"
        words.append(f"{many} without samples cut out ({_long(timeline.gaps_s)})")
    figure.text(left, 1 - 0.58 / down, "   |   ".join(words), fontsize=9.5, color=MUTED)
    if picture.rows.coarse.any():
        words = [
            f"{RESOLUTION[Width(resolution)]} up to {when(int(rows.end[until - 1]), zone)}"
            if resolution
            else "then every frame"
            for _, until, resolution in picture.stretches()
        ]
        shown = f"Shown: {', '.join(words)}   |   upright lines: where that changes"
        figure.text(left, 1 - (0.58 + SECOND_LINE) / down, shown, fontsize=9.5, color=MUTED)
    figure.legend(
        handles=_legend(picture),
        loc="lower left",
        bbox_to_anchor=(LEFT / ACROSS - 0.005, 0.08 / down),
        ncols=7,
        fontsize=9,
        frameon=False,
        labelcolor=MUTED,
        handlelength=1.6,
        borderaxespad=0,
    )


def _legend(picture: Shown) -> list[Line2D | Patch]:
    """Of what is in the picture."""
    rows = picture.rows
    handles: list[Line2D | Patch] = [Line2D([], [], color=INK, linewidth=1.2, label="measured")]
    if picture.rows.coarse.any():
        handles.append(Patch(color=INK, alpha=BAND, linewidth=0, label="lowest to highest"))
    if np.isfinite(rows.expected).any():
        handles.append(Line2D([], [], color=EXPECTED, linewidth=1.2, label="expected"))
        handles.append(Patch(color=EXPECTED, alpha=0.22, label=f"± {SPREADS} spreads"))
    for state, (colour, words) in STATES.items():
        if rows.mostly(state).any():
            handles.append(Patch(color=colour, label=words))
    if rows.mostly_missing().any():
        handles.append(Line2D([], [], color=INVALID, linewidth=3, label="not valid"))
    handles += [
        Patch(color=ALARMS[alarm_class], alpha=0.4, label=f"{alarm_class} alarm stands")
        for alarm_class in dict.fromkeys(alarm.alarm_class for alarm in picture.alarms)
    ]
    if picture.timeline.gaps():
        handles.append(Line2D([], [], color=MUTED, linewidth=1, linestyle=":", label="gap cut out"))
    return handles


def _long(seconds: float) -> str:
    """``45 s``, ``3.7 min``, ``12.0 h``."""
    for unit, name in ((3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.0f} s"

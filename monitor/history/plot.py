"""What an asset did, what was expected, how surprising that was, and what it led to: one picture.

Drawn from what is stored, as a PNG of 1600 pixels across. From top to bottom: alarms, surprise
against its threshold, which channels it came from, and each channel against what was expected.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
from monitor.core.plan import MILLISECOND, ChannelSettings, KindSettings
from monitor.core.records import AlarmClass, Scores, ScoreState, Transition
from monitor.history.timeline import Buckets, Span, Timeline, nearest_second
from monitor.state.database import DatabaseReader
from monitor.state.names import Family, Names
from monitor.state.store import Store

# N frames, C channels, M of them that the model sees, B buckets

F32 = NDArray[np.float32]

BLAMED = 8  # channels in the blame panel, at the most
SPREADS = 2  # either side of what was expected: 95 % of healthy frames, were they Gaussian

LEAST_BAR = 0.002  # of the picture's width: short alarms must be seen

DPI = 100
ACROSS, LEFT, RIGHT = 16.0, 2.05, 0.3  # inches
TOP, BOTTOM, BETWEEN = 0.85, 0.95, 0.1  # inches
HEIGHT = {"alarms": 0.24, "blame": 0.21, "surprise": 1.9, "channel": 1.05}  # inches; two: a row

INK, MUTED, RULE = "#1d2733", "#66727f", "#d9dee3"
EXPECTED = "#2f7fb5"
STRANGE = "#b4231f"
STATES = {
    ScoreState.WARMING: ("#f3e7c4", "warming up"),
    ScoreState.BLIND: ("#dcd3e6", "nothing valid to judge by"),
    ScoreState.OFF: ("#e4e7ea", "off or starting: not scored"),
}
INVALID = "#8e3fa8"
ALARMS = {AlarmClass.PROCESS: STRANGE, AlarmClass.LIMIT: "#c9720c"}
BLAME = LinearSegmentedColormap.from_list("blame", ["#ffffff", "#f0b27a", STRANGE, "#5c0f12"])


class NothingToDrawError(Exception):
    """There is nothing of this asset in the range asked for; says which range there is."""


@dataclass(frozen=True, slots=True)
class _Level:
    """The surprise that alarms are raised at."""

    value: float
    provisional: bool


@dataclass(frozen=True, slots=True)
class _Raised:
    """One alarm, as far as it can be seen."""

    alarm_class: AlarmClass
    point: str
    span: Span
    begins: bool  # within the picture


@dataclass(frozen=True, slots=True, kw_only=True)
class _Picture:
    """Everything that the panels share."""

    scores: Scores
    kind: KindSettings
    level: _Level | None
    alarms: Sequence[_Raised]
    timeline: Timeline
    buckets: Buckets

    @property
    def counts(self) -> NDArray[np.bool_]:
        """The frames whose score counts [N]."""
        counts: NDArray[np.bool_] = self.scores.state == ScoreState.OK
        return counts


def draw(
    database: DatabaseReader,
    asset: str,
    path: Path,
    *,
    kind: KindSettings,
    bundle: Bundle | None,
    since: int | None = None,
    until: int | None = None,
    timezone: str = "UTC",
) -> None:
    """Write the picture of one asset in (since, until], ns since 1970 UTC, as a PNG.

    ``bundle`` is the model's, for its threshold; None without a model. Raises NothingToDrawError,
    and OSError where the file cannot be written.
    """
    figure = figure_of(
        database, asset, kind=kind, bundle=bundle, since=since, until=until, timezone=timezone
    )
    figure.savefig(path, dpi=DPI, format="png")


def figure_of(
    database: DatabaseReader,
    asset: str,
    *,
    kind: KindSettings,
    bundle: Bundle | None,
    since: int | None = None,
    until: int | None = None,
    timezone: str = "UTC",
) -> Figure:
    """The same, not yet written; each panel is labelled with what it shows."""
    zone = ZoneInfo(timezone)
    scores = _scores(database, asset, since, until, zone)
    width = kind.tick_ms * MILLISECOND
    timeline = Timeline.of(scores.tick, width)
    picture = _Picture(
        scores=scores,
        kind=kind,
        level=_level(kind, bundle),
        alarms=_alarms(database, asset, timeline),
        timeline=timeline,
        buckets=Buckets.of(timeline, scores.tick, width),
    )
    return _figure(picture, asset, zone)


def _scores(
    database: DatabaseReader, asset: str, since: int | None, until: int | None, zone: ZoneInfo
) -> Scores:
    """The asset's scores in the range, with the channels that it has now."""
    numbers = {name: number for number, name in Names(database).of(Family.ASSET).items()}
    store = Store(database)
    if asset not in numbers:
        raise NothingToDrawError(
            f"{asset}: nothing is stored of it; there are {', '.join(numbers)}."
        )
    blocks = list(store.scores(asset=numbers[asset], since=since, until=until))
    if blocks:
        return Scores.join([one for one in blocks if one.channels == blocks[-1].channels])
    ticks = [one.tick for one in store.scores(asset=numbers[asset])]
    if not ticks:
        raise NothingToDrawError(f"{asset}: no frames are stored of it yet.")
    first, last = int(ticks[0][0]), int(ticks[-1][-1])
    raise NothingToDrawError(
        f"{asset}: no frames in the range asked for; at full rate there are some "
        f"from {_when(first, zone)} to {_when(last, zone)}."
    )


def _level(kind: KindSettings, bundle: Bundle | None) -> _Level | None:
    """The threshold in force; what the configuration sets is nobody's guess."""
    if bundle is None:
        return None
    if kind.alarm.threshold != "auto":
        return _Level(kind.alarm.threshold, provisional=False)
    if bundle.card.threshold is None:
        return None
    return _Level(bundle.card.threshold, provisional=bundle.card.provisional)


def _alarms(database: DatabaseReader, asset: str, timeline: Timeline) -> list[_Raised]:
    """The alarms that stood within the picture, in order of time."""
    events = Store(database).alarm_events(asset=asset)
    returned = {event.id: event.tick for event in events if event.transition is Transition.RETURNED}
    first, last = int(timeline.start[0]), int(timeline.end[-1])
    found = []
    for event in events:
        end = returned.get(event.id, last)
        if event.transition is Transition.RAISED and event.tick <= last and end > first:
            left, right = timeline.at(np.array([event.tick, end])).tolist()
            found.append(
                _Raised(event.alarm_class, event.point, (left, right), begins=event.tick > first)
            )
    return found


def _figure(picture: _Picture, asset: str, zone: ZoneInfo) -> Figure:
    """All panels, one below the other."""
    parts: dict[str, tuple[float, Callable[[Axes, _Picture], None]]] = {
        "alarms": (HEIGHT["alarms"] * max(len(_lanes(picture)), 1), _draw_alarms)
    }
    if blamed := _most_blamed(picture):
        parts["surprise"] = (HEIGHT["surprise"], _draw_surprise)
        parts["blame"] = (HEIGHT["blame"] * len(blamed), partial(_draw_blame, blamed=blamed))
    for column, name in enumerate(picture.scores.channels):
        parts[f"channel {name}"] = (HEIGHT["channel"], partial(_draw_channel, column=column))
    down = TOP + sum(height + BETWEEN for height, _ in parts.values()) - BETWEEN + BOTTOM
    figure = Figure(figsize=(ACROSS, down), facecolor="white")
    y = down - TOP
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


def _prepare(panel: Axes, picture: _Picture) -> None:
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


def _shade_states(panel: Axes, picture: _Picture) -> None:
    """Where no score counts, and why."""
    for state, (colour, _) in STATES.items():
        _shade(panel, picture.buckets.spans(picture.scores.state == state), colour, order=0)


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


def _lanes(picture: _Picture) -> list[str]:
    """What alarms are of: a process alarm by its class, a limit by its channel and name."""
    return list(dict.fromkeys(_lane(alarm) for alarm in picture.alarms))


def _lane(alarm: _Raised) -> str:
    return alarm.alarm_class if alarm.point == "surprise" else alarm.point


def _draw_alarms(panel: Axes, picture: _Picture) -> None:
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


def _draw_surprise(panel: Axes, picture: _Picture) -> None:
    """How strange each frame was, where that counts, against the threshold."""
    _shade_states(panel, picture)
    _name(panel, "surprise", "-log₁₀ of the\nhealthy chance")
    shown = np.where(picture.counts, picture.scores.surprise, np.float32(np.nan))
    _line(panel, picture.buckets, shown, INK, 0.9)
    top = float(np.nanmax(shown, initial=0.0))
    if picture.level is not None:
        level = picture.level
        top = max(top, level.value)
        panel.axhline(level.value, color=STRANGE, linewidth=1.1, linestyle=(0, (6, 3)), zorder=6.5)
        word = " (provisional)" if level.provisional else ""
        panel.text(
            0.999,
            level.value,
            f"threshold {level.value:.1f}{word}",
            ha="right",
            va="bottom",
            color=STRANGE,
            fontsize=9,
            zorder=8,
            bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.8},
        )
    panel.set_ylim(0, top * 1.18 or 1.0)
    panel.yaxis.set_major_locator(MaxNLocator(5, integer=True))


def _most_blamed(picture: _Picture) -> list[int]:
    """The channels that the model sees, those with most of the blame, in the order of the kind."""
    seen = np.flatnonzero(np.isfinite(picture.scores.expected).any(axis=0))
    weight = np.where(picture.counts, picture.scores.surprise, 0)
    total = (picture.scores.blame[:, seen] * weight[:, None]).sum(axis=0)
    return sorted(seen[np.argsort(-total, kind="stable")][:BLAMED].tolist())


def _draw_blame(panel: Axes, picture: _Picture, blamed: Sequence[int]) -> None:
    """Each channel's share, as dark as the surprise is near its threshold: else it is noise."""
    scores, buckets = picture.scores, picture.buckets
    surprise = np.where(picture.counts, scores.surprise, np.float32(np.nan))
    peak = buckets.peaks(surprise)
    top = picture.level.value if picture.level is not None else np.nanmax(surprise, initial=1e-9)
    near = np.clip(surprise[peak] / top, 0, 1)  # NaN, not drawn, where no score counts
    shares = (scores.blame[peak][:, blamed] * near[:, None]).T
    edges = np.append(buckets.left, buckets.right[-1:])
    panel.pcolormesh(
        edges, np.arange(len(blamed) + 1), shares, cmap=BLAME, vmin=0, vmax=1, zorder=1
    )
    panel.set_ylim(len(blamed), 0)
    panel.set_yticks(np.arange(len(blamed)) + 0.5, [scores.channels[c] for c in blamed])
    _name(panel, "blame", "darker: nearer\nthe threshold" if len(blamed) > 2 else "")


def _draw_channel(panel: Axes, picture: _Picture, column: int) -> None:
    """One channel against what was expected of it."""
    _shade_states(panel, picture)
    scores, buckets = picture.scores, picture.buckets
    name = scores.channels[column]
    settings = picture.kind.channels.get(name, ChannelSettings())
    value, expected = scores.value[:, column], scores.expected[:, column]
    about = [settings.unit or ""]
    if np.isfinite(expected).any():
        spread = SPREADS * scores.spread[:, column]
        middle, low, high = buckets.trace(
            buckets.low(expected - spread), buckets.high(expected + spread)
        )
        panel.fill_between(middle, low, high, color=EXPECTED, alpha=0.22, linewidth=0, zorder=1)
        _line(panel, buckets, expected, EXPECTED, 1.0, order=3.5)
    else:
        about.append("not seen by the model")
    _line(panel, buckets, value, INK, 0.8)
    _name(panel, name, "\n".join(part for part in about if part))
    _shade_low(panel, buckets.spans(np.isnan(value)), INVALID)
    for at in _limits(settings):
        panel.axhline(at, color=ALARMS[AlarmClass.LIMIT], linewidth=1, linestyle=(0, (6, 3)))
    panel.set_ylim(*_range(picture, value, expected))
    panel.yaxis.set_major_locator(MaxNLocator(3))
    panel.ticklabel_format(axis="y", useOffset=False, style="plain")


def _limits(settings: ChannelSettings) -> list[float]:
    """The plain limits of a channel's value; a rate is not one of its values."""
    if (limits := settings.limits) is None:
        return []
    given = (limits.low_low, limits.low, limits.high, limits.high_high)
    return [limit for limit in given if limit is not None]


def _range(picture: _Picture, value: F32, expected: F32) -> tuple[float, float]:
    """What to show of a channel: all that was scored; a start from zero would flatten the rest."""
    shown = np.append(value[picture.counts], expected[picture.counts])
    shown = shown[np.isfinite(shown)]
    if not len(shown):
        shown = value[np.isfinite(value)]
    if not len(shown):
        return 0.0, 1.0
    low, high = float(shown.min()), float(shown.max())
    room = 0.08 * (high - low) or 0.01 * abs(high) or 1.0
    return low - room, high + room


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
        fontsize=10,
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


def _label_time(panel: Axes, picture: _Picture, zone: ZoneInfo) -> None:
    """The only labels of time: below the lowest panel."""
    marks = picture.timeline.marks(zone)
    panel.set_xticks([place for place, _ in marks], [label for _, label in marks])
    panel.tick_params(axis="x", colors=MUTED, labelsize=9, length=4, color=MUTED)
    panel.spines["bottom"].set_visible(True)
    panel.spines["bottom"].set_color(RULE)


def _head(figure: Figure, picture: _Picture, asset: str, zone: ZoneInfo, down: float) -> None:
    """Which asset, when, how much, and what the colours mean."""
    timeline, scores = picture.timeline, picture.scores
    first, last = int(timeline.start[0]), int(timeline.end[-1])
    left = 14 / 72 / ACROSS
    figure.text(left, 1 - 0.32 / down, asset, fontsize=16, fontweight="bold", color=INK)
    gaps = len(timeline.gaps())
    words = [
        f"{_when(first, zone)} to {_when(last, zone)}, {zone.key}",
        f"{len(scores):,} frames, {int(picture.counts.sum()):,} scored",
    ]
    if gaps:
        many = f"{gaps:,} gaps" if gaps > 1 else "1 gap"
        words.append(f"{many} without samples cut out ({_long(timeline.gaps_s)})")
    figure.text(left, 1 - 0.58 / down, "   |   ".join(words), fontsize=9.5, color=MUTED)
    figure.legend(
        handles=_legend(picture),
        loc="lower left",
        bbox_to_anchor=(LEFT / ACROSS - 0.005, 0.08 / down),
        ncols=10,
        fontsize=9,
        frameon=False,
        labelcolor=MUTED,
        handlelength=1.6,
        borderaxespad=0,
    )


def _legend(picture: _Picture) -> list[Line2D | Patch]:
    """Of what is in the picture."""
    scores = picture.scores
    handles: list[Line2D | Patch] = [Line2D([], [], color=INK, linewidth=1.2, label="measured")]
    if np.isfinite(scores.expected).any():
        handles.append(Line2D([], [], color=EXPECTED, linewidth=1.2, label="expected"))
        handles.append(Patch(color=EXPECTED, alpha=0.22, label=f"± {SPREADS} spreads"))
    for state, (colour, words) in STATES.items():
        if (scores.state == state).any():
            handles.append(Patch(color=colour, label=words))
    if np.isnan(scores.value).any():
        handles.append(Line2D([], [], color=INVALID, linewidth=3, label="not valid"))
    handles += [
        Patch(color=ALARMS[alarm_class], alpha=0.4, label=f"{alarm_class} alarm stands")
        for alarm_class in dict.fromkeys(alarm.alarm_class for alarm in picture.alarms)
    ]
    if picture.timeline.gaps():
        handles.append(Line2D([], [], color=MUTED, linewidth=1, linestyle=":", label="gap cut out"))
    return handles


def _when(moment: int, zone: ZoneInfo) -> str:
    """A time in ns since 1970 UTC as the site's people read it."""
    return nearest_second(moment, zone).isoformat(sep=" ")


def _long(seconds: float) -> str:
    """``45 s``, ``3.7 min``, ``12.0 h``."""
    for unit, name in ((3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.0f} s"

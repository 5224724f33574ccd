"""Alarms: from scores and values to the transitions that a person acts on.

Last stop of the step. Two classes so far: `process` (a surprise over its threshold) and `limit` (a
value beyond a plain limit, which needs no model). What is active stays so while the machine is off
or nothing is valid; only evidence of a healthy machine makes it return. States follow ISA-18.2: an
alarm is active or normal, acknowledged or not.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectors.batch import I64
from monitor.core.aggregate import NEVER, Bool, Index, changes, common, ends
from monitor.core.conditions import Change, Conditions
from monitor.core.frames import Frames
from monitor.core.plan import SECOND, AlarmSettings, KindSettings, LimitSettings
from monitor.core.records import (
    AlarmClass,
    AlarmEvent,
    Command,
    Scores,
    ScoreState,
    Standing,
    Transition,
)

# A assets, C channels, R frames, L limits of a kind

MOST_DIGITS = 6  # behind the point; smaller spreads are written with an exponent
CLASSES = (AlarmClass.PROCESS, AlarmClass.LIMIT)  # that are raised here, and end here


def alarm_id(site: str, asset: str, alarm_class: AlarmClass, point: str, raised: int) -> str:
    """The name of an alarm: 32 hex digits, the same wherever it is worked out."""
    named = "\x1f".join((site, asset, alarm_class, point, str(raised)))
    return hashlib.blake2b(named.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class _Limit:
    """One plain limit: ``sign`` is 1 where too much is bad, -1 where too little is."""

    channel: int
    name: str
    at: float
    sign: int
    settings: LimitSettings


def _limits(kind: KindSettings) -> list[_Limit]:
    """Every limit of a kind, rates last within their channel."""
    limits = []
    for column, channel in enumerate(kind.channels.values()):
        if (settings := channel.limits) is None:
            continue
        for name, sign in (
            ("low_low", -1),
            ("low", -1),
            ("high", 1),
            ("high_high", 1),
            ("rate", 1),
        ):
            if (at := getattr(settings, name)) is not None:
                limits.append(_Limit(column, name, at, sign, settings))
    return limits


class ProcessConditions(Conditions):
    """The conditions of the process alarms of some assets: surprise against a threshold.

    The step of a live run, and of whatever counts what it would alarm.
    """

    def __init__(self, alarm: AlarmSettings, threshold: float, assets: int) -> None:
        super().__init__(
            np.full(assets, round(alarm.on_delay_s * SECOND)),
            np.full(assets, round(alarm.off_delay_s * SECOND)),
        )
        self._threshold, self._clear = threshold, threshold * alarm.clear_ratio

    def judge(
        self, asset: Index, tick: I64, surprise: NDArray[np.float32], *, counts: Bool, fresh: Bool
    ) -> list[Change]:
        """What rows [R] of surprise raise and return; only those that ``counts`` say something.

        As for ``step``, to which it comes down.
        """
        return self.step(
            asset,
            tick,
            says=counts,
            entered=counts & (surprise >= self._threshold),
            left=counts & (surprise < self._clear),
            fresh=fresh,
        )


class Alarms:
    """The alarms of all assets of one kind.

    ``threshold`` is in surprise; None where there is no model, and so no process alarm.
    """

    def __init__(
        self, kind: KindSettings, assets: Sequence[str], *, site: str, threshold: float | None
    ) -> None:
        self._site, self._assets, self._kind = site, tuple(assets), kind
        self._channels = tuple(kind.channels)
        self._threshold = threshold
        self._surprise = ProcessConditions(kind.alarm, threshold or math.inf, len(assets))
        self._limits = _limits(kind)
        self._beyond = _conditions([limit.settings for limit in self._limits], len(assets))
        self._resting_C = np.array(  # [C] whose limits say nothing while the machine does not run
            [c.limits is not None and c.limits.only_running for c in kind.channels.values()]
        )
        self._before = np.full((len(assets), len(self._channels)), np.nan)  # [A, C] last values
        self._board: dict[tuple[str, str], dict[str, Any]] = {}  # (asset, point) -> last occurrence

    def step(self, frames: Frames, scores: Scores) -> list[AlarmEvent]:
        """The transitions of these frames and their scores, row for row the same."""
        events = [*self._step_surprise(frames, scores), *self._step_limits(frames, scores)]
        events.sort(key=lambda event: (event.tick, event.id, event.transition))
        for event in events:
            self._board[event.asset, event.point] = {
                "id": event.id,
                "class": str(event.alarm_class),
                "raised": event.raised,
                "threshold": event.threshold,
                "acknowledged": event.transition is Transition.RETURNED
                and self._board[event.asset, event.point]["acknowledged"],
                "active": event.active,
            }
        return events

    def acknowledge(self, command: Command, *, now: int) -> list[AlarmEvent]:
        """A person has seen the alarm that the command names; nothing if it was seen before."""
        for (asset, point), alarm in self._board.items():
            if alarm["id"] == command.target and not alarm["acknowledged"]:
                alarm["acknowledged"] = True
                return [
                    AlarmEvent(
                        id=alarm["id"],
                        asset=asset,
                        alarm_class=AlarmClass(alarm["class"]),
                        point=point,
                        transition=Transition.ACKNOWLEDGED,
                        tick=now,
                        raised=alarm["raised"],
                        reason=command.why,
                        value=float("nan"),
                        threshold=alarm["threshold"],
                        who=command.who,
                        active=alarm["active"],
                        acknowledged=True,
                    )
                ]
        return []

    def find(self, alarm_id: str) -> Standing | None:
        """The alarm of this id, if it is the last one of its point."""
        for (asset, point), alarm in self._board.items():
            if alarm["id"] == alarm_id:
                return Standing(
                    id=alarm["id"],
                    asset=asset,
                    alarm_class=AlarmClass(alarm["class"]),
                    point=point,
                    raised=alarm["raised"],
                    threshold=alarm["threshold"],
                    acknowledged=alarm["acknowledged"],
                    active=alarm["active"],
                )
        return None

    def settle(self, standing: Sequence[Standing]) -> list[Standing]:
        """Let exactly these be active; gives back those that nothing here can end.

        Their limit, model, channel or asset is not configured, or the site had another name.
        """
        count = len(self._assets)
        surprise = np.full(count, NEVER, np.int64)
        beyond = np.full(len(self._limits) * count, NEVER, np.int64)
        places = {
            (asset, f"{channel} {name}"): (beyond, number * count + row)
            for number, (channel, name) in enumerate(self._limit_names())
            for row, asset in enumerate(self._assets)
        }
        if self._threshold is not None:
            places |= {(asset, "surprise"): (surprise, p) for p, asset in enumerate(self._assets)}
        for known in self._board.values():
            known["active"] = False
        rest = []
        for alarm in standing:
            named = (alarm.asset, alarm.alarm_class, alarm.point, alarm.raised)
            place = places.pop((alarm.asset, alarm.point), None)
            if place is None or alarm.id != alarm_id(self._site, *named):
                rest.append(alarm)
                continue
            raised_P, p = place
            raised_P[p] = alarm.raised
            self._board[alarm.asset, alarm.point] = {
                "id": alarm.id,
                "class": str(alarm.alarm_class),
                "raised": alarm.raised,
                "threshold": alarm.threshold,
                "acknowledged": alarm.acknowledged,
                "active": True,
            }
        self._surprise.settle(surprise)
        self._beyond.settle(beyond)
        return rest

    def _step_surprise(self, frames: Frames, scores: Scores) -> list[AlarmEvent]:
        if self._threshold is None:
            return []
        alarm = self._kind.alarm
        counts = (scores.state == ScoreState.OK) & (scores.coverage >= alarm.min_coverage)
        found = self._surprise.judge(
            frames.asset, frames.tick, scores.surprise, counts=counts, fresh=frames.fresh
        )
        events = []
        for change in found:
            surprise = float(scores.surprise[change.row])
            blame = _largest_first(self._channels, scores.blame[change.row])
            if change.active:
                reason = (
                    f"surprise {surprise:.1f} at or over {self._threshold:.1f}"
                    f"{_lasting(alarm.on_delay_s)}{self._blamed(blame, scores, change.row)}"
                )
            else:
                clear = self._threshold * alarm.clear_ratio
                reason = f"surprise {surprise:.1f} below {clear:.1f}{_lasting(alarm.off_delay_s)}"
            events.append(
                self._event(
                    change,
                    frames,
                    alarm_class=AlarmClass.PROCESS,
                    point="surprise",
                    reason=reason,
                    value=surprise,
                    threshold=self._threshold,
                    blame=blame,
                )
            )
        return events

    def _blamed(self, blame: Mapping[str, float], scores: Scores, row: int) -> str:
        """Where a surprise comes from, in words: the first channel against what was expected."""
        if not blame:
            return ""
        first, *others = [f"{name} {share:.0%}" for name, share in blame.items()][:3]
        name = next(iter(blame))
        at = row, self._channels.index(name)
        against = _against(
            float(scores.value[at]),
            float(scores.expected[at]),
            float(scores.spread[at]),
            unit=self._kind.channels[name].unit,
        )
        then = f"; then {', '.join(others)}" if others else ""
        return f"; most of it from {first}{against}{then}"

    def _step_limits(self, frames: Frames, scores: Scores) -> list[AlarmEvent]:
        if not self._limits:
            return []
        runs = scores.state != ScoreState.OFF
        value_RC = np.where(~runs[:, None] & self._resting_C, np.nan, frames.value)
        starts = changes(frames.asset)
        before = np.roll(value_RC, 1, axis=0)
        before[starts] = self._before[frames.asset[starts]]
        before[frames.fresh] = np.nan
        last = ends(frames.asset)
        self._before[frames.asset[last]] = value_RC[last]
        with np.errstate(over="ignore"):  # two huge values may be infinitely far apart
            rate = np.abs(value_RC - before) * (1000 / self._kind.tick_ms)  # per second

        events = []
        count = len(self._assets)
        for number, limit in enumerate(self._limits):  # a loop over limits: each for all assets
            seen = (rate if limit.name == "rate" else value_RC)[:, limit.channel]
            beyond = (seen - limit.at) * limit.sign  # NaN, where it says nothing, is neither
            entered = beyond > 0
            found = self._beyond.step(
                frames.asset + number * count,
                frames.tick,
                says=entered | (runs & ~np.isnan(beyond)),
                entered=entered,
                left=runs & (beyond <= -limit.settings.deadband),
                fresh=frames.fresh,
            )
            channel = self._channels[limit.channel]
            for change in found:
                value = float(seen[change.row])
                unit = self._kind.channels[channel].unit or ""
                unit = f" {unit}/s" if limit.name == "rate" else f" {unit}"
                words = ("above", "below") if limit.sign > 0 else ("below", "above")
                side = words[0] if change.active else f"back {words[1]}"
                delay = limit.settings.on_delay_s if change.active else limit.settings.off_delay_s
                reason = (
                    f"{channel} {value:.6g}{unit.rstrip()}, {side} {limit.name} {limit.at:g}"
                    f"{_lasting(delay)}"
                )
                events.append(
                    self._event(
                        change,
                        frames,
                        alarm_class=AlarmClass.LIMIT,
                        point=f"{channel} {limit.name}",
                        reason=reason,
                        value=value,
                        threshold=limit.at,
                    )
                )
        return events

    def _event(
        self,
        change: Change,
        frames: Frames,
        *,
        alarm_class: AlarmClass,
        point: str,
        reason: str,
        value: float,
        threshold: float,
        blame: Mapping[str, float] = MappingProxyType({}),
    ) -> AlarmEvent:
        asset = self._assets[frames.asset[change.row]]
        return AlarmEvent(
            id=alarm_id(self._site, asset, alarm_class, point, change.raised),
            asset=asset,
            alarm_class=alarm_class,
            point=point,
            transition=Transition.RAISED if change.active else Transition.RETURNED,
            tick=int(frames.tick[change.row]),
            raised=change.raised,
            reason=reason,
            value=value,
            threshold=threshold,
            blame=blame,
            active=change.active,
        )

    def snapshot(self) -> dict[str, Any]:
        """What the next transitions depend on."""
        return {
            "surprise": self._surprise.snapshot(),
            "beyond": self._beyond.snapshot(),
            "limits": [list(name) for name in self._limit_names()],
            "channels": list(self._channels),
            "before": self._before.copy(),
            "board": [[asset, point, dict(alarm)] for (asset, point), alarm in self._board.items()],
        }

    def restore(self, tree: Mapping[str, Any], assets: Sequence[str]) -> None:
        """Take back what ``snapshot`` gave for these assets, as far as the plan still has them."""
        old_A, new_A = common(assets, self._assets)
        self._surprise.restore(tree["surprise"], old_A, new_A)
        old_L, new_L = common([tuple(limit) for limit in tree["limits"]], self._limit_names())
        old_P = (old_L[:, None] * len(assets) + old_A).ravel()
        new_P = (new_L[:, None] * len(self._assets) + new_A).ravel()
        self._beyond.restore(tree["beyond"], old_P, new_P)
        old_C, new_C = common(tree["channels"], self._channels)
        self._before[np.ix_(new_A, new_C)] = tree["before"][np.ix_(old_A, old_C)]
        self._board = {
            (asset, point): {"active": False} | alarm  # once it was not kept; settle() says it then
            for asset, point, alarm in tree["board"]
            if asset in self._assets
        }

    def _limit_names(self) -> list[tuple[str, str]]:
        return [(self._channels[limit.channel], limit.name) for limit in self._limits]


def _conditions(settings: Sequence[AlarmSettings | LimitSettings], assets: int) -> Conditions:
    """One condition for each of the settings and each asset, assets together."""
    return Conditions(
        np.repeat([round(delay.on_delay_s * SECOND) for delay in settings], assets),
        np.repeat([round(delay.off_delay_s * SECOND) for delay in settings], assets),
    )


def _lasting(delay_s: float) -> str:
    """For how long it was seen, in words; nothing where once was enough."""
    return f" for {delay_s:g} s" if delay_s else ""


def _against(value: float, expected: float, spread: float, *, unit: str | None) -> str:
    """What was measured, against what was expected, as exactly as the spread makes sense of.

    Nothing where one of the two is not known.
    """
    if not (math.isfinite(value) and math.isfinite(expected)):
        return ""
    form, within = ".6g", ""  # a float32 has no more
    if math.isfinite(spread) and spread > 0:
        digits = max(-math.floor(math.log10(spread)), 0)  # its first one, behind the point
        form = f".{digits}f" if digits <= MOST_DIGITS else form
        within = f" +- {spread:{form}}"
    return f": measured {value:{form}}, expected {expected:{form}}{within} {unit or ''}".rstrip()


def _largest_first(channels: Sequence[str], blame_C: NDArray[np.float32]) -> dict[str, float]:
    """The channels with a share in it."""
    order = np.argsort(-blame_C, kind="stable")
    return {channels[c]: float(blame_C[c]) for c in order if blame_C[c] > 0}

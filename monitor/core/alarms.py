"""Alarms: from scores and values to the transitions that a person acts on.

Last stop of the step. Four classes: `process` (a surprise over its threshold), `combined` (what
sensors and pictures both say), `limit` (a value beyond a plain limit, which
needs no model) and `instrument` (a sensor that is not to be believed, in the words of NAMUR NE
107); what is wrong with a whole source is for links.py. What is active
stays so while the machine is off or nothing is valid; only evidence of a healthy machine makes it
return.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from connectors.batch import I64, U8
from models.contract import Deviation
from models.diagnosis import Diagnosis
from models.naming import UNKNOWN, Named
from monitor.core.aggregate import FOREVER, NEVER, Bool, changes, common, ends, last_true
from monitor.core.board import Board, alarm_id
from monitor.core.conditions import Change, Conditions
from monitor.core.crossings import Crossing, ProcessConditions
from monitor.core.diagnosis import Diagnoses
from monitor.core.episode import EpisodeBlame
from monitor.core.fusion import Fused
from monitor.core.holding import Frames
from monitor.core.modes import RunState
from monitor.core.moving import Moving, weighed
from monitor.core.plan import (
    SECOND,
    AlarmSettings,
    InstrumentSettings,
    KindSettings,
    LimitSettings,
)
from monitor.core.records import (
    AlarmClass,
    AlarmEvent,
    Scores,
    ScoreState,
    Spoke,
    Standing,
    Transition,
)
from monitor.core.sensors import WORD_OF, WORDS, Verdict, in_words
from monitor.core.why import blamed, crossed, largest_first, lasting, shares

# A assets, C channels, R frames, L limits of a kind

Explain = Callable[[int], Deviation | None]  # of a row of the last frames

CLASSES = (
    AlarmClass.PROCESS,
    AlarmClass.COMBINED,
    AlarmClass.LIMIT,
    AlarmClass.INSTRUMENT,
)  # that are raised here, and end here


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


def _conditions(
    settings: Sequence[AlarmSettings | LimitSettings | InstrumentSettings], assets: int
) -> Conditions:
    """One condition for each of the settings and each asset, assets together."""
    return Conditions(
        np.repeat([round(delay.on_delay_s * SECOND) for delay in settings], assets),
        np.repeat([round(delay.off_delay_s * SECOND) for delay in settings], assets),
    )


class Alarms:
    """The alarms of all assets of one kind.

    ``threshold`` is in surprise; None where there is no model, and so no process alarm. ``head``
    names what a process alarm may come from, where the model has one.
    """

    def __init__(
        self,
        kind: KindSettings,
        assets: Sequence[str],
        *,
        site: str,
        threshold: float | None,
        head: Diagnosis | None = None,
    ) -> None:
        self._site, self._assets, self._kind = site, tuple(assets), kind
        self._channels = tuple(kind.channels)
        self._threshold = threshold
        self._process = ProcessConditions(kind.alarm, threshold or math.inf, len(assets))
        self._moving = Moving(len(assets), len(self._channels))
        self._episode = EpisodeBlame(len(assets), len(self._channels))
        self._diagnoses = None
        if head is not None and threshold is not None:
            columns = np.flatnonzero([channel.model for channel in kind.channels.values()])
            self._diagnoses = Diagnoses(
                head, columns, alarm=kind.alarm, threshold=threshold, assets=len(assets)
            )
        self._together, self._combined = math.inf, None  # the threshold of both sides
        if kind.fusion is not None and threshold is not None:
            asked = kind.fusion.threshold
            self._together = threshold if asked == "auto" else asked
            self._combined = ProcessConditions(kind.alarm, self._together, len(assets))
        self._limits = _limits(kind)
        self._beyond = _conditions([limit.settings for limit in self._limits], len(assets))
        self._resting_C = np.array(  # [C] whose limits say nothing while the machine does not run
            [c.limits is not None and c.limits.only_running for c in kind.channels.values()]
        )
        self._words = [(name, str(word)) for word in WORDS for name in self._channels]
        self._faulty = _conditions([kind.instrument] * len(self._words), len(assets))
        self._before = np.full((len(assets), len(self._channels)), np.nan)  # [A, C] last values
        self._still_A = np.zeros(len(assets), np.bool_)  # the machine has stopped, or never ran
        self.board = Board()

    def step(
        self,
        frames: Frames,
        scores: Scores,
        verdict: U8 | None = None,
        running: U8 | None = None,
        told: Bool | None = None,
        *,
        fused: Fused | None = None,
        explain: Explain = lambda _: None,
    ) -> list[AlarmEvent]:
        """The transitions of these frames and their scores, row for row the same.

        ``verdict`` [R, C]: what is wrong with the instruments; None: nothing. ``running`` [R]:
        RunStates; None: not known. ``told`` [R, C]: of what is wrong there people know by an
        alarm of another class; None: nowhere. ``fused``: what sensors and pictures say together.
        ``explain``: what the score of a row came from.
        """
        found = [
            *self._step_surprise(frames, scores, explain),
            *([] if fused is None else self._step_combined(frames, fused)),
            *self._step_limits(frames, scores),
            *([] if verdict is None else self._step_instruments(frames, verdict, told)),
        ]
        found.sort(key=lambda event: (event.tick, event.id, event.transition))
        events = []
        if self._kind.running is None:
            running = None  # it cannot stop
        stops = [] if running is None else self._stops(frames, running)
        for tick, asset in [*stops, (FOREVER, "")]:
            while found and found[0].tick <= tick:
                events.append(self.board.note(found.pop(0)))
            events += self._stopped(asset, tick)
        return events

    def _stops(self, frames: Frames, running: U8) -> list[tuple[int, str]]:
        """When which machine stopped that did not stand still before; in order of time."""
        row = frames.asset
        still = (running == RunState.OFF) | (running == RunState.STOPPING)
        known = last_true(running != RunState.UNKNOWN)
        within = known >= last_true(changes(row))
        still = np.where(within, still[known], self._still_A[row])
        before = np.append([False], still)[:-1]
        first = np.flatnonzero(changes(row))
        before[first] = self._still_A[row[first]]
        last = ends(row)
        self._still_A[row[last]] = still[last]
        at = np.flatnonzero(still & ~before)
        return sorted((int(frames.tick[i]), self._assets[row[i]]) for i in at)

    def _stopped(self, asset: str, tick: int) -> list[AlarmEvent]:
        """The alarms of the machine's state that stand when it stops: they go on to."""
        running = self._kind.running
        events = []
        for alarm in self.board.active(asset):
            after = tick - alarm.raised
            if after <= 0 or running is None or alarm.alarm_class is AlarmClass.INSTRUMENT:
                continue
            trips = after <= running.trip_s * SECOND
            events.append(
                alarm.event(
                    Transition.TRIPPED if trips else Transition.STOPPED,
                    tick=tick,
                    reason=f"machine stopped {after / SECOND:g} s after this alarm was raised"
                    f"{': a trip' if trips else ''}; it stands until the machine is seen healthy",
                )
            )
        return events

    def settle(self, standing: Sequence[Standing]) -> list[Standing]:
        """Let exactly these be active; gives back those that nothing here can end.

        Their limit, model, channel or asset is not configured, or the site had another name.
        """
        count = len(self._assets)
        surprise, combined = np.full((2, count), NEVER, np.int64)
        beyond = np.full(len(self._limits) * count, NEVER, np.int64)
        faulty = np.full(len(self._words) * count, NEVER, np.int64)
        places = {
            (asset, f"{channel} {name}"): (raised, number * count + row)
            for raised, names in ((beyond, self._limit_names()), (faulty, self._words))
            for number, (channel, name) in enumerate(names)
            for row, asset in enumerate(self._assets)
        }
        if self._threshold is not None:
            places |= {(asset, "surprise"): (surprise, p) for p, asset in enumerate(self._assets)}
        if self._combined is not None:
            places |= {(asset, "combined"): (combined, p) for p, asset in enumerate(self._assets)}
        mine, rest = [], []
        for alarm in standing:
            named = (alarm.asset, alarm.alarm_class, alarm.point, alarm.raised)
            place = places.pop((alarm.asset, alarm.point), None)
            if place is None or alarm.id != alarm_id(self._site, *named):
                rest.append(alarm)
                continue
            raised_P, p = place
            raised_P[p] = alarm.raised
            mine.append(alarm)
        self.board.settle(mine)
        self._process.settle(surprise)
        if self._combined is not None:
            self._combined.settle(combined)
        self._beyond.settle(beyond)
        self._faulty.settle(faulty)
        return rest

    def _step_surprise(self, frames: Frames, scores: Scores, explain: Explain) -> list[AlarmEvent]:
        if self._threshold is None:
            return []
        counts = scores.counts(self._kind.alarm.min_coverage)
        raised_A = self._process.raised
        found = self._process.step(
            asset=frames.asset,
            tick=frames.tick,
            surprise=scores.surprise,
            counts=counts,
            fresh=frames.fresh,
        )
        over_all = self._episode.step(
            frames.asset,
            scores.blame,
            over=counts & (scores.surprise >= self._threshold),
            raised_A=raised_A,
            changes=[crossing.change for crossing in found],
        )
        names, news = self._named(frames, scores, counts=counts, raised_A=raised_A, found=found)
        moved = self._moving.step(
            frames.asset,
            scores,
            counts=counts,
            fresh=frames.fresh,
            at=[crossing.change.row for crossing in found if crossing.change.active],
        )
        events = news
        for crossing in found:
            change = crossing.change
            surprise = float(scores.surprise[change.row])
            blame_C = scores.blame[change.row]
            if change.active:
                blame_C = weighed(blame_C, moved[change.row])
            else:
                blame_C = over_all.get(change.row, blame_C)
            blame = largest_first(self._channels, blame_C)
            reason = f"surprise {crossed(surprise, crossing, self._threshold, self._kind)}"
            if change.active:
                reason += blamed(blame, scores, change.row, explain(change.row), self._kind)
            elif change.row in over_all:
                reason += f"; all in all from {', '.join(shares(blame))}"
            if (name := names.get(change.row)) is not None and name.fault != UNKNOWN:
                reason += f"; {name}"
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
                    diagnosis=name,
                )
            )
        return events

    def _step_combined(self, frames: Frames, fused: Fused) -> list[AlarmEvent]:
        """What one side says alone has its own class: both must say it, and either may end it.

        So a row with one side alone counts where it is calm: then both cannot agree. That a picture
        fades is no sign of health: a row that is calm for its age alone says nothing.
        """
        if self._combined is None:
            return []
        both, events = fused.judgements, []
        agreed = both.agreed
        clear = self._together * self._kind.alarm.clear_ratio
        faint = agreed < clear
        calm = faint & (2 * np.fmin(both.sensor, both.picture) < clear)
        for crossing in self._combined.step(
            asset=frames.asset[fused.row],
            tick=both.tick,
            surprise=agreed,
            counts=((both.spoke == Spoke.BOTH) & ~faint) | calm,
            fresh=frames.fresh[fused.row],
        ):
            n = crossing.change.row
            surprise = float(agreed[n])
            words = crossed(surprise, crossing, self._together, self._kind)
            events.append(
                self._event(
                    replace(crossing.change, row=int(fused.row[n])),
                    frames,
                    alarm_class=AlarmClass.COMBINED,
                    point="combined",
                    reason=f"surprise of both {words}; {both.words(n)}",
                    value=surprise,
                    threshold=self._together,
                    picture=fused.picture[n],
                )
            )
        return events

    def _named(
        self,
        frames: Frames,
        scores: Scores,
        *,
        counts: Bool,
        raised_A: I64,
        found: Sequence[Crossing],
    ) -> tuple[dict[int, Named], list[AlarmEvent]]:
        """What each change looks like, by its row, and what is news of alarms that stand."""
        if self._diagnoses is None:
            return {}, []
        names, told = self._diagnoses.step(
            frames.asset, scores, counts=counts, raised_A=raised_A, crossings=found
        )
        return names, [
            replace(
                self._event(
                    Change(one.row, int(frames.asset[one.row]), active=True, raised=one.raised),
                    frames,
                    alarm_class=AlarmClass.PROCESS,
                    point="surprise",
                    reason=str(one.name),
                    value=float(scores.surprise[one.row]),
                    threshold=self._threshold or math.inf,
                    blame=largest_first(self._channels, scores.blame[one.row]),
                    diagnosis=one.name,
                ),
                transition=Transition.DIAGNOSED,
            )
            for one in told
        ]

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
                    f"{lasting(delay, self._kind)}"
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

    def _step_instruments(self, frames: Frames, verdict: U8, told: Bool | None) -> list[AlarmEvent]:
        """One condition for each channel and word; what asks for another word is another one."""
        asks_RC = _ASKS[verdict]
        if not (self._faulty.busy.any() or bool((asks_RC >= 0).any())):
            return []
        count_A, count_C = len(self._assets), len(self._channels)
        number = np.arange(len(self._words))
        says = np.ones((len(frames), len(number)), np.bool_)
        if told is not None:
            says = ~told[:, number % count_C]
        entered = (says & (asks_RC[:, number % count_C] == number // count_C)).ravel()
        found = self._faulty.step(
            (frames.asset[:, None] + number * count_A).ravel(),
            np.repeat(frames.tick, len(number)),
            says=says.ravel(),
            entered=entered,
            left=says.ravel() & ~entered,
            fresh=np.repeat(frames.fresh, len(number)),
        )
        events = []
        for change in found:
            row, place = divmod(change.row, len(number))
            name, word = self._words[place]
            column = place % count_C
            value = float(frames.value[row, column])
            if change.active:
                why = in_words(Verdict(verdict[row, column]), self._kind.channels[name], value)
                reason = (
                    f"{word}: {name} {why}{lasting(self._kind.instrument.on_delay_s, self._kind)}"
                )
            else:
                reason = (
                    f"{name}: no {word}{lasting(self._kind.instrument.off_delay_s, self._kind)}"
                )
            events.append(
                self._event(
                    replace(change, row=row),
                    frames,
                    alarm_class=AlarmClass.INSTRUMENT,
                    point=f"{name} {word}",
                    reason=reason,
                    value=math.nan if math.isnan(value) else value,  # one NaN equals itself
                    threshold=0.0,
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
        diagnosis: Named | None = None,
        picture: str = "",
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
            diagnosis=diagnosis,
            picture=picture,
        )

    def snapshot(self) -> dict[str, Any]:
        """What the next transitions depend on."""
        return {
            **self._process.snapshot(),
            "moving": self._moving.snapshot(),
            "episode": self._episode.snapshot(),
            **({} if self._diagnoses is None else {"diagnoses": self._diagnoses.snapshot()}),
            **({} if self._combined is None else {"combined": self._combined.snapshot()}),
            "beyond": self._beyond.snapshot(),
            "limits": [list(name) for name in self._limit_names()],
            "faulty": self._faulty.snapshot(),
            "words": [list(name) for name in self._words],
            "channels": list(self._channels),
            "before": self._before.copy(),
            "still": self._still_A.copy(),
            "board": self.board.snapshot(),
        }

    def restore(self, tree: Mapping[str, Any], assets: Sequence[str]) -> None:
        """Take back what ``snapshot`` gave for these assets, as far as the plan still has them."""
        old_A, new_A = common(assets, self._assets)
        self._process.restore(tree, old_A, new_A)
        if self._diagnoses is not None and "diagnoses" in tree:
            self._diagnoses.restore(tree["diagnoses"], old_A, new_A)
        if self._combined is not None and "combined" in tree:
            self._combined.restore(tree["combined"], old_A, new_A)
        for points, kept, named, names in (
            (self._beyond, "beyond", "limits", self._limit_names()),
            (self._faulty, "faulty", "words", self._words),
        ):
            if kept not in tree:  # an earlier version wrote it
                continue
            old_L, new_L = common([tuple(name) for name in tree[named]], names)
            old_P = (old_L[:, None] * len(assets) + old_A).ravel()
            new_P = (new_L[:, None] * len(self._assets) + new_A).ravel()
            points.restore(tree[kept], old_P, new_P)
        old_C, new_C = common(tree["channels"], self._channels)
        if "moving" in tree:  # as above
            self._moving.restore(tree["moving"], (old_A, old_C), (new_A, new_C))
        if "episode" in tree:  # as above
            self._episode.restore(tree["episode"], (old_A, old_C), (new_A, new_C))
        self._before[np.ix_(new_A, new_C)] = tree["before"][np.ix_(old_A, old_C)]
        if "still" in tree:  # as above
            self._still_A[new_A] = tree["still"][old_A]
        self.board.restore(tree["board"], self._assets)

    def _limit_names(self) -> list[tuple[str, str]]:
        return [(self._channels[limit.channel], limit.name) for limit in self._limits]


# The place in WORDS of what a verdict asks for; -1: nothing
_ASKS = np.array([WORDS.index(WORD_OF[v]) if v in WORD_OF else -1 for v in Verdict])

"""The links to the sources: gone, with a wrong clock, or losing samples.

Beside the kinds in the step. What is wrong with a whole source is one alarm of class `pipeline`,
that names the assets it blinds, instead of one for each of their channels. It is about our own
time: what counts is time that passed while the service listened, in the steps of its beats; so a
backfill, in which none passes, raises none. docs/decisions/0052-pipeline-alarms.md.

Its words are those of NAMUR NE 107 where the peer still works: a wrong clock is out of
specification, a queue that overflows wants maintenance.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from connectors.batch import I64, Notice, NoticeKind
from monitor.core.aggregate import FOREVER, NEVER, Bool, common
from monitor.core.board import Board, alarm_id
from monitor.core.missing import LONGEST_WORDS
from monitor.core.plan import SECOND, Plan
from monitor.core.records import AlarmClass, AlarmEvent, Command, Standing, Transition

# S sources, P points of a source

LOST, CLOCK, OVERFLOW = POINTS = ("lost", "clock", "samples lost")
MOST_NAMED = 5  # assets in a reason
_SILENT = (
    NoticeKind.LOST,
    NoticeKind.DEATH,
    NoticeKind.ENDED,
    NoticeKind.GAP,
)  # not a sign of life


class Links:
    """The sources of a plan; times are ns that passed (``now``) and wall time (``wall``)."""

    def __init__(self, plan: Plan) -> None:
        self._site, self._settings = plan.site, plan.links
        assets: dict[str, list[str]] = {}
        idle_s: dict[str, float] = {}
        for asset in plan.assets:
            for source in sorted({source for _, source in asset.tags.values()}):
                assets.setdefault(source, []).append(asset.name)
                idle = plan.idle_s(asset)
                idle_s[source] = max(idle_s.get(source, 0.0), idle)
        for camera in plan.cameras:
            whose = assets.setdefault(camera.source, [])
            whose += [camera.asset] if camera.asset not in whose else []
            idle_s[camera.source] = max(idle_s.get(camera.source, 0.0), camera.idle_s)
        self.sources = tuple(sorted(assets))
        self._assets = assets
        self._number = {source: number for number, source in enumerate(self.sources)}
        shape = len(POINTS), len(self.sources)
        self._idle_S = np.array([round(idle_s[s] * SECOND) for s in self.sources], np.int64)
        on_s, off_s = self._settings.delays
        self._on_P = np.array([[round(s * SECOND)] for s in on_s], np.int64)
        self._off_P = np.array([[round(s * SECOND)] for s in off_s], np.int64)
        self._heard_S = np.full(len(self.sources), FOREVER, np.int64)  # never: not yet awaited
        self._sound_S = self._heard_S.copy()  # the same, but for samples that were refused
        self._said_S = np.zeros(len(self.sources), np.bool_)  # it said that it is gone
        self._ended_S = np.zeros(len(self.sources), np.bool_)
        self._began_PS = np.full(shape, NEVER, np.int64)  # the trouble that lasts
        self._seen_PS = np.full(shape, NEVER, np.int64)  # last
        self._raised_PS = np.full(shape, NEVER, np.int64)  # wall time; NEVER: no alarm
        self._words: dict[tuple[str, str], str] = {}  # (source, point): what was said of it last
        self.board = Board()

    def listen(self, now: int) -> None:
        """Silence counts from here: whoever spoke before could not be heard.

        Who is told as lost stays so until it is heard.
        """
        self._heard_S[:] = self._sound_S[:] = now
        self._said_S |= self._raised_PS[POINTS.index(LOST)] != NEVER

    def await_new(self, now: int) -> None:
        """Silence of whoever was never heard counts from here; that of the others goes on."""
        for mine_S in (self._heard_S, self._sound_S):
            np.minimum(mine_S, now, out=mine_S)

    def heard(self, source: str, now: int) -> None:
        """A sign of life, and not only samples that are refused."""
        if (s := self._number.get(source)) is not None:
            self._lives(s, now)
            self._sound_S[s] = now

    def refused(self, source: str, reason: str, now: int) -> None:
        """A sign of life: samples whose stamps cannot be true."""
        if (s := self._number.get(source)) is not None:
            self._lives(s, now)
            self._trouble(CLOCK, s, now, reason)

    def says(self, notice: Notice, now: int) -> None:
        """What a source says of itself."""
        if (s := self._number.get(notice.source)) is None:
            return  # the journal holds what the plan no longer names
        if notice.kind not in _SILENT:
            self.heard(notice.source, now)
        if notice.kind in (NoticeKind.LOST, NoticeKind.DEATH):
            self._said_S[s] = True
            self._words[notice.source, LOST] = notice.reason[:LONGEST_WORDS]
        elif notice.kind is NoticeKind.ENDED:
            self._ended_S[s] = True
        elif notice.kind is NoticeKind.OVERFLOW:
            self._trouble(OVERFLOW, s, now, notice.reason)

    def blind(self, now: int) -> frozenset[str]:
        """Who shows nothing: frames no longer wait for it, and it has not ended."""
        blind_S = self._gone(now, self._sound_S)
        return frozenset(self.sources[s] for s in np.flatnonzero(blind_S).tolist())

    def step(self, now: int, wall: int) -> list[AlarmEvent]:
        """The alarms that are raised, or return, by now."""
        gone_S = self._gone(now, self._heard_S)
        for s in np.flatnonzero(gone_S).tolist():
            self._trouble(LOST, s, now, None)
        quiet = now - self._seen_PS >= self._off_P
        stands = self._raised_PS != NEVER
        lost = POINTS.index(LOST)
        self._began_PS[lost, ~gone_S & ~stands[lost]] = NEVER  # heard: not lost so far
        due = ~stands & (self._began_PS != NEVER) & (self._seen_PS - self._began_PS >= self._on_P)
        changes = np.argwhere(due | (stands & quiet)).tolist()
        self._began_PS[quiet] = NEVER
        return [self._change(p, s, wall) for p, s in changes]

    def acknowledge(self, command: Command, *, now: int) -> list[AlarmEvent]:
        """As ``Board.acknowledge``."""
        return self.board.acknowledge(command, now=now)

    def settle(self, standing: Sequence[Standing]) -> list[Standing]:
        """Let exactly these be active; gives back those that nothing here can end."""
        self._raised_PS[:] = NEVER
        mine, rest = [], []
        for alarm in standing:
            named = (alarm.asset, alarm.alarm_class, alarm.point, alarm.raised)
            known = alarm.asset in self._number and alarm.point in POINTS
            if known and alarm.id == alarm_id(self._site, *named):
                at = POINTS.index(alarm.point), self._number[alarm.asset]
                self._raised_PS[at] = alarm.raised
                mine.append(alarm)
            else:
                rest.append(alarm)
        self.board.settle(mine)
        return rest

    def _lives(self, s: int, now: int) -> None:
        self._heard_S[s], self._said_S[s], self._ended_S[s] = now, False, False

    def _gone(self, now: int, last_S: I64) -> Bool:
        """Who said so, or is silent since ``last_S``, and has not ended [S]."""
        gone: Bool = (self._said_S | (now - last_S > self._idle_S)) & ~self._ended_S
        return gone

    def _trouble(self, point: str, s: int, now: int, words: str | None) -> None:
        """There is trouble now; it lasts if there was some not long ago."""
        at = POINTS.index(point), s
        if self._began_PS[at] == NEVER or now - self._seen_PS[at] > self._on_P[at[0], 0] > 0:
            self._began_PS[at] = now
        self._seen_PS[at] = now
        if words is not None:
            self._words[self.sources[s], point] = words[:LONGEST_WORDS]

    def _change(self, p: int, s: int, wall: int) -> AlarmEvent:
        """An alarm is raised, or returns."""
        rises = self._raised_PS[p, s] == NEVER
        raised = wall if rises else int(self._raised_PS[p, s])
        self._raised_PS[p, s] = wall if rises else NEVER
        source, point = self.sources[s], POINTS[p]
        named = (source, AlarmClass.PIPELINE, point, raised)
        return self.board.note(
            AlarmEvent(
                id=alarm_id(self._site, *named),
                asset=source,
                alarm_class=AlarmClass.PIPELINE,
                point=point,
                transition=Transition.RAISED if rises else Transition.RETURNED,
                tick=wall,
                raised=raised,
                reason=self._raises(source, point) if rises else self._returns(source, point),
                value=math.nan,
                threshold=0.0,
                active=bool(rises),
            )
        )

    def _raises(self, source: str, point: str) -> str:
        words = self._words.get((source, point), "")
        why = f" ({words})" if words and point != CLOCK else ""
        whose = _names(self._assets[source])
        settings = self._settings
        return {
            LOST: f"source {source} was not heard for {settings.lost_s:g} s{why}; blind: {whose}",
            CLOCK: f"out of specification: the clock of source {source} is wrong: its samples are "
            f"stamped {_CLOCK_WORDS.get(words, words)}, and refused; that concerns {whose}",
            OVERFLOW: f"maintenance required: the peer of source {source} dropped samples before "
            f"they could be sent{why}; that concerns {whose}",
        }[point]

    def _returns(self, source: str, point: str) -> str:
        back_s, settings = self._settings.back_s, self._settings
        return {
            LOST: f"source {source} is heard again for {back_s:g} s",
            CLOCK: f"source {source}: no stamp was refused for {settings.quiet_s:g} s",
            OVERFLOW: f"source {source}: nothing was dropped for {settings.quiet_s:g} s",
        }[point]

    # ---- snapshot -------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """What the next alarms depend on."""
        return {
            "sources": list(self.sources),
            "heard": self._heard_S.copy(),
            "sound": self._sound_S.copy(),
            "said": self._said_S.copy(),
            "ended": self._ended_S.copy(),
            "began": self._began_PS.copy(),
            "seen": self._seen_PS.copy(),
            "raised": self._raised_PS.copy(),
            "words": [[*place, words] for place, words in self._words.items()],
            "board": self.board.snapshot(),
        }

    def restore(self, tree: Mapping[str, Any]) -> None:
        """Take back what ``snapshot`` gave, for the sources that are still there."""
        tree = {"sound": tree["heard"], **tree}  # an earlier version did not tell them apart
        old_S, new_S = common(tree["sources"], self.sources)
        for mine, name in (
            (self._heard_S, "heard"),
            (self._sound_S, "sound"),
            (self._said_S, "said"),
            (self._ended_S, "ended"),
            (self._began_PS, "began"),
            (self._seen_PS, "seen"),
            (self._raised_PS, "raised"),
        ):
            mine[..., new_S] = tree[name][..., old_S]
        self._words = {
            (source, point): words
            for source, point, words in tree["words"]
            if source in self._number
        }
        self.board.restore(tree["board"], self._number)


_CLOCK_WORDS = {"ahead": "in the future", "ancient": "too long ago"}


def _names(assets: Sequence[str]) -> str:
    more = f" and {len(assets) - MOST_NAMED} more" if len(assets) > MOST_NAMED else ""
    return f"{', '.join(assets[:MOST_NAMED])}{more}"

"""The step: one journal record in, its results out.

The whole pure middle in one place: samples become frames, frames scores, scores alarms. No clock,
no randomness, no I/O: the same records in the same order always give the same results, so a replay
of the journal after a crash ends where the crash was, and a backfill of history gives what the live
run gave.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np

from connectors.batch import (
    GOOD,
    I64,
    Flag,
    Notice,
    NoticeKind,
    Samples,
    Waveforms,
    forced,
)
from models.bundle import Bundle
from models.vision.progression import Progression
from monitor.core.aggregate import Bool, Index
from monitor.core.alarms import CLASSES
from monitor.core.conservation import Conservation
from monitor.core.kind import KindPipeline
from monitor.core.links import Links
from monitor.core.missing import LONGEST_WORDS, SourceGap, said
from monitor.core.pictures import Cameras
from monitor.core.plan import SECOND, Feature, Plan
from monitor.core.records import (
    Action,
    AlarmClass,
    AlarmEvent,
    Beat,
    Cause,
    Command,
    Epoch,
    PictureResult,
    PicturesTaken,
    Record,
    Results,
    ScoreState,
    Shelf,
    Standing,
    Transition,
)
from monitor.core.shelving import Shelves
from monitor.core.slots import SlotMap, hear
from monitor.core.vibration import feature_of, samples_of

# The most that a step of wall time from one record to the next counts as silence: more of it is a
# clock that was set, or a program that stood still, when no source could be heard. A step back of
# no more is no clock that was set: sources stamp their records side by side, and commit in turn.
LONGEST_STEP = 5 * SECOND

MOST_REASONS = 50  # by which what a source rejects is counted, in its own words
OTHER = "other"  # the reason of all further ones


_SAYS = {  # what a notice says of its source, in a word
    NoticeKind.ALIVE: "running",
    NoticeKind.BIRTH: "running",
    NoticeKind.LOST: "lost",
    NoticeKind.DEATH: "gone",
    NoticeKind.ENDED: "ended",
}


Rows = TypeVar("Rows", Samples, Waveforms)


class Pipeline:
    """The state of the step and the step itself, for all assets of a plan.

    ``bundles`` holds the model of each kind that has one, ``growth`` the model of progression of
    each camera that has one. Raises ValueError when a kind alarms at the model's own threshold and
    the model has none.
    """

    def __init__(
        self,
        plan: Plan,
        bundles: Mapping[str, Bundle],
        growth: Mapping[str, Progression] = MappingProxyType({}),
    ) -> None:
        self._wall = 0  # ns, wall time up to which time has passed
        self._latest = 0  # ns, the latest wall time seen: a clock set back does not turn it back
        # ns, wall time as it would be had nobody set the clock back: what stamps are held against
        self._reached = 0
        self._now = 0  # ns that passed since the first record: what silence is counted in
        self._kinds: dict[str, KindPipeline] = {}
        self._received: Counter[str] = Counter()
        self._late: Counter[str] = Counter()
        self._repeated: Counter[str] = Counter()  # found at the door; frames count the others
        self._rejected: dict[str, Counter[str]] = {}
        self._examples: dict[str, dict[str, str]] = {}  # of them, by source and reason
        self._gaps: dict[str, Counter[str]] = {}  # by source: how many of each kind, and how long
        self._marks: dict[str, Counter[str]] = {}  # by source: samples that are not as others
        self._changed: dict[str, dict[str, str]] = {}  # by source: tags of another unit, and why
        self._sources: dict[str, dict[str, Any]] = {  # what each said last of itself
            source: {"state": "waiting", "last_ns": None} for source in sorted(plan.sources)
        }
        self._frames: Counter[str] = Counter()  # by score state
        self._elsewhere: Counter[str] = Counter()  # stored for assets the plan no longer names
        self._shelves = Shelves()
        self._gone: list[Standing] = []  # to be ended: nothing that is configured could
        self._slots = SlotMap(plan)
        self._links = Links(plan)
        self._cameras = Cameras(plan, growth)
        self._looks = {  # which cameras there are, as `status` says
            camera.name: {"number": camera.id, "asset": camera.asset, "source": camera.source}
            for camera in plan.cameras
        }
        self._unscored = [asset.name for asset in plan.assets if asset.kind is None]
        self._config = ""  # that is in force, as its epoch names it
        for name, kind in plan.kinds.items():
            assets = plan.assets_of(name)
            self._kinds[name] = KindPipeline(
                name, kind, assets, bundles.get(name), site=plan.site, lags=plan.lags
            )

    def step(self, record: Record) -> Results:
        """What follows from one record."""
        self._pass(record.received)
        late: tuple[Samples, ...] = ()
        missing: tuple[SourceGap, ...] = ()
        pictures: tuple[PictureResult, ...] = ()
        events = self._shelves.expire(self._latest)
        touched: Iterable[KindPipeline] = self._kinds.values()
        match record.body:
            case Samples():
                late, touched = self._take(record.body)
            case Waveforms():
                late, touched = self._take_blocks(record.body)
            case PicturesTaken() | PictureResult():
                pictures, said = self._pictured(record.body)
                events += said
            case Notice():
                missing = self._notice(record.body, received=record.received)
            case Epoch():
                events += self._begin(record.body, received=record.received)
            case Command():
                if record.body.action is Action.SHELVE and self._wall < self._latest - LONGEST_STEP:
                    self._latest = self._wall  # as for an Epoch: else its time would be over
                events += self._obey(record.body)
            case Beat():
                events += self._shelves.mark(self._links.step(self._now, self._latest))
        blind = self._links.blind(self._now)
        parts = [kind.close(self._now, blind) for kind in touched]
        events += self._shelves.mark(event for _, found, _, _ in parts for event in found)
        found = tuple(scores for scores, _, _, _ in parts if scores is not None)
        for scores in found:
            counts = np.bincount(scores.state, minlength=len(ScoreState)).tolist()
            self._frames.update({state.name.lower(): counts[state] for state in ScoreState})
        return Results(
            scores=found,
            alarms=tuple(events),
            gaps=tuple(gap for _, _, gaps, _ in parts for gap in gaps),
            late=late,
            source_gaps=missing,
            pictures=pictures,
            judgements=tuple(
                judged for _, _, _, judged in parts if judged is not None and len(judged)
            ),
        )

    def _pass(self, received: int) -> None:
        """Time passes, up to the record that was received then."""
        if not self._wall:
            self._listen()
            self._wall = received
        passed = received - self._wall
        if passed > 0 or passed < -LONGEST_STEP:
            went_by = min(max(passed, 0), LONGEST_STEP)
            self._now += went_by
            self._reached += went_by
            self._wall = received
        self._latest = max(self._latest, received)
        self._reached = max(self._reached, received)

    @property
    def conservation(self) -> dict[str, Conservation]:
        """Per source: where every sample it ever gave has gone."""
        stored = Counter(self._elsewhere)
        stored.update(self._cameras.seen)
        repeated = Counter(self._repeated)
        for kind in self._kinds.values():
            stored.update(kind.frames.stored)
            repeated.update(kind.frames.duplicate)
        return {
            source: Conservation(
                received=self._received[source],
                stored=stored[source],
                duplicate=repeated[source],
                late=self._late[source],
                rejected=dict(self._rejected.get(source, {})),
                waiting=self._cameras.waiting.get(source, 0),
            )
            for source in sorted(self._received)
        }

    def status(self) -> dict[str, Any]:
        """What was counted since the first record, as JSON values."""
        return {
            "frames": dict(self._frames),
            "conservation": {
                source: counts.to_json() for source, counts in self.conservation.items()
            },
            "sources": {source: dict(known) for source, known in self._sources.items()},
            "examples": {source: dict(known) for source, known in self._examples.items()},
            "gaps": {source: dict(counts) for source, counts in self._gaps.items()},
            "forced": self._forced(),
            "outrun": self._outrun(),
            "repeats_forgotten": sum(kind.frames.forgotten for kind in self._kinds.values()),
            "marks": {source: dict(counts) for source, counts in self._marks.items()},
            "unit_changed": {source: dict(tags) for source, tags in self._changed.items()},
            "thresholds": {
                name: {
                    "value": kind.threshold,
                    "provisional": kind.provisional,
                    "not_learnt": list(kind.not_learnt),
                }
                for name, kind in self._kinds.items()
                if kind.threshold is not None
            },
            "cameras": {name: dict(known) for name, known in self._looks.items()},
            "cameras_alone": list(self._unscored),
            "judgements": {
                name: {"late": kind.fusion.late, "forgotten": kind.fusion.forgotten}
                for name, kind in self._kinds.items()
                if kind.fusion is not None
            },
        }

    def threshold_of(self, kind: str) -> float:
        """The surprise that a kind alarms at; infinite where it has no model."""
        threshold = self._kinds[kind].threshold
        return math.inf if threshold is None else threshold

    def snapshot(self) -> dict[str, Any]:
        """Everything that the next results depend on, as arrays and JSON values, all copies."""
        return {
            "wall": self._wall,
            "latest": self._latest,
            "reached": self._reached,
            "now": self._now,
            **self.status(),
            "received": dict(self._received),
            "late": dict(self._late),
            "repeated": dict(self._repeated),
            "rejected": {source: dict(counts) for source, counts in self._rejected.items()},
            "config": self._config,
            "links": self._links.snapshot(),
            "cameras": self._cameras.snapshot(),
            "gone": [asdict(alarm) for alarm in self._gone],
            "shelves": self._shelves.snapshot(),
            "kinds": {name: kind.snapshot() for name, kind in self._kinds.items()},
        }

    def restore(self, tree: Mapping[str, Any]) -> None:
        """Take back what ``snapshot`` gave. What the plan no longer names is left behind."""
        self._wall, self._latest, self._now = tree["wall"], tree["latest"], tree["now"]
        self._reached = tree.get("reached", self._latest)  # an earlier version has none
        self._received = Counter(tree["received"])
        self._late = Counter(tree["late"])
        self._frames = Counter(tree["frames"])
        self._repeated = Counter(tree["repeated"])
        self._rejected = {source: Counter(counts) for source, counts in tree["rejected"].items()}
        self._config = tree.get("config", "")
        if "links" in tree:  # else an earlier version wrote it
            self._links.restore(tree["links"])
        if "cameras" in tree:  # the same
            self._cameras.restore(tree["cameras"])
        # A snapshot from before alarms were settled and shelved has none of these.
        self._gone = [Standing.from_json(alarm) for alarm in tree.get("gone", ())]
        self._shelves.restore(tree.get("shelves", ()))
        self._examples = {source: dict(known) for source, known in tree.get("examples", {}).items()}
        self._gaps = {source: Counter(counts) for source, counts in tree.get("gaps", {}).items()}
        self._marks = {source: Counter(counts) for source, counts in tree.get("marks", {}).items()}
        self._changed = {
            source: self._by_name(source, tags)
            for source, tags in tree.get("unit_changed", {}).items()
        }
        for source, known in tree.get("sources", {}).items():
            if source in self._sources:
                self._sources[source] = dict(known)
        for name, kind in self._kinds.items():
            if name in tree["kinds"]:
                kind.restore(tree["kinds"][name])
        for source, counts in self.conservation.items():
            before = Conservation.from_json(tree["conservation"][source])
            self._elsewhere[source] += before.stored - counts.stored
            self._repeated[source] += before.duplicate - counts.duplicate

    def settle(self, standing: Sequence[Standing], shelves: Sequence[Shelf] = ()) -> None:
        """Go on from what people were told: exactly these alarms are active, these points shelved.

        To be called where the records whose results are out end and new ones begin. The state says
        the same, unless those records were stepped with another configuration before. An alarm
        that nothing here can end, for it is no longer configured, ends with the next Epoch.
        """
        links = [alarm for alarm in standing if alarm.alarm_class is AlarmClass.PIPELINE]
        rest = [alarm for alarm in standing if alarm.alarm_class in CLASSES]
        for kind in self._kinds.values():
            rest = kind.alarms.settle(rest)
        pictures = [alarm for alarm in standing if alarm.alarm_class is AlarmClass.PICTURE]
        self._gone = [*rest, *self._links.settle(links), *self._cameras.settle(pictures)]
        self._shelves.settle(shelves)

    def _take_blocks(self, blocks: Waveforms) -> tuple[tuple[Samples, ...], list[KindPipeline]]:
        """Hand on what the channels want of each block: its samples, or numbers of it.

        Each of them counts as a sample; a block that nobody wants counts as its samples.
        """
        late: list[Samples] = []
        touched: dict[int, KindPipeline] = {}
        wanted = np.zeros(len(blocks), np.bool_)
        for feature in self._slots.features:
            mine = self._slots.of(blocks.source, blocks.tag, feature)[0] >= 0
            wanted |= mine
            if bool(mine.any()):
                found = self._take(feature_of(_rows(blocks, mine), feature), feature)
                late += found[0]
                touched |= {id(kind): kind for kind in found[1]}
        one_by_one = (self._slots.of(blocks.source, blocks.tag)[0] >= 0) | ~wanted
        if bool(one_by_one.any()):
            found = self._take(samples_of(_rows(blocks, one_by_one)))
            late += found[0]
            touched |= {id(kind): kind for kind in found[1]}
        return tuple(late), list(touched.values())

    def _take(
        self, samples: Samples, feature: Feature | None = None
    ) -> tuple[tuple[Samples, ...], list[KindPipeline]]:
        """Hand samples to their kinds; gives those that came too late, and the kinds."""
        self._received[samples.source] += len(samples)
        self._mark(samples)
        number, slot = self._slots.of(samples.source, samples.tag, feature)
        self._reject(samples.source, "unknown_tag", int((number < 0).sum()))
        late, touched, sound = [], [], False
        for place, kind in enumerate(self._kinds.values()):
            mine = np.flatnonzero(number == place)
            if not len(mine):
                continue
            touched.append(kind)
            intake = kind.frames.push(
                samples.source,
                slot[mine],
                samples.time[mine],
                samples.value[mine],
                samples.status[mine],
                flags=samples.flags[mine],
                received=self._reached,
                now=self._now,
            )
            self._repeated[samples.source] += intake.duplicate
            if bool(intake.sound.any()):
                sound = True
                self._heard(samples.source, "running", samples.time[mine[intake.sound]])
            for reason, count in intake.rejected.items():
                self._reject(samples.source, reason, count)
                self._links.refused(samples.source, reason, self._now)
            if bool(intake.late.any()):
                late.append(_rows(samples, mine[intake.late]))
                self._late[samples.source] += int(intake.late.sum())
        if sound or not touched:
            self._links.heard(samples.source, self._now)
        return tuple(late), touched

    def _pictured(
        self, given: PicturesTaken | PictureResult
    ) -> tuple[tuple[PictureResult, ...], list[AlarmEvent]]:
        """Pictures were accepted, and wait to be inspected; or one of them was: its result."""
        source = given.source or ""
        if isinstance(given, PicturesTaken):
            self._received[source] += len(given) + given.repeated
            self._repeated[source] += given.repeated
            self._links.heard(source, self._now)
            self._heard(source, "running", given.time if len(given) else None)
            self._cameras.take(given)
            return (), []
        if not self._cameras.found(given):
            self._received[source] += 1  # that it came is in a record that is lost
        if given.rejected:
            self._reject(source, given.rejected, 1)
        self._fuse(given)
        result = self._cameras.foretold(given)
        return (result,), self._shelves.mark(self._cameras.step(result))

    def _fuse(self, result: PictureResult) -> None:
        """What a picture says counts beside the sensors of its asset, for when its part was made.

        A network that gives no surprise, or none that is a number, says nothing.
        """
        camera, surprise = self._cameras.camera(result.camera), result.surprise
        if camera is None or result.rejected or surprise is None or not 0 <= surprise < math.inf:
            return
        for kind in self._kinds.values():
            kind.picture(camera.asset, result.time - camera.lag, surprise, result.hash)

    def _begin(self, epoch: Epoch, *, received: int) -> list[AlarmEvent]:
        """What follows from another configuration; assets that it does not touch are not."""
        if epoch.cause is Cause.START:
            self._latest = self._reached = received  # a clock once wrong is believed no longer
            self._listen()
        else:
            for kind in self._kinds.values():
                kind.frames.await_new(self._now)
            self._links.await_new(self._now)
        if epoch.config != self._config and self._config:
            self._changed.clear()
            for kind in self._kinds.values():
                kind.units_known()
        self._config = epoch.config
        gone, self._gone = self._gone, []
        why = "no longer configured"
        return self._shelves.mark(
            alarm.event(Transition.RETURNED, tick=self._latest, reason=why, active=False)
            for alarm in gone
        )

    def _obey(self, command: Command) -> list[AlarmEvent]:
        """What follows from what a person did; nothing where no alarm is of that name."""
        boards = [
            *(kind.alarms.board for kind in self._kinds.values()),
            self._links.board,
            self._cameras.board,
        ]
        match command.action:
            case Action.ACKNOWLEDGE:
                seen = [
                    one for board in boards for one in board.acknowledge(command, now=self._latest)
                ]
                self._look(command.target)
                return self._shelves.mark(seen)
            case Action.SHELVE:
                named = [alarm for board in boards if (alarm := board.find(command.target))]
                return [
                    event
                    for alarm in named
                    for event in self._shelves.put(alarm, command, now=self._latest)
                ]
            case Action.UNSHELVE:
                return self._shelves.take(command, now=self._latest)
            case _:
                return []

    def _look(self, alarm_id: str) -> None:
        """Whose unit changed is known by who has seen the alarm."""
        for kind in self._kinds.values():
            if alarm := kind.alarms.board.find(alarm_id):
                for tag in kind.looked(alarm):
                    for known in self._changed.values():
                        known.pop(str(tag), None)

    def _notice(self, notice: Notice, *, received: int) -> tuple[SourceGap, ...]:
        """What a source said of itself; gives what it said is missing, or filled."""
        if notice.kind in _SAYS:
            self._heard(notice.source, _SAYS[notice.kind], None)
        self._links.says(notice, self._now)
        builders = [kind.frames for kind in self._kinds.values()]
        hear(notice, builders, received=self._reached, now=self._now)
        if notice.kind is NoticeKind.REJECTED:
            self._received[notice.source] += notice.count
            self._reject(notice.source, notice.reason, notice.count)
            if notice.example:
                examples = self._examples.setdefault(notice.source, {})
                if len(examples) < MOST_REASONS:
                    reason = notice.reason[:LONGEST_WORDS]
                    examples.setdefault(reason, notice.example[:LONGEST_WORDS])
        if notice.kind in (NoticeKind.UNIT_CHANGED, NoticeKind.UNIT_RESTORED):
            self._units(notice)
        gap = said(notice, received=received)
        if gap is None:
            return ()
        counts = self._gaps.setdefault(gap.source, Counter())
        counts[gap.kind] += 1
        counts[f"{gap.kind}_ns"] += gap.until - gap.since
        return (gap,)

    def _units(self, notice: Notice) -> None:
        """The unit of some tags is not what it was, or is so again."""
        changed = notice.kind is NoticeKind.UNIT_CHANGED
        known = self._changed.setdefault(notice.source, {})
        names = [str(tag) for tag in notice.tags or self._slots.tags_of(notice.source)]
        if changed:
            known |= dict.fromkeys(names, notice.reason[:LONGEST_WORDS])
        else:
            for name in names:
                known.pop(name, None)
        for kind in self._kinds.values():
            kind.units(notice.source, notice.tags, changed=changed)

    def _by_name(self, source: str, tags: Mapping[str, str]) -> dict[str, str]:
        """An earlier version said "all" for the tags of a source."""
        named = dict(tags)
        if (why := named.pop("all", None)) is None:
            return named
        return dict.fromkeys(map(str, self._slots.tags_of(source)), why) | named

    def _forced(self) -> dict[str, list[str]]:
        """The channels of each asset that hold a value that was set by hand."""
        found: dict[str, list[str]] = {}
        for kind in self._kinds.values():
            for asset, channel in kind.frames.forced:
                found.setdefault(asset, []).append(channel)
        return found

    def _outrun(self) -> dict[str, int]:
        """How often frames closed without waiting for a source, for too many samples waited."""
        found: Counter[str] = Counter()
        for kind in self._kinds.values():
            found.update(kind.frames.outrun)
        return {source: count for source, count in found.items() if count}

    def _mark(self, samples: Samples) -> None:
        """Count what is not as other samples: stamped anew, read from history, set by hand."""
        counts = {
            flag.name.lower(): int(np.count_nonzero(samples.flags & flag))
            for flag in (Flag.RESTAMPED, Flag.REPLAYED)
            if flag.name and samples.flags.any()
        }
        if bool((samples.status != GOOD).any()):
            counts["forced"] = int(np.count_nonzero(forced(samples.status)))
        if any(counts.values()):
            self._marks.setdefault(samples.source, Counter()).update(counts)

    def _heard(self, source: str, state: str, time: I64 | None) -> None:
        """What a source is doing, and the latest of its stamps."""
        if (known := self._sources.get(source)) is None:
            return  # the journal holds what the plan no longer names
        known["state"] = state
        if time is not None:
            known["last_ns"] = max(known["last_ns"] or 0, int(time.max()))

    def _reject(self, source: str, reason: str, count: int) -> None:
        if count:
            known, reason = self._rejected.setdefault(source, Counter()), reason[:LONGEST_WORDS]
            known[reason if reason in known or len(known) < MOST_REASONS else OTHER] += count

    def _listen(self) -> None:
        for kind in self._kinds.values():
            kind.frames.listen(self._now)
        self._links.listen(self._now)


def _rows(batch: Rows, wanted: Index | Bool) -> Rows:
    """Some of the samples or blocks, without a position: they are stored already."""
    columns: dict[str, Any] = {
        field.name: column[wanted]
        for field in fields(batch)
        if isinstance(column := getattr(batch, field.name), np.ndarray)
    }
    return replace(batch, **columns, position=None)

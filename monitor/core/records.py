"""What the step reads and what it gives: journal records in, results out.

A record is one row of the journal; everything that may change a result is one. Results are columns
too.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import IntEnum, StrEnum
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from connectors.batch import Notice, Samples, Waveforms
from models.fusion import agreed
from models.naming import Named
from models.vision.acceptance import Grade
from monitor.core.missing import SourceGap

# N rows, C channels of one kind


@dataclass(frozen=True, slots=True, kw_only=True)
class PicturesTaken:
    """Pictures that were accepted: their files are on the disk, and wait to be inspected.

    A picture of equal camera, time and content that was there before is counted, and not taken.
    """

    source: str
    camera: NDArray[np.int32]  # [N] camera numbers
    time: NDArray[np.int64]  # [N] ns since 1970 UTC
    part: tuple[str | None, ...]  # [N]
    recipe: tuple[str | None, ...]  # [N]
    hash: tuple[str, ...]  # [N] SHA-256 of each file, hex
    repeated: int = 0  # pictures that came with these and were there before
    position: str | None = None

    def __len__(self) -> int:
        """Count of pictures that were not there before."""
        return len(self.camera)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenDefect:
    """One place of a picture that is not as it should be; sizes where the scale is known."""

    label: str
    probability: float
    box: tuple[float, float, float, float]  # x1, y1, x2, y2: pixels of the picture as it came
    width_mm: float | None = None  # of the box
    height_mm: float | None = None  # of the box
    area_mm2: float | None = None  # of the mask; None too where there is none
    length_mm: float | None = None  # the longest way across the mask, or the box
    grade: Grade = Grade.NONE

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Self:
        """What ``dataclasses.asdict`` gave."""
        changed = {"box": tuple(given["box"]), "grade": Grade(given["grade"])}
        return cls(**(dict(given) | changed))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What the pictures of one place up to this one foretell: made in the step.

    Areas are of all that is wrong, in mm2 where the camera has a scale, else in pixels.
    """

    unit: str  # "mm2" or "px"
    now: float  # the area on this picture
    area: float  # that many steps on; half of what comes is larger
    low: float
    high: float  # between the two lies the model's share of what comes
    onset: float | None  # probability that something begins within so many steps; None: it has


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureResult:
    """What became of one picture: made before the journal, for inspection is not bit-stable.

    Everything that the step, points and alarms want of a picture is in it. Of a camera without a
    model, ``model`` and ``label`` are empty.
    """

    camera: int
    time: int  # ns since 1970 UTC
    part: str | None
    label: str  # the class of the whole picture
    probability: float  # of that class
    recipe: str | None = None
    hash: str = ""  # SHA-256 of the file, hex; "": an earlier version wrote it
    model: str = ""  # hash of the model that saw it
    surprise: float | None = None  # -log10 of the share of good pictures as strange; None: no model
    grade: Grade = Grade.NONE  # of the part: that of its worst rule
    rule: str = ""  # that decided the grade, or could not be judged
    reason: str = ""  # what it saw, against what
    defects: tuple[SeenDefect, ...] = ()  # the most probable first
    rejected: str = ""  # why it could not be inspected; "": it was
    source: str | None = None  # of the picture; None: an earlier version wrote it
    area_px: float | None = None  # of all defects together; None: one has no mask, or no model saw
    features: bytes = b""  # float32 [F], little-endian: what the network made of the picture
    outlook: Outlook | None = None  # the step adds it, where the camera has a model of progression

    @property
    def is_wrong(self) -> bool:
        """Whether something was found on it, or its part is not accepted."""
        return bool(self.defects) or self.grade in {Grade.REWORK, Grade.REJECT}


class Action(StrEnum):
    """What a person can do."""

    ACKNOWLEDGE = "acknowledge"
    SHELVE = "shelve"
    UNSHELVE = "unshelve"
    SERVICED = "serviced"
    LABEL = "label"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What a person did: who, to what, why."""

    action: Action
    target: str  # an alarm's id, or an asset's name
    who: str
    why: str = ""
    until: int | None = None  # ns since 1970 UTC, for shelving


class Cause(StrEnum):
    """Why an epoch begins."""

    START = "start"  # of the program: nobody was heard before it
    RELOAD = "reload"  # while it runs: who was heard is heard on


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """What is in force from here on. Written at each start, and at each reload."""

    config: str  # SHA-256 of the configuration
    bundles: Mapping[str, str]  # kind -> SHA-256 of its bundle
    cause: Cause = Cause.START  # before there were reloads none was written


@dataclass(frozen=True, slots=True)
class Beat:
    """Time passes: written each second, so that silence is noticed."""


Body = Samples | Waveforms | PicturesTaken | PictureResult | Notice | Command | Epoch | Beat


@dataclass(frozen=True, slots=True)
class Record:
    """One row of the journal."""

    received: int  # ns since 1970 UTC, wall time, stamped once before the commit
    body: Body


class ScoreState(IntEnum):
    """Whether a score counts."""

    OK = 0
    WARMING = 1  # after a start or a gap: the model has not seen enough yet
    BLIND = 2  # nothing valid to judge by, or no model
    OFF = 3  # the machine does not run, or is starting or stopping


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """The scores of one kind of asset; those of one asset in order of tick."""

    kind: str
    channels: tuple[str, ...]
    asset: NDArray[np.int32]  # [N] asset numbers
    tick: NDArray[np.int64]  # [N] ns since 1970 UTC
    raw: NDArray[np.float32]  # [N] the model's unit
    surprise: NDArray[np.float32]  # [N] -log10 of the healthy tail probability
    blame: NDArray[np.float32]  # [N, C] sums to 1
    coverage: NDArray[np.float32]  # [N] share of the evidence that was valid
    state: NDArray[np.uint8]  # [N] ScoreState
    value: NDArray[np.float32]  # [N, C] in the channel's unit; NaN where not valid
    expected: NDArray[np.float32]  # [N, C] in the channel's unit; NaN where there is no model
    spread: NDArray[np.float32]  # [N, C] one standard deviation, in the channel's unit

    def __len__(self) -> int:
        """Count of rows."""
        return len(self.tick)

    def counts(self, min_coverage: float) -> NDArray[np.bool_]:
        """Which rows speak for or against an alarm [N]: judged by enough of the evidence."""
        counts: NDArray[np.bool_] = self.state == ScoreState.OK
        counts &= self.coverage >= min_coverage
        return counts

    def rows(self, wanted: NDArray[np.bool_]) -> "Scores":
        """Some of the rows [N]."""
        columns = {column.name: getattr(self, column.name) for column in fields(Scores)[2:]}
        kept = {name: column[wanted] for name, column in columns.items()}
        return Scores(kind=self.kind, channels=self.channels, **kept)

    @staticmethod
    def join(blocks: Sequence["Scores"]) -> "Scores":
        """Blocks of one kind, one after the other. Raises IndexError for none."""
        first = blocks[0]
        columns = [column.name for column in fields(Scores)][2:]
        joined = {
            column: np.concatenate([getattr(block, column) for block in blocks])
            for column in columns
        }
        return Scores(kind=first.kind, channels=first.channels, **joined)


class Spoke(IntEnum):
    """Whose evidence a judgement has; an absent side is none, neither for nor against."""

    NOBODY = 0
    SENSORS = 1
    PICTURES = 2
    BOTH = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgements:
    """Sensors and pictures as one, for assets of one kind that have a camera; in order of tick."""

    kind: str
    asset: NDArray[np.int32]  # [N] asset numbers
    tick: NDArray[np.int64]  # [N] ns since 1970 UTC: known from here on
    surprise: NDArray[np.float32]  # [N] combined, -log10 of the healthy tail probability
    sensor: NDArray[np.float32]  # [N] surprise at the moment that is judged; NaN: absent
    picture: NDArray[np.float32]  # [N] surprise of the newest tick with pictures; NaN: absent
    age: NDArray[np.float32]  # [N] s from its part to the moment that is judged; NaN: absent
    weight: NDArray[np.float32]  # [N] the picture's share of the evidence; 0: absent
    spoke: NDArray[np.uint8]  # [N] Spoke

    def __len__(self) -> int:
        """Count of rows."""
        return len(self.tick)

    @property
    def agreed(self) -> NDArray[np.float32]:
        """What both sides say [N], -log10; with one side the most that both could; NaN: neither."""
        return agreed(self.sensor, self.picture, self.weight)

    def words(self, row: int) -> str:
        """The evidence of both sides."""
        said = [f"sensors {self.sensor[row]:.1f}"]
        if not self.spoke[row] & Spoke.SENSORS:
            said = ["sensors silent"]
        if self.spoke[row] & Spoke.PICTURES:
            said += [f"picture {self.picture[row]:.1f}", f"{self.age[row]:.3g} s old"]
            said += [f"{self.weight[row]:.0%} of the evidence"]
        else:
            said += ["no picture"]
        return ", ".join(said)

    @staticmethod
    def join(blocks: Sequence["Judgements"]) -> "Judgements":
        """Blocks of one kind, one after the other. Raises IndexError for none."""
        columns = [column.name for column in fields(Judgements)][1:]
        joined = {
            column: np.concatenate([getattr(block, column) for block in blocks])
            for column in columns
        }
        return Judgements(kind=blocks[0].kind, **joined)


class Transition(StrEnum):
    """What happened to an alarm."""

    RAISED = "raised"
    RETURNED = "returned"
    ACKNOWLEDGED = "acknowledged"
    SHELVED = "shelved"
    UNSHELVED = "unshelved"
    STOPPED = "stopped"  # it stands, and its machine was switched off or came to rest
    TRIPPED = "tripped"  # the same, so soon after it was raised that it may be why
    DIAGNOSED = "diagnosed"  # it stands, and what it looks like is news


class AlarmClass(StrEnum):
    """Who an alarm is for."""

    PROCESS = "process"
    LIMIT = "limit"
    INSTRUMENT = "instrument"
    PICTURE = "picture"  # of a camera of the asset
    COMBINED = "combined"  # sensors and pictures together
    PIPELINE = "pipeline"  # of a source: ``asset`` is its name


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmEvent:
    """One transition of one alarm.

    ``id`` names the alarm: a hash of site, asset, class, point and raise tick.
    """

    id: str
    asset: str
    alarm_class: AlarmClass
    # "surprise", "combined", or a channel and its limit or NE 107 word, as "flow high"; or a camera
    # and what it saw, as "top reject"
    point: str
    transition: Transition
    tick: int  # ns since 1970 UTC, event time of the transition
    raised: int  # ns since 1970 UTC, the tick it was raised at
    reason: str  # in words: what was seen, against what
    value: float  # surprise, or the channel's value
    threshold: float
    blame: Mapping[str, float] = field(default_factory=dict)  # channel -> share, the largest first
    who: str = ""
    active: bool | None = None  # whether it stands after this; None: an earlier version wrote it
    acknowledged: bool | None = None  # the same; None: the transition says nothing of it
    shelved_until: int | None = None  # ns, wall time: its point is shelved until then
    diagnosis: Named | None = None  # what it looks like; None: nobody taught the model faults
    picture: str = ""  # hash of the picture that it is about, hex; "": it is about none

    @property
    def silent(self) -> bool:
        """Whether it is to be kept but told to nobody: what a shelf hides."""
        return self.shelved_until is not None and self.transition is not Transition.SHELVED


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How an alarm stands that people were told of."""

    id: str
    asset: str
    alarm_class: AlarmClass
    point: str
    raised: int  # ns since 1970 UTC
    threshold: float
    acknowledged: bool
    active: bool = True

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Self:
        """What ``dataclasses.asdict`` gave."""
        return cls(**(dict(given) | {"alarm_class": AlarmClass(given["alarm_class"])}))

    def event(self, transition: Transition, *, tick: int, reason: str, **more: Any) -> AlarmEvent:
        """What becomes of it, though nothing was measured just now; ``more`` as in AlarmEvent."""
        kept = ("id", "asset", "alarm_class", "point", "raised", "threshold", "active")
        return AlarmEvent(
            transition=transition,
            tick=tick,
            reason=reason,
            value=math.nan,
            **({name: getattr(self, name) for name in kept} | more),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """A point that is silenced: by whom, until when, and how its alarms stand meanwhile."""

    until: int  # ns since 1970 UTC, wall time
    who: str
    why: str
    told: tuple[Standing, ...]  # the alarms that were named when it was shelved: people know them
    newest: Standing  # the last alarm of the point, told or not


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Ticks of one asset that nobody will score: (since, until), in ns, held no samples."""

    asset: str
    since: int
    until: int


@dataclass(frozen=True, slots=True)
class Results:
    """What one record led to."""

    scores: tuple[Scores, ...] = ()
    alarms: tuple[AlarmEvent, ...] = ()
    gaps: tuple[Gap, ...] = ()
    late: tuple[Samples, ...] = ()  # came after their frame was closed: kept, never scored live
    source_gaps: tuple[SourceGap, ...] = ()  # what sources said is missing, or filled
    pictures: tuple[PictureResult, ...] = ()  # inspected, or found to be no use
    judgements: tuple[Judgements, ...] = ()

    @staticmethod
    def join(found: Sequence["Results"]) -> "Results":
        """The results of several records as one, the scores of a kind in one block."""
        by_kind: dict[tuple[str, tuple[str, ...]], list[Scores]] = {}
        for results in found:
            for scores in results.scores:
                by_kind.setdefault((scores.kind, scores.channels), []).append(scores)
        judged: dict[str, list[Judgements]] = {}
        for results in found:
            for block in results.judgements:
                judged.setdefault(block.kind, []).append(block)
        return Results(
            scores=tuple(Scores.join(blocks) for blocks in by_kind.values()),
            alarms=tuple(event for results in found for event in results.alarms),
            gaps=tuple(gap for results in found for gap in results.gaps),
            late=tuple(late for results in found for late in results.late),
            source_gaps=tuple(gap for results in found for gap in results.source_gaps),
            pictures=tuple(one for results in found for one in results.pictures),
            judgements=tuple(Judgements.join(blocks) for blocks in judged.values()),
        )

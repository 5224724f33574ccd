"""How the running service stands: one picture of it, taken at one moment.

What `status`, /readyz, /metrics and the points of `pipeline_health` say, they all say from this.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from monitor.core.conservation import Conservation
from monitor.live.budget import Spent
from monitor.live.latency import NO_PERCENTILES, Latency

PeerStatus = Mapping[str, int | float | str]


class Desired(StrEnum):
    """What is wanted of a source."""

    WATCHED = "watched"  # it is to give data; whenever it does not, that is mended
    STOPPED = "stopped"  # it has ended, will not serve us as configured, or we have let it go


class SourceState(StrEnum):
    """What is seen of a source."""

    WAITING = "waiting"  # cannot be reached, was lost, or our disk is full: tried again
    OPENING = "opening"  # for the first time
    RUNNING = "running"  # open, and heard since it was opened, within its time
    SILENT = "silent"  # open, and not heard
    ENDED = "ended"  # it said that nothing more will come
    REFUSED = "refused"  # it will not serve us as configured

    @property
    def is_open(self) -> bool:
        """Whether there is a link."""
        return self in (SourceState.RUNNING, SourceState.SILENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceStanding:
    """How one source stands."""

    desired: Desired
    state: SourceState
    reason: str  # why it waits, or was given up
    restarts: int  # attempts to open it after its first
    rebuilds: int  # times it was made anew, for opening it again did not help
    watchdog: int  # times its peer gave no sign of life, and the link was given up
    sample_age_s: float | None  # since its last samples were received; None: none since the start
    heard_age_s: float | None  # the same, or since it said that nothing had changed
    expected_s: float  # it should be heard at least this often
    counts: Conservation
    gaps: Mapping[str, int]  # what it said is missing: GapKind -> count, and with _ns how long
    silent: tuple[str, ...]  # asset/tag of those that gave no usable value since the start
    peer: PeerStatus  # what it knows of itself; every number is finite

    @property
    def connected(self) -> bool:
        """Whether it is open and read."""
        return self.state.is_open

    @property
    def fresh(self) -> bool:
        """Whether data flows: heard within its time, and over the link that is open now."""
        if self.state not in (SourceState.RUNNING, SourceState.ENDED):
            return False
        return is_fresh(self.heard_age_s, self.expected_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkStanding:
    """How one sink stands."""

    reason: str  # why it is away, or held up by our own disk; "": it is not
    items: int  # that wait for it
    bytes: int
    oldest_age_s: float | None  # of what waits, in event time; None: nothing waits
    dropped: int
    dead_letters: int
    lag_s: float | None  # from the last message it got to its delivery; None: none since the start


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectionStanding:
    """How the inspection of pictures stands."""

    trouble: str = ""  # why those that wait are not inspected just now; "": they are, or none waits
    restarts: int = 0  # of the process that inspects, since the start
    latency: Latency = field(default_factory=Latency)  # from a picture's receipt to its result
    latency_ms: Mapping[str, float | None] = field(  # p50 and p99 of the last thousand
        default_factory=lambda: NO_PERCENTILES
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadStanding:
    """What came of the last configuration that was given: with the start, or while it runs."""

    at: int  # ns since 1970 UTC: when the one in force came into force
    error: str  # why one that was given since is not; "": none was, or it is


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStanding:
    """How the whole service stands at ``now``."""

    now: int  # ns since 1970 UTC
    started: int  # ns since 1970 UTC
    config: str  # SHA-256
    reload: ReloadStanding
    stopping: bool
    stepping: bool  # the step's thread is at work
    failed: bool  # the step has ended with an error, and so will the service
    record: int  # results are stored up to this one
    behind_s: float  # age of the oldest record that is not stepped yet
    journal_trouble: str  # why nothing goes into the journal; "": it does
    journal_bytes: int  # of the database on the disk
    frames: Mapping[str, int]  # by score state
    latency: Latency  # from receipt to the stored result
    end_to_end: Latency  # from a frame's instant to its stored score
    latency_ms: Mapping[str, float | None]  # p50 and p99 of the last thousands
    inspection: InspectionStanding
    alarms_open: Mapping[str, int]  # by class
    budget: Spent
    gpu: bool  # some model works on one
    writer_errors: int  # jobs of the writer that failed since the start
    data_age_s: Mapping[str, float]  # by kind: of the newest data its model learnt from
    sources: Mapping[str, SourceStanding]
    sinks: Mapping[str, SinkStanding]


def is_fresh(age_s: float | None, expected_s: float) -> bool:
    """Whether that is not too long ago; after a clock that was put back, nobody knows."""
    return age_s is not None and abs(age_s) <= expected_s


def age_s(now: int, moment: int | None) -> float | None:
    """How long ago, s, from ns; None for never."""
    return None if moment is None else (now - moment) / 1e9

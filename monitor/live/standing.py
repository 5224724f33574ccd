"""How the running service stands: one picture of it, taken at one moment.

What `status`, /readyz, /metrics and the points of `pipeline_health` say, they all say from this.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from monitor.core.conservation import Conservation
from monitor.live.intake import SourceState
from monitor.live.latency import Latency

PeerStatus = Mapping[str, int | float | str]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceStanding:
    """How one source stands."""

    state: SourceState
    reason: str  # why it waits, or was given up
    sample_age_s: float | None  # since its last samples were received; None: none since the start
    heard_age_s: float | None  # the same, or since it said that nothing had changed
    expected_s: float  # it should be heard at least this often
    counts: Conservation
    gaps: Mapping[str, int]  # what it said is missing: GapKind -> count, and with _ns how long
    silent: tuple[str, ...]  # asset/tag of those that gave no usable value since the start
    peer: PeerStatus  # what it knows of itself; every number is finite

    @property
    def fresh(self) -> bool:
        """Whether it was heard within its time; after a clock that was put back, nobody knows."""
        return self.heard_age_s is not None and abs(self.heard_age_s) <= self.expected_s


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
class ServiceStanding:
    """How the whole service stands at ``now``."""

    now: int  # ns since 1970 UTC
    started: int  # ns since 1970 UTC
    config: str  # SHA-256
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
    alarms_open: Mapping[str, int]  # by class
    gpu: bool  # some model works on one
    writer_errors: int  # jobs of the writer that failed since the start
    data_age_s: Mapping[str, float]  # by kind: of the newest data its model learnt from
    sources: Mapping[str, SourceStanding]
    sinks: Mapping[str, SinkStanding]

"""How the service stands, as OpenMetrics text for Prometheus and its kin.

Labels are bounded: source, sink, class, kind, reason. Counters of samples and frames go on over a
restart, as the step's state does; those of connectors and latency start with the process.
"""

from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from monitor.core.missing import GapKind
from monitor.live.health import judge
from monitor.live.latency import BOUNDS, Latency
from monitor.live.standing import Desired, ServiceStanding

CONTENT_TYPE = CONTENT_TYPE_LATEST
PREFIX = "watchkeeper_"

Labelled = Mapping[str, float | None]  # the value for each label; None: there is none yet


def exposition(standing: ServiceStanding) -> bytes:
    """The whole page. Raises nothing for whatever a source says of itself."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Standing(standing))
    page: bytes = generate_latest(registry)  # type: ignore[no-untyped-call]
    return page


class _Standing(Collector):
    """The families of one moment."""

    def __init__(self, standing: ServiceStanding) -> None:
        self._standing = standing

    def collect(self) -> Iterator[Metric]:
        """Every family once; a name that a source chose gives way to ours."""
        taken = set()
        ours = (_service, _samples, _gaps, _frames, _pictures, _sources, _sinks)
        for families in (*(make(self._standing) for make in ours), _peers(self._standing)):
            for family in families:
                if family.name not in taken:
                    taken.add(family.name)
                    yield family


def _service(standing: ServiceStanding) -> Iterator[Metric]:
    try:
        program = version("watchkeeper")
    except PackageNotFoundError:
        program = "unknown"  # run from a checkout that was never installed
    yield InfoMetricFamily(PREFIX + "build", "The program.", {"version": program})
    yield InfoMetricFamily(
        PREFIX + "config", "The configuration in force.", {"hash": standing.config}
    )
    yield _gauge(
        "config_last_reload_successful",
        "Whether the last one given is in force.",
        not standing.reload.error,
    )
    yield _gauge(
        "config_last_reload_timestamp_seconds",
        "When the one in force came into force.",
        standing.reload.at / 1e9,
    )
    yield _gauge("ready", "Whether data flows, as /readyz says.", judge(standing).ready)
    yield _gauge(
        "journal_writable", "Whether the journal takes records.", not standing.journal_trouble
    )
    yield _gauge(
        "journal_bytes",
        "What the database takes on the disk: journal, scores, alarms and outbox.",
        standing.journal_bytes,
    )
    yield _gauge("step_behind_seconds", "Age of what was not stepped yet.", standing.behind_s)
    yield _gauge("gpu_in_use", "Whether some model works on one.", standing.gpu)
    errors = CounterMetricFamily(PREFIX + "writer_errors", "Writes that failed, and were retried.")
    errors.add_metric((), standing.writer_errors)
    yield errors
    yield _gauges("alarms_open", "Alarms that stand.", "class", standing.alarms_open)
    budget = standing.budget
    yield _gauge("process_alarms_week", "Process alarms of the site in 7 days.", budget.alarms_week)
    yield _gauge("alarm_budget_week", "How many of them are acceptable.", budget.per_site_week)
    yield _gauge(
        "assets_over_alarm_budget",
        "Assets with more process alarms in 30 days than are acceptable.",
        len(budget.over),
    )
    yield _gauges(
        "model_age_seconds",
        "Since the newest data that the model learnt from.",
        "kind",
        standing.data_age_s,
    )


def _samples(standing: ServiceStanding) -> Iterator[Metric]:
    counts = {name: source.counts for name, source in standing.sources.items()}
    for name, words, values in (
        ("received", "Samples that came in.", {n: c.received for n, c in counts.items()}),
        ("accepted", "Samples in frames.", {n: c.stored for n, c in counts.items()}),
        (
            "duplicate",
            "Samples that were there before.",
            {n: c.duplicate for n, c in counts.items()},
        ),
        ("late", "Samples whose frame was closed: kept.", {n: c.late for n, c in counts.items()}),
    ):
        yield _counters(f"samples_{name}", words, "source", values)
    rejected = CounterMetricFamily(
        PREFIX + "samples_rejected", "Samples that could not be taken.", labels=("source", "reason")
    )
    for name, of in counts.items():
        for reason, count in of.rejected.items():
            rejected.add_metric((name, reason), count)
    yield rejected
    yield _gauges(
        "conservation_missing",
        "Samples that nothing accounts for: 0, always.",
        "source",
        {name: of.missing for name, of in counts.items()},
    )


def _gaps(standing: ServiceStanding) -> Iterator[Metric]:
    labels = ("source", "kind")
    count = CounterMetricFamily(
        PREFIX + "source_gaps",
        "Times a source said that samples are missing, or filled.",
        labels=labels,
    )
    seconds = CounterMetricFamily(
        PREFIX + "source_gap_seconds", "How long what it spoke of lasted.", labels=labels
    )
    for name, source in standing.sources.items():
        for kind in GapKind:
            count.add_metric((name, kind), source.gaps.get(kind, 0))
            seconds.add_metric((name, kind), source.gaps.get(f"{kind}_ns", 0) / 1e9)
    yield from (count, seconds)


def _frames(standing: ServiceStanding) -> Iterator[Metric]:
    scored = CounterMetricFamily(PREFIX + "frames_scored", "Frames with a score that counts.")
    scored.add_metric((), standing.frames.get("ok", 0))
    yield scored
    skipped = {state: count for state, count in standing.frames.items() if state != "ok"}
    yield _counters("frames_skipped", "Frames without one.", "reason", skipped)
    yield _histogram(
        "score_latency_seconds", "From receipt to the stored result.", standing.latency
    )
    yield _histogram(
        "end_to_end_latency_seconds",
        "From a frame's instant to its stored score; of a recording, how old it is.",
        standing.end_to_end,
    )


def _pictures(standing: ServiceStanding) -> Iterator[Metric]:
    inspection = standing.inspection
    yield _gauge(
        "inspection_working",
        "Whether pictures are inspected, or none waits.",
        not inspection.trouble,
    )
    restarts = CounterMetricFamily(
        PREFIX + "inspection_restarts", "Times the process that inspects pictures has ended."
    )
    restarts.add_metric((), inspection.restarts)
    yield restarts
    yield _histogram(
        "inspection_latency_seconds",
        "From a picture's receipt to its result in the journal.",
        inspection.latency,
    )


def _sources(standing: ServiceStanding) -> Iterator[Metric]:
    sources = standing.sources
    for name, words, values in (
        (
            "connected",
            "Whether it is connected and read.",
            {name: one.connected for name, one in sources.items()},
        ),
        (
            "desired",
            "Whether it is wanted: it has not ended, and was not given up.",
            {name: one.desired is Desired.WATCHED for name, one in sources.items()},
        ),
        (
            "fresh",
            "Whether it was heard within its time.",
            {name: one.fresh for name, one in sources.items()},
        ),
        (
            "last_sample_age_seconds",
            "Since its last sample was received.",
            {name: one.sample_age_s for name, one in sources.items()},
        ),
        (
            "last_heard_age_seconds",
            "The same, or since it said that nothing had changed.",
            {name: one.heard_age_s for name, one in sources.items()},
        ),
    ):
        yield _gauges(f"source_{name}", words, "source", values)
    given = sources.items()
    for name, words, counts in (
        ("restarts", "Attempts to open it after its first.", {n: s.restarts for n, s in given}),
        (
            "rebuilds",
            "Times it was made anew, for opening again did not help.",
            {n: s.rebuilds for n, s in given},
        ),
        (
            "watchdog",
            "Links given up, for the peer gave no sign of life.",
            {n: s.watchdog for n, s in given},
        ),
    ):
        yield _counters(f"source_{name}", words, "source", counts)


def _sinks(standing: ServiceStanding) -> Iterator[Metric]:
    sinks = standing.sinks
    gauges: tuple[tuple[str, str, Labelled], ...] = (
        ("sink_away", "Whether it is away.", {n: bool(s.reason) for n, s in sinks.items()}),
        ("outbox_items", "What waits for it.", {n: s.items for n, s in sinks.items()}),
        ("outbox_bytes", "What waits for it.", {n: s.bytes for n, s in sinks.items()}),
        (
            "outbox_oldest_age_seconds",
            "Age of the oldest that waits for it, in event time.",
            {n: s.oldest_age_s or 0 for n, s in sinks.items()},
        ),
        (
            "alert_delivery_lag_seconds",
            "From the event to the delivery of the last message it got.",
            {n: s.lag_s for n, s in sinks.items()},
        ),
    )
    for name, words, values in gauges:
        yield _gauges(name, words, "sink", values)
    yield _counters(
        "outbox_dropped",
        "Points it will never get: too much waited.",
        "sink",
        {n: s.dropped for n, s in sinks.items()},
    )
    yield _counters(
        "dead_letter",
        "Items it refused for good.",
        "sink",
        {n: s.dead_letters for n, s in sinks.items()},
    )


def _peers(standing: ServiceStanding) -> Iterator[Metric]:
    """What the sources say of themselves.

    ``_total`` at the end of a name makes a counter, ``_ns`` (an instant) an age in seconds.
    """
    said: dict[str, dict[str, float]] = {}
    for source, one in standing.sources.items():
        for name, value in one.peer.items():
            if isinstance(value, str):
                continue
            if not name.endswith("_ns"):
                said.setdefault(name, {})[source] = value
            elif value:  # 0: never
                age_s = (standing.now - value) / 1e9
                said.setdefault(name.removesuffix("_ns") + "_age_seconds", {})[source] = age_s
    for name, values in sorted(said.items()):
        plain = "".join(one if one.isascii() and one.isalnum() else "_" for one in name.lower())
        make = _counters if plain.endswith("_total") else _gauges
        bare = plain.removesuffix("_total")
        yield make(f"source_{bare}", "As the source says of itself.", "source", values)


def _histogram(name: str, words: str, latency: Latency) -> Metric:
    family = HistogramMetricFamily(PREFIX + name, words)
    running, buckets = 0, []
    for bound, count in zip((*map(str, BOUNDS), "+Inf"), latency.counts, strict=True):
        running += count
        buckets.append((bound, running))
    family.add_metric((), buckets, latency.total_s)
    return family


def _gauge(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(PREFIX + name, words, value=float(value))


def _gauges(name: str, words: str, label: str, values: Labelled) -> Metric:
    return _labelled(GaugeMetricFamily(PREFIX + name, words, labels=(label,)), values)


def _counters(name: str, words: str, label: str, values: Labelled) -> Metric:
    return _labelled(CounterMetricFamily(PREFIX + name, words, labels=(label,)), values)


def _labelled(
    family: GaugeMetricFamily | CounterMetricFamily, values: Labelled
) -> GaugeMetricFamily | CounterMetricFamily:
    for label, value in values.items():
        if value is not None:
            family.add_metric((label,), float(value))
    return family

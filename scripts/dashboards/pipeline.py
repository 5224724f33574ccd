"""Does data flow, and was anything lost?"""

from collections.abc import Sequence

from dashboards.alarms import OF_SOURCES, alarms, notes
from dashboards.parts import (
    GREEN,
    GREY,
    NONE_WANTED,
    ORANGE,
    RED,
    SERVICE,
    SINKS,
    SOURCES,
    YES_NO,
    Json,
    coloured,
    dashboard,
    each,
    graph,
    lines,
    newest,
    newest_with,
    numbers,
    only,
    said,
    select,
    steps,
    table,
    tally,
    timeline,
    variable,
)

HEALTH = "10s"  # how often pipeline_health is written


def pipeline() -> Json:
    """Does data flow, and was anything lost?"""
    fates = ("received", "stored", "duplicate", "late", "rejected", "waiting")
    accounted = " - ".join(f'"{name}"' for name in fates)
    link = ("connected", "fresh", "gaps", "sampled", "sample_age_s")
    sinks = ("connected", "backlog", "backlog_bytes", "oldest_age_s", "dropped", "dead_letters")
    service = ("ready", "alarms_open", "dropped", "dead_letters", "behind_s", "journal_bytes")

    def health(what: str, where: str, alias: str, *by: str) -> Json:
        return lines(select(what, "pipeline_health", where, each(*by)), alias)

    def rates(where: str, alias: str, names: Sequence[str], *by: str) -> Json:
        """How fast counters grow, a second."""
        found = (f'non_negative_derivative(last("{name}"), 1s) AS "{name}"' for name in names)
        return health(", ".join(found), where, alias, *by)

    return dashboard(
        "watchkeeper-pipeline",
        "Watchkeeper: pipeline health",
        "Does data flow, and was anything lost?",
        variables=[
            variable("site", "pipeline_health", several=False),
            variable("source", "pipeline_health", "site", several=True),
            variable("sink", "pipeline_health", "site", several=True),
        ],
        annotations=[notes("Sources in trouble", RED, "raised", OF_SOURCES)],
        panels=[
            numbers(
                "Now",
                "The newest word of the service in the range, written each ten seconds: where it "
                "is not ready, or anything was dropped or put aside, ask watchkeeper status why.",
                select(newest(*service), "pipeline_health", SERVICE),
                size=(5, 12),
                overrides=[
                    only("ready", mappings=said(YES_NO)),
                    only("alarms_open", displayName="open alarms", thresholds=NONE_WANTED),
                    only("dropped", displayName="points dropped", thresholds=NONE_WANTED),
                    only("dead_letters", displayName="dead letters", thresholds=NONE_WANTED),
                    only(
                        "behind_s",
                        displayName="step behind",
                        unit="s",
                        thresholds=steps((None, GREEN), (5, ORANGE), (30, RED)),
                    ),
                    only("journal_bytes", displayName="database", unit="bytes"),
                ],
            ),
            table(
                "What became of each sample",
                "Received = stored + duplicate + late + rejected + waiting (pictures), counted "
                "each by itself, so missing must be 0 (else save the data folder and report a "
                "bug); what grows in late or rejected says what is wrong with a source.",
                newest_with(
                    f'{accounted} AS "missing"',
                    "pipeline_health",
                    SOURCES,
                    (*fates, *link),
                    by='"source"',
                ),
                order=("source", "missing", *fates, *link),
                size=(19, 6),
                overrides=[
                    coloured("missing", thresholds=steps((None, RED), (0, GREEN), (1, RED))),
                    coloured("connected", mappings=said(YES_NO)),
                    coloured("fresh", mappings=said(YES_NO)),
                    coloured("gaps", thresholds=steps((None, GREEN), (1, RED))),
                    only(
                        "sampled",
                        displayName="age counts",
                        mappings=said([(0, "no sample yet", GREY), (1, "yes", GREEN)]),
                    ),
                    only("sample_age_s", displayName="last sample", unit="s"),
                ],
            ),
            table(
                "Sinks",
                "What waits for each sink, and what it lost: a backlog drains by itself when the "
                "sink is back, dropped points and dead letters do not come back: ask watchkeeper "
                "status for the reason.",
                select(
                    newest(*sinks),
                    "pipeline_health",
                    SINKS,
                    'GROUP BY "sink"',
                ),
                order=("sink", *sinks),
                size=(19, 6),
                overrides=[
                    coloured("connected", mappings=said(YES_NO)),
                    only("backlog_bytes", displayName="backlog in bytes", unit="bytes"),
                    only("oldest_age_s", displayName="oldest", unit="s"),
                    coloured("dropped", thresholds=NONE_WANTED),
                    coloured("dead_letters", displayName="dead letters", thresholds=NONE_WANTED),
                ],
            ),
            timeline(
                "Ready, connected, fresh",
                "Whether the service was ready and inspected what pictures came, and each source "
                "and sink connected, at the worst of each interval; fresh means heard within its "
                "time, and no colour that nothing was written: the service or this database was "
                "away.",
                [
                    health(tally("ready", "inspecting", how="min"), SERVICE, "service $col"),
                    health(
                        tally("connected", "fresh", how="min"),
                        SOURCES,
                        "source $tag_source $col",
                        "source",
                    ),
                    health(tally("connected", how="min"), SINKS, "sink $tag_sink $col", "sink"),
                ],
                words=YES_NO,
                interval="20s",
                size=(24, 8),
            ),
            alarms(
                "What was wrong with whole sources in the range: lost, a wrong clock, samples that "
                "a peer dropped; the asset is the source's name, and the reason names the machines "
                "that it blinds.",
                size=(24, 8),
                where=OF_SOURCES,
            ),
            graph(
                "Samples received and stored",
                "Samples a second of each source; a source that falls to 0 is away, or its "
                "machines stand.",
                [rates(SOURCES, "$tag_source $col", ("received", "stored"), "source")],
                unit="cps",
                interval=HEALTH,
                min=0,
            ),
            graph(
                "Samples late, rejected, twice",
                "Samples a second that were not scored; late ones want a longer lateness_ms, "
                "rejected ones another setting of their source: watchkeeper status quotes one.",
                [rates(SOURCES, "$tag_source $col", ("late", "rejected", "duplicate"), "source")],
                unit="cps",
                interval=HEALTH,
                min=0,
            ),
            graph(
                "Age of the last sample",
                "How long ago each source last gave a sample, at the worst of each interval; one "
                "that grows steadily is silent: look at the source and the way to it.",
                [
                    health(
                        'max("sample_age_s") AS "age"',
                        f'"sampled" = 1 AND {SOURCES}',
                        "$tag_source",
                        "source",
                    )
                ],
                unit="s",
                interval=HEALTH,
                min=0,
            ),
            graph(
                "From receipt to a stored score",
                "Half of the last thousands of frames took less than p50, 99 of 100 less than p99; "
                "where it grows the machine is too small or too busy.",
                [
                    health(
                        'max("latency_p50_ms") AS "p50", max("latency_p99_ms") AS "p99"',
                        f'"latency_p99_ms" > 0 AND {SERVICE}',
                        "$col",
                    )
                ],
                unit="ms",
                interval=HEALTH,
                min=0,
            ),
            graph(
                "Frames",
                "Frames a second that were scored, and that were skipped because their asset was "
                "warming, blind or off; the state of each asset says which.",
                [rates(SERVICE, "$col", ("frames_scored", "frames_skipped"))],
                unit="cps",
                interval=HEALTH,
                min=0,
            ),
            graph(
                "How far the step is behind",
                "The age of the oldest input that was not stepped yet; beyond 30 s the service is "
                "not ready, and one that only grows wants a faster machine.",
                [health('max("behind_s") AS "behind"', SERVICE, "$col")],
                unit="s",
                interval=HEALTH,
                min=0,
            ),
            graph(
                "Waiting for each sink",
                "Items in the outbox; while a sink is away they grow, and drain when it is back; "
                "what waits for this very database is seen here only afterwards.",
                [health('max("backlog") AS "items"', SINKS, "$tag_sink", "sink")],
                unit="short",
                interval=HEALTH,
                min=0,
            ),
            graph(
                "Oldest that waits",
                "The age, in event time, of the oldest item that waits for each sink; points are "
                "dropped when state.outbox_mb is full, messages never.",
                [health('max("oldest_age_s") AS "age"', SINKS, "$tag_sink", "sink")],
                unit="s",
                interval=HEALTH,
                min=0,
            ),
            graph(
                "Dropped and dead letters",
                "Points that a sink did not get in time, and items that it refused for good, all "
                "that are known: each step up is a loss to look at in the log.",
                [
                    health(
                        tally("dropped", "dead_letters", how="max"),
                        SINKS,
                        "$tag_sink $col",
                        "sink",
                    )
                ],
                unit="short",
                interval=HEALTH,
                min=0,
                custom={"lineInterpolation": "stepAfter"},
            ),
            graph(
                "Size of the database",
                "The service's own state.db on its disk; it grows until everything has an end and "
                "then stays so: see What is kept.",
                [health('max("journal_bytes") AS "bytes"', SERVICE, "$col")],
                unit="bytes",
                interval=HEALTH,
                min=0,
            ),
        ],
    )

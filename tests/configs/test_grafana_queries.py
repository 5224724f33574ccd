"""Every query of every dashboard, asked of a real InfluxDB that a real run has filled.

What is expected is worked out from the points as they lie in the database, and these are held
against the service's own store.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from support.grafana import dashboards, panel, queries
from support.lived import SINCE, Fields, Lived, Row, Tags, live, row
from support.plants import CHANNELS, SECOND, START

from monitor.core.records import AlarmEvent, ScoreState, Transition

pytestmark = [pytest.mark.broker, pytest.mark.timeout(120)]
STEPS = (7, 20)  # s, of $__interval: one divides nothing else here, one holds two words of health


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Lived:
    return live(tmp_path_factory.mktemp("grafana"))


# What each query must give, worked out from the points. A picker says which points count.

Pick = Callable[[Tags, Fields], bool]
Expected = Callable[[Lived, int], list[Row]]  # the run, and $__interval in s


def every(_tags: Tags, _fields: Fields) -> bool:
    return True


def of_assets(tags: Tags, _fields: Fields) -> bool:
    return tags["class"] != "pipeline"


def of_sources(tags: Tags, _fields: Fields) -> bool:
    return tags["class"] == "pipeline"


def of_m1(tags: Tags, _fields: Fields) -> bool:
    return tags["asset"] == "m1" and tags.get("class") != "pipeline"


def of_service(tags: Tags, _fields: Fields) -> bool:
    return not {"source", "sink"} & set(tags)


def of_each(tag: str, tags: Tags, _fields: Fields) -> bool:
    return tag in tags


def flagged(flag: str, pick: Pick) -> Pick:
    return lambda tags, fields: pick(tags, fields) and fields[flag] > 0


def intervals(
    lived: Lived, step: int, measurement: str, by: Sequence[str], pick: Pick
) -> dict[tuple[tuple[str, str], ...], dict[int, list[Fields]]]:
    """The picked points of each combination of these tags, by the interval they fall into."""
    found: dict[Any, dict[int, list[Fields]]] = defaultdict(lambda: defaultdict(list))
    for tags, time, fields in lived.points(measurement):
        if pick(tags, fields):
            own = tuple((name, tags[name]) for name in by if name in tags)
            found[own][time // (step * SECOND) * step * SECOND].append(fields)
    return found


def column(points: Sequence[Fields], name: str) -> list[float]:
    return [point[name] for point in points]


def mean(name: str) -> Callable[[Sequence[Fields]], float]:
    return lambda points: float(np.mean(column(points, name)))


def highest(name: str) -> Callable[[Sequence[Fields]], float]:
    return lambda points: max(column(points, name))


def lowest(name: str) -> Callable[[Sequence[Fields]], float]:
    return lambda points: min(column(points, name))


def series(
    measurement: str,
    pick: Pick,
    *by: str,
    **columns: Callable[[Sequence[Fields]], float],
) -> Expected:
    """One row for each interval that has points."""
    return lambda lived, step: sorted(
        (
            row(dict(own), time, {name: of(points) for name, of in columns.items()})
            for own, found in intervals(lived, step, measurement, by, pick).items()
            for time, points in found.items()
        ),
        key=repr,
    )


def rates(pick: Pick, *names: str, by: Sequence[str] = ()) -> Expected:
    """How fast the last values of intervals grow, a second; where they do not fall."""

    def expected(lived: Lived, step: int) -> list[Row]:
        rows = []
        for own, found in intervals(lived, step, "pipeline_health", by, pick).items():
            for (before, then), (time, now) in pairwise(sorted(found.items())):
                grown = {
                    name: (now[-1][name] - then[-1][name]) / ((time - before) / SECOND)
                    for name in names
                }
                assert min(grown.values()) >= 0
                rows.append(row(dict(own), time, grown))
        return sorted(rows, key=repr)

    return expected


def newest(
    measurement: str, pick: Pick, *by: str, columns: Callable[[Tags, Fields], Fields]
) -> Expected:
    """The last point of each combination of these tags."""

    def expected(lived: Lived, _step: int) -> list[Row]:
        last: dict[Any, Row] = {}
        for tags, time, fields in lived.points(measurement):
            if pick(tags, fields):
                own = {name: tags[name] for name in by if name in tags}
                last[tuple(own.items())] = row(own, time, columns(tags, fields))
        return sorted(last.values(), key=repr)

    return expected


def taken(*names: str, **more: Callable[[Fields], float]) -> Callable[[Tags, Fields], Fields]:
    """These columns, and some that are worked out."""
    return lambda tags, fields: (
        {name: (tags | fields)[name] for name in names}
        | {name: of(fields) for name, of in more.items()}
    )


def alarms(pick: Pick, *names: str) -> Expected:
    """Every transition of an alarm."""
    return lambda lived, _step: sorted(
        (
            row({}, time, {name: (tags | fields).get(name) for name in names})
            for tags, time, fields in lived.points("alarm_event")
            if pick(tags, fields)
        ),
        key=repr,
    )


def not_inspected(_tags: Tags, fields: Fields) -> bool:
    return fields["valid"] == 0


def pictures(pick: Pick, *by: str) -> Expected:
    """How many pictures fell into each interval."""
    return series("picture_result", pick, *by, pictures=lambda points: float(len(points)))


def judged_by(*flags: str, **columns: Callable[[Sequence[Fields]], float]) -> Expected:
    pick = every
    for flag in flags:
        pick = flagged(flag, pick)
    return series("asset_judgement", pick, "asset", **columns)


def defects(lived: Lived, _step: int) -> list[Row]:
    """Every picture with a defect."""
    return sorted(
        (
            row({}, time, {name: (tags | fields).get(name) for name in DEFECT})
            for tags, time, fields in lived.points("picture_result")
            if fields["defects"] > 0
        ),
        key=repr,
    )


def went(*transitions: str, pick: Pick) -> Pick:
    return lambda tags, fields: pick(tags, fields) and tags["transition"] in transitions


def raised(lived: Lived, _step: int) -> list[Row]:
    """How many alarms each asset raised, by class; stamped with the start of the range."""
    found: dict[tuple[str, str], int] = defaultdict(int)
    for tags, _, fields in lived.points("alarm_event", transition="raised"):
        if of_assets(tags, fields):
            found[tags["asset"], tags["class"]] += 1
    return sorted(
        (
            row({"asset": asset, "class": of}, SINCE * SECOND, {"raised": count})
            for (asset, of), count in found.items()
        ),
        key=repr,
    )


def ratio(fields: Fields) -> float:
    return fields["surprise"] / fields["threshold"]


def missing(fields: Fields) -> float:
    return fields["received"] - sum(
        fields[name] for name in ("stored", "duplicate", "late", "rejected", "waiting")
    )


NOTE = ("reason", "asset", "class", "point", "transition", "who")
ALARM = (*NOTE, "value", "threshold", "shelved", "valid", "fault", "alarm_id", "picture")
FATES = ("received", "stored", "duplicate", "late", "rejected", "waiting")
DEFECT = (
    *("asset", "camera", "label", "probability", "surprise", "defects", "grade", "rule", "picture"),
    *(
        "sized",
        "width_mm",
        "height_mm",
        "length_mm",
        "area_mm2",
        "area_ahead",
        "area_unit",
        "valid",
        "reason",
        "part",
        "recipe",
        "model_hash",
    ),
)
LINK = ("connected", "fresh", "gaps", "sampled", "sample_age_s")
SINK = ("connected", "backlog", "backlog_bytes", "oldest_age_s", "dropped", "dead_letters")
SERVICE = ("ready", "alarms_open", "dropped", "dead_letters", "behind_s", "journal_bytes")
scored, told, health = (
    partial(series, name) for name in ("asset_score", "channel_score", "pipeline_health")
)
of_source, of_sink = partial(of_each, "source"), partial(of_each, "sink")
judged = flagged("judged", of_m1)

EXPECTED: dict[str, Expected] = {
    "fleet: Assets A": newest(
        "asset_score",
        every,
        "area",
        "asset",
        columns=taken(
            *("surprise", "threshold", "state", "valid", "coverage", "alarms_open", "model"),
            ratio=ratio,
        ),
    ),
    "fleet: Surprise against its threshold A": scored(
        flagged("valid", every),
        "asset",
        ratio=lambda points: max(column(points, "surprise")) / max(column(points, "threshold")),
    ),
    "fleet: Alarms raised A": raised,
    "fleet: Alarms A": alarms(of_assets, *ALARM),
    "fleet: Alarms raised": alarms(went("raised", pick=of_assets), *NOTE),
    "asset: Now A": newest(
        "asset_score",
        of_m1,
        columns=taken("surprise", "threshold", "state", "coverage", "alarms_open"),
    ),
    "asset: Surprise A": scored(flagged("valid", of_m1), surprise=highest("surprise")),
    "asset: Surprise B": scored(flagged("threshold", of_m1), threshold=highest("threshold")),
    "asset: State A": scored(of_m1, state=lambda points: points[-1]["state"]),
    "asset: Share in the surprise A": told(of_m1, "channel", share=mean("contribution")),
    "asset: Off by how many spreads A": told(
        judged,
        "channel",
        spreads=lambda points: mean("residual")(points) / mean("spread")(points),
    ),
    "asset: $channel A": told(flagged("valid", of_m1), measured=mean("value")),
    "asset: $channel B": told(
        judged,
        expected=mean("expected"),
        low=lambda points: mean("expected")(points) - 2 * mean("spread")(points),
        high=lambda points: mean("expected")(points) + 2 * mean("spread")(points),
    ),
    "asset: Channels A": told(
        of_m1,
        "channel",
        seen=lambda points: lowest("valid")(points) + lowest("judged")(points),
    ),
    "asset: Coverage A": scored(of_m1, coverage=lowest("coverage")),
    "asset: Alarms A": alarms(of_m1, *ALARM),
    "asset: Alarms raised": alarms(went("raised", pick=of_m1), *NOTE),
    "asset: Alarms returned": alarms(went("returned", pick=of_m1), *NOTE),
    "asset: What people did": alarms(
        went("acknowledged", "shelved", "unshelved", pick=of_m1), *NOTE
    ),
    "cameras: Cameras A": newest(
        "picture_result",
        every,
        "asset",
        "camera",
        columns=taken("surprise", "label", "probability", "defects", "grade", "valid"),
    ),
    "cameras: Pictures inspected A": pictures(flagged("valid", every), "camera"),
    "cameras: Pictures not inspected A": pictures(not_inspected, "camera", "label"),
    "cameras: Waiting to be inspected A": health(of_source, "source", waiting=highest("waiting")),
    "cameras: Classes A": pictures(flagged("valid", every), "label"),
    "cameras: Surprise A": series(
        "picture_result", flagged("valid", every), "camera", surprise=highest("surprise")
    ),
    "cameras: Grades A": pictures(flagged("valid", every), "grade"),
    "cameras: Last defects A": defects,
    "cameras: Foretold areas A": series(
        "picture_result",
        flagged("foretold", every),
        "camera",
        **{name: highest(name) for name in ("area_now", "area_ahead", "area_low", "area_high")},
    ),
    "cameras: Foretold areas B": series(
        "picture_result",
        lambda _tags, fields: fields["foretold"] == 1 and fields["warn_area"] > 0,
        "camera",
        limit=lowest("warn_area"),
    ),
    "cameras: Begins soon A": series(
        "picture_result",
        lambda _tags, fields: fields["foretold"] == 1 and fields["begun"] == 0,
        "camera",
        onset=highest("onset"),
    ),
    **{
        f"cameras: One judgement {letter}": judged_by(*flags, **{name: highest(name)})
        for letter, name, *flags in (
            ("A", "surprise", "valid"),
            ("B", "sensor", "has_sensor"),
            ("C", "picture", "has_picture"),
            ("D", "agreed", "has_sensor", "has_picture"),
            ("E", "threshold", "valid"),
        )
    },
    "cameras: Who spoke A": series(
        "asset_judgement",
        every,
        "asset",
        has_sensor=lambda points: points[-1]["has_sensor"],
        has_picture=lambda points: points[-1]["has_picture"],
    ),
    "cameras: Age and weight of the picture A": judged_by(
        "has_picture", age=highest("picture_age_s"), weight=lowest("picture_weight")
    ),
    "cameras: Alarms raised": alarms(went("raised", pick=of_assets), *NOTE),
    "cameras: From receipt to result A": health(
        flagged("inspection_p99_ms", of_service),
        p50=highest("inspection_p50_ms"),
        p99=highest("inspection_p99_ms"),
    ),
    "pipeline: Now A": newest("pipeline_health", of_service, columns=taken(*SERVICE)),
    "pipeline: What became of each sample A": newest(
        "pipeline_health", of_source, "source", columns=taken(*FATES, *LINK, missing=missing)
    ),
    "pipeline: Sinks A": newest("pipeline_health", of_sink, "sink", columns=taken(*SINK)),
    "pipeline: Ready, connected, fresh A": health(
        of_service, ready=lowest("ready"), inspecting=lowest("inspecting")
    ),
    "pipeline: Ready, connected, fresh B": health(
        of_source, "source", connected=lowest("connected"), fresh=lowest("fresh")
    ),
    "pipeline: Ready, connected, fresh C": health(of_sink, "sink", connected=lowest("connected")),
    "pipeline: Alarms A": alarms(of_sources, *ALARM),
    "pipeline: Sources in trouble": alarms(went("raised", pick=of_sources), *NOTE),
    "pipeline: Samples received and stored A": rates(
        of_source, "received", "stored", by=["source"]
    ),
    "pipeline: Samples late, rejected, twice A": rates(
        of_source, "late", "rejected", "duplicate", by=["source"]
    ),
    "pipeline: Age of the last sample A": health(
        flagged("sampled", of_source), "source", age=highest("sample_age_s")
    ),
    "pipeline: From receipt to a stored score A": health(
        flagged("latency_p99_ms", of_service),
        p50=highest("latency_p50_ms"),
        p99=highest("latency_p99_ms"),
    ),
    "pipeline: Frames A": rates(of_service, "frames_scored", "frames_skipped"),
    "pipeline: How far the step is behind A": health(of_service, behind=highest("behind_s")),
    "pipeline: Waiting for each sink A": health(of_sink, "sink", items=highest("backlog")),
    "pipeline: Oldest that waits A": health(of_sink, "sink", age=highest("oldest_age_s")),
    "pipeline: Dropped and dead letters A": health(
        of_sink, "sink", dropped=highest("dropped"), dead_letters=highest("dead_letters")
    ),
    "pipeline: Size of the database A": health(of_service, bytes=highest("journal_bytes")),
}
ASKED = {
    f"{name}: {where}": query for name, one in dashboards().items() for where, query in queries(one)
}
VARIABLES = {where for where in ASKED if ": $" in where and " " not in where.partition(": ")[2]}


def test_every_query_is_looked_at():
    assert set(EXPECTED) == set(ASKED) - VARIABLES


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("where", EXPECTED)
def test_a_query_gives_what_is_in_the_database(where, step, lived):
    chosen: dict[str, str | list[str]] = {"asset": "m1"} if where.startswith("asset:") else {}
    found = lived.ask(ASKED[where], interval=f"{step}s", **chosen)
    assert found
    assert found == EXPECTED[where](lived, step)


# And what is in the database is what the service knows


def only_columns(rows: Sequence[Row]) -> dict[str, Fields]:
    """The columns of a table by its first tag or, without any, all alike."""
    return {(dict(tags).get("asset") or next(iter(dict(tags).values()), "")): dict(found)
            for tags, _, found in rows}  # fmt: skip


def test_the_fleet_shows_the_newest_score_of_each_asset_as_the_store_has_it(lived):
    found = only_columns(lived.ask(panel("fleet", "Assets")["targets"][0]["query"]))
    assert set(found) == {"m0", "m1", "m8"}, "m9 never said anything"
    for asset, one in lived.latest.items():
        shown = found[asset]
        assert shown["state"] == one.state[0]
        assert shown["coverage"] == pytest.approx(float(one.coverage[0]))
        assert (shown["valid"] == 1) == (one.state[0] == ScoreState.OK)
        if shown["valid"]:
            assert shown["surprise"] == pytest.approx(float(one.surprise[0]))
        standing = sum(
            {"raised": 1, "returned": -1}.get(str(event.transition), 0)
            for event in lived.events
            if event.asset == asset
        )
        assert shown["alarms_open"] == standing


def test_alarms_and_their_marks_are_the_transitions_of_the_store(lived):
    def said(event: AlarmEvent) -> tuple[object, ...]:
        own = (event.reason, event.asset, str(event.alarm_class), event.point)
        return (event.tick, *own, str(event.transition), event.who)

    def shown(rows: Sequence[Row]) -> list[tuple[object, ...]]:
        return sorted((time, *(dict(found)[name] for name in NOTE)) for _, time, found in rows)

    events = lived.events
    kinds = {event.transition for event in events}
    assert kinds == {
        Transition.RAISED,
        Transition.RETURNED,
        Transition.ACKNOWLEDGED,
        Transition.SHELVED,
    }
    table = lived.ask(panel("fleet", "Alarms")["targets"][0]["query"])
    assert shown(table) == sorted(map(said, events))
    assert {dict(found)["alarm_id"] for _, _, found in table} == {event.id for event in events}
    marks = [
        mark
        for one in dashboards()["asset"]["annotations"]["list"]
        for mark in lived.ask(one["query"], asset="m1")
    ]
    assert shown(marks) == sorted(said(event) for event in events if event.asset == "m1")


def test_what_became_of_each_sample_is_what_was_counted(lived):
    query = panel("pipeline", "What became of each sample")["targets"][0]["query"]
    found = only_columns(lived.ask(query))
    assert set(found) == set(lived.standing.sources)
    for name, source in lived.standing.sources.items():
        counts = source.counts
        shown = found[name]
        assert shown["missing"] == counts.missing == 0
        assert [shown[fate] for fate in FATES] == [
            counts.received,
            counts.stored,
            counts.duplicate,
            counts.late,
            sum(counts.rejected.values()),
            counts.waiting,
        ]
        assert shown["connected"] == (source.state == "running")
        assert shown["sampled"] == (source.sample_age_s is not None)
    spoilt = found["rig_m0"]
    assert spoilt["rejected"] == 1
    assert spoilt["late"] == 2 * len(CHANNELS) - spoilt["duplicate"] > 0
    for title, names in (
        ("Samples received and stored", ("received", "stored")),
        ("Samples late, rejected, twice", ("late", "rejected", "duplicate")),
    ):
        rows = lived.ask(panel("pipeline", title)["targets"][0]["query"], interval="10s")
        grown = [dict(columns) for tags, _, columns in rows if dict(tags)["source"] == "soon"]
        came = {name: pytest.approx(found["soon"][name] / 10) for name in names}
        assert grown == [came, dict.fromkeys(names, 0)], "all of it in ten seconds"
    assert all(found["soon"][fate] for fate in FATES if fate != "waiting"), found["soon"]
    assert (found["eyes"]["received"], found["eyes"]["stored"], found["eyes"]["rejected"]) == (
        3,
        2,
        1,
    )


def test_sinks_say_who_is_away_and_what_was_refused(lived):
    found = only_columns(lived.ask(panel("pipeline", "Sinks")["targets"][0]["query"]))
    assert set(found) == set(lived.standing.sinks) == {"inbox", "history", "strict", "away"}
    assert {name for name, one in found.items() if not one["connected"]} == {"away"}
    assert found["away"]["backlog"] > 0 < found["away"]["backlog_bytes"]
    assert {name for name, one in found.items() if one["dead_letters"]} == {"strict"}
    whole = only_columns(lived.ask(panel("pipeline", "Now")["targets"][0]["query"]))[""]
    assert whole["dead_letters"] == found["strict"]["dead_letters"]
    assert whole["alarms_open"] == sum(lived.standing.alarms_open.values())


def test_the_band_is_two_standard_deviations_around_what_was_expected(lived):
    query = panel("asset", "$channel")["targets"][1]["query"]
    rows = lived.ask(query, interval="1s", asset="m1", channel="flow")
    assert len(rows) > 60
    for _, time, found in rows:
        block, place = lived.scores["m1", time]
        at = place, block.channels.index("flow")
        band = dict(found)
        assert band["expected"] == pytest.approx(float(block.expected[at]), rel=1e-6)
        spread = float(block.spread[at])
        assert band["high"] - band["low"] == pytest.approx(4 * spread, rel=1e-4)


def test_a_sensor_that_is_silent_shows_as_a_channel_without_value(lived):
    query = panel("asset", "Channels")["targets"][0]["query"]
    rows = lived.ask(query, asset="m0", interval="5s")
    found = {
        (time // SECOND - START, dict(tags)["channel"]): dict(columns)["seen"]
        for tags, time, columns in rows
    }
    assert found[170, "load"] == 0
    assert found[170, "flow"] == found[250, "load"] == 2


# Variables


@pytest.mark.parametrize(
    ("of", "name", "chosen", "values"),
    [
        ("fleet", "site", {}, ["works"]),
        ("fleet", "area", {}, ["hall.2"]),
        ("fleet", "asset", {}, ["m0", "m1", "m8"]),
        ("fleet", "asset", {"area": ["hall.2"]}, ["m0"]),
        ("fleet", "asset", {"site": "elsewhere"}, []),
        ("asset", "site", {}, ["works"]),
        ("asset", "area", {}, ["hall.2"]),
        ("asset", "asset", {}, ["m0", "m1", "m8"]),
        ("asset", "channel", {"asset": "m1"}, sorted(CHANNELS)),
        ("pipeline", "site", {}, ["works"]),
        ("pipeline", "source", {}, ["eyes", "other", "rig_m0", "rig_m1", "soon"]),
        ("cameras", "site", {}, ["works"]),
        ("cameras", "area", {}, []),
        ("cameras", "asset", {}, ["m8"]),
        ("cameras", "camera", {"asset": ["m8"]}, ["top"]),
        ("cameras", "source", {}, ["eyes", "other", "rig_m0", "rig_m1", "soon"]),
        ("pipeline", "sink", {}, ["away", "history", "inbox", "strict"]),
    ],
)
def test_a_variable_offers_what_there_is(of, name, chosen, values, lived):
    assert lived.values(ASKED[f"{of}: ${name}"], **chosen) == values


@pytest.mark.parametrize(
    ("where", "chosen", "tag", "left"),
    [
        ("fleet: Surprise against its threshold A", {"asset": ["m0", "m8"]}, "asset", {"m0", "m8"}),
        ("fleet: Assets A", {"area": ["hall.2"]}, "asset", {"m0"}),
        ("asset: Channels A", {"asset": "m1", "channel": ["flow"]}, "channel", {"flow"}),
        ("pipeline: Frames A", {"site": "elsewhere"}, "", set()),
        ("cameras: Surprise A", {"camera": ["side"]}, "", set()),
        ("cameras: Who spoke A", {"asset": ["m8"]}, "asset", {"m8"}),
        ("pipeline: Sinks A", {"sink": ["away", "inbox"]}, "sink", {"away", "inbox"}),
        ("pipeline: Age of the last sample A", {"source": ["soon"]}, "source", {"soon"}),
    ],
)
def test_a_choice_is_kept_to(where, chosen, tag, left, lived):
    assert {dict(tags)[tag] for tags, _, _ in lived.ask(ASKED[where], **chosen)} == left

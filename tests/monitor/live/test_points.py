"""Points for databases say what the store says: nothing else, nothing less, nothing twice."""

import asyncio
from collections import defaultdict
from dataclasses import asdict, replace
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import keeping, plants, standings
from support.keeping import event
from support.plants import CHANNELS, FAULTS, SECOND, START, TICKS, HeldClock, until

from connectors.contract import NotReadyError
from connectors.points import Message, Points
from monitor.core.plan import Asset, Camera, KindSettings, Plan
from monitor.core.records import (
    AlarmClass,
    Grade,
    Outlook,
    PictureResult,
    Results,
    ScoreState,
    SeenDefect,
    Spoke,
    Standing,
    Transition,
)
from monitor.live import service, stepper
from monitor.live.points import PointMaker, health_points
from monitor.site.config import Config
from monitor.state.database import DatabaseReader
from monitor.state.names import Family, Names
from monitor.state.outbox import Outbox
from monitor.state.store import Store


class Base:
    """A database that keeps the last of each point, as InfluxDB does, and counts what came."""

    Settings = None
    accepts: ClassVar = (Message, Points)
    name = "inbox"

    def __init__(self):
        self.points, self.count = defaultdict(dict), 0

    async def open(self):
        """It is there."""

    async def close(self):
        """It stays there."""

    async def deliver(self, items):
        for item in items:
            if isinstance(item, Points):
                self.keep(item)

    def keep(self, points):
        key = (points.measurement, tuple(sorted(points.tags.items())))
        for row, time in enumerate(points.time.tolist()):
            fields = {name: float(column[row]) for name, column in points.fields.items()}
            texts = {name: text[row] for name, text in points.texts.items()}
            self.points[key][time] = fields | texts
            self.count += 1

    def of(self, measurement, **tags):
        """The rows of one measurement by time and tags."""
        return {
            (time, key): fields
            for (name, key), rows in self.points.items()
            if name == measurement and tags.items() <= dict(key).items()
            for time, fields in rows.items()
        }


@pytest.fixture
def base(monkeypatch):
    found = Base()
    monkeypatch.setattr(Config, "make_sink", lambda *_: found)
    return found


def stored(folder):
    """The scores of each asset, row by row: (asset, tick) -> fields of asset_score."""
    with DatabaseReader(folder) as database:
        names = Names(database).of(Family.ASSET)
        return {
            (names[int(block.asset[row])], int(block.tick[row])): block_fields(block, row)
            for block in Store(database).scores()
            for row in range(len(block))
        }


def block_fields(block, row):
    def number(value):
        return float(value) if np.isfinite(value) else 0.0

    return {
        "surprise": number(block.surprise[row]),
        "raw": number(block.raw[row]),
        "coverage": number(block.coverage[row]),
        "state": float(block.state[row]),
        "valid": float(block.state[row] == ScoreState.OK),
    }


@pytest.mark.parametrize("model", ["gru", None])
def test_asset_scores_are_those_of_the_store(model, tmp_path, base):
    made = plants.plant(tmp_path / "plant", assets=2, model=model)
    made.settings["assets"]["m0"]["area"] = "hall_2"
    plants.run(made.save())
    found = base.of("asset_score", site="works", model=model or "none")
    said = {
        (dict(key)["asset"], time): {
            name: fields[name] for name in ("surprise", "raw", "coverage", "state", "valid")
        }
        for (time, key), fields in found.items()
    }
    assert said == stored(made.data)
    assert len(found) == 2 * TICKS
    assert {dict(key).get("area") for _, key in found} == {"hall_2", None}
    assert all((fields["threshold"] > 0) == (model is not None) for fields in found.values())


def test_the_alarms_that_stand_are_counted_at_each_tick(tmp_path, base):
    made = plants.plant(tmp_path / "plant", assets=2, model="ewma")
    plants.run(made)
    with DatabaseReader(made.data) as database:
        spans = [(one.raised, one.changed) for one in Store(database).alarms(asset="m1")]
    wanted = {
        second: sum(a <= (START + second) * SECOND < b for a, b in spans) for second in range(TICKS)
    }
    assert set(wanted.values()) == {0, 1, 2}, "the limit stands, and the surprise as well"
    for asset, count in (("m0", dict.fromkeys(wanted, 0)), ("m1", wanted)):
        found = base.of("asset_score", asset=asset)
        said = {time // SECOND - START: one["alarms_open"] for (time, _), one in found.items()}
        assert said == count


def test_the_spread_of_a_channel_is_that_of_the_store(tmp_path, base):
    made = plants.plant(tmp_path / "plant", assets=1, model="gru")
    plants.run(made)
    with DatabaseReader(made.data) as database:
        stored = {
            (int(block.tick[row]), channel): float(block.spread[row, place])
            for block in Store(database).scores()
            for row in range(len(block))
            for place, channel in enumerate(block.channels)
        }
    found = base.of("channel_score")
    said = {(time, dict(key)["channel"]): one["spread"] for (time, key), one in found.items()}
    assert len(said) >= len(CHANNELS) * TICKS // 10
    assert said == {at: stored[at] for at in said}


def test_channels_are_told_each_ten_seconds_and_each_tick_of_an_alarm(tmp_path, base):
    made = plants.plant(tmp_path / "plant", assets=2, model="ewma")
    plants.run(made)
    sparse = {START + second for second in range(TICKS) if (START + second) % 10 == 0}
    calm = {time // SECOND for time, _ in base.of("channel_score", asset="m0", channel="flow")}
    assert calm == sparse
    with DatabaseReader(made.data) as database:
        alarms = Store(database).alarms(asset="m1")
        spans = [(one.raised, one.changed) for one in alarms]
    assert len(spans) == 2 * len(FAULTS)
    wanted = {
        START + second
        for second in range(TICKS)
        if any(since <= (START + second) * SECOND <= until for since, until in spans)
    }
    told = {time // SECOND for time, _ in base.of("channel_score", asset="m1", channel="flow")}
    assert told == sparse | wanted
    for fields in base.of("channel_score").values():
        assert set(fields) == {
            "value",
            "expected",
            "residual",
            "spread",
            "contribution",
            "valid",
            "judged",
        }


def without_health(base):
    return {key: rows for key, rows in base.points.items() if key[0] != "pipeline_health"}


async def test_after_a_stop_in_an_alarm_its_channels_are_told_on(tmp_path, base):
    calm = plants.plant(tmp_path / "calm", assets=1, batch_rows=5)
    await asyncio.to_thread(plants.run, calm)
    expected, count = without_health(base), base.count
    base.points.clear()
    base.count = 0
    made = plants.plant(tmp_path / "plant", assets=1, batch_rows=5)
    columns = plants.columns(["m0"])
    first = {name: shown[: FAULTS[0][0] + 8] for name, shown in columns.items()}
    plants.write(made.folder / "rig.csv", first)
    await asyncio.to_thread(plants.run, made)
    with DatabaseReader(made.data) as database:
        assert Store(database).alarms(active_only=True)
    plants.write(made.folder / "rig.csv", columns)
    async with plants.serving(made) as running:
        await until(running.task.done)
    assert without_health(base) == expected
    assert base.count == count, "nothing came twice"


def test_where_no_sink_wants_points_none_are_made(tmp_path):
    made = plants.plant(tmp_path / "plant", assets=1)
    plants.run(made)
    with DatabaseReader(made.data) as database:
        assert not database.query("SELECT 1 FROM outbox WHERE type = 'points'")


def test_alarms_at_the_same_moment_are_points_of_their_own(tmp_path, base):
    made = plants.plant(tmp_path / "plant", assets=1, model=None)
    limits = made.settings["kinds"]["pump"]["channels"]["flow"]["limits"]
    limits |= {"high_high": 70.1}
    plants.run(made.save())
    found = base.of("alarm_event", transition="raised")
    assert len(found) == 2 * len(FAULTS)
    assert len({time for time, _ in found}) == len(FAULTS)
    for (_, key), fields in found.items():
        assert dict(key)["point"] in ("flow high", "flow high_high")
        assert dict(key)["class"] == "limit"
        assert "flow" in fields["reason"]
        assert len(fields["alarm_id"]) == 32
        assert fields["value"] > fields["threshold"] >= 70
        assert fields["valid"] == 1


async def test_how_the_service_stands_is_told_too(tmp_path, base, monkeypatch):
    monkeypatch.setattr(service, "HEALTH_S", 0.02)
    made = plants.never_ending(plants.plant(tmp_path / "plant", assets=1, model=None))
    clock = HeldClock(TICKS + 7)
    async with plants.serving(made, clock=clock):
        await until(lambda: base.of("pipeline_health", source="other"))
        await until(lambda: last(base, source="rig")["received"] == TICKS * len(CHANNELS))
    stamps = {time for time, _ in base.of("pipeline_health")}
    assert stamps == {(START + TICKS) * SECOND}, "multiples of ten seconds"
    assert last(base, source="rig") == {
        "connected": 0,
        "fresh": 1,
        "sampled": 1,
        "sample_age_s": 0,
        "received": TICKS * len(CHANNELS),
        "stored": TICKS * len(CHANNELS),
        "duplicate": 0,
        "late": 0,
        "rejected": 0,
        "waiting": 0,
        "gaps": 0,
    }
    assert last(base, source="other")["sampled"] == 0
    assert set(last(base, sink="inbox")) == {
        "connected",
        "backlog",
        "backlog_bytes",
        "oldest_age_s",
        "dropped",
        "dead_letters",
    }
    assert last(base, sink="inbox")["connected"] == 1
    whole = base.of("pipeline_health", site="works")
    assert [len(dict(key)) for _, key in whole].count(1) == 1, "one row is of the service itself"


def last(base, **tags):
    """The newest row of health with these tags."""
    return list(base.of("pipeline_health", **tags).values())[-1]


# By themselves, without a plant


def test_a_sink_that_is_away_says_what_waits_for_it():
    away = standings.sink(
        reason="no connection", items=7, bytes=700, oldest_age_s=9.0, dropped=2, dead_letters=1
    )
    standing = standings.standing(sinks={"inbox": standings.sink(), "press": away})
    points = health_points(standing, site="works", ready=True)
    said = {one.tags["sink"]: one.fields for one in points if "sink" in one.tags}
    assert {name: value.tolist() for name, value in said["press"].items()} == {
        "connected": [0.0],
        "backlog": [7.0],
        "backlog_bytes": [700.0],
        "oldest_age_s": [9.0],
        "dropped": [2.0],
        "dead_letters": [1.0],
    }
    assert said["inbox"]["connected"] == 1
    assert not any(said["inbox"][name] for name in said["inbox"] if name != "connected")


PLAN = Plan(
    site="works",
    kinds={"pump": KindSettings(tick_ms=3000, channels={"flow": {}, "heat": {}})},
    assets=tuple(Asset(name=f"p{n}", id=n, kind="pump", tags={}) for n in range(3)),
)


def rows_of(points):
    base = Base()
    for one in points:
        base.keep(one)
    return base.points


def test_a_span_that_no_tick_divides_is_told_once_each():
    maker = PointMaker(PLAN, {}, channel_s=10)
    found = maker.of(Results(scores=(keeping.scores(range(0, 60, 3)),)))
    (told, _) = (one.time for one in found if one.measurement == "channel_score")
    seconds = (told - keeping.START) // SECOND
    assert seconds.tolist() == [0, 12, 21, 30, 42, 51]


@pytest.mark.parametrize("before", [False, True], ids=["raised now", "stands from before"])
def test_an_alarm_of_a_source_is_not_told_of_the_asset_of_its_name(before):
    hall = replace(PLAN, assets=tuple(replace(asset, area="hall") for asset in PLAN.assets))
    maker, scores = PointMaker(hall, {}, channel_s=10), keeping.scores(range(0, 60, 3))
    told = event(Transition.RAISED, 0, alarm_class=AlarmClass.PIPELINE, point="lost")
    if before:
        maker.settle([Standing(**{name: asdict(told)[name] for name in Standing.__slots__})])
    found = maker.of(Results(scores=(scores,), alarms=() if before else (told,)))
    opened = [one.fields["alarms_open"] for one in found if one.measurement == "asset_score"]
    assert not np.any(opened)
    assert {len(one.time) for one in found if one.measurement == "channel_score"} == {6}
    events = [one.tags for one in found if one.measurement == "alarm_event"]
    assert [tags.get("area") for tags in events] == ([] if before else [None])


def test_what_is_no_number_is_said_to_be_not_valid():
    scores = keeping.scores([0], value=np.nan, surprise=np.nan)
    found = rows_of(PointMaker(PLAN, {}, channel_s=0).of(Results(scores=(scores,))))
    for (measurement, _), rows in found.items():
        for fields in rows.values():
            assert fields["valid"] == 0
            if measurement == "channel_score":
                assert fields["value"] == fields["residual"] == fields["judged"] == 0


def test_a_side_that_is_absent_from_a_judgement_is_said_to_be():
    for spoke in Spoke:
        results = Results(judgements=(keeping.judgements([0], spoke=spoke),))
        (found,) = rows_of(PointMaker(PLAN, {}, channel_s=0).of(results)).values()
        (fields,) = found.values()
        heard, shown = bool(spoke & Spoke.SENSORS), bool(spoke & Spoke.PICTURES)
        assert (fields["has_sensor"], fields["sensor"]) == (heard, 2.0 * heard)
        assert (fields["has_picture"], fields["picture"]) == (shown, 3.0 * shown)
        assert (fields["valid"], fields["surprise"]) == ((1, 2.5) if spoke else (0, 0))
        assert fields["agreed"] == (4.0 if spoke is Spoke.BOTH else 0)  # twice the calmer side


def test_a_picture_is_a_point_with_all_its_fields_whatever_was_seen_on_it():
    seen = SeenDefect(
        label="hole",
        probability=0.5,
        box=(0, 0, 2, 2),
        width_mm=1.5,
        height_mm=0.5,
        length_mm=1.25,
        area_mm2=0.25,
    )
    told = {"camera": 0, "part": "p1", "probability": 0.75, "hash": "ab"}
    inspected = PictureResult(
        **told, time=START, label="hole", model="b0", surprise=4.0, grade=Grade.REJECT,
        rule="hole: count", reason="1, over 0", defects=(seen,),
        outlook=Outlook(unit="mm2", now=0.25, area=0.75, low=0.5, high=1.5, onset=0.125),
    )  # fmt: skip
    kept = PictureResult(**told, time=START + 1, label="")
    unknown = PictureResult(**told | {"camera": 9}, time=START, label="hole")
    cameras = (Camera(name="top", id=0, asset="p0", source="eyes", warn_area=2.0),)
    maker = PointMaker(replace(PLAN, cameras=cameras), {}, channel_s=0)
    first, second = maker.of(Results(pictures=(inspected, kept, unknown)))
    assert first.tags == {
        "site": "works",
        "asset": "p0",
        "camera": "top",
        "label": "hole",
        "grade": "reject",
    }
    assert {name: column.item() for name, column in first.fields.items()} == {
        "valid": 1,
        "probability": 0.75,
        "surprise": 4.0,
        "defects": 1,
        "sized": 1,
        "width_mm": 1.5,
        "height_mm": 0.5,
        "length_mm": 1.25,
        "area_mm2": 0.25,
        "foretold": 1,
        "area_now": 0.25,
        "area_ahead": 0.75,
        "area_low": 0.5,
        "area_high": 1.5,
        "onset": 0.125,
        "begun": 0,
        "warn_area": 2.0,
    }
    assert first.texts == {
        "part": ("p1",),
        "recipe": ("",),
        "picture": ("ab",),
        "model_hash": ("b0",),
        "rule": ("hole: count",),
        "reason": ("1, over 0",),
        "area_unit": ("mm2",),
    }
    assert second.tags["label"] == "none"
    assert second.fields["valid"].item() == second.fields["foretold"].item() == 0
    assert first.fields.keys() == second.fields.keys()
    assert first.texts.keys() == second.texts.keys()


@given(st.data())
def test_the_points_do_not_depend_on_how_records_were_grouped(data):
    count = 12
    chances = st.lists(st.sampled_from(Transition), max_size=2)
    records = []
    active = False
    for second in range(count):
        events = []
        for transition in data.draw(chances):
            if transition is Transition.RAISED and not active:
                active = True
            elif transition is Transition.RETURNED and active:
                active = False
            else:
                continue
            events.append(event(transition, 3 * second))
            break
        of_all = keeping.scores([3 * second] * 3, asset=[0, 1, 2], surprise=second)
        records.append(Results(scores=(of_all,), alarms=tuple(events)))
    one_by_one, in_groups = (PointMaker(PLAN, {}, channel_s=30) for _ in range(2))
    cut = data.draw(st.integers(1, count - 1))
    expected = [point for one in records for point in one_by_one.of(one)]
    found = [
        *in_groups.of(Results.join(records[:cut])),
        *in_groups.of(Results.join(records[cut:])),
    ]
    assert rows_of(found) == rows_of(expected)


def test_alarms_of_a_point_that_are_unshelved_together_are_points_of_their_own():
    old, new = (replace(event(Transition.UNSHELVED, 3), id=name) for name in ("old", "new"))
    found = rows_of(PointMaker(PLAN, {}, channel_s=0).of(Results(alarms=(old, new))))
    ((_, rows),) = found.items()
    assert {time: fields["alarm_id"] for time, fields in rows.items()} == {
        old.tick: "old",
        old.tick + 1: "new",
    }


async def test_a_database_that_is_away_for_long_costs_points_but_no_message(
    tmp_path, base, monkeypatch
):
    async def away():
        raise NotReadyError("away", connector="inbox")

    monkeypatch.setattr(base, "open", away)
    monkeypatch.setattr(stepper, "TIDY_S", 0.0)
    monkeypatch.setattr(service, "FAREWELL_S", 0.1)
    made = plants.plant(tmp_path / "plant", assets=1, model=None, batch_rows=5)
    made.settings["state"] = {"outbox_mb": 0.02, "channel_score_s": 0}
    async with plants.serving(plants.never_ending(made), clock=HeldClock(TICKS + 7)) as serving:
        outbox = Outbox(serving.database)

        def messages():
            waiting = outbox.pending("inbox", limit_items=10_000, limit_bytes=1 << 30)
            return sum(isinstance(item, Message) for _, item in waiting)

        await until(outbox.sinks)
        await until(lambda: messages() == 2 * len(FAULTS) and outbox.backlog("inbox").dropped > 0)

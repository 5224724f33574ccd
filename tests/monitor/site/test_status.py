"""How a plant stands, from what is stored."""

import json

from support import plants
from support.keeping import event, points
from support.plants import CHANNELS, TICKS, Split

from connectors.points import Points
from monitor.core.missing import GapKind, SourceGap
from monitor.core.records import AlarmClass, Results, Transition
from monitor.site.status import rejected, summary
from monitor.state.database import Database, DatabaseReader
from monitor.state.losses import Loss, Losses
from monitor.state.names import Names
from monitor.state.outbox import Outbox
from monitor.state.store import Store


def test_a_plant_that_never_ran_has_nothing_to_say(tmp_path):
    with Database(tmp_path) as database:
        found = summary(database)
    assert found["samples_received"] == found["frames"] == found["alarms_active"] == 0
    assert found["samples_conserved"]
    assert found["score_latency_ms"] == {"p50": None, "p99": None}
    assert found["updated_ns"] is None


def test_the_figures_of_a_run_add_up(tmp_path):
    made = plants.plant(tmp_path / "plant", assets=2, split=Split.ASSET)
    columns = plants.columns(["m1"])
    plants.write(
        made.folder / "rig_m1.csv", columns, order=[*range(250), 100, 100, *range(250, TICKS)]
    )
    found = plants.run(made).summary
    count = TICKS * len(CHANNELS)
    assert found["samples_received"] == 2 * count + 2 * len(CHANNELS)
    assert found["samples_duplicated"] == 2 * len(CHANNELS) - found["samples_late"]
    assert found["samples_conserved"]
    assert found["sources"]["rig_m0"] == {
        "received": count,
        "stored": count,
        "duplicate": 0,
        "late": 0,
        "rejected": {},
        "waiting": 0,
        "pictures": False,
        "examples": {},
        "outrun": 0,
        "marks": {},
        "unit_changed": {},
        "active": [],
        "gaps": {"told": 0, "filled": 0, "missing_s": 0.0, "last": None},
        "state": "ended",
        "reason": "",
        "last_ns": (plants.START + TICKS - 1) * plants.SECOND,
    }
    m1 = found["assets"]["m1"]
    assert m1["tick_ns"] == (plants.START + TICKS - 1) * plants.SECOND
    assert (m1["kind"], m1["state"], m1["active"]) == ("pump", "ok", [])
    assert (m1["coverage"], m1["provisional"]) == (1.0, True)
    assert 0 <= m1["surprise"] < m1["threshold"]
    assert found["frames"] == 2 * TICKS
    assert found["alarms"] == {"m0": 0, "m1": 4}
    assert found["alarms_active"] == 0
    assert 0 < found["score_latency_ms"]["p50"] <= found["score_latency_ms"]["p99"]
    assert found["backlog"] == {"inbox": 0}
    json.dumps(found, allow_nan=False)


def test_an_alarm_that_stands_is_told_with_its_asset(tmp_path):
    made = plants.plant(tmp_path / "plant", assets=1)
    plants.write(made.folder / "rig.csv", plants.columns(made.assets, 145))  # ends within a fault
    found = plants.run(made).summary
    m0 = found["assets"]["m0"]
    assert m0["surprise"] > m0["threshold"]
    assert sorted(one["class"] for one in m0["active"]) == ["limit", "process"]
    assert found["alarms_active"] == 2
    assert all(one["raised_ns"] >= (plants.START + 120) * plants.SECOND for one in m0["active"])


def test_what_was_lost_to_age_or_to_a_full_outbox_is_shown(tmp_path):
    with Database(tmp_path) as database:
        outbox = Outbox(database)
        with database.atomic() as tx:
            outbox.register(tx, {"influx": (Points,)})
            outbox.put(tx, [points(1), points(2)])
            outbox.trim(tx, limit_bytes=0, limit=1)
            Losses(database).add(tx, Loss.LATE_SAMPLES, 3)
            Losses(database).add(tx, Loss.LATE_SAMPLES, 4)
        found = summary(database)
    assert found["no_longer_kept"] == {"late_samples": 7, "dead_letters": 0}
    assert (found["backlog"], found["dropped"]) == ({"influx": 1}, {"influx": 1})


def test_what_could_not_be_taken_is_counted_by_its_reason(tmp_path):
    made = plants.plant(tmp_path / "plant", assets=1)
    path = made.folder / "rig.csv"
    lines = path.read_text().splitlines()
    lines[5] = lines[5].replace(lines[5].split(",")[1], "oops", 1)
    lines[9] = "1," + lines[9].partition(",")[2]  # 1970
    path.write_text("\n".join(lines) + "\n")
    found = plants.run(made).summary
    assert found["samples_rejected"] == {"value not a number": 1, "ancient": len(CHANNELS)}
    assert found["sources"]["rig"]["examples"] == {
        "value not a number": "rig.csv, line 6, column 'm0.flow': 'oops' is no number; write "
        "nothing into the cell where there is no value"
    }
    (words,) = rejected(found).values()
    assert words.startswith("source rig: 4 of 900 samples (0.4 %) were rejected: ")
    assert "1 value not a number (rig.csv, line 6, " in words
    assert "3 ancient (stamped before `oldest` of the kind: is time_format right?)" in words
    assert rejected(found, wholly=True) == {}
    assert found["samples_conserved"]
    with DatabaseReader(made.data) as database:
        assert summary(database) == found


def test_what_a_source_said_of_itself_is_shown_with_names(tmp_path):
    gap = SourceGap(
        source="plc", kind=GapKind.GAP, since=0, until=3 * 10**9, reason="cable out", received=9
    )
    with Database(tmp_path) as database:
        with database.atomic() as tx:
            Names(database).tag_ids(tx, ["p1/flow"])
            Store(database).write(tx, Results(source_gaps=(gap,)), done=1)
            Store(database).write_status(
                tx,
                {
                    "unit_changed": {"plc": {"0": "bar to psi", "7": ""}},
                    "marks": {"plc": {"forced": 3}},
                    "outrun": {"plc": 2},
                    "repeats_forgotten": 5,
                },
            )
        whole = summary(database)
    found = whole["sources"]["plc"]
    assert (found["outrun"], whole["repeats_forgotten"]) == (2, 5)
    assert found["unit_changed"] == {"p1/flow": "bar to psi", "7": ""}
    assert found["marks"] == {"forced": 3}
    assert (found["gaps"]["told"], found["gaps"]["missing_s"]) == (1, 3.0)
    assert found["gaps"]["last"]["reason"] == "cable out"


def test_an_alarm_of_a_source_is_not_counted_for_the_asset_of_its_name(tmp_path):
    told = event(Transition.RAISED, 0, asset="m0", alarm_class=AlarmClass.PIPELINE)
    with Database(tmp_path) as database:
        with database.atomic() as tx:
            Names(database).asset_ids(tx, ["m0"])
            Store(database).write(tx, Results(alarms=(told,)), done=1)
        assert summary(database)["alarms"] == {"m0": 0}

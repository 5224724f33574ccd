"""The demo: it counts for itself, keeps off what is not its own, and fails where a claim does."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from monitor.core.records import AlarmClass, AlarmEvent, Transition
from monitor.live.messages import message
from monitor.live.service import Ended
from monitor.site import demo as room
from monitor.site import replay
from monitor.site.demo import CLAIMS, MARKER, SECRET, Demo, Played, judge, prepare
from monitor.site.problems import PlantError
from monitor.site.receiver import Taken
from monitor.state.database import Database
from monitor.state.errors import LockedError
from monitor.state.store import Alarm

SCRIPT = Path(sys.executable).with_name("watchkeeper")
SECOND = 1_000_000_000
CALM = Ended(refused={}, mismatched=frozenset(), undelivered={})


@pytest.fixture
def demo(tmp_path: Path) -> Demo:
    return prepare(tmp_path / "out")


def alarm(asset: str, raised: int, alarm_class: AlarmClass = AlarmClass.PROCESS) -> Alarm:
    return Alarm(
        id=f"{asset} {raised} {alarm_class}",
        asset=asset,
        alarm_class=alarm_class,
        point="surprise",
        raised=raised,
        changed=raised,
        reason="surprise 9.0 at or over 4.0",
        value=9.0,
        threshold=4.0,
        blame={},
        diagnosis=None,
        active=True,
        acknowledged=False,
        tripped=False,
        shelved_until=None,
        who="",
    )


def test_the_changing_unit_changes_in_the_middle_of_what_is_played(demo: Demo) -> None:
    units = {unit.name: unit for unit in demo.playing.units}

    assert demo.changes == {"unit_5": None, "unit_3": 20}
    assert {name: tuple(unit.strokes) for name, unit in units.items()} == {
        "unit_5": (7, 47),
        "unit_3": (5, 45),
    }


def test_fewer_strokes_are_those_around_the_change(tmp_path: Path) -> None:
    short = prepare(tmp_path / "short", strokes=6)
    units = {unit.name: unit for unit in short.playing.units}

    assert short.changes == {"unit_5": None, "unit_3": 3}
    assert tuple(units["unit_3"].strokes) == (22, 28)


def test_each_tag_goes_out_over_the_source_it_is_watched_by(demo: Demo) -> None:
    for unit in demo.playing.units:
        assert set(unit.over_mqtt) == {"accel_1", "accel_2", "accel_3"}
        assert set(unit.over_opcua) == {"angle", "temp_1", "temp_2", "pg_1", "pg_2"}
    sources: Any = demo.config.sources
    assert sources["plc"].url.endswith(f":{demo.playing.opcua_port}")
    assert sources["broker"].port == demo.playing.mqtt_port
    for name in demo.changes:
        for bound in demo.config.tags_of(name):
            wanted = replay.topic if bound.source == "broker" else replay.node
            assert bound.address.endswith(wanted(name, bound.tag))


def test_defects_are_shown_from_the_stroke_on_at_which_the_unit_changes(demo: Demo) -> None:
    units = {unit.name: unit for unit in demo.playing.units}
    cameras = demo.config.cameras

    for name, change in demo.changes.items():
        (camera,) = [one for one in cameras.values() if one.asset == name]
        assert camera.address == replay.camera(name)
        shown = [stroke for stroke, _ in units[name].pictures]
        assert shown == list(range(0, 40, 2))
        assert change is None or change in shown
        assert all(Path(file).is_file() for _, file in units[name].pictures)


def test_fewer_strokes_have_fewer_pictures(tmp_path: Path) -> None:
    short = prepare(tmp_path / "short", strokes=8)
    units = {unit.name: unit for unit in short.playing.units}

    assert [stroke for stroke, _ in units["unit_3"].pictures] == [0, 2, 4, 6]
    assert [Path(file).stem for _, file in units["unit_3"].pictures] == ["21", "23", "25", "27"]


def test_the_secret_is_for_this_user_alone_and_an_influxdb_is_a_sink_more(tmp_path: Path) -> None:
    demo = prepare(tmp_path / "out", influx={"url": "http://localhost:8086", "bucket": "b"})
    sinks: Any = demo.config.sinks

    assert (demo.folder / SECRET).stat().st_mode & 0o777 == 0o600
    assert set(sinks) == {"maintenance", "influx"}
    assert sinks["influx"].bucket == "b"


def test_what_was_sent_is_the_same_plant_with_recordings_for_sources(demo: Demo) -> None:
    recorded = demo.recorded

    assert set(recorded.assets) == set(demo.changes)
    for name in demo.changes:
        assert [bound.tag for bound in recorded.tags_of(name)] == [
            bound.tag for bound in demo.config.tags_of(name)
        ]
    assert recorded.kinds["actuator"].channels == demo.config.kinds["actuator"].channels


def test_only_machines_that_the_model_never_saw_are_watched(demo: Demo) -> None:
    training = demo.config.kinds["actuator"].training

    assert training is not None
    assert not set(training.assets) & set(demo.watched.assets)
    assert set(demo.watched.assets) == set(demo.changes)


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")

    with pytest.raises(PlantError, match="holds something that the demo did not make"):
        prepare(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_earlier_demo_is_replaced_and_what_somebody_added_is_kept(demo: Demo) -> None:
    for old in ("data/state", "sent/old.parquet", "summary.json", "unit_3.png", "notes.txt"):
        (demo.folder / old).write_text("old")
    (demo.folder / "demo.yaml").write_text("edited")

    again = prepare(demo.folder)

    left = {str(path.relative_to(demo.folder)) for path in demo.folder.rglob("*")}
    assert not left & {"data/state", "sent/old.parquet", "summary.json", "unit_3.png"}
    assert {"notes.txt", MARKER} <= left
    assert again.config.kinds == demo.config.kinds


def test_a_demo_that_still_runs_is_not_replaced(demo: Demo) -> None:
    with Database(demo.folder / "data"), pytest.raises(LockedError):
        prepare(demo.folder)


PLAYED = Played(
    sent=1000, pictures=4, first=10 * SECOND, changes={"unit_5": None, "unit_3": 20 * SECOND}
)


def event(raised: Alarm, transition: Transition = Transition.RAISED) -> AlarmEvent:
    return AlarmEvent(
        id=raised.id,
        asset=raised.asset,
        alarm_class=raised.alarm_class,
        point=raised.point,
        transition=transition,
        tick=raised.raised,
        raised=raised.raised,
        reason=raised.reason,
        value=raised.value,
        threshold=raised.threshold,
    )


def delivered(one: AlarmEvent, *, verified: bool = True, after_s: float = 0.5) -> Taken:
    return Taken(
        id=message(one, site="demo").id,
        type="raised",
        subject=one.id,
        time="",
        arrived=one.tick + round(after_s * SECOND),
        verified=verified,
    )


CLASSES = (AlarmClass.PROCESS, AlarmClass.PICTURE, AlarmClass.COMBINED)


class Stand:
    """Stored states that hold whatever a test says, in place of databases."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.found: dict[str, Any] = {
            "samples_received": PLAYED.sent + PLAYED.pictures,
            "samples_stored": PLAYED.sent + PLAYED.pictures,
            "samples_duplicated": 0,
            "samples_late": 0,
            "samples_conserved": True,
            "frames_scored": 1,
            "alarms": {},
            "score_latency_ms": {"p50": 1.0, "p99": 2.0},
            "sources": {
                "plc": {"received": PLAYED.sent, "stored": PLAYED.sent},
                "eyes": {"received": PLAYED.pictures, "stored": PLAYED.pictures},
            },
        }
        self.raised = [alarm("unit_3", 21 * SECOND, one) for one in CLASSES]
        self.again: list[Alarm] | None = None  # of the backfill, if not the same
        self.taken: list[Taken] | None = None  # if not one for each alarm
        self.digests = {"live": "same", "again": "same"}
        self.ended = CALM
        self.plots = 2
        stand = self

        class StoreOf:
            def __init__(self, database: Any) -> None:
                self.name = database

            def digest(self, since: int) -> str:
                assert since == PLAYED.first - 1
                return stand.digests[self.name]

            def alarms(self) -> list[Alarm]:
                other = self.name == "again" and stand.again is not None
                return (stand.again or []) if other else stand.raised

            def alarm_events(self) -> list[AlarmEvent]:
                return [event(one) for one in stand.raised]

        monkeypatch.setattr(room, "Store", StoreOf)
        monkeypatch.setattr(room, "summary", lambda _: self.found)

    def judged(self, demo: Demo) -> dict[str, Any]:
        live: Any = "live"
        again: Any = "again"
        found = judge(
            demo,
            live,
            again,
            played=PLAYED,
            taken=[delivered(event(one)) for one in self.raised]
            if self.taken is None
            else self.taken,
            ended=self.ended,
            plots=[demo.folder / "demo.yaml"] * self.plots,
        )
        assert found["claims"].keys() == CLAIMS.keys()
        json.dumps(found, allow_nan=False)
        return found

    def failed(self, demo: Demo) -> set[str]:
        claims = self.judged(demo)["claims"]
        return {name for name, holds in claims.items() if not holds}


@pytest.fixture
def stand(monkeypatch: pytest.MonkeyPatch) -> Stand:
    return Stand(monkeypatch)


def test_where_all_is_as_claimed_every_claim_holds(demo: Demo, stand: Stand) -> None:
    found = stand.judged(demo)

    assert stand.failed(demo) == set()
    assert (found["webhooks_delivered"], found["webhooks_verified"]) == (3, 3)
    assert (found["samples_received"], found["samples_lost"]) == (1000, 0)
    assert (found["pictures_received"], found["pictures_inspected"]) == (4, 4)
    assert found["webhook_latency_ms"] == {"p50": 500.0, "p99": 500.0}


@pytest.mark.parametrize(
    ("raised", "claim"),
    [
        ([("unit_3", 19)], "silent_before_change"),
        ([("unit_5", 21)], "healthy_silent"),
    ],
)
def test_a_claim_about_alarms_falls_with_them(
    demo: Demo, stand: Stand, raised: list[tuple[str, int]], claim: str
) -> None:
    stand.raised += [alarm(asset, second * SECOND, AlarmClass.PICTURE) for asset, second in raised]

    assert stand.failed(demo) == {claim}


@pytest.mark.parametrize(
    ("missing", "claim"),
    [
        (AlarmClass.PROCESS, "change_noticed"),
        (AlarmClass.PICTURE, "defects_noticed"),
        (AlarmClass.COMBINED, "judged_together"),
    ],
)
def test_sensors_pictures_and_both_together_must_each_notice_the_change(
    demo: Demo, stand: Stand, missing: AlarmClass, claim: str
) -> None:
    stand.raised = [one for one in stand.raised if one.alarm_class is not missing]

    assert stand.failed(demo) == {claim}


@pytest.mark.parametrize(("received", "inspected"), [(4, 3), (3, 3), (5, 5)])
def test_the_claim_about_pictures_falls_where_one_is_missing_or_too_many(
    demo: Demo, stand: Stand, received: int, inspected: int
) -> None:
    stand.found["sources"]["eyes"] = {"received": received, "stored": inspected}
    stand.found["samples_received"] = PLAYED.sent + received
    stand.found["samples_stored"] = PLAYED.sent + inspected

    assert stand.failed(demo) == {"pictures_inspected"}


@pytest.mark.parametrize(
    ("name", "wrong", "claim"),
    [
        ("samples_received", 1, "nothing_lost"),
        ("samples_stored", 1, "nothing_lost"),
        ("samples_duplicated", 1, "nothing_duplicated"),
        ("samples_late", 1, "nothing_late"),
        ("samples_conserved", False, "samples_conserved"),
    ],
)
def test_a_claim_about_samples_falls_with_the_figures(
    demo: Demo, stand: Stand, name: str, wrong: object, claim: str
) -> None:
    stand.found[name] = wrong

    assert stand.failed(demo) == {claim}


def test_the_claim_about_webhooks_falls_with_any_that_is_amiss(demo: Demo, stand: Stand) -> None:
    right, *others = [delivered(event(one)) for one in stand.raised]
    for amiss in (
        [],
        [right, right],
        [replace(right, verified=False)],
        [right, replace(right, verified=False)],
        [replace(right, id="another")],
    ):
        stand.taken = amiss + others
        assert stand.failed(demo) == {"webhooks_delivered"}
    stand.taken = [right, *others]
    stand.ended = replace(CALM, undelivered={"maintenance": 1})
    assert stand.failed(demo) == {"webhooks_delivered"}


def test_the_claim_about_history_falls_with_another_digest_or_other_alarms(
    demo: Demo, stand: Stand
) -> None:
    stand.again = stand.raised[:1]  # history has no pictures, and so none of their alarms
    assert stand.failed(demo) == set()
    stand.again = []
    assert stand.failed(demo) == {"backfill_equal"}
    stand.again = None
    stand.digests["again"] = "other"
    assert stand.failed(demo) == {"backfill_equal"}


def test_the_claim_about_plots_falls_where_one_is_missing(demo: Demo, stand: Stand) -> None:
    stand.plots = 1

    assert stand.failed(demo) == {"plots_drawn"}


def run(folder: Path, *arguments: str, wait_s: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPT, "demo", "--out", folder, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=wait_s,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


@pytest.mark.slow
@pytest.mark.broker
@pytest.mark.timeout(320)
def test_a_short_demo_over_real_servers_ends_well_and_all_it_claims_holds(tmp_path: Path) -> None:
    ended = run(tmp_path / "out", "--strokes", "8", wait_s=300)

    assert ended.returncode == 0, ended.stdout + ended.stderr
    found = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    sent = 2 * 8 * (3 * 3000 + 5 * 300) + 10  # blocks, slow tags, and what stood there before
    assert found["samples_sent"] == found["samples_received"] == sent
    assert found["samples_lost"] == found["samples_duplicated"] == 0
    assert found["pictures_sent"] == found["pictures_received"] == found["pictures_inspected"] == 8
    assert found["alarms"]["unit_5"] == 0 < found["alarms"]["unit_3"]
    assert 0 < found["score_latency_ms"]["p50"] <= found["score_latency_ms"]["p99"]
    assert found["webhooks_delivered"] == found["webhooks_verified"] > 0
    assert 0 < found["webhook_latency_ms"]["p50"] <= found["webhook_latency_ms"]["p99"]
    assert found["claims"] == dict.fromkeys(CLAIMS, True)
    assert {"unit_3.png", "unit_5.png"} <= {path.name for path in (tmp_path / "out").iterdir()}


@pytest.mark.slow
@pytest.mark.broker
@pytest.mark.timeout(120)
@pytest.mark.parametrize("step", ["2  Learning", "3  Watching"])
def test_ctrl_c_ends_the_demo_cleanly(tmp_path: Path, step: str) -> None:
    said = tmp_path / "said.txt"
    with said.open("w") as out:
        process = subprocess.Popen(
            [SCRIPT, "demo", "--out", tmp_path / "out"],
            stdout=out,
            stderr=subprocess.STDOUT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            # whoever starts these tests in the background has Ctrl-C ignored, and so have we
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509 - no threads
        )
    while step not in said.read_text() and process.poll() is None:
        time.sleep(0.1)
    time.sleep(1.0)  # into the middle of it; earlier or later must end the same way
    process.send_signal(signal.SIGINT)

    assert process.wait(timeout=30) == 130, said.read_text()
    assert "Traceback" not in said.read_text()
    assert said.read_text().rstrip().endswith("Stopped.")
    prepare(tmp_path / "out")  # nothing is locked or left half done

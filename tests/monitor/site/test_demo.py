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

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from monitor.core.records import AlarmClass
from monitor.live.service import Ended
from monitor.site import demo as room
from monitor.site.demo import CLAIMS, MARKER, Demo, judge, prepare
from monitor.site.problems import PlantError
from monitor.state.database import Database
from monitor.state.errors import LockedError
from monitor.state.store import Alarm

SCRIPT = Path(sys.executable).with_name("watchkeeper")
SECOND = 1_000_000_000
CALM = Ended(refused={}, mismatched=frozenset(), undelivered={})


@pytest.fixture
def demo(tmp_path: Path) -> Demo:
    return prepare(tmp_path / "out")


def alarm(asset: str, raised: int) -> Alarm:
    return Alarm(
        id=f"{asset} {raised}",
        asset=asset,
        alarm_class=AlarmClass.PROCESS,
        point="surprise",
        raised=raised,
        changed=raised,
        reason="surprise 9.0 at or over 4.0",
        value=9.0,
        threshold=4.0,
        blame={},
        active=True,
        acknowledged=False,
        shelved_until=None,
        who="",
    )


def test_the_changing_unit_changes_as_its_26th_stroke_begins(demo: Demo) -> None:
    time_of = pq.read_table(demo.folder / "unit_3.parquet", columns=["time"])["time"]
    start = pc.cast(time_of, pa.int64()).to_numpy()[25 * 3000]

    assert demo.changes == {"unit_5": None, "unit_3": start * 1_000_000}


def test_only_machines_that_the_model_never_saw_are_watched(demo: Demo) -> None:
    training = demo.config.kinds["actuator"].training

    assert training is not None
    assert not set(training.assets) & set(demo.watched.assets)
    assert set(demo.watched.assets) == set(demo.changes)


def test_what_was_sent_is_counted_in_the_recordings(demo: Demo) -> None:
    strokes, samples, tags = 50 + 54, 3000, 8

    assert demo.samples_sent() == strokes * samples * tags

    table = pq.read_table(demo.folder / "unit_3.parquet").slice(0, 100)
    holes = pa.array([None if row < 30 else 1 for row in range(100)], pa.uint16())
    gone = table.set_column(table.schema.get_field_index("pg_1"), "pg_1", holes)
    pq.write_table(gone, demo.folder / "unit_3.parquet")
    assert demo.samples_sent() == 54 * samples * tags + 100 * tags - 30


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")

    with pytest.raises(PlantError, match="holds something that the demo did not make"):
        prepare(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_earlier_demo_is_replaced_and_what_somebody_added_is_kept(demo: Demo) -> None:
    for old in ("data/state", "alarms/old.json", "summary.json", "unit_3.png", "notes.txt"):
        (demo.folder / old).write_text("old")
    (demo.folder / "demo.yaml").write_text("edited")

    again = prepare(demo.folder)

    left = {str(path.relative_to(demo.folder)) for path in demo.folder.rglob("*")}
    assert not left & {"data/state", "alarms/old.json", "summary.json", "unit_3.png"}
    assert {"notes.txt", MARKER} <= left
    assert again.config.hash == demo.config.hash


def test_a_demo_that_still_runs_is_not_replaced(demo: Demo) -> None:
    with Database(demo.folder / "data"), pytest.raises(LockedError):
        prepare(demo.folder)


class Stand:
    """Stored states that hold whatever a test says, in place of databases."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, sent: int) -> None:
        self.found: dict[str, Any] = {
            "samples_received": sent,
            "samples_stored": sent,
            "samples_duplicated": 0,
            "samples_conserved": True,
            "frames_scored": 1,
            "alarms": {},
            "score_latency_ms": {"p50": 1.0, "p99": 2.0},
        }
        self.raised: list[Alarm] = []
        self.digests = {"live": "same", "again": "same"}
        stand = self

        class StoreOf:
            def __init__(self, database: Any) -> None:
                self.name = database

            def digest(self) -> str:
                return stand.digests[self.name]

            def alarms(self) -> list[Alarm]:
                return stand.raised

            def alarm_events(self) -> list[Alarm]:
                return stand.raised

        monkeypatch.setattr(room, "Store", StoreOf)
        monkeypatch.setattr(room, "summary", lambda _: self.found)


@pytest.fixture
def stand(demo: Demo, monkeypatch: pytest.MonkeyPatch) -> Stand:
    return Stand(monkeypatch, demo.samples_sent())


def failed(demo: Demo, stand: Stand, ended: Ended = CALM, pictures: int = 2) -> set[str]:
    for old in (demo.folder / "alarms").iterdir():
        old.unlink()
    for number in range(len(stand.raised)):
        (demo.folder / "alarms" / f"{number}.json").write_text("{}")
    drawn = [demo.folder / "demo.yaml"] * pictures
    live: Any = "live"
    again: Any = "again"
    found = judge(demo, live, again, ended=ended, pictures=drawn)
    assert found["claims"].keys() == CLAIMS.keys()
    json.dumps(found, allow_nan=False)
    return {name for name, holds in found["claims"].items() if not holds}


def test_each_claim_falls_when_what_it_claims_is_not_so(demo: Demo, stand: Stand) -> None:
    change = demo.changes["unit_3"]
    assert change is not None
    noticed = alarm("unit_3", change + SECOND)

    assert failed(demo, stand) == {"change_noticed"}
    stand.raised = [noticed]
    assert failed(demo, stand) == set()
    stand.raised = [noticed, alarm("unit_3", change - SECOND)]
    assert failed(demo, stand) == {"silent_before_change"}
    stand.raised = [noticed, alarm("unit_5", change + SECOND)]
    assert failed(demo, stand) == {"healthy_silent"}
    stand.raised = [noticed]
    stand.digests["again"] = "other"
    assert failed(demo, stand) == {"backfill_equal"}
    stand.digests["again"] = "same"
    assert failed(demo, stand, pictures=1) == {"pictures_drawn"}
    assert failed(demo, stand, replace(CALM, undelivered={"messages": 1})) == {"alarms_delivered"}
    for name, wrong, claim in (
        ("samples_received", 1, "nothing_lost"),
        ("samples_stored", 1, "nothing_lost"),
        ("samples_duplicated", 1, "nothing_duplicated"),
        ("samples_conserved", False, "samples_conserved"),
    ):
        right = stand.found[name]
        stand.found[name] = wrong
        assert failed(demo, stand) == {claim}
        stand.found[name] = right


def run(folder: Path, *, wait_s: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPT, "demo", "--out", folder],
        capture_output=True,
        text=True,
        check=False,
        timeout=wait_s,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


@pytest.mark.slow
@pytest.mark.timeout(320)
def test_the_demo_ends_within_five_minutes_and_all_it_claims_holds(tmp_path: Path) -> None:
    ended = run(tmp_path / "out", wait_s=300)

    assert ended.returncode == 0, ended.stdout + ended.stderr
    found = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert found["samples_sent"] == found["samples_received"] == 2_496_000
    assert found["samples_lost"] == found["samples_duplicated"] == 0
    assert found["alarms"]["unit_5"] == 0 < found["alarms"]["unit_3"]
    assert 0 < found["score_latency_ms"]["p50"] <= found["score_latency_ms"]["p99"]
    assert found["claims"] == dict.fromkeys(CLAIMS, True)
    assert found["frames_scored"] > 10_000
    assert {"unit_3.png", "unit_5.png"} <= {path.name for path in (tmp_path / "out").iterdir()}


@pytest.mark.slow
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
        )
    while step not in said.read_text() and process.poll() is None:
        time.sleep(0.1)
    time.sleep(1.0)  # into the middle of it; earlier or later must end the same way
    process.send_signal(signal.SIGINT)

    assert process.wait(timeout=30) == 130, said.read_text()
    assert "Traceback" not in said.read_text()
    assert said.read_text().rstrip().endswith("Stopped.")
    prepare(tmp_path / "out")  # nothing is locked or left half done

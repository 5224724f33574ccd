"""`watchkeeper run` as a user, a script and a process supervisor see it."""

import os
import shutil
import signal

import httpx
import pytest
from support import plants
from support.commands import process, wait_for, watchkeeper
from support.plants import CHANNELS, TICKS, Split
from support.servers import free_port

from monitor.cli import run
from monitor.site.status import summary
from monitor.state.database import Database, DatabaseReader
from monitor.state.errors import DamagedError, StateError
from monitor.state.journal import Journal
from monitor.state.outbox import Outbox
from monitor.state.snapshot import Snapshots, save
from monitor.state.store import Store


@pytest.fixture
def made(tmp_path):
    return plants.plant(tmp_path / "plant", assets=1)


def test_a_run_over_recordings_ends_with_its_figures(made):
    said = watchkeeper("run", made.file)
    assert said.code == 0
    count = TICKS * len(CHANNELS)
    assert f"samples  {count:,} received = {count:,} stored" in said.out
    assert f"frames   {TICKS:,} closed" in said.out
    assert "sink     inbox: 0 waiting" in said.out
    assert len(made.messages()) == 8


def test_for_scripts_it_is_json(made):
    found = watchkeeper("run", made.file, "--json").json
    assert found["samples_received"] == TICKS * len(CHANNELS)
    assert found["refused"] == {}
    assert found["undelivered"] == {"inbox": 0}
    assert found["alarms"] == {"m0": 4}


def test_a_second_run_finds_nothing_new(made):
    before = watchkeeper("run", made.file, "--json").json
    messages = made.messages()
    after = watchkeeper("run", made.file, "--json").json
    for figure in ("samples_received", "frames", "alarms", "sources"):
        assert after[figure] == before[figure]
    assert made.messages() == messages


def test_a_second_run_at_the_same_time_is_refused_and_names_the_first(made):
    with Database(made.data):
        said = watchkeeper("run", made.file)
    assert said.code == 4
    assert f"process {os.getpid()} is running on this folder" in said.err
    assert said.out == ""


def test_a_source_that_was_given_up_is_named_at_the_end(tmp_path):
    made = plants.plant(tmp_path / "plant", assets=2, split=Split.ASSET)
    plants.write(made.folder / "rig_m0.csv", {"m0.flow": plants.values(0)[:, 0]})
    said = watchkeeper("run", made.file, "--json")
    assert said.code == 2
    assert "given up: source rig_m0" in said.err
    assert "no column 'm0.heat'" in said.err
    assert list(said.json["refused"]) == ["rig_m0"]
    assert said.json["frames"] == TICKS


def german(made):
    """The same recording with decimal commas; and the settings that it wants."""
    path = made.folder / "rig.csv"
    path.write_text(path.read_text().replace(",", ";").replace(".", ",").replace("m0,", "m0."))
    made.settings["sources"]["rig"]["delimiter"] = ";"
    made.save()
    return {"decimal": ","}


def test_a_decimal_mark_that_is_not_set_is_said_and_mended_the_same_run_reads_all(made, tmp_path):
    expected = plants.run(plants.plant(tmp_path / "calm", assets=1)).digest
    mending = german(made)
    said = watchkeeper("run", made.file)
    assert said.code == 2
    assert "given up: source rig: rig: " in said.err
    assert "rig.csv: line 2, column 'm0.flow': '" in said.err
    assert "set `decimal: ','` for this source" in said.err
    made.settings["sources"]["rig"] |= mending
    assert watchkeeper("run", made.save().file).code == 0
    assert plants.outcome(made.data).digest == expected


def test_where_all_of_a_source_was_rejected_the_run_fails_and_says_how_to_read_it_again(
    made, tmp_path
):
    expected = plants.run(plants.plant(tmp_path / "calm", assets=1)).digest
    made.settings["sources"]["rig"]["time_format"] = "epoch_ms"  # and all of it is in 1970
    for _ in range(2):
        said = watchkeeper("run", made.save().file)
        assert said.code == 2
        assert "source rig: all 900 samples were rejected: 900 ancient (stamped" in said.err
        assert f"`watchkeeper run {made.file} --read-again SOURCE`" in said.err
    assert "source   rig: ended, no sample yet" in said.out
    made.settings["sources"]["rig"]["time_format"] = "epoch_s"
    assert watchkeeper("run", made.save().file, "--json").json["frames"] == 0, "it was read"
    said = watchkeeper("run", made.file, "--read-again", "rig")
    assert said.code == 0
    assert plants.outcome(made.data).digest == expected
    assert "warning  source rig: 900 of 1,800 samples (50.0 %) were rejected" in said.out


def test_what_is_read_again_counts_as_late_or_duplicate_and_changes_nothing(made):
    watchkeeper("run", made.file)
    before = plants.outcome(made.data)
    said = watchkeeper("run", made.file, "--read-again", "rig", "--json")
    after = plants.outcome(made.data)
    assert (after.digest, after.events) == (before.digest, before.events)
    found = said.json
    assert found["samples_received"] == 2 * found["samples_stored"]
    assert found["samples_conserved"]


def test_a_source_that_is_not_there_cannot_be_read_again(made):
    said = watchkeeper("run", made.file, "--read-again", "rigg")
    assert said.code == 2
    assert "no source 'rigg'; there are: rig." in said.err
    assert not made.data.exists()


def test_a_model_that_was_not_trained_yet_is_said(made):
    shutil.rmtree(made.folder / "model")
    said = watchkeeper("run", made.file)
    assert said.code == 3
    assert "`watchkeeper train` makes it" in said.err


@pytest.mark.parametrize("file", ["weights.safetensors", "card.json"])
def test_a_model_that_is_damaged_is_refused(file, made):
    path = made.folder / "model" / file
    path.write_bytes(path.read_bytes()[:-20])
    said = watchkeeper("run", made.file)
    assert said.code == 4
    assert "kind pump: " in said.err
    assert file in said.err
    assert "Traceback" not in said.err


def test_a_model_that_does_not_fit_is_refused(made):
    made.settings["kinds"]["pump"]["tick_ms"] = 500
    said = watchkeeper("run", made.save().file)
    assert said.code == 4
    assert "want tick_ms 1000, got 500" in said.err


def test_data_that_is_no_database_is_kept_aside_and_the_run_goes_on(made, caplog):
    made.data.mkdir()
    (made.data / "state.db").write_bytes(b"something else" * 100)
    said = watchkeeper("status", made.file)
    assert said.code == 4
    assert "this is not a database" in said.err
    said = watchkeeper("run", made.file)
    assert said.code == 0
    assert "It is kept in " in caplog.text
    assert "Nothing of it reads" in caplog.text
    assert [path.read_bytes() for path in made.data.glob("damaged-*/state.db")] == [
        b"something else" * 100
    ]


def test_a_damaged_database_is_salvaged_and_what_is_lost_is_shown(made):
    watchkeeper("run", made.file)
    with Database(made.data) as database, database.atomic() as tx:
        tx.execute("DELETE FROM progress")
        tx.execute("DELETE FROM snapshot")
        tx.execute("DELETE FROM score_block")
        tx.execute("UPDATE journal SET body = x'00' WHERE kind = 'samples' AND number < 4")
    said = watchkeeper("run", made.file)
    assert said.code == 0
    assert "journal records" in said.out
    assert "damaged  " in said.out


def test_a_source_is_read_again_once_though_the_database_is_salvaged_meanwhile(made, monkeypatch):
    watchkeeper("run", made.file)
    once, runs = run._run, []

    async def damaged_later(*given):
        ended = await once(*given)
        runs.append(ended)
        if len(runs) == 1:
            raise DamagedError("damaged as it was read")
        return ended

    monkeypatch.setattr(run, "_run", damaged_later)
    found = watchkeeper("run", made.file, "--read-again", "rig", "--json").json
    assert len(runs) == 2
    assert found["samples_received"] == 2 * found["samples_stored"]


def test_a_state_of_a_newer_version_is_refused_with_what_to_do_and_left_as_it_is(made):
    watchkeeper("run", made.file)
    with Database(made.data) as database:
        newer = Snapshots(database, upgrades=[dict])
        save(database, newer, newer.latest().tree, record=Store(database).done())
    kept = sorted((path, path.read_bytes()) for path in made.data.rglob("*.snapshot"))
    said = watchkeeper("run", made.file)
    assert said.code == 4
    assert "of version 2, this program reads up to 1. Install the newer version again" in said.err
    assert sorted((path, path.read_bytes()) for path in made.data.rglob("*.snapshot")) == kept
    with Database(made.data) as database:
        database._connection.execute("INSERT INTO migration (name) VALUES ('0999_tomorrow')")
    said = watchkeeper("run", made.file)
    assert said.code == 4
    assert "newer version: it has 0999_tomorrow" in said.err
    assert list(made.data.glob("damaged-*")) == []


def test_a_folder_that_is_a_file_is_said(made):
    made.data.write_text("in the way")
    said = watchkeeper("run", made.file)
    assert said.code == 3
    assert str(made.data) in said.err
    assert "Traceback" not in said.err


def frames(made):
    """How many frames a process has stored so far."""
    try:
        with DatabaseReader(made.data) as database:
            return summary(database)["frames"]
    except StateError:
        return 0  # there is no database yet, or it is being made


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_run_gracefully_and_the_next_one_goes_on(number, tmp_path):
    calm = plants.plant(tmp_path / "calm", assets=2, model="gru", batch_rows=10)
    expected = plants.run(calm)
    made = plants.plant(tmp_path / "plant", assets=2, model="gru", batch_rows=10, speed=30.0)

    with process("run", made.file, "--json") as running:
        wait_for(lambda: running.poll() is not None or frames(made) > 20)
        during = watchkeeper("status", made.file, "--json").json
        running.send_signal(number)
        out, err = running.communicate(timeout=20)
    assert running.returncode == 0, err
    assert 20 < during["frames"] < 2 * TICKS
    assert during["samples_conserved"]
    stopped = plants.outcome(made.data)
    assert 20 < stopped.summary["frames"] < 2 * TICKS
    assert f'"frames": {stopped.summary["frames"]}' in out
    assert "Traceback" not in err

    made.settings["sources"]["rig"].pop("speed")
    made.save()
    assert watchkeeper("run", made.file).code == 0
    found = plants.outcome(made.data)
    assert (found.digest, found.events) == (expected.digest, expected.events)
    assert made.messages() == calm.messages()
    assert found.summary["samples_received"] == 2 * TICKS * len(CHANNELS)


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_a_stop_under_load_finishes_what_was_accepted_and_tells_the_sinks(tmp_path):
    made = plants.plant(tmp_path / "plant", assets=2, model="gru", batch_rows=10, speed=60.0)
    made.settings["web"] = {"port": free_port()}
    made.save()
    url = f"http://127.0.0.1:{made.settings['web']['port']}"
    with process("run", made.file) as running:
        wait_for(lambda: running.poll() is not None or frames(made) > 250)  # alarms were raised
        assert httpx.get(f"{url}/readyz", trust_env=False).json() == {"ready": True, "reasons": []}
        running.send_signal(signal.SIGTERM)
        _, err = running.communicate(timeout=20)
    assert running.returncode == 0, err
    assert "Stopping: what was taken in is finished first." in err
    assert "Traceback" not in err
    with DatabaseReader(made.data) as database:
        assert Store(database).done() == Journal(database).last()
        raised = Store(database).alarm_events()
        assert Outbox(database).backlog("inbox").items == 0
    assert raised
    assert len(made.messages()) == len(raised)
    assert 250 < plants.outcome(made.data).summary["frames"] < 2 * TICKS
    assert not (made.data / "control.sock").exists()


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_quits_at_once_and_loses_nothing(number, tmp_path):
    made = plants.never_ending(plants.plant(tmp_path / "plant", assets=1, model=None))
    made.inbox.rmdir()
    made.inbox.write_text("a file stands in the way", encoding="utf-8")
    with process(
        "run",
        made.file,
        before="from monitor.live import service as room\nroom.FAREWELL_S = 3600.0",
    ) as running:
        wait_for(lambda: running.poll() is not None or frames(made) == TICKS)
        running.send_signal(number)
        for line in running.stderr:
            if "Again quits" in line:
                break
        running.send_signal(number)
        running.communicate(timeout=20)
    assert running.returncode == -number
    made.inbox.unlink()
    made.inbox.mkdir()
    for part in ("sources", "assets"):
        made.settings[part].pop({"sources": "other", "assets": "m9"}[part])
    assert watchkeeper("run", made.save().file).code == 0
    assert len(made.messages()) == 4
    assert plants.outcome(made.data).summary["samples_received"] == TICKS * len(CHANNELS)


def test_a_source_of_history_alone_is_checked_with_a_warning_and_not_run(made):
    made.settings["sources"]["rig"] = {
        "type": "influxdb",
        "url": "http://127.0.0.1:9",
        "database": "telegraf",
    }
    tags = made.settings["assets"]["m0"]["tags"]
    for channel in CHANNELS:
        tags[channel]["address"] = f"rig.{channel}"
    made.save()
    checked = watchkeeper("check", made.file)
    assert checked.code == 0
    assert "sources.rig: type 'influxdb' holds history only" in checked.out
    said = watchkeeper("run", made.file)
    assert said.code == 4
    assert "source rig: type 'influxdb' holds history only; `train` and `backfill`" in said.err


def test_a_source_without_history_is_not_scored_backwards(made):
    made.settings["sources"]["rig"] = {"type": "mqtt", "host": "127.0.0.1", "client_id": "in"}
    said = watchkeeper("backfill", made.save().file)
    assert said.code == 4
    assert "source rig: type 'mqtt' keeps no history" in said.err

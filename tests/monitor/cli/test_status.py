"""`watchkeeper status`: reads what is stored, while the service runs or after it."""

import asyncio
import os
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from support import plants
from support.commands import watchkeeper
from support.plants import CHANNELS, TICKS, Split, until

from monitor.cli.figures import _connection
from monitor.core.missing import GapKind, SourceGap
from monitor.core.records import Results
from monitor.state.database import Database
from monitor.state.losses import Loss, Losses
from monitor.state.store import Store


@pytest.fixture(scope="module")
def lived(tmp_path_factory):
    """A plant that ran."""
    made = plants.plant(tmp_path_factory.mktemp("lived") / "plant", assets=1)
    plants.run(made)
    return made


def test_the_figures_are_those_of_the_run(lived):
    said = watchkeeper("status", lived.file)
    assert said.code == 0
    lines = said.out.splitlines()
    count = TICKS * len(CHANNELS)
    assert lines[0].startswith("service  not running; these are the figures it stored last, of 2")
    assert lines[1] == (
        f"samples  {count:,} received = {count:,} stored + 0 duplicate + 0 late + 0 rejected"
    )
    assert any(line.startswith("alarms   m0: 4") for line in lines)
    assert any(line.startswith("latency  ") for line in lines)
    source = next(line for line in lines if line.startswith("source   rig: "))
    assert source.startswith("source   rig: ended, last sample 2023-11-14 23:18:19.000+01:00 (")
    assert source.endswith(" days ago)")
    asset = next(line for line in lines if line.startswith("asset    m0: "))
    assert re.match(
        r"asset    m0: scored, surprise \d\.\d \(alarm at \d+\.\d, provisional\); 20", asset
    )
    assert "ACTIVE" not in said.out


def test_what_stands_now_is_told_with_its_reason(tmp_path):
    made = plants.plant(tmp_path / "plant", assets=1)
    plants.write(made.folder / "rig.csv", plants.columns(made.assets, 145))  # ends within a fault
    plants.run(made)
    said = watchkeeper("status", made.file)
    standing = [line for line in said.out.splitlines() if line.startswith("ACTIVE   m0, since 20")]
    assert len(standing) == 2
    assert any("flow" in line for line in standing)


def test_losses_are_said_and_nothing_is_said_where_there_are_none(lived, tmp_path):
    assert "no longer kept" not in watchkeeper("status", lived.file).out
    shutil.copytree(lived.folder, tmp_path / "plant")
    made = plants.Plant(tmp_path / "plant", lived.settings)
    with Database(made.data) as database, database.atomic() as tx:
        Losses(database).add(tx, Loss.LATE_SAMPLES, 1200)
        tx.execute("UPDATE sink SET dropped = 7")
    lines = watchkeeper("status", made.file).out.splitlines()
    assert "no longer kept  1,200 late samples" in lines
    assert "sink     inbox: 0 waiting, 7 dropped: the outbox was full" in lines


def test_what_is_missing_of_a_source_is_said_where_it_said_so(lived, tmp_path):
    assert "gaps" not in watchkeeper("status", lived.file).out
    shutil.copytree(lived.folder, tmp_path / "plant")
    made = plants.Plant(tmp_path / "plant", lived.settings)
    at = plants.START * plants.SECOND
    gap = SourceGap(
        source="rig",
        kind=GapKind.GAP,
        since=at,
        until=at + 90 * plants.SECOND,
        reason="cable out",
        received=at,
    )
    back = replace(gap, kind=GapKind.FILLED, until=at + 30 * plants.SECOND)
    with Database(made.data) as database:
        store, status = Store(database), Store(database).status()
        marks = {"restamped": 3, "forced": 1200}
        changed = {
            "unit_changed": {"rig": {"0": "bar to psi"}},
            "marks": {"rig": marks},
            "outrun": {"rig": 2},
            "forced": {"m0": ["flow", "heat"]},
            "repeats_forgotten": 1700,
        }
        with database.atomic() as tx:
            store.write(tx, Results(source_gaps=(gap, back)), done=store.done() + 1)
            store.write_status(tx, status | changed)
    lines = watchkeeper("status", made.file).out.splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith("source   rig: "))
    assert lines[at + 1].startswith(
        "         60 s missing in 1 gaps, 0 of them filled; the last one (gap) until 2023-11-14 23:"
    )
    assert lines[at + 1].endswith(" ago): cable out")
    assert lines[at + 2] == (
        "         of the samples 3 with a time that could not be true, stamped anew, "
        "1,200 set by hand"
    )
    assert lines[at + 3] == (
        "         2 times not waited for: too many samples waited; what it sent of then is late"
    )
    assert lines[at + 4] == "         unit changed: m0/flow: bar to psi"
    assert "         set by hand: flow, heat" in lines
    assert "repeats  1,700 forgotten early: they would count as late" in lines


def test_for_scripts_it_is_json_with_a_digest_where_asked_for(lived):
    found = watchkeeper("status", lived.file, "--json").json
    assert "digest" not in found
    with_digest = watchkeeper("status", lived.file, "--json", "--digest").json
    assert with_digest == found | {"digest": plants.outcome(lived.data).digest}
    assert f"digest   {with_digest['digest']}" in watchkeeper("status", lived.file, "--digest").out


def test_it_reads_beside_a_service_that_does_not_answer(lived):
    with Database(lived.data):
        assert watchkeeper("status", lived.file).code == 0


async def test_a_running_service_says_how_its_sources_and_sinks_stand(tmp_path):
    made = plants.never_ending(plants.plant(tmp_path / "plant", assets=1, model=None))
    made.inbox.rmdir()
    made.inbox.write_text("a file stands in the way", encoding="utf-8")
    async with plants.serving(made) as running:
        await until(lambda: running.status["backlog"].get("inbox") == 4)
        await until(lambda: running.status["sources"]["rig"]["state"] == "ended")
        await until(lambda: running.service.supervisors["other"].state == "waiting")
        found = (await asyncio.to_thread(watchkeeper, "status", made.file, "--json")).json
        said = await asyncio.to_thread(watchkeeper, "status", made.file)
    live = found["running"]
    assert live["pid"] == os.getpid()
    assert live["sources"]["rig"]["state"] == "ended"
    assert live["sources"]["other"]["state"] == "waiting"
    assert "no file matches" in live["sources"]["other"]["reason"]
    assert live["sinks"]["inbox"]["items"] == 4
    assert live["sinks"]["inbox"]["reason"]
    assert live["sources"]["rig"]["counts"].items() <= found["sources"]["rig"].items()
    assert f"service  running, process {os.getpid()}, since 20" in said.out
    assert "source   rig: ended, last sample " in said.out
    assert "source   other: waiting, no sample yet: other: no file matches" in said.out
    assert "sink     inbox: 4 waiting; held up: " in said.out


def test_a_service_of_an_earlier_version_that_tells_nothing_of_pictures_is_shown(
    lived, monkeypatch
):
    told = {
        "pid": 7,
        "started": plants.START * plants.SECOND,
        "reload": {"at": plants.START * plants.SECOND, "error": ""},
        "not_ready": [],
        "sources": {},
        "sinks": {},
    }
    monkeypatch.setattr("monitor.cli.stored.running", lambda _config: told)
    said = watchkeeper("status", lived.file)
    assert said.code == 0
    assert said.out.startswith("service  running, process 7, since 20")


async def test_what_is_judged_by_limits_alone_says_so_and_what_a_source_was_when_none_runs(
    tmp_path,
):
    made = plants.never_ending(plants.plant(tmp_path / "plant", assets=1, model=None))
    async with plants.serving(made) as running:
        await until(lambda: running.status["samples_received"] > 0)
        await until(lambda: running.status["sources"]["rig"]["state"] == "ended")
        await until(lambda: running.service.supervisors["other"].state == "waiting")
        now = await asyncio.to_thread(watchkeeper, "status", made.file)
    then = watchkeeper("status", made.file)
    assert "source   other: waiting, " in now.out
    assert "source   other: was waiting, " in then.out
    for said in (now, then):
        assert "source   rig: ended, " in said.out
        assert "asset    m0: limits only, no model; " in said.out


def test_the_running_service_knows_better_than_what_was_stored():
    stored = {"state": "lost", "reason": "no answer"}
    assert _connection(stored, None) == ("lost", "no answer")
    for state, reason in (("running", ""), ("silent", ""), ("waiting", "no answer")):
        assert _connection(stored, {"state": state, "reason": reason}) == (state, reason)


async def test_a_tag_of_which_nothing_came_is_named_while_its_source_runs(tmp_path):
    made = plants.plant(tmp_path / "plant", assets=1, model=None)
    shown = plants.columns(made.assets)
    shown["m0.flow"][:] = np.nan
    plants.write(made.folder / "rig.csv", shown)
    made.settings["sources"]["rig"]["speed"] = 20.0
    made.save()
    async with plants.serving(made) as running:
        await until(lambda: running.status["samples_received"] > 0)
        said = await asyncio.to_thread(watchkeeper, "status", made.file)
    assert "         no usable value since the start: m0/flow\n" in said.out


def test_a_backfill_has_no_service(lived):
    plants.backfill(lived)
    assert "service" not in watchkeeper("status", lived.file, "--backfill").out
    assert "running" not in watchkeeper("status", lived.file, "--backfill", "--json").json


def test_a_plant_that_never_ran_says_what_to_do(tmp_path):
    made = plants.plant(tmp_path / "plant", assets=1)
    for options, how in (((), "watchkeeper run"), (("--backfill",), "watchkeeper backfill")):
        said = watchkeeper("status", made.file, *options)
        assert said.code == 3
        assert f"nothing is stored there yet; `{how}` makes it" in said.err
    assert not made.data.exists(), "looking makes nothing"


def test_before_a_run_status_says_where_the_backfill_is(tmp_path):
    made = plants.plant(tmp_path / "plant", assets=1)
    plants.backfill(made)
    said = watchkeeper("status", made.file)
    assert said.code == 3
    assert "What the last backfill found is shown with --backfill." in said.err


def test_a_source_that_was_given_up_is_told_with_its_reason_until_it_is_mended(tmp_path):
    made = plants.plant(tmp_path / "plant", assets=2, split=Split.ASSET)
    file = made.folder / "rig_m0.csv"
    whole = file.read_text()
    plants.write(file, {"m0.flow": plants.values(0)[:, 0]})
    plants.run(made)
    said = watchkeeper("status", made.file)
    (line,) = [line for line in said.out.splitlines() if line.startswith("source   rig_m0: ")]
    assert line.startswith("source   rig_m0: given up, no sample yet: rig_m0: ")
    assert "no column 'm0.heat'" in line
    found = watchkeeper("status", made.file, "--json").json["sources"]
    assert found["rig_m0"]["state"] == "refused"
    assert found["rig_m1"]["reason"] == ""

    file.write_text(whole)
    plants.run(made)
    assert "source   rig_m0: ended, last sample" in watchkeeper("status", made.file).out

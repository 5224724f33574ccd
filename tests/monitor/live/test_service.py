"""The service in a world that is not ready, refuses, is full, falls silent, or changes."""

import asyncio
import json
import logging
import shutil
import time
from concurrent.futures import Future
from functools import partial

import numpy as np
import pytest
from support import plants
from support.plants import CHANNELS, FAULTS, SECOND, START, TICKS, HeldClock, Split, until
from support.sources import World, assignment, hang, sample

from connectors.points import Message
from monitor.core.pipeline import Pipeline
from monitor.core.records import Gap, Results, Scores, ScoreState
from monitor.live import service as service_room
from monitor.live import stepper as stepper_room
from monitor.live.intake import Behind
from monitor.live.stepper import Stepper
from monitor.state.database import Database, DatabaseReader
from monitor.state.errors import CorruptError, LockedError, StorageFullError
from monitor.state.journal import Journal
from monitor.state.names import Family, Names
from monitor.state.outbox import Outbox
from monitor.state.rollups import Rollups, Width
from monitor.state.snapshot import Snapshots
from monitor.state.store import Store

HALF = 140  # rows: in the middle of the first fault


def said(caplog, words):
    """How often the log says it."""
    return sum(words in record.getMessage() for record in caplog.records)


def scores_of(folder, asset):
    with DatabaseReader(folder) as database:
        number = {name: n for n, name in Names(database).of(Family.ASSET).items()}[asset]
        return Scores.join(list(Store(database).scores(asset=number)))


def alarms_of(folder, asset):
    with DatabaseReader(folder) as database:
        return Store(database).alarms(asset=asset)


def same_scores(one, other):
    return all(
        getattr(one, name).tobytes() == getattr(other, name).tobytes()
        for name in ("tick", "raw", "surprise", "blame", "state")
    )


async def test_a_recording_that_is_not_there_yet_is_waited_for(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    made = plants.plant(tmp_path / "plant", assets=1)
    elsewhere = (made.folder / "rig.csv").rename(made.folder / "rig.later")
    async with plants.serving(made) as running:
        await until(lambda: said(caplog, "no file matches"))
        await asyncio.sleep(1.0)  # several attempts
        elsewhere.rename(made.folder / "rig.csv")
        ended = await running.task
    assert ended.refused == {}
    assert said(caplog, "no file matches") == 1
    assert plants.outcome(made.data).summary["frames"] == TICKS


def test_a_source_that_refuses_stops_no_other(tmp_path, caplog):
    made = plants.plant(tmp_path / "plant", assets=3, split=Split.ASSET)
    plants.write(made.folder / "rig_m1.csv", {"m1.flow": plants.values(1)[:, 0]})
    found = plants.run(made)
    assert list(found.ended.refused) == ["rig_m1"]
    assert "no column 'm1.heat'" in found.ended.refused["rig_m1"]
    assert found.summary["samples_received"] == 2 * TICKS * len(CHANNELS)
    assert found.summary["frames"] == 2 * TICKS
    assert said(caplog, "rig_m1 is given up") == 1


async def test_sources_that_hang_or_are_broken_disturb_no_other(tmp_path, caplog):
    made = plants.plant(tmp_path / "plant", assets=3, model=None, split=Split.ASSET)

    def broken(**_):
        raise TypeError("oops")

    async with plants.serving(made) as running:
        supervisors = running.service.supervisors
        supervisors["rig_m0"].source.open = lambda **_: hang()
        supervisors["rig_m1"].source.open = broken
        await until(lambda: running.status["frames"] == TICKS)
        await until(lambda: supervisors["rig_m1"].restarts)
        assert supervisors["rig_m0"].state == "opening"
    assert said(caplog, "TypeError: oops. This is a bug of the connector") == 1


async def test_a_source_may_come_and_go_while_the_service_runs(tmp_path):
    made = plants.plant(tmp_path / "plant", assets=2, model=None, split=Split.ASSET)
    (made.folder / "rig_m1.csv").unlink()
    async with plants.serving(made) as running:
        service = running.service
        await until(lambda: service.supervisors["rig_m0"].state == "ended")
        world = World([sample(1), hang])
        service.watch(service.supervisor(assignment(world.make)))
        await until(lambda: world.accepted)
        assert (await service.standing()).sources["m"].connected
        await service.unwatch("m")
        assert not world.open
        assert not running.task.done()
        await service.unwatch("rig_m1")  # of those that are left, all have ended
        await running.task


async def test_a_journal_that_fails_ends_the_service_and_is_no_fault_of_a_source(
    tmp_path, monkeypatch
):
    made = plants.plant(tmp_path / "plant", assets=1, model=None)
    append = Journal.append

    def appended(journal, tx, row):
        if row.kind == "samples":
            raise CorruptError("state.db: the database is damaged")
        return append(journal, tx, row)

    monkeypatch.setattr(Journal, "append", appended)
    with pytest.raises(CorruptError):
        await asyncio.to_thread(plants.run, made)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
async def test_a_service_that_is_stopped_goes_on_where_it_was(seed, tmp_path):
    calm = plants.plant(tmp_path / "calm", assets=2, model="gru", batch_rows=5)
    made = plants.plant(tmp_path / "plant", assets=2, model="gru", batch_rows=5)
    expected = await asyncio.to_thread(plants.run, calm)
    chance = np.random.default_rng(seed)
    ended = None
    while ended is None:
        async with plants.serving(made) as running:
            done = Journal(running.database).last() + int(chance.integers(1, 40))
            await until(lambda r=running, d=done: r.task.done() or r.service.stepper.at >= d)
            if running.task.done():
                ended = running.task.result()
            else:
                await running.stop()
                status = running.status
                last = Journal(running.database).last()
                assert running.store.done() == last, "what was taken in is finished first"
                assert status["samples_conserved"]
    found = plants.outcome(made.data)
    assert (found.digest, found.events) == (expected.digest, expected.events)
    assert made.messages() == calm.messages()
    assert found.summary["samples_received"] == 2 * TICKS * len(CHANNELS)


async def test_a_second_service_on_the_same_data_is_refused(tmp_path):
    made = plants.plant(tmp_path / "plant", assets=1)
    async with plants.serving(made):
        with pytest.raises(LockedError, match=r"process \d+ is running on this folder"):
            Database(made.data)


class Full:
    """A disk that takes nothing for a while."""

    def __init__(self, monkeypatch):
        self.full = False
        self.refused = 0
        append, write = Journal.append, Store.write

        def appended(journal, tx, record):
            self._maybe()
            return append(journal, tx, record)

        def written(store, tx, results, *, done):
            self._maybe()
            return write(store, tx, results, done=done)

        monkeypatch.setattr(Journal, "append", appended)
        monkeypatch.setattr(Store, "write", written)

    def _maybe(self):
        if self.full:
            self.refused += 1
            raise StorageFullError("state.db: the disk is full.")


@pytest.mark.slow
async def test_a_full_disk_stops_the_intake_and_nothing_that_was_accepted_is_lost(
    tmp_path, caplog, monkeypatch
):
    caplog.set_level(logging.INFO)
    calm = plants.plant(tmp_path / "calm", assets=2, model="gru", batch_rows=5)
    expected = await asyncio.to_thread(plants.run, calm)
    made = plants.plant(tmp_path / "plant", assets=2, model="gru", batch_rows=5)
    monkeypatch.setattr(service_room, "BEAT_S", 0.1)
    disk = Full(monkeypatch)
    async with plants.serving(made) as running:
        await until(lambda: running.service.stepper.at > 20)
        disk.full = True
        await until(
            lambda: said(caplog, "rig waits, and is tried again: state.db: the disk is full.")
        )
        await until(lambda: said(caplog, "Time stands still: state.db: the disk is full."))
        at, refused = Journal(running.database).last(), disk.refused
        await until(lambda: disk.refused > refused + 20)
        assert Journal(running.database).last() == at
        disk.full = False
        ended = await running.task
    assert ended.refused == {}
    found = plants.outcome(made.data)
    assert (found.digest, found.events) == (expected.digest, expected.events)
    assert made.messages() == calm.messages()
    assert found.summary["samples_received"] == 2 * TICKS * len(CHANNELS)
    assert said(caplog, "rig waits") == 1
    assert said(caplog, "Time stands still") == 1
    assert said(caplog, "Results wait for room") <= 1


async def test_nothing_overtakes_a_batch_that_found_the_disk_full(tmp_path, monkeypatch):
    """One batch fails while those behind it could be stored: they must not be."""
    made = plants.plant(tmp_path / "plant", assets=1, batch_rows=5)
    append, failed = Journal.append, []

    def appended(journal, tx, row):
        if row.kind == "samples" and '"rig.csv":[100' in row.position and len(failed) < 2:
            failed.append(row.position)  # in its group, and then alone
            raise StorageFullError("state.db: the disk is full.")
        return append(journal, tx, row)

    monkeypatch.setattr(Journal, "append", appended)
    found = await asyncio.to_thread(plants.run, made)
    assert len(failed) == 2
    assert found.summary["samples_received"] == TICKS * len(CHANNELS)
    assert found.summary["samples_late"] == 0
    with DatabaseReader(made.data) as database:
        taken = [r.body for _, r in Journal(database).read(0) if hasattr(r.body, "tag")]
    times = np.concatenate([samples.time for samples in taken])
    assert np.all(np.diff(times) >= 0)


async def test_snapshots_that_find_no_room_are_said_once_and_when_they_are_saved_again(
    tmp_path, caplog, monkeypatch
):
    caplog.set_level(logging.INFO)
    made = plants.plant(tmp_path / "plant", assets=1, model=None, batch_rows=5, speed=100.0)
    write, failed = Snapshots.write, []

    def written(snapshots, tree, **given):
        if 1 <= len(failed) <= 5:
            failed.append(given["record"])
            raise StorageFullError("snapshots: the disk is full.")
        return write(snapshots, tree, **given)

    monkeypatch.setattr(Snapshots, "write", written)
    async with plants.serving(made, snapshot_s=0.02) as running:
        await until(lambda: Snapshots(running.database).latest())
        assert said(caplog, "napshot") == 0
        failed.append(0)  # from now on
        await until(lambda: len(failed) > 5)
        await until(lambda: said(caplog, "Snapshots are saved again."))
        await running.task
    assert said(caplog, "No snapshot is saved: snapshots: the disk is full.") == 1
    assert said(caplog, "Snapshots are saved again.") == 1


async def test_a_stop_in_the_middle_of_a_full_disk_loses_nothing(tmp_path, monkeypatch, caplog):
    made = plants.plant(tmp_path / "plant", assets=1, batch_rows=5)
    with monkeypatch.context() as patch:
        disk = Full(patch)
        async with plants.serving(made) as running:
            await until(lambda: running.service.stepper.at > 10)
            disk.full = True
            await until(lambda: said(caplog, "Results wait for room"))
            with pytest.raises(StorageFullError):  # the step could not store what it had
                await running.stop()
    assert said(caplog, "The step failed") == 0  # no bug, and the reason was said
    found = await asyncio.to_thread(plants.run, made)
    assert found.summary["samples_received"] == TICKS * len(CHANNELS)
    assert found.summary["frames"] == TICKS
    assert found.digest == plants.backfill(made).digest


def test_an_asset_that_is_added_leaves_the_others_as_they_were(tmp_path):
    whole = plants.plant(tmp_path / "whole", assets=3, model="gru", split=Split.ASSET)
    whole.settings["assets"].pop("m0")
    recordings = {name: plants.columns([name]) for name in ("m1", "m2")}
    for name, columns in recordings.items():
        plants.write(whole.folder / f"rig_{name}.csv", columns)
    expected = plants.run(whole.save())

    made = plants.plant(tmp_path / "plant", assets=3, model="gru", split=Split.ASSET)
    for name, columns in recordings.items():
        half = {column: values[:HALF] for column, values in columns.items()}
        plants.write(made.folder / f"rig_{name}.csv", half)
    added = made.settings["assets"].pop("m0")
    before = plants.run(made.save())
    assert before.summary["alarms_active"] == 4  # surprise and limit, of both
    for name, columns in recordings.items():
        plants.write(made.folder / f"rig_{name}.csv", columns)
    made.settings["assets"] = {"m0": added, **made.settings["assets"]}  # first in the table
    after = plants.run(made.save())

    assert {event for event in after.events if event in expected.events} == set(expected.events)
    added_later = {alarm for alarm, _, _ in after.events} - {
        alarm for alarm, _, _ in expected.events
    }
    assert added_later == {alarm.id for alarm in alarms_of(made.data, "m0")}
    raised = [alarm for alarm, transition, _ in after.events if transition == "raised"]
    assert len(raised) == len(set(raised))
    for name in ("m1", "m2"):
        assert same_scores(scores_of(made.data, name), scores_of(whole.data, name))
    assert scores_of(made.data, "m0").state[:10].tolist() == [ScoreState.WARMING] * 10


# ---- alarms of what is no longer configured -----------------------------------------------------


def half(folder):
    """A plant whose recording stops within the first fault: surprise and limit stand."""
    made = plants.plant(folder, assets=1)
    columns = plants.columns(["m0"])
    plants.write(made.folder / "rig.csv", {name: of[:HALF] for name, of in columns.items()})
    return made


def ended(made):
    """The messages of alarms that are no longer configured: the point of each."""
    bodies = [json.loads(path.read_text())["body"] for path in made.inbox.glob("*.json")]
    return [body["point"] for body in bodies if body["reason"] == "no longer configured"]


def standing(made):
    return sorted(alarm.point for alarm in alarms_of(made.data, "m0") if alarm.active)


def forget_to_save(patch):
    """No snapshot is written, as if each run crashed."""
    patch.setattr(Stepper, "_save", lambda _: None)


@pytest.mark.parametrize(
    ("removed", "points"),
    [
        ("limits", ["flow high"]),
        ("model", ["surprise"]),
        ("channel", ["flow high"]),
        ("asset", ["flow high", "surprise"]),
        ("kind", ["flow high", "surprise"]),
    ],
)
def test_an_alarm_of_what_was_removed_ends_with_the_next_start_and_is_said_once(
    removed, points, tmp_path
):
    made = half(tmp_path / "plant")
    plants.run(made)
    assert standing(made) == ["flow high", "surprise"]
    kind = made.settings["kinds"]["pump"]
    match removed:
        case "limits":
            del kind["channels"]["flow"]["limits"]
        case "model":
            del kind["model"]
        case "channel":
            kind["channels"]["stream"] = {"tag": "flow", "unit": "bar", "model": False}
            kind["channels"]["flow"] = {"tag": "load", "unit": "bar"}
        case "asset":
            made.settings["assets"] = {"m1": made.settings["assets"]["m0"]}
        case "kind":
            other = {"channels": {"load": {"unit": "bar"}}}
            made.settings["kinds"] = {"fan": other}
            asset = made.settings["assets"].pop("m0")
            tags = {"load": asset["tags"]["load"]}
            made.settings["assets"]["m1"] = {"kind": "fan", "source": "rig", "tags": tags}
    made.save()
    for _ in range(3):
        plants.run(made)
        assert sorted(ended(made)) == points
        assert standing(made) == sorted({"flow high", "surprise"} - set(points))


@pytest.mark.parametrize("saved", [True, False], ids=["snapshot", "no snapshot"])
def test_a_crash_before_the_end_of_an_alarm_is_stored_says_it_with_the_next_start(
    saved, tmp_path, monkeypatch
):
    made = half(tmp_path / "plant")
    with monkeypatch.context() as patch:
        if not saved:  # what was raised after the last snapshot is known to the store alone
            forget_to_save(patch)
        plants.run(made)
    del made.settings["kinds"]["pump"]["channels"]["flow"]["limits"]
    made.save()

    def crash(*_, **__):
        raise RuntimeError("the power is gone")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", crash)
        with pytest.raises(RuntimeError, match="the power is gone"):
            plants.run(made)
    assert standing(made) == ["flow high", "surprise"]
    for _ in range(2):
        plants.run(made)
        assert ended(made) == ["flow high"]


def test_a_crash_after_the_end_of_an_alarm_is_stored_does_not_say_it_again(tmp_path, monkeypatch):
    made = half(tmp_path / "plant")
    plants.run(made)
    del made.settings["kinds"]["pump"]["channels"]["flow"]["limits"]
    made.save()
    with monkeypatch.context() as patch:
        forget_to_save(patch)
        plants.run(made)
        made.settings["kinds"]["pump"]["channels"]["heat"]["limits"] = {"high": 1e6}
        plants.run(made.save())
    plants.run(made)
    assert ended(made) == ["flow high"]
    assert standing(made) == ["surprise"]


def test_a_model_that_was_replaced_starts_anew_and_is_said(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    made = plants.plant(tmp_path / "plant", assets=1, model="gru")
    columns = plants.columns(["m0"])
    plants.write(made.folder / "rig.csv", {name: of[:HALF] for name, of in columns.items()})
    plants.run(made)
    shutil.rmtree(made.folder / "model")
    shutil.copytree(plants.trained("lstm"), made.folder / "model")
    plants.write(made.folder / "rig.csv", columns)
    after = plants.run(made)
    state = scores_of(made.data, "m0").state
    assert state[HALF - 1] == ScoreState.OK
    assert state[HALF : HALF + 10].tolist() == [ScoreState.WARMING] * 10
    assert state[HALF + 10] == ScoreState.OK
    assert said(caplog, "Kind pump has another model") == 1
    assert after.summary["frames"] == TICKS
    plants.write(made.folder / "rig.csv", plants.columns(["m0"], TICKS + 5))
    plants.run(made)
    assert said(caplog, "Kind pump has another model") == 1, "the same model again"


async def test_a_source_that_falls_silent_holds_nothing_back_after_its_time(tmp_path, monkeypatch):
    made = plants.plant(tmp_path / "plant", assets=1, model=None, split=Split.CHANNEL)
    made.settings["kinds"]["pump"]["idle_s"] = 20.0
    made.save()
    silent = made.folder / "rig_load.csv"
    silent.unlink()
    monkeypatch.setattr(service_room, "BEAT_S", 0.05)
    clock = HeldClock(TICKS)
    async with plants.serving(made, clock=clock) as running:
        expected = 2 * TICKS  # samples of the sources that are there
        await until(lambda: running.status["samples_received"] == expected)
        journal = Journal(running.database)
        for second in (5, 10, 15, 20):
            clock.second = TICKS + second
            last = journal.last()
            await until(lambda n=last: running.store.done() > n + 2)
        assert running.status["frames"] == 0, "it may still speak"
        clock.second = TICKS + 20.5
        await until(lambda: running.status["frames"] == TICKS)
    assert plants.outcome(made.data).summary["samples_conserved"]


async def test_a_sink_that_is_away_gets_everything_when_it_is_back(tmp_path, caplog):
    made = plants.plant(tmp_path / "plant", assets=1, model=None)
    made.inbox.rmdir()
    made.inbox.write_text("a file stands in the way", encoding="utf-8")
    plants.never_ending(made)
    async with plants.serving(made) as running:
        await until(lambda: running.status["backlog"].get("inbox") == 2 * len(FAULTS))
        await until(lambda: running.status["samples_received"] == TICKS * len(CHANNELS))
        made.inbox.unlink()
        made.inbox.mkdir()
        await until(lambda: running.status["backlog"]["inbox"] == 0)
    assert len(made.messages()) == 2 * len(FAULTS)
    assert said(caplog, "Sink inbox is held up") == 1


async def test_what_a_sink_refuses_is_put_aside_and_the_others_arrive(tmp_path):
    made = plants.plant(tmp_path / "plant", assets=1, model=None)
    bad = Message(id="../out", subject="a", type="alarm.raised", time=START * SECOND, body={})
    with Database(made.data) as database, database.atomic() as tx:
        outbox = Outbox(database)
        outbox.register(tx, {"inbox": (Message,)})
        outbox.put(tx, [bad])
    found = await asyncio.to_thread(plants.run, made)
    assert len(made.messages()) == 2 * len(FAULTS)
    assert found.ended.undelivered == {"inbox": 0}
    assert found.summary["dead_letters"] == 1
    with DatabaseReader(made.data) as database:
        (letter,) = Outbox(database).dead_letters()
    assert letter.item == bad
    assert "no safe file name" in letter.reason


def test_a_run_without_alarms_does_not_wait_for_a_sink_that_is_away(tmp_path, monkeypatch):
    monkeypatch.setattr(service_room, "FAREWELL_S", 3600.0)
    made = plants.plant(tmp_path / "plant", assets=1, model=None)
    plants.write(made.folder / "rig.csv", plants.columns(["m0"], healthy_only=True))
    made.inbox.rmdir()
    made.inbox.write_text("a file stands in the way", encoding="utf-8")
    assert plants.run(made).ended.undelivered == {"inbox": 0}


def test_what_no_sink_took_waits_for_the_next_run(tmp_path, monkeypatch):
    monkeypatch.setattr(service_room, "FAREWELL_S", 0.1)
    made = plants.plant(tmp_path / "plant", assets=1, model=None)
    made.inbox.rmdir()
    made.inbox.write_text("a file stands in the way", encoding="utf-8")
    assert plants.run(made).ended.undelivered == {"inbox": 2 * len(FAULTS)}
    made.inbox.unlink()
    made.inbox.mkdir()
    assert plants.run(made).ended.undelivered == {"inbox": 0}
    assert len(made.messages()) == 2 * len(FAULTS)


async def test_the_service_tidies_between_its_steps(tmp_path, monkeypatch):
    monkeypatch.setattr(stepper_room, "TIDY_S", 0.05)
    monkeypatch.setattr("monitor.live.tidying.ROWS", 2)
    made = plants.plant(tmp_path / "plant", assets=1, model=None, speed=100.0)
    made.settings["state"] = {"detail_hours": 60 / 3600}
    with Database(made.data) as database, database.atomic() as tx:
        gaps = tuple(Gap(asset="m0", since=n, until=n + 1) for n in range(9))
        Store(database).write(tx, Results(gaps=gaps), done=0)
    made.save()
    async with plants.serving(made) as running:
        await until(lambda: running.store.gaps() == [])
        await until(lambda: list(Rollups(running.database).read(Width.MINUTE, 0)))
        await running.task
    assert plants.outcome(made.data).summary["frames"] == TICKS


async def test_a_step_that_fails_ends_the_service_with_its_error(tmp_path, monkeypatch, caplog):
    made = plants.plant(tmp_path / "plant", assets=1, model=None)
    monkeypatch.setattr(
        "monitor.live.stepper.message", lambda *_, **__: (_ for _ in ()).throw(KeyError("oops"))
    )
    with pytest.raises(KeyError, match="oops"):
        await asyncio.to_thread(plants.run, made)
    assert said(caplog, "The step failed at record") == 1


def numbered(number):
    """A record that is in the journal."""
    future = Future()
    future.set_result(number)
    return future


async def test_the_sources_wait_while_the_step_is_behind():
    reached = 0
    behind = Behind(lambda: reached, bound=100)
    for number in (1, 2, 3):
        await asyncio.wait_for(behind.room(), 1)
        behind.add(numbered(number), 50)
    waiting = asyncio.create_task(behind.room())
    await asyncio.sleep(0.1)
    assert not waiting.done()
    reached = 1
    await asyncio.wait_for(waiting, 1)


async def test_what_was_never_stored_holds_nobody_back():
    behind = Behind(lambda: 0, bound=100)
    failed, cancelled = Future(), Future()
    failed.set_exception(StorageFullError("full"))
    cancelled.cancel()
    for future in (failed, cancelled):
        behind.add(future, 1000)
    await asyncio.wait_for(behind.room(), 1)
    behind.add(Future(), 1000)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(behind.room(), 0.1)


async def test_the_journal_does_not_run_far_ahead_of_a_slow_step(tmp_path, monkeypatch):
    made = plants.plant(tmp_path / "plant", assets=2, batch_rows=5, split=Split.ASSET)
    bound, step = 2000, Pipeline.step

    def slowly(pipeline, record):
        time.sleep(0.01)
        return step(pipeline, record)

    monkeypatch.setattr(Pipeline, "step", slowly)
    monkeypatch.setattr(service_room, "Behind", partial(Behind, bound=bound))
    most = 0
    async with plants.serving(made) as running:
        while not running.task.done():
            await asyncio.sleep(0.01)
            ((ahead, largest),) = running.database.query(
                "SELECT TOTAL(LENGTH(body)), MAX(LENGTH(body)) FROM journal WHERE number > ?",
                (running.service.stepper.at,),
            )
            most = max(most, ahead)
    assert bound < most < bound + 4 * 1000, f"{most} bytes; a row has {largest}"
    assert plants.outcome(made.data).summary["frames"] == 2 * TICKS

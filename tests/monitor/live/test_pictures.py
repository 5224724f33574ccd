"""Pictures from a folder to alarms: accepted once safe, inspected once, whatever happens."""

import asyncio
import os
import signal
import sys
import threading
from pathlib import Path

import pytest
from support import bars, plants, watching
from support.cameras import PLAN, with_camera
from support.pictures import jpeg, noise, png
from support.plants import until
from support.watching import (
    DIES,
    HANGS,
    STRANGE,
    AtStrange,
    Held,
    Raises,
    StandIn,
    Unreadable,
    inspected,
    painted,
    put,
    take_in,
)

from models.vision.acceptance import Grade
from models.vision.inspection import Inspection
from models.vision.training import train
from monitor.core.pipeline import Pipeline
from monitor.core.records import PictureResult, PicturesTaken
from monitor.live import inspecting
from monitor.site import cameras as rooms
from monitor.state.database import DatabaseReader
from monitor.state.journal import Journal
from monitor.state.picture_results import PictureResults
from monitor.state.pictures import PictureStore


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    monkeypatch.setattr(rooms, "Inspection", StandIn)


@pytest.fixture
def made(tmp_path):
    return with_camera(plants.plant(tmp_path / "plant", model=None), mm_per_pixel=0.5)


def counts(running):
    return running.service.stepper.shown.get("conservation", {}).get("eyes", {})


def alarms(running):
    return [one for one in running.store.alarms() if one.alarm_class == "picture"]


def accounted(counts):
    parts = ("stored", "duplicate", "late", "waiting")
    return sum(counts[part] for part in parts) + sum(counts["rejected"].values())


async def test_a_scratched_part_raises_an_alarm_that_good_ones_end(made):
    folder = made.folder / "pictures" / "top"
    async with plants.serving(made) as running:
        put(folder, 1, painted(1))
        put(folder, 2, painted(2, STRANGE))
        await until(lambda: alarms(running))
        (alarm,) = alarms(running)
        assert alarm.active
        assert (alarm.point, alarm.raised) == ("top surprise", (plants.START + 2) * plants.SECOND)
        assert "part p2" in alarm.reason
        for number in (3, 4, 5):
            put(folder, number, painted(number))
        await until(lambda: not alarms(running)[0].active)
        await until(lambda: counts(running)["stored"] == 5)
        assert counts(running)["received"] == accounted(counts(running)) == 5
        results = PictureResults(running.database).read()
        assert [one.part for one in results] == ["p5", "p4", "p3", "p2", "p1"]
        (defect,) = results[3].defects
        assert (defect.width_mm, defect.height_mm, defect.area_mm2) == (2.0, 1.0, 2.0)
        assert results[3].grade is Grade.NONE
        assert results[3].model == StandIn.hash
    assert made.messages()


@pytest.mark.timeout(120)
async def test_a_model_that_was_trained_and_saved_inspects_what_a_camera_shows(made, monkeypatch):
    examples = bars.bars(20)
    short = bars.FIT.model_copy(update={"epochs": 1})
    trained = train(examples, bars.SETTINGS, short).inspection
    trained.save(made.folder / "surface")
    monkeypatch.setattr(rooms, "Inspection", Inspection)
    for number, picture in enumerate(examples.pictures[:3]):
        put(made.folder / "pictures" / "top", number, png(picture))
    put(made.folder / "pictures" / "top", 9, png(noise(9, 60, 24, 1)))
    async with plants.serving(made) as running:
        await until(lambda: counts(running).get("stored") == 3)
        await until(lambda: counts(running)["rejected"])
        assert counts(running)["rejected"] == {"picture_unlike_learnt": 1}
        results = [one for one in PictureResults(running.database).read() if not one.rejected]
    for told, wanted in zip(reversed(results), trained.inspect(examples.pictures[:3]), strict=True):
        assert (told.model, told.rejected) == (trained.hash, "")
        assert told.label == wanted.label
        assert told.probability == pytest.approx(wanted.probability, abs=1e-5)
        assert told.surprise == pytest.approx(wanted.surprise, abs=1e-4)
        assert len(told.defects) == len(wanted.defects)


async def test_what_cannot_be_a_picture_is_refused_by_a_reason_and_counted(made):
    folder = made.folder / "pictures" / "top"
    put(folder, 1, painted(1)[:-9])
    put(folder, 2, b"no picture")
    put(folder, 3, jpeg(noise(3, 60, 60, 1))[:-200])  # which only a decoder sees
    put(folder, 4, painted(4))
    async with plants.serving(made) as running:
        await until(lambda: counts(running).get("stored"))
        assert counts(running)["rejected"] == {
            "picture_cut_off": 2,
            "picture_no_jpeg_or_png": 1,
        }
        assert counts(running)["received"] == accounted(counts(running)) == 4


def doing(monkeypatch, first):
    """Let the network do something first."""
    monkeypatch.setattr(StandIn, "load", classmethod(lambda cls, _folder: cls(first)))


async def test_a_network_that_takes_its_time_holds_up_no_sample(made, monkeypatch):
    doing(monkeypatch, held := Held(made.folder / "held"))
    put(made.folder / "pictures" / "top", 1, painted(1))
    (recording,) = made.folder.glob("rig.csv")
    recording.rename(made.folder / "later")
    try:
        async with plants.serving(made) as running:
            await until(lambda: held.seen)
            (made.folder / "later").rename(recording)
            await until(lambda: running.status["frames"] == plants.TICKS)
            await until(lambda: counts(running).get("waiting") == 1)
            assert accounted(counts(running)) == counts(running)["received"]
            held.let_go()
            await until(lambda: counts(running)["stored"] == 1)
    finally:
        held.let_go()


async def test_what_the_network_cannot_take_is_counted_and_stops_nothing(made):
    folder = made.folder / "pictures" / "top"
    put(folder, 1, png(noise(1, 8, 8, 3)))
    put(folder, 2, painted(2))
    async with plants.serving(made) as running:
        await until(lambda: counts(running).get("stored"))
        assert counts(running)["rejected"] == {"inspection_failed": 1}
        assert counts(running)["received"] == accounted(counts(running)) == 2


@pytest.mark.parametrize("error", [RuntimeError, MemoryError])
async def test_whatever_a_network_raises_its_process_goes_on(made, monkeypatch, error):
    doing(monkeypatch, AtStrange(Raises(error)))
    folder = made.folder / "pictures" / "top"
    for number in range(5):
        put(folder, number, painted(number, STRANGE if number == 1 else 40))
    async with plants.serving(made) as running:
        await until(lambda: counts(running).get("stored") == 4)
        assert counts(running)["rejected"] == {"inspection_failed": 1}
        put(folder, 6, painted(6))
        await until(lambda: counts(running)["stored"] == 5)
        assert counts(running)["received"] == accounted(counts(running)) == 6
        assert running.service.inspecting.standing.restarts == 0


async def test_pictures_of_a_camera_without_a_model_are_kept_and_alarm_nothing(made):
    del made.settings["cameras"]["top"]["model"]
    made.save()
    put(made.folder / "pictures" / "top", 1, painted(1, STRANGE))
    async with plants.serving(made) as running:
        await until(lambda: counts(running).get("stored") == 1)
        assert alarms(running) == []
        (result,) = PictureResults(running.database).read()
        assert (result.model, result.label) == ("", "")
    assert len(list((made.data / "pictures").glob("*/*.png"))) == 1


async def test_too_many_that_wait_are_left_with_the_camera(made, monkeypatch):
    doing(monkeypatch, held := Held(made.folder / "held"))
    made.settings["state"] = {"pictures_waiting_mb": 0.0001}  # 100 bytes: one and the next
    made.save()
    folder = made.folder / "pictures" / "top"
    try:
        async with plants.serving(made) as running:
            put(folder, 1, painted(1))
            await until(lambda: counts(running).get("waiting") == 1)
            put(folder, 2, painted(2))
            supervisor = running.service.supervisors["eyes"]
            await until(lambda: "wait to be inspected" in supervisor.reason)
            assert PictureStore(running.database).waiting_bytes() == len(painted(1))
            held.let_go()
            await until(lambda: counts(running)["stored"] == 2)
            assert supervisor.reason == ""
    finally:
        held.let_go()


@pytest.mark.parametrize("point", ["row", "result"])
async def test_a_kill_on_the_way_loses_no_picture_and_inspects_each_once(point, tmp_path):
    for number in range(3):
        put(tmp_path / "top", number, painted(number))
    assert await killed(tmp_path, point) == 9
    with DatabaseReader(tmp_path / "data") as database:
        assert len(list((tmp_path / "data" / "pictures").glob("*/*.png"))) == 3
        assert inspected(database) == 0
        assert len(PictureStore(database).waiting(9)) == (0 if point == "row" else 3)
    await take_in(tmp_path, 3)
    await take_in(tmp_path, 3)  # and once more, when all is done
    records = journaled(tmp_path)
    taken = [one.body for one in records if isinstance(one.body, PicturesTaken)]
    results = [one.body for one in records if isinstance(one.body, PictureResult)]
    assert sorted(one.hash for one in results) == sorted(h for one in taken for h in one.hash)
    assert len({one.hash for one in results}) == len(results) == 3
    counts = stepped(records)
    assert counts.holds
    assert (counts.received, counts.stored, counts.waiting) == (3, 3, 0)


async def killed(folder, point):
    """Take in the pictures of a folder in a process that kills itself there; how it ended."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, watching.__file__, folder, point),
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    return await process.wait()


def journaled(folder):
    with DatabaseReader(folder / "data") as database:
        return [record for _, record in Journal(database).read(0)]


def stepped(records):
    step = Pipeline(PLAN, {})
    for record in records:
        step.step(record)
    return step.conservation["eyes"]


@pytest.mark.parametrize(("first", "at"), [(DIES, 1), (HANGS, 3)], ids=["dies", "hangs last"])
async def test_a_picture_that_ends_its_process_twice_is_set_aside_and_nothing_else_is(
    made, monkeypatch, first, at
):
    doing(monkeypatch, first)
    made.settings["cameras"]["top"]["inspect_timeout_s"] = 1.0
    made.save()
    (recording,) = made.folder.glob("rig.csv")
    recording.rename(made.folder / "later")
    folder = made.folder / "pictures" / "top"
    for number in range(4):
        put(folder, number, painted(number, STRANGE if number == at else 40))
    async with plants.serving(made) as running:
        looking = running.service.inspecting
        await until(lambda: looking.standing.restarts)
        assert looking.standing.trouble
        (made.folder / "later").rename(recording)
        await until(lambda: counts(running).get("stored") == 3)
        await until(lambda: running.status["frames"] == plants.TICKS)
        await until(lambda: counts(running)["rejected"])
        assert counts(running)["rejected"] == {"inspection_kills": 1}
        assert counts(running)["received"] == accounted(counts(running)) == 4
        await until(lambda: not looking.standing.trouble)  # it may have been the last
        assert looking.standing.restarts == 2
        aside = next(one for one in PictureResults(running.database).read() if one.rejected)
        assert aside.time == (plants.START + at) * plants.SECOND
        assert (made.data / "pictures" / aside.hash[:2] / f"{aside.hash}.png").exists()


async def test_a_picture_whose_process_is_killed_once_is_inspected_and_has_one_result(
    made, monkeypatch
):
    doing(monkeypatch, held := Held(made.folder / "held"))
    for number in range(2):
        put(made.folder / "pictures" / "top", number, painted(number))
    async with plants.serving(made) as running:
        await until(lambda: held.seen)
        os.kill(held.seen[0], signal.SIGKILL)
        await until(lambda: len(held.seen) == 2)
        held.let_go()
        await until(lambda: counts(running).get("stored") == 2)
        assert counts(running)["received"] == accounted(counts(running)) == 2
        assert running.service.inspecting.standing.restarts == 1
        first, second, third = held.seen
        assert first != second == third
    results = [one.body for one in journaled(made.folder) if isinstance(one.body, PictureResult)]
    assert [one.rejected for one in results] == ["", ""]


async def test_an_inspection_that_cannot_begin_is_said_and_tried_again_ever_more_slowly(
    made, monkeypatch, caplog
):
    monkeypatch.setattr(StandIn, "load", classmethod(lambda _cls, _folder: Unreadable()))
    put(made.folder / "pictures" / "top", 1, painted(1))
    async with plants.serving(made) as running:
        looking = running.service.inspecting
        await until(lambda: looking.standing.restarts == 2)
        assert looking.standing.trouble == "could not be prepared: ImportError: "
        assert counts(running)["waiting"] == accounted(counts(running)) == 1
        assert looking._pause_s >= 0.5
    assert caplog.text.count("could not be prepared") == 2


def runs(pid):
    return Path(f"/proc/{pid}").exists()


async def test_a_network_that_hangs_keeps_no_service_from_stopping(made, monkeypatch):
    doing(monkeypatch, held := Held(made.folder / "held"))
    monkeypatch.setattr(inspecting, "STOP_S", 0.1)
    put(made.folder / "pictures" / "top", 1, painted(1))
    async with plants.serving(made):
        await until(lambda: held.seen)
    assert not runs(held.seen[0])
    with DatabaseReader(made.data) as database:
        assert len(PictureStore(database).waiting(9)) == 1
        assert inspected(database) == 0


async def test_the_process_that_inspects_ends_with_the_service(tmp_path):
    put(tmp_path / "top", 0, painted(0))
    assert await killed(tmp_path, "hang") == 9
    pid = int((tmp_path / "pid").read_text())
    await until(lambda: not runs(pid))


async def test_a_service_that_is_stopped_inspects_what_waits_when_it_starts_again(
    made, monkeypatch
):
    doing(monkeypatch, held := Held(made.folder / "held"))
    for number in range(12):
        put(made.folder / "pictures" / "top", number, painted(number))
    async with plants.serving(made) as running:
        await until(lambda: sum(counts(running).get(one, 0) for one in ("waiting", "stored")) == 12)
        await until(lambda: held.seen)
        threading.Timer(0.2, held.let_go).start()
    assert len(held.seen) == 1
    with DatabaseReader(made.data) as database:
        first = len(PictureResults(database).read())
        assert first + len(PictureStore(database).waiting(99)) == 12
    async with plants.serving(made) as running:
        await until(lambda: counts(running).get("stored") == 12)
        assert counts(running)["received"] == accounted(counts(running)) == 12
        assert len(held.seen) == 12

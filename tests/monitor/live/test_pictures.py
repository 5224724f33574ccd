"""Pictures from a folder to alarms: accepted once safe, inspected once, whatever happens."""

import asyncio
import os
import sys
import threading

import pytest
from support import bars, plants, watching
from support.cameras import PLAN, with_camera
from support.pictures import noise, png
from support.plants import until
from support.watching import STRANGE, StandIn, inspected, painted, put, take_in

from models.vision.acceptance import Grade
from models.vision.inspection import Inspection
from models.vision.training import train
from monitor.core.pipeline import Pipeline
from monitor.core.records import PictureResult, PicturesTaken
from monitor.site import cameras as rooms
from monitor.state.database import DatabaseReader
from monitor.state.journal import Journal
from monitor.state.looking import FILE, Looking
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
    put(folder, 3, painted(3))
    async with plants.serving(made) as running:
        await until(lambda: counts(running).get("stored"))
        assert counts(running)["rejected"] == {
            "picture_cut_off": 1,
            "picture_no_jpeg_or_png": 1,
        }
        assert counts(running)["received"] == accounted(counts(running)) == 3


async def test_a_network_that_takes_its_time_holds_up_no_sample(made, monkeypatch):
    held, entered = threading.Event(), threading.Event()

    class Slow(StandIn):
        @classmethod
        def load(cls, _folder):
            return cls(lambda _: (entered.set(), held.wait(30)))

    monkeypatch.setattr(rooms, "Inspection", Slow)
    put(made.folder / "pictures" / "top", 1, painted(1))
    (recording,) = made.folder.glob("rig.csv")
    recording.rename(made.folder / "later")
    try:
        async with plants.serving(made) as running:
            await until(entered.is_set)
            (made.folder / "later").rename(recording)
            await until(lambda: running.status["frames"] == plants.TICKS)
            await until(lambda: counts(running).get("waiting") == 1)
            assert accounted(counts(running)) == counts(running)["received"]
            held.set()
            await until(lambda: counts(running)["stored"] == 1)
    finally:
        held.set()


async def test_what_the_network_cannot_take_is_counted_and_stops_nothing(made):
    folder = made.folder / "pictures" / "top"
    put(folder, 1, png(noise(1, 8, 8, 3)))
    put(folder, 2, painted(2))
    async with plants.serving(made) as running:
        await until(lambda: counts(running).get("stored"))
        assert counts(running)["rejected"] == {"inspection_failed": 1}
        assert counts(running)["received"] == accounted(counts(running)) == 2


@pytest.mark.parametrize("error", [RuntimeError, MemoryError, AssertionError, RecursionError])
async def test_whatever_a_network_raises_its_thread_goes_on(made, monkeypatch, error):
    class Raising(StandIn):
        def inspect(self, pictures, templates=None):
            if any(picture.mean() > 128 for picture in pictures):
                raise error
            return super().inspect(pictures, templates)

    monkeypatch.setattr(rooms, "Inspection", Raising)
    folder = made.folder / "pictures" / "top"
    for number in range(5):
        put(folder, number, painted(number, STRANGE if number == 1 else 40))
    async with plants.serving(made) as running:
        await until(lambda: counts(running).get("stored") == 4)
        assert counts(running)["rejected"] == {"inspection_failed": 1}
        put(folder, 6, painted(6))
        await until(lambda: counts(running)["stored"] == 5)
        assert counts(running)["received"] == accounted(counts(running)) == 6


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
    held = threading.Event()

    class Slow(StandIn):
        @classmethod
        def load(cls, _folder):
            return cls(lambda _: held.wait(30))

    monkeypatch.setattr(rooms, "Inspection", Slow)
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
            held.set()
            await until(lambda: counts(running)["stored"] == 2)
            assert supervisor.reason == ""
    finally:
        held.set()


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


async def test_a_picture_that_kills_the_process_twice_is_set_aside_and_the_others_are_not(tmp_path):
    for number in range(4):
        put(tmp_path / "top", number, painted(number, STRANGE if number == 2 else 40))
    assert await killed(tmp_path, "look") == 9  # who was it?
    assert await killed(tmp_path, "look") == 9  # this one
    assert await killed(tmp_path, "look") == 0
    records = journaled(tmp_path)
    results = [one.body for one in records if isinstance(one.body, PictureResult)]
    assert {one.part: one.rejected for one in results if one.rejected} == {None: "inspection_kills"}
    aside = next(one for one in results if one.rejected)
    assert aside.time == (plants.START + 2) * plants.SECOND
    step = stepped(records)
    assert step.holds
    assert (step.received, step.stored, dict(step.rejected)) == (4, 3, {"inspection_kills": 1})
    assert len(list((tmp_path / "data" / "pictures").glob("*/*.png"))) == 4  # also that one


async def test_a_kill_that_no_picture_is_to_blame_for_sets_none_aside(tmp_path):
    for number in range(3):
        put(tmp_path / "top", number, painted(number))
    for _ in range(3):
        assert await killed(tmp_path, "result") == 9
    assert await killed(tmp_path, "") == 0
    results = [one.body for one in journaled(tmp_path) if isinstance(one.body, PictureResult)]
    assert [one.rejected for one in results] == ["", "", ""]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"now": 1, "deaths": {}}', b'{"now": []}'])
def test_what_was_looked_at_is_begun_anew_where_it_cannot_be_read(tmp_path, content, caplog):
    (tmp_path / FILE).write_bytes(content)
    looking = Looking(tmp_path)
    assert "not readable" in caplog.text
    with looking.at(["a"]):
        assert Looking(tmp_path).deaths("a") == 1
    assert looking.deaths("a") == 0


async def test_a_service_that_is_stopped_inspects_what_waits_when_it_starts_again(
    made, monkeypatch
):
    held = threading.Event()
    seen = []

    class Slow(StandIn):
        @classmethod
        def load(cls, _folder):
            return cls(lambda count: (seen.append(count), held.wait(30)))

    monkeypatch.setattr(rooms, "Inspection", Slow)
    for number in range(12):
        put(made.folder / "pictures" / "top", number, painted(number))
    async with plants.serving(made) as running:
        await until(lambda: sum(counts(running).get(one, 0) for one in ("waiting", "stored")) == 12)
        threading.Timer(0.2, held.set).start()
    assert len(seen) == 1
    with DatabaseReader(made.data) as database:
        first = len(PictureResults(database).read())
        assert first + len(PictureStore(database).waiting(99)) == 12
    async with plants.serving(made) as running:
        await until(lambda: counts(running).get("stored") == 12)
        assert counts(running)["received"] == accounted(counts(running)) == 12
        assert sum(seen) == 12

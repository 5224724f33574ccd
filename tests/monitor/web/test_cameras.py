"""What people see of cameras over HTTP: a page, pictures, and what was found drawn on them."""

import contextlib
import hashlib
from zoneinfo import ZoneInfo

import httpx
import pytest
from support import plants
from support.cameras import with_camera
from support.growing import progression
from support.plants import until
from support.watching import STRANGE, StandIn, painted, put

from monitor.live.messages import message
from monitor.site import cameras as rooms
from monitor.web.app import listening, serving
from monitor.web.cameras import CameraPages

GOOD_ONE, BAD_ONE = painted(1), painted(2, STRANGE)


def hash_of(content):
    return hashlib.sha256(content).hexdigest()


@contextlib.asynccontextmanager
async def shown(made, count=2):
    """A client of a service that has inspected its pictures."""
    put(made.folder / "pictures" / "top", 1, GOOD_ONE, part="<b>")
    put(made.folder / "pictures" / "top", 2, BAD_ONE)
    async with plants.serving(made) as running:
        counts = lambda: running.service.stepper.shown.get("conservation", {}).get("eyes", {})  # noqa: E731 - one line
        await until(lambda: counts().get("stored") == count)
        pages = CameraPages(
            database=running.database,
            cameras=lambda: running.service.setup.plan.cameras,
            zone=ZoneInfo("UTC"),
        )
        with listening("127.0.0.1", 0) as listener:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            async with (
                serving(running.service.standing, listener, pages),
                httpx.AsyncClient(base_url=url, trust_env=False) as client,
            ):
                yield running, client


@pytest.fixture
def made(tmp_path, monkeypatch):
    monkeypatch.setattr(rooms, "Inspection", StandIn)
    made = with_camera(plants.plant(tmp_path / "plant", model=None))
    made.settings["sources"]["eyes"]["folder"]["name"] = r"(?P<part>[a-z<>]+\d+)\.png"
    return made.save()


async def test_a_picture_is_given_as_it_came_and_its_overlay_only_where_something_is_wrong(made):
    async with shown(made) as (running, client):
        for content in (GOOD_ONE, BAD_ONE):
            answer = await client.get(f"/pictures/{hash_of(content)}")
            assert (answer.headers["content-type"], answer.content) == ("image/png", content)
        overlay = await client.get(f"/pictures/{hash_of(BAD_ONE)}/overlay")
        assert overlay.headers["content-type"] == "image/jpeg"
        assert overlay.content != BAD_ONE
        other = await client.get(f"/pictures/{hash_of(GOOD_ONE)}/overlay")
        assert other.content == GOOD_ONE
        files = running.database.folder / "pictures"
        assert [path.name for path in files.glob("*/*.jpg")] == [f"{hash_of(BAD_ONE)}.overlay.jpg"]


async def test_an_alarm_names_the_picture_that_raised_it_by_its_path(made):
    async with shown(made) as (running, client):
        (alarm,) = [one for one in running.store.alarms() if one.alarm_class == "picture"]
        assert alarm.picture == hash_of(BAD_ONE)
        (event,) = running.store.alarm_events(alarm=alarm.id)
        path = message(event, site="works").body["picture"]
        assert (await client.get(path)).headers["content-type"] == "image/jpeg"


async def test_the_page_tells_what_is_foretold(made):
    progression(longer=1.0, inspection=StandIn.hash).save(made.folder / "growth")
    made.settings["cameras"]["top"] |= {"progression": "growth", "mm_per_pixel": 0.5}
    made.save()
    async with shown(made) as (_, client):
        page = (await client.get("/cameras")).text
        assert "2 mm², foretold 3.66" in page  # (8 ** 0.5 + 1) ** 2 pixels


async def test_the_page_shows_the_last_picture_and_those_with_something_wrong(made):
    async with shown(made) as (_, client):
        answer = await client.get("/cameras")
        assert answer.status_code == 200
        assert answer.text.count("<figure") == 1  # the last one is the one with the defect
        put(made.folder / "pictures" / "top", 3, painted(3))
        while "scratch" not in answer.text or answer.text.count("<figure") < 2:
            answer = await client.get("/cameras")
        first, second = answer.text.split("<figure")[1:]
        assert "good 90%" in first
        assert f"/pictures/{hash_of(BAD_ONE)}/overlay" in second
        assert "default-src 'none'" in answer.headers["content-security-policy"]


async def test_what_a_file_is_called_is_shown_and_is_no_markup(made):
    async with shown(made) as (_, client):
        put(made.folder / "pictures" / "top", 3, painted(3), part="<i>")
        text = ""
        while "&lt;i&gt;3" not in text:
            text = (await client.get("/cameras")).text
        assert "<i>" not in text


@pytest.mark.parametrize("name", ["0" * 64, "..%2Fstate.db", "g" * 64, "0" * 63])
async def test_what_is_no_picture_is_not_found(made, name):
    async with shown(made) as (_, client):
        for path in (f"/pictures/{name}", f"/pictures/{name}/overlay"):
            assert (await client.get(path)).status_code == 404


@pytest.mark.parametrize(("which", "count"), [("all", 2), ("wrong", 1), ("none", 0)])
async def test_which_overlays_are_kept_is_a_setting_of_the_camera(made, which, count):
    made.settings["cameras"]["top"]["overlays"] = which
    async with shown(made.save()) as (running, _):
        files = running.database.folder / "pictures"
        assert len(list(files.glob("*/*.overlay.jpg"))) == count

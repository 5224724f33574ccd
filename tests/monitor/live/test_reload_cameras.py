"""A running service takes up what a camera judges by, also where only its content is another."""

import numpy as np
import pytest
from support import plants
from support.cameras import with_camera
from support.growing import progression
from support.pictures import png
from support.plants import until
from support.watching import Named, Paired, put

from monitor.live import inspecting
from monitor.live.seeing import look
from monitor.site import cameras as rooms
from monitor.state.picture_results import PictureResults


class Beside:
    """Looks as the process beside the service does, without one: that takes seconds to start."""

    alive = True

    def prepare(self, cameras):
        self._cameras = cameras

    def look(self, one, content, *, within_s):
        assert within_s
        return look(one, content, self._cameras[one.camera])

    def close(self):
        pass

    kill = close


@pytest.fixture
def made(tmp_path, monkeypatch):
    monkeypatch.setattr(rooms, "Inspection", Named)
    monkeypatch.setattr(inspecting, "Child", Beside)
    made = with_camera(
        plants.plant(tmp_path / "plant", assets=2, model=None),
        template="golden.png",
        progression="growth",
    )
    lay(made, "first", shade=10)
    return made


def plain(shade):
    return png(np.full((8, 8, 1), shade, np.uint8))


def lay(made, name, *, shade, learnt_from=None):
    """What the camera judges by, into the same paths."""
    (made.folder / "surface" / "name").write_text(name)
    (made.folder / "golden.png").write_bytes(plain(shade))
    progression(inspection=learnt_from or name).save(made.folder / "growth")


async def judged(made, running, number):
    """One picture more: by which inspection and template it is judged."""
    put(made.folder / "pictures" / "top", number, plain(40 + number))
    results = PictureResults(running.database)
    await until(lambda: len(results.read()) == number)
    pairs = (made.folder / "surface" / Paired.notes).read_text().splitlines()
    return results.read()[0].model, int(pairs[-1].split()[1])


async def test_another_content_at_the_same_paths_is_told_and_judges_from_then_on(made):
    async with plants.serving(made) as running:
        reload = running.service.reloading.start
        assert await judged(made, running, 1) == ("first", 10)
        answer = await reload()
        assert (answer.changes, answer.untouched, answer.error) == ((), 2, "")
        lay(made, "second", shade=20)
        assert await judged(made, running, 2) == ("first", 10), "nobody has asked for it yet"
        answer = await reload()
        assert answer.error == ""
        assert answer.changes == (
            "cameras.top.model: another inspection",
            "cameras.top.progression: another progression; what it foretells begins anew",
            "cameras.top.template: another template",
        )
        assert answer.untouched == 1
        assert await judged(made, running, 3) == ("second", 20)
        assert (await reload()).changes == ()


def damaged_inspection(made):
    (made.folder / "surface" / "name").unlink()


def damaged_template(made):
    (made.folder / "golden.png").write_bytes(plain(20)[:-30])


def template_of_other_colours(made):
    (made.folder / "golden.png").write_bytes(png(np.zeros((8, 8, 3), np.uint8)))


def damaged_progression(made):
    (made.folder / "growth" / "weights.safetensors").write_bytes(b"cut short")


def progression_of_another_inspection(made):
    lay(made, "second", shade=20, learnt_from="first")


def table_of_another_class(made):
    made.settings["cameras"]["top"]["acceptance"] = {"classes": {"scrach": []}}
    made.save()


async def test_what_cannot_judge_is_refused_by_name_and_the_old_goes_on(made):
    async with plants.serving(made) as running:
        assert await judged(made, running, 1) == ("first", 10)
        for damage, words in (
            (damaged_inspection, "No such file"),
            (damaged_template, "template: "),
            (template_of_other_colours, "want uint8 with 1 channels"),
            (damaged_progression, "growth"),
            (progression_of_another_inspection, "learnt from features of inspection first"),
            (table_of_another_class, "no class of defect 'scrach'. Did you mean 'scratch'?"),
        ):
            lay(made, "second", shade=20)
            damage(made)
            answer = await running.service.reloading.start()
            assert answer.error.startswith("camera top: ")
            assert words in answer.error
            assert answer.changes == ()
            assert (await running.service.standing()).reload.error == answer.error
        assert await judged(made, running, 2) == ("first", 10)

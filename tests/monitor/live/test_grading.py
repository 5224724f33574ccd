"""Parts are graded by their camera's table, and compared with the template of their recipe."""

import numpy as np
import pytest
from support import plants
from support.cameras import with_camera
from support.pictures import png
from support.plants import until
from support.watching import STRANGE, StandIn, painted, put

from models.vision.acceptance import Grade
from monitor.live.templates import KEPT, TemplateError, Templates
from monitor.site import cameras as rooms
from monitor.state.picture_results import PictureResults


@pytest.fixture
def made(tmp_path, monkeypatch):
    monkeypatch.setattr(rooms, "Inspection", StandIn)
    return with_camera(plants.plant(tmp_path / "plant", model=None), mm_per_pixel=0.5)


def pictures(made):
    return made.folder / "pictures" / "top"


def counts(running):
    return running.service.stepper.shown.get("conservation", {}).get("eyes", {})


def pictured(running):
    return {one.point for one in running.store.alarms() if one.alarm_class == "picture"}


def plain(shade):
    return png(np.full((8, 8, 1), shade, np.uint8))


async def test_the_rule_that_decides_is_in_the_result_and_in_the_alarm(made):
    made.settings["cameras"]["top"]["acceptance"] = {
        "classes": {
            "scratch": [
                {"of": "count", "rework_over": 0},
                {"of": "length_mm", "reject_over": 1.5},
            ]
        }
    }
    made.save()
    put(pictures(made), 1, painted(1))
    put(pictures(made), 2, painted(2, STRANGE))
    async with plants.serving(made) as running:
        await until(lambda: counts(running).get("stored") == 2)
        await until(lambda: pictured(running) == {"top reject", "top surprise"})
        bad, good = PictureResults(running.database).read()
        (alarm,) = [one for one in running.store.alarms() if one.point == "top reject"]
    assert (good.grade, good.rule) == (Grade.ACCEPT, "")
    assert (bad.grade, bad.rule) == (Grade.REJECT, "scratch: length_mm")
    assert "over 1.5" in bad.reason
    (defect,) = bad.defects
    assert (defect.grade, defect.area_mm2) == (Grade.REJECT, 2.0)
    assert defect.length_mm == pytest.approx(2.06, abs=0.01)  # 4 pixels long, 2 wide
    assert "part p2 is graded reject by scratch: length_mm: 2.062, over 1.5" in alarm.reason


async def test_without_a_scale_a_part_is_not_accepted_by_rules_in_mm(made):
    made.settings["cameras"]["top"] |= {
        "mm_per_pixel": None,
        "acceptance": {"classes": {"scratch": [{"of": "length_mm", "reject_over": 1.5}]}},
    }
    made.save()
    put(pictures(made), 1, painted(1, STRANGE))
    async with plants.serving(made) as running:
        await until(lambda: counts(running).get("stored") == 1)
        (result,) = PictureResults(running.database).read()
        await until(lambda: pictured(running))
        assert pictured(running) == {"top surprise"}
    assert (result.grade, result.rule) == (Grade.NONE, "scratch: length_mm")
    assert "mm_per_pixel" in result.reason


async def test_each_picture_is_compared_with_the_template_of_its_recipe(made, monkeypatch):
    pairs = []

    class Paired(StandIn):
        def inspect(self, pictures, templates=None):
            shown = zip(pictures, templates, strict=True)
            pairs.extend((int(one.mean()), int(its.mean())) for one, its in shown)
            return super().inspect(pictures)

    monkeypatch.setattr(rooms, "Inspection", Paired)
    (made.folder / "templates").mkdir()
    for recipe, shade in (("cover", 10), ("lid", 20)):
        (made.folder / "templates" / f"{recipe}.png").write_bytes(plain(shade))
    made.settings["cameras"]["top"] |= {"template": "templates", "recipe": "lid"}
    made.settings["sources"]["eyes"]["folder"]["name"] = r"(?P<recipe>[a-z]*)\d+\.png"
    made.save()
    put(pictures(made), 1, plain(41), part="cover")
    put(pictures(made), 2, plain(42), part="lid")
    put(pictures(made), 3, plain(43), part="hood")
    put(pictures(made), 4, plain(44), part="")
    async with plants.serving(made) as running:
        await until(lambda: counts(running).get("stored") == 3)
        await until(lambda: counts(running)["rejected"])
        found = counts(running)
        results = PictureResults(running.database).read()
    assert sorted(pairs) == [(41, 10), (42, 20), (44, 20)]
    assert found["rejected"] == {"no_template": 1}
    assert found["received"] == found["stored"] + 1 == 4
    assert [one.recipe for one in results if one.rejected] == ["hood"]


def test_a_recipe_is_looked_up_and_never_a_path(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "lid.png").write_bytes(plain(1))
    (tmp_path / "secret.png").write_bytes(plain(2))
    templates = Templates(tmp_path / "in")
    for recipe in ("../secret", "secret", "lid.png", "", None, "\0"):
        assert templates.of(recipe) is None
    assert templates.of("lid").mean() == 1


def test_one_file_is_the_template_of_all_recipes(tmp_path):
    (tmp_path / "golden.png").write_bytes(plain(7))
    templates = Templates(tmp_path / "golden.png")
    assert {templates.of(recipe).mean() for recipe in ("a", "b", None)} == {7}


def test_templates_that_are_held_are_few_and_the_right_ones(tmp_path):
    for number in range(2 * KEPT):
        (tmp_path / f"r{number}.png").write_bytes(plain(number))
    templates = Templates(tmp_path)
    for number in (*range(2 * KEPT), 0, 3, 0):
        assert templates.of(f"r{number}").mean() == number
    assert len(templates._kept) == KEPT


def test_what_is_wrong_with_templates_names_the_file(tmp_path):
    with pytest.raises(TemplateError, match=r"no templates in it; want RECIPE\.png"):
        Templates(tmp_path)
    with pytest.raises(TemplateError, match="nothing: no template"):
        Templates(tmp_path / "nothing")
    (tmp_path / "lid.png").write_bytes(b"no picture")
    with pytest.raises(TemplateError, match=r"lid\.png"):
        Templates(tmp_path).of("lid")
    (tmp_path / "lid.jpg").write_bytes(plain(1))
    with pytest.raises(
        TemplateError, match=r"two templates of recipe 'lid': lid\.jpg and lid\.png"
    ):
        Templates(tmp_path)

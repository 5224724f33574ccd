"""Parts are graded by their camera's table, and compared with the template of their recipe."""

import base64
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import plants
from support.cameras import with_camera
from support.pictures import png
from support.plants import until
from support.receivers import receiving
from support.watching import STRANGE, Paired, StandIn, painted, put

from models.vision.acceptance import AcceptanceSettings, Grade, RuleSettings
from models.vision.inspected import Defect
from monitor.core.records import Record
from monitor.live.grading import CameraSetup, judged, result
from monitor.live.templates import KEPT, TemplateError, Templates
from monitor.site import cameras as rooms
from monitor.state.journal import decode, encode
from monitor.state.picture_results import PictureResults
from monitor.state.pictures import Waiting


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


async def test_the_rule_that_decides_is_in_the_result_the_alarm_and_its_webhook(made):
    made.settings["cameras"]["top"]["acceptance"] = {
        "classes": {
            "scratch": [
                {"of": "count", "rework_over": 0},
                {"of": "length_mm", "reject_over": 1.5},
            ]
        }
    }
    secret = made.folder / "secret"
    secret.write_text(f"whsec_{base64.b64encode(bytes(24)).decode()}")
    put(pictures(made), 1, painted(1))
    put(pictures(made), 2, painted(2, STRANGE))
    with receiving() as receiver:
        hook = {"type": "webhook", "url": receiver.url, "secret_file": str(secret)}
        made.settings["sinks"]["hook"] = hook
        async with plants.serving(made.save()) as running:
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
    sent = [json.loads(one.body)["data"] for one in receiver.got]
    (told,) = [one for one in sent if one["point"] == "top reject"]
    assert (told["class"], told["transition"], told["asset"]) == ("picture", "raised", "m0")
    assert told["reason"] == alarm.reason
    assert told["picture"] == f"/pictures/{bad.hash}/overlay"


async def test_without_a_scale_a_part_is_not_accepted_by_rules_in_mm(made):
    made.settings["cameras"]["top"] |= {
        "mm_per_pixel": None,
        "acceptance": {"classes": {"scratch": [{"of": "length_mm", "reject_over": 1.5}]}},
    }
    made.save()
    put(pictures(made), 1, painted(1, STRANGE))
    async with plants.serving(made) as running:
        await until(lambda: counts(running).get("stored") == 1)
        (told,) = PictureResults(running.database).read()
        await until(lambda: pictured(running))
        assert pictured(running) == {"top surprise"}
    assert (told.grade, told.rule) == (Grade.NONE, "scratch: length_mm")
    assert "mm_per_pixel" in told.reason


RULES = st.builds(
    lambda of, low, more: RuleSettings(of=of, rework_over=low, reject_over=low + more),
    st.sampled_from(["area_mm2", "length_mm", "area_px", "length_px", "count"]),
    st.integers(0, 12),
    st.integers(1, 9),
)
TABLES = st.builds(
    lambda classes: AcceptanceSettings(classes=classes),
    st.dictionaries(st.sampled_from("ab"), st.lists(RULES, max_size=3).map(tuple)),
)
DEFECTS = st.lists(
    st.builds(
        lambda label, x, y, wide, high: Defect(
            label=label, probability=0.5, box=(x, y, x + wide, y + high)
        ),
        st.sampled_from("ab"),
        *(st.integers(0, 8) for _ in range(2)),
        *(st.integers(1, 8) for _ in range(2)),
    ),
    max_size=5,
)


@given(DEFECTS, TABLES, st.none() | st.sampled_from([0.5, 1.0]))
def test_a_part_is_as_bad_as_its_worst_defect_and_accepted_only_where_all_was_judged(
    defects, table, scale
):
    camera = CameraSetup(
        name="top", inspector=StandIn(), mm_per_pixel=scale, recipe="lid", acceptance=table
    )
    seen = StandIn().one(np.zeros((16, 16, 1), np.uint8))
    seen = replace(seen, defects=tuple(defects))
    waits = Waiting(
        number=1,
        camera=0,
        time=5,
        source="eyes",
        part="p",
        recipe=None,
        file="ab/abc.png",
        received=6,
    )
    found = result(waits, judged(camera, seen, np.zeros((16, 16, 1), np.uint8)), camera)
    grades = {one.grade for one in found.defects}
    if Grade.REJECT in grades:
        assert found.grade is Grade.REJECT
    if found.grade is Grade.ACCEPT:
        assert grades <= {Grade.ACCEPT}
        assert {one.label for one in defects} <= table.classes.keys()
    assert bool(found.rule) >= (found.grade is not Grade.ACCEPT)
    assert bool(found.reason)
    assert all((one.length_mm is None) == (scale is None) for one in found.defects)
    row = encode(Record(7, found))
    assert decode(row, number=1).body == found


async def test_each_picture_is_compared_with_the_template_of_its_recipe(made, monkeypatch):
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
    pairs = (made.folder / "surface" / Paired.notes).read_text().splitlines()
    assert pairs == ["41 10", "42 20", "44 20"]
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


def test_a_template_that_became_another_picture_meanwhile_is_not_taken_for_it(tmp_path):
    file = tmp_path / "lid.png"
    file.write_bytes(plain(7))
    held, unread = Templates(tmp_path), Templates(tmp_path)
    assert held.of("lid").mean() == 7
    file.write_bytes(plain(8))
    assert held.of("lid").mean() == 7
    with pytest.raises(TemplateError, match=r"lid\.png: became another picture meanwhile"):
        unread.of("lid")
    assert Templates(tmp_path).of("lid").mean() == 8


def test_templates_are_the_same_by_their_pictures_and_recipes_wherever_they_lie(tmp_path):
    def laid(folder, **shades):
        (tmp_path / folder).mkdir()
        for recipe, shade in shades.items():
            (tmp_path / folder / f"{recipe}.png").write_bytes(plain(shade))
        return Templates(tmp_path / folder).hash

    one = laid("one", lid=1, cover=2)
    assert laid("same", cover=2, lid=1) == one
    others = [
        laid("swapped", lid=2, cover=1),
        laid("less", lid=1),
        laid("other", lid=1, cover=3),
        Templates(tmp_path / "one" / "lid.png").hash,
    ]
    assert len({one, *others}) == 5


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

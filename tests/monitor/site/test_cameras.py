"""Cameras in a configuration: what they are bound to, and what is said where they cannot be."""

import pytest
from support import bars, plants
from support.cameras import with_camera
from support.growing import progression
from support.pictures import noise, png
from support.watching import StandIn

from connectors.contract import TagRef
from models.vision.training import train
from monitor.core.plan import SECOND, Camera, PictureAlarmSettings
from monitor.site import cameras as rooms
from monitor.site.advice import advice
from monitor.site.problems import ConfigError, ModelMissingError, PlantError


@pytest.fixture
def made(tmp_path):
    return with_camera(plants.plant(tmp_path / "plant", model=None), lag_s=1.5)


def problems(made):
    with pytest.raises(ConfigError) as error:
        made.save().config()
    return [f"{one.path}: {one.message}" for one in error.value.problems]


def test_a_camera_is_bound_to_its_number_source_and_asset(made):
    made.settings["cameras"]["side"] = {"source": "eyes", "asset": "m0", "address": "a/b"}
    config = made.save().config()
    numbers = {"top": 7, "side": 8}
    tags = dict.fromkeys(config.tag_names(), 0)
    plan = config.plan(tags, {"m0": 0}, numbers)
    assert plan.cameras == (
        Camera(
            name="top",
            id=7,
            asset="m0",
            source="eyes",
            lag=3 * SECOND // 2,
            alarm=PictureAlarmSettings(),
        ),
        Camera(name="side", id=8, asset="m0", source="eyes"),
    )
    assert plan.sources == {"rig", "eyes"}
    assert config.tag_refs("eyes", tags, numbers) == [
        TagRef(id=7, address="top"),
        TagRef(id=8, address="a/b"),
    ]


def test_history_has_no_cameras(made):
    config = made.config()
    assert config.plan(dict.fromkeys(config.tag_names(), 0), {"m0": 0}).cameras == ()
    assert plants.backfill(made).summary["frames"] == plants.TICKS


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"asset": "m7"}, "cameras.top.asset: no asset 'm7'"),
        ({"source": "eye"}, "cameras.top.source: no source 'eye'. Did you mean 'eyes'?"),
        ({"source": "rig"}, "cameras.top.source: source 'rig' gives no pictures"),
        ({"mm_per_pixel": 0}, "cameras.top.mm_per_pixel: "),
    ],
)
def test_what_a_camera_names_must_be_there(made, changed, said):
    made.settings["cameras"]["top"] |= changed
    (problem,) = problems(made)
    assert problem.startswith(said)


def test_two_cameras_cannot_have_one_address(made):
    made.settings["cameras"]["side"] = {"source": "eyes", "asset": "m0", "address": "top"}
    (problem,) = problems(made)
    assert "is camera 'top' already" in problem


def test_an_asset_takes_no_samples_from_a_camera(made):
    made.settings["assets"]["m0"]["source"] = "eyes"
    made.settings["assets"]["m0"]["tags"]["flow"]["source"] = "eyes"
    assert [one.partition(":")[0] for one in problems(made)] == [
        "assets.m0.source",
        "assets.m0.tags.flow.source",
    ]


def test_cameras_of_one_model_share_it(made, monkeypatch):
    monkeypatch.setattr(rooms, "Inspection", StandIn)
    given = {"source": "eyes", "asset": "m0"}
    made.settings["cameras"] |= {"side": given | {"model": "surface"}, "back": given}
    found = rooms.camera_setups(made.save().config())
    assert isinstance(found["top"].inspector, StandIn)
    assert found["top"].inspector is found["side"].inspector
    assert found["back"].inspector is None


def test_a_model_that_is_not_there_yet_is_said_to_be_missing(made):
    (made.folder / "surface").rmdir()
    with pytest.raises(ModelMissingError, match="camera top"):
        rooms.camera_setups(made.config())


TABLE = {"classes": {"lying": [{"of": "length_px", "reject_over": 5}], "standing": []}}


@pytest.mark.parametrize(
    ("table", "where", "said"),
    [
        ({"classes": {"a": [{"of": "lenght_mm"}]}}, "classes.a[0].of", "'lenght_mm', want"),
        ({"classes": {"a": [{"of": "count"}]}}, "classes.a[0]", "want rework_over, reject_over"),
        (
            {"classes": {"a": [{"of": "count", "rework_over": 3, "reject_over": 2}]}},
            "classes.a[0]",
            "want rework_over below reject_over, got 3 and 2",
        ),
        (
            {"classes": {"a": [{"of": "count", "zone": "seal", "reject_over": 2}]}},
            "classes.a",
            "no zone 'seal'",
        ),
        ({"zones": {"seal": {"rectangle": [5, 5, 1, 9]}}}, "zones.seal.rectangle", "want x1 < x2"),
        (
            {"measures": {"bore": {"what": "gap", "region": [0, 0, 9, 9], "least_mm2": 1}}},
            "measures.bore",
            "gap: want least_mm",
        ),
    ],
)
def test_what_is_wrong_with_a_table_is_said_with_its_place(made, table, where, said):
    made.settings["cameras"]["top"]["acceptance"] = table
    found = problems(made)
    assert [one.partition(": ")[0] for one in found] == [f"cameras.top.acceptance.{where}"]
    assert said in found[0]


@pytest.mark.parametrize("what", [{"acceptance": TABLE}, {"template": "golden.png"}])
def test_a_table_or_a_template_wants_somebody_who_looks(made, what):
    del made.settings["cameras"]["top"]["model"]
    made.settings["cameras"]["top"] |= what
    (problem,) = problems(made)
    assert problem.startswith(f"cameras.top.{next(iter(what))}: nobody looks at the pictures")


@pytest.fixture(scope="module")
def card():
    short = bars.FIT.model_copy(update={"epochs": 1})
    found = train(bars.bars(20), bars.SETTINGS, short).inspection.card
    return found.model_copy(update={"good": "good", "task": "masks"})


def said(made, monkeypatch, card, **camera):
    """What `check` says of the camera, and whether `run` refuses it."""

    class Carded(StandIn):
        @classmethod
        def load(cls, _folder):
            one = cls()
            one.card = card
            return one

    monkeypatch.setattr(rooms, "Inspection", Carded)
    made.settings["cameras"]["top"] |= camera
    config = made.save().config()
    try:
        rooms.camera_setups(config)
    except PlantError as error:
        told, *odd = rooms.unfit(config)
        return tuple(odd), str(error) if told == str(error) else None
    return rooms.unfit(config), None


def paired(card):
    return card.model_copy(update={"seen": card.seen.model_copy(update={"paired": True})})


def test_a_table_that_speaks_of_what_the_model_tells_is_right(made, monkeypatch, card):
    assert said(made, monkeypatch, card, acceptance=TABLE) == ((), None)


def test_rules_of_sizes_are_said_of_a_model_that_does_not_know_where_defects_end(
    made, monkeypatch, card
):
    card = card.model_copy(update={"task": "classes"})
    (odd,), refused = said(made, monkeypatch, card, acceptance=TABLE)
    assert odd.startswith("cameras.top.acceptance: the model has learnt classes")
    assert "graded none by classes.lying: length_px" in odd
    assert refused is None
    counted = {"classes": {"lying": [{"of": "count", "reject_over": 0}], "standing": []}}
    assert said(made, monkeypatch, card, acceptance=counted) == ((), None)


def test_a_class_that_the_model_does_not_know_is_refused_and_the_one_left_out_is_said(
    made, monkeypatch, card
):
    table = {"classes": {"lying": [], "stading": []}}
    (odd,), refused = said(made, monkeypatch, card, acceptance=table)
    assert "no class of defect 'stading'. Did you mean 'standing'? There are lying," in refused
    assert odd.startswith("cameras.top.acceptance.classes: nothing about standing,")
    _, refused = said(made, monkeypatch, card, acceptance={"classes": {"oxide": []}})
    assert refused.count("There are") == 1
    _, refused = said(made, monkeypatch, card, acceptance={"classes": {"good": []}})
    assert "no class of defect 'good'" in refused


def test_a_model_that_is_not_made_yet_is_said_by_check(made):
    (made.folder / "surface").rmdir()
    (odd,) = [one for one in advice(made.config()) if one.startswith("cameras.top")]
    assert odd.startswith("cameras.top.model: no model at ")


def test_what_the_model_tells_and_the_table_does_not_is_said(made, monkeypatch, card):
    (odd,), _ = said(made, monkeypatch, card, acceptance={"classes": {"lying": []}})
    assert odd.startswith("cameras.top.acceptance.classes: nothing about standing,")


def test_a_place_beyond_every_picture_is_said(made, monkeypatch, card):
    table = TABLE | {"zones": {"seal": {"rectangle": [0, 0, 30, 30]}}}
    assert said(made, monkeypatch, card, acceptance=table) == ((), None)
    table = TABLE | {"zones": {"seal": {"rectangle": [0, 0, 20, 31]}}}
    (odd,), _ = said(made, monkeypatch, card, acceptance=table)
    assert odd.startswith("cameras.top.acceptance.zones.seal: reaches to 20, 31, beyond")


ACCEPTED = {"lying": [{"of": "area_mm2", "reject_over": 5}], "standing": []}


def growth(made, monkeypatch, card, *, model=None, task="masks", **camera):
    """What is said of a camera with a model of progression."""
    (model or progression(inspection=StandIn.hash)).save(made.folder / "growth")
    given = {"progression": "growth", "mm_per_pixel": 0.5, "acceptance": {"classes": ACCEPTED}}
    return said(made, monkeypatch, card.model_copy(update={"task": task}), **(given | camera))


def test_a_model_of_progression_that_fits_is_right_and_the_table_has_its_limit(
    made, monkeypatch, card
):
    assert growth(made, monkeypatch, card) == ((), None)
    config = made.config()
    (camera,) = config.plan(dict.fromkeys(config.tag_names(), 0), {"m0": 0}, {"top": 7}).cameras
    assert (camera.warn_area, camera.mm_per_pixel) == (5.0, 0.5)
    (found,) = rooms.camera_setups(config).values()
    assert found.progression.hash == rooms.progressions(config)["top"].hash


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (
            {"model": progression(inspection="another")},
            "it has learnt from features of inspection another, and ",
        ),
        ({"task": "boxes"}, "its inspection gives no masks, so no area is known"),
        (
            {"model": progression(inspection=StandIn.hash, area_unit="mm2")},
            "want one that has learnt areas in px, got mm2",
        ),
        (
            {"mm_per_pixel": None, "acceptance": None, "alarm": {"warn_area_mm2": 2}},
            "alarm.warn_area_mm2 wants mm_per_pixel beside it",
        ),
        ({"progression": "nowhere"}, "nowhere. `watchkeeper vision progression` makes it"),
        ({"progression": "surface"}, "surface"),
    ],
)
def test_a_model_of_progression_that_does_not_fit_is_refused(
    made, monkeypatch, card, changed, says
):
    _, refused = growth(made, monkeypatch, card, **changed)
    assert says in refused


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"acceptance": None}, "cameras.top.progression: warns of nothing: want alarm."),
        (
            {"acceptance": {"classes": {
                "lying": [{"of": "area_mm2", "reject_over": 5}],
                "standing": [{"of": "area_px", "reject_over": 8}],
            }}},
            "rejects at several areas, of which the least counts for all defects together (2): ",
        ),
        (
            {"acceptance": None, "progression": None, "alarm": {"warn_area_mm2": 2}},
            "cameras.top.alarm.warn_area_mm2: nothing is foretold without `progression`",
        ),
        (
            {"model": progression(inspection=StandIn.hash, error=1.9)},
            "is not better than the simple ways beside it (an error of 1.9 px, of theirs 1.5)",
        ),
    ],
)  # fmt: skip
def test_what_is_odd_about_a_model_of_progression_is_said(made, monkeypatch, card, changed, says):
    (odd,), _ = growth(made, monkeypatch, card, **changed)
    assert says in odd


def test_rules_in_mm_without_a_scale_are_said(made):
    table = {"classes": {"lying": [{"of": "length_mm", "reject_over": 5}]}}
    made.settings["cameras"]["top"] |= {"acceptance": table}
    (odd,) = [one for one in advice(made.save().config()) if one.startswith("cameras.top")]
    assert "no mm_per_pixel" in odd
    assert "classes.lying: length_mm" in odd


def test_a_model_and_templates_that_do_not_fit_are_refused(made, monkeypatch, card):
    _, refused = said(made, monkeypatch, paired(card))
    assert "want `template`" in refused
    golden = made.folder / "golden.png"
    for shape, words in (
        ((24, 24, 1), None),
        ((24, 24, 3), "want uint8 with 1 channels, as its model has learnt from; got uint8 with 3"),
        ((24, 64, 1), "64 pixels wide; the pictures that its model has learnt from were 24 to 24"),
    ):
        golden.write_bytes(png(noise(1, *shape)))
        _, refused = said(made, monkeypatch, paired(card), template="golden.png")
        assert (refused is None) if words is None else (words in refused)
    _, refused = said(made, monkeypatch, paired(card), template="nothing")
    assert "nothing: no template" in refused
    _, refused = said(made, monkeypatch, card, template="golden.png")
    assert "its model has learnt without, and takes none" in refused

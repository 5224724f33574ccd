"""Cameras in a configuration: what they are bound to, and what is said where they cannot be."""

import pytest
from support import plants
from support.cameras import with_camera
from support.watching import StandIn

from connectors.contract import TagRef
from monitor.core.plan import SECOND, Camera, PictureAlarmSettings
from monitor.site import plant as rooms
from monitor.site.problems import ConfigError, ModelMissingError


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
    found = rooms.inspectors(made.save().config())
    assert isinstance(found["top"], StandIn)
    assert found["top"] is found["side"]
    assert "back" not in found


def test_a_model_that_is_not_there_yet_is_said_to_be_missing(made):
    (made.folder / "surface").rmdir()
    with pytest.raises(ModelMissingError, match="camera top"):
        rooms.inspectors(made.config())

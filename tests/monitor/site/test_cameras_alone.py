"""A plant that cameras alone watch: no kinds, no channels, no dummy recordings."""

import re
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from support import plants
from support.commands import watchkeeper
from support.plants import until
from support.watching import STRANGE, StandIn, painted, put

from monitor.cli.figures import _say_received
from monitor.core.conservation import Conservation
from monitor.site import cameras as rooms
from monitor.site.problems import ConfigError
from monitor.web.cameras import CameraPages

PAGE = Path(__file__).parents[3] / "docs" / "cameras.md"


def example() -> str:
    """The whole plant that the page shows."""
    (found,) = re.findall(r"```yaml\n(config_version:.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    return found


@pytest.fixture
def made(tmp_path, monkeypatch):
    monkeypatch.setattr(rooms, "Inspection", StandIn)
    (tmp_path / "pictures" / "top").mkdir(parents=True)
    (tmp_path / "surface").mkdir()
    settings = {
        "config_version": 1,
        "site": {"name": "works", "data_dir": "data"},
        "sources": {"eyes": {"type": "camera", "folder": {"path": "pictures", "poll_s": 0.05}}},
        "assets": {"mill": {}},
        "cameras": {
            "top": {
                "source": "eyes",
                "asset": "mill",
                "model": "surface",
                "acceptance": {"classes": {"scratch": [{"of": "count", "reject_over": 0}]}},
            }
        },
    }
    return plants.Plant(tmp_path, settings).save()


def test_the_plant_on_the_page_is_right(tmp_path):
    file = tmp_path / "plant.yaml"
    file.write_text(example(), encoding="utf-8")
    said = watchkeeper("check", file, "--json")
    assert (said.code, said.json["ok"], said.json["cameras"]) == (0, True, 1)
    assert [one.partition(":")[0] for one in said.json["warnings"]] == [
        "cameras.top.model",
        "sinks",
    ]


@pytest.mark.parametrize(
    ("asset", "said"),
    [
        ({"source": "eyes"}, "assets.mill: 'kind' is missing: what has 'source' has a kind, too"),
        ({"kind": "pump"}, "'kinds' is missing: some assets name a kind"),
    ],
)
def test_an_asset_has_a_kind_and_a_source_or_neither(made, asset, said):
    made.settings["assets"]["mill"] = asset
    with pytest.raises(ConfigError) as error:
        made.save().config()
    assert any(said in str(one) for one in error.value.problems), error.value


def test_what_nobody_watches_wants_a_kind(made):
    made.settings["assets"]["press"] = None
    with pytest.raises(ConfigError, match=r"assets.press: 'kind' is missing; only what a camera"):
        made.save().config()


async def test_it_is_watched_as_any_other(made):
    made.settings["sources"]["eyes"]["folder"]["name"] = r"(?P<part>.+)\.png"
    made.save()
    put(made.folder / "pictures" / "top", 1, painted(1))
    put(made.folder / "pictures" / "top", 2, painted(2, STRANGE))
    async with plants.serving(made) as running:
        await until(lambda: len(running.store.alarms()) == 2)
        assert running.status["samples_stored"] == 2
        (reject,) = [one for one in running.store.alarms() if one.point == "top reject"]
        pages = CameraPages(
            database=running.database,
            cameras=lambda: running.service.setup.plan.cameras,
            zone=ZoneInfo("UTC"),
        )
        assert "part p2" in pages.page()
    assert "the picture of part p2 is graded reject" in reject.reason  # named by its file
    said = watchkeeper("status", made.file)
    assert said.code == 0, said.err
    lines = said.out.splitlines()
    assert "pictures 2 received = 2 inspected + 0 duplicate + 0 rejected + 0 waiting" in lines
    assert not any(line.startswith(("samples", "frames")) for line in lines)
    assert any(line.startswith("source   eyes: was running, last picture 2023-") for line in lines)
    assert "asset    mill: cameras alone watch it" in lines
    (camera,) = [line for line in lines if line.startswith("camera   top of mill: ")]
    assert "scratch 90%, surprise 6.0, reject, part p2, 2023-" in camera
    assert camera.endswith("; the last 2: reject 1, accept 1")
    assert "cameras alone" in watchkeeper("plot", made.file, "mill").err
    assert "pictures are not backfilled" in watchkeeper("backfill", made.file).err


def test_pictures_that_wait_are_in_their_sum_and_not_in_that_of_samples(capsys):
    counts = Conservation(received=40, stored=8, waiting=32).to_json()
    samples = Conservation(received=300, stored=300).to_json()
    _say_received(
        {"sources": {"eyes": counts | {"pictures": True}, "rig": samples | {"pictures": False}}}
    )
    assert capsys.readouterr().out.splitlines() == [
        "samples  300 received = 300 stored + 0 duplicate + 0 late + 0 rejected",
        "pictures 40 received = 8 inspected + 0 duplicate + 0 rejected + 32 waiting",
    ]

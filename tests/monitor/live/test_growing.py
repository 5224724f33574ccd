"""Pictures of one place, from a folder to a warning; a restart and a replay end where it ended."""

from types import SimpleNamespace

import numpy as np
import pytest
from support import plants
from support.cameras import with_camera
from support.growing import progression
from support.plants import until
from support.watching import StandIn, painted, put

from models.vision.inspected import Defect
from monitor.site import cameras as rooms
from monitor.state.database import DatabaseReader
from monitor.state.picture_results import PictureResults

HASH = StandIn.hash


class Pits(StandIn):
    """Sees a pit as long as the picture is bright, and features that hang on all of it."""

    card = SimpleNamespace(
        task="masks",
        classes=("good", "scratch"),
        good="good",
        seen=SimpleNamespace(paired=False, widths=(8, 8), heights=(8, 8)),
    )

    def one(self, picture):
        found = super().one(picture)
        length = round(float(picture.mean()) / 10)
        mask = np.ones((1, length), bool)
        pit = Defect(label="scratch", probability=0.9, box=(0.0, 0.0, length, 1.0), mask=mask)
        features = np.array([picture.std() / 9, picture[0, 0, 0] / 90], np.float32)
        return type(found)(
            **{name: getattr(found, name) for name in found.__slots__}
            | {"defects": (pit,), "features": features}
        )


@pytest.fixture
def made(tmp_path, monkeypatch):
    monkeypatch.setattr(rooms, "Inspection", Pits)
    monkeypatch.setattr(StandIn, "load", classmethod(lambda cls, _folder: cls()))
    made = with_camera(
        plants.plant(tmp_path / "plant", model=None),
        mm_per_pixel=0.5,
        progression="growth",
        acceptance={"classes": {"scratch": [{"of": "area_mm2", "reject_over": 4}]}},
    )
    # every picture is of the same part
    made.settings["sources"]["eyes"]["folder"]["name"] = r"(?P<part>[a-z]+)\d+\.png"
    return made.save()


def grow(made, numbers):
    for number in numbers:  # 5, 6, ... 16 pixels
        put(made.folder / "pictures" / "top", number, painted(number, 40 + 10 * number))


def stored(running):
    counts = running.service.stepper.shown.get("conservation", {}).get("eyes", {})
    return counts.get("stored", 0)


async def inspected(made, count):
    async with plants.serving(made) as running:
        await until(lambda: stored(running) == count)
        results = PictureResults(running.database).read()[::-1]
        alarms = [one for one in running.store.alarms() if one.alarm_class == "picture"]
    return results, {one.point: one for one in alarms}


async def test_a_warning_comes_before_the_reject(made):
    progression(longer=1.0, inspection=HASH).save(made.folder / "growth")
    grow(made, range(14))
    results, alarms = await inspected(made, 14)
    assert [one.outlook.now for one in results] == pytest.approx(
        [0.25 * one.area_px for one in results]
    )
    assert alarms["top growth"].raised < alarms["top reject"].raised
    first = next(one for one in results if one.outlook.area > 4)
    assert alarms["top growth"].raised == first.time
    assert alarms["top growth"].threshold == 4


async def test_after_a_restart_and_in_a_replay_outlooks_have_the_same_bits(made):
    progression(inspection=HASH).save(made.folder / "growth")
    grow(made, range(6))
    await inspected(made, 6)
    grow(made, range(6, 12))
    results, _ = await inspected(made, 12)
    assert None not in [one.outlook for one in results]
    plants.replay(made)
    with DatabaseReader(made.data / "backfill") as database:
        again = PictureResults(database).read()[::-1]
    assert again == results

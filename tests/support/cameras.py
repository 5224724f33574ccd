"""Plants with cameras."""

import types

from support import plants
from support.watching import StandIn

from monitor.core.plan import Camera, Plan

PLAN = Plan(
    site="works",
    kinds={},
    assets=(),
    cameras=(Camera(name="top", id=0, asset="m0", source="eyes"),),
)


def module(stand_in: type[StandIn] = StandIn) -> types.ModuleType:
    """What stands in the place of models.vision.inspection."""
    found = types.ModuleType("models.vision.inspection")
    found.Inspection = stand_in  # type: ignore[attr-defined]
    return found


def with_camera(made: plants.Plant, **camera: object) -> plants.Plant:
    """The same with a camera "top" of its first machine; its pictures lie in pictures/top."""
    (made.folder / "pictures" / "top").mkdir(parents=True)
    (made.folder / "surface").mkdir()
    made.settings["sources"]["eyes"] = {
        "type": "camera",
        "folder": {
            "path": "pictures",
            "poll_s": 0.05,
            "name": r"(?P<part>[a-z]+\d+)\.png",
        },
    }
    made.settings["cameras"] = {
        "top": {"source": "eyes", "asset": "m0", "model": "surface", **camera}
    }
    return made.save()

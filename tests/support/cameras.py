"""Plants with cameras."""

from support import plants

from monitor.core.plan import Camera, Plan

PLAN = Plan(
    site="works",
    kinds={},
    assets=(),
    cameras=(Camera(name="top", id=0, asset="m0", source="eyes"),),
)


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

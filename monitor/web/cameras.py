"""/cameras, a page of what cameras saw last, and /pictures/HASH: what people look at.

A page without scripts, which loads itself anew. Reads what is stored, in threads of its own.
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from itertools import groupby
from zoneinfo import ZoneInfo

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from models.vision.acceptance import Grade
from monitor.core.plan import SECOND, Camera
from monitor.core.records import Outlook, PictureResult
from monitor.state.database import DatabaseReader
from monitor.state.picture_results import PictureResults
from monitor.state.pictures import PictureStore

LOOKED_THROUGH = 300  # the newest results of a camera, for those with defects
SHOWN = 8  # of them
AGAIN_S = 10  # when a browser loads the page anew
TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}
SAFE = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
}

STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; color: #1d2733; margin: 1.5rem; max-width: 90rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.2rem; margin: 1.8rem 0 .4rem; }
h3 { font-size: 1rem; margin: .8rem 0 .4rem; }
.row { display: flex; flex-wrap: wrap; gap: .8rem; align-items: flex-start; }
figure { margin: 0; width: 9.6rem; border: 1px solid #d9dee3; border-radius: 4px; }
figure { overflow: hidden; }
figure.last { width: 18rem; }
img, .gone { display: block; width: 100%; aspect-ratio: 1; object-fit: contain; }
img, .gone { background: #f3f4f6; }
.gone { display: grid; place-items: center; color: #66727f; }
figcaption { padding: .4rem .6rem; font-size: .85rem; overflow-wrap: anywhere; }
.muted { color: #66727f; } .wrong { color: #b4231f; font-weight: 600; }
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraPages:
    """What can be shown of the cameras of a service."""

    database: DatabaseReader
    cameras: Callable[[], Sequence[Camera]]  # those in force
    zone: ZoneInfo

    def routes(self) -> list[Route]:
        """Where it is answered."""
        return [
            Route("/cameras", self._page),
            Route("/pictures/{digest}", self._picture),
            Route("/pictures/{digest}/overlay", self._overlay),
        ]

    async def _page(self, _request: Request) -> Response:
        page = await asyncio.to_thread(self.page)
        return HTMLResponse(page, headers=SAFE | {"Cache-Control": "no-store"})

    async def _picture(self, request: Request) -> Response:
        return await asyncio.to_thread(self._file, request.path_params["digest"], overlay=False)

    async def _overlay(self, request: Request) -> Response:
        return await asyncio.to_thread(self._file, request.path_params["digest"], overlay=True)

    def _file(self, digest: str, *, overlay: bool) -> Response:
        """A picture, or its overlay; where there is no overlay, the picture as it came."""
        path = PictureStore(self.database).shown(digest, overlay=overlay)
        try:
            content = None if path is None else path.read_bytes()
        except FileNotFoundError:  # let go of meanwhile
            content = None
        if path is None or content is None:
            return Response("This picture is not kept.\n", 404, SAFE, "text/plain")
        kind = TYPES.get(path.suffix, "application/octet-stream")
        return Response(content, media_type=kind, headers=SAFE | {"Cache-Control": "no-cache"})

    def page(self) -> str:
        """All cameras, by asset: the last picture, and the last ones with something wrong."""
        cameras = sorted(self.cameras(), key=lambda camera: (camera.asset, camera.name))
        parts = [
            f"<h2>{escape(asset)}</h2>" + "".join(self._camera(camera) for camera in some)
            for asset, some in groupby(cameras, key=lambda camera: camera.asset)
        ]
        body = "".join(parts) or "<p>No cameras are configured.</p>"
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            f'<meta http-equiv="refresh" content="{AGAIN_S}"><title>Watchkeeper: cameras</title>'
            f"<style>{STYLE}</style></head><body><h1>Cameras</h1>{body}</body></html>"
        )

    def _camera(self, camera: Camera) -> str:
        found = PictureResults(self.database).read(camera.id, limit=LOOKED_THROUGH)
        head = f"<h3>{escape(camera.name)}</h3>"
        if not found:
            return f'{head}<p class="muted">No picture was inspected yet.</p>'
        last, wrong = found[0], [one for one in found if one.is_wrong][:SHOWN]
        row = "".join(self._figure(one) for one in wrong if one is not last)
        return f'{head}<div class="row">{self._figure(last, "last")}{row}</div>'

    def _figure(self, one: PictureResult, name: str = "") -> str:
        said = "not inspected" if not one.label else f"{one.label} {one.probability:.0%}"
        if one.rejected:
            said = re.sub("_", " ", one.rejected)
        facts = [
            f'<span class="{"wrong" if one.is_wrong else ""}">{escape(said)}</span>',
            *([] if one.surprise is None else [f"surprise {one.surprise:.1f}"]),
            *([] if one.grade is Grade.NONE else [f"grade {one.grade}"]),
            *([f"part {escape(one.part)}"] if one.part else []),
            *_foretold(one.outlook),
        ]
        moment = datetime.fromtimestamp(one.time // SECOND, UTC).astimezone(self.zone)
        when = f'<span class="muted">{moment:%Y-%m-%d %H:%M:%S}</span>'
        return (
            f'<figure class="{name}">{self._image(one)}'
            f"<figcaption>{'<br>'.join([*facts, when])}</figcaption></figure>"
        )

    def _image(self, one: PictureResult) -> str:
        if PictureStore(self.database).shown(one.hash) is None:
            return '<div class="gone">no longer kept</div>'
        there = f"/pictures/{one.hash}"
        return f'<a href="{there}"><img src="{there}/overlay" alt="{escape(one.label)}"></a>'


def _foretold(outlook: Outlook | None) -> list[str]:
    """What it will grow to; or how soon it begins."""
    if outlook is None:
        return []
    if outlook.onset is not None:
        return [f"begins soon: {outlook.onset:.0%}"]
    unit = outlook.unit.replace("mm2", "mm²")
    return [f"{outlook.now:.3g} {unit}, foretold {outlook.area:.3g}"]

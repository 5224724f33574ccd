"""HTTP for machines that watch the watcher, and for people who look at pictures.

/healthz, /readyz and /metrics; /cameras, a page, and /pictures/HASH, which alarms link to. Runs in
the service's own event loop, so that /healthz says something about it. Answers nothing that changes
anything, and knows no secrets; whoever reaches the port may read it.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from monitor.live.health import judge
from monitor.live.metrics import CONTENT_TYPE, exposition
from monitor.live.standing import ServiceStanding
from monitor.web.cameras import CameraPages

GRACE_S = 2  # how long an answer that has begun may take at the end
CALLERS = 64  # at once; the next ones are told to come again
FRESH = {"Cache-Control": "no-store"}  # an answer is of its moment

See = Callable[[], Awaitable[ServiceStanding]]


def app(see: See, cameras: CameraPages | None = None) -> Starlette:
    """The application; ``see`` tells how the service stands, ``cameras`` what they saw."""

    async def healthz(_request: Request) -> Response:
        health = judge(await see())
        return _said("alive", fine=health.alive, reasons=health.reasons)

    async def readyz(_request: Request) -> Response:
        health = judge(await see())
        return _said("ready", fine=health.ready, reasons=health.reasons)

    async def metrics(_request: Request) -> Response:
        page = await asyncio.to_thread(exposition, await see())
        return Response(page, media_type=CONTENT_TYPE, headers=FRESH)

    async def index(_request: Request) -> Response:
        paths = ["/healthz", "/readyz", "/metrics", *([] if cameras is None else ["/cameras"])]
        links = "".join(f'<p><a href="{path}">{path}</a></p>' for path in paths)
        return HTMLResponse(
            f"<!doctype html><title>Watchkeeper</title><h1>Watchkeeper</h1>{links}", headers=FRESH
        )

    return Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", metrics),
            Route("/", index),
            *([] if cameras is None else cameras.routes()),
        ]
    )


def _said(word: str, *, fine: bool, reasons: tuple[str, ...]) -> Response:
    body = {word: fine, "reasons": list(reasons)}
    return JSONResponse(body, status_code=200 if fine else 503, headers=FRESH)


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens there. Raises OSError with the address where that cannot be."""
    try:
        family, *_, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.create_server(address[:2], family=family)
    except OSError as error:
        raise OSError(error.errno, error.strerror, f"web: {host}:{port}") from None
    with listener:
        yield listener


@asynccontextmanager
async def serving(
    see: See, listener: socket.socket, cameras: CameraPages | None = None
) -> AsyncIterator[None]:
    """Answer on the socket while the block runs."""
    server = _Server(
        uvicorn.Config(
            app(see, cameras),
            lifespan="off",
            access_log=False,
            log_config=None,
            log_level="warning",
            server_header=False,
            limit_concurrency=CALLERS,
            timeout_graceful_shutdown=GRACE_S,
        )
    )
    task = asyncio.create_task(server.serve(sockets=[listener]), name="web")
    try:
        yield
    finally:
        server.should_exit = True
        await task


class _Server(uvicorn.Server):
    """Leaves the signals to the command that runs it."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

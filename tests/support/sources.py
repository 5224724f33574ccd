"""Sources that do what a test says, and the world that they are opened in."""

import asyncio
import contextlib
import inspect
import math
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from connectors.batch import Notice, NoticeKind, Samples
from monitor.live.clock import Clock, SystemClock
from monitor.live.intake import Behind, Desk, PictureDesk
from monitor.live.supervisor import Assignment, Supervisor
from monitor.state.database import Database
from monitor.state.journal import Journal
from monitor.state.pictures import PictureStore
from monitor.state.writer import Writer

SECOND = 1_000_000_000
ENDED = Notice(source="m", kind=NoticeKind.ENDED)


def sample(n: int, *, tag: int = 0) -> Samples:
    """One good sample of second ``n``, at position n."""
    return Samples(
        source="m",
        tag=np.full(1, tag, np.int32),
        time=np.full(1, n * SECOND, np.int64),
        value=np.zeros(1),
        status=np.zeros(1, np.uint32),
        flags=np.zeros(1, np.uint8),
        position=str(n),
    )


async def hang() -> None:
    """Never comes back; can be cancelled."""
    await asyncio.Event().wait()


class _Stuck:
    """Never comes back, whoever cancels it, until ``over`` is set."""

    def __init__(self) -> None:
        self.over = threading.Event()

    async def __call__(self) -> None:
        self.over.clear()
        while not self.over.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)


stuck = _Stuck()


class World:
    """What each opening of a source meets: the last of ``links`` again and again.

    A link is a list of what happens over it, in order; the first may already happen at the door. An
    error is raised, a batch given, a coroutine function called.
    """

    def __init__(
        self,
        *links: Any,
        door: Sequence[Any] = (),
        closing: Any = None,
        watchdog_s: float | None = None,
    ) -> None:
        """``door``: what each opening meets before its link, the last for good."""
        self.links, self.door, self.closing = list(links), list(door), closing
        self.watchdog_s = watchdog_s
        self.made = 0
        self.openings: list[float] = []
        self.resumed: list[str | None] = []
        self.accepted: list[str] = []
        self.accepting: list[Any] = [None]  # what happens then, the last for good
        self.open = 0
        self.asked = asyncio.Event()  # for a batch that does not come
        self.now: Callable[[], float] = lambda: 0.0
        self.status: dict[str, float | str] = {}

    def make(self) -> "Scripted":
        """A new source of this world."""
        self.made += 1
        return Scripted(self) if self.watchdog_s is None else Signing(self)


async def happen(event: Any) -> Any:
    """Raise an error, await what a function gives, hand on the rest."""
    if isinstance(event, BaseException):
        raise event
    if callable(event):
        found = event()
        found = await found if inspect.isawaitable(found) else found
        return None if found is True else found
    return event


class Scripted:
    """A source of a world."""

    name = "m"

    def __init__(self, world: World) -> None:
        self.world, self._link, self._open = world, [], False

    async def open(self, *, resume: str | None) -> None:
        world = self.world
        assert world.open == 0, "one session at a time"
        world.openings.append(world.now())
        world.resumed.append(resume)
        if world.door:
            await happen(world.door.pop(0) if len(world.door) > 1 else world.door[0])
        world.open += 1
        self._open = True
        self._link = list(world.links.pop(0) if len(world.links) > 1 else world.links[0])

    async def batches(self) -> AsyncIterator[Any]:
        for event in self._link:
            if callable(event):
                self.world.asked.set()
            if (batch := await happen(event)) is not None:
                yield batch

    async def accepted(self, position: str) -> None:
        accepting = self.world.accepting
        await happen(accepting.pop(0) if len(accepting) > 1 else accepting[0])
        self.world.accepted.append(position)

    def status(self) -> dict[str, float | str]:
        return dict(self.world.status)

    async def close(self) -> None:
        if self._open:
            self._open = False
            self.world.open -= 1
            await happen(self.world.closing)


class Signing(Scripted):
    """One whose peer gives a sign of life when it is opened, and then no more."""

    heard = 0.0

    @property
    def watchdog_s(self) -> float:
        assert self.world.watchdog_s is not None
        return self.world.watchdog_s


@dataclass
class HeldTime:
    """Time that passes only while somebody sleeps."""

    second: float = 0.0
    slept: list[float] = field(default_factory=list)

    def now(self) -> float:
        return self.second

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)
        self.second += seconds


@contextlib.contextmanager
def desk(folder: Path, *, clock: Clock | None = None) -> Iterator[Desk]:
    """A journal to write to, and nobody behind it."""
    with Database(folder) as database, Writer(database) as writer:
        yield Desk(
            journal=Journal(database),
            writer=writer,
            clock=clock or SystemClock(),
            behind=Behind(lambda: 1 << 62),
            committed=lambda: None,
            pictures=picture_desk(database),
        )


def picture_desk(database: Database, **given: Any) -> PictureDesk:
    """Where pictures are kept, without a bound, and nobody looks at them."""
    found = {"bound": lambda: math.inf, "taken": lambda: None} | given
    return PictureDesk(store=PictureStore(database), **found)


def assignment(make: Callable[[], Any], *, expected_s: float = 30.0, **tags: int) -> Assignment:
    """To watch the source m for these tags."""
    wanted = {number: name for name, number in tags.items()}
    return Assignment(name="m", make=make, tags=wanted, expected_s=expected_s)


@contextlib.asynccontextmanager
async def supervised(
    world: Any,
    folder: Path,
    *,
    clock: Clock | None = None,
    time: HeldTime | None = None,
    **given: Any,
) -> AsyncIterator[Supervisor]:
    """A source of the world under a supervisor; stopped with the block."""
    held: dict[str, Any] = {} if time is None else {"now": time.now, "sleep": time.sleep}
    if time is not None:
        world.now = time.now
    with desk(folder, clock=clock) as place:
        found = Supervisor(assignment(world.make, **given), desk=place, **held)
        found.start()
        try:
            yield found
        finally:
            stopping = asyncio.create_task(found.stop())
            while not stopping.done() or found._calls._left:
                stuck.over.set()
                await asyncio.sleep(0.01)
            await stopping

"""Pictures that a test paints, a network that sees them, and a watcher of both to be killed.

``python watching.py FOLDER POINT`` takes the pictures of FOLDER/top in and inspects them, without
the step, and kills itself at POINT: "row", before a picture's row is written; "result", before its
result is; "hang", while the other process hangs in it, whose number FOLDER/pid tells. Networks
travel to another process, so they and what they do are all of this module.
"""

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
from support.pictures import noise, png
from support.sources import picture_desk

from connectors.camera import Source
from connectors.camera.settings import FolderSettings, ReadingSettings
from connectors.contract import TagRef
from models.vision.inspected import Defect, Inspected
from monitor.live.clock import SystemClock
from monitor.live.grading import CameraSetup
from monitor.live.inspecting import Inspecting
from monitor.live.intake import Behind, Desk
from monitor.live.supervisor import Assignment, Supervisor
from monitor.state.database import Database
from monitor.state.journal import Journal
from monitor.state.pictures import PictureStore
from monitor.state.writer import Writer

SECOND = 1_000_000_000
START = 1_700_000_000  # s since 1970, as in support.plants, which would import torch
GOOD, STRANGE = 40, 200  # mean brightness


class StandIn:
    """Sees a scratch on every bright picture."""

    hash = "5" * 64

    def __init__(self, first: "Doing | None" = None) -> None:
        """``first`` is called with each picture before it is inspected."""
        self._first = first

    @classmethod
    def load(cls, _folder: str) -> "StandIn":
        return cls()

    def inspect(self, pictures: Sequence[np.ndarray], templates: object = None) -> list[Inspected]:
        assert templates is None
        for picture in pictures:
            if self._first is not None:
                self._first(picture)
        return [self.one(picture) for picture in pictures]

    def one(self, picture: np.ndarray) -> Inspected:
        """What it sees on a picture."""
        if picture.shape[2] == 3:
            raise ValueError("want grey pictures")
        strange = is_strange(picture)
        scratch = Defect(
            label="scratch", probability=0.9, box=(1.0, 2.0, 5.0, 4.0), mask=np.ones((2, 4), bool)
        )
        return Inspected(
            label="scratch" if strange else "good",
            probability=0.9,
            probabilities={"good": 0.1 if strange else 0.9, "scratch": 0.9 if strange else 0.1},
            anomaly=float(picture.mean()),
            surprise=6.0 if strange else 0.5,
            heat=np.zeros(picture.shape[:2], np.uint8),
            defects=(scratch,) if strange else (),
            features=np.zeros(2, np.float32),
        )


Doing = Callable[[np.ndarray], None]


def is_strange(picture: np.ndarray) -> bool:
    """Whether it is a bright one."""
    return bool(picture.mean() > (GOOD + STRANGE) / 2)


@dataclass(frozen=True)
class Held:
    """Notes who looks at a picture, line by line, and waits until it is let go."""

    notes: Path

    def __call__(self, _picture: np.ndarray) -> None:
        """As above."""
        with self.notes.open("a") as file:
            file.write(f"{os.getpid()}\n")
        while not self.notes.with_suffix(".go").exists():
            time.sleep(0.01)

    def let_go(self) -> None:
        """Wait no more."""
        self.notes.with_suffix(".go").touch()

    @property
    def seen(self) -> list[int]:
        """Which processes have looked, for each picture one."""
        return [int(one) for one in self.notes.read_text().split()] if self.notes.exists() else []


@dataclass(frozen=True)
class AtStrange:
    """Does this at each bright picture."""

    do: Callable[[], object]

    def __call__(self, picture: np.ndarray) -> None:
        """As above."""
        if is_strange(picture):
            self.do()


DIES = AtStrange(partial(signal.raise_signal, signal.SIGKILL))
HANGS = AtStrange(partial(time.sleep, 1000))


@dataclass(frozen=True)
class Raises:
    """Something to do: raise this."""

    error: type[Exception]

    def __call__(self) -> None:
        """As above."""
        raise self.error


class Paired(StandIn):
    """Compares with templates; notes the brightness of both."""

    notes: ClassVar[str] = "pairs"

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    @classmethod
    def load(cls, folder: str) -> "Paired":
        """As above."""
        return cls(Path(folder))

    def inspect(self, pictures: Sequence[np.ndarray], templates: object = None) -> list[Inspected]:
        """As above."""
        assert isinstance(templates, Sequence)
        with (self._folder / self.notes).open("a") as file:
            for one, its in zip(pictures, templates, strict=True):
                file.write(f"{int(one.mean())} {int(its.mean())}\n")
        return super().inspect(pictures)


class Named(Paired):
    """Is the one that ``name`` in its folder says; without that it is damaged."""

    card = SimpleNamespace(
        task="masks",
        classes=("good", "scratch"),
        good="good",
        seen=SimpleNamespace(paired=True, depth="uint8", channels=1, widths=(8, 8), heights=(8, 8)),
    )

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.hash = (folder / "name").read_text()


class Unreadable(StandIn):
    """Cannot be loaded where it is to work."""

    def __reduce__(self) -> tuple[object, ...]:
        return Raises(ImportError), ()


def painted(number: int, brightness: int = GOOD) -> bytes:
    """A grey picture, unlike every other."""
    return png(noise(number, 8, 8, 1) // 16 + np.uint8(brightness))


def put(folder: Path, number: int, content: bytes, *, part: str = "p") -> None:
    """A picture into a folder as a camera does it: renamed into place."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{number}.tmp"
    partial.write_bytes(content)
    time = (START + number) * SECOND
    os.utime(partial, ns=(time, time))
    partial.rename(folder / f"{part}{number}.png")


async def take_in(folder: Path, count: int, inspector: StandIn | None = None) -> None:
    """Take in what lies in FOLDER/top, until so many pictures are inspected."""
    how = FolderSettings(path=str(folder), poll_s=0.02)
    settings = ReadingSettings(type="camera", folder=how)
    with Database(folder / "data") as database, Writer(database) as writer:
        cameras = {
            0: CameraSetup(
                name="top", inspector=inspector or StandIn(), mm_per_pixel=None, recipe=None
            )
        }
        inspecting = Inspecting(
            database,
            writer,
            cameras=lambda: cameras,
            clock=SystemClock(),
            journaled=lambda: None,
        )
        desk = Desk(
            journal=Journal(database),
            writer=writer,
            clock=SystemClock(),
            behind=Behind(lambda: 1 << 60),
            committed=lambda: None,
            pictures=picture_desk(database, taken=inspecting.wake),
        )
        tags = [TagRef(id=0, address="top")]
        watched = Assignment(
            name="eyes",
            make=lambda: Source("eyes", settings, tags),
            tags={0: "top"},
            expected_s=60.0,
        )
        supervisor = Supervisor(watched, desk=desk)
        inspecting.start()
        supervisor.start()
        try:
            async with asyncio.timeout(30):
                while inspected(database) < count:  # noqa: ASYNC110 - the journal does not call
                    await asyncio.sleep(0.02)
        finally:
            await supervisor.stop()
            inspecting.stop()


def inspected(database: Database) -> int:
    """How many pictures have their result in the journal."""
    ((count,),) = database.query("SELECT COUNT(*) FROM journal WHERE kind = 'picture_result'")
    return int(count)


def _die(*_: object, **__: object) -> None:
    os._exit(9)


def _die_when_held(notes: Path) -> None:
    while not Held(notes).seen:
        time.sleep(0.01)
    _die()


def main(folder: Path, point: str) -> None:
    """See above."""
    if point == "row":
        PictureStore.take = _die  # type: ignore[method-assign]
    if point == "hang":
        threading.Thread(target=_die_when_held, args=(folder / "pid",), daemon=True).start()
    if point == "result":
        Inspecting._journal_all = _die  # type: ignore[method-assign]
    threading.excepthook = _die
    first = Held(folder / "pid") if point == "hang" else None
    asyncio.run(take_in(folder, len(list((folder / "top").iterdir())), StandIn(first)))


if __name__ == "__main__":
    from support import watching  # its networks go to a process that knows them by this name

    watching.main(Path(sys.argv[1]), sys.argv[2])

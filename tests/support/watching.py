"""Pictures that a test paints, a network that sees them, and a watcher of both to be killed.

``python watching.py FOLDER POINT`` takes the pictures of FOLDER/top in and inspects them, without
the step, and kills itself at POINT: "row", before a picture's row is written; "look", when it looks
at a bright one; "result", before its result is; "" never: it ends once all are inspected.
"""

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

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

    def __init__(self, seen: Callable[[int], None] = lambda _: None) -> None:
        """``seen`` is called with how many pictures are to be inspected, before they are."""
        self.seen = seen

    @classmethod
    def load(cls, _folder: str) -> "StandIn":
        return cls()

    def inspect(self, pictures: Sequence[np.ndarray], templates: object = None) -> list[Inspected]:
        assert templates is None
        self.seen(len(pictures))
        return [self._one(picture) for picture in pictures]

    def _one(self, picture: np.ndarray) -> Inspected:
        if picture.shape[2] == 3:
            raise ValueError("want grey pictures")
        strange = bool(picture.mean() > (GOOD + STRANGE) / 2)
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


async def take_in(folder: Path, count: int, *, inspector: StandIn | None = None) -> None:
    """Take in what lies in FOLDER/top, until so many pictures are inspected."""
    how = FolderSettings(path=str(folder), poll_s=0.02)
    settings = ReadingSettings(type="camera", folder=how)
    with Database(folder / "data") as database, Writer(database) as writer:
        setup = CameraSetup(
            name="top", inspector=inspector or StandIn(), mm_per_pixel=None, recipe=None
        )
        inspecting = Inspecting(
            database,
            writer,
            cameras=lambda: {0: setup},
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
        cameras = [TagRef(id=0, address="top")]
        watched = Assignment(
            name="eyes",
            make=lambda: Source("eyes", settings, cameras),
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


def _dies_of_bright(look: Callable[..., Inspected]) -> Callable[..., Inspected]:
    def one(inspector: StandIn, picture: np.ndarray) -> Inspected:
        if picture.mean() > (GOOD + STRANGE) / 2:
            _die()
        return look(inspector, picture)

    return one


def main(folder: Path, point: str) -> None:
    """See above."""
    if point == "row":
        PictureStore.take = _die  # type: ignore[method-assign]
    if point == "result":
        Inspecting._journal_all = _die  # type: ignore[method-assign]
    if point == "look":
        StandIn._one = _dies_of_bright(StandIn._one)  # type: ignore[method-assign]
    threading.excepthook = _die
    asyncio.run(take_in(folder, len(list((folder / "top").iterdir()))))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])

"""The inspection of pictures: a thread of its own, so that a slow network holds up nobody.

It takes what waits in the store, in the order in which it came, and journals one PictureResult
each. What was inspected and its result are one transaction: killed at any moment, it goes on with
the pictures that have none. The queue is the store itself, so in memory there are only the few
pictures at hand; how much may wait there is the intake's to look after.
"""

import logging
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

from connectors.payloads.image import MOST_MEGAPIXELS, Bounds, PictureError, Pixels, decode
from models.vision.contract import Inspector
from models.vision.inspected import Defect, Inspected
from models.vision.overlay import jpeg, overlay
from monitor.core.records import PictureResult, Record, SeenDefect
from monitor.live.clock import Clock
from monitor.state.database import DatabaseReader, Transaction
from monitor.state.errors import CorruptError, StorageError
from monitor.state.journal import Journal, encode
from monitor.state.pictures import PictureStore, Waiting
from monitor.state.writer import Writer

logger = logging.getLogger(__name__)

AT_ONCE = 8  # pictures at most that are unpacked and inspected together
PIXELS_AT_ONCE = 20_000_000  # the same, by their size: one that is larger comes alone
POLL_S = 0.5  # how long to wait for news before looking anyway
# What is in the store was within bounds when it came; they may have been wider then.
_ANY = Bounds(bytes=1 << 30, pixels=MOST_MEGAPIXELS * 1_000_000)

Overlays = Literal["wrong", "all", "none"]

# Why a picture that was accepted is not inspected after all
UNREADABLE, FAILED, UNKNOWN = "picture_unreadable", "inspection_failed", "unknown_camera"
NOT_SHOWN = "overlay"  # no reason to reject it


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraSetup:
    """What a camera's pictures are inspected with."""

    name: str
    inspector: Inspector | None  # None: they are kept, and nobody looks at them
    mm_per_pixel: float | None
    recipe: str | None  # of pictures that come without one
    overlays: Overlays = "wrong"  # which pictures are kept with what was found drawn on them
    strange: float = math.inf  # the surprise above which a picture without defects is wrong, too

    def shows(self, found: Inspected) -> bool:
        """Whether people are to be shown what was found on a picture."""
        wrong = bool(found.defects) or found.surprise > self.strange
        return self.overlays == "all" or (self.overlays == "wrong" and wrong)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What came of looking at a picture."""

    inspected: Inspected | None = None
    rejected: str = ""


class Inspecting:
    """Inspects pictures in a thread of its own. ``failed`` holds what ended it, if anything did."""

    def __init__(
        self,
        database: DatabaseReader,
        writer: Writer,
        *,
        cameras: Callable[[], Mapping[int, CameraSetup]],
        clock: Clock,
        journaled: Callable[[], None],
    ) -> None:
        """``cameras`` tells those in force; ``journaled`` is called when there are results."""
        self.failed: BaseException | None = None
        self._store, self._journal = PictureStore(database), Journal(database)
        self._writer, self._cameras = writer, cameras
        self._clock, self._journaled = clock, journaled
        self._news, self._stopping = threading.Event(), threading.Event()
        self._said: set[tuple[int, str]] = set()  # camera and reason: logged once a run
        self._waits = False  # for the disk: said once
        self._thread = threading.Thread(target=self._run, name="inspection", daemon=True)

    def start(self) -> None:
        """Begin with what waits."""
        self._thread.start()

    def wake(self) -> None:
        """Something new waits."""
        self._news.set()

    def stop(self) -> None:
        """Finish the pictures at hand, and leave the rest waiting. May be called twice."""
        self._stopping.set()
        self._news.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._news.clear()
                if not self._some():
                    self._news.wait(POLL_S)
        except BaseException as error:
            self.failed = error
            if not isinstance(error, StorageError):  # told to stop while it waited for the disk
                logger.exception("The inspection of pictures has failed.")

    def _some(self) -> bool:
        """Inspect the next pictures; False: none waits."""
        try:
            waiting = self._store.waiting(AT_ONCE)
        except StorageError as error:
            self._say_waiting(error)
            return False
        for number, some in groupby(waiting, key=lambda one: one.camera):
            self._inspect(self._cameras().get(number), list(some))
            if self._stopping.is_set():
                break
        return bool(waiting)

    def _inspect(self, camera: CameraSetup | None, waiting: Sequence[Waiting]) -> None:
        """Inspect pictures of one camera, and journal what came of it."""
        if camera is None or camera.inspector is None:
            seen = _Seen(rejected="" if camera is not None else UNKNOWN)
            self._journal_all([_result(one, seen, camera) for one in waiting], waiting)
            return
        for some in self._unpacked(waiting):
            found = self._looked_at(camera, some)
            for (one, pixels), seen in zip(some, found, strict=True):
                self._lay_over(camera, one, pixels, seen.inspected)
            results = [
                _result(one, seen, camera) for (one, _), seen in zip(some, found, strict=True)
            ]
            self._journal_all(results, [one for one, _ in some])

    def _unpacked(
        self, waiting: Sequence[Waiting]
    ) -> Iterator[list[tuple[Waiting, Pixels | None]]]:
        """The pixels of each, so many at once as may be; None: they do not read."""
        some: list[tuple[Waiting, Pixels | None]] = []
        size = 0
        for one in waiting:
            pixels = self._pixels(one)
            count = 0 if pixels is None else pixels.shape[0] * pixels.shape[1]
            if some and size + count > PIXELS_AT_ONCE:
                yield some
                some, size = [], 0
            some.append((one, pixels))
            size += count
        yield some

    def _pixels(self, one: Waiting) -> Pixels | None:
        while True:
            try:
                return decode(self._store.read(one.file), _ANY)
            except (CorruptError, PictureError) as error:
                self._say(one, UNREADABLE, str(error))
                return None
            except StorageError as error:  # the disk does not give it now
                self._say_waiting(error)
                if self._stopping.wait(POLL_S):
                    raise

    def _looked_at(
        self, camera: CameraSetup, some: Sequence[tuple[Waiting, Pixels | None]]
    ) -> list[_Seen]:
        """What the network sees on each. Where it fails, each is tried by itself."""
        inspector = camera.inspector
        assert inspector is not None  # noqa: S101 - looked at by whoever calls
        there = [(one, pixels) for one, pixels in some if pixels is not None]
        try:
            found = iter(inspector.inspect([pixels for _, pixels in there])) if there else iter(())
            return [
                _Seen(rejected=UNREADABLE) if pixels is None else _Seen(next(found))
                for _, pixels in some
            ]
        except Exception as error:
            if len(some) > 1:
                return [seen for one in some for seen in self._looked_at(camera, [one])]
            logger.debug("Inspection failed.", exc_info=True)
            self._say(some[0][0], FAILED, f"{type(error).__name__}: {error}")
            return [_Seen(rejected=FAILED)]

    def _lay_over(
        self, camera: CameraSetup, one: Waiting, pixels: Pixels | None, found: Inspected | None
    ) -> None:
        """Keep what was found drawn on its picture; without it the result counts all the same."""
        if pixels is None or found is None or not camera.shows(found):
            return
        try:
            self._store.keep_overlay(one.file, jpeg(overlay(pixels, found)))
        except Exception as error:
            logger.debug("Drawing failed.", exc_info=True)
            if (one.camera, NOT_SHOWN) not in self._said:
                self._said.add((one.camera, NOT_SHOWN))
                logger.warning(
                    "Source %s: what was found on a picture of camera %d cannot be shown: %s. "
                    "This is not said again.",
                    *(one.source, one.camera, f"{type(error).__name__}: {error}"),
                )

    def _journal_all(self, results: Sequence[PictureResult], waiting: Sequence[Waiting]) -> None:
        """Journal results, each with the end of its waiting."""
        now = self._clock.now()
        rows = [encode(Record(now, result)) for result in results]

        def work(tx: Transaction) -> None:
            for one, row in zip(waiting, rows, strict=True):
                if self._store.finish(tx, one.number):
                    self._journal.append(tx, row)

        size = sum(len(row.body) for row in rows)
        self._finish(lambda: self._writer.submit(work, size=size, wait_s=None))
        self._journaled()

    def _finish(self, submit: Callable[[], Future[Any]]) -> None:
        """Have it committed; while the disk takes nothing, wait and try again."""
        while True:
            try:
                submit().result()
            except StorageError as error:
                self._say_waiting(error)
                if self._stopping.wait(POLL_S):
                    raise
            else:
                if self._waits:
                    logger.info("The inspection of pictures goes on.")
                self._waits = False
                return

    def _say_waiting(self, error: StorageError) -> None:
        if not self._waits:
            logger.error("The inspection of pictures waits for the disk: %s", error)
        self._waits = True

    def _say(self, one: Waiting, reason: str, words: str) -> None:
        """What is wrong with a camera's pictures, once a run."""
        if (one.camera, reason) not in self._said:
            self._said.add((one.camera, reason))
            logger.error(
                "Source %s: a picture of camera %d cannot be inspected (%s): %s. It is counted; "
                "this is not said again.",
                *(one.source, one.camera, reason, words),
            )


def _result(one: Waiting, seen: _Seen, camera: CameraSetup | None) -> PictureResult:
    """What the journal is told of a picture."""
    known = seen.inspected
    inspector = camera.inspector if camera is not None else None
    scale = camera.mm_per_pixel if camera is not None else None
    return PictureResult(
        source=one.source,
        camera=one.camera,
        time=one.time,
        part=one.part,
        recipe=one.recipe or (camera.recipe if camera is not None else None),
        hash=one.hash,
        model=inspector.hash if inspector is not None and known is not None else "",
        label="" if known is None else known.label,
        probability=0.0 if known is None else float(known.probability),
        surprise=None if known is None else float(known.surprise),
        defects=() if known is None else tuple(_defect(one, scale) for one in known.defects),
        rejected=seen.rejected,
    )


def _defect(defect: Defect, mm_per_pixel: float | None) -> SeenDefect:
    """A defect with its size, where that is known."""
    x1, y1, x2, y2 = map(float, defect.box)
    scale = mm_per_pixel or 0.0
    area = None if defect.mask is None else float(defect.mask.sum()) * scale**2
    return SeenDefect(
        label=defect.label,
        probability=float(defect.probability),
        box=(x1, y1, x2, y2),
        width_mm=(x2 - x1) * scale if scale else None,
        height_mm=(y2 - y1) * scale if scale else None,
        area_mm2=area if scale else None,
    )

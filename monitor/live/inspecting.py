"""The inspection of pictures: a thread of its own, so that a slow network holds up nobody.

It takes what waits in the store, in the order in which it came, and journals one PictureResult
each. What was inspected and its result are one transaction: killed at any moment, it goes on with
the pictures that have none. The queue is the store itself, so in memory there are only the few
pictures at hand; how much may wait there is the intake's to look after.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from itertools import groupby
from typing import Any

from connectors.payloads.image import MOST_MEGAPIXELS, Bounds, PictureError, Pixels, decode
from models.vision.contract import UnlikeError
from models.vision.inspected import Inspected
from models.vision.overlay import jpeg, overlay
from monitor.core.records import PictureResult, Record
from monitor.live.clock import Clock
from monitor.live.grading import CameraSetup, Seen, judged, recipe_of, result, shows
from monitor.live.templates import TemplateError
from monitor.state.database import DatabaseReader, Transaction
from monitor.state.errors import CorruptError, StorageError
from monitor.state.journal import Journal, encode
from monitor.state.looking import Looking
from monitor.state.pictures import PictureStore, Waiting
from monitor.state.writer import Writer

logger = logging.getLogger(__name__)

AT_ONCE = 8  # pictures at most that are unpacked and inspected together
PIXELS_AT_ONCE = 20_000_000  # the same, by their size: one that is larger comes alone
POLL_S = 0.5  # how long to wait for news before looking anyway
# What is in the store was within bounds when it came; they may have been wider then.
_ANY = Bounds(bytes=1 << 30, pixels=MOST_MEGAPIXELS * 1_000_000)

# Why a picture that was accepted is not inspected after all
UNREADABLE, UNKNOWN = "picture_unreadable", "unknown_camera"
UNLIKE, NO_TEMPLATE = "picture_unlike_learnt", "no_template"
FAILED, KILLS = "inspection_failed", "inspection_kills"
MOST_DEATHS = 2  # of the process, each time with the same picture under inspection: set aside
NOT_SHOWN = "overlay"  # no reason to reject it


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
        self._looking = Looking(database.folder)
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
            seen = Seen(rejected="" if camera is not None else UNKNOWN)
            self._journal_all([result(one, seen, camera) for one in waiting], waiting)
            return
        for some in self._portions(waiting):
            hashes = [one.hash for one in some]
            if self._looking.deaths(hashes[0]) < MOST_DEATHS:
                with self._looking.at(hashes):
                    results = [one for few in self._unpacked(some) for one in self._of(camera, few)]
            else:
                results = [result(some[0], self._set_aside(some[0]), camera)]
            self._journal_all(results, some)
            self._looking.done(hashes)

    def _portions(self, waiting: Sequence[Waiting]) -> Iterator[list[Waiting]]:
        """Together, but those by themselves with which the process has died: who was it?"""
        suspect = [one for one in waiting if self._looking.deaths(one.hash)]
        if others := [one for one in waiting if one not in suspect]:
            yield others
        yield from ([one] for one in suspect)

    def _set_aside(self, one: Waiting) -> Seen:
        words = (
            f"the process has ended {MOST_DEATHS} times while it was inspected. It is set aside, "
            f"in {self._store.folder / one.file}"
        )
        self._say(one, KILLS, words)
        return Seen(rejected=KILLS)

    def _of(
        self, camera: CameraSetup, some: Sequence[tuple[Waiting, Pixels | None]]
    ) -> Iterator[PictureResult]:
        for (one, pixels), seen in zip(some, self._looked_at(camera, some), strict=True):
            told = result(one, seen, camera)
            if pixels is not None and seen.inspected is not None and shows(camera, told):
                self._lay_over(one, pixels, seen.inspected)
            yield told

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
    ) -> list[Seen]:
        """What is seen on each, and its grade. Where that fails, each is tried by itself."""
        found: dict[int, Seen] = {}
        there: list[tuple[Waiting, Pixels]] = []
        templates: list[Pixels] = []
        for one, pixels in some:
            if pixels is None:
                found[one.number] = Seen(rejected=UNREADABLE)
            elif camera.templates is None:
                there.append((one, pixels))
            elif (template := self._template(camera, one)) is None:
                found[one.number] = Seen(rejected=NO_TEMPLATE)
            else:
                there.append((one, pixels))
                templates.append(template)
        found |= self._seen(camera, there, templates if camera.templates is not None else None)
        return [found[one.number] for one, _ in some]

    def _template(self, camera: CameraSetup, one: Waiting) -> Pixels | None:
        """How the part on a picture should look; None, and said, where nobody knows."""
        assert camera.templates is not None  # noqa: S101 - looked at by whoever calls
        recipe = recipe_of(one, camera)
        try:
            if (template := camera.templates.of(recipe)) is not None:
                return template
            why = f"no template of {f'recipe {recipe!r}' if recipe else 'a part without a recipe'}"
        except TemplateError as error:
            why = str(error)
        self._say(one, NO_TEMPLATE, why)
        return None

    def _seen(
        self,
        camera: CameraSetup,
        there: Sequence[tuple[Waiting, Pixels]],
        templates: list[Pixels] | None,
    ) -> dict[int, Seen]:
        """By the number of each picture. ``templates``: one each; None: the network wants none."""
        if not there:
            return {}
        assert camera.inspector is not None  # noqa: S101 - looked at by whoever calls
        try:
            seen = camera.inspector.inspect([pixels for _, pixels in there], templates)
            return {
                one.number: judged(camera, what, pixels)
                for (one, pixels), what in zip(there, seen, strict=True)
            }
        except Exception as error:
            if len(there) > 1:
                alone = (
                    self._seen(camera, [there[n]], None if templates is None else [templates[n]])
                    for n in range(len(there))
                )
                return {number: one for each in alone for number, one in each.items()}
            logger.debug("Inspection failed.", exc_info=True)
            reason = UNLIKE if isinstance(error, UnlikeError) else FAILED
            kind = "" if reason == UNLIKE else f"{type(error).__name__}: "
            self._say(there[0][0], reason, f"{kind}{error}")
            return {there[0][0].number: Seen(rejected=reason)}

    def _lay_over(self, one: Waiting, pixels: Pixels, found: Inspected) -> None:
        """Keep what was found drawn on its picture; without it the result counts all the same."""
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
            camera = self._cameras().get(one.camera)
            logger.error(
                "Source %s: a picture of camera %s cannot be inspected (%s): %s. It is counted; "
                "this is not said again.",
                *(
                    one.source,
                    camera.name if camera is not None else one.camera,
                    reason,
                    words.removesuffix("."),
                ),
            )

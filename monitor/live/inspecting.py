"""The inspection of pictures: in a thread that waits for a process, so that it holds up nobody.

It takes what waits in the store, in the order in which it came, lets another process look at one
picture after the other (child.py), and journals one PictureResult each. What was inspected and its
result are one transaction: killed at any moment, it goes on with the pictures that have none. The
queue is the store itself, so in memory there are only the few pictures at hand; how much may wait
there is the intake's to look after.

A picture during which that process ends, or does not answer in time, is tried once more with a new
one, and then set aside. Where it ends again and again, a new one waits longer each time.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from monitor.core.records import PictureResult, Record
from monitor.live.backoff import Backoff
from monitor.live.child import Child, EndedError
from monitor.live.clock import Clock
from monitor.live.grading import CameraSetup, Seen, result
from monitor.live.latency import percentiles
from monitor.live.seeing import Told
from monitor.live.standing import InspectionStanding
from monitor.state.database import DatabaseReader, Transaction
from monitor.state.errors import CorruptError, StorageError
from monitor.state.journal import Journal, encode
from monitor.state.pictures import PictureStore, Waiting
from monitor.state.writer import Writer

logger = logging.getLogger(__name__)

AT_ONCE = 8  # pictures at most whose results are journaled together
GROUP_S = 0.1  # how long the first of them waits for the others
POLL_S = 0.5  # how long to wait for news before looking anyway
STOP_S = 5.0  # how long the picture at hand may take once it is to stop
LATENCIES = 1024  # the last so many pictures: enough for a 99th percentile

# Why a picture that was accepted is not inspected after all; more in seeing.py
UNREADABLE, UNKNOWN = "picture_unreadable", "unknown_camera"
KILLS = "inspection_kills"
MOST_TRIES = 2  # whatever ends the process meanwhile
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
        self._writer, self._cameras = writer, cameras
        self._clock, self._journaled = clock, journaled
        self._child: Child | None = None
        self._known: Mapping[int, CameraSetup] = {}  # the cameras that it was prepared for
        self._backoff, self._pause_s = Backoff(), 0.0
        self.standing = InspectionStanding()  # never changed, but replaced: for whoever watches
        self._ready: list[tuple[Waiting, PictureResult]] = []  # to be journaled
        self._latency_ms: deque[float] = deque(maxlen=LATENCIES)
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
        """Finish the picture at hand, soon, and leave the rest waiting. May be called twice."""
        self._stopping.set()
        self._news.set()
        left_s = STOP_S
        while self._thread.is_alive():
            self._thread.join(left_s)
            if (child := self._child) is not None:
                child.kill()
            left_s = POLL_S

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
        finally:
            if self._child is not None:
                self._child.close()

    def _some(self) -> bool:
        """Inspect the next pictures; False: none waits."""
        try:
            waiting = self._store.waiting(AT_ONCE)
        except StorageError as error:
            self._say_waiting(error)
            return False
        if not waiting:
            self._is_over("No picture waits any more.")
        since = time.monotonic()
        for one in waiting:
            if (told := self._inspected(one)) is None:  # told to stop
                break
            self._ready.append((one, told))
            if time.monotonic() - since > GROUP_S:
                self._journal_all()
                since = time.monotonic()
            if self._stopping.is_set():
                break
        if self._ready:
            self._journal_all()
        return bool(waiting)

    def _inspected(self, one: Waiting) -> PictureResult | None:
        """What the journal is to be told of a picture; None: told to stop before that was known."""
        cameras = self._cameras()
        camera = cameras.get(one.camera)
        if camera is None:
            return result(one, Seen(rejected=UNKNOWN), camera)
        try:
            content = self._read(one)
        except CorruptError as error:
            self._say(one, UNREADABLE, str(error))
            return result(one, Seen(rejected=UNREADABLE), camera)
        for number in range(MOST_TRIES):
            if (child := self._prepared(cameras)) is None:
                return None
            try:
                return self._taken(one, child.look(one, content, within_s=camera.timeout_s))
            except EndedError as error:
                if self._stopping.is_set():
                    return None
                self._ended(f"{error}, at a picture of camera {camera.name}, try {number + 1}")
        words = (
            f"the process that inspects has ended {MOST_TRIES} times while it was inspected. It is "
            f"set aside, in {self._store.folder / one.file}"
        )
        self._say(one, KILLS, words)
        return result(one, Seen(rejected=KILLS), camera)

    def _read(self, one: Waiting) -> bytes:
        """The file of a picture. Raises CorruptError, StorageError: told to stop."""
        while True:
            try:
                return self._store.read(one.file)
            except CorruptError:
                raise
            except StorageError as error:  # the disk does not give it now
                self._say_waiting(error)
                if self._stopping.wait(POLL_S):
                    raise

    def _prepared(self, cameras: Mapping[int, CameraSetup]) -> Child | None:
        """A process that knows these cameras; None: told to stop, or they are others by now."""
        if self._child is not None and self._known is not cameras:  # reloaded
            self._child.close()
            self._child = None
        if self._child is not None and not self._child.alive:
            self._ended("has ended while it had nothing to do")
        while self._child is None:
            if self._stopping.wait(self._pause_s) or self._cameras() is not cameras:
                return None
            try:
                self._child = Child()
                self._child.prepare(cameras)
                self._known = cameras
            except EndedError as error:
                if self._stopping.is_set():
                    return None
                self._ended(str(error))
        return self._child

    def _ended(self, how: str) -> None:
        """The process is gone: what it has done counts, and the next one waits a little."""
        if self._child is not None:
            self._child.close()
            self._child = None
        self._pause_s = self._backoff.next_s()
        self.standing = replace(self.standing, trouble=how, restarts=self.standing.restarts + 1)
        logger.error(
            "The process that inspects pictures %s. A new one is started in %.1f s.",
            *(how, self._pause_s),
        )
        if self._ready:
            self._journal_all()

    def _is_over(self, said: str) -> None:
        """No picture waits for trouble any more."""
        if self.standing.trouble:
            logger.info(said)
            self.standing = replace(self.standing, trouble="")

    def _taken(self, one: Waiting, told: Told) -> PictureResult:
        """Its answer, with all that is to be said and kept."""
        self._is_over("Pictures are inspected again.")
        self._backoff.reset()
        self._pause_s = 0.0
        if told.why:
            self._say(one, told.result.rejected, told.why)
        not_shown = told.not_shown
        if told.overlay is not None:
            try:
                self._store.keep_overlay(one.file, told.overlay)
            except StorageError as error:
                not_shown = str(error)
        if not_shown and (one.camera, NOT_SHOWN) not in self._said:
            self._said.add((one.camera, NOT_SHOWN))
            logger.warning(
                "Source %s: what was found on a picture of camera %d cannot be shown: %s. "
                "This is not said again.",
                *(one.source, one.camera, not_shown),
            )
        return told.result

    def _journal_all(self) -> None:
        """Journal what is ready, each result with the end of its waiting."""
        ready, self._ready = self._ready, []
        now = self._clock.now()
        rows = [(one.number, encode(Record(now, told))) for one, told in ready]

        def work(tx: Transaction) -> None:
            for number, row in rows:
                if self._store.finish(tx, number):
                    self._journal.append(tx, row)

        size = sum(len(row.body) for _, row in rows)
        self._finish(lambda: self._writer.submit(work, size=size, wait_s=None))
        now = self._clock.now()
        seconds = [(now - one.received) / 1e9 for one, _ in ready]
        self._latency_ms.extend(1000 * one for one in seconds)
        self.standing = replace(
            self.standing,
            latency=self.standing.latency.plus(seconds),
            latency_ms=percentiles(self._latency_ms),
        )
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

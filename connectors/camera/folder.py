"""Pictures that are put into a folder: each once, when it is whole.

A file is whole when it looks the same in two scans, one after the other. Files are taken in the
order in which they came to be as they are (their ctime, which no program can set): one that is not
whole holds back those behind it, and as it was there before them, no scan that sees them misses it.
So a position is the ctime and name up to which all is taken. With a clock that was set back while
we were away, files can lie before it that are new; those are found where files do not stay, for
then all that is there is taken: what was taken before is recognised by camera, time and content.
"""

import asyncio
import itertools
import logging
import os
import re
import stat
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from connectors.camera.shots import Shot
from connectors.camera.way import Way
from connectors.contract import Batch, LostError, NotReadyError, RefusedError
from connectors.payloads.image import passed_over

log = logging.getLogger(__name__)

MOST_FILES, MOST_BYTES = 8, 8_000_000  # in one batch
DONE = "done"  # the folder that files are moved to, beside them
UNREADABLE = "picture_unreadable"  # we may not read it

Key = tuple[int, str]  # ctime in ns, path below the folder


class _Sign(NamedTuple):
    """By which a file that changed is told from one that did not; touching its rights does not."""

    inode: int
    size: int
    mtime: int  # ns


class _Found(NamedTuple):
    """A file as a scan saw it."""

    key: Key
    sign: _Sign
    camera: int


class FolderSource(Way):
    """Watches a folder, or several below it. It never ends."""

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        assert self._settings.folder is not None  # noqa: S101 - else it is of another way
        self._how = self._settings.folder
        self._root = Path(self._how.path)
        self._name = re.compile(self._how.name)
        self._reached: Key = (-1, "")  # up to which all is taken
        self._number = 0  # of the last batch: no two have the same position
        self._seen: dict[str, _Sign] = {}  # as of the last scan
        self._taken: dict[str, _Sign] = {}  # of what is still there
        self._to_settle: deque[tuple[str, list[_Found]]] = deque()  # by position
        self._told = False  # that a file cannot be moved or deleted
        self._passed = False  # it is said that one cannot be looked at
        self._others = False  # and that there are some of kinds that are not read

    async def open(self, *, resume: str | None) -> None:
        """See Source of the contract. NotReadyError while the folder is not there."""
        await self.close()
        self._reached = _parsed(resume)
        for address in self._cameras:
            if Path(address).is_absolute() or ".." in Path(address).parts:
                raise RefusedError(
                    f"{self.name}: {address!r} is no address: want a folder below {self._root}",
                    connector=self.name,
                )
        found = await asyncio.to_thread(self._scan, NotReadyError)
        if self._how.afterwards == "keep":
            self._taken = {one.key[1]: one.sign for one in found if one.key <= self._reached}

    async def batches(self) -> AsyncIterator[Batch]:
        """See Source of the contract."""
        self._heard()
        while True:
            ready = self._ready(await asyncio.to_thread(self._scan, LostError))
            while ready:
                some, ready = _some(ready)
                batches, whole = await asyncio.to_thread(self._read, some)
                ready = ready if whole else []
                for batch in batches:
                    yield batch
                self._heard()
            for notice in self._alive():
                yield notice
            await asyncio.sleep(self._how.poll_s)

    async def accepted(self, position: str) -> None:
        """See Source of the contract. Files that are not to stay go now."""
        settled: list[_Found] = []
        while any(position == one for one, _ in self._to_settle):
            settled += self._to_settle.popleft()[1]
        if settled and self._how.afterwards != "keep":
            await asyncio.to_thread(self._settle, settled)

    async def close(self) -> None:
        """See Source of the contract. Nothing is held open."""
        self._seen, self._taken = {}, {}
        self._to_settle.clear()

    def _scan(self, error: Callable[..., Exception]) -> list[_Found]:
        """What is there, of all cameras."""
        found = []
        for address, camera in self._cameras.items():
            folder = self._root / address
            try:
                with os.scandir(folder) as entries:
                    named: list[os.DirEntry[str]] = []
                    others: list[os.DirEntry[str]] = []
                    for one in entries:
                        (named if self._name.fullmatch(one.name) else others).append(one)
                self._say(folder, others)
                for name, seen in self._looked_at(named):
                    path = os.path.normpath(f"{address}/{name}")
                    found.append(_Found((seen.st_ctime_ns, path), _sign(seen), camera))
            except OSError as problem:
                raise error(
                    f"{self.name}: cannot look into {folder}: {problem.strerror}. Trying again; "
                    "make the folder, or give this user the right to read it",
                    connector=self.name,
                ) from problem
        return found

    def _say(self, folder: Path, others: Sequence["os.DirEntry[str]"]) -> None:
        """Once: pictures of a kind that is not read would be missed without a word."""
        if not self._others and (words := passed_over(one.name for one in others)):
            self._others = True
            log.warning("%s: %s: %s. This is not said again.", self.name, folder, words)

    def _looked_at(self, entries: Sequence["os.DirEntry[str]"]) -> list[tuple[str, os.stat_result]]:
        """The files among them, by name. Raises OSError where not one can be looked at."""
        found, trouble = [], None
        for entry in entries:
            try:
                found.append((entry.name, entry.stat()))
            except FileNotFoundError:
                continue
            except OSError as error:  # as a link to itself
                if not entry.is_symlink():
                    trouble = error
                if not self._passed:
                    log.warning(
                        "%s: %s cannot be looked at, and is passed over: %s. This is not said "
                        "again, of others neither.",
                        *(self.name, _portable(entry.path), error.strerror),
                    )
                self._passed = True
        if trouble is not None and not found:
            raise trouble
        return [(name, one) for name, one in found if stat.S_ISREG(one.st_mode)]

    def _ready(self, found: Sequence[_Found]) -> list[_Found]:
        """The new files that are whole, in their order, up to the first that is not."""
        ready = []
        for one in sorted(found):
            path = one.key[1]
            if self._taken.get(path) == one.sign:
                continue
            if self._seen.get(path) != one.sign:
                break
            ready.append(one)
        self._seen = {one.key[1]: one.sign for one in found}
        self._taken = {path: sign for path, sign in self._taken.items() if path in self._seen}
        return ready

    def _read(self, files: Sequence[_Found]) -> tuple[Sequence[Batch], bool]:
        """What is in files, as batches; False: one has changed, and nothing behind it is read."""
        shots: list[Shot] = []
        for one in files:
            if (shot := self._shot(one)) is None:
                break
            self._taken[one.key[1]] = one.sign
            shots.append(shot)
        taken = list(files[: len(shots)])
        if not taken:
            return [], False
        self._reached, self._number = max(self._reached, taken[-1].key), self._number + 1
        position = f"{self._reached[0]}/{self._number}/{_portable(self._reached[1])}"
        self._to_settle.append((position, taken))
        return self._gate.batches(shots, position), len(taken) == len(files)

    def _shot(self, one: _Found) -> Shot | None:
        """One file; None: it is not what the scan saw."""
        path = one.key[1]
        match = self._name.fullmatch(Path(path).name)
        assert match is not None  # noqa: S101 - the scan saw to that
        said = match.groupdict()
        content, refused = b"", ""
        try:
            with (self._root / path).open("rb") as file:
                content = file.read(self._settings.bounds.bytes + 1)
                if _sign(os.fstat(file.fileno())) != one.sign:
                    return None
        except FileNotFoundError:
            return None
        except OSError:
            refused = UNREADABLE
        time: int | None = one.sign.mtime
        if "time" in said:
            try:
                time = round(self._how.time_of(said["time"] or "").timestamp() * 1e6) * 1000
            except (ValueError, OverflowError):
                refused = refused or "time"
        return Shot(
            camera=one.camera,
            content=content,
            came=self._now(),
            time=time,
            part=said.get("part"),
            recipe=said.get("recipe"),
            name=_portable(path),
            refused=refused,
        )

    def _settle(self, files: Sequence[_Found]) -> None:
        """Delete or move files whose pictures are safe; not one that another has replaced."""
        for one in files:
            path = self._root / one.key[1]
            try:
                if _sign(path.stat()) != one.sign:
                    continue
                if self._how.afterwards == "delete":
                    path.unlink()
                else:
                    (path.parent / DONE).mkdir(exist_ok=True)
                    path.replace(_free(path.parent / DONE / path.name, one.sign.mtime))
            except FileNotFoundError:
                continue
            except OSError as error:
                if not self._told:
                    log.error(  # noqa: TRY400 - said in full
                        "%s: %s cannot be put away, and stays: %s. This is not said again.",
                        *(self.name, _portable(str(path)), error.strerror),
                    )
                self._told = True


def _free(path: Path, mtime: int) -> Path:
    """The path, or one like it where that is taken: a name that comes again replaces nothing."""
    marks = itertools.chain(
        ("", f".{mtime}"), (f".{mtime}.{number}" for number in itertools.count(2))
    )
    named = (path.with_name(f"{path.stem}{mark}{path.suffix}") for mark in marks)
    return next(one for one in named if not os.path.lexists(one))


def _sign(found: os.stat_result) -> _Sign:
    return _Sign(found.st_ino, found.st_size, found.st_mtime_ns)


def _some(ready: Sequence[_Found]) -> tuple[list[_Found], list[_Found]]:
    """The first few, and the rest."""
    count, size = 0, 0
    while count < min(len(ready), MOST_FILES) and (not count or size < MOST_BYTES):
        size += ready[count].sign.size
        count += 1
    return list(ready[:count]), list(ready[count:])


def _portable(path: str) -> str:
    return path.encode("utf-8", "replace").decode()


def _parsed(position: str | None) -> Key:
    """A position that is ours; else all is new."""
    time, _, rest = (position or "").partition("/")
    return (int(time), rest.partition("/")[2]) if time.isdecimal() else (-1, "")

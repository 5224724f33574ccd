"""Services that are killed at a named point: ``python killing.py`` reads orders from stdin.

An order is one line of JSON: a configuration, a point (or null), at which pass of it the service is
to be killed, and up to which tick it runs (or null, where its sources end). The answer, one line of
JSON too, says how it ended and how often each point was passed. Every service is a fork of this
process, which has imported everything, also the modules it is told: a start takes milliseconds, so
a test can afford many. Nothing in the program knows of this: the points are
functions of it, wrapped from outside.
"""

import asyncio
import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from support.plants import Plant

from connectors import files, mqtt, opcua, webhook
from monitor.core.pipeline import Pipeline
from monitor.live.clock import SystemClock
from monitor.site.config import Config
from monitor.site.plant import service
from monitor.state.database import Database, DatabaseReader
from monitor.state.errors import StateError
from monitor.state.journal import Journal
from monitor.state.outbox import Outbox
from monitor.state.snapshot import Snapshots
from monitor.state.store import Store
from monitor.state.writer import Writer

LOOK_S = 0.1  # how often it is asked how far it is
SNAPSHOT_S = 0.05  # so that snapshots are taken, and used, within a run of a second

# Inside a transaction: what it wrote is not on the disk yet.
WRITES: dict[str, tuple[type[Any], str]] = {
    "journal": (Journal, "append"),
    "results": (Store, "write"),
    "outbox": (Outbox, "put"),
    "snapshot row": (Snapshots, "keep"),
    "cursor": (Outbox, "advance"),
}
CALLS: dict[str, tuple[str, tuple[type[Any], ...]]] = {
    "acknowledgement": ("accepted", (files.Source, mqtt.Source, opcua.Source)),
    "step": ("step", (Pipeline,)),
    "snapshot": ("write", (Snapshots,)),
    "delivery": ("deliver", (files.Sink, webhook.Sink)),
    "post": ("_post", (webhook.Sink,)),
}
RENAMES = {"snapshot rename": ".snapshot", "message rename": ".json"}
PAIRS = {
    **{name: (f"{name} written", f"{name} committed") for name in WRITES},
    **{name: (f"before {name}", f"after {name}") for name in (*CALLS, *RENAMES)},
}
FILES = tuple(name for name in PAIRS if name != "post")  # what recordings come through
LIVE = tuple(name for name in PAIRS if name != "message rename")  # and brokers and webhooks


class Fate:
    """Counts the passes of every point, and ends the process at one of them."""

    def __init__(
        self, point: str | None, at: int, linger_s: float, first: Callable[[], None]
    ) -> None:
        """``linger_s``: how long it lives on. ``first``: when the first results are stored."""
        self.passed: Counter[str] = Counter()
        self._point, self._at, self._first = point, at, first
        self._end = threading.Timer(linger_s, lambda: os.kill(os.getpid(), signal.SIGKILL))
        self._end.daemon = True

    def passes(self, point: str) -> None:
        self.passed[point] += 1
        if point == "results committed" and self.passed[point] == 1:
            self._first()
        if point == self._point and self.passed[point] == self._at:
            if self._end.interval:
                self._end.start()
            else:
                os.kill(os.getpid(), signal.SIGKILL)

    def wrap(self) -> None:
        """Put every point in place."""
        written: set[str] = set()
        for name, (owner, method) in WRITES.items():
            self._wrap_write(name, owner, method, written)
        for name, (method, owners) in CALLS.items():
            for owner in owners:
                self._wrap_call(name, owner, method)
        together, replace = Writer._together, Path.replace

        def committed(writer: Writer, group: Any) -> bool:
            written.clear()
            done = together(writer, group)
            for name in sorted(written):
                self.passes(f"{name} committed")
            return done

        def renamed(path: Path, target: Any) -> Path:
            point = next((p for p, end in RENAMES.items() if str(target).endswith(end)), None)
            if point is None:
                return replace(path, target)
            self.passes(f"before {point}")
            found = replace(path, target)
            self.passes(f"after {point}")
            return found

        Writer._together = committed  # type: ignore[method-assign]
        Path.replace = renamed  # type: ignore[assignment, method-assign]

    def _wrap_write(self, name: str, owner: type[Any], method: str, written: set[str]) -> None:
        original = getattr(owner, method)

        def call(*given: Any, **named: Any) -> Any:
            found = original(*given, **named)
            if found != 0:  # nothing was written: a group without messages
                written.add(name)
                self.passes(f"{name} written")
            return found

        setattr(owner, method, call)

    def _wrap_call(self, name: str, owner: type[Any], method: str) -> None:
        original = getattr(owner, method)
        if asyncio.iscoroutinefunction(original):

            async def wait(*given: Any, **named: Any) -> Any:
                self.passes(f"before {name}")
                found = await original(*given, **named)
                self.passes(f"after {name}")
                return found

            setattr(owner, method, wait)
            return

        def call(*given: Any, **named: Any) -> Any:
            self.passes(f"before {name}")
            found = original(*given, **named)
            self.passes(f"after {name}")
            return found

        setattr(owner, method, call)


def serve_until(file: str, fate: Fate, tick: int | None) -> None:
    """Run the service of a configuration to its end, or to that of this process."""
    fate.wrap()
    config = Plant(Path(file).parent, {}).config(snapshot_s=SNAPSHOT_S)
    with Database(config.data_dir) as database:
        asyncio.run(serve(config, database, tick))


async def serve(config: Config, database: Database, tick: int | None) -> None:
    """Run the service until its sources end, or all is told up to a tick."""
    made = service(config, database, clock=SystemClock())
    running = asyncio.create_task(made.run())
    while tick is not None and not running.done():
        await asyncio.wait([running], timeout=LOOK_S)
        newest = [int(rows.tick[0]) for rows in Store(database).latest().values()]
        waiting = sum(Outbox(database).backlog(name).items for name in config.sinks)
        if len(newest) == len(config.assets) and min(newest) >= tick and not waiting:
            made.stop()
    await running


def fork(order: dict[str, Any], alone: Callable[[], None]) -> dict[str, Any]:
    """Do one order in a process of its own."""
    here, there = os.pipe()
    began = time.monotonic()

    def tell(**words: Any) -> None:
        os.write(there, json.dumps(words).encode() + b"\n")

    def first() -> None:
        tell(first_s=time.monotonic() - began)

    fate = Fate(order["point"], order["at"], order["linger_s"], first)
    child = os.fork()
    if not child:
        alone()
        code = 1
        try:
            serve_until(order["file"], fate, order["tick"])
            tell(passed=fate.passed)
            code = 0
        finally:
            os._exit(code)
    os.close(there)
    if order["after_s"] is not None:
        signal.setitimer(signal.ITIMER_REAL, order["after_s"])
        signal.signal(signal.SIGALRM, lambda *_: os.kill(child, signal.SIGKILL))
    _, status = os.waitpid(child, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    told: dict[str, Any] = {"passed": {}, "first_s": None}
    with os.fdopen(here, "rb") as pipe:
        for line in pipe:
            told |= json.loads(line)
    return {"code": os.waitstatus_to_exitcode(status), **told}


class Life(NamedTuple):
    """How a service ended."""

    killed: bool
    passed: dict[str, int]  # how often it passed each point, if it was not killed
    first_s: float | None  # from its start until its first results were stored


class Executioner:
    """The process that starts services and kills them."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def run(
        self,
        file: Path,
        point: str | None = None,
        at: int = 0,
        *,
        after_s: float | None = None,
        linger_s: float = 0.0,
        tick: int | None = None,
    ) -> Life:
        """Let a service live: until a pass of a point, and ``linger_s`` more; or for ``after_s``.

        It is stopped once all assets have come to ``tick`` and the outbox is empty; None: never.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = {"file": str(file), "point": point, "at": at, "linger_s": linger_s}
        order |= {"after_s": after_s, "tick": tick}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        assert answer["code"] in (0, -signal.SIGKILL), f"the service failed: {answer}"
        return Life(answer["code"] != 0, answer["passed"], answer["first_s"])

    def kill_at_work(
        self, made: Plant, kills: int, moment: Callable[[int], dict[str, Any]]
    ) -> dict[str, Any]:
        """Kill a plant's service so often, each time after it has stored something new.

        ``moment``: when, as ``run`` takes it; told how many lives have stored nothing. Ends early
        where the service ends. How often it was killed, how long it took to store something new
        again, and how many records it had to step once more.
        """
        found: dict[str, Any] = {"times": 0, "recovered_s": [], "replayed": []}
        idle = 0
        while found["times"] < kills:
            done, snapshot = reached(made.data)
            life = self.run(made.file, **moment(idle))
            if not life.killed:
                break
            if reached(made.data)[0] == done:
                idle += 1
                continue
            found["times"] += 1
            if found["times"] > 1:
                found["recovered_s"].append(life.first_s)
                found["replayed"].append(done - snapshot)
        return found


def some_time(chance: np.random.Generator, longest_s: float) -> Callable[[int], dict[str, Any]]:
    """A life of random length; lives that stored nothing make it longer."""
    return lambda idle: {"after_s": float(chance.uniform(0.2, 1.0)) * longest_s * 1.5**idle}


def reached(folder: Path) -> tuple[int, int]:
    """Up to which record results are stored, and up to which there is a snapshot."""
    with contextlib.suppress(StateError), DatabaseReader(folder) as database:
        ((snapshot,),) = database.query("SELECT MAX(record) FROM snapshot")
        return Store(database).done(), snapshot or 0
    return 0, 0  # it was killed before it had made its tables


@contextlib.contextmanager
def executioner(*modules: str) -> Iterator[Executioner]:
    """Start the process, with modules that services need; it ends with the block."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "OMP_NUM_THREADS": "1",
    }
    with subprocess.Popen(
        [sys.executable, __file__, *modules],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        try:
            yield Executioner(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(10)


if __name__ == "__main__":
    for needed in sys.argv[1:]:
        importlib.import_module(needed)
    for line in sys.stdin:
        print(json.dumps(fork(json.loads(line), sys.stdin.close)), flush=True)  # noqa: T201 - read by the parent

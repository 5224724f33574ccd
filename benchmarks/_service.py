"""A whole service for a benchmark: its plant on disk, a broker, and the processes of both sides.

Each side runs in a process of its own, begun afresh, and tells its own CPU time: all its threads,
and no children. Told how many more it is to take, it answers at once, and again when it has them.
"""

import contextlib
import multiprocessing
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import yaml

HERE = "127.0.0.1"
START_S, STOP_S = 60.0, 20.0  # how long a process may take: torch is large
ROUND_S = 120.0  # how long a round may take, whatever is asked of it
LOOK_S = 0.1  # how often the service is asked how far it is
BROKER = """\
user root
max_queued_messages 200000
max_inflight_messages 1000
allow_anonymous true
log_dest none
listener {port} 127.0.0.1
"""
_spawn = multiprocessing.get_context("spawn")


def program(name: str) -> str | None:
    """Where a server lies, if it is installed."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


def mosquitto_or_stop() -> str:
    """The broker; where there is none, a line says so and that is all."""
    found = program("mosquitto")
    if found is None:
        print("No mosquitto here, nothing is measured: run `make servers` as root.")
        sys.exit()
    return found


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as one:
        one.bind((HERE, 0))
        return int(one.getsockname()[1])


@contextlib.contextmanager
def server(command: Sequence[str], port: int) -> Iterator[int]:
    """A server's process for the length of a block, once it accepts connections."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603 - what this file names
    try:
        until = time.monotonic() + START_S
        while process.poll() is None and time.monotonic() < until:
            with contextlib.suppress(OSError), socket.create_connection((HERE, port), 1):
                break
            time.sleep(0.02)
        else:
            raise RuntimeError(f"{command[0]} does not listen on port {port}: {process.poll()}")
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(STOP_S)


@contextlib.contextmanager
def broker(folder: Path) -> Iterator[int]:
    """Mosquitto in an empty folder; its port."""
    port = free_port()
    folder.mkdir(parents=True)
    (folder / "conf").write_text(BROKER.format(port=port), encoding="utf-8")
    with server([mosquitto_or_stop(), "-c", str(folder / "conf")], port):
        yield port


# ---- the plant -------------------------------------------------------------------------------


def plant(folder: Path, kind: Mapping[str, Any], **parts: Any) -> Path:
    """A plant's configuration on disk, with a small GRU that was trained a little."""
    from models.settings import GruSettings, TrainingSettings  # noqa: PLC0415 - torch: not for all
    from models.training import train  # noqa: PLC0415 - as above
    from monitor.history.learning import channels_of  # noqa: PLC0415 - as above
    from monitor.site import config as configuration  # noqa: PLC0415 - as above

    folder.mkdir(parents=True)
    data = {
        "config_version": 1,
        "site": {"name": "bench", "data_dir": "data"},
        "kinds": {"pump": {**kind, "model": {"bundle": "pump", "device": "cpu"}}},
        **parts,
    }
    path = folder / "plant.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    settings = configuration.load(path).kinds["pump"]
    bundle = train(
        _healthy(len(settings.channels), settings.tick_ms),
        channels_of(settings),
        GruSettings(hidden=64),
        TrainingSettings(epochs=2, learning_rate=1e-2, chunk_ticks=50, device="cpu"),
    ).bundle
    bundle.with_threshold(1000.0, provisional=False).save(folder / "pump")
    return path


def _healthy(channels: int, tick_ms: int) -> list[Any]:
    """What three machines show that are as the publishers have them: noise around 50."""
    import numpy as np  # noqa: PLC0415 - as above

    from models.contract import Stretch  # noqa: PLC0415 - as above

    random = np.random.default_rng(1)
    ticks = np.arange(400, dtype=np.int64) * tick_ms * 1_000_000
    shape = len(ticks), channels
    return [
        Stretch(
            asset=f"a{number}",
            tick=ticks,
            value=50.0 + random.normal(size=shape),
            valid=np.ones(shape, np.bool_),
        )
        for number in range(3)
    ]


# ---- processes -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Child:
    """A process, and what is said to it and heard from it."""

    process: SpawnProcess
    line: Connection

    def hear(self, patience_s: float = ROUND_S) -> Any:
        """What it says next."""
        if not self.line.poll(patience_s):
            raise RuntimeError(f"{self.process.name}: nothing heard for {patience_s:g} s")
        return self.line.recv()

    def spent(self, more: int, feed: Callable[[], object]) -> "Spent":
        """What taking so many more costs it, that it is fed with."""
        self.line.send(more)
        before = self.hear()
        feed()
        after = self.hear()
        return Spent(*(late - early for early, late in zip(before, after, strict=True)))


@dataclass(frozen=True, slots=True)
class Spent:
    """Of one process, in a round."""

    cpu_s: float
    wall_s: float


@contextlib.contextmanager
def child(work: Callable[..., None], *given: Any) -> Iterator[Child]:
    """``work(line, *given)`` in a process of its own, once it says that it is ready.

    It ends when it is told None.
    """
    line, its = _spawn.Pipe()
    process = _spawn.Process(target=work, args=(its, *given), name=work.__name__)
    process.start()
    its.close()
    one = Child(process, line)
    try:
        one.hear(START_S)
        yield one
        line.send(None)
        process.join(STOP_S)
    finally:
        if process.is_alive():
            process.kill()
        process.join()


class Counting:
    """The side's end of the line: says when it is ready, and when it is where it was told to be."""

    def __init__(self, line: Connection, first: int) -> None:
        self._line, self._first = line, first
        self._count, self._goal = 0, -1
        self._ready = False

    def reached(self, count: int) -> None:
        """So many were taken by now."""
        self._count = count
        if not self._ready and count >= self._first:
            self._ready = True
            self._line.send("ready")
        if 0 <= self._goal <= count:
            self._goal = -1
            self._line.send((time.process_time(), time.monotonic()))

    def asked(self) -> bool:
        """Hear what is said, if anything; False: that is all."""
        if self._line.poll():
            more = self._line.recv()
            if more is None:
                return False
            self._goal = self._count + more
            self._line.send((time.process_time(), time.monotonic()))
        return True


def service(line: Connection, file: Path, first: int = 0) -> None:
    """The side that is ours: the service of a configuration, with everything that it does.

    It counts the samples whose results are committed; it is ready once it has the ``first`` ones.
    """
    import asyncio  # noqa: PLC0415 - as above

    from monitor.live.clock import SystemClock  # noqa: PLC0415 - as above
    from monitor.site import config as configuration  # noqa: PLC0415 - as above
    from monitor.site.plant import service as configured  # noqa: PLC0415 - as above
    from monitor.state.database import Database  # noqa: PLC0415 - as above

    counting = Counting(line, first)

    async def serve(database: Database) -> None:
        made = configured(config, database, clock=SystemClock())
        running = asyncio.create_task(made.run())
        while not running.done():
            await asyncio.wait([running], timeout=LOOK_S)
            sources = made.stepper.shown.get("conservation", {}).values()
            counting.reached(sum(counts["received"] for counts in sources))
            if not counting.asked():
                made.stop()
        await running

    config = configuration.load(file)
    with Database(config.data_dir) as database:
        asyncio.run(serve(database))

"""Tiny plants on disk: recordings, a configuration, a trained model; and what became of them."""

import asyncio
import atexit
import contextlib
import functools
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from support.machines import healthy

from monitor.live.clock import Clock, SystemClock
from monitor.live.service import Ended, Service
from monitor.site import config as configuration
from monitor.site import past
from monitor.site import plant as rooms
from monitor.site.config import Config
from monitor.site.staging import Staging
from monitor.site.status import summary
from monitor.state.database import Database, DatabaseReader
from monitor.state.store import Store

SECOND = 1_000_000_000
START = 1_700_000_000  # s since 1970
CHANNELS = ("flow", "heat", "load")
TICKS = 300  # of a recording, if nothing else is said
FAULTS = ((120, 150), (200, 230))  # of each TICKS, when the last asset is not itself
MODELS = {
    "gru": {"type": "gru", "hidden": 8, "spans": [1, 4], "warmup_ticks": 10},
    "lstm": {"type": "lstm", "hidden": 8, "spans": [1, 4], "warmup_ticks": 10},
    "ewma": {"type": "ewma", "spans": [1, 4], "warmup_ticks": 10},
}
QUICK = {"epochs": 2, "learning_rate": 0.01, "chunk_ticks": 50, "device": "cpu"}


class Split(Enum):
    """Which recordings there are, each with a source of its own."""

    ONE = "one"
    ASSET = "one for each asset"
    CHANNEL = "one for each channel"


@dataclass(slots=True)
class Plant:
    """A folder with recordings and a configuration that may be changed between runs."""

    folder: Path
    settings: dict[str, Any]

    @property
    def file(self) -> Path:
        return self.folder / "plant.yaml"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def inbox(self) -> Path:
        return self.folder / "inbox"

    @property
    def assets(self) -> list[str]:
        return list(self.settings["assets"])

    def save(self) -> "Plant":
        self.file.write_text(yaml.safe_dump(self.settings, sort_keys=False), encoding="utf-8")
        return self

    def config(self, *, snapshot_s: float | None = None) -> Config:
        """Its configuration; ``snapshot_s`` may be shorter than a configuration can say."""
        config = configuration.load(self.file)
        if snapshot_s is None:
            return config
        state = config.state.model_copy(update={"snapshot_s": snapshot_s})
        return config.model_copy(update={"state": state})

    def messages(self) -> list[str]:
        """The ids of the messages in the sink's folder."""
        return sorted(path.stem for path in self.inbox.glob("*.json"))


def never_ending(made: Plant) -> Plant:
    """The same with another machine whose recording never comes: its service waits for it."""
    made.settings["sources"]["other"] = {"type": "files", "path": "never.csv", "layout": "wide"}
    made.settings["assets"]["m9"] = {"kind": "pump", "source": "other"}
    return made.save()


def values(asset: int, ticks: int = TICKS, *, faulty: bool = False) -> np.ndarray:
    """What a machine shows, [ticks, channels]; a faulty one has stretches off the rails."""
    found = healthy(ticks, asset, channels=len(CHANNELS))
    for first in range(0, ticks, TICKS) if faulty else ():
        for since, until in FAULTS:
            found[first + since : first + until, 0] += 25.0
    return found


def write(
    path: Path,
    columns: Mapping[str, np.ndarray],
    *,
    since: int = 0,
    order: Sequence[int] | None = None,
) -> None:
    """A wide CSV with a row a second; ``order`` says in which order its rows stand."""
    rows = len(next(iter(columns.values())))
    lines = [",".join(("time", *columns))]
    for row in range(rows) if order is None else order:
        cells = (f"{column[row]:.6f}" for column in columns.values())
        lines.append(",".join((str(START + since + row), *cells)))
    partial = path.with_suffix(".tmp")
    partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
    partial.rename(path)


def columns(
    names: Sequence[str], ticks: int = TICKS, *, healthy_only: bool = False
) -> dict[str, np.ndarray]:
    """The columns of several assets; the last of them is the faulty one."""
    return {
        f"{name}.{channel}": shown[:, place]
        for name in names
        for shown in [values(int(name[1:]), ticks, faulty=name == names[-1] and not healthy_only)]
        for place, channel in enumerate(CHANNELS)
    }


def plant(
    folder: Path,
    *,
    assets: int = 1,
    ticks: int = TICKS,
    model: str | None = "ewma",
    split: Split = Split.ONE,
    batch_rows: int = 50,
    **source: object,
) -> Plant:
    """A plant of machines m0, m1, ... with their recordings and, unless None, a trained model."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"m{number}" for number in range(assets)]
    source_of = {
        (name, channel): {
            Split.ONE: "rig",
            Split.ASSET: f"rig_{name}",
            Split.CHANNEL: f"rig_{channel}",
        }[split]
        for name in names
        for channel in CHANNELS
    }
    recordings = dict.fromkeys(source_of.values())
    shown = columns(names, ticks)
    for recording in recordings:
        whose = [f"{n}.{c}" for (n, c), source in source_of.items() if source == recording]
        write(folder / f"{recording}.csv", {name: shown[name] for name in whose})
    kind: dict[str, Any] = {
        "tick_ms": 1000,
        "channels": {
            "flow": {  # it jumps alone, and is meant: no sensor's fault
                "unit": "bar",
                "limits": {"high": 70.0, "on_delay_s": 2.0},
                "sensor": {"jump": False},
            },
            "heat": {"unit": "bar", "aggregate": "mean"},
            "load": {"unit": "bar"},
        },
        "alarm": {"off_delay_s": 5.0},
    }
    if model is not None:
        kind["model"] = {"bundle": "model", "device": "cpu"}
        kind["training"] = {"model": dict(MODELS[model]), "fit": dict(QUICK)}
        shutil.copytree(trained(model), folder / "model")
    made = Plant(
        folder,
        {
            "config_version": 1,
            "site": {"name": "works", "timezone": "Europe/Berlin", "data_dir": "data"},
            "sources": {
                name: {
                    "type": "files",
                    "path": f"{name}.csv",
                    "layout": "wide",
                    "time_format": "epoch_s",
                    "batch_rows": batch_rows,
                    **source,
                }
                for name in recordings
            },
            "kinds": {"pump": kind},
            "assets": {
                name: {
                    "kind": "pump",
                    "source": source_of[name, CHANNELS[0]],
                    "tags": {
                        channel: {
                            "source": source_of[name, channel],
                            "address": f"{name}.{channel}",
                        }
                        for channel in CHANNELS
                    },
                }
                for name in names
            },
            "sinks": {"inbox": {"type": "files", "folder": "inbox"}},
        },
    )
    made.inbox.mkdir()
    return made.save()


@functools.cache
def trained(model: str) -> Path:
    """The folder of a model trained on three healthy machines; made once a test session."""
    folder = Path(tempfile.mkdtemp(prefix="watchkeeper-model-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    made = teaching(folder / "school", model)
    learn(made)
    return made.folder / "model"


def teaching(folder: Path, model: str, *, ticks: int = 400, **fit: object) -> Plant:
    """A plant of three healthy machines whose model is not trained yet."""
    made = plant(folder, assets=3, ticks=ticks, model=None)
    write(folder / "rig.csv", columns(made.assets, ticks, healthy_only=True))
    kind = made.settings["kinds"]["pump"]
    kind["model"] = {"bundle": "model", "device": "cpu"}
    kind["training"] = {"model": dict(MODELS[model]), "fit": QUICK | fit}
    return made.save()


def learn(made: Plant, **given: Any) -> rooms.Learnt:
    """Train its model."""
    quiet: dict[str, Any] = {"progress": lambda *_: None, "should_stop": lambda: False}
    return rooms.learn(made.config(), "pump", clock=SystemClock(), **(quiet | given))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run, a backfill or a replay left behind."""

    digest: str
    events: list[tuple[str, str, int]]  # alarm, transition, tick
    summary: dict[str, Any]
    ended: Ended | None = None


def outcome(folder: Path) -> Outcome:
    """What is stored in a folder."""
    with DatabaseReader(folder) as database:
        store = Store(database)
        events = [(event.id, str(event.transition), event.tick) for event in store.alarm_events()]
        return Outcome(store.digest(), events, summary(database))


def run(
    made: Plant,
    *,
    clock: Clock | None = None,
    started: Callable[[Service], None] = lambda _: None,
    snapshot_s: float | None = None,
) -> Outcome:
    """Run the service until its sources have ended."""
    config = made.config(snapshot_s=snapshot_s)
    database = Database(config.data_dir)

    async def serve() -> Ended:
        service = rooms.service(config, database, clock=clock or SystemClock())
        started(service)
        return await service.run()

    try:
        ended = asyncio.run(serve())
    finally:
        database.close()
    return replace(outcome(made.data), ended=ended)


@dataclass(slots=True)
class Serving:
    """A service that runs beside the test."""

    task: "asyncio.Task[Ended]"
    service: Service
    database: Database

    @property
    def store(self) -> Store:
        return Store(self.database)

    @property
    def status(self) -> dict[str, Any]:
        return summary(self.database)

    async def stop(self) -> Ended:
        self.service.stop()
        return await self.task


@contextlib.asynccontextmanager
async def serving(
    made: Plant, *, clock: Clock | None = None, snapshot_s: float | None = None
) -> AsyncIterator[Serving]:
    """Run the service beside the test; it is stopped with the block."""
    config = made.config(snapshot_s=snapshot_s)
    with Database(config.data_dir) as database:
        look = Staging(made.file, config, database)
        service = rooms.service(config, database, clock=clock or SystemClock(), look=look)
        task = asyncio.create_task(service.run())
        found = Serving(task, service, database)
        try:
            yield found
        finally:
            if not task.done():
                await found.stop()


async def until(condition: Callable[[], object], *, limit_s: float = 120.0) -> None:
    """Wait for a state; fails when it does not come, however slow the machine."""
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110 - what is waited for does not know of the test
            await asyncio.sleep(0.01)


class HeldClock:
    """A clock in the test's hand, s since START."""

    def __init__(self, second: float) -> None:
        self.second = second

    def now(self) -> int:
        return round((START + self.second) * SECOND)


def backfill(made: Plant, *, since: int | None = None, until: int | None = None) -> Outcome:
    """Score the history of its sources."""
    config = made.config()
    with past.replacing_database(made.data / "backfill") as database:
        past.score_history(
            config,
            database,
            clock=SystemClock(),
            since=since,
            until=until,
            progress=lambda _samples, _time: None,
        )
    return outcome(made.data / "backfill")


def replay(made: Plant) -> Outcome:
    """Step through its journal once more."""
    with (
        past.replacing_database(made.data / "backfill") as database,
        DatabaseReader(made.data) as journal,
    ):
        past.replay_journal(made.config(), journal, database, progress=lambda _samples, _time: None)
    return outcome(made.data / "backfill")

"""`watchkeeper demo`: the whole of it once, on recordings of real machines."""

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from monitor.cli import console
from monitor.cli.backfill import FOLDER

if TYPE_CHECKING:
    from monitor.live.service import Ended
    from monitor.site.demo import Demo
    from monitor.state.database import Database


def command(
    *,
    out: Annotated[
        Path, typer.Option(help="The folder for all that it makes; an earlier demo's is replaced.")
    ] = Path("demo-output"),
) -> None:
    """Learn from two healthy machines, watch two others, and prove what is claimed.

    Recordings of real actuators are played back through the whole program. Ends with 0 where every
    claim holds, with 1 where one does not, saying which; the figures are in summary.json.
    """
    from monitor.live.clock import SystemClock  # noqa: PLC0415 - commands import when they run
    from monitor.site import plant  # noqa: PLC0415 - as above
    from monitor.site.demo import SUMMARY, judge, prepare  # noqa: PLC0415 - as above
    from monitor.state.store import Store  # noqa: PLC0415 - as above

    took: dict[str, float] = {}
    console.say("The whole program once, on real recordings: a minute or two. Ctrl-C stops it.")
    with _step("1  Preparing", took, "prepare_s"):
        demo = prepare(out)
        _tell(f"Recordings of four hydraulic actuators, and demo.yaml, are in {out}.")
        _tell("Where they come from, and what they cannot show: SOURCE.md beside them.")

    with _step("2  Learning what healthy looks like", took, "train_s"):
        _train(demo)

    watched = demo.watched
    with (
        plant.fresh_database(watched.data_dir) as live,
        plant.fresh_database(watched.data_dir / FOLDER) as again,
    ):
        with _step("3  Watching two machines that it never saw", took, "watch_s"):
            for asset, change in demo.changes.items():
                known = "stays healthy" if change is None else f"changes at {_time(demo, change)}"
                _tell(f"{asset} {known}.")
            _tell("Their recordings come in sped up: journal, frames, scores, alarms, messages.")
            ended = asyncio.run(_watch(demo, live))
            _say_watched(demo, live)

        with _step("4  Scoring the same recordings again, as history", took, "backfill_s"):
            with console.reading("scoring") as progress:
                plant.score_history(
                    watched, again, clock=SystemClock(), since=None, until=None, progress=progress
                )
            _tell(f"live      {Store(live).digest()}")
            _tell(f"history   {Store(again).digest()}")

        with _step("5  Drawing", took, "draw_s"):
            pictures = _draw(demo, live)

        found = judge(demo, live, again, ended=ended, pictures=pictures)
    found["duration_s"] = {name: round(seconds, 1) for name, seconds in took.items()}
    (out / SUMMARY).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    _conclude(demo, found)


@contextmanager
def _step(title: str, took: dict[str, float], name: str) -> Iterator[None]:
    """A heading, and how long what follows took."""
    console.say("")
    console.say((title, "bold"))
    started = time.monotonic()
    yield
    took[name] = time.monotonic() - started
    console.say((f"   {took[name]:.0f} s", "dim"))


def _tell(*words: "str | tuple[str, str]") -> None:
    console.say("   ", *words)


def _time(demo: "Demo", moment: int) -> str:
    return console.local(moment, demo.config.site.timezone)


def _train(demo: "Demo") -> None:
    from monitor.live.clock import SystemClock  # noqa: PLC0415 - commands import when they run
    from monitor.site.plant import learn  # noqa: PLC0415 - as above

    for name, kind in demo.config.kinds.items():
        if kind.training is None:
            continue
        healthy = " and ".join(kind.training.assets)
        _tell(f"From {healthy} only: a model of each is tried on the other, then one of both made.")
        with console.training(name) as progress:
            learnt = learn(
                demo.config,
                name,
                clock=SystemClock(),
                progress=progress,
                should_stop=lambda: False,
            )
        _tell(f"{learnt.samples:,} samples, {learnt.frames:,} frames.")
        _tell(
            f"Alarms at a surprise of {learnt.threshold:.1f}, a decade beyond the worst that was "
            f"healthy. Provisional: {console.duration(learnt.healthy_s)} cannot say how rare it is."
        )


async def _watch(demo: "Demo", database: "Database") -> "Ended":
    from monitor.live.clock import SystemClock  # noqa: PLC0415 - commands import when they run
    from monitor.site.plant import service  # noqa: PLC0415 - as above

    with console.watching() as watch:
        return await service(demo.watched, database, clock=SystemClock()).run(watch)


def _say_watched(demo: "Demo", database: "Database") -> None:
    from monitor.site.status import summary  # noqa: PLC0415 - commands import when they run
    from monitor.state.store import Store  # noqa: PLC0415 - as above

    found = summary(database)
    latency = found["score_latency_ms"]
    _tell(
        f"{found['samples_received']:,} samples in, {found['frames_scored']:,} frames scored; "
        f"sample to score {latency['p50']:.0f} ms, p99 {latency['p99']:.0f} ms."
    )
    for alarm in reversed(Store(database).alarms()):
        _tell((f"ALARM  {alarm.asset}  {_time(demo, alarm.raised)}", "bold red"))
        _tell(f"       {alarm.reason}")
    for asset, number in found["alarms"].items():
        if not number:
            _tell((f"no alarm  {asset}", "green"))


def _draw(demo: "Demo", database: "Database") -> list[Path]:
    from monitor.history.plot import draw  # noqa: PLC0415 - commands import when they run
    from monitor.site.plant import bundles  # noqa: PLC0415 - as above

    models, pictures = bundles(demo.config), []
    for asset in demo.changes:
        kind = demo.config.assets[asset].kind
        path = demo.folder / f"{asset}.png"
        draw(
            database,
            asset,
            path,
            kind=demo.config.kinds[kind],
            bundle=models[kind],
            timezone=demo.config.site.timezone,
        )
        _tell(str(path))
        pictures.append(path)
    return pictures


def _conclude(demo: "Demo", found: dict[str, Any]) -> None:
    """Each claim, and what to look at next. Raises StopError where one does not hold."""
    from monitor.site.demo import CLAIMS, SUMMARY  # noqa: PLC0415 - commands import when they run

    console.say("")
    console.say(("What is claimed", "bold"))
    for name, words in CLAIMS.items():
        mark = ("holds   ", "green") if found["claims"][name] else ("FAILED  ", "bold red")
        console.say("   ", mark, words)
    console.say("")
    failed = [name for name, holds in found["claims"].items() if not holds]
    if failed:
        raise console.StopError(
            f"{', '.join(failed)}: not so. The figures are in {demo.folder / SUMMARY}.",
            code=console.Exit.FAILED,
        )
    console.say(("All of it holds. ", "bold green"), f"Figures: {demo.folder / SUMMARY}")
    asset, change = next((asset, at) for asset, at in demo.changes.items() if at is not None)
    near = _time(demo, change).replace(" ", "T")
    console.say("Look at ", (f"{demo.folder / asset}.png", "bold"), ". Then, for example:")
    for words in ("status {}", "alarms list {}", f"plot {{}} {asset} --since {near}"):
        console.say(f"   watchkeeper {words.format(demo.folder / 'demo.yaml')}")

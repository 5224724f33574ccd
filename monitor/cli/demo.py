"""`watchkeeper demo`: the whole of it once, on recordings of real machines."""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from monitor.cli import console
from monitor.cli.backfill import FOLDER
from monitor.cli.live import watching

if TYPE_CHECKING:
    from monitor.live.service import Ended, Service
    from monitor.site.demo import Demo, Played
    from monitor.site.receiver import Taken
    from monitor.state.database import Database

PATIENCE_S, LOOK_S = 60.0, 0.05
SERVICE_LOG = "service.log"


def command(
    *,
    out: Annotated[
        Path, typer.Option(help="The folder for all that it makes; an earlier demo's is replaced.")
    ] = Path("demo-output"),
    influx: Annotated[
        str | None,
        typer.Option(help="Also write all points to the InfluxDB at this address."),
    ] = None,
    bucket: Annotated[str, typer.Option(help="Its bucket.")] = "watchkeeper",
    org: Annotated[str, typer.Option(help="Its organisation, where it wants one.")] = "",
    token_file: Annotated[
        Path | None, typer.Option(help="The file that holds its token, where it wants one.")
    ] = None,
    strokes: Annotated[
        int | None,
        typer.Option(min=2, max=40, help="So many strokes of each machine: fewer take less time."),
    ] = None,
) -> None:
    """Learn from two healthy machines, watch two others live, and prove what is claimed.

    Recordings of real actuators and pictures of real steel are played by real servers, OPC UA and
    MQTT, at the pace they were made at; alarms go out as signed webhooks. Ends with 0 where every
    claim holds, with 1 where one does not, saying which; the figures are in summary.json.
    """
    from monitor.live.clock import SystemClock  # noqa: PLC0415 - commands import when they run
    from monitor.site import past  # noqa: PLC0415 - as above
    from monitor.site.demo import SUMMARY, judge, new_secret, prepare  # noqa: PLC0415 - as above
    from monitor.site.receiver import receiving  # noqa: PLC0415 - as above
    from monitor.state.store import Store  # noqa: PLC0415 - as above

    took: dict[str, float] = {}
    console.say("The whole program once, over real servers: about five minutes. Ctrl-C stops it.")
    points = None
    if influx is not None:
        points = {"url": influx, "bucket": bucket, "org": org}
        points |= {} if token_file is None else {"token_file": str(token_file.absolute())}
    secret = new_secret()
    with receiving(secret) as receiver:
        with _step("1  Preparing", took, "prepare_s"):
            demo = prepare(out, url=receiver.url, secret=secret, influx=points, strokes=strokes)
            _tell(f"Recordings of four hydraulic actuators, and demo.yaml, are in {out}.")
            _tell("Where they come from, and what they cannot show: SOURCE.md beside them.")

        console.log_to(logging.FileHandler(out / SERVICE_LOG))
        with _step("2  Learning what healthy looks like", took, "train_s"):
            _train(demo)

        watched = demo.watched
        with (
            past.fresh_database(watched.data_dir) as live,
            past.fresh_database(watched.data_dir / FOLDER) as again,
        ):
            with _step("3  Watching two machines that it never saw", took, "watch_s"):
                played, ended = asyncio.run(_watch(demo, live))
                _say_watched(demo, live, receiver.taken)

            with _step("4  Scoring what was sent once more, as history", took, "backfill_s"):
                with console.reading("scoring") as progress:
                    past.score_history(
                        demo.recorded,
                        again,
                        clock=SystemClock(),
                        since=None,
                        until=None,
                        progress=progress,
                    )
                _tell(f"live      {Store(live).digest(since=played.first - 1)}")
                _tell(f"history   {Store(again).digest(since=played.first - 1)}")

            with _step("5  Drawing", took, "draw_s"):
                plots = _draw(demo, live, since=played.first)

            found = judge(
                demo,
                live,
                again,
                played=played,
                taken=receiver.taken,
                ended=ended,
                plots=plots,
            )
    found["duration_s"] = {name: round(seconds, 1) for name, seconds in took.items()}
    (out / SUMMARY).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    _conclude(demo, found, played)


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
        healthy = console.duration(learnt.support.healthy_days * 86_400)
        _tell(f"{learnt.samples:,} samples, {learnt.frames:,} frames.")
        _tell(
            f"Alarms at a surprise of {learnt.threshold:.1f}, a decade rarer than the worst that "
            f"was healthy. Provisional: {healthy} cannot say how rare it is."
        )


async def _watch(demo: "Demo", database: "Database") -> "tuple[Played, Ended]":
    """Start servers and service, have everything played, and stop once it has arrived."""
    from monitor.live.clock import SystemClock  # noqa: PLC0415 - commands import when they run
    from monitor.site import replay  # noqa: PLC0415 - as above
    from monitor.site.demo import Played  # noqa: PLC0415 - as above
    from monitor.site.plant import service as configured  # noqa: PLC0415 - as above

    async with replay.process(demo.playing, demo.folder) as servers:
        broker = "mosquitto" if demo.playing.mosquitto else "an embedded one: no mosquitto here"
        _tell("An OPC UA server sends temperatures, pressures and angles;")
        _tell(f"an MQTT broker ({broker}) the accelerometers, in waveform blocks,")
        _tell("and pictures of steel strip, one at every other stroke. See pictures/NOTICE.")
        service = configured(demo.watched, database, clock=SystemClock())
        running = asyncio.create_task(service.run(), name="service")
        try:
            await _until(lambda: _connected(service), running, "sources connected")
            first_values = sum(len(unit.over_opcua) for unit in demo.playing.units)
            played = Played.of(demo, await servers.play(), first_values=first_values)
            for asset, change in played.changes.items():
                known = (
                    "stays healthy, its strip as usual"
                    if change is None
                    else f"changes at {_time(demo, change)}, and its strip has defects from then on"
                )
                _tell(f"{asset} {known}.")
            with watching(database.folder, zone=demo.config.site.timezone):
                await servers.heard("played")

                async def all_arrived() -> bool:
                    return await _received(service) >= played.sent + played.pictures

                await _until(all_arrived, running, "samples and pictures arrived")
                await asyncio.sleep(demo.idle_s)  # then the last frames have closed, too
        finally:
            service.stop()
        return played, await running


async def _until(
    reached: "Callable[[], Awaitable[bool]]", running: "asyncio.Task[Ended]", what: str
) -> None:
    """Wait until it is so; a service that ends meanwhile, or a minute, is too long."""
    deadline = time.monotonic() + PATIENCE_S
    while not await reached():
        if running.done() or time.monotonic() > deadline:
            _tell((f"Not all {what}.", "bold red"))  # the claims say what that means
            return
        await asyncio.sleep(LOOK_S)


async def _connected(service: "Service") -> bool:
    sources = (await service.standing()).sources.values()
    return bool(sources) and all(source.connected for source in sources)


async def _received(service: "Service") -> int:
    sources = (await service.standing()).sources.values()
    return sum(source.counts.received for source in sources)


def _say_watched(demo: "Demo", database: "Database", taken: "Sequence[Taken]") -> None:
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
    good = sum(one.verified for one in taken)
    _tell(f"{len(taken)} webhooks arrived, {good} with a signature that verifies.")


def _draw(demo: "Demo", database: "Database", *, since: int) -> list[Path]:
    from monitor.history.plot import draw  # noqa: PLC0415 - commands import when they run
    from monitor.site.plant import bundles  # noqa: PLC0415 - as above

    models, plots = bundles(demo.config), []
    for asset in demo.changes:
        kind = demo.config.assets[asset].kind
        assert kind is not None  # noqa: S101 - its machines have channels
        path = demo.folder / f"{asset}.png"
        draw(
            database,
            asset,
            path,
            kind=demo.config.kinds[kind],
            bundle=models[kind],
            cameras=demo.config.cameras_of(asset),
            since=since - 1,
            timezone=demo.config.site.timezone,
        )
        _tell(str(path))
        plots.append(path)
    return plots


def _conclude(demo: "Demo", found: dict[str, Any], played: "Played") -> None:
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
    asset, change = next((asset, at) for asset, at in played.changes.items() if at is not None)
    near = _time(demo, change).replace(" ", "T")
    console.say("Look at ", (f"{demo.folder / asset}.png", "bold"), ". Then, for example:")
    for words in ("status {}", "alarms list {}", f"plot {{}} {asset} --since {near}"):
        console.say(f"   watchkeeper {words.format(demo.folder / 'demo.yaml')}")

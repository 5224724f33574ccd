"""`watchkeeper simulate`: a plant of any size over real OPC UA and MQTT, and what it sent."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from monitor.cli import console
from monitor.cli.machines import BEGIN, faults_of, machines_of, record

if TYPE_CHECKING:
    from monitor.site.simulate.plan import Simulation
    from monitor.site.simulate.running import Progress

ALLOWED_S = 1.0  # behind by more than this, it does not keep up


def command(
    *,
    out: Annotated[
        Path | None, typer.Option(help="The folder for ledger.db and plant.yaml, of what is sent.")
    ] = None,
    recordings: Annotated[
        Path | None,
        typer.Option(help="Send nothing: write recordings, labels.csv and plant.yaml there."),
    ] = None,
    machines: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND:COUNT",
            help="Machines with physics: pump, motor, valve, tank; several times for several "
            "kinds. [waves and noise]",
        ),
    ] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MACHINE/FAULT,at=TIME",
            help="What goes wrong, counted from the begin, as pump_2/leak,at=20d,for=2d or "
            "pump_3/offset,at=1h,channel=flow,severity=1.5. Several times for several.",
        ),
    ] = None,
    faults: Annotated[
        Literal["all", "process", "instrument"] | None,
        typer.Option(help="In recordings: one of each kind, in the second half of the days."),
    ] = None,
    days: Annotated[int, typer.Option(min=1, help="Of recordings.")] = 30,
    every: Annotated[str, typer.Option(help="From sample to sample of recordings.")] = "10s",
    since: Annotated[str, typer.Option(help="When recordings begin.")] = BEGIN,
    file_format: Annotated[
        Literal["csv", "parquet"], typer.Option("--format", help="Of recordings.")
    ] = "csv",
    changes_only: Annotated[
        bool,
        typer.Option(
            "--changes-only",
            help="Machines report a value when it has changed, and every 15 minutes.",
        ),
    ] = False,
    mqtt: Annotated[
        str | None, typer.Option(help="A broker that is there, as localhost:1883.")
    ] = None,
    opcua: Annotated[
        int | None, typer.Option(min=1, max=65_535, help="The port of an OPC UA server to start.")
    ] = None,
    assets: Annotated[int, typer.Option(min=1, help="How many, without --machines.")] = 20,
    channels: Annotated[int, typer.Option(min=1, help="Of each, without --machines.")] = 8,
    rate: Annotated[
        list[float] | None,
        typer.Option(help="Samples a second of each channel; several divide the machines. [1]"),
    ] = None,
    share_opcua: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="The share of the machines over OPC UA. [0.5 of both]"),
    ] = None,
    form: Annotated[
        Literal["flat", "value", "block"],
        typer.Option(help="Over MQTT: a message an asset, a value, or a block of samples."),
    ] = "flat",
    samples: Annotated[int, typer.Option(min=2, help="Of one block.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Other seeds, other signals.")] = 1,
    history: Annotated[
        bool, typer.Option(help="Whether the OPC UA server can be asked for what was.")
    ] = True,
    lasting: Annotated[
        str | None, typer.Option("--for", help="How long, as 60s or 2h; left out: until Ctrl-C.")
    ] = None,
    speed: Annotated[
        float,
        typer.Option(
            min=1, help="Times as fast as time passes, over MQTT only; stamps end with the present."
        ),
    ] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON at the end.")] = False,
) -> None:
    """Send what machines would send and keep a ledger of all of it; or write recordings of it.

    Values follow from the seed and the time alone. The ledger knows of each tick when it was sent
    and whether the broker, or the OPC UA server, has it. What is due is never skipped: who cannot
    keep up sends late and says so. `watchkeeper run FOLDER/plant.yaml` watches exactly this plant,
    and `watchkeeper ledger FOLDER` holds what it took in against what was sent. The same folder
    and options go on where it was.
    """
    from monitor.live.clock import SystemClock  # noqa: PLC0415 - commands import when they run
    from monitor.site.simulate import labels, watcher  # noqa: PLC0415 - as above
    from monitor.site.simulate.ledger import Ledger, alone, explained  # noqa: PLC0415 - as above
    from monitor.site.simulate.plan import Form, Simulation  # noqa: PLC0415 - as above
    from monitor.site.simulate.running import Run, until_stopped  # noqa: PLC0415 - as above
    from monitor.site.simulate.values import Values  # noqa: PLC0415 - as above

    chosen = machines_of(machines or [])
    wrong = faults_of(fault or [], chosen)
    if (recordings is None) == (out is None):
        raise console.StopError(
            "what for? --out FOLDER to send, or --recordings FOLDER to write recordings.",
            code=console.Exit.USAGE,
        )
    if recordings is not None:
        if mqtt is not None or opcua is not None or not chosen:
            raise console.StopError(
                "--recordings: wants --machines, as pump:4, and neither --mqtt nor --opcua.",
                code=console.Exit.USAGE,
            )
        record(
            recordings,
            machines=chosen,
            days=days,
            every=every,
            since=since,
            seed=seed,
            faults=wrong,
            families=faults,
            changes_only=changes_only,
            form=file_format,
            as_json=as_json,
        )
        return
    assert out is not None  # noqa: S101 - looked at above
    share_opcua = _share_opcua(mqtt, opcua, share_opcua)
    try:
        simulation = Simulation.of(
            seed=seed,
            assets=assets,
            channels=channels,
            periods_ms=[_period_ms(hz) for hz in rate or [1.0]],
            form=Form(form),
            samples=samples,
            share_opcua=share_opcua,
            mqtt=None if mqtt is None else _address(mqtt),
            opcua_port=opcua,
            history=history,
            machines=chosen or None,
            changes_only=changes_only,
            faults=tuple(wrong),
        )
    except ValueError as error:
        raise console.StopError(str(error), code=console.Exit.USAGE) from None
    console.log_to()
    _check(
        simulation,
        speed=speed,
        is_bounded=lasting is not None,
        draws=faults is not None,
        changes_only=changes_only,
    )
    for_ms = None if lasting is None else console.nanoseconds(lasting, "--for") // 1_000_000
    lead_ms = 0 if for_ms is None else int(for_ms * (1 - 1 / speed))
    begin_ms = SystemClock().now() // 1_000_000 - lead_ms
    simulation = replace(simulation, begin_ms=begin_ms)
    with alone(out), explained(out), closing(Ledger.make(out, simulation)) as ledger:
        plant = watcher.write(ledger.simulation, out)
        if chosen:
            labels.write(Values(ledger.simulation).units, out / labels.FILE)
        run = Run(ledger, SystemClock(), for_ms=for_ms, speed=speed)

        def ready() -> None:
            console.say(
                f"{console.count(simulation.assets, 'machine')}, "
                f"{simulation.samples_a_second * speed:,.0f} samples/s. Watch them with "
                f"`watchkeeper run {plant}`. Ctrl-C ends it.",
                stderr=True,
            )

        with _reporting(simulation.samples_a_second * speed, mqtt or "") as report:
            ended = asyncio.run(until_stopped(run, ready=ready, report=report))
    if as_json:
        console.say_json({**asdict(ended), "rate": ended.rate})
    else:
        console.say(_words(ended), f". Ledger: {ledger.path}")


def _share_opcua(mqtt: str | None, opcua: int | None, share_opcua: float | None) -> float:
    """The share of the machines over OPC UA. Raises StopError where that is nowhere."""
    if mqtt is None and opcua is None:
        raise console.StopError(
            "where to? --mqtt HOST:PORT of a broker, --opcua PORT, or both.",
            code=console.Exit.USAGE,
        )
    for missing, given, option in (
        (bool(share_opcua), opcua, "--opcua PORT"),
        (share_opcua is not None and share_opcua < 1, mqtt, "--mqtt HOST:PORT"),
    ):
        if missing and given is None:
            raise console.StopError(
                f"--share-opcua: got {share_opcua:g}, so some machines want {option}, which is not "
                f"given.",
                code=console.Exit.USAGE,
            )
    if share_opcua is None:
        return 0.5 if mqtt is not None and opcua is not None else float(opcua is not None)
    return share_opcua


def _check(
    simulation: "Simulation", *, speed: float, is_bounded: bool, draws: bool, changes_only: bool
) -> None:
    """What the options say together. Raises StopError."""
    from monitor.site.simulate.plan import Form  # noqa: PLC0415 - commands import when they run
    from monitor.site.simulate.unit import BLOCK_MS  # noqa: PLC0415 - as above

    kinds = [lane for lane in simulation.lanes if lane.kind]
    if draws:
        raise console.StopError(
            "--faults: draws for --recordings alone; name each one with --fault.",
            code=console.Exit.USAGE,
        )
    if any(lane.form is Form.BLOCK for lane in kinds) or (changes_only and not kinds):
        raise console.StopError(
            "--machines: have no blocks of fast samples, and --changes-only is theirs.",
            code=console.Exit.USAGE,
        )
    if changes_only and (odd := [lane for lane in kinds if BLOCK_MS % lane.period_ms]):
        raise console.StopError(
            f"--rate: with --changes-only want a period that divides 15 min, got "
            f"{odd[0].period_ms} ms.",
            code=console.Exit.USAGE,
        )
    if speed > 1 and (simulation.opcua_port is not None or not is_bounded):
        raise console.StopError(
            "--speed: above 1 it wants --for, and no --opcua: such a server shows the present.",
            code=console.Exit.USAGE,
        )


def _period_ms(hz: float) -> int:
    period_ms = round(1000 / hz) if hz > 0 else 0
    if period_ms < 1 or abs(period_ms * hz - 1000) > 1e-6 * 1000:
        raise console.StopError(
            f"--rate: got {hz:g}, want Hz with a period of whole milliseconds, as 0.1, 1, 8 or 50.",
            code=console.Exit.USAGE,
        )
    return period_ms


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or "/" in host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise console.StopError(
            f"--mqtt: got {text!r}, want HOST:PORT without a scheme, as localhost:1883.",
            code=console.Exit.USAGE,
        )
    return host, int(port)


@contextmanager
def _reporting(wanted: float, broker: str) -> "Iterator[Callable[[Progress], None]]":
    """A line that counts, or one now and then where there is no terminal; and what goes wrong."""
    from rich.progress import Progress as Bar  # noqa: PLC0415 - slow to import
    from rich.progress import SpinnerColumn, TextColumn  # noqa: PLC0415 - as above

    out = console.err()
    with Bar(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        console=out,
        transient=True,
        disable=not out.is_terminal,
    ) as bar:
        task = bar.add_task("beginning", total=None)
        said_s, trouble = 0.0, ""

        def report(now: "Progress") -> None:
            nonlocal said_s, trouble
            bar.update(task, description=_words(now))
            before, trouble = trouble, _trouble(now, wanted, broker)
            if trouble and not before:
                console.say_warning(trouble)
            if not out.is_terminal and now.elapsed_s - said_s >= console.LINE_S:
                said_s = now.elapsed_s
                console.say(_words(now), stderr=True)

        yield report


def _words(now: "Progress") -> str:
    return (
        f"{now.sent:,} samples sent, {now.acknowledged:,} acknowledged, {now.rate:,.0f} a second"
        + (f", {now.behind_s:.1f} s behind" if now.behind_s > ALLOWED_S else "")
    )


def _trouble(now: "Progress", wanted: float, broker: str) -> str:
    if now.connected is False:
        why = f" ({now.reason})" if now.reason else ""
        return f"the broker {broker} is away{why}: what is due is sent when it is back."
    if now.behind_s > ALLOWED_S:
        return (
            f"it does not keep up: {now.rate:,.0f} samples a second of {wanted:,.0f}, "
            f"{now.behind_s:.1f} s behind. Nothing is skipped; it is sent late."
        )
    return ""

"""`watchkeeper train`: make the model of a kind from the history of healthy machines."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated

import typer

from monitor.cli import console
from monitor.cli.words import stands_behind

if TYPE_CHECKING:
    from monitor.site.plant import Learnt


def command(
    file: Annotated[Path, typer.Argument(help="The configuration, a YAML file.")],
    *,
    kind: Annotated[
        str | None, typer.Option(help="The kind to train; left out: every kind with `training`.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Train the model of each kind on the healthy history its `training` names.

    Ctrl-C keeps a checkpoint: the same command goes on from there. The model's threshold keeps
    `site.alarm_budget`; it is called provisional where the healthy history is too short to say so:
    then it is one decade rarer than the worst that was seen (`watchkeeper budget`). Besides the
    model that is kept, one is trained for each machine (or group of them, or block of time)
    that is held out from it, to see how healthy looks to a model that never saw it. Losses are
    in nats a value, lower is better.
    """
    from models.training import Interrupted  # noqa: PLC0415 - commands import when they run
    from monitor.live.clock import SystemClock  # noqa: PLC0415 - as above
    from monitor.site.config import load  # noqa: PLC0415 - as above
    from monitor.site.plant import learn  # noqa: PLC0415 - as above

    config = load(file)
    trained = [name for name, settings in config.kinds.items() if settings.training is not None]
    if kind is not None and kind not in trained:
        raise console.StopError(
            f"{file}: no kind {kind!r} with `training`; there are: {', '.join(trained) or 'none'}.",
            code=console.Exit.USAGE,
        )
    if not trained:
        raise console.StopError(
            f"{file}: no kind has `training`; `watchkeeper example config` shows one.",
            code=console.Exit.USAGE,
        )
    found = []
    for name in [kind] if kind is not None else trained:
        with _interruptible() as stopping, console.training(name) as progress:
            try:
                learnt = learn(
                    config,
                    name,
                    clock=SystemClock(),
                    progress=progress,
                    should_stop=stopping.is_set,
                )
            except Interrupted as stopped:
                raise console.StopError(str(stopped), code=console.Exit.INTERRUPTED) from None
        found.append(learnt)
        if not as_json:
            _say(learnt)
    if as_json:
        console.say_json(
            [
                {
                    "kind": learnt.kind,
                    "path": str(learnt.path),
                    "samples": learnt.samples,
                    "frames": learnt.frames,
                    "threshold": learnt.threshold,
                    "healthy_s": learnt.support.healthy_days * 86_400,
                    "provisional": learnt.provisional,
                    "per_asset_30_days": learnt.support.per_asset_30_days,
                    "machines": learnt.machines,
                    "models": [asdict(fit) | {"beats_mean": fit.beats_mean} for fit in learnt.fits],
                    "warnings": [*learnt.rejections, *_warnings(learnt)],
                }
                for learnt in found
            ]
        )


def _say(learnt: "Learnt") -> None:
    console.say(
        ("trained: ", "bold green"),
        f"{learnt.kind} on {learnt.frames:,} frames of {learnt.samples:,} samples, "
        f"in {learnt.path}.",
    )
    for number, fit in enumerate(learnt.fits, start=1):
        kept = ", the one that is kept" if number == len(learnt.fits) else ""
        why = "stopped early" if fit.stopped_early else "stopped at the epoch limit"
        console.say(
            f"    model {number} of {len(learnt.fits)}{kept}: "
            f"{console.count(fit.epochs, 'epoch')}, training loss {fit.training_loss:.3f}, "
            f"validation loss {fit.validation_loss:.3f} (of the mean alone: {fit.mean_loss:.3f}), "
            f"{why}"
        )
    each = "each machine" if learnt.machines > 1 else "each block of its time"
    console.say(
        f"    alarms at a surprise of {learnt.threshold:.1f}: "
        f"{stands_behind(learnt.support, provisional=learnt.provisional)}"
    )
    console.say(
        f"    cross-fitted over all of that time: {each} was judged by a model that never saw it"
    )
    for warning in (*learnt.rejections, *_warnings(learnt)):
        console.say(("    warning: ", "yellow"), warning)


def _warnings(learnt: "Learnt") -> Iterator[str]:
    """What makes a model worse than it might be."""
    if learnt.support.own:
        yield (
            "the model is more surprised by what it learnt from than the models of the cross-fit "
            "by what they never saw: its threshold is by itself; train it longer"
        )
    for number, fit in enumerate(learnt.fits, start=1):
        if not fit.stopped_early:
            yield (
                f"model {number} stopped at the epoch limit: still improving; raise "
                f"kinds.{learnt.kind}.training.fit.epochs above {fit.epochs}"
            )
        if not fit.beats_mean:
            yield (
                f"model {number} forecasts no better than the mean of each channel: its history "
                f"may be too short, or noise; compare with `type: ewma`, which needs no network"
            )


@contextmanager
def _interruptible() -> Iterator[Event]:
    """The first Ctrl-C sets the event; a second one interrupts at once."""
    stopping = Event()

    def stop(_signal: int, _frame: object) -> None:
        if stopping.is_set():
            raise KeyboardInterrupt
        stopping.set()
        console.say("Stopping after this step; the checkpoint is kept.", stderr=True)

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield stopping
    finally:
        signal.signal(signal.SIGINT, before)

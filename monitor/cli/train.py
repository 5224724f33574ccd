"""`watchkeeper train`: make the model of a kind from the history of healthy machines."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated

import typer

from monitor.cli import console

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

    Ctrl-C keeps a checkpoint: the same command goes on from there. The model's threshold is
    provisional: one decade rarer than the worst that the healthy history showed.
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
                    "healthy_s": learnt.healthy_s,
                    "provisional": True,
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
    console.say(
        f"    alarms at a surprise of {learnt.threshold:.1f} (provisional: "
        f"{console.duration(learnt.healthy_s)} of held-out healthy frames cannot say how often)"
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

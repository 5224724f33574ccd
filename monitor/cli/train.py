"""`watchkeeper train`: make the model of a kind from the history of healthy machines."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from monitor.cli import console, quality
from monitor.cli.words import stands_behind

if TYPE_CHECKING:
    from models.diagnosis import DiagnosisCard
    from models.search import Trial
    from models.tensorboard import Board
    from models.training import Epoch, Progress
    from monitor.site.plant import Learnt


def command(
    file: Annotated[Path, typer.Argument(help="The configuration, a YAML file.")],
    *,
    kind: Annotated[
        str | None, typer.Option(help="The kind to train; left out: every kind with `training`.")
    ] = None,
    search: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Try so many settings first, those given among them, and keep the best.",
        ),
    ] = 0,
    tensorboard: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write each epoch there, for TensorBoard.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Train the model of each kind on the healthy history its `training` names.

    Ctrl-C keeps a checkpoint: the same command goes on from there. The model's threshold keeps
    `site.alarm_budget`; it is called provisional where the healthy history is too short to say so:
    then it is one decade rarer than the worst that was seen (`watchkeeper budget`). Besides the
    model that is kept, one is trained for each machine (or group of them, or block of time)
    that is held out from it, to see how healthy looks to a model that never saw it. Losses are of
    one value (in nats, where `loss` is left out); lower is better.

    A search tries points of `training.search`, spread evenly, and compares their validation losses;
    the same seed tries the same. Under `torchrun`, its processes share the work:
    `torchrun --nproc-per-node 2 --no-python watchkeeper train plant.yaml`.
    """
    from models.training import Interrupted  # noqa: PLC0415 - commands import when they run
    from models.workers import joined  # noqa: PLC0415 - as above
    from monitor.history.signals import Severity  # noqa: PLC0415 - as above
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
    with joined() as workers, _board(tensorboard if workers.first else None) as board:
        for name in [kind] if kind is not None else trained:
            with (
                console.interruptible() as stopping,
                _told(name, board, aloud=workers.first) as progress,
            ):
                try:
                    learnt = learn(
                        config,
                        name,
                        clock=SystemClock(),
                        progress=progress,
                        should_stop=stopping.is_set,
                        trials=search,
                    )
                except Interrupted as stopped:
                    raise console.StopError(str(stopped), code=console.Exit.INTERRUPTED) from None
            found.append(learnt)
            if workers.first and not as_json:
                _say(learnt, file)
    if as_json and workers.first:
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
                    "quality": {severity: learnt.quality.count(severity) for severity in Severity},
                    "trials": [_trial(trial) for trial in learnt.trials],
                    "diagnosis": _faults(learnt),
                    "forgotten": list(learnt.forgotten),
                    "models": [asdict(fit) | {"beats_mean": fit.beats_mean} for fit in learnt.fits],
                    "warnings": [*learnt.rejections, *_warnings(learnt, file)],
                }
                for learnt in found
            ]
        )


def _say(learnt: "Learnt", file: Path) -> None:
    console.say(
        ("trained: ", "bold green"),
        f"{learnt.kind} on {learnt.frames:,} frames of {learnt.samples:,} samples, "
        f"in {learnt.path}.",
    )
    if learnt.quality.findings:
        console.say(
            f"    quality of that history: {quality.summary(learnt.quality)}; "
            f"`watchkeeper quality` shows each, and what to do about it"
        )
    _say_trials(learnt.trials)
    for number, fit in enumerate(learnt.fits, start=1):
        kept = ", the one that is kept" if fit.kept else ""
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
    if learnt.taught is not None and learnt.taught.card is not None:
        _say_faults(learnt.taught.labels, learnt.taught.card)
    for warning in (*learnt.rejections, *_warnings(learnt, file)):
        console.say(("    warning: ", "yellow"), warning)


def _say_faults(labels: int, card: "DiagnosisCard") -> None:
    """What it can name, and how well: a row each fault, a column each name."""
    known, found = sum(card.episodes.values()), card.validation
    console.say(
        f"    names {console.count(len(card.faults), 'fault')}, learnt from {known} of "
        f"{console.count(labels, 'labelled episode')}: {', '.join(card.faults)}"
    )
    if found.accuracy is None or found.unknown is None:
        return
    console.say(
        f"    left out one by one, {found.accuracy:.0%} of {found.episodes} were named right and "
        f"{found.unknown:.0%} called unknown ({found.ties / found.episodes:.0%} as near to another "
        f"fault); as which (rows: what it was):"
    )
    from models.naming import UNKNOWN  # noqa: PLC0415 - commands import when they run

    names = [*found.confusion, UNKNOWN]
    rows = [["", *names, "recall", "precision"]]
    for fault, named in found.confusion.items():
        shares = [found.recall(fault), found.precision(fault)]
        counts = [str(named.get(name, 0)) for name in names]
        rows.append([fault, *counts, *("-" if one is None else f"{one:.0%}" for one in shares)])
    _say_table(rows)


def _say_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        console.say("        " + "  ".join(map(str.rjust, row, widths)))


def _faults(learnt: "Learnt") -> dict[str, Any] | None:
    """What it can name, for scripts."""
    if learnt.taught is None:
        return None
    card = learnt.taught.card
    found = None if card is None else card.validation
    return {
        "labels": learnt.taught.labels,
        "episodes": {} if card is None else dict(card.episodes),
        "accuracy": None if found is None else found.accuracy,
        "unknown": None if found is None else found.unknown,
        "confusion": {} if found is None else found.confusion,
        "strange": {} if found is None else found.strange,
    }


def _trial(trial: "Trial") -> dict[str, Any]:
    return {
        "changed": dict(trial.changed),
        "epochs": [fit.epochs for fit in trial.fits],
        "validation_loss": trial.validation_loss,
    }


def _say_trials(trials: "Sequence[Trial]") -> None:
    """A table of what was tried, the best first."""
    if not trials:
        return
    names = list(trials[-1].changed)
    rows = [["", "validation", "epochs", *names]]
    for trial in sorted(trials, key=lambda trial: trial.validation_loss):
        given = trial.model.model_dump() | trial.training.model_dump()
        values = [f"{given[name]:g}" for name in names]
        mark, epochs = "" if trial.changed else "as given", max(fit.epochs for fit in trial.fits)
        rows.append([mark, f"{trial.validation_loss:.4f}", str(epochs), *values])
    console.say(f"    {console.count(len(trials), 'trial')}, the best is kept:")
    _say_table(rows)


@contextmanager
def _board(folder: Path | None) -> "Iterator[Board | None]":
    """Where epochs are written for TensorBoard; None where they are not."""
    if folder is None:
        yield None
        return
    from models.tensorboard import Board  # noqa: PLC0415 - commands import when they run

    board = Board(folder)
    try:
        yield board
    finally:
        board.close()


@contextmanager
def _told(kind: str, board: "Board | None", *, aloud: bool) -> "Iterator[Progress]":
    """What training tells its epochs to: the screen, and a board where there is one."""
    with console.training(kind) if aloud else nullcontext(lambda _epoch: None) as shown:

        def tell(epoch: "Epoch") -> None:
            shown(epoch)
            if board is not None:
                board.add(kind, epoch)

        yield tell


def _warnings(learnt: "Learnt", file: Path) -> Iterator[str]:
    """What makes a model worse than it might be."""
    for asset, (since, until) in learnt.forgotten.items():
        days = f"--since {_utc(since // 10**9)} --until {_utc(-(-until // 10**9))}"  # none left out
        yield (
            f"{asset} had been adopted, and the new model has not learnt from those days; if they "
            f"still hold: watchkeeper adopt {quote(str(file))} {quote(asset)} {days}"
        )
    if learnt.taught is not None:
        yield from learnt.taught.warnings
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


def _utc(second: int) -> str:
    """A time as the options of commands want it."""
    return datetime.fromtimestamp(second, UTC).isoformat().replace("+00:00", "Z")

"""`watchkeeper vision generate` and `compare`: made pictures of rare classes, and their worth."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from monitor.cli import console
from monitor.cli.vision import (
    Folder,
    Json,
    Labels,
    gathered_from,
    say_rows,
    use_one_thread,
)

if TYPE_CHECKING:
    from models.vision.comparing import Listening
    from models.vision.generator import Check
    from monitor.site.vision.settings import LearningSettings

Groups = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN|PATTERN", help="Which pictures belong together, as for `vision train`."
    ),
]
Settings = Annotated[
    Path | None,
    typer.Option(
        help="The settings of `vision train`, YAML, the same file: pictures are made as large as "
        "they are prepared; `generator` says the rest."
    ),
]


def generate(
    folder: Folder,
    *,
    out: Annotated[Path, typer.Option(help="The folder for the generator.")],
    fill: Annotated[
        int | None,
        typer.Option(min=2, help="Make pictures until each class has so many to learn from."),
    ] = None,
    made: Annotated[
        Path | None, typer.Option(help="The folder for made pictures. [OUT.pictures]")
    ] = None,
    labels: Labels = None,
    groups: Groups = None,
    settings: Settings = None,
    seed: Annotated[int | None, typer.Option(min=0, help="As for `vision train`. [0]")] = None,
    as_json: Json = False,
) -> None:
    """Learn to make pictures of rare classes, and make some to train with.

    Then: `watchkeeper vision train FOLDER --made OUT.pictures`, with the same settings and seed, so
    that what it holds out has not taught the generator. Whether made pictures help, `watchkeeper
    vision compare` says: ask it first. Ctrl-C keeps a checkpoint, OUT.checkpoint: the same command
    goes on from there. OUT.report has pictures to look at, and what was watched.
    """
    from models.training import Interrupted  # noqa: PLC0415 - commands import when they run
    from monitor.site.vision.made_report import write_making  # noqa: PLC0415 - as above
    from monitor.site.vision.making import LARGE  # noqa: PLC0415 - as above
    from monitor.site.vision.making import generate as learn  # noqa: PLC0415 - as above

    use_one_thread()
    found = gathered_from(folder, labels, groups=groups)
    chosen = _settings(settings, found.sizes, seed)
    prepared, steps = chosen.preprocess, chosen.generator.steps
    if prepared.height * prepared.width > LARGE:
        console.say_warning(
            f"{prepared.height} x {prepared.width} pixels take hours of a CPU core: a step takes a "
            "second for each 100 x 100 pixels. Set preprocess in --settings smaller"
        )
    report = out.with_name(out.name + ".report")
    try:
        with (
            console.interruptible() as stopping,
            console.counting("learning to make pictures", "steps") as counted,
        ):

            def told(check: "Check") -> None:
                counted(check.step, steps)
                if not as_json:
                    console.say(f"    {_check_words(check)}", stderr=True)

            making = learn(
                found,
                out,
                chosen,
                fill=fill,
                folder=None if fill is None else made or out.with_name(out.name + ".pictures"),
                told=told,
                should_stop=stopping.is_set,
            )
    except Interrupted as stopped:
        raise console.StopError(str(stopped), code=console.Exit.INTERRUPTED) from None
    write_making(making, report)
    card = making.generator.card
    if as_json:
        console.say_json(
            {
                "path": str(out),
                "report": str(report),
                "pictures": None if making.folder is None else str(making.folder),
                "made": dict(making.made),
                "learnt": dict(card.learnt),
                "step": card.steps,
                "ended": card.ended,
                "why": card.why,
                "advice": list(making.advice),
                "checks": [check.model_dump() for check in card.checks],
            }
        )
        return
    console.say(("generator: ", "bold green"), f"{out}, step {card.steps}; {card.why}")
    kept = next(check for check in card.checks if check.step == card.steps)
    console.say(f"    {_check_words(kept)}")
    for one in making.advice:
        console.say_warning(one)
    if making.folder is not None:
        counts = ", ".join(f"{name} {many}" for name, many in making.made.items())
        console.say(("made: ", "bold green"), f"{making.folder}: {counts}")
    elif fill is not None:
        console.say(f"    nothing made: each class has {fill} to learn from already")
    console.say(f"    look at them: {report}")


def compare(
    folder: Folder,
    *,
    fill: Annotated[
        int, typer.Option(min=2, help="Fill up until each class has so many to learn from.")
    ],
    out: Annotated[Path, typer.Option(help="The folder for the report.")] = Path("comparison"),
    test: Annotated[
        Path | None,
        typer.Option(
            help="Labelled pictures kept aside, to judge by; left out: a fifth of FOLDER is held "
            "back."
        ),
    ] = None,
    labels: Labels = None,
    groups: Groups = None,
    good: Annotated[str | None, typer.Option(help="As for `vision train`.")] = None,
    settings: Settings = None,
    seeds: Annotated[
        int, typer.Option(min=1, help="How many times, each with its own chance.")
    ] = 3,
    as_json: Json = False,
) -> None:
    """Do made pictures help? Train without, with copies of rare pictures, and with made ones.

    Each time a generator and three inspections are trained, and real pictures judge that none of
    them has seen. It takes hours; Ctrl-C stops it, and the same command goes on. What is learnt
    meanwhile is in OUT/seed-N.
    """
    from models.training import Interrupted  # noqa: PLC0415 - commands import when they run
    from models.vision.comparing import Listening  # noqa: PLC0415 - as above
    from monitor.site.vision.gathering import check_classes  # noqa: PLC0415 - as above
    from monitor.site.vision.made_report import rows_of, write_comparison  # noqa: PLC0415 - too
    from monitor.site.vision.making import compare as measure  # noqa: PLC0415 - as above

    use_one_thread()
    found = gathered_from(folder, labels, groups=groups)
    other = None if test is None else gathered_from(test, None)
    if other is not None:
        check_classes(other, list(found.counts), good)
    chosen = _settings(settings, found.sizes, None)
    try:
        with (
            console.interruptible() as stopping,
            console.training("comparing") as epoch,
        ):

            def told(seed: int) -> "Listening":
                def say(words: str) -> None:
                    if not as_json:
                        console.say(f"    seed {seed}: {words}", stderr=True)

                return Listening(
                    check=lambda check: say(_check_words(check)),
                    arm=lambda arm: say(f"training, {arm}"),
                    epoch=epoch,
                    should_stop=stopping.is_set,
                )

            comparison = measure(
                found,
                chosen,
                fill=fill,
                seeds=range(seeds),
                good=good,
                test=other,
                folder=out,
                told=told,
            )
    except Interrupted as stopped:
        raise console.StopError(str(stopped), code=console.Exit.INTERRUPTED) from None
    judged_by = "a fifth of them, held back" if test is None else str(test)
    head = {"pictures": str(folder), "judged by": judged_by, "filled up to": str(fill)}
    numbers = write_comparison(comparison, out, head=head)
    if as_json:
        console.say_json({"report": str(out / "report.html"), **numbers})
        return
    console.say(("made pictures: ", "bold green"), numbers["verdict"])
    say_rows(rows_of(numbers))
    console.say(f"    {numbers['why']}")
    console.say(f"    report: {out / 'report.html'}")


def _settings(
    path: Path | None, sizes: list[tuple[int, int]], seed: int | None
) -> "LearningSettings":
    from monitor.site.vision.settings import (  # noqa: PLC0415 - commands import when they run
        learning_settings,
        size_for,
    )

    chosen = learning_settings(path, size=size_for(sizes, places=False))
    return chosen if seed is None else chosen.seeded(seed)


def _check_words(check: Any) -> str:
    return (
        f"step {check.step}: kernel distance {check.kernel:.3f}, precision {check.precision:.2f}, "
        f"recall {check.recall:.2f}, copied {check.copied:.2f}, diversity {check.diversity:.2f} "
        f"({check.poorest})"
    )

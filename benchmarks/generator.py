"""Do made pictures of rare classes help to tell the real ones apart?

One generator a seed, trained on what the classifier learns from, and on nothing else: neither what
the classifier is stopped by nor what it is judged by. Then the classifier three times, with the
same real pictures held out and judged: `real` pictures only; `copies`: the rare classes' own
pictures again, as many as are made; `generated`. What is more than `copies` is the generator's.

    python benchmarks/generator.py SET --data FOLDER [--test FOLDER] [--seeds 0 1 2] [--side PIXELS]
        [--epochs N] [--steps N] [--keep FOLDER] [--quick] [--json FILE]

SET names the set, and FOLDER is that of its benchmark. With `--side` all pictures are brought to so
many pixels first, for all three. With `--keep`, what was stopped goes on. Seeds add up over runs.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import solar_ir
import xsdd
from _detection import LayoutError, say
from _machine import RESULTS
from _pictures import Kept, Labelled, Task, parts, read_labelled

from models.runtime import use_one_thread
from models.vision import comparing
from models.vision.adversarial import CollapsedError
from models.vision.comparing import Listening, answered, brought
from models.vision.generator import Check, PictureGenerator
from models.vision.settings import GeneratorSettings
from models.vision.splits import grouped

TIMES = 3  # as many pictures of a rare class as there are real ones, these among them


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One set, and the classes of it that are rare."""

    task: Task
    rare: tuple[str, ...]
    settings: GeneratorSettings


QUESTIONS = {
    "xsdd": Question(
        task=xsdd.TASK,
        rare=("oxide_scale_of_plate_system",),
        settings=GeneratorSettings(
            width=16,
            widest=96,
            steps=2800,
            batch_size=24,
            learning_rate=1e-3,
            precision="auto",
        ),
    ),
    "solar_ir": Question(
        task=solar_ir.TASK,
        rare=("Soiling", "Hot-Spot", "Diode-Multi"),
        settings=GeneratorSettings(
            width=16, widest=64, steps=4000, batch_size=24, precision="auto"
        ),
    ),
}


def main() -> None:
    """Read the command line, measure seed by seed, print the table, keep the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("set", choices=sorted(QUESTIONS))
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--test", type=Path, metavar="FOLDER")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="SEED")
    parser.add_argument("--side", type=int, metavar="PIXELS")
    parser.add_argument("--epochs", type=int, help="of the classifier")
    parser.add_argument("--steps", type=int, help="of the generator")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="for models and checkpoints")
    parser.add_argument("--quick", action="store_true", help="small and once: does it still run?")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the figures there")
    given = parser.parse_args()
    use_one_thread()
    question = asked(given)
    try:
        test = None if given.test is None else read_labelled(given.test)
        learning, judged = parts(read_labelled(given.data), test)
    except LayoutError as error:
        sys.exit(f"{parser.prog}: {error}")
    kept = Kept(
        given.json or RESULTS / f"generator_{given.set}.json",
        question.task,
        tested=given.test is not None,
        parts=(learning.examples(), judged.examples()),
        beside={"generator": question.settings.model_dump(mode="json", exclude={"seed"})},
    )
    for seed in given.seeds[:1] if given.quick else given.seeds:
        kept.add(seed, measured(question, seed, learning, judged, given.keep))
        if given.json or not given.quick:
            kept.write()
    say("")
    print(kept.table())


def asked(given: argparse.Namespace) -> Question:
    """The question as the command line changes it."""
    question = QUESTIONS[given.set]
    task, settings = question.task, question.settings
    preprocess = task.settings.preprocess
    if given.side:
        preprocess = preprocess.model_copy(update={"height": given.side, "width": given.side})
    epochs, steps = given.epochs or task.fit.epochs, given.steps or settings.steps
    if given.quick:
        epochs, steps = 2, 4
        settings = settings.model_copy(update={"width": 4, "widest": 8, "batch_size": 4})
    warm = min(task.fit.warmup_epochs, epochs - 1)
    return replace(
        question,
        task=replace(
            task,
            name=f"generator_{task.name}",
            settings=task.settings.model_copy(update={"preprocess": preprocess}),
            fit=task.fit.model_copy(update={"epochs": epochs, "warmup_epochs": warm}),
            floors={},
        ),
        settings=settings.model_copy(
            update={"steps": steps, "check_every": min(settings.check_every, steps)}
        ),
    )


def measured(
    question: Question, seed: int, learning: Labelled, judged: Labelled, keep: Path | None
) -> dict[str, float]:
    """Accuracy, and of each rare class recall and precision, of all three; and of the generator."""
    task = question.task
    prepared = task.settings.preprocess
    size = prepared.height, prepared.width

    def wanted(count: Counter[str]) -> dict[str, int]:
        return {name: TIMES * count[name] for name in question.rare}

    def told(check: Check) -> None:
        say(
            f"{task.name}, seed {seed}: generator, step {check.step} of "
            f"{question.settings.steps}: kernel {check.kernel:.3f}, precision "
            f"{check.precision:.2f}, recall {check.recall:.2f}, copied {check.copied:.2f}"
        )

    try:
        answer = answered(
            comparing.Question(
                pictures=brought(learning.pictures, size, grey=True),
                labels=learning.labels,
                groups=grouped(learning.pictures),
                judged=brought(judged.pictures, size, grey=True),
                judged_labels=judged.labels,
                wanted=wanted,
                settings=task.settings,
                fit=task.fit,
                generator=question.settings,
                good=task.good,
            ),
            seed,
            folder=None if keep is None else keep / f"{task.name}-{seed}",
            told=Listening(check=told, arm=lambda arm: say(f"{task.name}, seed {seed}: {arm}")),
        )
    except CollapsedError as error:
        say(f"{error}\n")
        return {"collapsed": 1.0}
    figures = judged_generator(answer.generator)
    for arm, report in answer.reports.items():
        figures |= chosen(arm, report.numbers(), question.rare)
    return figures


def chosen(
    arm: str, report: Mapping[str, Mapping[str, object]], rare: tuple[str, ...]
) -> dict[str, float]:
    """What of a report answers the question."""
    found = {
        f"{arm}_{name}": float(str(report["whole"][name]))
        for name in ("accuracy", "balanced_accuracy")
    }
    for name in rare:
        own = report["classes"][name]
        assert isinstance(own, Mapping)
        for what in ("recall", "precision"):
            if own[what] is not None:
                found[f"{arm}_{what}_{name}"] = float(own[what])
    return found


def judged_generator(generator: PictureGenerator) -> dict[str, float]:
    """What its last kept check says."""
    card = generator.card
    best = next(check for check in card.checks if check.step == card.steps)
    names = ("kernel", "frechet", "precision", "recall", "copied", "diversity")
    return {
        "collapsed": float(card.ended == "collapse"),
        "generator_steps": float(card.steps),
        **{f"generator_{name}": float(getattr(best, name)) for name in names},
    }


if __name__ == "__main__":
    main()

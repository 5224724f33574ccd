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

import numpy as np
import solar_ir
import xsdd
from _detection import LayoutError, say
from _machine import RESULTS
from _pictures import Kept, Labelled, Task, parts, read_labelled
from numpy.typing import NDArray
from PIL import Image

from models.runtime import use_one_thread
from models.vision.adversarial import CollapsedError, train
from models.vision.generator import Check, GeneratorSettings, PictureGenerator
from models.vision.report import Report
from models.vision.splits import grouped, held_out
from models.vision.training import Examples
from models.vision.training import train as train_inspection

# N pictures, H height, W width

U8 = NDArray[np.uint8]

ARMS = ("real", "copies", "generated")
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
        settings=GeneratorSettings(width=12, widest=96, steps=4000, batch_size=24),
    ),
    "solar_ir": Question(
        task=solar_ir.TASK,
        rare=("Soiling", "Hot-Spot", "Diode-Multi"),
        settings=GeneratorSettings(width=12, widest=64, steps=4000, batch_size=24),
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
    fit = task.fit.model_copy(update={"seed": seed})
    pictures = brought(learning, task)
    groups = grouped(learning.pictures)
    out = held_out(learning.shown, groups, fit.validation_share, seed=seed)
    labels = np.array(learning.labels)
    folder = None if keep is None else keep / f"{task.name}-{seed}"
    figures: dict[str, float] = {}
    made, of = np.empty((0, *pictures.shape[1:]), np.uint8), list[str]()
    try:
        generator = generated(question, seed, pictures[~out], labels[~out].tolist(), folder)
    except CollapsedError as error:
        say(f"{error}\n")
        figures["collapsed"] = 1.0
    else:
        figures |= judged_generator(generator)
        made, of = filled(generator, question, pictures[~out], labels[~out].tolist(), seed=seed)
    for arm in ARMS if len(made) else ARMS[:1]:
        extra, extra_labels = {
            "real": (made[:0], []),
            "copies": again(pictures[~out], labels[~out], Counter(of), seed=seed),
            "generated": (made, of),
        }[arm]
        say(f"{task.name}, seed {seed}: {arm}")
        trained = train_inspection(
            Examples(
                pictures=[*pictures, *extra],
                labels=[*learning.labels, *extra_labels],
                groups=[*groups.tolist(), *(f"made {n}" for n in range(len(extra)))],
                made=[*(False for _ in pictures), *(True for _ in extra)],
            ),
            task.settings,
            fit,
            good=task.good,
            checkpoint=None if folder is None else folder / arm,
        )
        found = trained.inspection.inspect(list(brought(judged, task)))
        report = Report.of(found, judged.labels, good=task.good).numbers()
        figures |= chosen(arm, report, question.rare)
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


def brought(data: Labelled, task: Task) -> U8:
    """All pictures grey and of one size, uint8 [N, H, W, 1]."""
    size = task.settings.preprocess.width, task.settings.preprocess.height
    shown = []
    for picture in data.pictures:
        grey = Image.fromarray(picture.squeeze()).convert("L")
        shown.append(
            np.asarray(grey if grey.size == size else grey.resize(size, Image.Resampling.BOX))
        )
    return np.stack(shown)[..., None]


def generated(
    question: Question, seed: int, pictures: U8, labels: list[str], folder: Path | None
) -> PictureGenerator:
    """Trained, or read where it was before."""
    place = None if folder is None else folder / "generator"
    if place is not None and place.exists():
        return PictureGenerator.load(place)

    def told(check: Check) -> None:
        say(
            f"{question.task.name}, seed {seed}: generator, step {check.step} of "
            f"{question.settings.steps}: kernel {check.kernel:.3f}, precision "
            f"{check.precision:.2f}, recall {check.recall:.2f}, copied {check.copied:.2f}"
        )

    generator = train(
        pictures,
        labels,
        question.settings.model_copy(update={"seed": seed}),
        progress=told,
        checkpoint=None if folder is None else folder / "generator-checkpoint",
    )
    if place is not None:
        generator.save(place)
    return generator


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


def filled(
    generator: PictureGenerator, question: Question, pictures: U8, labels: list[str], *, seed: int
) -> tuple[U8, list[str]]:
    """Made pictures of the rare classes, each up to so many times what there is of it."""
    made, of = [pictures[:0]], []
    for name in question.rare:
        own = np.array(labels) == name
        more, more_labels = generator.fill(
            pictures[own], [name] * int(own.sum()), TIMES * int(own.sum()), seed=seed
        )
        made.append(more)
        of += more_labels
    return np.concatenate(made), of


def again(
    pictures: U8, labels: NDArray[np.str_], wanted: Mapping[str, int], *, seed: int
) -> tuple[U8, list[str]]:
    """Real pictures of these classes once more, so many of each."""
    draw = np.random.default_rng(seed)
    rows = [
        np.resize(draw.permutation(np.flatnonzero(labels == name)), count)
        for name, count in sorted(wanted.items())
    ]
    taken = np.concatenate(rows) if rows else np.empty(0, np.int64)
    return pictures[taken], labels[taken].tolist()


if __name__ == "__main__":
    main()

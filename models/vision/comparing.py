"""Whether made pictures of rare classes help to tell the real ones apart.

One classifier is trained three times, with the same real pictures held out and judged: `real`
pictures only; `copies`: the rare classes' own pictures again, as many as are made; `generated`.
What is more than `copies` is the generator's. The generator learns from what the classifier learns
from, and from nothing else: neither what stops the classifier nor what judges it.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.training import Progress
from models.vision.adversarial import is_of
from models.vision.adversarial import train as train_generator
from models.vision.contract import Pixels
from models.vision.generator import Check, PictureGenerator, Wanted, lacking
from models.vision.preprocess import resized
from models.vision.report import Report
from models.vision.settings import GeneratorSettings, InspectionSettings, VisionFitSettings
from models.vision.splits import held_out
from models.vision.training import Examples, train

# N pictures, H height, W width, C colours

U8 = NDArray[np.uint8]
Bool = NDArray[np.bool_]

ARMS = ("real", "copies", "generated")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked: pictures that teach, others that judge, and which classes are filled up."""

    pictures: U8  # [N, H, W, C], as large as the inspection sees them
    labels: Sequence[str]
    groups: Sequence[object] | NDArray[np.int64]
    judged: U8
    judged_labels: Sequence[str]
    wanted: Wanted
    settings: InspectionSettings
    fit: VisionFitSettings
    generator: GeneratorSettings
    good: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """Who is told what, and who may stop it."""

    check: Callable[[Check], None] = lambda _check: None
    arm: Callable[[str], None] = lambda _arm: None
    epoch: Progress | None = None
    should_stop: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Of one seed."""

    generator: PictureGenerator
    filled: Mapping[str, int]  # class -> pictures that were made
    reports: Mapping[str, Report]  # by arm; nothing to fill up: of real pictures only


def answered(
    question: Question, seed: int, *, folder: Path | None = None, told: Listening | None = None
) -> Answer:
    """Train a generator and the three classifiers, and judge them. What ``folder`` keeps goes on.

    Raises what either training raises; CollapsedError where there is no generator to judge.
    """
    told = told or Listening()
    pictures = question.pictures
    fit = question.fit.model_copy(update={"seed": seed})
    own_numbers = teaching(question, seed)
    own, own_labels = pictures[own_numbers], [question.labels[n] for n in own_numbers]
    generator = learnt(
        own,
        own_labels,
        question.generator.model_copy(update={"seed": seed}),
        folder=None if folder is None else folder / "generator",
        told=told.check,
        should_stop=told.should_stop,
    )
    of = lacking(own_labels, question.wanted)
    extras = {
        "real": (own[:0], list[str]()),
        "copies": again(own, own_labels, of, seed=seed),
        "generated": (generator.make(of, seed=seed), of),
    }
    reports = {}
    for arm in ARMS if of else ARMS[:1]:
        told.arm(arm)
        extra, extra_labels = extras[arm]
        trained = train(
            Examples(
                pictures=[*pictures, *extra],
                labels=[*question.labels, *extra_labels],
                groups=[*map(str, question.groups), *(f"made {n}" for n in range(len(extra)))],
                made=[False] * len(pictures) + [True] * len(extra),
            ),
            question.settings,
            fit,
            good=question.good,
            progress=told.epoch,
            checkpoint=None if folder is None else folder / arm,
            should_stop=told.should_stop,
        )
        found = trained.inspection.inspect(list(question.judged))
        reports[arm] = Report.of(found, question.judged_labels, good=question.good)
    return Answer(generator=generator, filled=Counter(of), reports=reports)


def teaching(question: Question, seed: int) -> list[int]:
    """The numbers of the pictures that this seed does not hold out. Raises as ``held_out``."""
    shown = [(label,) for label in question.labels]
    out = held_out(shown, question.groups, question.fit.validation_share, seed=seed)
    return np.flatnonzero(~out).tolist()


def learnt(
    pictures: U8,
    labels: Sequence[str],
    settings: GeneratorSettings,
    *,
    folder: Path | None,
    told: Callable[[Check], None] = lambda _check: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> PictureGenerator:
    """A generator, trained and kept in the folder; or read, where it is there already.

    Raises what the training raises, and ValueError for a folder of another one.
    """
    if folder is not None and folder.exists():
        generator = PictureGenerator.load(folder)
        if not is_of(generator.card, pictures, labels, settings):
            raise ValueError(
                f"{folder}: a generator of other pictures, classes or settings. Remove it to "
                "start anew, or give the same again."
            )
        return generator
    checkpoint = None if folder is None else folder.with_name(folder.name + ".checkpoint")
    generator = train_generator(
        pictures,
        labels,
        settings,
        progress=told,
        checkpoint=checkpoint,
        should_stop=should_stop,
    )
    if folder is not None and checkpoint is not None:
        generator.save(folder)
        shutil.rmtree(checkpoint, ignore_errors=True)
    return generator


def again(
    pictures: U8, labels: Sequence[str], of: Sequence[str], *, seed: int
) -> tuple[U8, list[str]]:
    """Real pictures once more, one for each class named."""
    draw = np.random.default_rng(seed)
    rows = [
        np.resize(draw.permutation(np.flatnonzero(np.array(labels) == name)), count)
        for name, count in sorted(Counter(of).items())
    ]
    taken = np.concatenate(rows) if rows else np.empty(0, np.int64)
    return pictures[taken], [labels[n] for n in taken]


def check_depth(picture: Pixels) -> None:
    """Raises ValueError for a picture of 16 bits."""
    if picture.dtype != np.uint8:
        raise ValueError(
            f"generator: want pictures of 8 bits, got {picture.dtype.itemsize * 8}. Bring them to "
            "8 bits, with black and white where they are in all of them."
        )


def brought(pictures: Sequence[Pixels], size: tuple[int, int], *, grey: bool) -> U8:
    """Whole pictures at one size, height and width: uint8 [N, H, W, C].

    Raises ValueError for pictures of 16 bits.
    """
    made = []
    for picture in pictures:
        check_depth(picture)
        shown = picture.astype(np.float32)
        if grey:
            shown = shown.mean(2, keepdims=True)
        given = torch.from_numpy(np.ascontiguousarray(shown.transpose(2, 0, 1)))
        made.append(resized(given, size).round().clamp(0, 255).to(torch.uint8).numpy())
    return np.stack(made).transpose(0, 2, 3, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What seeds say together of the classes that were filled up."""

    word: str  # helped, did not help, cannot be told
    why: str
    f1: Mapping[str, tuple[float, ...]]  # by arm, of each seed: mean of the filled classes


def verdict(filled: Sequence[str], seeds: Sequence[Mapping[str, Mapping[str, Any]]]) -> Verdict:
    """Of ``Report.numbers()`` by arm, for each seed.

    F1: recall alone is had for nothing, by calling everything rare. It helped where every seed has
    more with made pictures than with real ones only and than with copies; it did not where no seed
    has more than with the better of the two.
    """
    f1 = {
        arm: tuple(
            float(np.mean([one[arm]["classes"][name]["f1"] or 0.0 for name in filled]))
            for one in seeds
        )
        for arm in ARMS
    }
    best = [max(real, copied) for real, copied in zip(f1["real"], f1["copies"], strict=True)]
    more = [made - other for made, other in zip(f1["generated"], best, strict=True)]
    said = ", ".join(f"{one:+.3f}" for one in more)
    why = f"F1 of the filled classes, made pictures less the better of the others, by seed: {said}"
    if all(one > 0 for one in more) and len(more) > 1:
        return Verdict(word="helped", why=why, f1=f1)
    if all(one <= 0 for one in more):
        return Verdict(word="did not help", why=why, f1=f1)
    return Verdict(word="cannot be told", why=why, f1=f1)

"""Pictures of rare classes, made from a folder of labelled ones, and whether they help.

Beside the generator's folder NAME stand NAME.checkpoint while it is learnt, and afterwards
NAME.report. It never sees the part that `watchkeeper vision train` holds out with the same pictures
and settings. A folder of made pictures says in ``taught.txt`` what taught them, so that a training
that holds some of that out can say so.
"""

import csv
import hashlib
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from connectors.labelled import LabelsError
from connectors.payloads.image import encode
from models.bundle import CARD
from models.vision.adversarial import CollapsedError
from models.vision.comparing import (
    Answer,
    Listening,
    Question,
    answered,
    brought,
    check_depth,
    learnt,
    teaching,
)
from models.vision.contract import Pixels
from models.vision.generator import SIDES, Check, GeneratorCard, PictureGenerator, lacking
from models.vision.splits import grouped, held_out
from monitor.site.problems import PlantError
from monitor.site.vision.gathering import Gathered, gather
from monitor.site.vision.settings import LearningSettings
from monitor.state.locks import held

U8 = NDArray[np.uint8]

TABLE, TAUGHT = "labels.csv", "taught.txt"
LEAST = 5  # pictures of a class that a generator learns from
FEW = 20  # fewer than so many are said
SHOWN = 6  # pictures of each class on a sheet, real ones and made ones
LARGE = 128 * 128  # pixels, from which on learning takes a CPU core for hours
HELD_BACK = 0.2  # of the pictures, to judge by, where no others are given
COPIED, PRECISE, RECALLED, DIVERSE = 0.1, 0.5, 0.2, 0.5  # from where on it is said


@dataclass(frozen=True, slots=True, kw_only=True)
class Making:
    """What came of it."""

    generator: PictureGenerator
    path: Path
    folder: Path | None  # of made pictures
    made: Mapping[str, int]
    real: U8  # what it learnt from
    labels: Sequence[str]
    advice: tuple[str, ...]


def generate(
    gathered: Gathered,
    path: Path,
    settings: LearningSettings,
    *,
    fill: int | None = None,
    folder: Path | None = None,
    told: Callable[[Check], None] = lambda _check: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Making:
    """Learn a generator, and write pictures to ``folder`` until each class has ``fill`` to learn.

    The same call goes on where it was stopped, and makes other numbers with what was learnt. Raises
    PlantError where nothing can be made of these pictures or a folder is another's, LockedError,
    and Interrupted where should_stop() says so.
    """
    check(gathered, settings)
    if folder is not None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise PlantError(f"{folder}: is there, and is not empty. Give another folder with --made.")
    if path.exists() and not (path / CARD).is_file():
        raise PlantError(f"{path}: is there, and is no generator. Give another name with --out.")
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = np.array(gathered.labelled.labels)
    words = f"{path}: {{process}} is learning it. Wait until it has ended, or give another --out."
    with held(path.with_name(path.name + ".lock"), by_another=words):
        try:
            out = held_out(
                [(label,) for label in labels.tolist()],
                groups(gathered),
                settings.fit.validation_share,
                seed=settings.fit.seed,
            )
            taught = np.flatnonzero(~out).tolist()
            own, own_labels = (
                sized(gathered.pictures.some(taught), settings),
                labels[taught].tolist(),
            )
            _check_counts(own_labels)
            generator = learnt(
                own,
                own_labels,
                settings.generator,
                folder=path,
                told=told,
                should_stop=should_stop,
            )
        except (ValueError, CollapsedError) as error:
            raise PlantError(str(error)) from error
    of = [] if fill is None else lacking(own_labels, lambda count: dict.fromkeys(count, fill))
    if folder is not None and of:
        colours = gathered.pictures[0].shape[2]
        made = generator.make(of, seed=settings.generator.seed)
        _write(folder, made, of, colours, [gathered.pictures[n] for n in taught])
    return Making(
        generator=generator,
        path=path,
        folder=folder if of else None,
        made=Counter(of),
        real=own,
        labels=own_labels,
        advice=advice(generator.card),
    )


def check(gathered: Gathered, settings: LearningSettings) -> None:
    """Raises PlantError for what no generator is learnt from."""
    if gathered.task != "classes":
        raise PlantError(
            f"{gathered.labelled.form}: gives {gathered.task}, and a made picture has a class "
            "only. Give a class for each picture."
        )
    if len(gathered.counts) < 2:
        raise PlantError(
            f"{gathered.labelled.form}: want pictures of two classes or more, got "
            f"{', '.join(gathered.counts)} only: an inspection cannot be filled up with them."
        )
    try:
        check_depth(gathered.pictures[0])
    except ValueError as error:
        raise PlantError(str(error)) from error
    prepared = settings.preprocess
    if prepared.crop is not None:
        raise PlantError(
            "preprocess.crop: a generator learns whole pictures. Cut them before, and leave it out."
        )
    if not all(SIDES[0] <= side <= SIDES[1] for side in (prepared.height, prepared.width)):
        raise PlantError(
            f"preprocess: got {prepared.height} x {prepared.width} pixels, and a generator makes "
            f"pictures of {SIDES[0]} to {SIDES[1]} pixels a side. Set height and width to such."
        )


def _check_counts(labels: Sequence[str]) -> None:
    few = {name: many for name, many in Counter(labels).items() if many < LEAST}
    if few:
        said = ", ".join(f"{name} {many}" for name, many in sorted(few.items()))
        raise ValueError(
            f"generator: want {LEAST} pictures of a class or more to learn from, beside those that "
            f"are held out; got {said}. Give more of them, or leave the class out."
        )


def groups(gathered: Gathered) -> Sequence[object] | NDArray[np.int64]:
    """Who belongs together: as it was said, or near copies."""
    return grouped(gathered.pictures) if gathered.groups is None else gathered.groups


def sized(pictures: Sequence[Pixels], settings: LearningSettings) -> U8:
    """As large as the inspection sees them. Raises ValueError for 16 bits."""
    prepared = settings.preprocess
    return brought(pictures, (prepared.height, prepared.width), grey=prepared.grey)


def advice(card: GeneratorCard) -> tuple[str, ...]:
    """What the figures of the kept weights mean, where something is to be done; [] if nothing."""
    kept = next(one for one in card.checks if one.step == card.steps)
    said = []
    if card.ended == "collapse":
        said.append(
            f"it collapsed: {card.why}; what was best before is kept, at step {card.steps}. Raise "
            "generator.penalty or lower generator.learning_rate"
        )
    elif card.ended == "steps" and card.steps == card.checks[-1].step:
        said.append(f"the last check was the best: raise generator.steps above {card.steps}")
    if kept.copied > COPIED:
        said.append(
            f"{kept.copied:.0%} are all but copies of pictures that it learnt: give more pictures, "
            "or lower generator.steps"
        )
    if kept.diversity < DIVERSE:
        said.append(
            f"pictures of {kept.poorest} differ only {kept.diversity:.0%} as much as real ones do: "
            "give more of them, or raise generator.penalty"
        )
    if kept.precision < PRECISE:
        said.append(
            f"only {kept.precision:.0%} could be real: raise generator.steps or generator.width"
        )
    if kept.recall < RECALLED:
        said.append(
            f"{1 - kept.recall:.0%} of the real pictures look like nothing that it makes: raise "
            "generator.steps"
        )
    few = [f"{name} {many}" for name, many in card.learnt.items() if many < FEW]
    if few:
        said.append(f"learnt from few pictures: {', '.join(few)}")
    return tuple(said)


def _write(
    folder: Path, made: U8, of: Sequence[str], colours: int, taught: Sequence[Pixels]
) -> None:
    """The folder, whole or not at all: a file a picture, a table, and what taught them."""
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    with (part / TABLE).open("w", encoding="utf-8", newline="") as opened:
        rows = csv.writer(opened)
        rows.writerow(("image", "label", "made"))
        for number, (picture, label) in enumerate(zip(made, of, strict=True)):
            name = f"{number + 1:05d}.png"
            (part / name).write_bytes(encode(coloured(picture, colours)))
            rows.writerow((name, label, 1))
    (part / TAUGHT).write_text("".join(f"{_hash(one)}\n" for one in taught), encoding="utf-8")
    if folder.exists():
        folder.rmdir()
    part.rename(folder)


def coloured(picture: U8, colours: int) -> U8:
    """A picture [H, W, C] as files have it: [H, W, 3], or grey [H, W]."""
    if picture.shape[2] == colours == 1:
        return picture[..., 0]
    return np.repeat(picture, 3, axis=2) if picture.shape[2] == 1 else picture


def _hash(picture: Pixels) -> str:
    found = hashlib.sha256(str(picture.shape).encode())
    found.update(picture.tobytes())
    return found.hexdigest()


def with_made(gathered: Gathered, folder: Path) -> Gathered:
    """Pictures to learn from, and those that `watchkeeper vision generate` made beside them.

    Raises LabelsError for another folder, and for pictures that do not go together.
    """
    if gathered.task != "classes" or gathered.templates is not None:
        raise LabelsError(
            "--made: made pictures have a class each: no boxes, no masks and no template. Leave it "
            "out, or give a class for each picture."
        )
    if not (folder / TAUGHT).is_file():
        raise LabelsError(
            f"{folder}: no folder that `watchkeeper vision generate` wrote: no {TAUGHT} in it. "
            "Give the one that its --made named."
        )
    made = gather(folder, folder / TABLE)
    if set(made.labelled.columns.get("made", [""])) != {"1"}:
        raise LabelsError(
            f"{folder / TABLE}: want made = 1 for each picture: real ones belong to the others."
        )
    if strange := sorted(set(made.counts) - set(gathered.counts)):
        raise LabelsError(
            f"{folder}: made pictures of {', '.join(strange)}, of which there are no real ones; "
            f"classes: {', '.join(gathered.counts)}."
        )
    real, other = gathered.pictures[0], made.pictures[0]
    if real.shape[2] != other.shape[2] or real.dtype != other.dtype:
        raise LabelsError(
            f"{folder}: made pictures are {other.dtype} of {other.shape[2]} colours, the real ones "
            f"{real.dtype} of {real.shape[2]}. Generate from these pictures."
        )
    return replace(gathered, made=made)


def seen_before(gathered: Gathered, out: Sequence[int]) -> int:
    """How many of the pictures held out have taught what was made: they know too much."""
    if gathered.made is None:
        return 0
    text = (gathered.made.labelled.paths[0].parent / TAUGHT).read_text(encoding="utf-8")
    taught = set(text.split())
    return sum(_hash(gathered.pictures[n]) in taught for n in out)


def compare(
    gathered: Gathered,
    settings: LearningSettings,
    *,
    fill: int,
    seeds: Sequence[int],
    good: str | None = None,
    test: Gathered | None = None,
    folder: Path,
    told: Callable[[int], Listening],
) -> "Comparison":
    """Train without, with copies and with made pictures, for each seed; real pictures judge.

    Those of ``test``, or a part of the pictures that is held back from everything. ``folder`` keeps
    what was learnt, to go on from. Raises as ``generate`` does.
    """
    check(gathered, settings)
    labels, own_groups = np.array(gathered.labelled.labels), np.asarray(groups(gathered))
    try:
        if test is None:
            shown = [(label,) for label in labels.tolist()]
            back = held_out(shown, own_groups, HELD_BACK, seed=0)
            judged, judged_labels = (
                gathered.pictures.some(np.flatnonzero(back).tolist()),
                labels[back],
            )
        else:
            back = np.zeros(len(labels), np.bool_)
            judged, judged_labels = test.pictures, np.array(test.labelled.labels)
        pictures = sized(gathered.pictures.some(np.flatnonzero(~back).tolist()), settings)
        question = Question(
            pictures=pictures,
            labels=labels[~back].tolist(),
            groups=own_groups[~back],
            judged=sized(judged, settings),
            judged_labels=judged_labels.tolist(),
            wanted=lambda count: dict.fromkeys(count, fill),
            settings=settings.inspection,
            fit=settings.fit,
            generator=settings.generator,
            good=good,
        )
        for seed in seeds:
            _check_fill(question, fill, seed)
        answers = {
            seed: answered(question, seed, folder=folder / f"seed-{seed}", told=told(seed))
            for seed in seeds
        }
    except (ValueError, CollapsedError) as error:
        raise PlantError(str(error)) from error
    return Comparison(answers=answers, question=question)


def _check_fill(question: Question, fill: int, seed: int) -> None:
    own = [question.labels[n] for n in teaching(question, seed)]
    if not lacking(own, question.wanted):
        count = sorted(Counter(own).items())
        raise ValueError(
            f"--fill: got {fill}, and every class has as many to learn from, beside those that are "
            f"held out: {', '.join(f'{name} {many}' for name, many in count)}. Nothing would be "
            f"made. Want more than {min(many for _, many in count)}."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What each seed gave."""

    answers: Mapping[int, Answer]
    question: Question

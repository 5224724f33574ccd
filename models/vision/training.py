"""From pictures to an inspection: split, learn, stop in time, calibrate.

What is held out, by groups of near copies, says when to stop and what the anomaly of a good picture
is like; it never teaches a weight. It has chosen the epoch, though: a figure to be believed is of
pictures that this module has not seen at all.
"""

import hashlib
import json
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.bundle import code_version, resolve, versions
from models.calibration import Calibration
from models.gradient import StoppedError
from models.training import Interrupted, Progress
from models.vision.box_scores import Boxes, box_scores
from models.vision.bundle import Task, VisionCard, digest
from models.vision.finder import overlaps
from models.vision.fit import Fit, Objective
from models.vision.inspection import Inspection, check_templates
from models.vision.mask_scores import mask_scores
from models.vision.masks import eight_bits, whole_of
from models.vision.masks import look as look_at_pixels
from models.vision.network import NETWORK, Classifier, load_backbone, start
from models.vision.objectives import Centres, Classes, Regions
from models.vision.places import FINDER, LEAST, Pair, Seen, networks, patches
from models.vision.places import anomaly_of as anomaly_of_places
from models.vision.preprocess import resized
from models.vision.segmenter import Segmenter
from models.vision.settings import InspectionSettings, VisionFitSettings
from models.vision.splits import grouped, held_out
from models.vision.stock import Crop, Examples, Marked, Region, Stock
from models.vision.whole import anomaly_of, prototypes_of, tensors_of

# N pictures, C channels, K classes, F features, M places

U8 = NDArray[np.uint8]
Bool = NDArray[np.bool_]
Shown = Sequence[tuple[str, ...]]  # the classes on each picture

ANOMALY = "anomaly"  # what is not good is called where good pictures alone were learnt
FALSELY_FOUND = 0.05  # of good pictures held out have a place that is called a defect, there
LEAST_GOOD = 20  # good pictures held out: fewer say nothing about how strange others may be
WRONGLY_FOUND = 3  # places of a picture where a finder is wrong, that a classifier learns as good
ELSEWHERE = 0.1  # a place that overlaps all marked boxes by less is none of them
SAME = 0.5  # overlap of a found box with a marked one, for it to be right
LEAST_SURE = 1 / 255  # the lowest step of a map: from 0 on, all of every picture is a defect


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What training gives."""

    inspection: Inspection
    held_out: Bool  # [N] which examples taught no weight
    epochs: tuple[int, ...]  # passes made, of each network
    best_epoch: tuple[int, ...]  # whose weights are kept, counted from 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Learnt:
    """What the card needs to know."""

    tensors: Mapping[str, Tensor]
    calibration: Calibration
    metrics: Mapping[str, float]
    fits: Sequence[Fit]
    sure: float | None = None


def train(
    examples: Examples,
    settings: InspectionSettings,
    fit: VisionFitSettings,
    *,
    good: str | None = None,
    backbone: Path | None = None,
    progress: Progress | None = None,
    checkpoint: Path | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    warn: Callable[[str], None] = warnings.warn,
) -> Trained:
    """Learn to tell the classes of pictures apart, to find what is marked on them, or what is odd.

    Args:
        examples: What is learnt from: pictures with labels, with boxes, or with masks.
        settings: What the networks see, and how large they are.
        fit: How they are trained.
        good: The class of pictures with nothing wrong; with labels, None if there is no such class.
        With boxes or masks it is needed: it is what a picture or a place is called that has no
        defect. Where all labels are good, defects are made up to learn from.
        backbone: A file of weights to start from, for the network that tells classes apart.
        progress: Told after every epoch.
        checkpoint: A folder that each epoch is saved to, and that training goes on from where it
        exists. It is the caller's to remove, once the inspection is safe.
        should_stop: Asked often; true raises Interrupted.
        warn: Told what is odd about the examples, before anything is learnt.

    Raises:
        ValueError: The examples cannot make an inspection, the checkpoint is of another training,
        or the backbone's weights do not fit.
        PictureError: A picture is none, or not like the others.
        Interrupted: should_stop() said so; the same call goes on, and ends with the same bits.
    """
    task, shown, classes = _checked(examples, good, settings.preprocess.crop, warn)
    stock = Stock(examples, settings)
    real = np.flatnonzero(~examples.are_made).tolist()
    if examples.groups is None:  # made pictures tie no real ones together
        groups: Sequence[object] = grouped(examples.pictures[n] for n in real).tolist()
    else:
        groups = [examples.groups[n] for n in real]
    out = np.zeros(len(shown), np.bool_)
    out[real] = held_out([shown[n] for n in real], groups, fit.validation_share, seed=fit.seed)
    _check_good(shown, out, good if task != "boxes" else None)
    work = _Work(
        task=task,
        stock=stock,
        settings=settings,
        fit=fit,
        classes=classes,
        good=good,
        shown=shown,
        learning=np.flatnonzero(~out).tolist(),
        validating=np.flatnonzero(out).tolist(),
        backbone=backbone,
        fingerprint=_fingerprint(stock, settings, fit, out, backbone),
        progress=progress,
        checkpoint=checkpoint,
        should_stop=should_stop,
        warn=warn,
    )
    learnt = {
        "classes": work.whole,
        "boxes": work.places,
        "masks": work.pixels,
        "good": work.pixels,
    }[task]()
    best = learnt.fits[-1]
    card = VisionCard(
        task=task,
        settings=settings,
        seen=stock.seen,
        classes=classes,
        good=good,
        sure=learnt.sure,
        calibration=learnt.calibration,
        learnt=_counted(shown[n] for n in work.learning),
        made=_counted(shown[n] for n in np.flatnonzero(examples.are_made).tolist()),
        held_out=_counted(shown[n] for n in work.validating),
        data_hash=stock.hash,
        training=fit.model_dump(mode="json"),
        seeds=(fit.seed,),
        metrics={
            "validation_loss": best.best_loss,
            "best_epoch": best.best_epoch,
            **learnt.metrics,
        },
        code_version=code_version(),
        created_with=versions(),
        weights_sha256=digest(learnt.tensors),
    )
    return Trained(
        inspection=Inspection(card, learnt.tensors),
        held_out=out,
        epochs=tuple(one.epoch for one in learnt.fits),
        best_epoch=tuple(one.best_epoch for one in learnt.fits),
    )


def _checked(
    examples: Examples, good: str | None, crop: Crop | None, warn: Callable[[str], None]
) -> tuple[Task, Shown, tuple[str, ...]]:
    """What is learnt, the classes on each picture, and all of them by name."""
    count = len(examples.pictures)
    for what in ("labels", "boxes", "masks", "groups", "made"):
        given = getattr(examples, what)
        if given is not None and len(given) != count:
            raise ValueError(f"{what}: want {count}, one for each picture, got {len(given)}")
    check_templates(examples.templates is not None, count, examples.templates)
    task, shown, names = _task(examples, good, crop, warn)
    made = examples.are_made
    real = {name for own, fake in zip(shown, made, strict=True) if not fake for name in own}
    if unreal := sorted({name for own in shown for name in own} - real):
        raise ValueError(f"training: want real pictures of each class, {unreal[0]!r} has none")
    if len(names) < 2:
        raise ValueError(
            f"training: want pictures of two classes or more, got {count} of "
            f"{', '.join(names) or 'none'}."
        )
    if good is not None and good not in names:
        raise ValueError(
            f"good: no picture is labelled {good!r}; classes: {', '.join(sorted(names))}"
        )
    return task, shown, tuple(sorted(names))


def _check_good(shown: Shown, out: Bool, good: str | None) -> None:
    """Raises ValueError, before anything is learnt, where too few pictures calibrate."""
    count = sum(good is None or good in shown[n] for n in np.flatnonzero(out).tolist())
    if count < LEAST_GOOD:
        what = "pictures" if good is None else f"pictures of class {good!r}"
        of = len(shown) if good is None else sum(good in own for own in shown)
        raise ValueError(
            f"training: want {LEAST_GOOD} {what} or more held out, to know how unusual others "
            f"are; got {count} of {of}. Give more of them, or a larger validation_share."
        )


def _counted(shown: Iterable[Collection[str]]) -> dict[str, int]:
    """Pictures that show each class."""
    return dict(Counter(name for own in shown for name in own))


def _task(
    examples: Examples, good: str | None, crop: Crop | None, warn: Callable[[str], None]
) -> tuple[Task, Shown, set[str]]:
    """What is learnt, the classes on each picture, and all of them."""
    known = (examples.labels, examples.boxes, examples.masks)
    if sum(one is not None for one in known) != 1:
        raise ValueError("examples: want labels, boxes or masks, one of them")
    if examples.boxes is not None:
        return "boxes", *_on_places(examples.boxes, good, "boxes", crop, warn)
    if examples.masks is not None:
        return "masks", *_on_places(examples.masks, good, "masks", crop, warn)
    assert examples.labels is not None  # noqa: S101 (as was asked before)
    shown = [(label,) for label in examples.labels]
    if good is None or set(examples.labels) != {good}:
        return "classes", shown, set(examples.labels)
    if good == ANOMALY:
        raise ValueError(f"good: {good!r} is what others will be called; name it otherwise")
    return "good", shown, {ANOMALY, good}


def _on_places(
    places: Sequence[Sequence[Marked | Region]],
    good: str | None,
    task: Task,
    crop: Crop | None,
    warn: Callable[[str], None],
) -> tuple[Shown, set[str]]:
    """Of each picture its defects, or good; and the classes of places."""
    if good is None:
        raise ValueError(f"good: want a name for what has no defect, where {task} are learnt")
    marks = [[(one.label, one.within(crop)) for one in own] for own in places]
    counts = Counter(label for own in marks for label, within in own if within)
    if good in counts:
        raise ValueError(f"good: {good!r} is marked as a defect on {counts[good]} places")
    beyond = Counter(label for own in marks for label, within in own if not within)
    if beyond:
        warn(
            f"{task}: {_listed(beyond)} beyond the crop {list(crop or ())}: left out, for the "
            "network does not see them. Correct preprocess.crop if it should."
        )
    shown = [tuple(dict.fromkeys(name for name, seen in own if seen)) or (good,) for own in marks]
    return shown, {good, *counts} if counts else set()


def _listed(counts: Mapping[str, int]) -> str:
    """As "3 of scratch, 1 of pit"."""
    return ", ".join(f"{count} of {name}" for name, count in counts.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """One training: its parts, and how they are told."""

    task: Task
    stock: Stock
    settings: InspectionSettings
    fit: VisionFitSettings
    classes: tuple[str, ...]
    good: str | None
    shown: Shown
    learning: list[int]
    validating: list[int]
    backbone: Path | None
    fingerprint: str
    progress: Progress | None
    checkpoint: Path | None
    should_stop: Callable[[], bool]
    warn: Callable[[str], None]

    def whole(self) -> _Learnt:
        """Pictures by their labels."""
        generator = torch.Generator().manual_seed(self.fit.seed)
        network = Classifier(self.settings.network, self.stock.channels, len(self.classes))
        self._start(network, generator)
        labels = [label for (label,) in self.shown]
        objective = Classes(
            network,
            self.stock.batch,
            [self.classes.index(label) for label in labels],
            self.fit,
            learning=self.learning,
            validating=self.validating,
            device=resolve(self.fit.device),
        )
        fit = self._run(objective, generator, number=1, fits=1)
        good = self.good
        known = [n for n in self.learning if good is None or labels[n] == good]
        prototypes = torch.from_numpy(prototypes_of(objective.look(known)[1].numpy()))
        logits, features = objective.look(self.validating)
        number = None if good is None else self.classes.index(good)
        anomaly = anomaly_of(number, features, logits, prototypes).numpy()
        counts = [good is None or labels[n] == good for n in self.validating]
        right = logits.argmax(1) == objective.target[self.validating].argmax(1)
        return _Learnt(
            tensors=tensors_of(network, prototypes),
            calibration=Calibration.fit(anomaly[counts], least=LEAST_GOOD, what="pictures"),
            metrics={"validation_accuracy": float(right.float().mean())},
            fits=(fit,),
        )

    def places(self) -> _Learnt:
        """Where defects are, then which they are."""
        assert self.good is not None  # noqa: S101 (boxes want it)
        device = resolve(self.fit.device)
        good = self.classes.index(self.good)
        finder, classifier = networks(self.settings, self.stock.channels, len(self.classes))
        generator = torch.Generator().manual_seed(self.fit.seed << 1)
        start(finder, generator)
        centres = Centres(
            finder,
            self.stock,
            self.fit,
            crop=self.settings.finder.crop,
            crops=self.settings.finder.crops,
            learning=self.learning,
            validating=self.validating,
            device=device,
        )
        first = self._run(centres, generator, number=1, fits=2)
        generator = torch.Generator().manual_seed((self.fit.seed << 1) + 1)
        self._start(classifier, generator)
        patch = self.settings.finder.patch
        pair = Pair(finder, classifier.eval(), good=good, patch=patch, device=device)
        shown = _Shown(self.stock, pair, self.classes, patch=patch)
        learning, validating = (shown.add(part) for part in (self.learning, self.validating))
        classes = Classes(
            classifier,
            shown.batch,
            shown.labels,
            self.fit,
            learning=learning,
            validating=validating,
            device=device,
        )
        second = self._run(classes, generator, number=2, fits=2)
        tensors = {
            f"{prefix}{name}": x.cpu().contiguous()
            for prefix, network in ((FINDER, finder), (NETWORK, classifier))
            for name, x in network.state_dict().items()
        }
        anomaly, found, marked = [], [], []
        for number in self.validating:
            (seen,) = pair.look(self.stock.batch([number]), least=LEAST)
            own = self.stock.places(number)
            anomaly.append(_anomaly_elsewhere(seen, own, good))
            found.append(_boxes(seen, self.classes, good))
            marked.append(Boxes.listed((label, box, 1.0) for label, box in own))
        scores = box_scores(marked, found, SAME)
        return _Learnt(
            tensors=tensors,
            calibration=Calibration.fit(np.array(anomaly), least=LEAST_GOOD, what="pictures"),
            metrics={"validation_map50": scores.mean, "validation_f1_50": scores.f1},
            fits=(first, second),
            sure=scores.at,
        )

    def pixels(self) -> _Learnt:
        """What each pixel is of."""
        assert self.good is not None  # noqa: S101 (masks want it)
        device = resolve(self.fit.device)
        good = self.classes.index(self.good)
        settings = self.settings.mask
        network = Segmenter(settings.network, self.stock.channels, len(self.classes))
        generator = torch.Generator().manual_seed(self.fit.seed)
        self._start(network, generator)
        objective = Regions(
            network,
            self.stock,
            self.fit,
            painted=self._painted(good),
            good=good,
            crop=settings.crop,
            crops=settings.crops,
            learning=self.learning,
            validating=self.validating,
            device=device,
            sizes=settings.made_up if self.task == "good" else None,
        )
        fit = self._run(objective, generator, number=1, fits=1)
        anomaly, maps = [], []
        for number in self.validating:
            _, (share,) = look_at_pixels(network, self.stock.batch([number]), device)
            painted = objective.painted[number] != good
            wrong = resized(1 - share[None, good], painted.shape)[0].numpy()
            maps.append((eight_bits(wrong), painted))
            if self.shown[number] == (self.good,):
                anomaly.append(whole_of(share, good)[0])
        metrics = {}
        if self.task == "good":
            highest = [heat.max() / np.iinfo(heat.dtype).max for heat, _ in maps]
            sure = max(float(np.quantile(highest, 1 - FALSELY_FOUND)), LEAST_SURE)
        else:
            scores = mask_scores(maps, threshold=0.5)
            sure = max(scores.dice_from, LEAST_SURE)
            metrics = {
                f"validation_{name}": getattr(scores, name)
                for name in ("pixel_ap", "aupro", "dice")
            }
        return _Learnt(
            tensors={
                f"{NETWORK}{name}": x.cpu().contiguous() for name, x in network.state_dict().items()
            },
            calibration=Calibration.fit(np.array(anomaly), least=LEAST_GOOD, what="pictures"),
            metrics=metrics,
            fits=(fit,),
            sure=sure,
        )

    def _painted(self, good: int) -> dict[int, U8]:
        """The class of each pixel of a prepared picture [H, W], by its number."""
        numbers = (*self.learning, *self.validating)
        if self.task == "good":
            clean = np.full(self.stock.size, good, np.uint8)
            return dict.fromkeys(numbers, clean)
        painted, thin = {}, Counter[str]()
        for number in numbers:
            painted[number], labels = self.stock.painted(number, self.classes, good)
            thin.update(labels)
        if thin:
            height, width = self.stock.size
            self.warn(
                f"masks: {_listed(thin)} cover no pixel by half, once a picture is brought to "
                f"{width} x {height} pixels: what they cover most is learnt. Raise "
                "preprocess.width and height to have them learnt as they are."
            )
        return painted

    def _start(self, network: Classifier | Segmenter, generator: torch.Generator) -> None:
        start(network, generator)
        if self.backbone is not None:
            load_backbone(network.backbone, self.backbone)

    def _run(
        self, objective: Objective, generator: torch.Generator, *, number: int, fits: int
    ) -> Fit:
        fit = Fit(objective, self.fit, generator, fingerprint=f"{self.fingerprint}-{number}")
        checkpoint = self.checkpoint
        try:
            fit.run(
                number=number,
                fits=fits,
                progress=self.progress,
                checkpoint=None if checkpoint is None else checkpoint / f"fit-{number}",
                should_stop=self.should_stop,
            )
        except StoppedError:
            kept = "nothing is kept"
            if checkpoint is not None:
                kept = f"the same training goes on from {checkpoint}"
            raise Interrupted(f"training was stopped; {kept}", checkpoint=checkpoint) from None
        return fit


class _Shown:
    """Places as a classifier is shown them: those marked, and those where a finder was wrong."""

    def __init__(self, stock: Stock, pair: Pair, classes: tuple[str, ...], *, patch: int) -> None:
        self.stock, self.pair, self.classes, self.patch = stock, pair, classes, patch
        self.labels: list[int] = []
        self._looks: list[Tensor] = []

    def add(self, numbers: Sequence[int]) -> list[int]:
        """Those of these pictures; gives their own numbers."""
        before = len(self.labels)
        for number in numbers:
            shown = self.stock.batch([number])
            marked = self.stock.places(number)
            box = torch.tensor([box for _, box in marked], dtype=torch.float32).reshape(-1, 4)
            (seen,) = self.pair.look(shown)
            wrong = seen.box[_elsewhere(seen.box, box)][:WRONGLY_FOUND]
            self.labels += [self.classes.index(label) for label, _ in marked]
            self.labels += [self.pair.good] * len(wrong)
            both = torch.cat([box, wrong])
            if len(both):
                self._looks.extend(patches(shown[0], both, self.patch))
        return list(range(before, len(self.labels)))

    def batch(self, numbers: Sequence[int]) -> Tensor:
        """Float32 [N, C, patch, patch]."""
        return torch.stack([self._looks[number] for number in numbers])


def _elsewhere(box: Tensor, marked: Tensor) -> Tensor:
    """Which boxes [M] are none of those that are marked."""
    if not len(marked):
        return torch.ones(len(box), dtype=torch.bool)
    return overlaps(box, marked).amax(1) < ELSEWHERE


def _anomaly_elsewhere(
    seen: Seen, marked: Sequence[tuple[str, tuple[float, float, float, float]]], good: int
) -> float:
    """That of a picture without the places that are marked: as if it were good."""
    box = torch.tensor([box for _, box in marked], dtype=torch.float32).reshape(-1, 4)
    wrong = (1 - seen.share[:, good])[_elsewhere(seen.box, box)]
    return anomaly_of_places(wrong if len(wrong) else torch.zeros(1))


def _boxes(seen: Seen, classes: tuple[str, ...], good: int) -> Boxes:
    """What was found, each place by its most probable defect."""
    others = [number for number in range(len(classes)) if number != good]
    sure, name = seen.share[:, others].max(1)
    labels = [classes[others[int(one)]] for one in name]
    return Boxes(seen.box.numpy().astype(np.float64), np.array(labels, np.str_), sure.numpy())


def _fingerprint(
    stock: Stock,
    settings: InspectionSettings,
    fit: VisionFitSettings,
    out: Bool,
    backbone: Path | None,
) -> str:
    """What makes two trainings the same."""
    parts = [
        settings.model_dump(mode="json"),
        fit.model_dump(mode="json"),
        stock.hash,
        np.packbits(out).tolist(),
        None if backbone is None else hashlib.sha256(backbone.read_bytes()).hexdigest(),
        versions(),
        code_version(),
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


__all__ = ["Examples", "Trained", "train"]

"""From labelled pictures to an inspection: split, learn, stop in time, calibrate.

What is held out, by groups of near copies, says when to stop and what the anomaly of a good picture
is like; it never teaches a weight. It has chosen the epoch, though: a figure to be believed is of
pictures that this module has not seen at all.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.bundle import code_version, resolve, versions
from models.calibration import Calibration
from models.training import Progress
from models.vision.augment import Lot, varied
from models.vision.bundle import Seen, VisionCard, digest
from models.vision.fit import Fit
from models.vision.inspection import (
    Inspection,
    anomaly_of,
    check_templates,
    prototypes_of,
    tensors_of,
)
from models.vision.network import Classifier, load_backbone, start
from models.vision.preprocess import PictureError, Pixels, checked, paired, prepared
from models.vision.settings import InspectionSettings, VisionFitSettings
from models.vision.splits import grouped, held_out

# N pictures, C channels, H W as prepared, K classes, F features

Bool = NDArray[np.bool_]

LEAST_GOOD = 20  # good pictures held out: fewer say nothing about how strange others may be
KEPT_BYTES = 2 << 30  # prepared pictures are kept up to here; beyond, they are prepared each time
CHECKPOINT = "checkpoint"


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """Pictures with what is known of them. The sequences may read as they are asked."""

    pictures: Sequence[Pixels]
    labels: Sequence[str]
    templates: Sequence[Pixels] | None = None  # a golden one for each
    groups: Sequence[object] | None = None  # equal: never on both sides; None: near copies are
    made: Sequence[bool] | None = None  # by a generator: these teach, and are never held out


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What training gives."""

    inspection: Inspection
    held_out: Bool  # [N] which examples taught no weight
    epochs: int  # passes made
    best_epoch: int  # whose weights are kept, counted from 1


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
) -> Trained:
    """Learn to tell the classes of pictures apart.

    Args:
        examples: What is learnt from.
        settings: What the network sees, and how large it is.
        fit: How it is trained.
        good: The class of pictures with nothing wrong, where there is one.
        backbone: A file of weights to start from.
        progress: Told after every epoch.
        checkpoint: A folder that each epoch is saved to, and that training goes on from where it
        exists. It is the caller's to remove, once the inspection is safe.
        should_stop: Asked often; true raises Interrupted.

    Raises:
        ValueError: The examples cannot make an inspection, the checkpoint is of another training,
        or the backbone's weights do not fit.
        PictureError: A picture is none, or not like the others.
        Interrupted: should_stop() said so; the same call goes on, and ends with the same bits.
    """
    classes = _checked(examples, good)
    stock = _Stock(examples, settings)
    groups = grouped(examples.pictures) if examples.groups is None else examples.groups
    real = np.flatnonzero(~_made(examples)).tolist()
    out = np.zeros(len(examples.labels), np.bool_)
    out[real] = held_out(
        [examples.labels[n] for n in real],
        [groups[n] for n in real],
        fit.validation_share,
        seed=fit.seed,
    )
    generator = torch.Generator().manual_seed(fit.seed)
    network = Classifier(settings.network, stock.channels, len(classes))
    start(network, generator)
    if backbone is not None:
        load_backbone(network.backbone, backbone)
    objective = _Classes(stock, network, classes, fit, out=out)
    fingerprint = _fingerprint(stock, settings, fit, out, backbone)
    under_way = Fit(objective, fit, generator, fingerprint=fingerprint)
    under_way.run(
        number=1, fits=1, progress=progress, checkpoint=checkpoint, should_stop=should_stop
    )
    tensors, calibration, metrics = objective.finish(good)
    labels = examples.labels
    card = VisionCard(
        settings=settings,
        seen=stock.seen,
        classes=classes,
        good=good,
        calibration=calibration,
        learnt=dict(Counter(labels[n] for n in objective.learning)),
        made=dict(Counter(labels[n] for n in np.flatnonzero(_made(examples)).tolist())),
        held_out=dict(Counter(labels[n] for n in objective.validating)),
        data_hash=stock.hash,
        training=fit.model_dump(mode="json"),
        seeds=(fit.seed,),
        metrics={
            "validation_loss": under_way.best_loss,
            "best_epoch": under_way.best_epoch,
            **metrics,
        },
        code_version=code_version(),
        created_with=versions(),
        weights_sha256=digest(tensors),
    )
    return Trained(
        inspection=Inspection(card, tensors),
        held_out=out,
        epochs=under_way.epoch,
        best_epoch=under_way.best_epoch,
    )


def _checked(examples: Examples, good: str | None) -> tuple[str, ...]:
    """The classes, in order of their names."""
    count = len(examples.pictures)
    for what in ("labels", "groups", "made"):
        given = getattr(examples, what)
        if given is not None and len(given) != count:
            raise ValueError(f"{what}: want {count}, one for each picture, got {len(given)}")
    check_templates(examples.templates is not None, count, examples.templates)
    if unreal := sorted(set(examples.labels) - {*np.array(examples.labels)[~_made(examples)]}):
        raise ValueError(f"training: want real pictures of each class, {unreal[0]!r} has none")
    classes = tuple(sorted(set(examples.labels)))
    if len(classes) < 2:
        raise ValueError(
            f"training: want pictures of two classes or more, got {count} of "
            f"{', '.join(classes) or 'none'}."
        )
    if good is not None and good not in classes:
        raise ValueError(f"good: no picture is labelled {good!r}; classes: {', '.join(classes)}")
    return classes


def _made(examples: Examples) -> Bool:
    if examples.made is None:
        return np.zeros(len(examples.labels), np.bool_)
    return np.array(examples.made, np.bool_)


class _Stock:
    """Pictures as the network sees them, kept while they fit."""

    def __init__(self, examples: Examples, settings: InspectionSettings) -> None:
        self.examples = examples
        self.settings = settings.preprocess
        self._kept: dict[int, Tensor] = {}
        self._hash = hashlib.sha256()
        shapes, kinds = set(), set()
        for number, picture in enumerate(examples.pictures):
            what = f"picture {number + 1}"
            made = self._prepared(number, checked(picture, what))
            shapes.add(picture.shape)
            kinds.add((picture.dtype.name, picture.shape[2]))
            if len(kinds) > 1:
                raise PictureError(
                    f"{what}: pictures of several kinds: "
                    f"{', '.join(f'{d} with {c} channels' for d, c in sorted(kinds))}. "
                    "Give pictures of one camera setting."
                )
            if made.numel() * made.element_size() * len(examples.pictures) <= KEPT_BYTES:
                self._kept[number] = made
            self._hash.update(repr((examples.labels[number], picture.shape)).encode())
            self._hash.update(picture.tobytes())
            if examples.templates is not None:
                self._hash.update(examples.templates[number].tobytes())
        self.channels = len(made)
        depth, channels = kinds.pop()
        self.seen = Seen(
            depth=depth,
            channels=channels,
            heights=(min(s[0] for s in shapes), max(s[0] for s in shapes)),
            widths=(min(s[1] for s in shapes), max(s[1] for s in shapes)),
            paired=self.paired,
        )

    @property
    def paired(self) -> bool:
        """Whether each picture is compared with a golden one."""
        return self.examples.templates is not None

    @property
    def hash(self) -> str:
        """SHA-256 of pictures, templates and labels."""
        return self._hash.hexdigest()

    def batch(self, numbers: Sequence[int]) -> Tensor:
        """Float32 [N, C, H, W]."""
        found = [
            self._kept[n] if n in self._kept else self._prepared(n, self.examples.pictures[n])
            for n in numbers
        ]
        return torch.stack(found)

    def _prepared(self, number: int, picture: Pixels) -> Tensor:
        made = prepared(picture, self.settings)
        if self.examples.templates is None:
            return made
        return paired(made, prepared(self.examples.templates[number], self.settings))


class _Classes:
    """Telling classes apart: cross entropy, each class by what it is to count for."""

    def __init__(
        self,
        stock: _Stock,
        network: Classifier,
        classes: tuple[str, ...],
        fit: VisionFitSettings,
        *,
        out: Bool,
    ) -> None:
        self.stock, self.classes, self.fit = stock, classes, fit
        self.device = resolve(fit.device)
        self.network = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's overloads leave it out
        index = torch.tensor([classes.index(label) for label in stock.examples.labels])
        self.target = functional.one_hot(index, len(classes)).float()  # [N, K]
        self.learning = np.flatnonzero(~out).tolist()
        self.validating = np.flatnonzero(out).tolist()
        self.count = len(self.learning)
        prior = self.target[self.learning].mean(0)
        self.adjustment = (fit.balance * prior.log()).to(self.device)  # [K]

    def loss(self, numbers: Sequence[int], generator: torch.Generator) -> Tensor:
        """In nats, of pictures as they are varied."""
        chosen = [self.learning[n] for n in numbers]
        lot = Lot(picture=self.stock.batch(chosen), share=self.target[chosen])
        lot = varied(lot, self.fit.augment, generator)
        return self._loss(self.network(self._placed(lot.picture)), lot.share)

    def validate(self) -> float:
        """In nats, of pictures as they are."""
        logits, _ = self.look(self.validating)
        return float(self._loss(logits.to(self.device), self.target[self.validating]))

    def look(self, numbers: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Logits [N, K] and features [N, F] of pictures as they are."""
        parts = []
        size = self.fit.batch_size
        for first in range(0, len(numbers), size):
            batch = self._placed(self.stock.batch(numbers[first : first + size]))
            with torch.no_grad():
                features, places = self.network.look(batch)
            parts.append((places.mean((2, 3)).cpu(), features.cpu()))
        logits, features = (torch.cat(column) for column in zip(*parts, strict=True))
        return logits, features

    def finish(self, good: str | None) -> tuple[dict[str, Tensor], Calibration, dict[str, float]]:
        """What is kept of the network, what its anomaly means, and how right it is.

        The last two on what was held out. Raises ValueError where that holds too few good pictures.
        """
        labels = self.stock.examples.labels
        known = [n for n in self.learning if good is None or labels[n] == good]
        prototypes = prototypes_of(self.look(known)[1].numpy())
        number = None if good is None else self.classes.index(good)
        logits, features = self.look(self.validating)
        anomaly = anomaly_of(number, features, logits, torch.from_numpy(prototypes)).numpy()
        counts = [good is None or labels[n] == good for n in self.validating]
        calibration = Calibration.fit(anomaly[counts], least=LEAST_GOOD, what="pictures")
        right = logits.argmax(1) == self.target[self.validating].argmax(1)
        tensors = tensors_of(self.network, torch.from_numpy(prototypes))
        return tensors, calibration, {"validation_accuracy": float(right.float().mean())}

    def _loss(self, logits: Tensor, share: Tensor) -> Tensor:
        spread = self.fit.smoothing
        share = share.to(self.device) * (1 - spread) + spread / share.shape[1]
        return -(share * (logits + self.adjustment).log_softmax(1)).sum(1).mean()

    def _placed(self, picture: Tensor) -> Tensor:
        return picture.to(self.device).contiguous(memory_format=torch.channels_last)


def _fingerprint(
    stock: _Stock,
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

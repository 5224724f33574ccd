"""From labelled pictures to an inspection: split, learn, stop in time, calibrate.

What is held out, by groups of near copies, says when to stop and what the anomaly of a good picture
is like; it never teaches a weight. It has chosen the epoch, though: a figure to be believed is of
pictures that this module has not seen at all.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.bundle import code_version, resolve, versions, write_folder
from models.calibration import Calibration
from models.contract import under
from models.fitting import Dropout, optimizer, penalty, rate
from models.training import Epoch, Interrupted, Progress
from models.vision.augment import Lot, varied
from models.vision.bundle import Seen, VisionCard, digest
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
    under_way = _Fit(stock, classes, settings, fit, out=out, backbone=backbone)
    under_way.restore(checkpoint)
    while not under_way.finished:
        at, step = under_way.epoch, under_way.rate
        training_loss, validation_loss = under_way.run_epoch(should_stop, checkpoint)
        under_way.save(checkpoint)
        if progress is not None:
            progress(
                Epoch(
                    fit=1,
                    fits=1,
                    epoch=at + 1,
                    epochs=fit.epochs,
                    training_loss=training_loss,
                    validation_loss=validation_loss,
                    learning_rate=step,
                    gradient_norm=under_way.gradient_norm,
                )
            )
    return Trained(
        inspection=under_way.inspection(good),
        held_out=out,
        epochs=under_way.epoch,
        best_epoch=under_way.epoch - under_way.stale,
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


class _Fit:
    """One training under way; ``save`` and ``restore`` move all of it."""

    def __init__(
        self,
        stock: _Stock,
        classes: tuple[str, ...],
        settings: InspectionSettings,
        fit: VisionFitSettings,
        *,
        out: Bool,
        backbone: Path | None,
    ) -> None:
        self.stock, self.classes, self.settings, self.fit = stock, classes, settings, fit
        self.device = resolve(fit.device)
        labels = stock.examples.labels
        index = torch.tensor([classes.index(label) for label in labels])
        self.target = functional.one_hot(index, len(classes)).float()  # [N, K]
        self.learning = np.flatnonzero(~out).tolist()
        self.validating = np.flatnonzero(out).tolist()
        prior = self.target[self.learning].mean(0)
        self.adjustment = (fit.balance * prior.log()).to(self.device)  # [K]
        self.generator = torch.Generator().manual_seed(fit.seed)
        network = Classifier(settings.network, stock.channels, len(classes))
        start(network, self.generator)
        if backbone is not None:
            load_backbone(network.backbone, backbone)
        self.network = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's overloads leave it out
        for module in network.modules():
            if isinstance(module, Dropout):
                module.share, module.draw = fit.dropout, self._draw
        self.optimizer = optimizer(self.network, fit)
        self.epoch, self.stale, self.cuts = 0, 0, 0
        self.best_loss = math.inf
        self.gradient_norm = 0.0
        self.best = self._weights()
        self.fingerprint = self._fingerprint(out, backbone)

    @property
    def finished(self) -> bool:
        """No more epochs, or no more patience."""
        return self.epoch >= self.fit.epochs or self.stale >= self.fit.patience

    @property
    def rate(self) -> float:
        """The optimizer's step in the epoch to come."""
        return rate(self.fit, self.epoch, self.cuts)

    def run_epoch(
        self, should_stop: Callable[[], bool], checkpoint: Path | None
    ) -> tuple[float, float]:
        """One pass; gives the training and the validation loss of a picture, in nats."""
        order = torch.randperm(len(self.learning), generator=self.generator).tolist()
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate
        self.network.train()
        total, count, norms = 0.0, 0, []
        size = self.fit.batch_size
        for first in range(0, len(order), size):
            if should_stop():
                raise Interrupted(_stopped(checkpoint), checkpoint=checkpoint)
            numbers = [self.learning[n] for n in order[first : first + size]]
            if len(numbers) < 2:
                continue  # a batch norm wants two
            loss, norm = self._learn(numbers)
            total, count = total + loss * len(numbers), count + len(numbers)
            norms.append(norm)
        self.gradient_norm = sum(norms) / max(len(norms), 1)
        training = total / max(count, 1)
        logits, _ = self._look(self.validating)
        validation = self._loss(logits, self.target[self.validating]).item()
        if not math.isfinite(training) or not math.isfinite(validation):
            raise ValueError(
                f"training: the loss is not finite after epoch {self.epoch + 1}. "
                f"Try a learning_rate below {self.fit.learning_rate}."
            )
        self.epoch += 1
        if validation < self.best_loss - self.fit.min_delta:
            self.best_loss, self.stale, self.best = validation, 0, self._weights()
        else:
            self.stale += 1
            self.cuts += self.stale % self.fit.schedule_epochs == 0
        return training, validation

    def inspection(self, good: str | None) -> Inspection:
        """The network of the best epoch, with what it makes of good pictures."""
        self.network.load_state_dict(self.best)
        labels = self.stock.examples.labels
        known = [n for n in self.learning if good is None or labels[n] == good]
        logits, features = self._look(self.validating)
        prototypes = prototypes_of(self._look(known)[1].numpy())
        number = None if good is None else self.classes.index(good)
        anomaly = anomaly_of(number, features, logits, torch.from_numpy(prototypes)).numpy()
        counts = [good is None or labels[n] == good for n in self.validating]
        calibration = Calibration.fit(anomaly[counts], least=LEAST_GOOD, what="pictures")
        right = logits.argmax(1) == self.target[self.validating].argmax(1)
        tensors = tensors_of(self.network, torch.from_numpy(prototypes))
        card = VisionCard(
            settings=self.settings,
            seen=self.stock.seen,
            classes=self.classes,
            good=good,
            calibration=calibration,
            learnt=dict(Counter(labels[n] for n in self.learning)),
            made=dict(
                Counter(labels[n] for n in np.flatnonzero(_made(self.stock.examples)).tolist())
            ),
            held_out=dict(Counter(labels[n] for n in self.validating)),
            data_hash=self.stock.hash,
            training=self.fit.model_dump(mode="json"),
            seeds=(self.fit.seed,),
            metrics={
                "validation_loss": self.best_loss,
                "validation_accuracy": float(right.float().mean()),
                "best_epoch": self.epoch - self.stale,
            },
            code_version=code_version(),
            created_with=versions(),
            weights_sha256=digest(tensors),
        )
        return Inspection(card, tensors)

    def save(self, checkpoint: Path | None) -> None:
        """Everything that the next epoch depends on, if a folder is given."""
        if checkpoint is None:
            return
        tensors = {f"now.{name}": x for name, x in self._weights().items()}
        tensors |= {f"best.{name}": x for name, x in self.best.items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            for name, x in moments.items():
                if x is not None:  # a momentum that is not used
                    tensors[f"optimizer.{index}.{name}"] = x.detach().cpu().contiguous()
        tensors["generator"] = self.generator.get_state()
        numbers = {
            "fingerprint": self.fingerprint,
            "epoch": self.epoch,
            "stale": self.stale,
            "cuts": self.cuts,
            "best_loss": self.best_loss,
        }
        files = {
            f"{CHECKPOINT}.json": json.dumps(numbers, indent=1, allow_nan=False).encode(),
            f"{CHECKPOINT}.safetensors": safetensors.torch.save(tensors),
        }
        write_folder(checkpoint, files)

    def restore(self, checkpoint: Path | None) -> None:
        """Take up what was saved, if it was. Raises ValueError for a checkpoint of another."""
        if checkpoint is None or not checkpoint.exists():
            return
        try:
            numbers = json.loads((checkpoint / f"{CHECKPOINT}.json").read_bytes())
            tensors = safetensors.torch.load_file(checkpoint / f"{CHECKPOINT}.safetensors")
            fingerprint = numbers["fingerprint"]
        except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
            raise ValueError(
                f"{checkpoint}: no checkpoint of a training: {error}. Remove it to start anew."
            ) from error
        if fingerprint != self.fingerprint:
            raise ValueError(
                f"{checkpoint}: a checkpoint of another training (other pictures, labels or "
                "settings). Remove it to start anew, or give the same again."
            )
        self.network.load_state_dict(under("now.", tensors))
        self.best = under("best.", tensors)
        state = self.optimizer.state_dict()
        for name, x in under("optimizer.", tensors).items():
            index, key = name.split(".", 1)
            state["state"].setdefault(int(index), {})[key] = x
        self.optimizer.load_state_dict(state)
        self.generator.set_state(tensors["generator"])
        self.epoch, self.stale, self.cuts = numbers["epoch"], numbers["stale"], numbers["cuts"]
        self.best_loss = numbers["best_loss"]

    def _learn(self, numbers: Sequence[int]) -> tuple[float, float]:
        """One step; the loss, and how long the gradient was."""
        lot = Lot(picture=self.stock.batch(numbers), share=self.target[numbers])
        lot = varied(lot, self.fit.augment, self.generator)
        logits = self.network(self._placed(lot.picture))
        loss = self._loss(logits, lot.share)
        cost = penalty(self.network, self.fit)
        self.optimizer.zero_grad(set_to_none=True)
        (loss if cost is None else loss + cost).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        norm = torch.nn.utils.clip_grad_norm_(
            self.network.parameters(), self.fit.gradient_norm or math.inf
        )
        self.optimizer.step()
        return float(loss.detach()), float(norm)

    def _loss(self, logits: Tensor, share: Tensor) -> Tensor:
        """Cross entropy with what each class counts for, a mean over pictures."""
        spread = self.fit.smoothing
        share = share.to(logits.device) * (1 - spread) + spread / share.shape[1]
        adjusted = logits + self.adjustment.to(logits.device)
        return -(share * adjusted.log_softmax(1)).sum(1).mean()

    def _look(self, numbers: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Logits [N, K] and features [N, F] of pictures as they are."""
        self.network.eval()
        parts = []
        size = self.fit.batch_size
        with torch.no_grad():
            for first in range(0, len(numbers), size):
                batch = self._placed(self.stock.batch(numbers[first : first + size]))
                features, places = self.network.look(batch)
                parts.append((places.mean((2, 3)).cpu(), features.cpu()))
        logits, features = (torch.cat(column) for column in zip(*parts, strict=True))
        return logits, features

    def _placed(self, picture: Tensor) -> Tensor:
        return picture.to(self.device).contiguous(memory_format=torch.channels_last)

    def _draw(self, depth: int, rows: int, width: int) -> Tensor:
        return torch.rand(depth, rows, width, generator=self.generator).to(self.device)

    def _weights(self) -> dict[str, Tensor]:
        return {
            name: x.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, x in self.network.state_dict().items()
        }

    def _fingerprint(self, out: Bool, backbone: Path | None) -> str:
        """What makes two trainings the same."""
        start_from = None
        if backbone is not None:
            start_from = hashlib.sha256(backbone.read_bytes()).hexdigest()
        parts = [
            self.settings.model_dump(mode="json"),
            self.fit.model_dump(mode="json"),
            self.stock.hash,
            np.packbits(out).tolist(),
            start_from,
            versions(),
            code_version(),
        ]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _stopped(checkpoint: Path | None) -> str:
    if checkpoint is None:
        return "training was stopped; nothing is kept"
    return f"training was stopped; the same training goes on from {checkpoint}"

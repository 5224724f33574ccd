"""Pictures in, what is wrong with them out: a trained network in use.

One picture's results do not depend on the others of a call: batch norms are folded into weights,
nothing else looks across pictures. Only the order in which the CPU library sums depends on how many
pictures it gets at once, by about 1e-6 of a logit. Pictures go through in blocks of a bounded size,
whatever the batch.
"""

import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from models.bundle import BundleError, Device, resolve
from models.contract import under
from models.nearest import centres
from models.vision import bundle
from models.vision.bundle import VisionCard
from models.vision.inspected import Defect, Inspected
from models.vision.network import NETWORK, Classifier, folded
from models.vision.preprocess import (
    PictureError,
    Pixels,
    Placement,
    checked,
    paired,
    placement,
    prepared,
)

# N pictures, K classes, F features, H W the picture as it came, h w the last stage, P prototypes

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]

BLOCK_PIXELS = 16 * 128 * 128  # of prepared pictures that go through the network at once
BLOCK = 64  # pictures, at the most
OTHER_SIZE = 0.25  # a picture may be larger or smaller by this share than any that was seen
PROTOTYPES = 256  # feature vectors that stand for all good pictures
EVIDENCE = 0.5  # a place whose class is more probable than not belongs to the defect
DEFECTS = 20  # places of one picture, at the most

PROTOTYPES_NAME = "prototypes"


class Inspection:
    """A trained network and its card."""

    def __init__(
        self, card: VisionCard, tensors: Mapping[str, Tensor], *, device: Device = "cpu"
    ) -> None:
        """Raises ValueError where the tensors are not those of the card."""
        self.card = card
        self._tensors = dict(tensors)
        network = Classifier(card.settings.network, inputs(card), len(card.classes))
        try:
            network.load_state_dict(under(NETWORK, tensors))
            self._prototypes = tensors[PROTOTYPES_NAME]
        except (RuntimeError, KeyError) as error:
            raise ValueError(
                f"not the weights of this card: {' '.join(str(error).split())}"
            ) from error
        self._device = resolve(device)
        self._used = folded(network).to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's overloads leave it out
        size = card.settings.preprocess
        self._abreast = min(max(BLOCK_PIXELS // (size.height * size.width), 1), BLOCK)

    @classmethod
    def load(cls, folder: Path | str, *, device: Device = "cpu") -> "Inspection":
        """Read a folder. Raises BundleError saying what is wrong with it and what to do."""
        folder = Path(folder)
        card, tensors = bundle.read(folder)
        try:
            return cls(card, tensors, device=device)
        except ValueError as error:
            raise BundleError(f"{folder}: {error}", path=folder) from error

    def save(self, folder: Path | str) -> None:
        """Write the folder, whole or not at all; one that is there already is replaced."""
        bundle.write(Path(folder), self.card, self._tensors)

    @functools.cached_property
    def hash(self) -> str:
        """SHA-256 of the card, and through it of everything."""
        return hashlib.sha256(bundle.card_bytes(self.card)).hexdigest()

    def inspect(
        self, pictures: Sequence[Pixels], templates: Sequence[Pixels] | None = None
    ) -> list[Inspected]:
        """What is wrong with each picture, uint8 or uint16 [H, W, C], with its template if paired.

        Raises PictureError for a picture of another depth, of other channels or of a size unlike
        all that were learnt from, and for templates that are missing, too many or of another size.
        """
        return list(self.each(pictures, templates))

    def each(
        self, pictures: Sequence[Pixels], templates: Sequence[Pixels] | None = None
    ) -> Iterator[Inspected]:
        """The same, one after the other: pictures may be a sequence that reads as it is asked."""
        check_templates(self.card.seen.paired, len(pictures), templates)
        for first in range(0, len(pictures), self._abreast):
            numbers = range(first, min(first + self._abreast, len(pictures)))
            block = [self._checked(pictures[n], f"picture {n + 1}") for n in numbers]
            shown = [prepared(picture, self.card.settings.preprocess) for picture in block]
            if templates is not None:
                shown = [
                    self._beside(test, picture, templates[n], f"template {n + 1}")
                    for n, test, picture in zip(numbers, shown, block, strict=True)
                ]
            features_NF, places_NKhw = self._look(torch.stack(shown))
            for picture, features, places in zip(block, features_NF, places_NKhw, strict=True):
                yield self._read(
                    features, places, placement(picture, self.card.settings.preprocess)
                )

    def _look(self, shown: Tensor) -> tuple[Tensor, Tensor]:
        with torch.inference_mode():
            given = shown.to(self._device).contiguous(memory_format=torch.channels_last)
            features, places = self._used.look(given)
            return features.float().cpu(), places.float().cpu()

    def _read(self, features: Tensor, places: Tensor, where: Placement) -> Inspected:
        """What the network's numbers of one picture mean."""
        card = self.card
        good = None if card.good is None else card.classes.index(card.good)
        logits = places.mean((1, 2))
        share = logits.softmax(0)
        number = int(share.argmax())
        anomaly = float(anomaly_of(good, features[None], logits[None], self._prototypes)[0])
        evidence = places.softmax(0)
        local = evidence[number] if good is None else 1 - evidence[good]
        heat = where.map_back(local).numpy()
        label, probability = card.classes[number], float(share[number])
        found = () if number == good else _defects(heat, label, probability)
        return Inspected(
            label=label,
            probability=probability,
            probabilities=dict(zip(card.classes, share.tolist(), strict=True)),
            anomaly=anomaly,
            surprise=float(card.calibration.apply(np.array([anomaly]))[0]),
            heat=np.clip(heat * 255 + 0.5, 0, 255).astype(np.uint8),
            defects=found,
            features=features.numpy(),
        )

    def _checked(self, picture: Pixels, what: str) -> Pixels:
        seen = self.card.seen
        picture = checked(picture, what)
        height, width, channels = picture.shape
        if picture.dtype.name != seen.depth or channels != seen.channels:
            raise PictureError(
                f"{what}: want {seen.depth} with {seen.channels} channels, as was learnt from; "
                f"got {picture.dtype} with {channels}. Set the camera so, or train with such "
                "pictures."
            )
        for side, (least, most), name in (
            (height, seen.heights, "high"),
            (width, seen.widths, "wide"),
        ):
            if not least * (1 - OTHER_SIZE) <= side <= most * (1 + OTHER_SIZE):
                raise PictureError(
                    f"{what}: {width} x {height} pixels; those that were learnt from were "
                    f"{least} to {most} {name}. Set the camera so, or train with such pictures."
                )
        return picture

    def _beside(self, test: Tensor, picture: Pixels, template: Pixels, what: str) -> Tensor:
        if checked(template, what).shape != picture.shape or template.dtype != picture.dtype:
            raise PictureError(
                f"{what}: want {picture.dtype} {list(picture.shape)} as its picture, got "
                f"{template.dtype} {list(template.shape)}"
            )
        return paired(test, prepared(template, self.card.settings.preprocess))


def inputs(card: VisionCard) -> int:
    """Channels that the network sees."""
    channels = 1 if card.settings.preprocess.grey else card.seen.channels
    return 3 * channels if card.seen.paired else channels


def check_templates(
    is_paired: bool,  # noqa: FBT001 (the one thing that is asked)
    count: int,
    templates: Sequence[Pixels] | None,
) -> None:
    """Raises PictureError unless there is a template for each picture, or none is wanted."""
    if is_paired and templates is None:
        raise PictureError(
            "templates: this inspection compares with golden templates: give one each"
        )
    if not is_paired and templates is not None:
        raise PictureError("templates: this inspection has learnt without: give none")
    if templates is not None and len(templates) != count:
        raise PictureError(f"templates: want {count}, one for each picture, got {len(templates)}")


def tensors_of(network: Classifier, prototypes: Tensor) -> dict[str, Tensor]:
    """All that is kept of an inspection beside its card."""
    kept = {f"{NETWORK}{name}": x.cpu().contiguous() for name, x in network.state_dict().items()}
    return {**kept, PROTOTYPES_NAME: prototypes.cpu().contiguous()}


def anomaly_of(
    good: int | None, features_NF: Tensor, logits_NK: Tensor, known_PF: Tensor
) -> Tensor:
    """How unlike good pictures each is [N]: the log odds of not being of the good class.

    Where no picture was called good: how unlike all that were learnt from it is.
    """
    if good is None:
        return distance(features_NF, known_PF)
    return log_odds(logits_NK, good)


def prototypes_of(features: F32) -> F32:
    """At most PROTOTYPES of the features [M, F] of good pictures, spread out."""
    return centres(features, min(PROTOTYPES, len(features)))


def distance(features: Tensor, prototypes: Tensor) -> Tensor:
    """How far [N] features [N, F] lie from the nearest prototype [P, F], in the network's unit."""
    apart = features[:, None] - prototypes[None]
    return apart.square().sum(2).amin(1).sqrt()


def log_odds(logits_NK: Tensor, good: int) -> Tensor:
    """How much more probable [N] than good it is that something is wrong, as a logarithm."""
    others = [number for number in range(logits_NK.shape[1]) if number != good]
    return logits_NK[:, others].logsumexp(1) - logits_NK[:, good]


def _defects(heat: F32, label: str, probability: float) -> tuple[Defect, ...]:
    """The places where the evidence lies, the largest first; the hottest one if none is sure."""
    places, count = ndimage.label(heat >= min(EVIDENCE, float(heat.max())))
    sizes = ndimage.sum_labels(places > 0, places, np.arange(1, count + 1))
    found = []
    boxes = ndimage.find_objects(places)
    for number in np.argsort(-sizes, kind="stable")[:DEFECTS]:
        rows, columns = boxes[number]
        found.append(
            Defect(
                label=label,
                probability=probability,
                box=(columns.start, rows.start, columns.stop, rows.stop),
            )
        )
    return tuple(found)

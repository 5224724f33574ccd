"""Pictures as wholes: which class each is of, and where the evidence of that lies."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from models.contract import under
from models.nearest import centres
from models.vision.bundle import VisionCard
from models.vision.inspected import Defect, Inspected
from models.vision.network import NETWORK, Classifier, folded
from models.vision.preprocess import Placement

# N pictures, K classes, F features, h w the last stage, P prototypes

F32 = NDArray[np.float32]

PROTOTYPES = 256  # feature vectors that stand for all good pictures
PROTOTYPES_NAME = "prototypes"
EVIDENCE = 0.5  # a place whose class is more probable than not belongs to the defect
DEFECTS = 20  # places of one picture, at the most


class Whole:
    """A trained classifier in use."""

    def __init__(self, card: VisionCard, tensors: Mapping[str, Tensor], device: str) -> None:
        """Raises RuntimeError or KeyError where the tensors are not those of the card."""
        network = Classifier(card.settings.network, card.inputs, len(card.classes))
        network.load_state_dict(under(NETWORK, tensors))
        self._card, self._device = card, device
        self._good = None if card.good is None else card.classes.index(card.good)
        self._prototypes = tensors[PROTOTYPES_NAME]
        self._network = folded(network).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's overloads leave it out

    def read(
        self,
        shown: Tensor,
        where: Sequence[Placement],
        *,
        least: float | None = None,  # noqa: ARG002 (a picture has one class, however sure)
    ) -> list[Inspected]:
        """What prepared pictures [N, C, h, w] show."""
        with torch.inference_mode():
            given = shown.to(self._device).contiguous(memory_format=torch.channels_last)
            features_NF, places_NKhw = (x.cpu() for x in self._network.look(given))
        logits_NK = places_NKhw.mean((2, 3))
        anomaly_N = anomaly_of(self._good, features_NF, logits_NK, self._prototypes).numpy()
        surprise_N = self._card.calibration.apply(anomaly_N)
        found = []
        for number, (share, evidence) in enumerate(
            zip(logits_NK.softmax(1), places_NKhw.softmax(1), strict=True)
        ):
            best = int(share.argmax())
            local = evidence[best] if self._good is None else 1 - evidence[self._good]
            heat = where[number].map_back(local).numpy()
            label, probability = self._card.classes[best], float(share[best])
            found.append(
                Inspected(
                    label=label,
                    probability=probability,
                    probabilities=dict(zip(self._card.classes, share.tolist(), strict=True)),
                    anomaly=float(anomaly_N[number]),
                    surprise=float(surprise_N[number]),
                    heat=np.clip(heat * 255 + 0.5, 0, 255).astype(np.uint8),
                    defects=() if best == self._good else _defects(heat, label, probability),
                    features=features_NF[number].numpy(),
                )
            )
        return found


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
                bounded=False,
            )
        )
    return tuple(found)


def tensors_of(network: Classifier, prototypes: Tensor) -> dict[str, Tensor]:
    """All that is kept of a classifier beside its card."""
    kept = {f"{NETWORK}{name}": x.cpu().contiguous() for name, x in network.state_dict().items()}
    return {**kept, PROTOTYPES_NAME: prototypes.cpu().contiguous()}

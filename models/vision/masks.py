"""Pictures pixel by pixel: where a defect begins and ends, how large it is, and of which class.

One network reads the whole prepared picture. What is so probable to be wrong as the card says,
and hangs together, is a defect with its mask at the resolution of the picture as it came. The
classes of all its pixels are added up to name it. Where good pictures alone were learnt, a place of
less than half the width and height of the smallest that was made up is none, and a picture is wrong
if it has a defect.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from models.contract import under
from models.vision.bundle import VisionCard
from models.vision.inspected import Defect, Inspected
from models.vision.network import NETWORK, folded
from models.vision.places import anomaly_of, picture_share
from models.vision.preprocess import Placement
from models.vision.segmenter import Segmenter

# N pictures, K classes, F features, H W height and width as it came, h w the network's map

F32 = NDArray[np.float32]

SMOOTHED = 3  # places either way whose mean decides on the picture: one alone may be noise
DEFECTS = 60  # of one picture, the largest ones
TOUCHING = np.ones((3, 3), np.bool_)  # pixels that touch at a corner hang together


class Masks:
    """A trained segmenter in use."""

    def __init__(self, card: VisionCard, tensors: Mapping[str, Tensor], device: str) -> None:
        """Raises RuntimeError or KeyError where the tensors are not those of the card."""
        assert card.good is not None  # noqa: S101 (the card was checked)
        network = Segmenter(card.settings.mask.network, card.inputs, len(card.classes))
        network.load_state_dict(under(NETWORK, tensors))
        self._card, self._device = card, device
        self._good = card.classes.index(card.good)
        smallest = card.settings.mask.made_up[0] / 2 if card.task == "good" else 0.0
        self._least = smallest**2  # pixels of a defect, as prepared
        self._others = [n for n in range(len(card.classes)) if n != self._good]
        self._network = folded(network).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's overloads leave it out

    def read(
        self, shown: Tensor, where: Sequence[Placement], *, least: float | None = None
    ) -> list[Inspected]:
        """What prepared pictures [N, C, h, w] show; defects from ``least`` on, else the card's."""
        features, share = look(self._network, shown, self._device)
        limit = self._card.limit if least is None else least
        return [self._told(*one, limit) for one in zip(features, share, where, strict=True)]

    def _told(self, features: Tensor, share: Tensor, where: Placement, limit: float) -> Inspected:
        card = self._card
        anomaly, whole = whole_of(share, self._good)
        wrong = where.map_back(1 - share[self._good]).numpy()
        by_class = {
            card.classes[n]: wrong if len(self._others) == 1 else where.map_back(share[n]).numpy()
            for n in self._others
        }
        defects = defects_of(by_class, wrong, limit, self._least / where.prepared_per_pixel)
        if card.task == "good":
            whole = self._by_defects(defects, wrong)
        best = int(whole.argmax())
        return Inspected(
            label=card.classes[best],
            probability=float(whole[best]),
            probabilities=dict(zip(card.classes, whole.tolist(), strict=True)),
            anomaly=anomaly,
            surprise=float(card.calibration.apply(np.array([anomaly]))[0]),
            heat=eight_bits(wrong),
            defects=defects,
            features=features.numpy(),
        )

    def _by_defects(self, defects: Sequence[Defect], wrong: F32) -> Tensor:
        """The share of each class [K]: at the card's limit one half, whichever that is.

        As wrong as its surest defect; without one, as its surest place below the limit.
        """
        limit = self._card.limit
        surest = max((one.probability for one in defects), default=0.0)
        if surest < limit:
            surest = float(wrong[wrong < limit].max(initial=0.0))
        odds_K = torch.zeros(2)
        odds_K[self._others] = anomaly_of(torch.tensor(surest)) - anomaly_of(torch.tensor(limit))
        return odds_K.softmax(0)


def look(network: Segmenter, shown: Tensor, device: str) -> tuple[Tensor, Tensor]:
    """Features [N, F] and the share of each class [N, K, h, w], of prepared pictures."""
    with torch.no_grad():
        given = shown.to(device).contiguous(memory_format=torch.channels_last)
        features, logits = network.look(given)
        return features.cpu(), logits.softmax(1).cpu().contiguous()


def whole_of(share: Tensor, good: int) -> tuple[float, Tensor]:
    """The anomaly of a picture and its share of each class [K], from those of its places [K, h, w].

    It is as wrong as its surest place, each smoothed with its neighbours.
    """
    smooth = functional.avg_pool2d(
        share[None], SMOOTHED, stride=1, padding=SMOOTHED // 2, count_include_pad=False
    )[0]
    places = smooth.flatten(1).T
    return anomaly_of(1 - places[:, good]), picture_share(places, good)


def eight_bits(wrong: F32) -> NDArray[np.uint8]:
    """A map of 0 to 1 as 0 to 255."""
    return np.asarray(wrong * 255 + 0.5, np.uint8)


def defects_of(
    by_class: Mapping[str, F32], wrong: F32, limit: float, least: float
) -> tuple[Defect, ...]:
    """What hangs together where ``wrong`` [H, W] is at least the limit, the surest first.

    ``least``: smaller ones, in pixels, are left out.
    """
    places, count = ndimage.label(wrong >= limit, TOUCHING)
    if not count:
        return ()
    boxes = ndimage.find_objects(places)
    sizes = np.bincount(places.ravel(), minlength=count + 1)[1:]
    found = []
    for number in np.argsort(-sizes, kind="stable")[:DEFECTS].tolist():
        if sizes[number] < least:
            break
        rows, columns = boxes[number]
        mask = places[rows, columns] == number + 1
        label = max(by_class, key=lambda name: float(by_class[name][rows, columns][mask].sum()))
        found.append(
            Defect(
                label=label,
                probability=float(wrong[rows, columns][mask].max()),
                box=(columns.start, rows.start, columns.stop, rows.stop),
                mask=mask,
            )
        )
    return tuple(sorted(found, key=lambda one: -one.probability))

"""Pictures by what is found on them: a finder says where, a classifier of what is there says what.

The classifier looks at the prepared picture itself, in full resolution, around each centre. Its
good class says that the finder was wrong. A place's probability of a class is that of its being a
centre times that of the class.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from models.contract import under
from models.vision.bundle import VisionCard
from models.vision.finder import Finder, Found, found
from models.vision.inspected import Defect, Inspected
from models.vision.network import NETWORK, Classifier, folded
from models.vision.preprocess import Placement
from models.vision.settings import InspectionSettings

# N pictures, K classes, M places of one picture, F features, h w the finder's map

FINDER = "finder."
PLACES = 60  # of one picture that are looked at, at the most
LEAST = 0.02  # a place less probable to be a centre is not looked at, unless it is the only one
SMALLEST = 1e-6  # a probability is not surer than this


@dataclass(frozen=True, slots=True)
class Seen:
    """What is found on one prepared picture, the surest centre first."""

    box: Tensor  # float32 [M, 4] pixels as prepared
    share: Tensor  # float32 [M, K] the probability of each class; of the good one: of no defect
    heat: Tensor  # float32 [h, w] the probability of a centre
    features: Tensor  # float32 [F]


class Pair:
    """Both networks, as they look at prepared pictures."""

    def __init__(
        self,
        finder: Finder,
        classifier: Classifier,
        *,
        good: int,
        patch: int,
        device: str,
    ) -> None:
        self.finder, self.classifier = finder, classifier
        self.good, self.patch, self.device = good, patch, device

    def look(self, shown: Tensor, *, least: float = LEAST) -> list[Seen]:
        """What is found on pictures [N, C, H, W]; one place at the least."""
        with torch.no_grad():
            given = shown.to(self.device).contiguous(memory_format=torch.channels_last)
            features, centre, sides = (x.cpu() for x in self.finder.look(given))
        seen = []
        for number in range(len(shown)):
            places = found(
                centre[number],
                sides[number],
                stride=self.finder.stride,
                least=min(least, float(centre[number].sigmoid().max())),  # to the bit as found
                most=PLACES,
            )
            share = self._share(shown[number], places)
            seen.append(Seen(places.box, share, centre[number].sigmoid(), features[number]))
        return seen

    def _share(self, picture: Tensor, places: Found) -> Tensor:
        """The probability of each class [M, K] at places of one picture."""
        with torch.no_grad():
            looks = patches(picture, places.box, self.patch).to(self.device)
            logits = self.classifier(looks.contiguous(memory_format=torch.channels_last)).cpu()
        share: Tensor = logits.softmax(1) * places.score[:, None]
        share[:, self.good] += 1 - places.score
        return share


class Places:
    """A trained pair in use."""

    def __init__(self, card: VisionCard, tensors: Mapping[str, Tensor], device: str) -> None:
        """Raises RuntimeError or KeyError where the tensors are not those of the card."""
        assert card.good is not None  # noqa: S101 (the card was checked)
        finder, classifier = networks(card.settings, card.inputs, len(card.classes))
        finder.load_state_dict(under(FINDER, tensors))
        classifier.load_state_dict(under(NETWORK, tensors))
        layout = torch.channels_last
        self._card = card
        self._good = card.classes.index(card.good)
        self._pair = Pair(
            folded(finder).to(device, memory_format=layout),  # type: ignore[call-overload]  # torch's overloads leave it out
            folded(classifier).to(device, memory_format=layout),  # type: ignore[call-overload]  # as above
            good=self._good,
            patch=card.settings.finder.patch,
            device=device,
        )

    def read(
        self, shown: Tensor, where: Sequence[Placement], *, least: float | None = None
    ) -> list[Inspected]:
        """What prepared pictures [N, C, h, w] show; defects from ``least`` on, else the card's."""
        seen = self._pair.look(shown)
        return [self._told(one, place, least) for one, place in zip(seen, where, strict=True)]

    def _told(self, seen: Seen, where: Placement, least: float | None) -> Inspected:
        card = self._card
        wrong = 1 - seen.share[:, self._good]
        others = [number for number in range(len(card.classes)) if number != self._good]
        shares = picture_share(seen.share, self._good)
        best = int(shares.argmax())
        anomaly = anomaly_of(wrong)
        sure, name = seen.share[:, others].max(1)
        limit = card.limit if least is None else least
        defects = [
            Defect(
                label=card.classes[others[int(name[number])]],
                probability=float(sure[number]),
                box=where.box_back(seen.box[number].tolist()),
            )
            for number in sure.argsort(descending=True, stable=True).tolist()
            if float(sure[number]) >= limit
        ]
        heat = where.map_back(seen.heat).numpy()
        return Inspected(
            label=card.classes[best],
            probability=float(shares[best]),
            probabilities=dict(zip(card.classes, shares.tolist(), strict=True)),
            anomaly=anomaly,
            surprise=float(card.calibration.apply(np.array([anomaly]))[0]),
            heat=np.clip(heat * 255 + 0.5, 0, 255).astype(np.uint8),
            defects=tuple(defects),
            features=seen.features.numpy(),
        )


def networks(
    settings: InspectionSettings, channels: int, classes: int
) -> tuple[Finder, Classifier]:
    """What finds, and what tells classes of what was found; neither has learnt anything."""
    return (
        Finder(settings.finder.network, channels, settings.finder.reduce),
        Classifier(settings.network, channels, classes),
    )


def patches(picture: Tensor, box: Tensor, side: int) -> Tensor:
    """What lies around the middle of each box [M, 4], float32 [M, C, side, side]; 0 beyond."""
    half = side // 2
    padded = functional.pad(picture, (half, half, half, half))
    middle = ((box[:, :2] + box[:, 2:]) / 2).round().long()
    height, width = picture.shape[1:]
    cuts = [
        padded[:, min(max(y, 0), height) :, min(max(x, 0), width) :][:, :side, :side]
        for x, y in middle.tolist()
    ]
    return torch.stack(cuts)


def picture_share(share: Tensor, good: int) -> Tensor:
    """Of the whole picture [K], from its places [M, K]: as sure to be wrong as the surest place."""
    others = torch.arange(share.shape[1]) != good
    wrong = (1 - share[:, good]).max()
    by_class = share[:, others].amax(0)
    found_K = torch.zeros(share.shape[1])
    found_K[others] = wrong * by_class / by_class.sum().clamp(min=SMALLEST)
    found_K[good] = 1 - wrong
    return found_K


def anomaly_of(wrong: Tensor) -> float:
    """The log odds that something is wrong: those of the surest place, [M]."""
    return float(torch.logit(wrong.max().clamp(SMALLEST, 1 - SMALLEST)))

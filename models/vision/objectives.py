"""What networks are fitted to: telling classes apart, finding places, and telling pixels apart."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from models.runtime import computed
from models.vision.augment import Lot, varied
from models.vision.finder import Finder, finding_loss, target
from models.vision.made_up import made_up
from models.vision.network import Classifier
from models.vision.segmenter import Segmenter, Sums
from models.vision.settings import VisionFitSettings
from models.vision.stock import Stock

# N pictures, C channels, H W as prepared, K classes, F features, M boxes

U8 = NDArray[np.uint8]
Bool = NDArray[np.bool_]
Box = tuple[float, float, float, float]  # x1, y1, x2, y2: pixels as prepared

ON_A_DEFECT = 0.8  # of the parts of pictures that are learnt from, where there is one


class Classes:
    """Telling classes apart: cross entropy, each class by what it is to count for."""

    def __init__(
        self,
        network: Classifier,
        batch: Callable[[Sequence[int]], Tensor],
        labels: Sequence[int],
        fit: VisionFitSettings,
        *,
        learning: Sequence[int],
        validating: Sequence[int],
        device: str,
    ) -> None:
        """``batch`` gives pictures by their numbers, ``labels`` their classes by the same."""
        self.fit, self.device, self.batch = fit, device, batch
        self.network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's overloads leave it out
        self.target = functional.one_hot(torch.tensor(labels), network.head.out_features).float()
        self.learning, self.validating = list(learning), list(validating)
        self.count = len(self.learning)
        prior = self.target[self.learning].mean(0).clamp(min=1 / (2 * self.count))
        self.adjustment = (fit.balance * prior.log()).to(device)  # [K]

    def loss(self, numbers: Sequence[int], generator: torch.Generator) -> Tensor:
        """In nats, of pictures as they are varied."""
        chosen = [self.learning[n] for n in numbers]
        lot = Lot(picture=self.batch(chosen), share=self.target[chosen])
        lot = varied(lot, self.fit.augment, generator)
        with computed(self.fit.precision, self.device):
            logits = self.network(_placed(lot.picture, self.device))
        return self._loss(logits.float(), lot.share)

    def validate(self) -> float:
        """In nats, of pictures as they are."""
        logits, _ = self.look(self.validating)
        return float(self._loss(logits.to(self.device), self.target[self.validating]))

    def look(self, numbers: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Logits [N, K] and features [N, F] of pictures as they are."""
        parts = []
        size = self.fit.batch_size
        for first in range(0, len(numbers), size):
            batch = _placed(self.batch(numbers[first : first + size]), self.device)
            with torch.no_grad():
                features, places = self.network.look(batch)
            parts.append((places.mean((2, 3)).cpu(), features.cpu()))
        logits, features = (torch.cat(column) for column in zip(*parts, strict=True))
        return logits, features

    def _loss(self, logits: Tensor, share: Tensor) -> Tensor:
        spread = self.fit.smoothing
        share = share.to(self.device) * (1 - spread) + spread / share.shape[1]
        return -(share * (logits + self.adjustment).log_softmax(1)).sum(1).mean()


class Centres:
    """Finding places: on parts of pictures, most of them with a defect where there is one."""

    def __init__(
        self,
        network: Finder,
        stock: Stock,
        fit: VisionFitSettings,
        *,
        crop: int,
        crops: int,
        learning: Sequence[int],
        validating: Sequence[int],
        device: str,
    ) -> None:
        self.stock, self.fit, self.crop, self.device = stock, fit, crop, device
        self.network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's overloads leave it out
        self.learning = list(learning) * crops
        self.validating = list(validating)
        self.count = len(self.learning)

    def loss(self, numbers: Sequence[int], generator: torch.Generator) -> Tensor:
        """Of parts as they are varied."""
        lot = varied(
            self._lot([self.learning[n] for n in numbers], generator), self.fit.augment, generator
        )
        with computed(self.fit.precision, self.device):
            centre, sides = self.network(_placed(lot.picture, self.device))
        return self._loss(centre, sides, lot)

    def validate(self) -> float:
        """Of one part of each picture, always the same ones."""
        total, size = 0.0, self.fit.batch_size
        generator = torch.Generator().manual_seed(0)
        for first in range(0, len(self.validating), size):
            numbers = self.validating[first : first + size]
            lot = self._lot(numbers, generator)
            centre, sides = self.network(_placed(lot.picture, self.device))
            total += float(self._loss(centre, sides, lot)) * len(numbers)
        return total / len(self.validating)

    def _lot(self, numbers: Sequence[int], generator: torch.Generator) -> Lot:
        pictures, boxes, owners = [], [], []
        for owner, number in enumerate(numbers):
            (picture,) = self.stock.batch([number])
            marked = [box for _, box in self.stock.places(number)]
            x, y = corner(picture, marked, self.crop, generator)
            height, width = (min(self.crop, side) for side in picture.shape[1:])
            pictures.append(picture[:, y : y + height, x : x + width])
            for x1, y1, x2, y2 in marked:
                if x <= (x1 + x2) / 2 < x + width and y <= (y1 + y2) / 2 < y + height:
                    owners.append(owner)
                    boxes.append((x1 - x, y1 - y, x2 - x, y2 - y))
        count = len(boxes)
        return Lot(
            picture=torch.stack(pictures),
            share=torch.ones(len(numbers), 1),
            box=torch.tensor(boxes, dtype=torch.float32).reshape(count, 4),
            box_of=torch.tensor(owners, dtype=torch.int64),
            box_class=torch.zeros(count, dtype=torch.int64),
            box_weight=torch.ones(count),
        )

    def _loss(self, centre: Tensor, sides: Tensor, lot: Lot) -> Tensor:
        assert lot.box is not None  # noqa: S101 (as made above)
        assert lot.box_of is not None  # noqa: S101 (as made above)
        assert lot.box_weight is not None  # noqa: S101 (as made above)
        wanted = target(
            lot.box,
            lot.box_of,
            lot.box_weight,
            count=len(lot.picture),
            size=(centre.shape[1], centre.shape[2]),
            stride=self.network.stride,
        )
        return finding_loss(centre.float().cpu(), sides.float().cpu(), wanted)


class Regions:
    """Telling pixels apart: on parts of pictures, most of them with a defect where there is one."""

    def __init__(
        self,
        network: Segmenter,
        stock: Stock,
        fit: VisionFitSettings,
        *,
        painted: Mapping[int, U8],
        good: int,
        crop: int,
        crops: int,
        learning: Sequence[int],
        validating: Sequence[int],
        device: str,
        sizes: tuple[int, int] | None = None,
    ) -> None:
        """``painted`` says of each picture, by its number, what class each pixel [H, W] is of.

        ``sizes``: all are good, and defects so many pixels across are made up.
        """
        self.stock, self.fit, self.crop, self.device = stock, fit, crop, device
        self.network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's overloads leave it out
        self.good, self.classes = good, network.head.out_channels
        self.painted, self.sizes = painted, sizes
        self.learning = list(learning) * crops
        self.validating = list(validating)
        self.count = len(self.learning)
        self._boxes = {n: boxes_of(painted[n] != good) for n in learning}

    def loss(self, numbers: Sequence[int], generator: torch.Generator) -> Tensor:
        """Of parts as they are varied."""
        lot = self._lot([self.learning[n] for n in numbers], generator)
        lot = self._made_up(varied(lot, self.fit.augment, generator), generator)
        with computed(self.fit.precision, self.device):
            return self._sums(lot).loss

    def validate(self) -> float:
        """Of whole pictures, all places together; what is made up on them is always the same."""
        sums, generator = None, torch.Generator().manual_seed(0)
        for number in self.validating:
            mask = one_hot(self.painted[number], self.classes)[None]
            lot = Lot(picture=self.stock.batch([number]), share=mask.mean((2, 3)), mask=mask)
            own = self._sums(self._made_up(lot, generator))
            sums = own if sums is None else sums + own
        assert sums is not None  # noqa: S101 (something is held out of every class)
        return float(sums.loss)

    def _lot(self, numbers: Sequence[int], generator: torch.Generator) -> Lot:
        pictures, masks = [], []
        for number in numbers:
            (picture,) = self.stock.batch([number])
            x, y = corner(picture, self._boxes[number], self.crop, generator)
            part = slice(y, y + self.crop), slice(x, x + self.crop)
            pictures.append(picture[:, *part])
            masks.append(one_hot(self.painted[number][part], self.classes))
        mask = torch.stack(masks)
        return Lot(picture=torch.stack(pictures), share=mask.mean((2, 3)), mask=mask)

    def _made_up(self, lot: Lot, generator: torch.Generator) -> Lot:
        if self.sizes is None:
            return lot
        return made_up(lot, self.sizes, self.good, generator, templates=self.stock.paired)

    def _sums(self, lot: Lot) -> Sums:
        assert lot.mask is not None  # noqa: S101 (as made above)
        logits = self.network(_placed(lot.picture, self.device)).float().cpu()
        share = functional.adaptive_avg_pool2d(lot.mask, logits.shape[2:])
        return Sums.of(logits, share, good=self.good)


def one_hot(painted: U8, classes: int) -> Tensor:
    """How much of each class a pixel is of, 0 or 1: float32 [K, H, W], from its class [H, W]."""
    return torch.stack([torch.from_numpy(painted == n).float() for n in range(classes)])


def boxes_of(wrong: Bool) -> list[Box]:
    """A box x1, y1, x2, y2 around each place that hangs together."""
    return [
        (columns.start, rows.start, columns.stop, rows.stop)
        for rows, columns in ndimage.find_objects(ndimage.label(wrong)[0])
    ]


def corner(
    picture: Tensor, marked: Sequence[Box], crop: int, generator: torch.Generator
) -> tuple[int, int]:
    """Where a part of a picture [C, H, W] begins: x, y.

    Mostly so that the middle of some marked box is within, else anywhere.
    """
    free = [max(picture.shape[axis] - crop, 0) for axis in (2, 1)]
    drawn = torch.rand(4, generator=generator).tolist()
    if not marked or drawn[0] >= ON_A_DEFECT:
        return int(drawn[2] * (free[0] + 1)), int(drawn[3] * (free[1] + 1))
    x1, y1, x2, y2 = marked[int(drawn[1] * len(marked))]
    begins = []
    for middle, room, part in (
        ((x1 + x2) / 2, free[0], drawn[2]),
        ((y1 + y2) / 2, free[1], drawn[3]),
    ):
        begins.append(min(max(int(middle - part * crop), 0), room))
    return begins[0], begins[1]


def _placed(picture: Tensor, device: str) -> Tensor:
    return picture.to(device).contiguous(memory_format=torch.channels_last)

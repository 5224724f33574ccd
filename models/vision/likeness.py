"""Whether made pictures are like real ones, as various, and no copies.

Everything is measured on features. ``random_features`` is a small convolutional network with fixed
random weights, which has no favourites among what it can be shown (Naeem et al., ICML 2020, compare
made with real pictures so, too); the features of the product's own classifier serve as well.

Fréchet distance: Heusel et al., NeurIPS 2017. Kernel distance: the unbiased squared maximum mean
discrepancy with a cubic kernel, Binkowski et al., ICLR 2018; it can be less than 0, and unlike the
other it says something about few pictures. Precision and recall: shares of made pictures that lie
among real ones, and of real ones that lie among made ones, by the distance to the k-th neighbour
(Kynkäänniemi et al., NeurIPS 2019).
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from torch import nn

# N pictures, H height, W width, C colours, F features; R real, G generated

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Features = Callable[[U8], F32]  # uint8 [N, H, W, C] to float32 [N, F]

NEIGHBOURS = 3  # the k-th whose distance is the radius; Kynkäänniemi et al. use 3
COPIED_QUANTILE = 0.01  # of the distances between real neighbours: nearer than that is a copy
CHANNELS = (16, 32, 48)  # of the random network, each at half the size of the last
AT_ONCE = 128  # pictures, for the sake of memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """Made pictures against real ones."""

    frechet: float  # 0 is best
    kernel: float  # 0 is best
    precision: float  # share of made pictures that could be real
    recall: float  # share of real ones that could have been made
    copied: float  # share of made ones nearer to a learnt picture than real ones are to each other
    diversity: float  # distance between made ones over that between real ones: of the poorest class
    poorest: str  # that class

    def values(self) -> dict[str, float | str]:
        """By name."""
        return asdict(self)


def random_features(colours: int, *, seed: int = 0) -> Features:
    """Means and deviations of each channel of a fixed random network, float32 [N, F].

    The same seed gives the same features.
    """
    generator = torch.Generator().manual_seed(seed)
    layers = []
    for before, after in zip((colours, *CHANNELS), CHANNELS, strict=False):
        layer = nn.Conv2d(before, after, 3, stride=2, padding=1, padding_mode="replicate")
        nn.init.normal_(layer.weight, 0.0, (2 / (9 * before)) ** 0.5, generator=generator)
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]  # it has one
        layers.append(layer)

    @torch.no_grad()
    def of(pictures: U8) -> F32:
        found = []
        for start in range(0, len(pictures), AT_ONCE):
            x = scaled(pictures[start : start + AT_ONCE])
            pooled = [x.mean((2, 3)), x.std((2, 3), correction=0)]
            for layer in layers:
                x = nn.functional.leaky_relu(layer(x), 0.2)
                pooled += [x.mean((2, 3)), x.std((2, 3), correction=0)]
            found.append(torch.cat(pooled, dim=1).numpy())
        return np.concatenate(found)

    return of


def scaled(pictures: U8) -> torch.Tensor:
    """uint8 [N, H, W, C] to float32 [N, C, H, W] between -1 and 1."""
    x = torch.from_numpy(
        np.array(pictures.transpose(0, 3, 1, 2), order="C")
    )  # a copy: may be read-only
    return x.to(torch.float32) / 127.5 - 1.0


def compare(
    real: U8,
    real_labels: NDArray[np.int64],
    made: U8,
    made_labels: NDArray[np.int64],
    *,
    names: tuple[str, ...],
    features: Features,
) -> Likeness:
    """Made pictures, uint8 [G, H, W, C], against the real ones that were learnt from, [R, H, W, C].

    Labels are places in ``names``. Raises ValueError for fewer than five of either.
    """
    if min(len(real), len(made)) <= NEIGHBOURS + 1:
        raise ValueError(
            f"likeness: want {NEIGHBOURS + 2} real and made pictures or more, got {len(real)} and "
            f"{len(made)}"
        )
    real_RF, made_GF = features(real).astype(np.float64), features(made).astype(np.float64)
    mean, spread = real_RF.mean(0), real_RF.std(0) + 1e-6
    real_RF, made_GF = (real_RF - mean) / spread, (made_GF - mean) / spread
    between = cdist(made_GF, real_RF)
    within, among = cdist(real_RF, real_RF), cdist(made_GF, made_GF)
    nearest = np.partition(within, 1, axis=1)[:, 1]
    various = {
        names[label]: _spread(among, made_labels == label) / spread_real
        for label in np.unique(made_labels)
        if (spread_real := _spread(within, real_labels == label)) > 0
    }
    poorest = min(various, key=lambda name: various[name]) if various else ""
    return Likeness(
        frechet=frechet(real_RF, made_GF),
        kernel=kernel(real_RF, made_GF),
        precision=float((between <= _radius(within)[None]).any(axis=1).mean()),
        recall=float((between <= _radius(among)[:, None]).any(axis=0).mean()),
        copied=float((between.min(axis=1) < np.quantile(nearest, COPIED_QUANTILE)).mean()),
        diversity=float(various.get(poorest, 1.0)),
        poorest=poorest,
    )


def frechet(real_RF: F64, made_GF: F64) -> float:
    """Squared Fréchet distance of two Gaussians; of as few pictures as features it says little."""
    away = float(np.square(real_RF.mean(0) - made_GF.mean(0)).sum())
    one, other = np.cov(real_RF, rowvar=False), np.cov(made_GF, rowvar=False)
    values, vectors = np.linalg.eigh(one)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    crossed = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ other @ root), 0.0)).sum()
    return away + float(np.trace(one) + np.trace(other) - 2 * crossed)


def kernel(real_RF: F64, made_GF: F64) -> float:
    """Unbiased squared maximum mean discrepancy with the kernel (x·y / F + 1)³."""
    wide = real_RF.shape[1]

    def inner(one: F64, other: F64) -> F64:
        found: F64 = (one @ other.T / wide + 1.0) ** 3
        return found

    def own(rows: F64) -> float:
        k = inner(rows, rows)
        return float((k.sum() - np.trace(k)) / (len(rows) * (len(rows) - 1)))

    return own(real_RF) + own(made_GF) - 2.0 * float(inner(real_RF, made_GF).mean())


def _radius(within: F64) -> F64:
    """To the k-th neighbour, [N]; the nearest of all is a row itself."""
    found: F64 = np.partition(within, NEIGHBOURS, axis=1)[:, NEIGHBOURS]
    return found


def _spread(distances: F64, rows: NDArray[np.bool_]) -> float:
    """Mean distance between two different ones of these."""
    count = int(rows.sum())
    total = float(distances[np.ix_(rows, rows)].sum())
    return total / (count * (count - 1)) if count > 1 else 0.0

"""Which fault it is: from which channels are to blame, and which way they went.

An optional head on a detector, learnt from episodes that people named. Its features are the running
mean, since the episode began, of the square root of each channel's blame, and of the same with the
sign of what was measured against what was expected: blame alone has no direction. Each fault is a
Gaussian over them, all with one covariance (linear discriminant analysis: Fisher 1936), shrunk
towards equal variances (as by Friedman, J. Am. Stat. Assoc. 84, 1989): where episodes are few,
hardly more than the nearest mean is left. What is far from every fault, by the Mahalanobis
distance, is unknown.

How much it is shrunk, probabilities and that limit come from episodes that were left out of the
fit, with all of their machine where another one had the fault: what was taught looks nearer than
what comes. Frames that follow each other make probabilities far too sure; one temperature mends it
(Guo et al., ICML 2017).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy.linalg import solve_triangular
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from models.naming import UNKNOWN, Named
from models.settings import DiagnosisSettings

# T ticks of an episode, N rows, C channels, F = 2 C features, K faults

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

CLEARLY = 2.0  # times as likely as the next it must be: with less, it is a tie
SHRINKAGES = (0.03, 0.1, 0.3, 0.6, 0.9)  # shares of the covariance that are set aside, to try
AT_ONCE = 64  # rows, for the sake of memory
ROWS = 20  # of an episode, evenly spread, that distances are taken from: long ones count no more
BLOCKS = 2  # of an episode that has no other of its fault: the one is judged by the other
HOTTEST = 1e4  # temperature


class Validation(BaseModel):
    """How well episodes were named that were left out, as it stands on a card.

    Episodes of a fault that has one alone are not among them: nothing would be left to know it by.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    confusion: dict[str, dict[str, int]] = {}  # fault -> what its episodes were named -> how many
    ties: int = 0  # of the unknown: not too far from every fault, but as near to a second one
    strange: dict[str, int] = {}  # fault -> of its episodes, unknown while it was not taught

    @property
    def episodes(self) -> int:
        """That were left out, one by one."""
        return sum(sum(names.values()) for names in self.confusion.values())

    @property
    def accuracy(self) -> float | None:
        """The share that was named right."""
        right = sum(names.get(fault, 0) for fault, names in self.confusion.items())
        return right / self.episodes if self.episodes else None

    @property
    def unknown(self) -> float | None:
        """The share that was called unknown."""
        count = sum(names.get(UNKNOWN, 0) for names in self.confusion.values())
        return count / self.episodes if self.episodes else None

    def recall(self, fault: str) -> float | None:
        """The share of the fault's episodes that was named so; None without any."""
        names = self.confusion.get(fault, {})
        return names.get(fault, 0) / sum(names.values()) if names else None

    def precision(self, fault: str) -> float | None:
        """The share of what was named so that was; None where nothing was."""
        named = sum(names.get(fault, 0) for names in self.confusion.values())
        return self.confusion.get(fault, {}).get(fault, 0) / named if named else None


class DiagnosisCard(BaseModel):
    """All about a head but its tensors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    faults: tuple[str, ...] = Field(min_length=1)
    episodes: dict[str, int]  # fault -> how many it was learnt from
    settings: DiagnosisSettings
    shrinkage: float = Field(gt=0, le=1)  # the share of the covariance that was set aside
    limit: float = Field(gt=0)  # squared distance from the nearest fault beyond which it is unknown
    temperature: float = Field(gt=0)
    validation: Validation


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """One that a person named."""

    fault: str
    asset: str  # the machine
    features: F64  # [T, F] running means, from the first tick on that may be named

    def __post_init__(self) -> None:
        """Raise ValueError for one that is too short to learn from."""
        if len(self.features) < BLOCKS:
            raise ValueError(
                f"episode of {self.fault}: want {BLOCKS} ticks that may be named or more, got "
                f"{len(self.features)}"
            )


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """The head: names one tick of one asset from its running features."""

    card: DiagnosisCard
    mean: F64  # [K, F] of each fault, whitened
    whiten: F64  # [F, F]

    def distances(self, features: F64) -> F64:
        """Squared distance [N, K] of rows [N, F] from each fault.

        A row's bits depend on nothing else.
        """
        return _distances(features, self.mean, self.whiten)

    def name(self, feature: F64) -> Named:
        """What running features [F] may come from."""
        return self._named(self.distances(feature[None])[0])

    def named(self, features: F64) -> list[Named]:
        """The same of rows [N, F]."""
        return [self._named(distance) for distance in self.distances(features)]

    def _named(self, distance_K: F64) -> Named:
        chance = softmax(-distance_K / (2 * self.card.temperature))
        best = int(distance_K.argmin())
        others = np.delete(chance, best)
        if distance_K[best] > self.card.limit or bool((chance[best] < CLEARLY * others).any()):
            return Named(UNKNOWN)
        fault = self.card.faults[best]
        taught = self.card.episodes.get(
            fault, 1
        )  # the next may differ: Laplace's rule of succession
        most = (taught + 1) / (taught + 2)
        return Named(fault, min(float(chance[best]), most) if len(others) else None)

    def tensors(self) -> dict[str, torch.Tensor]:
        """What was learnt, by name."""
        return {"mean": torch.from_numpy(self.mean), "whiten": torch.from_numpy(self.whiten)}

    @classmethod
    def of(
        cls, card: DiagnosisCard, tensors: Mapping[str, torch.Tensor], *, channels: int
    ) -> "Diagnosis":
        """Take back what tensors() gave. Raises ValueError where it is not this card's."""
        wide = 2 * channels
        wanted = {"mean": (len(card.faults), wide), "whiten": (wide, wide)}
        got = {
            name: tuple(tensor.shape)
            for name, tensor in tensors.items()
            if tensor.dtype == torch.float64 and bool(torch.isfinite(tensor).all())
        }
        if got != wanted:
            raise ValueError(f"diagnosis: want finite float64 tensors {wanted}, got {got}")
        return cls(card, tensors["mean"].numpy(), tensors["whiten"].numpy())


def features(blame: F32, value: F32, expected: F32) -> F64:
    """Of rows [N, C] as scores have them: [N, F]. A channel without an expectation has no sign."""
    root = np.sqrt(blame.astype(np.float64))
    side = np.nan_to_num(np.sign(value.astype(np.float64) - expected), nan=0.0)
    return np.concatenate([root, root * side], axis=-1)


def _distances(feature_NF: F64, mean_KF: F64, whiten_FF: F64) -> F64:
    """Squared, [N, K]; without a BLAS, whose sums depend on how many rows there are."""
    found = np.empty((len(feature_NF), len(mean_KF)))
    for start in range(0, len(feature_NF), AT_ONCE):
        rows = slice(start, start + AT_ONCE)
        white_NF = (whiten_FF * feature_NF[rows, None]).sum(axis=2)
        found[rows] = np.square(mean_KF - white_NF[:, None]).sum(axis=2)
    return found


def advance(mean: F64, ticks: int, feature: F64, *, memory: int) -> F64:
    """The running mean [F] one tick on, after ``ticks`` of them; it forgets what is long ago."""
    return mean + (feature - mean) / min(ticks + 1, memory)


def trail(feature: F64, settings: DiagnosisSettings) -> F64:
    """The running means of an episode [T, F], from the first tick that may be named on."""
    means = np.empty_like(feature)
    mean = np.zeros(feature.shape[1])
    for tick, one in enumerate(feature):
        means[tick] = mean = advance(mean, tick, one, memory=settings.memory_ticks)
    return means[settings.least_ticks - 1 :]


@dataclass(frozen=True, slots=True)
class _Piece:
    """An episode, or a block of one that has no other of its fault: what is judged at once."""

    fault: int
    asset: str
    weight: float
    mean: F64  # [F]
    square: F64  # [F, F]
    rows: F64  # [.., F] some of its features, the last one last
    whole: bool


def fit(episodes: Sequence[Episode], settings: DiagnosisSettings) -> Diagnosis:
    """Learn to name faults. All count the same, and so do the episodes of one.

    Raises ValueError without episodes.
    """
    if not episodes:
        raise ValueError("diagnosis: want labelled episodes, got none")
    count = Counter(episode.fault for episode in episodes)
    faults = tuple(sorted(count))
    pieces = _pieces(episodes, faults)
    tried = [_held_out(pieces, len(faults), shrinkage, settings) for shrinkage in SHRINKAGES]
    chosen = min(tried, key=lambda one: one.loss)
    card = DiagnosisCard(
        faults=faults,
        episodes=dict(sorted(count.items())),
        settings=settings,
        shrinkage=chosen.shrinkage,
        limit=chosen.limit,
        temperature=chosen.temperature,
        validation=Validation(),
    )
    confusion: dict[str, Counter[str]] = {}
    ties = 0
    for gaussians, piece in zip(chosen.gaussians, pieces, strict=True):
        if piece.whole:
            head, row = Diagnosis(card, *gaussians), piece.rows[-1:]
            name = head.named(row)[0].fault
            confusion.setdefault(faults[piece.fault], Counter())[name] += 1
            ties += name == UNKNOWN and bool(head.distances(row).min() <= card.limit)
    validation = Validation(
        confusion={fault: dict(sorted(names.items())) for fault, names in confusion.items()},
        ties=ties,
        strange=_strange(pieces, card) if len(faults) > 1 else {},
    )
    mean, whiten = _gaussians(pieces, len(faults), card.shrinkage)
    return Diagnosis(card.model_copy(update={"validation": validation}), mean, whiten)


@dataclass(frozen=True, slots=True)
class _HeldOut:
    """What one shrinkage gives, by pieces that were left out one by one."""

    shrinkage: float
    gaussians: list[tuple[F64, F64]]  # without each piece
    limit: float
    temperature: float
    loss: float  # mean -log of the probability of the right fault


def _held_out(
    pieces: Sequence[_Piece], faults: int, shrinkage: float, settings: DiagnosisSettings
) -> _HeldOut:
    gaussians = [_gaussians(_without(pieces, n), faults, shrinkage) for n in range(len(pieces))]
    away = [_distances(piece.rows, *one) for piece, one in zip(pieces, gaussians, strict=True)]
    return _HeldOut(shrinkage, gaussians, *_calibrated(away, pieces, settings))


def _without(pieces: Sequence[_Piece], number: int) -> list[_Piece]:
    """What a piece is judged by: nothing of its machine, where another one had its fault."""
    own = pieces[number]
    if any(piece.fault == own.fault and piece.asset != own.asset for piece in pieces):
        return [piece for piece in pieces if piece.asset != own.asset]
    return [*pieces[:number], *pieces[number + 1 :]]


def _pieces(episodes: Sequence[Episode], faults: Sequence[str]) -> list[_Piece]:
    alone = Counter(episode.fault for episode in episodes)
    pieces = []
    for episode in episodes:
        several = alone[episode.fault] > 1
        parts = 1 if several else BLOCKS
        for part in np.array_split(episode.features, parts):
            places = np.unique(np.linspace(0, len(part) - 1, ROWS).round().astype(int))
            pieces.append(
                _Piece(
                    fault=faults.index(episode.fault),
                    asset=episode.asset,
                    weight=1 / parts,
                    mean=part.mean(axis=0),
                    square=part.T @ part / len(part),
                    rows=part[places],
                    whole=several,
                )
            )
    return pieces


def _gaussians(pieces: Sequence[_Piece], faults: int, shrinkage: float) -> tuple[F64, F64]:
    """The mean [K, F] of each fault, whitened, and what whitens [F, F].

    A fault without a piece is infinitely far.
    """
    wide = len(pieces[0].mean)
    mean = np.zeros((faults, wide))
    covariance = np.zeros((wide, wide))
    present = sorted({piece.fault for piece in pieces})
    for fault in present:
        own = [piece for piece in pieces if piece.fault == fault]
        share = np.array([piece.weight for piece in own]) / sum(piece.weight for piece in own)
        mean[fault] = sum(w * piece.mean for w, piece in zip(share, own, strict=True))
        square = sum(w * piece.square for w, piece in zip(share, own, strict=True))
        covariance += (square - np.outer(mean[fault], mean[fault])) / len(present)
    variance = max(float(np.diag(covariance).mean()), np.finfo(np.float64).eps)
    shrunk = (1 - shrinkage) * covariance + shrinkage * variance * np.eye(wide)
    whiten: F64 = solve_triangular(np.linalg.cholesky(shrunk), np.eye(wide), lower=True)
    mean = mean @ whiten.T
    mean[np.setdiff1d(np.arange(faults), present)] = np.inf
    return mean, np.ascontiguousarray(whiten)


def _calibrated(
    distances: Sequence[F64], pieces: Sequence[_Piece], settings: DiagnosisSettings
) -> tuple[float, float, float]:
    """Limit, temperature and loss from the distances [.., K] of pieces that were left out."""
    joined = np.concatenate(distances)
    count = [len(one) for one in distances]
    fault = np.repeat([piece.fault for piece in pieces], count)
    weight = np.repeat([piece.weight / n for piece, n in zip(pieces, count, strict=True)], count)
    nearest = joined.min(axis=1)
    limit = np.quantile(nearest, 1 - settings.unknown_share, weights=weight, method="inverted_cdf")
    limit = max(limit, len(pieces[0].mean))  # the mean of a Gaussian's own: 0 of what never varies
    right = np.arange(len(joined)), fault

    def loss(log_temperature: float) -> float:
        chance = log_softmax(-joined / (2 * np.exp(log_temperature)), axis=1)
        return float(-(weight * chance[right]).sum())

    found = minimize_scalar(loss, bounds=(0.0, np.log(HOTTEST)), method="bounded")
    return float(limit), float(np.exp(found.x)), float(found.fun)


def _strange(pieces: Sequence[_Piece], card: DiagnosisCard) -> dict[str, int]:
    """How many pieces of each fault are far from all others, where it was not taught."""
    found = {}
    for number, fault in enumerate(card.faults):
        others = [piece for piece in pieces if piece.fault != number]
        other = Diagnosis(card, *_gaussians(others, len(card.faults), card.shrinkage))
        own = [piece for piece in pieces if piece.fault == number]
        own = own if own[-1].whole else own[-1:]  # of blocks, the one with its end
        names = [other.name(piece.rows[-1]).fault for piece in own]
        found[fault] = names.count(UNKNOWN)
    return found

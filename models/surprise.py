"""Residuals to a raw score and blame.

Smoothed at several time scales, measured as quadratic forms, joined by max.

Sits behind every predictor. The residual *vector* is smoothed by exponentially weighted means
before its distance is taken, so that a small lasting shift adds up while noise cancels (MEWMA:
Lowry, Woodall, Champ and Rigdon, Technometrics 34, 1992). The means start at zero, the healthy
mean: an asset that just came up is never strange for it.

A distance is ``z' M z`` with a matrix M for each scale. Without channel j it would fall by ``(M
z)_j^2 / M_jj``, exactly: that is the blame (leave-one-out of a Gaussian; the reconstruction-based
contribution of Alcala and Qin, Automatica 45, 2009). Where channels are not valid, M is that of the
rest alone: one M for each pattern of validity, kept once made.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# N rows, R rows of many ticks, C channels, S smoothed copies (one a time scale), M healthy frames

F64 = NDArray[np.float64]

ROWS = 8  # torch float32 products give a row the same bits in any batch that is a multiple of this
COLUMNS = 8  # of 9 to 11 columns, a product's bits depend on where among the eight a row stands
BLOCK = 4096  # rows measured at once while fitting
MEMORY_SPANS = 4  # e^-8 of where a mean of this many spans started is left
REFERENCE_QUANTILE = 0.99  # a scale's own healthy distance: near where alarms are decided
LEAST_SHRINKAGE = (
    0.02  # bounds the condition number to about 50 C: float32 then keeps 3 digits and more
)
LEAST_VARIANCE = 0.01  # of what white noise of the stated spread would leave after smoothing
TINY = 1e-9  # of the largest: a channel that a form feels less than this is rounding
PATTERNS_KEPT = 1024


class QuadraticJudge(ABC):
    """Smooths residuals and measures them by quadratic forms.

    What the forms are is the subclass's idea.
    """

    def __init__(self, channels: int, spans: tuple[int, ...]) -> None:
        self.channels = channels
        self.copies = len(spans)
        self.width = self.copies * channels
        self.memory_ticks = MEMORY_SPANS * max(spans) if max(spans) > 1 else 0
        self.alpha: F64 = 2.0 / (np.asarray(spans, np.float64) + 1.0)  # [S]
        self.reference = np.ones(self.copies)  # [S] the healthy distance of each scale
        self.device = "cpu"
        self._weight_K = self._weights()
        self._kept: dict[bytes, tuple[Tensor, Tensor, Tensor]] = {}

    @abstractmethod
    def forms(self, valid_C: NDArray[np.bool_]) -> F64:
        """M of each scale [S, C, C], symmetric, with zero rows and columns where not valid."""

    @abstractmethod
    def learn(self, smoothed: F64, valid: NDArray[np.bool_], floor: F64) -> None:
        """Learn from healthy frames [M, S, C], [M, C] what forms() needs.

        ``floor``: [C] scaled units.
        """

    @abstractmethod
    def learnt(self) -> dict[str, F64]:
        """The arrays that learn() set, by name; load_tensors() writes into copies of them."""

    @abstractmethod
    def relearn(self, arrays: Mapping[str, F64]) -> None:
        """Take back what learnt() gave."""

    def smooth(
        self, residual_RC: Tensor, valid_RC: Tensor, counts: Sequence[int], smoothed: Tensor
    ) -> Tensor:
        """The means after each tick, [R, S * C]; a channel that is not valid keeps its own.

        On a CPU only products, sums and differences: correctly rounded, hence the same bits for any
        number of rows.
        """
        everywhere = [valid_RC.to(torch.float32)] * self.copies  # cat is faster than broadcasting
        weight_RK = torch.cat(everywhere, 1).mul_(self._weight_K)
        residual_RK = torch.cat([residual_RC] * self.copies, 1)
        means_RK = torch.empty_like(weight_RK)
        for residual, weight, means in zip(
            torch.split_with_sizes(residual_RK, counts),
            torch.split_with_sizes(weight_RK, counts),
            torch.split_with_sizes(means_RK, counts),
            strict=True,
        ):
            before = smoothed[: len(means)]
            if self.device == "cpu":
                torch.sub(residual, before, out=means).mul_(weight).add_(before)
            else:  # one launch for three
                torch.lerp(before, residual, weight, out=means)
            smoothed = means
        return means_RK

    def measure(self, smoothed: Tensor, valid_NC: Tensor) -> tuple[Tensor, Tensor]:
        """Raw score [N]: the largest distance, each in its own healthy distances.

        Blame [N, C] of that scale.
        """
        groups = list(_by_pattern(valid_NC))
        if len(groups) == 1:
            return self._measure(smoothed, *self._matrices(groups[0][0]))
        raw = smoothed.new_empty(len(smoothed))
        blame = smoothed.new_empty(len(smoothed), self.channels)
        for pattern, rows in groups:
            some_raw, some_blame = self._measure(smoothed[rows], *self._matrices(pattern))
            raw[rows] = some_raw
            blame[rows] = some_blame
        return raw, blame

    def fit(self, smoothed: NDArray[np.float32], valid: NDArray[np.bool_], *, floor: F64) -> None:
        """Learn the forms from healthy frames [M, S * C], [M, C].

        Then each scale's healthy distance.
        """
        frames = smoothed.astype(np.float64).reshape(-1, self.copies, self.channels)
        self.learn(frames, valid, floor)
        self.reference = np.ones(self.copies)
        self._kept.clear()
        self.reference = self._healthy_distances(smoothed, valid)
        self._kept.clear()

    def tensors(self) -> dict[str, Tensor]:
        """Everything learnt, by name, float64."""
        arrays = {**self.learnt(), "reference": self.reference}
        return {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what tensors() gave."""
        arrays = {name: tensor.cpu().numpy().copy() for name, tensor in tensors.items()}
        self.reference = arrays.pop("reference")
        self.relearn(arrays)
        self._kept.clear()

    def to(self, device: str) -> None:
        """Work on a torch device from now on."""
        self.device = device
        self._weight_K = self._weights()
        self._kept.clear()

    def _weights(self) -> Tensor:
        """Of what is new in each mean: float32 [K], K = S * C."""
        weight = np.repeat(self.alpha.astype(np.float32), self.channels)
        return torch.from_numpy(weight).to(self.device)

    def _matrices(self, pattern: bytes) -> tuple[Tensor, Tensor, Tensor]:
        """M [S, C, C] made wide, and 1 / its diagonal [S, C] (0 where not valid), float32.

        In healthy distances. Then the blame [C] of a row that is exactly as expected.
        """
        if pattern not in self._kept:
            if len(self._kept) >= PATTERNS_KEPT:
                self._kept.clear()
            bits = np.frombuffer(pattern, np.uint8)
            valid_C = np.unpackbits(bits, count=self.channels).astype(np.bool_)
            forms = self.forms(valid_C) / np.square(self.reference)[:, None, None]
            diagonal = np.diagonal(forms, axis1=1, axis2=2)
            felt = diagonal > TINY * diagonal.max(initial=0.0)
            inverse = np.divide(1.0, diagonal, out=np.zeros_like(diagonal), where=felt)
            even = np.where(inverse[0] > 0, 1.0 / max(int(np.count_nonzero(inverse[0])), 1), 0.0)
            self._kept[pattern] = (
                torch.from_numpy(_wide(forms).astype(np.float32)).to(self.device),
                torch.from_numpy(inverse.astype(np.float32)).to(self.device),
                torch.from_numpy(even.astype(np.float32)).to(self.device),
            )
        return self._kept[pattern]

    def _measure(
        self, smoothed: Tensor, forms: Tensor, inverse: Tensor, even_C: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Rows of one pattern, padded to whole groups of eight."""
        rows = len(smoothed)
        padded = math.ceil(rows / ROWS) * ROWS
        z_SNC = smoothed.new_zeros(self.copies, padded, self.channels)
        z_SNC[:, :rows] = smoothed.view(rows, self.copies, self.channels).transpose(0, 1)
        pull_SNC = torch.bmm(z_SNC, forms)[:, :, : self.channels]
        square_SN = (z_SNC * pull_SNC).sum(2).clamp_(min=0.0)
        largest_N, winner_N = square_SN.max(0)
        index = winner_N.view(1, padded, 1).expand(1, padded, self.channels)
        share_NC = pull_SNC.gather(0, index).squeeze(0).square_()
        share_NC.mul_(inverse.index_select(0, winner_N))
        total_N1 = share_NC.sum(1, keepdim=True)
        blame_NC = torch.where(total_N1 > 0, share_NC / total_N1, even_C)
        return largest_N.sqrt()[:rows], blame_NC[:rows]

    def _healthy_distances(self, smoothed: NDArray[np.float32], valid: NDArray[np.bool_]) -> F64:
        """The reference quantile of each scale's distance [S]; 1 where a scale never left zero."""
        squares = np.empty((len(smoothed), self.copies))
        for pattern, rows in _by_pattern(torch.from_numpy(valid)):
            forms = self._matrices(pattern)[0]
            matrices = forms[:, :, : self.channels].cpu().numpy().astype(np.float64)
            picked = rows.numpy() if isinstance(rows, Tensor) else np.arange(len(smoothed))
            for start in range(0, len(picked), BLOCK):
                block = picked[start : start + BLOCK]
                z = smoothed[block].astype(np.float64).reshape(-1, self.copies, self.channels)
                squares[block] = np.einsum("nsc,scd,nsd->ns", z, matrices, z, optimize=True)
        reference = np.quantile(np.sqrt(np.maximum(squares, 0.0)), REFERENCE_QUANTILE, axis=0)
        return np.where(reference > 0, reference, 1.0)


class Mahalanobis(QuadraticJudge):
    """The Mahalanobis distance of the smoothed residual vector from zero, at each scale."""

    def __init__(self, channels: int, spans: tuple[int, ...]) -> None:
        super().__init__(channels, spans)
        self.covariance: F64 = np.tile(np.eye(channels), (self.copies, 1, 1))  # [S, C, C]

    def forms(self, valid_C: NDArray[np.bool_]) -> F64:
        """The precision of the valid channels alone: the others are integrated out, exactly."""
        forms = np.zeros_like(self.covariance)
        pick = np.ix_(valid_C, valid_C)
        for scale, covariance in enumerate(self.covariance):
            forms[scale][pick] = np.linalg.inv(covariance[pick])
        return forms

    def learn(self, smoothed: F64, valid: NDArray[np.bool_], floor: F64) -> None:
        """Second moments about zero (an offset between units is healthy, too), shrunk.

        With a noise floor.
        """
        least = np.clip(np.square(floor), LEAST_VARIANCE, 1.0)
        for scale, alpha in enumerate(self.alpha):
            white = alpha / (
                2.0 - alpha
            )  # variance that smoothing leaves of white noise of variance 1
            kept = (1.0 - alpha) ** 2
            independent = len(smoothed) * (1.0 - kept) / (1.0 + kept)  # frames, for their memory
            self.covariance[scale] = shrunk_covariance(
                smoothed[:, scale], valid, least=least * white, independent=independent
            )

    def learnt(self) -> dict[str, F64]:
        """The covariance of each scale."""
        return {"covariance": self.covariance}

    def relearn(self, arrays: Mapping[str, F64]) -> None:
        """Take back what learnt() gave."""
        self.covariance = arrays["covariance"]


def shrunk_covariance(
    frames: F64, valid: NDArray[np.bool_], *, least: F64, independent: float
) -> F64:
    """Second moments [C, C] of frames [M, C] about zero, correlations shrunk towards none.

    The intensity is Ledoit and Wolf's idea in the form of Schaefer and Strimmer (Stat. Appl. Genet.
    Mol. Biol. 4, 2005), never below LEAST_SHRINKAGE. Pairs are counted where both channels are
    valid. ``least`` [C] is the smallest variance believed; ``independent`` the count of frames less
    their memory.
    """
    seen = valid.astype(np.float64)
    z = np.where(valid, frames, 0.0)
    pairs = np.maximum(seen.T @ seen, 1.0)
    moments = z.T @ z / pairs
    deviation = np.sqrt(np.maximum(np.diagonal(moments), least))
    u = z / deviation
    correlation = u.T @ u / pairs
    noise = np.maximum(np.square(u).T @ np.square(u) / pairs - np.square(correlation), 0.0)
    apart = ~np.eye(len(deviation), dtype=np.bool_)
    signal = float(np.square(correlation[apart]).sum())
    estimate = float(noise[apart].sum()) / max(independent, 1.0) / signal if signal > 0 else 1.0
    shrinkage = min(max(estimate, LEAST_SHRINKAGE), 1.0)
    correlation = np.where(apart, (1.0 - shrinkage) * correlation, 1.0)
    # pairs counted apart need not make a covariance: lift what fell below what shrinkage guarantees
    values, vectors = np.linalg.eigh(correlation)
    lifted = (vectors * np.maximum(values, LEAST_SHRINKAGE)) @ vectors.T
    lifted = 0.5 * (lifted + lifted.T)
    covariance: F64 = lifted * deviation[:, None] * deviation
    return covariance


def _wide(forms: F64) -> F64:
    """Forms [S, C, C] with columns of zeros up to a multiple of COLUMNS."""
    missing = -forms.shape[2] % COLUMNS
    return np.pad(forms, ((0, 0), (0, 0), (0, missing)))


def _by_pattern(valid_NC: Tensor) -> Iterator[tuple[bytes, Tensor | slice]]:
    """Each pattern of validity with the rows that have it.

    A slice of all of them where there is but one.
    """
    bits = np.packbits(valid_NC.cpu().numpy(), axis=1)
    if len(bits) == 0 or bool((bits == bits[0]).all()):
        pattern = bits[0] if len(bits) else np.packbits(np.ones(valid_NC.shape[1], np.bool_))
        yield pattern.tobytes(), slice(None)
        return
    patterns, inverse = np.unique(bits, axis=0, return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    ends = np.cumsum(np.bincount(inverse, minlength=len(patterns)))
    for pattern, rows in zip(patterns, np.split(order, ends[:-1]), strict=True):
        yield pattern.tobytes(), torch.from_numpy(rows).to(valid_NC.device)

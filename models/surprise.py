"""Residuals to a raw score and blame.

Smoothed at several time scales, measured as quadratic forms, joined by max.

Sits behind every predictor. The residual *vector* is smoothed by exponentially weighted means
before its distance is taken, so that a small lasting shift adds up while noise cancels (MEWMA:
Lowry, Woodall, Champ and Rigdon, Technometrics 34, 1992). The means start at zero, the healthy
mean: an asset that just came up is never strange for it.

A judge with lags judges the last L smoothed vectors as one, so that it knows how a channel follows
itself and the others in time (dynamic PCA's idea: Ku, Storer and Georgakis, Chemometrics 30, 1995).
All it keeps of a row is those L vectors, the newest first, and which share of each number was seen.

A distance is ``z' M z`` with a matrix M for each scale. Without channel j, at all its lags, it
would fall by ``w' M_jj^-1 w`` with w the channel's part of M z, exactly: that is the blame
(leave-one-out of a Gaussian; the reconstruction-based contribution of Alcala and Qin, Automatica
45, 2009). Where channels are not valid now, or were not seen for long enough at a scale, M is that
of the rest alone: one for each pattern of what is known, kept once made.
"""

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.contract import Deviation

# N rows, R rows of many ticks, C channels, S smoothed copies (one a time scale), L lags (1: now
# alone), K = S * C numbers of one tick, M healthy frames

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

ROWS = 8  # torch float32 products give a row the same bits in any batch that is a multiple of this
COLUMNS = 8  # of 9 to 11 columns, a product's bits depend on where among the eight a row stands
SMALL = 400  # multiplications: fewer in a product are added up by torch.bmm itself, not the library
BLOCK = 4096  # rows measured at once while fitting
MEMORY_SPANS = 4  # e^-8 of where a mean of this many spans started is left
SLACK = 1e-3  # that a share lies too high: so it comes back to 1, and never nears subnormal numbers
ENOUGH = 0.75  # of a mean that was seen, at each of its lags
REFERENCE_QUANTILE = 0.99  # a scale's own healthy distance: near where alarms are decided
SHRINKAGE = 0.02  # bounds the condition number to about 50 C: float32 then keeps 3 digits and more
HELD_BLOCKS = 4  # of time, left out one after the other
REFERENCE_FRAMES = 32_768  # about so many, that a scale's healthy distance is made from
LEAST_VARIANCE = 0.01  # of what white noise of the stated spread would leave after smoothing
TINY = 1e-9  # of the largest: a channel that a form feels less than this is rounding
PATTERNS_KEPT = 1024  # at the most
KEPT_FLOATS = 16_777_216  # of all their matrices: 64 MiB


def memory_of(span: int) -> int:
    """Ticks until where a mean over so many ticks started no longer matters."""
    return MEMORY_SPANS * span if span > 1 else 0


class SmoothingJudge:
    """Smooths residuals at several time scales, and keeps the last few ticks of that."""

    score_span = 1

    def __init__(self, channels: int, spans: tuple[int, ...], lags: int = 1) -> None:
        self.channels = channels
        self.copies = len(spans)
        self.lags = lags
        self.width = lags * self.copies * channels
        self.memory_ticks = memory_of(max(spans)) + lags - 1
        self.alpha: F64 = 2.0 / (np.asarray(spans, np.float64) + 1.0)  # [S]
        self.device = "cpu"
        self._weight_K = self._weights()

    def smooth(
        self,
        residual_RC: Tensor,
        valid_RC: Tensor,
        counts: Sequence[int],
        smoothed: Tensor,
        seen: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The means after each tick and how much of each was seen [R, L * K], and which are known.

        A mean is of what was seen of its channel alone: what comes weighs the more, the less was
        seen lately. So what was hidden for a few ticks goes on, and what was hidden for long begins
        anew; it is known once enough was seen, sooner on the fine scales [R, K].

        On a CPU only sums, differences, products and quotients: correctly rounded, hence the same
        bits for any number of rows.
        """
        residual_RK = self._everywhere(residual_RC)
        if bool(valid_RC.all()) and bool((seen == 1).all()):
            means_RK = self._means(residual_RK, itertools.repeat(self._weight_K), counts, smoothed)
            seen_RW = seen.new_ones(len(residual_RK), self.width)
            known_RK = torch.ones_like(residual_RK, dtype=torch.bool)
            return self._lagged(means_RK, counts, smoothed), seen_RW, known_RK
        valid_RK = self._everywhere(valid_RC)
        there_RK = valid_RK.to(torch.float32)
        every = itertools.repeat(self._weight_K)
        seen_RK = self._means(there_RK + SLACK, every, counts, seen, most=1.0)
        weight_RK = there_RK.mul_(self._weight_K).div_(seen_RK)
        means_RK = self._means(
            residual_RK, torch.split_with_sizes(weight_RK, counts), counts, smoothed
        )
        seen_RW = self._lagged(seen_RK, counts, seen)
        known_RK = (seen_RW >= ENOUGH).view(len(seen_RW), self.lags, -1).all(1) & valid_RK
        return self._lagged(means_RK, counts, smoothed), seen_RW, known_RK

    def _everywhere(self, of_RC: Tensor) -> Tensor:
        """The same at each scale [R, K]; cat is faster than broadcasting."""
        return torch.cat([of_RC] * self.copies, 1)

    def _means(
        self,
        new_RK: Tensor,
        weights: Iterable[Tensor],
        counts: Sequence[int],
        kept: Tensor,
        *,
        most: float | None = None,
    ) -> Tensor:
        """Exponential means after each tick, none above ``most``; what is new weighs so much."""
        means_RK = torch.empty_like(new_RK)
        now = kept[:, : new_RK.shape[1]]
        ticks = zip(
            torch.split_with_sizes(new_RK, counts),
            torch.split_with_sizes(means_RK, counts),
            strict=True,
        )
        for (new, means), weight in zip(ticks, weights, strict=False):
            before = now[: len(means)]
            if self.device == "cpu":
                torch.sub(new, before, out=means).mul_(weight).add_(before)
            else:  # one launch for three
                torch.lerp(before, new, weight, out=means)
            if most is not None:
                means.clamp_(max=most)
            now = means
        return means_RK

    def explain(self, smoothed_W: F32, known_K: NDArray[np.bool_]) -> Deviation | None:  # noqa: ARG002 (for those that can)
        """How far each channel of one row lay from what was expected; None: it cannot say."""
        return None

    def _lagged(self, means_RK: Tensor, counts: Sequence[int], kept: Tensor) -> Tensor:
        """The means of each tick, and of the L - 1 before it."""
        if self.lags == 1:
            return means_RK
        numbers = means_RK.shape[1]
        lagged = means_RK.new_empty(len(means_RK), self.width)
        lagged[:, :numbers] = means_RK
        for tick in torch.split_with_sizes(lagged, counts):
            tick[:, numbers:] = kept[: len(tick), :-numbers]
            kept = tick
        return lagged

    def to(self, device: str) -> None:
        """Work on a torch device from now on."""
        self.device = device
        self._weight_K = self._weights()

    def _weights(self) -> Tensor:
        """Of what is new in each mean: float32 [K], K = S * C."""
        weight = np.repeat(self.alpha.astype(np.float32), self.channels)
        return torch.from_numpy(weight).to(self.device)


class QuadraticJudge(SmoothingJudge, ABC):
    """Smooths residuals and measures them by quadratic forms.

    What the forms are is the subclass's idea.
    """

    def __init__(self, channels: int, spans: tuple[int, ...], lags: int = 1) -> None:
        super().__init__(channels, spans, lags)
        self.reference = np.ones(self.copies)  # [S] the healthy distance of each scale
        floats = self.copies * (lags * channels) ** 2
        self._room = min(max(KEPT_FLOATS // floats, 1), PATTERNS_KEPT)
        self._kept: dict[bytes, tuple[Tensor, Tensor, Tensor]] = {}

    @abstractmethod
    def forms(self, known_SC: NDArray[np.bool_]) -> F64:
        """M of each scale, symmetric, with zero rows and columns where not known.

        [S, L * C, L * C], lag by lag.
        """

    @abstractmethod
    def healthy(self) -> F64:
        """The covariance of health at each scale [S, L * C, L * C]."""

    @abstractmethod
    def learn(self, smoothed: F32, known: NDArray[np.bool_], floor: F64) -> None:
        """Learn from healthy frames [M, L, S, C], [M, S, C] what forms() needs.

        ``floor``: [C] scaled units.
        """

    @abstractmethod
    def learnt(self) -> dict[str, F64]:
        """The arrays that learn() set, by name; load_tensors() writes into copies of them."""

    @abstractmethod
    def relearn(self, arrays: Mapping[str, F64]) -> None:
        """Take back what learnt() gave."""

    def measure(self, smoothed: Tensor, known_NK: Tensor) -> tuple[Tensor, Tensor]:
        """Raw score [N]: the largest distance, each in its own healthy distances.

        Blame [N, C] of that scale.
        """
        groups = list(_by_pattern(known_NK))
        if len(groups) == 1:
            return self._measure(smoothed, *self._matrices(groups[0][0]))
        raw = smoothed.new_empty(len(smoothed))
        blame = smoothed.new_empty(len(smoothed), self.channels)
        for pattern, rows in groups:
            some_raw, some_blame = self._measure(smoothed[rows], *self._matrices(pattern))
            raw[rows] = some_raw
            blame[rows] = some_blame
        return raw, blame

    def explain(self, smoothed_W: F32, known_K: NDArray[np.bool_]) -> Deviation:
        """How far each channel lay from where the others place it, at the scale that spoke.

        ``M_jj^-1 w``, whose part in the distance is the channel's blame; its healthy spread
        follows from the covariance.
        """
        known_SC = known_K.reshape(self.copies, self.channels)
        forms = self.forms(known_SC)
        shape = (self.lags, self.copies, self.channels)
        z_SX = smoothed_W.astype(np.float64).reshape(shape).swapaxes(0, 1).reshape(self.copies, -1)
        square_S = np.einsum("sx,sxy,sy->s", z_SX, forms, z_SX)
        scale = int((square_S / np.square(self.reference)).argmax())
        form = forms[scale]
        pull, spread = form @ z_SX[scale], form @ self.healthy()[scale] @ form
        by, times = np.full((2, self.channels), np.nan, np.float32)
        for channel in np.flatnonzero(known_SC[scale]):
            own = slice(int(channel), None, self.channels)  # at all its lags
            if form[channel, channel] <= TINY * form.diagonal().max():
                continue
            back = np.linalg.inv(form[own, own])[0]  # how far it lies now
            by[channel] = back @ pull[own]
            times[channel] = abs(back @ pull[own]) / np.sqrt(back @ spread[own, own] @ back)
        ticks = np.full(self.channels, round(2.0 / self.alpha[scale] - 1.0), np.int64)
        return Deviation(ticks=ticks, by=by, times=times)

    def fit(self, smoothed: F32, known: NDArray[np.bool_], *, floor: F64) -> None:
        """Learn the forms from healthy frames [M, L * K], [M, K], and each scale's distance.

        Scales are compared by blocks of time that the forms did not learn from: what they did learn
        from lies too near, the more so the larger the forms. The unit of all of them is the finest
        scale's distance of what it learnt from: few blocks say little of a tail.
        """
        shape, each = (-1, self.lags, self.copies, self.channels), (-1, self.copies, self.channels)
        self.reference = np.ones(self.copies)
        some = slice(None, None, max(len(smoothed) // REFERENCE_FRAMES, 1))
        few, seen = smoothed[some], known[some]
        held = np.ones(1)
        if self.copies > 1:
            distances = []
            for block in blocks(len(few)):
                others = np.delete(np.arange(len(few)), block)
                self.learn(few[others].reshape(shape), seen[others].reshape(each), floor)
                self._kept.clear()
                distances.append(self._distances(few[block], seen[block]))
            held = _healthy_distance(np.concatenate(distances))
        self.learn(smoothed.reshape(shape), known.reshape(each), floor)
        self._kept.clear()
        unit = _healthy_distance(self._distances(few, seen))[0]
        self.reference = unit * held / held[0]
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
        super().to(device)
        self._kept.clear()

    def _matrices(self, pattern: bytes) -> tuple[Tensor, Tensor, Tensor]:
        """M [S, L * C, L * C] made wide, in healthy distances, and what blame needs, float32.

        That is F [S, L, L, C] with ``F' F`` the inverse of each channel's own part of M (0 where it
        is not felt), and the blame [C] of a row that is exactly as expected.
        """
        made = self._kept.pop(pattern, None)
        if made is None:
            if len(self._kept) >= self._room:
                del self._kept[next(iter(self._kept))]  # which was not needed for the longest
            made = self._made(pattern)
        self._kept[pattern] = made
        return made

    def _made(self, pattern: bytes) -> tuple[Tensor, Tensor, Tensor]:
        bits = np.frombuffer(pattern, np.uint8)
        known_K = np.unpackbits(bits, count=self.copies * self.channels).astype(np.bool_)
        forms = (
            self.forms(known_K.reshape(self.copies, self.channels))
            / np.square(self.reference)[:, None, None]
        )
        shape = (self.copies, self.lags, self.channels, self.lags, self.channels)
        own = np.einsum("slcmc->sclm", forms.reshape(shape))  # [S, C, L, L]
        felt = own[:, :, 0, 0] > TINY * own[:, :, 0, 0].max(initial=0.0)
        factor = np.zeros_like(own)
        factor[felt] = np.linalg.inv(np.linalg.cholesky(own[felt]))
        somewhere = felt.any(0)
        even = np.where(somewhere, 1.0 / max(int(np.count_nonzero(somewhere)), 1), 0.0)
        return (
            torch.from_numpy(_wide(forms).astype(np.float32)).to(self.device),
            torch.from_numpy(factor.transpose(0, 2, 3, 1).astype(np.float32)).to(self.device),
            torch.from_numpy(even.astype(np.float32)).to(self.device),
        )

    def _measure(
        self, smoothed: Tensor, forms: Tensor, factor: Tensor, even_C: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Rows of one pattern, padded to whole groups of eight."""
        rows = len(smoothed)
        padded = math.ceil(rows / ROWS) * ROWS
        lagged = self.lags * self.channels
        z_SNLC = smoothed.new_zeros(self.copies, padded, self.lags, self.channels)
        given = smoothed.view(rows, self.lags, self.copies, self.channels)
        z_SNLC[:, :rows] = given.permute(2, 0, 1, 3)
        z_SNX = z_SNLC.view(self.copies, padded, lagged)
        pull_SNX = torch.bmm(z_SNX, forms)[:, :, :lagged]
        square_SN = (z_SNX * pull_SNX).sum(2).clamp_(min=0.0)
        largest_N, winner_N = square_SN.max(0)
        index = winner_N.view(1, padded, 1).expand(1, padded, lagged)
        pull_NLC = pull_SNX.gather(0, index).view(padded, self.lags, self.channels)
        factor_NLLC = factor.index_select(0, winner_N)
        share_NC = smoothed.new_zeros(padded, self.channels)
        for lag in range(self.lags):  # F is lower triangular
            part_NC = factor_NLLC[:, lag, 0] * pull_NLC[:, 0]
            for before in range(1, lag + 1):
                part_NC.addcmul_(factor_NLLC[:, lag, before], pull_NLC[:, before])
            share_NC.addcmul_(part_NC, part_NC)
        total_N1 = share_NC.sum(1, keepdim=True)
        blame_NC = torch.where(total_N1 > 0, share_NC / total_N1, even_C)
        return largest_N.sqrt()[:rows], blame_NC[:rows]

    def _distances(self, smoothed: F32, known: NDArray[np.bool_]) -> F64:
        """Of each frame at each scale [M, S]."""
        lagged = self.lags * self.channels
        squares = np.empty((len(smoothed), self.copies))
        for pattern, rows in _by_pattern(torch.from_numpy(known)):
            forms = self._matrices(pattern)[0]
            matrices = forms[:, :, :lagged].cpu().numpy().astype(np.float64)
            picked = rows.numpy() if isinstance(rows, Tensor) else np.arange(len(smoothed))
            for start in range(0, len(picked), BLOCK):
                block = picked[start : start + BLOCK]
                z = smoothed[block].astype(np.float64)
                z = z.reshape(-1, self.lags, self.copies, self.channels)
                z = z.swapaxes(1, 2).reshape(-1, self.copies, lagged)
                squares[block] = np.einsum("nsc,scd,nsd->ns", z, matrices, z, optimize=True)
        return np.sqrt(np.maximum(squares, 0.0))


class Mahalanobis(QuadraticJudge):
    """The Mahalanobis distance of the smoothed residual vector from zero, at each scale.

    Without lags, each scale has a covariance of its own. With lags, that of the finest scale holds
    for all: it knows how the residual hangs together in time, and slow scales have few independent
    frames to estimate so large a matrix from.
    """

    def __init__(self, channels: int, spans: tuple[int, ...], lags: int = 1) -> None:
        super().__init__(channels, spans, lags)
        alone = np.eye(lags * channels)
        self.covariance: F64 = np.tile(alone, (self.copies if lags == 1 else 1, 1, 1))

    def forms(self, known_SC: NDArray[np.bool_]) -> F64:
        """The precision of the known channels alone: the others are integrated out, exactly."""
        forms = np.zeros((self.copies, *self.covariance.shape[1:]))
        made: dict[tuple[int, bytes], F64] = {}
        for scale, known_C in enumerate(known_SC):
            own = min(scale, len(self.covariance) - 1)
            key = own, known_C.tobytes()
            if key not in made:
                known = np.tile(known_C, self.lags)
                pick = np.ix_(known, known)
                made[key] = np.zeros_like(self.covariance[own])
                made[key][pick] = np.linalg.inv(self.covariance[own][pick])
            forms[scale] = made[key]
        return forms

    def healthy(self) -> F64:
        """The covariance of each scale; with lags that of the finest, made as large as theirs."""
        if self.lags == 1:
            return self.covariance
        size: F64 = np.square(self.reference / self.reference[0])[:, None, None]
        return self.covariance * size

    def learn(self, smoothed: F32, known: NDArray[np.bool_], floor: F64) -> None:
        """Second moments about zero (an offset between units is healthy, too), shrunk.

        With a noise floor.
        """
        least = np.tile(np.clip(np.square(floor), LEAST_VARIANCE, 1.0), self.lags)
        for scale in range(len(self.covariance)):
            alpha = float(self.alpha[scale])
            white = alpha / (
                2.0 - alpha
            )  # variance that smoothing leaves of white noise of variance 1
            frames = smoothed[:, :, scale].reshape(len(smoothed), -1).astype(np.float64)
            self.covariance[scale] = shrunk_covariance(
                frames, np.tile(known[:, scale], self.lags), least=least * white
            )

    def learnt(self) -> dict[str, F64]:
        """The covariance of each scale."""
        return {"covariance": self.covariance}

    def relearn(self, arrays: Mapping[str, F64]) -> None:
        """Take back what learnt() gave."""
        self.covariance = arrays["covariance"]


def shrunk_covariance(frames: F64, valid: NDArray[np.bool_], *, least: F64) -> F64:
    """Second moments [C, C] of frames [M, C] about zero, correlations shrunk towards none.

    By SHRINKAGE, however few the frames: the directions in which health hardly moves are
    where faults show, and more shrinkage fills them up (decision 48). Pairs are counted where both
    channels are valid. ``least`` [C] is the smallest variance believed.
    """
    seen = valid.astype(np.float64)
    z = np.where(valid, frames, 0.0)
    moments = z.T @ z / np.maximum(seen.T @ seen, 1.0)
    deviation = np.sqrt(np.maximum(np.diagonal(moments), least))
    correlation = moments / deviation[:, None] / deviation
    np.fill_diagonal(correlation, 1.0)
    values, vectors = np.linalg.eigh(correlation)
    # pairs counted apart need not make a covariance: lift what fell below what shrinkage guarantees
    shrunk = np.maximum((1.0 - SHRINKAGE) * values + SHRINKAGE, SHRINKAGE)
    lifted = (vectors * shrunk) @ vectors.T
    covariance: F64 = 0.5 * (lifted + lifted.T) * deviation[:, None] * deviation
    return covariance


def _healthy_distance(distances: F64) -> F64:
    """Of each scale [S], from those of healthy frames [M, S]; 1 where all are 0."""
    reference: F64 = np.quantile(distances, REFERENCE_QUANTILE, axis=0)
    return np.where(reference > 0, reference, 1.0)


def blocks(count: int) -> list[slice]:
    """So many frames cut into blocks of time; fewer where there are too few."""
    edges = [count * k // HELD_BLOCKS for k in range(HELD_BLOCKS + 1)]
    return [slice(a, b) for a, b in itertools.pairwise(edges) if b > a]


def _wide(forms: F64) -> F64:
    """Forms [S, X, X] with columns of zeros: a multiple of COLUMNS, and no product is SMALL."""
    size = forms.shape[2]
    wide = math.ceil(max(size, SMALL / (ROWS * size)) / COLUMNS) * COLUMNS
    return np.pad(forms, ((0, 0), (0, 0), (0, wide - size)))


def anywhere(known_RK: Tensor, channels: int) -> Tensor:
    """Which channels [R, C] may be judged at any scale."""
    return known_RK.view(len(known_RK), -1, channels).any(1)


def _by_pattern(known_NK: Tensor) -> Iterator[tuple[bytes, Tensor | slice]]:
    """Each pattern of what is known with the rows that have it.

    A slice of all of them where there is but one.
    """
    bits = np.packbits(known_NK.cpu().numpy(), axis=1)
    if len(bits) == 0 or bool((bits == bits[0]).all()):
        pattern = bits[0] if len(bits) else np.packbits(np.ones(known_NK.shape[1], np.bool_))
        yield pattern.tobytes(), slice(None)
        return
    patterns, inverse = np.unique(bits, axis=0, return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    ends = np.cumsum(np.bincount(inverse, minlength=len(patterns)))
    for pattern, rows in zip(patterns, np.split(order, ends[:-1]), strict=True):
        yield pattern.tobytes(), torch.from_numpy(rows).to(known_NK.device)

"""What lies beyond the data: a generalised Pareto tail over a high start.

What exceeds a high enough start is distributed so, whatever the scores themselves are (Pickands,
Annals of Statistics 3, 1975; Coles, An Introduction to Statistical Modeling of Extreme Values,
2001, chapter 4). The shape is kept between exponential and a heavy 0.5: such a tail never ends, so
what is further out always counts for more.
"""

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy.optimize import brentq
from scipy.stats import chi2, cramervonmises, genpareto

F64 = NDArray[np.float64]

SHAPE_LIMIT = 0.5
SHAPES = np.linspace(0.0, SHAPE_LIMIT, 51)  # what a bound of a level is looked for among


class Tail(BaseModel):
    """A fitted tail, as it stands on a card."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    start: float
    shape: float = Field(ge=0, le=SHAPE_LIMIT)
    scale: float = Field(gt=0)
    excess: tuple[float, ...] = Field(min_length=2)  # over the start, the largest first
    misfit: float  # p-value of Cramer and von Mises; the parameters are of the same data: lenient

    @classmethod
    def fit(cls, peaks: NDArray[np.floating], start: float) -> "Tail":
        """The tail of independent peaks [M] over the start, at least two of them."""
        excess: F64 = np.sort(peaks.astype(np.float64) - start)[::-1]
        shape, scale = fit_excess(excess, least=1e-6)
        misfit = cramervonmises(excess, genpareto(shape, scale=scale).cdf).pvalue
        return cls(
            start=start,
            shape=shape,
            scale=scale,
            excess=tuple(excess.tolist()),
            misfit=float(misfit),
        )

    def level(self, share: float) -> float:
        """What this share (0..1] of the peaks exceeds."""
        return self.start + self.scale * float(_reach(np.array([self.shape]), share)[0])

    def upper(self, share: float, confidence: float) -> float:
        """What ``level`` is below, with this confidence: by profile likelihood (Coles, 4.3.3).

        How many peaks there are is taken as known.
        """
        excess = np.array(self.excess)
        reach = _reach(SHAPES, share)  # of a scale of 1
        if share >= 1.0:
            return self.start

        def likelihood(above: float) -> float:  # the highest one of those with this level
            return float(_likelihood(excess, SHAPES, above / reach).max())

        best = self.level(share) - self.start
        # The search of fit() may have ended a little beside the top: what is higher is the top.
        best = max((best * f for f in np.linspace(0.5, 2.0, 61)), key=likelihood)
        allowed = likelihood(best) - chi2.ppf(2 * confidence - 1, 1) / 2
        far = best
        while likelihood(far) > allowed:
            far *= 2
        return self.start + float(brentq(lambda above: likelihood(above) - allowed, best, far))


def fit_excess(excess: F64, *, least: float) -> tuple[float, float]:
    """Shape and scale of the excesses [M] over the start of a tail; a scale of ``least`` at least.

    By maximum likelihood.
    """
    if len(excess) < 2 or float(excess.max()) < least:
        return 0.0, least
    with np.errstate(all="ignore"):  # the search tries shapes that do not fit, and leaves them
        shape, _, scale = genpareto.fit(excess, floc=0.0)
        if not 0.0 <= shape <= SHAPE_LIMIT:
            shape = min(max(shape, 0.0), SHAPE_LIMIT)
            _, _, scale = genpareto.fit(excess, f0=shape, floc=0.0)
    return float(shape), max(float(scale), least)


def _reach(shape: F64, share: float) -> F64:
    """How many scales beyond the start the level of a share lies, for each shape."""
    depth = -np.log(share)
    reach: F64 = np.where(
        shape > 0, np.expm1(shape * depth) / np.where(shape > 0, shape, 1.0), depth
    )
    return reach


def _likelihood(excess: F64, shape: F64, scale: F64) -> F64:
    """The log-likelihood of excesses [M] for each pair of shape and scale [K]."""
    ratio = excess[:, None] / scale
    curved = np.where(shape > 0, shape, 1.0)
    depth = np.where(shape > 0, np.log1p(shape * ratio) * (1 + 1 / curved), ratio)
    total: F64 = -(np.log(scale) + depth).sum(0)
    return total

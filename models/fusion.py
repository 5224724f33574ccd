"""Sensors and pictures as one: the arithmetic; lag and absence are monitor/core/fusion.py.

Each side brings a surprise, -log10 of a healthy tail probability p, by its own calibration. They
are joined by the Cauchy combination (Liu and Xie, J. Am. Stat. Assoc. 115, 2020, eq. 1): with
weights w that sum to 1, T = sum of w cot(pi p) is Cauchy distributed, exactly where the sides are
independent or the same, and in its tail nearly so however they depend on each other. So what comes
out is a tail probability again, and the same threshold raises no more false alarms.

Its known weakness is a side with p near 1, whose cot falls without end and takes back what the
other side says: p counts as ``CAP`` at most. Measured by benchmarks/fusion.py; why this rule, and
why not the harmonic mean, is docs/decisions/0065-one-judgement.md.

It asks whether either side is strange. Whether both are, for which an alarm is raised, is another
question: ``agreed``, and docs/decisions/0078-what-both-sides-say.md.
"""

import numpy as np
from numpy.typing import NDArray

# N rows

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

CAP = 0.9  # the largest p: of healthy moments one in ten lies beyond it, and loses nothing by it
DEEPEST = 250.0  # surprise up to which p and cot(pi p) are floats with room to spare
GONE = 2.0**-10  # a picture that fades to less than this share of its weight is absent
LEAST_WEIGHT = 0.05  # of a side, by strength: none is silenced by a figure that may be wrong


def combine(sensor: F32, picture: F32, picture_weight: NDArray[np.floating]) -> F32:
    """The surprise [N] of both sides, each [N]; NaN is a side that is absent.

    An absent side is no evidence: the other's surprise is given as it is, to the bit, and NaN where
    both are absent. ``picture_weight`` [N] is the picture's share, below 1; the sensors have the
    rest, and a picture with none of it is absent. Worked out in float64; good from p near 1 down to
    any depth that float32 holds.
    """
    picture = np.where(picture_weight > 0, picture, np.float32(np.nan))
    left, right = sensor.astype(np.float64), picture.astype(np.float64)
    beyond = np.fmax(np.fmax(left, right) - DEEPEST, 0.0)  # there combining only adds
    total = (1 - picture_weight) * _cot(left - beyond) + picture_weight * _cot(right - beyond)
    joined = beyond - np.log10(np.arctan2(1.0, total) / np.pi)
    fused: F32 = np.where(
        np.isnan(picture), sensor, np.where(np.isnan(sensor), picture, joined)
    ).astype(np.float32)
    return fused


def agreed(sensor: F32, picture: F32, picture_weight: NDArray[np.floating]) -> F32:
    """The surprise [N] that both sides, each [N], are as strange as the calmer of them.

    The partial conjunction of two of two (Benjamini and Heller, Biometrics 64, 2008): the larger p,
    whose tail probability is its square where healthy sides are independent (Wilkinson, Psychol.
    Bull. 48, 1951), and itself at most whatever they do. So it is twice the surprise of the calmer
    side. Each p counts by its side's share of the evidence (Genovese, Roeder and Wasserman,
    Biometrika 93, 2006): as it is at half, ten times as large at a twentieth.

    An absent side, NaN, leaves what the other allows: the most that both could say. NaN where both
    are absent.
    """
    shown = picture_weight > 0
    weight = np.where(shown, picture_weight, 0.5).astype(np.float64)
    left = sensor + np.log10(2 * (1 - weight))
    right = np.where(shown, picture, np.nan) + np.log10(2 * weight)
    both: F32 = np.maximum(2 * np.fmin(left, right), 0.0).astype(np.float32)
    return both


def _cot(surprise: F64) -> F64:
    """The standard Cauchy quantile [N] of p = 10 ** -surprise."""
    p = np.minimum(np.power(10.0, -np.clip(surprise, 0.0, DEEPEST)), CAP)
    quantile: F64 = 1.0 / np.tan(np.pi * p)
    return quantile


def fade(age_s: F64, half_life_s: float) -> F64:
    """What is left [N] of a picture's weight at this age [N]: half of it after each half-life.

    The chance, that is, that the machine still is in the state that the picture shows, if states
    last as radioactive atoms do. 0 where less than ``GONE`` is left: then the picture is absent.
    """
    left = np.power(0.5, np.maximum(age_s, 0.0) / half_life_s)
    return np.where(left < GONE, 0.0, left)


def share(picture_weight: float, left: F64) -> F64:
    """The picture's share [N] of the evidence when so much of its weight is left [N]."""
    weight: F64 = picture_weight * left
    return weight / np.maximum(1 - picture_weight + weight, np.finfo(np.float64).tiny)


def balance(*, sensor_auroc: float, picture_auroc: float) -> float:
    """The picture's weight, by how well each side told faults from health on labelled data.

    The square of the distance d' = sqrt(2) ndtri(AUROC) of two unit normals (Green and Swets,
    Signal Detection Theory, 1966, chapter 3), as its share. A side that is no better than chance
    has the least weight; two of them are equal. Raises ValueError for what is no AUROC.
    """
    from scipy.special import ndtri  # noqa: PLC0415 - alone here, and records import this file

    for name, auroc in (("sensor_auroc", sensor_auroc), ("picture_auroc", picture_auroc)):
        if not 0 <= auroc <= 1:
            raise ValueError(f"{name}: got {auroc:g}, want an AUROC, 0 to 1")
    sensor, picture = (
        float(ndtri(min(max(auroc, 0.5), 0.9999))) ** 2 for auroc in (sensor_auroc, picture_auroc)
    )
    if sensor + picture == 0:
        return 0.5
    return float(np.clip(picture / (sensor + picture), LEAST_WEIGHT, 1 - LEAST_WEIGHT))

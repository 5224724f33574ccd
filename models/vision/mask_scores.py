"""How good maps of defects are, on pictures whose defects are painted over.

Over all pixels of all pictures at once: average precision, and the best Dice of any one threshold.
AUPRO (Bergmann et al., CVPR 2020): the mean overlap with each region that hangs together, corners
included, over the share of good pixels that are called wrong, up to a limit, as a share of that
limit. Sizes: of what exceeds one threshold, against what is painted.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.stats import spearmanr

# H, W height and width of a picture

F64 = NDArray[np.float64]
U8 = NDArray[np.uint8]
Bool = NDArray[np.bool_]

LEVELS = 256  # of a map
LIMIT = 0.3  # of good pixels called wrong, up to which AUPRO looks
TOUCHING = np.ones((3, 3), np.bool_)


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskScores:
    """Shares, not percent; NaN for what cannot be counted."""

    pixel_ap: float
    pixel_auroc: float
    aupro: float
    aupro_05: float  # up to a share of 0.05 of the good pixels
    dice: float  # the best one
    dice_from: float  # the value of a map from which on pixels count, there
    dice_at: float  # at the threshold that was given
    severity_spearman: float  # of the found against the painted area of pictures with a defect
    area_error: float  # median of how far off it is, as a share of what is painted
    pointing: float  # how often a map is highest on a defect, of pictures with one


def mask_scores(
    found: Iterable[tuple[U8, Bool]], *, threshold: float, tolerance: int = 0
) -> MaskScores:
    """Of maps 0 to 255 [H, W] with what is painted [H, W].

    ``threshold``, of 0 to 1, is what areas are counted from. ``tolerance``: pixels that the
    highest place may lie beside a defect (pointing game: Zhang et al., IJCV 126, 2018).
    Raises ValueError where nothing is painted.
    """
    good, bad, overlap = (np.zeros(LEVELS) for _ in range(3))
    regions, both = 0, 0
    areas, hits = [], []
    for heat, painted in found:
        bad += np.bincount(heat[painted], minlength=LEVELS)
        good += np.bincount(heat[~painted], minlength=LEVELS)
        places, count = ndimage.label(painted, TOUCHING)
        regions += count
        for number, box in enumerate(ndimage.find_objects(places), start=1):
            inside = np.bincount(heat[box][places[box] == number], minlength=LEVELS)
            overlap += inside / inside.sum()
        wrong = heat >= threshold * (LEVELS - 1)
        both += int((wrong & painted).sum())
        areas.append((float(painted.sum()), float(wrong.sum())))
        if count:
            hits.append(points_at(heat, painted, tolerance))
    if not regions:
        raise ValueError("masks: no picture has a painted defect: nothing to be found")
    hit, false, part = (np.cumsum(x[::-1]) for x in (bad, good, overlap / regions))
    recall, alarm = hit / hit[-1], false / max(false[-1], 1)
    precision = hit / np.maximum(hit + false, 1)
    dice = 2 * hit / (hit + false + hit[-1])
    best = int(dice.argmax())
    true, told = np.array(areas).T
    wrong_ones = true > 0
    return MaskScores(
        pixel_ap=float((np.diff(recall, prepend=0) * precision).sum()),
        pixel_auroc=_area(alarm, recall, 1.0),
        aupro=_area(alarm, part, LIMIT),
        aupro_05=_area(alarm, part, 0.05),
        dice=float(dice[best]),
        dice_from=(LEVELS - 1 - best) / (LEVELS - 1),
        dice_at=2 * both / max(true.sum() + told.sum(), 1),
        severity_spearman=_spearman(true[wrong_ones], told[wrong_ones]),
        area_error=float(np.median(np.abs(told - true)[wrong_ones] / true[wrong_ones])),
        pointing=float(np.mean(hits)),
    )


def points_at(heat: U8, painted: Bool, tolerance: int) -> float:
    """The share of a map's highest places that lie on what is painted, or so near."""
    highest = heat == heat.max()
    away = ndimage.distance_transform_edt(~painted)
    return float((away[highest] <= tolerance).mean())


def _area(x: F64, y: F64, limit: float) -> float:
    """Under the line from 0, 0 on through the points, up to the limit; a share of that."""
    x, y = np.append(0.0, x), np.append(0.0, y)
    within = x <= limit
    at = np.interp(limit, x, y)
    return float(np.trapezoid(np.append(y[within], at), np.append(x[within], limit)) / limit)


def _spearman(true: F64, told: F64) -> float:
    if len(np.unique(true)) < 2 or len(np.unique(told)) < 2:
        return float("nan")
    return float(spearmanr(true, told).statistic)

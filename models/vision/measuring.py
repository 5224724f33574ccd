"""Dimensions on a picture: where its edges lie, between the pixels.

Grey values become coverage: 0 for the background's level, 1 for the object's, in between where a
pixel holds both. Around each edge coverage is summed, which finds the edge between pixels whatever
blurs it, if alike to both sides (as moments do: Tabatabai and Mitchell, IEEE PAMI 6, 1984). From
the two edges in each row come the distance and, by how they wander from row to row, how far askew
the part lies; both are medians (Theil and Sen's), which some rows of dirt do not move.

Good to 0.1 pixel, areas to 0.1 pixel times their outline: for straight edges at least 8 pixels
apart, up to 30 degrees askew, evenly lit, blurred by no more than a pixel (standard deviation), in
30 rows with noise of no more than 1/40 of the contrast.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.vision.acceptance import MeasureSettings

# H, W height and width of the region

F64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

REACH = 3  # pixels to each side of an edge that its blur may reach
ROWS = 256  # of a region, at the most, that edges are looked for in
LEAST_ROWS = 3
LEAST_CONTRAST = 6.0  # between the two levels, in standard deviations of the noise
GREYS = 256  # bins of the histogram that Otsu's threshold is looked for in
NORMAL_MAD = 1.4826  # times the median absolute deviation: the standard deviation of a normal


@dataclass(frozen=True, slots=True)
class Measured:
    """A dimension in pixels, of an area in square pixels; or why there is none."""

    value_px: float | None
    why: str = ""


def measure(picture: NDArray[np.generic], rule: MeasureSettings) -> Measured:
    """The dimension that a rule asks for, of a picture [H, W] or [H, W, C], or a mask [H, W].

    Channels count the same. Raises ValueError for another shape.
    """
    if picture.ndim not in (2, 3):
        raise ValueError(f"picture: want [H, W] or [H, W, C], got {list(picture.shape)}")
    x1, y1, x2, y2 = (round(one) for one in rule.region)
    part = picture[max(y1, 0) : max(y2, 0), max(x1, 0) : max(x2, 0)]
    if part.size == 0:
        high, wide = picture.shape[:2]
        return Measured(None, f"its region lies outside of the picture of {wide} x {high} pixels")
    if picture.dtype == np.bool_ and not part.any() and rule.what != "gap":
        return Measured(0.0)  # what is not there
    grey: F64 = part.astype(np.float64)
    if grey.ndim == 3:
        grey = grey.mean(axis=2)
    cover = grey if picture.dtype == np.bool_ else _coverage(grey, rule)
    if cover is None:
        return Measured(None, "too little contrast in its region")
    if rule.what == "area":
        return Measured(_area(cover))
    if rule.what == "height" or (rule.what == "gap" and rule.along == "y"):
        cover = cover.T
    return _distance(cover, gap=rule.what == "gap")


def otsu(grey: F64) -> float:
    """The threshold that leaves the least variance on both sides (Otsu, IEEE SMC 9, 1979)."""
    counts, edges = np.histogram(grey, bins=GREYS)
    centre = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    total, mass = below[-1], np.cumsum(counts * centre)
    with np.errstate(invalid="ignore", divide="ignore"):
        between = (mass[-1] * below - mass * total) ** 2 / (below * (total - below))
    best = np.flatnonzero(between == np.nanmax(between))  # as good all over an empty stretch
    return float(edges[1:][best].mean())


def _coverage(grey: F64, rule: MeasureSettings) -> F64 | None:
    """How much of each pixel [H, W] the object covers; beyond 0 and 1 by the noise."""
    if grey.min() == grey.max():
        return None
    bright = grey > (otsu(grey) if rule.threshold == "auto" else rule.threshold)
    if bright.all() or not bright.any():
        return None
    sides = []
    for side in (~bright, bright):  # what an edge does not reach, where there is some
        inner = ndimage.binary_erosion(side, iterations=REACH, border_value=1)
        sides.append(grey[inner if inner.any() else side])
    low, high = (float(np.median(side)) for side in sides)
    noise = max(NORMAL_MAD * float(np.median(np.abs(side - np.median(side)))) for side in sides)
    if high - low <= LEAST_CONTRAST * noise:
        return None
    cover = (grey - low) / (high - low)
    return cover if rule.of == "bright" else 1 - cover


def _area(cover: F64) -> float:
    """Whole pixels far from an edge, parts of them near it."""
    inside = cover > 0.5
    near = ndimage.binary_dilation(inside, iterations=REACH)
    near &= ~ndimage.binary_erosion(inside, iterations=REACH, border_value=1)
    return float(np.where(near, cover, inside).sum())


def _distance(cover: F64, *, gap: bool) -> Measured:
    """From one edge to the other, at right angles to them."""
    rows = np.unique(np.linspace(0, len(cover) - 1, ROWS).round().astype(int))
    found = [(row, *edges) for row in rows.tolist() if (edges := _edges(cover[row], gap=gap))]
    if len(found) < max(LEAST_ROWS, len(rows) // 2):
        want = "a gap between two things" if gap else "two edges"
        return Measured(None, f"{want} in {len(found)} of {len(rows)} lines only")
    row, first, second = np.array(found).T
    from scipy.stats import theilslopes  # noqa: PLC0415 - slow, and seldom needed

    slope = theilslopes((first + second) / 2, row).slope
    return Measured(float(np.median(second - first) / np.hypot(1.0, slope)))


def _edges(cover: F64, *, gap: bool) -> tuple[float, float] | None:
    """The two edges in a line [W]: of everything in it, or of the widest gap; None: not there."""
    step = np.diff((cover > 0.5).astype(np.int8))
    up, down = np.flatnonzero(step == 1) + 1, np.flatnonzero(step == -1) + 1
    if not gap:
        if not len(up) or not len(down) or up[0] > down[-1]:
            return None
        pair = int(up[0]), int(down[-1])
    else:
        ends = [(int(end), int(up[up > end][0])) for end in down if (up > end).any()]
        if not ends:
            return None
        pair = max(ends, key=lambda one: one[1] - one[0])
        cover = 1 - cover
    first, second = pair
    reach = min(REACH, first, len(cover) - second, (second - first) // 2)
    if reach < 1:
        return None
    return (
        first + reach - float(cover[first - reach : first + reach].sum()),
        second - reach + float(cover[second - reach : second + reach].sum()),
    )

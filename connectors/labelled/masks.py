"""Masks as labelling tools write them: polygons and run lengths, to pixels.

A pixel belongs to a polygon if its middle does. Run lengths are those of COCO
(cocodataset.org/#format-data): zeros first, down the columns; as numbers, or packed into text.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from connectors.labelled.pictures import Bool, Box

# H, W height and width of the picture; h, w of the mask

F64 = NDArray[np.float64]

_BITS, _MORE, _SIGN, _FIRST = 5, 0x20, 0x10, 48  # of a character of packed run lengths


def polygon(corners: Sequence[float], size: tuple[int, int]) -> Bool:
    """The pixels [H, W] within x, y, x, y ... (even-odd rule); ``size`` is width and height."""
    width, height = size
    first: F64 = np.asarray(corners, np.float64).reshape(-1, 2)
    crossed = np.zeros((height, width + 1), np.int64)
    middle = np.arange(height) + 0.5
    for (x1, y1), (x2, y2) in zip(first, np.roll(first, -1, axis=0), strict=True):
        rows = np.flatnonzero((middle < y1) != (middle < y2))
        if len(rows):
            x = x1 + (middle[rows] - y1) * (x2 - x1) / (y2 - y1)
            crossed[rows, np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)] += 1
    inside: Bool = np.cumsum(crossed[:, :width], axis=1) % 2 == 1
    return inside


def run_lengths(counts: Sequence[int] | str, size: tuple[int, int]) -> Bool:
    """The pixels [H, W] of run lengths; ``size`` is width and height. Raises ValueError."""
    width, height = size
    given = _unpacked(counts) if isinstance(counts, str) else counts
    if any(one < 0 for one in given) or sum(given) != width * height:
        raise ValueError(f"run lengths of {sum(given)} pixels, want {width} x {height}")
    runs = np.asarray(given, np.int64)
    ones = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return ones.reshape(width, height).T


def _unpacked(text: str) -> list[int]:
    """5 bits a character, the lowest first; from the fourth on, less the number two before."""
    found: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - _FIRST
        if not 0 <= code < 2 * _MORE:
            raise ValueError(f"run lengths with the character {character!r}")
        value |= (code & (_MORE - 1)) << shift
        shift += _BITS
        if code & _MORE:
            continue
        if code & _SIGN:
            value -= 1 << shift
        found.append(value + (found[-2] if len(found) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("run lengths that end within a number")
    return found


def box_of(mask: Bool) -> Box | None:
    """The box around the pixels of a mask [H, W]; None: it has none."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def part(mask: Bool, box: Box) -> Bool:
    """What lies in the rounded box [h, w], at least one pixel."""
    x1, y1, x2, y2 = (round(one) for one in box)
    return mask[y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)]

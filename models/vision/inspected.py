"""What the inspection of one picture gives: numbers of the network, before anybody grades them.

A grade is given by the acceptance table of a camera (``models/vision/severity.py``), never by the
network.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# H, W height and width of the picture as it came; F features

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]
BOOL = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Defect:
    """One place of a picture that is not as it should be."""

    label: str  # its class
    probability: float
    box: tuple[float, float, float, float]  # x1, y1, x2, y2: pixels of the picture as it came
    mask: BOOL | None = None  # [h, w] of the rounded box; None: it is not known
    bounded: bool = True  # False: the box says where the network looked, not where the defect ends


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspected:
    """One picture, inspected."""

    label: str  # the class of the whole picture; the good one where nothing is wrong
    probability: float  # of that class
    probabilities: Mapping[str, float]  # of every class; they sum to 1
    anomaly: float  # the network's own unit; larger is less like the good pictures
    surprise: float  # -log10 of the share of good pictures with an anomaly as large
    heat: U8  # [H, W] how much each pixel looks like a defect, 0 to 255
    defects: tuple[Defect, ...]  # the most probable first
    features: F32  # [F] what the network makes of the picture: successive ones show growth

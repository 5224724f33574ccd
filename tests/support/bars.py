"""Small made pictures: bright bars that lie or stand on a noisy ground, and empty ones."""

import numpy as np

from models.vision.settings import (
    AugmentSettings,
    InspectionSettings,
    NetworkSettings,
    PreprocessSettings,
    VisionFitSettings,
)
from models.vision.training import Examples

SIDE = 24
CLASSES = ("good", "lying", "standing")
SETTINGS = InspectionSettings(
    preprocess=PreprocessSettings(height=SIDE, width=SIDE),
    network=NetworkSettings(width=4, depth=(1, 1), stem="half"),
)
FIT = VisionFitSettings(
    epochs=6,
    batch_size=16,
    learning_rate=0.01,
    validation_share=0.35,
    dropout=0.1,
    augment=AugmentSettings(flip_horizontal=True, noise=0.02),
)


def bar(label: str, draw: np.random.Generator, *, dtype: type = np.uint8) -> np.ndarray:
    """One picture [24, 24, 1]: the bar is 3 by 14 pixels, well within."""
    picture = draw.normal(0.3, 0.05, (SIDE, SIDE, 1))
    row, column = draw.integers(2, 8, 2)
    if label == "lying":
        picture[row : row + 3, column : column + 14] += 0.5
    elif label == "standing":
        picture[row : row + 14, column : column + 3] += 0.5
    most = np.iinfo(dtype).max
    return np.clip(picture * most, 0, most).astype(dtype)


def bars(count: int, *, seed: int = 0, dtype: type = np.uint8) -> Examples:
    """So many of each class."""
    draw = np.random.default_rng(seed)
    labels = [label for _ in range(count) for label in CLASSES]
    pictures = [bar(label, draw, dtype=dtype) for label in labels]
    return Examples(pictures=pictures, labels=labels, groups=range(len(labels)))

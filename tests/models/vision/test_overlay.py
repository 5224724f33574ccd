"""What people see of a picture: readable at any size, with boxes where the defects are."""

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.vision.inspected import Defect, Inspected
from models.vision.overlay import BOX, LEAST, MOST, jpeg, overlay, shown


def inspected(height: int, width: int, *boxes: tuple[float, float, float, float]) -> Inspected:
    return Inspected(
        label="scratch",
        probability=0.9,
        probabilities={"good": 0.1, "scratch": 0.9},
        anomaly=1.0,
        surprise=3.0,
        heat=np.zeros((height, width), np.uint8),
        defects=tuple(Defect(label="scratch", probability=0.9, box=box) for box in boxes),
        features=np.zeros(2, np.float32),
    )


def noise(height: int, width: int, colours: int = 1, dtype: Any = np.uint8) -> Any:
    high = np.iinfo(dtype).max
    return np.random.default_rng(0).integers(0, high, (height, width, colours), dtype)


@pytest.mark.parametrize(
    ("height", "width", "shown"),
    [
        (128, 64, (512, 256)),
        (600, 900, (600, 900)),
        (1000, 4000, (400, 1600)),
        (1, 3000, (1, 1600)),
    ],
)
def test_small_pictures_are_enlarged_and_large_ones_made_smaller(
    height: int, width: int, shown: tuple[int, int]
) -> None:
    drawn = overlay(noise(height, width), inspected(height, width))
    assert drawn.shape == (*shown, 3)
    assert shown[0] == 1 or LEAST <= max(shown) <= MOST


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("colours", [1, 3])
def test_a_picture_of_little_contrast_is_shown_from_black_to_white(
    dtype: Any, colours: int
) -> None:
    dull = (noise(512, 512, colours, dtype) // 16) + 100
    drawn = overlay(dull, inspected(512, 512))
    assert drawn.min() == 0
    assert drawn.max() == 255
    assert (drawn.std(2).max() > 0) == (colours == 3), "grey stays grey"


def test_a_flat_picture_is_shown_as_well() -> None:
    assert len(np.unique(overlay(np.full((9, 9, 1), 7, np.uint8), inspected(9, 9)))) == 1


def test_a_box_is_drawn_where_the_defect_is_in_the_picture_as_it_came() -> None:
    dark = np.zeros((128, 128, 1), np.uint8)
    drawn = overlay(dark, inspected(128, 128, (32, 64, 96, 112)))
    rows, columns = np.nonzero((drawn == BOX).all(2))
    below = rows > 4 * 64 + 4  # its words stand above it
    assert (columns[below].min(), columns[below].max(), rows.max()) == (128, 383, 447)


def test_the_map_tints_where_it_is_high_and_nowhere_else() -> None:
    found = inspected(512, 512)
    found.heat[:, 256:] = 255
    drawn = overlay(np.full((512, 512, 1), 90, np.uint8), found).astype(int)
    red = drawn[..., 0] - drawn[..., 2]
    assert red[:, :250].max() == 0
    assert red[:, 262:].min() > 50


def test_a_box_beyond_the_edge_and_one_without_size_are_drawn_as_far_as_they_go() -> None:
    found = inspected(64, 64, (-5, -5, 80, 80), (10, 10, 10, 10))
    assert (overlay(noise(64, 64), found) == BOX).all(2).any()


def test_a_file_of_it_is_a_jpeg() -> None:
    content = jpeg(overlay(noise(64, 64), inspected(64, 64)))
    assert Image.open(io.BytesIO(content)).format == "JPEG"


def test_the_outline_of_a_mask_is_drawn_and_not_what_lies_within() -> None:
    mask = np.zeros((100, 100), np.bool_)
    mask[20:80, 20:80] = True
    found = inspected(512, 512)
    defect = Defect(label="pit", probability=1.0, box=(200.0, 100.0, 300.0, 200.0), mask=mask)
    picture = noise(512, 512)

    drawn = overlay(picture, replace(found, defects=(defect,)))

    line = (drawn == BOX).all(2)
    assert line[121, 221:279].all()
    assert line[121:179, 221].all()
    assert not line[130:170, 230:270].any()
    assert not (shown(picture) == BOX).all(2).any()

"""What a picture goes through before the network sees it, and the way back."""

import numpy as np
import pytest
import torch

from models.vision.preprocess import PictureError, paired, placement, prepared, resized
from models.vision.settings import PreprocessSettings


def settings(**given: object) -> PreprocessSettings:
    return PreprocessSettings.model_validate({"height": 8, "width": 8, **given})


def ramp(dtype: type, side: int = 8) -> np.ndarray:
    """From black to white, left to right."""
    row = np.linspace(0, np.iinfo(dtype).max, side)
    return np.tile(row, (side, 1))[..., None].astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_black_is_minus_one_and_white_is_one_whatever_the_depth(dtype: type) -> None:
    made = prepared(ramp(dtype), settings())

    assert made.dtype == torch.float32
    assert made.shape == (1, 8, 8)
    assert made[0, 0, 0] == -1
    assert made[0, 0, -1] == 1


def test_twice_the_light_is_the_same_picture_when_each_is_normalised_by_itself() -> None:
    dark = ramp(np.uint16) // 4
    normal = settings(normalise="picture")

    one, other = prepared(dark, normal), prepared(dark * 3, normal)

    assert torch.allclose(one, other, atol=1e-4)
    assert float(one.mean()) == pytest.approx(0, abs=1e-5)
    assert float(one.std(correction=0)) == pytest.approx(1, abs=1e-4)


def test_a_flat_picture_is_all_nought_and_no_division_by_nothing() -> None:
    flat = np.full((8, 8, 1), 77, np.uint8)

    for contrast in ("none", "stretch", "equalise"):
        made = prepared(flat, settings(normalise="picture", contrast=contrast))
        assert torch.isfinite(made).all()
        assert float(made.abs().max()) < 1e-3


def test_a_single_bright_pixel_is_gone_after_the_median_and_less_after_the_gaussian() -> None:
    picture = np.zeros((8, 8, 1), np.uint8)
    picture[4, 4] = 255

    assert float(prepared(picture, settings(denoise="median")).max()) == -1
    assert -1 < float(prepared(picture, settings(denoise="gaussian")).max()) < 0.5


def test_stretching_fills_the_range_and_equalising_makes_lightness_even() -> None:
    dull = (100 + ramp(np.uint8, 64) // 8).astype(np.uint8)
    wide = {"height": 64, "width": 64}

    stretched = prepared(dull, settings(contrast="stretch", **wide))
    assert float(stretched.min()) == -1
    assert float(stretched.max()) == 1
    squared = (np.linspace(0, 1, 64) ** 2 * 255).astype(np.uint8)
    uneven = np.tile(squared, (64, 1))[..., None]
    even = prepared(uneven, settings(contrast="equalise", **wide))
    assert float(even.mean()) == pytest.approx(0, abs=0.02)
    assert float((even[0, 0, 1:] - even[0, 0, :-1]).max()) < 0.3


def test_a_crop_is_what_lies_within_it_and_boxes_and_maps_find_their_way_back() -> None:
    picture = np.zeros((20, 30, 1), np.uint8)
    picture[5:13, 10:26] = 255
    cropped = settings(crop=(10, 5, 26, 13))

    where = placement(picture, cropped)

    assert bool((prepared(picture, cropped) == 1).all())
    assert where.box((10, 5, 26, 13)) == (0, 0, 8, 8)
    assert where.box_back(where.box((12, 6, 20, 9))) == pytest.approx((12, 6, 20, 9))
    assert where.box_back((-5, -5, 50, 50)) == (10, 5, 26, 13)
    heat = where.map_back(torch.ones(4, 4))
    assert heat.shape == (20, 30)
    assert float(heat.sum()) == pytest.approx(8 * 16)
    assert float(heat[5:13, 10:26].min()) == pytest.approx(1)


def test_a_crop_beyond_the_picture_is_refused_with_both_sizes() -> None:
    with pytest.raises(PictureError, match=r"30 x 20 pixels: the crop \[10, 5, 31, 13\]"):
        prepared(np.zeros((20, 30, 1), np.uint8), settings(crop=(10, 5, 31, 13)))


def test_colours_become_one_grey_channel() -> None:
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[..., 0] = 255

    assert prepared(picture, settings(grey=True)).shape == (1, 8, 8)
    assert float(prepared(picture, settings(grey=True)).mean()) == pytest.approx(-1 / 3, abs=1e-5)
    assert prepared(picture, settings()).shape == (3, 8, 8)


def test_a_smaller_picture_keeps_its_mean() -> None:
    noise = torch.rand(1, 64, 64, generator=torch.Generator().manual_seed(0))

    assert float(resized(noise, (8, 8)).mean()) == pytest.approx(float(noise.mean()), abs=5e-3)


def test_a_pair_holds_the_picture_the_template_and_their_difference() -> None:
    one, other = torch.ones(1, 8, 8), torch.full((1, 8, 8), 0.25)

    assert paired(one, other)[:, 0, 0].tolist() == [1, 0.25, 0.75]
    with pytest.raises(PictureError, match="want 1 channels as the picture has, got 3"):
        paired(one, torch.ones(3, 8, 8))


@pytest.mark.parametrize(
    "picture",
    [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 1), np.float32), np.zeros((0, 8, 1), np.uint8)],
    ids=["no channels", "floats", "no rows"],
)
def test_what_is_no_picture_is_refused(picture: np.ndarray) -> None:
    with pytest.raises(PictureError, match="want uint8 or uint16"):
        prepared(picture, settings())


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="odd number, got 4"):
        settings(denoise_size=4)
    with pytest.raises(ValueError, match="x1 < x2"):
        settings(crop=(5, 0, 5, 8))

"""Dimensions on drawn shapes, whose size is known."""

import re

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from models.vision.acceptance import MeasureSettings
from models.vision.measuring import measure, otsu

FINE = 4  # parts of a pixel that a drawing is made from, in each direction


def drawn(shape, *, high=70, wide=90, dark=40.0, bright=200.0, blur=0.7, noise=0.0, seed=0):
    """A picture uint8 [H, W], as a camera sees it.

    ``shape`` gives how far x and y are from an edge, below 0 within.
    """
    steps = (np.arange(max(high, wide) * FINE) + 0.5) / FINE
    x, y = np.meshgrid(steps[: wide * FINE], steps[: high * FINE])
    cover = np.clip(0.5 - FINE * shape(x, y), 0, 1)
    cover = cover.reshape(high, FINE, wide, FINE).mean(axis=(1, 3))
    grey = dark + (bright - dark) * gaussian_filter(cover, blur, mode="nearest")
    grey += np.random.default_rng(seed).normal(0, noise, grey.shape) if noise else 0
    return np.clip(grey.round(), 0, 255).astype(np.uint8)


def bar(*, x, y, width, height, degrees=0.0):
    """A rectangle around x, y."""
    turn = np.deg2rad(degrees)

    def away(at_x, at_y):
        across = (at_x - x) * np.cos(turn) + (at_y - y) * np.sin(turn)
        down = (at_y - y) * np.cos(turn) - (at_x - x) * np.sin(turn)
        return np.maximum(np.abs(across) - width / 2, np.abs(down) - height / 2)

    return away


LEFT = bar(x=0, y=35, width=90, height=300)  # one edge, at 45


def rule(what="width", region=(0, 0, 90, 70), **given_settings):
    limit = {"most_mm2": 1.0} if what == "area" else {"most_mm": 1.0}
    return MeasureSettings(what=what, region=region, **limit, **given_settings)


AT = st.floats(-0.5, 0.5)


@settings(max_examples=25, deadline=None)
@given(AT, st.floats(8, 40), st.floats(-30, 30), st.floats(0, 4))
@example(0.2, 20.0, 0.0, 0.0)
@example(-0.3, 8.0, 30.0, 0.0)
def test_a_width_is_found_to_a_tenth_of_a_pixel_wherever_it_lies_and_however_askew(
    shift, width, degrees, noise
):
    picture = drawn(
        bar(x=45 + shift, y=35, width=width, height=300, degrees=degrees), noise=noise, seed=1
    )
    found = measure(picture, rule(region=(0, 20, 90, 50)))
    assert found.value_px == pytest.approx(width, abs=0.1)


@settings(max_examples=10, deadline=None)
@given(AT, st.floats(8, 30), st.floats(-30, 30))
def test_a_height_is_a_width_turned_round(shift, height, degrees):
    shape = bar(x=45, y=35 + shift, width=300, height=height, degrees=degrees)
    found = measure(drawn(shape), rule("height", region=(30, 0, 60, 70)))
    assert found.value_px == pytest.approx(height, abs=0.1)
    dark = drawn(lambda x, y: -shape(x, y))
    found = measure(dark, rule("height", region=(30, 0, 60, 70), of="dark"))
    assert found.value_px == pytest.approx(height, abs=0.1)


@settings(max_examples=10, deadline=None)
@given(AT, st.floats(8, 20), st.floats(-20, 20))
def test_a_gap_is_the_free_way_between_two_things(shift, gap, degrees):
    def both(x, y):
        left = bar(x=45 + shift, y=35, width=gap + 30, height=300, degrees=degrees)
        hole = bar(x=45 + shift, y=35, width=gap, height=300, degrees=degrees)
        return np.maximum(left(x, y), -hole(x, y))

    found = measure(drawn(both), rule("gap", region=(0, 20, 90, 50)))
    assert found.value_px == pytest.approx(gap, abs=0.1)
    turned = measure(drawn(both).T.copy(), rule("gap", region=(20, 0, 50, 90), along="y"))
    assert turned.value_px == pytest.approx(gap, abs=0.1)


def test_of_several_gaps_the_widest_is_measured():
    things = [
        bar(x=x, y=35, width=width, height=300) for x, width in ((15, 10), (35, 14), (66, 16))
    ]
    picture = drawn(lambda x, y: np.minimum.reduce([one(x, y) for one in things]))
    assert measure(picture, rule("gap")).value_px == pytest.approx(16, abs=0.1)


@settings(max_examples=15, deadline=None)
@given(AT, st.floats(8, 40), st.floats(8, 40), st.floats(0, 90), st.floats(0, 4))
def test_an_area_is_found_to_a_tenth_of_a_pixel_of_its_outline(
    shift, width, height, degrees, noise
):
    shape = bar(x=45 + shift, y=35 - shift, width=width, height=height, degrees=degrees)
    found = measure(drawn(shape, noise=noise, seed=2), rule("area"))
    outline = 2 * (width + height)
    assert found.value_px == pytest.approx(width * height, abs=0.1 * outline)


def test_a_few_lines_of_dirt_do_not_move_an_edge():
    clean = drawn(bar(x=45, y=35, width=20, height=300))
    dirty = clean.copy()
    dirty[30:34, 20:45] = 200
    for picture in (clean, dirty):
        found = measure(picture, rule(region=(0, 20, 90, 50)))
        assert found.value_px == pytest.approx(20, abs=0.1)


def test_colours_and_sixteen_bits_measure_the_same():
    grey = drawn(bar(x=45, y=35, width=20, height=300))
    wanted = measure(grey, rule()).value_px
    assert measure(np.stack([grey] * 3, axis=2), rule()).value_px == pytest.approx(wanted)
    assert measure(grey.astype(np.uint16) * 257, rule()).value_px == pytest.approx(wanted)


def test_a_mask_is_measured_as_it_is():
    mask = np.zeros((70, 90), bool)
    mask[10:60, 30:51] = True
    assert measure(mask, rule()).value_px == 21
    assert measure(mask, rule("height", region=(35, 0, 45, 70))).value_px == 50
    assert measure(mask, rule("area")).value_px == 21 * 50


@pytest.mark.parametrize(
    ("picture", "how", "why"),
    [
        (np.full((70, 90), 50, np.uint8), rule(), "too little contrast"),
        (drawn(bar(x=-9, y=0, width=1, height=1), noise=8), rule(), "too little contrast"),
        (drawn(LEFT), rule(), r"two edges in 0 of 70 lines only"),
        (drawn(LEFT), rule("gap"), r"a gap between two things in 0 of 70"),
        (
            drawn(LEFT),
            rule(region=(100, 0, 120, 50)),
            "outside of the picture of 90",
        ),
        (drawn(bar(x=45, y=35, width=20, height=20)), rule(), "two edges in 2. of 70 lines only"),
        (drawn(LEFT), rule(threshold=300.0), "too little contrast"),
    ],
)
def test_what_cannot_be_measured_has_no_number_but_a_reason(picture, how, why):
    found = measure(picture, how)
    assert found.value_px is None
    assert re.search(why, found.why)


def test_a_picture_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"picture: want \[H, W\] or \[H, W, C\], got \[3\]"):
        measure(np.zeros(3), rule())


def test_the_threshold_lies_in_the_middle_of_what_is_between_two_levels():
    grey = np.repeat([10.0, 12.0, 200.0, 202.0], 20)
    assert otsu(grey) == pytest.approx(106, abs=2)

"""Pictures to pixels, and every way in which one is refused."""

import io
import tracemalloc
import warnings
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support.pictures import chunk, jpeg, noise, png

from connectors.payloads.image import Bounds, Form, PictureError, Reason, check, decode, form_of

BOUNDS = Bounds(bytes=100_000, pixels=10_000)
GREY_JPEG, RGB_JPEG = jpeg(noise(1, 20, 30, 1)), jpeg(noise(2, 20, 30, 3))
SOUND = {
    "grey JPEG": GREY_JPEG,
    "RGB JPEG": RGB_JPEG,
    "grey PNG": png(noise(3, 9, 7, 1)),
    "RGB PNG": png(noise(4, 9, 7, 3)),
    "deep PNG": png(noise(5, 9, 7, 3, dtype=np.uint16)),
}


def reason(content, bounds=BOUNDS):
    with pytest.raises(PictureError) as error:
        decode(content, bounds)
    return error.value.reason


def saved(image, form, **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 17),
    st.integers(1, 17),
    st.sampled_from([1, 3, 4]),
    st.sampled_from([np.uint8, np.uint16]),
    st.integers(0, 99),
)
def test_every_pixel_of_a_png_comes_out_as_it_was(height, width, channels, dtype, seed):
    pixels = noise(seed, height, width, channels, dtype=dtype)
    found = decode(png(pixels), BOUNDS)
    assert found.dtype == dtype
    assert np.array_equal(found, pixels[..., :3])


@pytest.mark.parametrize("channels", [1, 3])
def test_a_jpeg_is_what_pillow_makes_of_it(channels):
    content = jpeg(noise(1, 20, 30, channels))
    with Image.open(io.BytesIO(content)) as image:
        wanted = np.asarray(image).reshape(20, 30, channels)
    assert np.array_equal(decode(content, BOUNDS), wanted)


def test_palettes_single_bits_and_alpha_of_eight_bits_become_grey_or_rgb():
    grey = Image.fromarray(noise(1, 6, 5, 1)[..., 0])
    colour = Image.fromarray(noise(2, 6, 5, 3))
    assert decode(saved(colour.quantize(4), "PNG"), BOUNDS).shape == (6, 5, 3)
    bits = decode(saved(grey.convert("1"), "PNG"), BOUNDS)
    assert set(np.unique(bits).tolist()) == {0, 255}
    assert decode(saved(grey.convert("LA"), "PNG"), BOUNDS).shape == (6, 5, 1)


def test_what_it_is_written_in_is_told_by_its_first_bytes():
    assert form_of(GREY_JPEG) is Form.JPEG
    assert form_of(SOUND["grey PNG"]) is Form.PNG
    assert form_of(b"GIF89a") is None


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", Reason.EMPTY),
        (b"GIF89a" + bytes(100), Reason.UNKNOWN_FORM),
        (b"II*\0" + bytes(100), Reason.UNKNOWN_FORM),
        (bytes(200), Reason.UNKNOWN_FORM),
        (GREY_JPEG + bytes(100_000), Reason.TOO_LARGE),
        (png(noise(1, 101, 100, 1)), Reason.TOO_MANY_PIXELS),
        (png(noise(1, 101, 50, 3, dtype=np.uint16)), Reason.TOO_MANY_PIXELS),
        (png(noise(1, 4, 4, 2, dtype=np.uint16)), Reason.COLOURS),
        (saved(Image.new("CMYK", (8, 8)), "JPEG"), Reason.COLOURS),
        (b"\xff\xd8\xff" + bytes(50), Reason.DAMAGED),
        (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", b"") + chunk(b"IEND", b""), Reason.DAMAGED),
    ],
)
def test_what_cannot_be_taken_is_refused_by_a_reason(content, why):
    assert reason(content) is why
    with pytest.raises(PictureError) as error:
        check(content, BOUNDS)
    assert error.value.reason is why


@pytest.mark.parametrize("content", SOUND.values(), ids=SOUND)
def test_the_head_of_what_can_be_taken_is_sound(content):
    check(content, BOUNDS)


@pytest.mark.parametrize("side", [200, 9_000, 12_000, 20_000, 2_000_000_000])
def test_a_bomb_is_refused_by_what_it_declares_before_it_is_unpacked(side):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no error, as in the service
        assert reason(png(noise(1, 4, 4, 1), declared=(side, side))) is Reason.TOO_MANY_PIXELS
    assert reason(png(noise(1, 4, 4, 1), declared=(side, side))) is Reason.TOO_MANY_PIXELS


def test_a_pixel_of_16_bits_a_colour_counts_twice_and_one_of_grey_once():
    for channels, dtype in ((3, np.uint16), (1, np.uint16), (3, np.uint8), (4, np.uint8)):
        side = 70 if (channels, dtype) == (3, np.uint16) else 100
        pixels = noise(1, side, side, channels, dtype=dtype)
        assert np.array_equal(decode(png(pixels), BOUNDS), pixels[..., :3])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_decoding_holds_no_more_than_the_pixels_and_one_copy_of_a_strip(dtype):
    pixels = noise(1, 1500, 400, 3, dtype=dtype)
    content, bounds = png(pixels), Bounds(bytes=1 << 24, pixels=2_000_000)
    decode(SOUND["RGB PNG"], BOUNDS)  # Pillow is imported
    tracemalloc.start()
    found = decode(content, bounds)
    most = tracemalloc.get_traced_memory()[1]  # numpy's and Python's; Pillow has 4 bytes a pixel
    tracemalloc.stop()
    assert np.array_equal(found, pixels)
    assert most < 1.8 * pixels.nbytes


def test_a_png_that_says_twice_what_it_is_or_too_late_is_refused():
    head, grey = png(noise(1, 8, 8, 3)), png(noise(1, 8, 8, 1, dtype=np.uint16))
    start, end = 8, 8 + 25  # of the head
    for content in (head[:end] + grey[start:], head[:8] + chunk(b"tEXt", b"a\0" * 20) + head[8:]):
        assert reason(content) is Reason.DAMAGED


def test_one_that_declares_more_than_it_holds_is_refused():
    assert reason(png(noise(1, 4, 4, 1), declared=(90, 90))) in (Reason.CUT_OFF, Reason.DAMAGED)


@pytest.mark.parametrize("content", SOUND.values(), ids=SOUND)
def test_one_that_is_cut_off_anywhere_is_refused(content):
    unseen = 2 if form_of(content) is Form.JPEG else 0  # the end mark: no pixel is missing then
    for end in range(len(content) - unseen):
        with pytest.raises(PictureError):
            decode(content[:end], BOUNDS)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([name for name in SOUND if "PNG" in name]), st.data())
def test_a_changed_byte_of_a_png_never_changes_a_pixel_unseen(name, data):
    content = bytearray(SOUND[name])
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(PictureError):
        decode(bytes(content), BOUNDS)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_changed_byte_of_a_jpeg_is_refused_or_gives_pixels_and_nothing_else(data):
    content = bytearray(RGB_JPEG)
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] = data.draw(st.integers(0, 255))
    with suppress(PictureError):
        assert decode(bytes(content), BOUNDS).ndim == 3


def test_what_is_appended_behind_the_end_is_left_alone():
    for content in SOUND.values():
        assert np.array_equal(decode(content + b"vendor" * 9, BOUNDS), decode(content, BOUNDS))

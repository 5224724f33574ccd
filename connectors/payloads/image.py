"""JPEG and PNG to pixels, grey or RGB, of 8 or 16 bits; what is no sound picture is refused.

A picture comes from outside: nothing of it is believed. Its bytes and the pixels it declares are
held against bounds before anything is unpacked (a "decompression bomb" declares what no memory
holds), and it must be whole. PNG (W3C PNG, third edition) seals each chunk with a CRC, which is
checked; JPEG (ITU-T T.81) seals nothing, so only damage that its decoder stumbles over is found.
Reasons are the few words of ``Reason`` and never repeat the content.
"""

import io
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from connectors.batch import U8

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

# H, W height and width in pixels, C colours: 1 grey, 3 red, green and blue

Pixels = U8 | NDArray[np.uint16]  # [H, W, C]

MOST_MEGAPIXELS = 89  # Pillow's own bound begins here (Image.MAX_IMAGE_PIXELS)
_STRIP = 256  # rows that are turned into an array together
_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_HEAD, _SEAL = 8, 4  # bytes before and after a chunk's data: length and type, CRC
_DEPTH, _COLOUR = 24, 25  # where a PNG says how many bits, and which colours (IHDR)
_GREY, _RGB, _RGBA = 0, 2, 6  # PNG colour types
_QUALITY = 85  # of a JPEG that is written
_OTHERS = frozenset({".bmp", ".gif", ".tif", ".tiff", ".webp"})  # pictures that are not read
_MODES = {"1": "L", "L": "L", "LA": "L", "P": "RGB", "PA": "RGB", "RGB": "RGB", "RGBA": "RGB"}


class Form(StrEnum):
    """What a picture is written in; its file ends so."""

    JPEG = "jpg"
    PNG = "png"


class Reason(StrEnum):
    """Why a picture was not taken."""

    EMPTY = "picture_empty"
    TOO_LARGE = "picture_too_large"  # in bytes
    TOO_MANY_PIXELS = "picture_too_many_pixels"  # that it declares
    UNKNOWN_FORM = "picture_no_jpeg_or_png"
    CUT_OFF = "picture_cut_off"
    DAMAGED = "picture_damaged"
    UNREADABLE = "picture_unreadable"  # its file may not be read
    COLOURS = "picture_colours"  # CMYK; grey with alpha of 16 bits


def passed_over(names: Iterable[str]) -> str:
    """Which of these files are pictures of kinds that are not read, in words; "": none."""
    ends = (Path(name).suffix.lower() for name in names)
    counts = sorted(Counter(one for one in ends if one in _OTHERS).items())
    if not counts:
        return ""
    kinds = ", ".join(f"{count} {end}" for end, count in counts)
    return f"{kinds} passed over: JPEG and PNG are read. Convert them to PNG, which loses nothing"


class PictureError(ValueError):
    """This is no picture that can be taken. ``reason`` is for counting, the words for people."""

    def __init__(self, reason: Reason, words: str) -> None:
        super().__init__(words)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The largest picture that is taken."""

    bytes: int
    pixels: int  # height x width; those of 16 bits a colour count twice, for they take more bytes


def form_of(content: bytes) -> Form | None:
    """What it says it is written in, by its first bytes."""
    if content.startswith(_PNG):
        return Form.PNG
    return Form.JPEG if content.startswith(_JPEG) else None


def decode(content: bytes, bounds: Bounds) -> Pixels:
    """The pixels [H, W, C] of a picture; an alpha channel is left out, a palette looked up.

    The pixels as they are stored: no orientation tag is followed, no colour profile applied.
    Raises PictureError.
    """
    form = _form(content, bounds)
    with _meant(form, bounds):
        return _pixels(content, form, bounds)


def check(content: bytes, bounds: Bounds) -> None:
    """All that can be said of a picture without decoding it. Raises PictureError.

    Only its head is read, in Python: a picture that makes a decoder crash does no harm here.
    """
    form = _form(content, bounds)
    with _meant(form, bounds):
        _check_head(_open(content, form), content, form, bounds)


def _form(content: bytes, bounds: Bounds) -> Form:
    """What it is written in. Raises PictureError for what is too large, cut off or not sealed."""
    if not content:
        raise PictureError(Reason.EMPTY, "the picture has no bytes")
    if len(content) > bounds.bytes:
        raise PictureError(
            Reason.TOO_LARGE, f"the picture has {len(content):,} bytes, want {bounds.bytes:,}"
        )
    form = form_of(content)
    if form is None:
        raise PictureError(Reason.UNKNOWN_FORM, "it begins as no JPEG and no PNG does")
    if form is Form.PNG:
        _check_chunks(content)
    return form


@contextmanager
def _meant(form: Form, bounds: Bounds) -> Iterator[None]:
    """Whatever Pillow raises, raised as PictureError."""
    try:
        yield
    except PictureError:
        raise
    except Exception as error:
        if "bomb" in str(error):  # its own bound: before ours could be looked at
            raise _too_many(None, bounds) from error
        if "truncated" in str(error):
            raise PictureError(Reason.CUT_OFF, f"the {form} ends too early") from error
        raise PictureError(Reason.DAMAGED, f"the {form} cannot be decoded") from error


def size_of(path: Path) -> tuple[int, int]:
    """Width and height that a file declares; nothing is unpacked. Raises PictureError."""
    from PIL import Image  # noqa: PLC0415 - as in _open()

    try:
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            return image.width, image.height
    except Exception as error:
        raise PictureError(Reason.DAMAGED, f"{path}: no head of a JPEG or PNG") from error


def encode(pixels: U8, form: Form = Form.PNG, *, most: int | None = None) -> bytes:
    """A file of a picture [H, W, 3] of 8 bits, made smaller where a side has more than ``most``."""
    from PIL import Image  # noqa: PLC0415 - as in _open()

    image = Image.fromarray(pixels)
    if most is not None:
        image.thumbnail((most, most))
    kept = io.BytesIO()
    image.save(kept, "PNG" if form is Form.PNG else "JPEG", quality=_QUALITY)
    return kept.getvalue()


def _pixels(content: bytes, form: Form, bounds: Bounds) -> Pixels:
    """Decode. Raises PictureError, and whatever Pillow does."""
    image = _open(content, form)
    _check_head(image, content, form, bounds)
    if _is_deep(content, form):
        return _sixteen_bits(content, image)
    mode = _MODES[image.mode]
    found = np.empty((image.height, image.width, len(mode)), np.uint8)
    for rows, strip in _strips(image):
        found[rows] = np.asarray(strip.convert(mode)).reshape(found[rows].shape)
    return found


def _check_head(image: "ImageFile", content: bytes, form: Form, bounds: Bounds) -> None:
    """How large and of which colours it says it is. Raises PictureError."""
    is_deep = _is_deep(content, form)
    worth = 2 if is_deep and content[_COLOUR] != _GREY else 1
    if image.width * image.height * worth > bounds.pixels:
        raise _too_many(image.size, bounds, worth)
    if is_deep:
        if content[_COLOUR] not in (_GREY, _RGB, _RGBA):
            raise PictureError(Reason.COLOURS, "16 bits of grey with alpha, want grey or RGB")
    elif image.mode not in _MODES:
        raise PictureError(Reason.COLOURS, f"its colours are {image.mode}, want grey or RGB")


def _is_deep(content: bytes, form: Form) -> bool:
    return form is Form.PNG and content[_DEPTH] == 16


def _sixteen_bits(content: bytes, image: "ImageFile") -> Pixels:
    """16 bits a colour. Pillow holds that of grey; of colours it keeps one byte of the two.

    Which one is said by the raw mode of its tile: the upper as the file is meant (big-endian), the
    lower where it is read the other way round. So such a picture is decoded twice.
    """
    if content[_COLOUR] == _GREY:
        return np.asarray(image, np.uint16)[..., None]
    found = np.zeros((image.height, image.width, 3), np.uint16)
    for order, worth in (("B", 256), ("L", 1)):  # the decoded one before is let go of by then
        half = _open(content, Form.PNG)
        half.tile = [one._replace(args=one.args.replace("16B", f"16{order}")) for one in half.tile]
        for rows, strip in _strips(half):
            found[rows] += np.asarray(strip, np.uint16)[..., :3] * np.uint16(worth)
    return found


def _strips(image: "Image") -> Iterator[tuple[slice, "Image"]]:
    """An image in parts, from the top: whatever is made of all at once is held twice over."""
    for top in range(0, image.height, _STRIP):
        bottom = min(top + _STRIP, image.height)
        yield slice(top, bottom), image.crop((0, top, image.width, bottom))


def _open(content: bytes, form: Form) -> Any:
    """The picture's head; Pillow is imported only once there is a picture."""
    from PIL import Image  # noqa: PLC0415 - see above

    return Image.open(io.BytesIO(content), formats=("PNG" if form is Form.PNG else "JPEG",))


def _check_chunks(content: bytes) -> None:
    """Every chunk up to the last one is there and sealed. Raises PictureError."""
    at = len(_PNG)
    while True:
        length = int.from_bytes(content[at : at + 4])
        end = at + _HEAD + length + _SEAL
        if end > len(content):
            raise PictureError(Reason.CUT_OFF, "the png ends too early")
        sealed = content[at + 4 : end - _SEAL]
        if zlib.crc32(sealed) != int.from_bytes(content[end - _SEAL : end]):
            raise PictureError(Reason.DAMAGED, "the checksum of a part of the png is wrong")
        if (sealed[:4] == b"IHDR") != (at == len(_PNG)):  # depth and colours are read from there
            raise PictureError(Reason.DAMAGED, "the png begins with no head, or has two")
        if sealed[:4] == b"IEND":
            return
        at = end


def _too_many(size: tuple[int, int] | None, bounds: Bounds, worth: int = 1) -> PictureError:
    declared = "more" if size is None else f"{size[0]} x {size[1]}"
    twice = " of 16 bits a colour, which count twice" if worth > 1 else ""
    return PictureError(
        Reason.TOO_MANY_PIXELS,
        f"it declares {declared} pixels{twice}, want at most {bounds.pixels:,}",
    )

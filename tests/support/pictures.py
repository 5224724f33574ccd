"""Small pictures, written by hand where Pillow cannot write them."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

_COLOUR_TYPE = {1: 0, 2: 4, 3: 2, 4: 6}  # PNG's, by the count of channels


def jpeg(pixels: np.ndarray, quality: int = 90) -> bytes:
    """A JPEG of uint8 [H, W, C]."""
    file = io.BytesIO()
    Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0]).save(
        file, "JPEG", quality=quality
    )
    return file.getvalue()


def png(pixels: np.ndarray, *, declared: tuple[int, int] | None = None) -> bytes:
    """A PNG of uint8 or uint16 [H, W, C]; ``declared``: width and height that its head says."""
    height, width, channels = pixels.shape
    depth = 8 * pixels.dtype.itemsize
    rows = pixels.astype(f">u{pixels.dtype.itemsize}")
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    head = struct.pack(
        ">IIBBBBB", *(declared or (width, height)), depth, _COLOUR_TYPE[channels], 0, 0, 0
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(name, data)
        for name, data in ((b"IHDR", head), (b"IDAT", zlib.compress(raw)), (b"IEND", b""))
    )


def chunk(name: bytes, data: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def noise(seed: int, *shape: int, dtype: type = np.uint8) -> np.ndarray:
    """Pixels [H, W, C] of chance."""
    top = np.iinfo(dtype).max
    return np.random.default_rng(seed).integers(0, top, shape, dtype, endpoint=True)

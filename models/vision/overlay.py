"""A picture with what was found on it, for people: the map as a tint, outlines and boxes.

A defect has a box around it, and its outline where that is known. The one way in which pictures
are shown: beside alarms, in plots and in reports. Brought to a size at which both a small picture
and a large one can be read, and stretched in contrast: what is dark as it came is seen, too.
"""

import io

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

from models.vision.contract import Pixels
from models.vision.inspected import BOOL, U8, Inspected

# H, W height and width of the picture as it came; h, w as it is shown

NEAREST = Image.Resampling.NEAREST
STRETCHED = (1.0, 99.0)  # percentiles that become black and white
LEAST, MOST = 512, 1600  # pixels of the longer side, as shown
TINT = (255, 60, 20)
STRONGEST = 0.3  # of the tint, where the map is at its highest: the picture stays to be seen
BOX = PAPER = (255, 225, 60)
INK = (0, 0, 0)
LINE = 2  # pixels
TEXT = 15  # pixels high
QUALITY = 85  # of the JPEG


def shown(picture: Pixels) -> U8:
    """A picture [H, W, C] as it came, for eyes: uint8 RGB [h, w, 3]."""
    return np.asarray(_light(picture)[0])


def overlay(picture: Pixels, found: Inspected) -> U8:
    """The same with what was found on it."""
    light, factor = _light(picture)
    share = Image.fromarray(found.heat).resize(light.size).point(lambda heat: heat * STRONGEST)
    image = Image.composite(Image.new("RGB", light.size, TINT), light, share)
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(TEXT)
    for defect in reversed(found.defects):  # the most probable on top
        x1, y1, x2, y2 = (side * factor for side in defect.box)
        if defect.mask is not None:
            image.paste(BOX, (round(x1), round(y1)), _outline(defect.mask, factor))
        pen.rectangle((x1, y1, max(x2 - 1, x1), max(y2 - 1, y1)), outline=BOX, width=LINE)
        text = f"{defect.label} {defect.probability:.0%}"
        _, _, across, down = pen.textbbox((0, 0), text, font=font)
        x = max(min(x1, image.width - across - 4), 0)
        y = max(min(y1 - down - 4, image.height - down - 4), 0)
        pen.rectangle((x, y, x + across + 4, y + down + 4), fill=PAPER)
        pen.text((x + 2, y + 1), text, fill=INK, font=font)
    return np.asarray(image)


def jpeg(shown: U8) -> bytes:
    """As a file."""
    held = io.BytesIO()
    Image.fromarray(shown).save(held, "JPEG", quality=QUALITY)
    return held.getvalue()


def _light(picture: Pixels) -> tuple[Image.Image, float]:
    """At the size at which it is shown, and how many times its own that is."""
    height, width = picture.shape[:2]
    factor = max(min(MOST / max(height, width), 1.0), LEAST / max(height, width))
    size = (max(round(width * factor), 1), max(round(height * factor), 1))
    return Image.fromarray(_stretched(picture)).convert("RGB").resize(size), factor


def _outline(mask: BOOL, factor: float) -> Image.Image:
    """The edge of a mask [h, w], as it is shown."""
    size = [max(round(side * factor), 1) for side in mask.shape[::-1]]
    grown = Image.fromarray(mask.astype(np.uint8) * 255).resize((size[0], size[1]), NEAREST)
    return ImageChops.subtract(grown, grown.filter(ImageFilter.MinFilter(2 * LINE + 1)))


def _stretched(picture: Pixels) -> U8:
    """Black to white by the picture's own darkest and lightest, [H, W] or [H, W, 3]."""
    few = -(-max(picture.shape) // LEAST)  # rows and columns apart are enough to tell
    low, high = np.percentile(picture[::few, ::few], STRETCHED)
    levels = np.arange(np.iinfo(picture.dtype).max + 1)
    lightness = np.clip((levels - low) * (255 / max(high - low, 1)), 0, 255).astype(np.uint8)
    shown: U8 = lightness[picture]
    return shown[..., 0] if shown.shape[2] == 1 else shown

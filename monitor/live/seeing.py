"""What is seen on one picture, from its bytes to what the journal is told of it.

It runs in a process of its own (child.py), for decoders and networks are other people's code on
outsiders' bytes. What is wrong with a picture is said in its result; whatever else fails ends the
process, and whoever has started it counts that.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from connectors.payloads.image import MOST_MEGAPIXELS, Bounds, PictureError, Pixels, decode
from models.vision.contract import UnlikeError
from models.vision.inspected import Inspected
from models.vision.overlay import jpeg, overlay
from monitor.core.records import PictureResult
from monitor.live.grading import CameraSetup, Seen, judged, recipe_of, result, shows
from monitor.live.templates import TemplateError
from monitor.state.pictures import Waiting

logger = logging.getLogger(__name__)

# What is in the store was within bounds when it came; they may have been wider then.
_ANY = Bounds(bytes=1 << 30, pixels=MOST_MEGAPIXELS * 1_000_000)

# Why a picture that was accepted is not inspected after all
UNLIKE, NO_TEMPLATE, FAILED = "picture_unlike_learnt", "no_template", "inspection_failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What came of one picture."""

    result: PictureResult
    overlay: bytes | None = None  # a JPEG; None: nothing is to be shown
    why: str = ""  # it was rejected, in words
    not_shown: str = ""  # why there is no overlay although there should be one


def look(one: Waiting, content: bytes, camera: CameraSetup) -> Told:
    """Decode a picture, inspect it by the network of its camera, if any, and grade its part."""
    try:
        pixels = decode(content, _ANY)
        templates = _templates(one, camera)
    except PictureError as error:
        return _rejected(one, camera, str(error.reason), str(error))
    except TemplateError as error:
        return _rejected(one, camera, NO_TEMPLATE, str(error))
    if camera.inspector is None:
        return Told(result=result(one, Seen(), camera))
    try:
        (found,) = camera.inspector.inspect([pixels], templates)
        told = result(one, judged(camera, found, pixels), camera)
    except Exception as error:
        logger.debug("Inspection failed.", exc_info=True)
        reason = UNLIKE if isinstance(error, UnlikeError) else FAILED
        kind = "" if reason == UNLIKE else f"{type(error).__name__}: "
        return _rejected(one, camera, reason, f"{kind}{error}")
    return _shown(told, pixels, found) if shows(camera, told) else Told(result=told)


def _templates(one: Waiting, camera: CameraSetup) -> Sequence[Pixels] | None:
    """How the part on a picture should look; None: its network wants none.

    Raises TemplateError where nobody knows.
    """
    if camera.templates is None:
        return None
    recipe = recipe_of(one, camera)
    if (template := camera.templates.of(recipe)) is None:
        whose = f"recipe {recipe!r}" if recipe else "a part without a recipe"
        raise TemplateError(f"no template of {whose}")
    return [template]


def _shown(told: PictureResult, pixels: Pixels, found: Inspected) -> Told:
    """With what was found drawn on its picture; without it the result counts all the same."""
    try:
        return Told(result=told, overlay=jpeg(overlay(pixels, found)))
    except Exception as error:
        logger.debug("Drawing failed.", exc_info=True)
        return Told(result=told, not_shown=f"{type(error).__name__}: {error}")


def _rejected(one: Waiting, camera: CameraSetup, reason: str, why: str) -> Told:
    return Told(result=result(one, Seen(rejected=reason), camera), why=why)

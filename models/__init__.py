"""Models: turn arrays into numbers. No I/O but a bundle's own files.

A kind of detector is a subclass of DetectorSettings with its own ``type`` in ``models.settings``:
found by looking, not by a list. ``ModelSettings`` is the union of them all, told apart by ``type``.
"""

import functools
from typing import TYPE_CHECKING, Annotated, Union

from pydantic import Field

from models import settings
from models.settings import DetectorSettings


@functools.cache
def discover() -> dict[str, type[DetectorSettings]]:
    """The settings class of every kind of detector, by its type."""
    return settings.kinds(vars(settings))


if TYPE_CHECKING:
    ModelSettings = DetectorSettings
else:
    ModelSettings = Annotated[Union[tuple(discover().values())], Field(discriminator="type")]  # noqa: UP007 - made at run time

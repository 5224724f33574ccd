"""Models: turn arrays into numbers. No I/O but a bundle's own files.

A kind of detector is a subclass of DetectorSettings with its own ``type`` in ``models.settings``:
found by looking, not by a list. ``ModelSettings`` is the union of them all, told apart by ``type``.
"""

import functools
import inspect
from typing import TYPE_CHECKING, Annotated, Union

from pydantic import Field

from models import settings
from models.settings import DetectorSettings


@functools.cache
def discover() -> dict[str, type[DetectorSettings]]:
    """The settings class of every kind of detector, by its type."""
    found = {
        candidate.model_fields["type"].default: candidate
        for candidate in vars(settings).values()
        if isinstance(candidate, type)
        and issubclass(candidate, DetectorSettings)
        and not inspect.isabstract(candidate)
    }
    return dict(sorted(found.items()))


if TYPE_CHECKING:
    ModelSettings = DetectorSettings
else:
    ModelSettings = Annotated[Union[tuple(discover().values())], Field(discriminator="type")]  # noqa: UP007 - made at run time

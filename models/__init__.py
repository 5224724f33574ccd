"""Models: turn arrays into numbers. No I/O but a bundle's own files.

A kind of detector is a subclass of DetectorSettings with its own ``type``, in any module of this
package: found by looking, not by a list. ``ModelSettings`` is the union of them all, told apart by
``type``; it is made when first asked for, because looking imports every module.
"""

import functools
import importlib
import pkgutil
from typing import TYPE_CHECKING, Annotated, Any, Union

from pydantic import Field

from models.contract import DetectorSettings

if TYPE_CHECKING:
    ModelSettings = DetectorSettings


@functools.cache
def discover() -> dict[str, type[DetectorSettings]]:
    """The settings class of every kind of detector, by its type."""
    found: dict[str, type[DetectorSettings]] = {}
    for module_info in pkgutil.iter_modules(__path__):
        if module_info.ispkg:
            continue
        module = importlib.import_module(f"{__name__}.{module_info.name}")
        for candidate in vars(module).values():
            if (
                isinstance(candidate, type)
                and issubclass(candidate, DetectorSettings)
                and isinstance(candidate.model_fields["type"].default, str)
            ):
                found[candidate.model_fields["type"].default] = candidate
    return dict(sorted(found.items()))


@functools.cache
def _union() -> Any:
    return Annotated[Union[tuple(discover().values())], Field(discriminator="type")]  # noqa: UP007 (made at run time)


def __getattr__(name: str) -> Any:
    """Make ``ModelSettings`` when it is first asked for (PEP 562)."""
    if name == "ModelSettings":
        return _union()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

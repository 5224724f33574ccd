"""Connectors: one module a kind of peer, found by looking, not by a list."""

import importlib
import pkgutil
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

SHARED = frozenset(
    {"batch", "contract", "hints", "http", "labelled", "payloads", "points", "secrets", "stamps"}
)  # modules of this package that are no connector


@dataclass(frozen=True, slots=True, kw_only=True)
class Connector:
    """One kind of peer and the roles it can play."""

    name: str
    source: type[Any] | None
    history: type[Any] | None
    sink: type[Any] | None

    @property
    def settings(self) -> tuple[type[BaseModel], ...]:
        """The settings classes of its roles, each once."""
        roles = (self.source, self.history, self.sink)
        return tuple(dict.fromkeys(role.Settings for role in roles if role is not None))


def discover() -> dict[str, Connector]:
    """Every connector by its type. A third-party client is imported only when it is opened."""
    found = {}
    for module_info in pkgutil.iter_modules(__path__):
        if module_info.name in SHARED:
            continue
        module = importlib.import_module(f"{__name__}.{module_info.name}")
        found[module_info.name] = Connector(
            name=module_info.name,
            source=getattr(module, "Source", None),
            history=getattr(module, "History", None),
            sink=getattr(module, "Sink", None),
        )
    return found

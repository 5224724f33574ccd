"""Rigs: one small peer for each type of connector, so that all can be put through one contract.

A rig is `tests/contracts/rigs/<type>.py` with a class for each role of the connector: `SourceRig`
(for sources and histories) and `SinkRig`, made with an empty folder. A connector without one fails.
`MARKS` in it names the marks of all its tests, as "broker" where it starts a real server.
"""

import importlib.util
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, Protocol

import pytest
from _pytest.mark import ParameterSet
from pydantic import BaseModel

from connectors.contract import TagRef
from connectors.points import Outgoing

FOLDER = Path(__file__).parents[1] / "contracts" / "rigs"

Sample = tuple[int, int, float, int]  # tag, ns since 1970 UTC, value, status


class SourceRig(Protocol):
    """A peer that has something to read."""

    clients: ClassVar[tuple[str, ...]]  # modules that must not be imported before open()
    live: ClassVar[bool]  # whether it never says that nothing more will come; left out: False
    settings: BaseModel  # such that `samples` come in several batches
    tags: Sequence[TagRef]
    samples: Sequence[Sample]  # in their order; some of bad quality, none NaN
    # pictures = True: `samples` are pictures, as recordings.samples() tells them.
    # repeats = True: what was not accepted may come again after a break, and is recognised by its
    # tag and time. close(): stops what the rig started.

    def __init__(self, folder: Path) -> None:
        """The peer is there."""

    def vanish(self) -> None:
        """The peer cannot be reached."""

    def appear(self) -> None:
        """It can be reached again, and has the same to say, and what it had not handed over."""

    def forget(self) -> Sequence[Sample]:
        """Optional, for peers that can: it starts anew and forgets what it held for us.

        Returns what it then said to nobody. It can be reached, and has more to say.
        """

    def close(self) -> None:
        """Optional: end what was started."""


class SinkRig(Protocol):
    """A peer that takes something."""

    clients: ClassVar[tuple[str, ...]]
    settings: BaseModel
    items: Sequence[Outgoing]  # three or more that it takes
    unfit: Outgoing  # one that it can never take
    secrets: Sequence[str]  # what the settings hold and no error may show
    retry_after_s: float | None  # what it asks for when it is `busy`; None: it has no such answer

    def __init__(self, folder: Path) -> None:
        """The peer is there."""

    def vanish(self) -> None:
        """The peer cannot be reached."""

    def appear(self) -> None:
        """It can be reached again, and has what it had."""

    def busy(self) -> None:
        """It asks for patience at the next delivery."""

    def contents(self) -> Any:
        """All that the peer holds, to be compared."""


def rig(connector: str) -> ModuleType:
    """The rigs of a connector. Raises LookupError if there is no file of its name."""
    path = FOLDER / f"{connector}.py"
    if not path.exists():
        raise LookupError(
            f"connector {connector}: want its rigs in tests/contracts/rigs/{path.name}"
        )
    spec = importlib.util.spec_from_file_location(f"rig_of_{connector}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def marked(connectors: Iterable[str]) -> list[ParameterSet]:
    """Connectors as parameters of a test, each with the marks of its rig."""
    found = []
    for name in connectors:
        try:
            marks = getattr(rig(name), "MARKS", ())
        except LookupError:
            marks = ()  # its tests say that there is no rig
        all_marks = [getattr(pytest.mark, mark) for mark in marks]
        if all_marks:  # real servers take their time to start
            all_marks.append(pytest.mark.timeout(120))
        found.append(pytest.param(name, marks=all_marks))
    return found

"""What the contracts of connectors share."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.rigs import rig

_WATCHED = ("open", "os.", "socket.", "glob.", "pathlib.", "subprocess.")


class _Watch:
    """An audit hook: it cannot be taken back, only told not to listen."""

    def __init__(self) -> None:
        self._seen: list[str] | None = None
        sys.addaudithook(self._hear)

    def _hear(self, event: str, _: Any) -> None:
        if self._seen is not None and event.startswith(_WATCHED):
            self._seen.append(event)

    @contextmanager
    def __call__(self) -> Iterator[list[str]]:
        self._seen = seen = []
        try:
            yield seen
        finally:
            self._seen = None


@pytest.fixture(scope="session")
def watching() -> Callable[[], Any]:
    """Gives a context whose value fills with every look at a file or the network."""
    return _Watch()


@pytest.fixture
def new_rig(tmp_path: Path) -> Iterator[Callable[[str, str], Any]]:
    """Makes rigs of a connector, each in a folder of its own; those with ``close`` are closed."""
    made: list[Any] = []

    def make(connector: str, role: str) -> Any:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(getattr(rig(connector), role)(folder))
        return made[-1]

    yield make
    for one in made:
        getattr(one, "close", lambda: None)()

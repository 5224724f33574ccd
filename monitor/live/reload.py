"""Another configuration for the running service: looked at, made, put in force, or given up.

All that can fail is done before anything is touched: the configuration is read and checked as a
whole, models are loaded, the new step, sources and sinks are made. Then it comes into force in one
place of the journal, its Epoch. Sources and sinks follow, one by one; those that did not change do
not notice. Where that fails, everything goes back, with an Epoch of the old configuration.
docs/decisions/0031-reload.md says what that costs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from monitor.live.setup import Setup
from monitor.state.database import Transaction

ANSWER_S = 300.0  # how long a command waits: models are loaded, and the step catches up


class UnfitError(Exception):
    """What is configured cannot come into force, in words; nothing was touched.

    ``again``: trying again may help.
    """

    def __init__(self, message: str, *, again: bool = False) -> None:
        super().__init__(message)
        self.again = again


class Proposal(Protocol):
    """A configuration that is right, and how it differs from the one in force."""

    @property
    def changes(self) -> Sequence[str]:
        """What it would change, a line each; none: nothing."""
        ...

    @property
    def untouched(self) -> int:
        """How many assets go on as if nothing had happened."""
        ...

    def register(self, tx: Transaction) -> None:
        """Give the names that are new their numbers."""
        ...

    def setup(self) -> Setup:
        """What the service is made from, after ``register``. Raises UnfitError."""
        ...

    def accept(self) -> None:
        """It is in force from now on: the next one is compared with it."""
        ...


Look = Callable[[], Proposal]
"""Reads what is configured now. Takes seconds; raises UnfitError."""

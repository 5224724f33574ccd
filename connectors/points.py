"""What goes out: points for databases, messages for people and systems.

Made by the shell from the step's results, kept in the outbox, handed to sinks by the delivery
worker.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """Rows of one measurement that share their tags. Every field is finite, in every row."""

    measurement: str
    tags: Mapping[str, str]  # bounded sets only: site, asset, channel, model, class
    time: NDArray[np.int64]  # [N] ns since 1970 UTC
    fields: Mapping[str, NDArray[np.float64]]  # each [N]
    texts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # each [N], for people

    def __post_init__(self) -> None:
        """Check dtypes, lengths and that no field is NaN or infinite; raises ValueError."""
        for name, text in self.texts.items():
            if len(text) != len(self.time):
                raise ValueError(
                    f"Points.{name} of {self.measurement}: want {len(self.time)} texts, "
                    f"got {len(text)}"
                )
        for name, column in self.fields.items():
            if column.dtype != np.float64 or column.shape != self.time.shape:
                raise ValueError(
                    f"Points.{name} of {self.measurement}: want float64 [{len(self.time)}], "
                    f"got {column.dtype} {list(column.shape)}"
                )
            if not bool(np.all(np.isfinite(column))):
                raise ValueError(
                    f"Points.{name} of {self.measurement}: a value is not finite; "
                    "say valid=0 instead"
                )

    def __len__(self) -> int:
        """Count of rows."""
        return len(self.time)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One thing to tell: an alarm raised, acknowledged, returned. What it says is its id."""

    id: str  # a hash of site, asset, class, raise tick and transition
    subject: str  # messages with one subject are delivered in order: the alarm's id
    type: str  # alarm.raised, alarm.returned, alarm.acknowledged
    time: int  # ns since 1970 UTC, event time
    body: Mapping[str, Any]  # JSON values only


Outgoing = Points | Message

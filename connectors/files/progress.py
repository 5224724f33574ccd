"""How far the files have been read, as the position that is stored with each batch.

A position says for each file the lines taken, and which rejected samples are still to be told: so
that a stop between any two batches loses nothing and counts nothing twice.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from connectors.contract import RefusedError


@dataclass(frozen=True, slots=True)
class Taken:
    """What has been taken of one file."""

    lines: int  # the header not counted
    size: int | None = None  # bytes of the file, once it was read to its end


@dataclass(frozen=True, slots=True)
class Progress:
    """What has been taken of all files, and what is owed."""

    files: Mapping[str, Taken] = field(default_factory=dict)  # by name
    owed: Mapping[str, int] = field(default_factory=dict)  # rejected and not yet told, by reason

    def told(self, reason: str) -> "Progress":
        """The same with one reason paid."""
        return replace(self, owed={r: count for r, count in self.owed.items() if r != reason})

    def to_json(self) -> str:
        """The position."""
        files = {name: [taken.lines, taken.size] for name, taken in self.files.items()}
        return json.dumps({"files": files, "owed": self.owed}, separators=(",", ":"))

    @classmethod
    def from_json(cls, position: str | None, *, connector: str) -> "Progress":
        """Read a position back; None is the start. Raises RefusedError."""
        if position is None:
            return cls()
        try:
            parts = json.loads(position)
            files = {name: Taken(*taken) for name, taken in parts["files"].items()}
            return cls(files, dict(parts["owed"]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RefusedError(
                f"{connector}: the stored position is none of this connector: {position[:80]!r} "
                f"({error}). Was the source another type before? Give it a new name",
                connector=connector,
            ) from error

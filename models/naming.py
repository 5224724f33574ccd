"""What a head says of one tick: which fault, and how sure it is. Light: imports nothing heavy."""

from dataclasses import dataclass

UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Named:
    """A fault's name; ``probability`` is None where it is unknown."""

    fault: str
    probability: float | None = None

    def __str__(self) -> str:
        """In words, for people."""
        if self.probability is None:
            return "fault unknown" if self.fault == UNKNOWN else self.fault
        return f"looks like {self.fault} ({self.probability:.0%})"

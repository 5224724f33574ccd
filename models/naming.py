"""What a head says of one tick: which fault, and how sure it is. Light: imports nothing heavy."""

from dataclasses import dataclass

UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Named:
    """A fault's name; ``probability`` is None where it is unknown, or no other was taught."""

    fault: str
    probability: float | None = None

    def __str__(self) -> str:
        """In words, for people."""
        if self.fault == UNKNOWN:
            return "fault unknown"
        sure = "" if self.probability is None else f" ({self.probability:.0%})"
        return f"looks like {self.fault}{sure}"

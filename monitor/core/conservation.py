"""Proof that nothing was lost: received = stored + duplicate + late + rejected + waiting."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Conservation:
    """What became of the samples, or the pictures, of one source.

    Each count is taken where its thing happens, none is worked out from the others.
    """

    received: int = 0
    stored: int = 0  # in a frame, or waiting for one; of pictures: inspected
    duplicate: int = 0  # a sample of equal tag and time was there before
    late: int = 0  # came after its frame was closed: kept, not scored live
    rejected: Mapping[str, int] = field(default_factory=dict)  # reason -> count
    waiting: int = 0  # pictures that were accepted and are not inspected yet

    def __post_init__(self) -> None:
        """Counts are never negative; raises ValueError."""
        counts = (
            *(self.received, self.stored, self.duplicate, self.late, self.waiting),
            *self.rejected.values(),
        )
        if min(counts) < 0:
            raise ValueError(f"Conservation: want counts of 0 or more, got {self}")

    @property
    def missing(self) -> int:
        """Received samples that nothing accounts for; negative: accounted for more than once."""
        accounted = self.stored + self.duplicate + self.late + sum(self.rejected.values())
        return self.received - accounted - self.waiting

    @property
    def holds(self) -> bool:
        """Whether every received sample is accounted for exactly once."""
        return self.missing == 0

    def __add__(self, other: Self) -> Self:
        reasons = dict.fromkeys((*self.rejected, *other.rejected))
        return type(self)(
            received=self.received + other.received,
            stored=self.stored + other.stored,
            duplicate=self.duplicate + other.duplicate,
            late=self.late + other.late,
            rejected={
                reason: self.rejected.get(reason, 0) + other.rejected.get(reason, 0)
                for reason in reasons
            },
            waiting=self.waiting + other.waiting,
        )

    def to_json(self) -> dict[str, Any]:
        """JSON values that from_json() takes back."""
        return {
            "received": self.received,
            "stored": self.stored,
            "duplicate": self.duplicate,
            "late": self.late,
            "rejected": dict(self.rejected),
            "waiting": self.waiting,
        }

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Self:
        """What to_json() gave. Raises TypeError for an unknown key, ValueError below 0."""
        return cls(**given)

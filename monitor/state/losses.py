"""What was deleted before everybody who wanted it had it: counted for good.

Points that a sink did not get in time are counted with the sink, in the outbox.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from monitor.state.database import DatabaseReader, Transaction


class Loss(StrEnum):
    """What was lost."""

    LATE_SAMPLES = "late_samples"  # never scored, and no longer kept
    DEAD_LETTERS = "dead_letters"  # refused by a sink, and no longer kept


@dataclass(frozen=True, slots=True)
class Losses:
    """The losses of one database."""

    database: DatabaseReader

    def add(self, tx: Transaction, what: Loss, count: int) -> None:
        """So many more were lost."""
        if count:
            tx.execute(
                "INSERT INTO loss (what, count) VALUES (?, ?)"
                " ON CONFLICT (what) DO UPDATE SET count = count + excluded.count",
                (what, count),
            )

    def counts(self) -> Mapping[Loss, int]:
        """How many were lost since the database was made, by what it is."""
        counted = dict(self.database.query("SELECT what, count FROM loss"))
        return {what: counted.get(what, 0) for what in Loss}

"""What was lost, deleted early or did not read back: counted for good.

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


class Damage(StrEnum):
    """What did not read back, and was given up."""

    COMMITS = "commits"  # at the end of the log, at least so many
    RECORDS = "journal_records"  # never stepped
    SCORES = "score_blocks"  # in no rollup
    ROLLUPS = "rollup_rows"  # an hour of minutes or a day of hours of an asset, begun anew


@dataclass(frozen=True, slots=True)
class Losses:
    """The losses of one database."""

    database: DatabaseReader

    def add(self, tx: Transaction, what: Loss | Damage, count: int) -> None:
        """So many more were lost."""
        if count:
            tx.execute(
                "INSERT INTO loss (what, count) VALUES (?, ?)"
                " ON CONFLICT (what) DO UPDATE SET count = count + excluded.count",
                (what, count),
            )

    def counts(self) -> Mapping[Loss, int]:
        """How many were deleted since the database was made, by what it is."""
        counted = self._counted()
        return {what: counted.get(what, 0) for what in Loss}

    def damaged(self) -> Mapping[Damage, int]:
        """How many did not read back since the database was made, by what it is."""
        counted = self._counted()
        return {what: counted.get(what, 0) for what in Damage}

    def _counted(self) -> dict[str, int]:
        return dict(self.database.query("SELECT what, count FROM loss"))

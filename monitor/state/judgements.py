"""What sensors and pictures said together of each asset with a camera, tick by tick.

Kept beside the scores, as blocks of columns, for as long as those are kept at full rate. There are
no rollups of them: what matters for longer became an alarm of class combined, whose reason has it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from monitor.core.records import Judgements
from monitor.state.columns import apart, pack, unpack
from monitor.state.database import EARLIEST, LATEST, DatabaseReader, Transaction


@dataclass(frozen=True, slots=True)
class StoredJudgements:
    """The judgements of one database. Times are event time, ns since 1970 UTC."""

    database: DatabaseReader

    def add(self, tx: Transaction, found: Iterable[Judgements]) -> None:
        """Keep blocks of them, as they came from the step."""
        for block in found:
            if len(block):
                columns, meta = apart(block)
                span = int(block.tick.min()), int(block.tick.max())
                tx.execute(
                    "INSERT INTO judgement_block (first_tick, last_tick, body) VALUES (?, ?, ?)",
                    (*span, pack(columns, meta)),
                )

    def read(
        self, asset: int | None = None, since: int | None = None, until: int | None = None
    ) -> Iterator[Judgements]:
        """Those of an asset, by its number, or of all, in (since, until]; in order, block by block.

        Raises CorruptError with the number of a block that does not read back.
        """
        since, until = EARLIEST if since is None else since, LATEST if until is None else until
        for (number,) in self.database.query(
            "SELECT id FROM judgement_block WHERE last_tick > ? AND first_tick <= ? ORDER BY id",
            (since, until),
        ):
            rows = self.database.query("SELECT body FROM judgement_block WHERE id = ?", (number,))
            for (body,) in rows:  # none: forgotten meanwhile
                columns, meta = unpack(body, what=f"judgement block {number}", number=number)
                wanted = (columns["tick"] > since) & (columns["tick"] <= until)
                if asset is not None:
                    wanted &= columns["asset"] == asset
                if np.any(wanted):
                    chosen = {name: column[wanted] for name, column in columns.items()}
                    yield Judgements(**(meta | chosen))

    def forget(self, tx: Transaction, *, before: int, limit: int) -> int:
        """Delete blocks that ended ``before`` or earlier; how many, ``limit`` at most."""
        return tx.execute(
            "DELETE FROM judgement_block WHERE id IN"
            " (SELECT id FROM judgement_block WHERE last_tick <= ? ORDER BY last_tick LIMIT ?)",
            (before, limit),
        ).rowcount

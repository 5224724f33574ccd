"""What sources said is missing, and what of it was filled: kept as it was said, joined when read.

A statement that goes on where an equal one ended lengthens it: a peer that drops samples in each
message takes one row, not one a message.
"""

import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Self

from monitor.core.missing import GapKind, SourceGap, covered, parts
from monitor.state.database import EARLIEST, LATEST, DatabaseReader, Transaction

MOST_ROWS = (
    100_000  # kept: about 20 MB; a source that comes and goes each minute says 525,600 a year
)

_COLUMNS = "source, kind, since, until, tags, reason, received"


@dataclass(frozen=True, slots=True, kw_only=True)
class GapFigures:
    """How much is missing of one source, of what is still kept."""

    told: int  # gaps and overflows
    filled: int  # of them: nothing is missing any more
    missing_ns: int  # time in which something of the source is missing
    last: SourceGap | None  # that was told last

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        last = self.last
        return {
            "told": self.told,
            "filled": self.filled,
            "missing_s": self.missing_ns / 1e9,
            "last": None
            if last is None
            else {
                "kind": str(last.kind),
                "since_ns": last.since,
                "until_ns": last.until,
                "tags": len(last.tags),
                "reason": last.reason,
            },
        }


@dataclass(frozen=True, slots=True)
class SourceGaps:
    """The table of one database."""

    database: DatabaseReader

    def add(self, tx: Transaction, told: Iterable[SourceGap]) -> None:
        """Keep what was said."""
        for gap in told:
            row = {
                "source": gap.source,
                "kind": str(gap.kind),
                "since": gap.since,
                "until": gap.until,
                "tags": json.dumps(gap.tags),
                "reason": gap.reason,
                "received": gap.received,
            }
            longer = tx.execute(
                "UPDATE source_gap SET until = max(until, :until), received = :received"
                " WHERE number = (SELECT number FROM source_gap WHERE source = :source"
                " AND kind = :kind AND until >= :since AND since <= :since AND tags = :tags"
                " AND reason = :reason LIMIT 1)",
                row,
            ).rowcount
            if not longer:
                tx.execute(
                    f"INSERT INTO source_gap ({_COLUMNS}) VALUES"  # noqa: S608 - a constant
                    " (:source, :kind, :since, :until, :tags, :reason, :received)",
                    row,
                )

    def read(
        self, source: str | None = None, since: int | None = None, until: int | None = None
    ) -> list[SourceGap]:
        """What is still missing, and what was ``filled``, in order of time.

        Whole parts of gaps that reach into (since, until], ns since 1970 UTC.
        """
        since = EARLIEST if since is None else since
        until = LATEST if until is None else until
        gaps, fills = self._told(source, since, until)
        found = [
            part
            for gap in gaps
            for part in parts(gap, fills[gap.source].of(gap))
            if part.until > since and part.since < until
        ]
        return sorted(found, key=lambda part: (part.since, part.until, part.source))

    def figures(self) -> dict[str, GapFigures]:
        """How much is missing of each source that ever said so."""
        gaps, fills = self._told(None, EARLIEST, LATEST)
        found = {}
        for source in sorted({gap.source for gap in gaps}):
            mine = [gap for gap in gaps if gap.source == source]
            left = [
                [part for part in parts(gap, fills[source].of(gap)) if not part.filled]
                for gap in mine
            ]
            found[source] = GapFigures(
                told=len(mine),
                filled=left.count([]),
                missing_ns=covered(part for open_parts in left for part in open_parts),
                last=max(mine, key=lambda gap: gap.received),
            )
        return found

    def forget(self, tx: Transaction, *, before: int, limit: int) -> int:
        """Delete what ended ``before`` or earlier, event time, ns, and all beyond MOST_ROWS.

        What filled a gap goes after it; how many, ``limit`` at most.
        """
        return tx.execute(
            "DELETE FROM source_gap WHERE number IN (SELECT number FROM source_gap AS one WHERE"
            " until <= :before AND NOT (kind = 'filled' AND EXISTS (SELECT 1 FROM source_gap"
            " WHERE source = one.source AND kind IN ('gap', 'overflow') AND until > :before"
            " AND since < one.until))"
            " OR number <= (SELECT max(number) FROM source_gap) - :most"
            " ORDER BY number LIMIT :limit)",
            {"before": before, "most": MOST_ROWS, "limit": limit},
        ).rowcount

    def _told(
        self, source: str | None, since: int, until: int
    ) -> tuple[list[SourceGap], dict[str, "_Fills"]]:
        """The gaps and overflows that reach into (since, until], and by source what was filled."""
        rows = self.database.query(
            f"SELECT {_COLUMNS} FROM source_gap"  # noqa: S608 - a constant
            " WHERE (:source IS NULL OR source = :source) AND until > :since AND since < :until"
            " ORDER BY number",
            {"source": source, "since": since, "until": until},
        )
        told = [
            SourceGap(
                source=row[0],
                kind=GapKind(row[1]),
                since=row[2],
                until=row[3],
                tags=tuple(json.loads(row[4])),
                reason=row[5],
                received=row[6],
            )
            for row in rows
        ]
        gaps = [gap for gap in told if gap.kind is not GapKind.FILLED]
        fills: dict[str, list[SourceGap]] = {gap.source: [] for gap in gaps}
        for gap in told:
            if gap.kind is GapKind.FILLED and gap.source in fills:
                fills[gap.source].append(gap)
        return gaps, {name: _Fills.sorted(given) for name, given in fills.items()}


@dataclass(frozen=True, slots=True)
class _Fills:
    """What was filled of one source, to be found by time: there are as many as there are gaps."""

    fills: list[SourceGap]  # by where they begin
    reached: list[int]  # how far they and those before them reach

    @classmethod
    def sorted(cls, fills: Iterable[SourceGap]) -> Self:
        ordered = sorted(fills, key=lambda one: one.since)
        return cls(ordered, list(accumulate((one.until for one in ordered), max)))

    def of(self, gap: SourceGap) -> list[SourceGap]:
        """Those that may fill something of a gap."""
        first = bisect_right(self.reached, gap.since)
        return self.fills[first : bisect_left(self.fills, gap.until, key=lambda one: one.since)]

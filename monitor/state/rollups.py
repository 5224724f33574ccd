"""Old scores made small: blocks at full rate become a row a minute and a row an hour.

A block is taken into its minutes and hours and deleted in one transaction, so each score counts
exactly once. Rows hold sums and counts, so that parts can be joined in any order: an hour is the
fold of its minutes. As frames are, a row stamped B covers (B - width, B].
"""

import json
import logging
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectors.batch import F32, F64, I64
from monitor.core.plan import SECOND
from monitor.core.records import Scores, ScoreState
from monitor.state.columns import Columns, pack, unpack
from monitor.state.database import EARLIEST, LATEST, DatabaseReader, Transaction
from monitor.state.errors import CorruptError
from monitor.state.losses import Damage, Losses
from monitor.state.store import read_scores

# N rows, C channels, G rows of a rollup, S the score states

logger = logging.getLogger(__name__)

# Blocks, and bytes of them, taken in one transaction: others wait meanwhile
_STEP_BLOCKS, _STEP_BYTES = 1000, 4 << 20


class Width(IntEnum):
    """How much time one row covers, in ns."""

    MINUTE = 60 * SECOND
    HOUR = 3600 * SECOND


# How much time one stored row of the table holds: neither many tiny rows nor long ones to write
# anew
_SPAN = {Width.MINUTE: 3600 * SECOND, Width.HOUR: 24 * 3600 * SECOND}

# How two parts of one row become one. NaN stands for nothing seen.
_JOIN: dict[str, np.ufunc] = {
    "states": np.add,
    "coverage_sum": np.add,
    "coverage_min": np.fmin,
    "surprise_sum": np.add,
    "surprise_max": np.fmax,
    "raw_max": np.fmax,
    "blame_sum": np.add,
    "value_count": np.add,
    "value_sum": np.add,
    "value_min": np.fmin,
    "value_max": np.fmax,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollup:
    """One asset's rows in order of time.

    Raw, surprise and blame are of the scores that count (state ok) only.
    """

    kind: str
    channels: tuple[str, ...]
    asset: int
    width: Width
    bucket: I64  # [G] ns since 1970 UTC, the end of the time covered
    states: I64  # [G, S] how many scores were in each ScoreState
    coverage_sum: F64  # [G] of all scores
    coverage_min: F32  # [G]
    surprise_sum: F64  # [G]
    surprise_max: F32  # [G] NaN: none counted
    raw_max: F32  # [G] NaN: none counted
    blame_sum: F64  # [G, C]
    value_count: I64  # [G, C] values that were there
    value_sum: F64  # [G, C] in the channel's unit
    value_min: F32  # [G, C] NaN: none was there
    value_max: F32  # [G, C] NaN: none was there

    @property
    def surprise_mean(self) -> F64:
        """[G], NaN where no score counted."""
        return _mean(self.surprise_sum, self.states[:, ScoreState.OK])

    @property
    def coverage_mean(self) -> F64:
        """[G]."""
        return _mean(self.coverage_sum, self.states.sum(axis=1))

    @property
    def blame_mean(self) -> F64:
        """[G, C], NaN where no score counted."""
        return _mean(self.blame_sum, self.states[:, ScoreState.OK, None])

    @property
    def value_mean(self) -> F64:
        """[G, C] in the channel's unit, NaN where none was there."""
        return _mean(self.value_sum, self.value_count)


@dataclass(frozen=True, slots=True)
class Rollups:
    """The rollups of one database."""

    database: DatabaseReader

    def step(
        self,
        tx: Transaction,
        *,
        before: int,
        limit: int = _STEP_BLOCKS,
        limit_bytes: int = _STEP_BYTES,
    ) -> int:
        """Take in the oldest blocks that end at ``before`` or earlier; how many: 0, none is left.

        As many as fit within ``limit`` and ``limit_bytes``, and at least one. What does not read
        back, a block or the row it belongs into, is given up: counted, and an error says so.
        """
        taken: list[int] = []
        for number, size in tx.execute(
            "SELECT id, LENGTH(body) FROM score_block WHERE last_tick <= ?"
            " ORDER BY last_tick, id LIMIT ?",
            (before, limit),
        ):
            limit_bytes -= size
            if taken and limit_bytes < 0:
                break
            taken.append(number)
        losses = Losses(self.database)
        parts: dict[tuple[str, tuple[str, ...]], list[Columns]] = defaultdict(list)
        for number in taken:
            ((kind, body),) = tx.execute(
                "SELECT kind, body FROM score_block WHERE id = ?", (number,)
            ).fetchall()
            try:
                scores = read_scores(number, kind, body)
            except CorruptError as error:
                logger.error("Scores are lost to the rollups: %s.", error)  # noqa: TRY400 - no bug of ours to trace
                losses.add(tx, Damage.SCORES, 1)
                continue
            parts[kind, scores.channels].append(_of_ticks(scores))
        for (kind, channels), tables in parts.items():
            minutes = _fold(tables, Width.MINUTE)
            hours = _fold([minutes], Width.HOUR)
            for width, table in ((Width.MINUTE, minutes), (Width.HOUR, hours)):
                damaged = _merge(tx, table, width, kind, channels)
                losses.add(tx, Damage.ROLLUPS, damaged)
        tx.executemany("DELETE FROM score_block WHERE id = ?", [(number,) for number in taken])
        return len(taken)

    def waiting(self, tx: Transaction, *, before: int) -> bool:
        """Whether step() would find a block."""
        found = tx.execute("SELECT 1 FROM score_block WHERE last_tick <= ? LIMIT 1", (before,))
        return found.fetchone() is not None

    def read(
        self, width: Width, asset: int, *, since: int | None = None, until: int | None = None
    ) -> Iterator[Rollup]:
        """An asset's rows stamped in (since, until], piece by piece in order of time.

        Raises CorruptError.
        """
        since, until = (EARLIEST if since is None else since), (LATEST if until is None else until)
        for span, kind, channels, body in self.database.query(
            "SELECT span, kind, channels, body FROM rollup"
            " WHERE width = ? AND asset = ? AND span > ? AND span - ? < ?"
            " ORDER BY span, kind, channels",
            (width, asset, since, _SPAN[width], until),
        ):
            table = _unpacked(body, asset, span)
            wanted = (table["bucket"] > since) & (table["bucket"] <= until)
            if wanted.any():
                columns: dict[str, Any] = {
                    name: column[wanted] for name, column in table.items() if name != "asset"
                }
                yield Rollup(
                    kind=kind,
                    channels=tuple(json.loads(channels)),
                    asset=asset,
                    width=width,
                    **columns,
                )

    def forget(self, tx: Transaction, width: Width, *, before: int, limit: int) -> int:
        """Delete stored rows that end at ``before`` or earlier; how many, ``limit`` at most.

        A stored row holds an hour of minutes, or a day of hours.
        """
        return tx.execute(
            "DELETE FROM rollup WHERE rowid IN"
            " (SELECT rowid FROM rollup WHERE width = ? AND span <= ? ORDER BY span LIMIT ?)",
            (width, before, limit),
        ).rowcount


def _of_ticks(scores: Scores) -> Columns:
    """Scores as rollup rows that cover one tick each."""
    counts_N = scores.state == ScoreState.OK
    there_NC = np.isfinite(scores.value)
    nan = np.float32(np.nan)
    return {
        "asset": scores.asset.astype(np.int64),
        "bucket": scores.tick,
        "states": (scores.state[:, None] == np.array(list(ScoreState))).astype(np.int64),
        "coverage_sum": scores.coverage.astype(np.float64),
        "coverage_min": scores.coverage,
        "surprise_sum": np.where(counts_N, scores.surprise, 0.0).astype(np.float64),
        "surprise_max": np.where(counts_N, scores.surprise, nan),
        "raw_max": np.where(counts_N, scores.raw, nan),
        "blame_sum": np.where(counts_N[:, None], scores.blame, 0.0).astype(np.float64),
        "value_count": there_NC.astype(np.int64),
        "value_sum": np.where(there_NC, scores.value, 0.0).astype(np.float64),
        "value_min": np.where(there_NC, scores.value, nan),
        "value_max": np.where(there_NC, scores.value, nan),
    }


def _fold(tables: list[Columns], width: int) -> dict[str, NDArray[Any]]:
    """The tables joined to one row for each asset and bucket of ``width`` ns, in that order."""
    whole = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
    asset, bucket = whole["asset"], _end_of(whole["bucket"], width)
    order = np.lexsort((bucket, asset))
    asset, bucket = asset[order], bucket[order]
    first = np.ones(len(order), np.bool_)
    first[1:] = (asset[1:] != asset[:-1]) | (bucket[1:] != bucket[:-1])
    starts = np.flatnonzero(first)
    joined = {
        name: join.reduceat(whole[name][order], starts, axis=0) for name, join in _JOIN.items()
    }
    return {"asset": asset[starts], "bucket": bucket[starts], **joined}


def _merge(
    tx: Transaction, table: Columns, width: Width, kind: str, channels: tuple[str, ...]
) -> int:
    """Join rows with those stored. A loop over assets and spans, not over rows.

    A stored row that does not read back is begun anew; how many did not.
    """
    damaged = 0
    span_G = _end_of(table["bucket"], _SPAN[width])
    spelled = json.dumps(channels)
    for asset, span in np.unique(np.stack([table["asset"], span_G], axis=1), axis=0).tolist():
        chosen = (table["asset"] == asset) & (span_G == span)
        part: Columns = {name: column[chosen] for name, column in table.items()}
        key = (width, asset, span, kind, spelled)
        stored = tx.execute(
            "SELECT body FROM rollup"
            " WHERE width = ? AND asset = ? AND span = ? AND kind = ? AND channels = ?",
            key,
        ).fetchone()
        if stored is not None:
            try:
                part = _fold([_unpacked(stored[0], asset, span), part], width)
            except CorruptError as error:
                logger.error("A rollup is begun anew: %s.", error)  # noqa: TRY400 - as above
                damaged += 1
        tx.execute(
            "INSERT INTO rollup (width, asset, span, kind, channels, body)"
            " VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (width, asset, span, kind, channels) DO UPDATE SET body = excluded.body",
            (*key, pack(part)),
        )
    return damaged


def _unpacked(body: bytes, asset: int, span: int) -> dict[str, NDArray[Any]]:
    return unpack(body, what=f"rollup of asset {asset} up to {span}")[0]


def _end_of(time: I64, width: int) -> I64:
    """The end of the stretch of ``width`` ns that each instant belongs to: (end - width, end]."""
    return -(-time // width) * width


def _mean(total: F64, count: NDArray[np.int64]) -> F64:
    counted = np.broadcast_to(count, total.shape)
    mean: F64 = np.full(total.shape, np.nan)
    np.divide(total, counted, out=mean, where=counted > 0)
    return mean

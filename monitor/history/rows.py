"""What is kept of an asset as one table to be drawn: every frame, before that minutes, then hours.

Sits between the store with its rollups and the picture. Each moment is there once, in the finest
form that is still kept; what a rollup does not hold (what was expected) is NaN.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectors.batch import F32, I64
from monitor.core.records import Scores, ScoreState
from monitor.state.database import EARLIEST, LATEST, DatabaseReader
from monitor.state.rollups import Rollup, Rollups, Width
from monitor.state.store import Store

# N rows, C channels, S the score states


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Rows of one asset in order of time: frames, minutes or hours, each covering (start, end]."""

    kind: str
    channels: tuple[str, ...]
    start: I64  # [N] ns since 1970 UTC
    end: I64  # [N] ns since 1970 UTC
    resolution: I64  # [N] 0: a frame, else a Width
    states: I64  # [N, S] how many frames were in each ScoreState
    surprise: F32  # [N] mean of those that count, NaN: none did
    peak: F32  # [N] the largest of those, NaN as above
    blame: F32  # [N, C] mean of those, NaN as above
    value: F32  # [N, C] mean of the valid ones in the channel's unit, NaN: none was
    low: F32  # [N, C] NaN as above
    high: F32  # [N, C] NaN as above
    valid: I64  # [N, C] how many values were valid
    expected: F32  # [N, C] NaN: no model, or no longer kept
    spread: F32  # [N, C] NaN as above

    @staticmethod
    def of_frames(scores: Scores, tick: int) -> "Rows":
        """Frames of ``tick`` ns, a row each."""
        counts = scores.state == ScoreState.OK
        nan = np.float32(np.nan)
        surprise = np.where(counts, scores.surprise, nan)
        return Rows(
            kind=scores.kind,
            channels=scores.channels,
            start=scores.tick - tick,
            end=scores.tick,
            resolution=np.zeros(len(scores), np.int64),
            states=(scores.state[:, None] == np.array(list(ScoreState))).astype(np.int64),
            surprise=surprise,
            peak=surprise,
            blame=np.where(counts[:, None], scores.blame, nan),
            value=scores.value,
            low=scores.value,
            high=scores.value,
            valid=np.isfinite(scores.value).astype(np.int64),
            expected=scores.expected,
            spread=scores.spread,
        )

    @staticmethod
    def of_rollup(rollup: Rollup, tick: int) -> "Rows":
        """Minutes or hours of frames of ``tick`` ns; a frame may be longer than a minute."""
        nothing = np.full_like(rollup.value_min, np.nan)
        start = rollup.bucket - rollup.width - (tick if tick > rollup.width else 0)
        start[1:] = np.maximum(start[1:], rollup.bucket[:-1])
        return Rows(
            kind=rollup.kind,
            channels=rollup.channels,
            start=start,
            end=rollup.bucket,
            resolution=np.full(len(rollup.bucket), int(rollup.width)),
            states=rollup.states,
            surprise=rollup.surprise_mean.astype(np.float32),
            peak=rollup.surprise_max,
            blame=rollup.blame_mean.astype(np.float32),
            value=rollup.value_mean.astype(np.float32),
            low=rollup.value_min,
            high=rollup.value_max,
            valid=rollup.value_count,
            expected=nothing,
            spread=nothing,
        )

    @staticmethod
    def join(parts: Sequence["Rows"]) -> "Rows":
        """Parts of one kind with the same channels, one after the other; at least one."""
        columns: dict[str, Any] = {
            column.name: np.concatenate([getattr(part, column.name) for part in parts])
            for column in _COLUMNS
        }
        return replace(parts[0], **columns)

    def __len__(self) -> int:
        """Count of rows."""
        return len(self.end)

    @property
    def coarse(self) -> NDArray[np.bool_]:
        """Rows that are no single frame [N]."""
        return self.resolution > 0

    @property
    def counts(self) -> NDArray[np.bool_]:
        """Rows with a score that counts [N]."""
        counts: NDArray[np.bool_] = self.states[:, ScoreState.OK] > 0
        return counts

    def mostly(self, state: ScoreState) -> NDArray[np.bool_]:
        """Rows most of whose frames were in a state [N]."""
        found: NDArray[np.bool_] = 2 * self.states[:, state] > self.states.sum(axis=1)
        return found

    def mostly_missing(self) -> NDArray[np.bool_]:
        """Rows and channels where most values were not valid [N, C]."""
        found: NDArray[np.bool_] = 2 * self.valid < self.states.sum(axis=1)[:, None]
        return found


_COLUMNS = fields(Rows)[2:]


def read(
    database: DatabaseReader,
    asset: int,
    *,
    tick: int,
    since: int | None = None,
    until: int | None = None,
) -> Rows | None:
    """What is kept of an asset in (since, until], ns, with the channels that it had last.

    ``tick`` is how much time a frame covers, ns. None: nothing is kept. Raises CorruptError.
    """
    # Whole hours are read, for what an hour holds may be there as minutes or frames as well.
    since = EARLIEST if since is None else since
    until = LATEST if until is None else until
    first = max(EARLIEST, since // Width.HOUR * Width.HOUR)
    last = min(LATEST, -(-until // Width.HOUR) * Width.HOUR)
    frames = [
        Rows.of_frames(block, tick)
        for block in Store(database).scores(asset=asset, since=first, until=last)
    ]
    rollups = {
        width: [
            Rows.of_rollup(found, tick)
            for found in Rollups(database).read(width, asset, since=first, until=last)
        ]
        for width in Width
    }
    # A minute may be only partly rolled up: it reaches to where the frames begin. An hour is the
    # fold of its minutes, and is drawn where these are gone.
    first_frame, first_minute = _begin(frames), _begin(rollups[Width.MINUTE])
    minutes = [_before(part, first_frame) for part in rollups[Width.MINUTE]]
    hours = [
        _before(_rows(part, part.end <= first_minute), first_frame) for part in rollups[Width.HOUR]
    ]
    every = [
        _rows(part, (part.end > since) & (part.end <= until))
        for part in (*hours, *minutes, *frames)
    ]
    parts = [part for part in every if len(part)]
    if not parts:
        return None
    now = (parts[-1].kind, parts[-1].channels)
    return Rows.join([part for part in parts if (part.kind, part.channels) == now])


def _begin(parts: Sequence[Rows]) -> int:
    return int(parts[0].start[0]) if parts else LATEST


def _before(part: Rows, moment: int) -> Rows:
    """The rows that begin before a moment, the last of them ending there."""
    kept = _rows(part, part.start < moment)
    return replace(kept, end=np.minimum(kept.end, moment))


def _rows(part: Rows, wanted: NDArray[np.bool_]) -> Rows:
    columns: dict[str, Any] = {
        column.name: getattr(part, column.name)[wanted] for column in _COLUMNS
    }
    return replace(part, **columns)

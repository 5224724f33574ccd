"""Samples that wait for their frame to close, by columns, and what happens when they are too many.

Beside the frames. A source that lags behind the others of its asset, or a long lateness, keeps
samples waiting; how many is bounded in bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from connectors.batch import F64, I64, U32
from monitor.core.aggregate import NEVER, Bool, Index

# n samples, A assets

SAMPLE_BYTES = 36  # of one that waits: slot, source, time and value of 8 bytes each, status of 4
# 128 MiB a kind: five minutes of 12,000 samples a second. While it is sorted it is there twice.
MOST_WAITING = (128 << 20) // SAMPLE_BYTES


@dataclass(slots=True)
class Waiting:
    """Samples by columns, in the order they were journaled."""

    slot: Index  # [n] asset row * G + tag
    source: Index  # [n]
    time: I64  # [n]
    value: F64  # [n]
    status: U32  # [n]

    def __len__(self) -> int:
        """Count of samples."""
        return len(self.slot)

    def take(self, index: Index | Bool) -> "Waiting":
        """Some of them."""
        return Waiting(
            self.slot[index],
            self.source[index],
            self.time[index],
            self.value[index],
            self.status[index],
        )

    @staticmethod
    def join(parts: Sequence["Waiting"]) -> "Waiting":
        """One after the other."""
        return Waiting(
            np.concatenate([part.slot for part in parts]),
            np.concatenate([part.source for part in parts]),
            np.concatenate([part.time for part in parts]),
            np.concatenate([part.value for part in parts]),
            np.concatenate([part.status for part in parts]),
        )

    @staticmethod
    def none() -> "Waiting":
        """No samples."""
        return Waiting(
            np.empty(0, np.intp),
            np.empty(0, np.intp),
            np.empty(0, np.int64),
            np.empty(0, np.float64),
            np.empty(0, np.uint32),
        )


def to_close(row: Index, tick: I64, assets: int, *, most: int) -> I64:
    """Up to which tick each asset must close, so that no more than ``most`` samples wait: [A].

    ``row`` and ``tick`` [n] are those of all that wait. NEVER for an asset that holds no more than
    its equal share: it waits as long as it would. One that holds more keeps the newer half of its
    share.
    """
    tick_A = np.full(assets, NEVER, np.int64)
    if len(row) <= most:
        return tick_A
    share = most // assets
    for asset in np.flatnonzero(np.bincount(row, minlength=assets) > share).tolist():
        mine = np.sort(tick[row == asset])
        tick_A[asset] = mine[len(mine) - 1 - share // 2]
    return tick_A

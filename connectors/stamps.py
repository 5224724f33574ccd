"""Whether a sample's stamp can be true, judged by when it came.

Between a source and its batches, purely: a peer's clock may stand years off (a PLC that lost its
power begins in 1970 or 2000 again), while an old stamp may be right, for brokers and servers keep
samples for days. What a source does with a stamp that cannot be true is its own affair.
"""

from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from connectors.batch import I64

# N samples

SECOND = 1_000_000_000
OLDEST_NS = round(datetime(2001, 1, 1, tzinfo=UTC).timestamp()) * SECOND
"""Clocks that lost their time begin in 1970, 1980 or 2000, and reach 2001 only after a year."""


def believable(
    time_ns: I64, arrived_ns: int | I64, *, ahead_s: float, oldest_ns: int = OLDEST_NS
) -> NDArray[np.bool_]:
    """Which stamps can be true: bool [N].

    Where our own clock is the one that lost its time, nothing can be ahead of it.

    Args:
        time_ns: the stamps, [N], ns since 1970 UTC.
        arrived_ns: when the samples came, by our own clock: of all, or [N], ns since 1970 UTC.
        ahead_s: how far their clock may be ahead of ours, s.
        oldest_ns: what is stamped before this was stamped by a clock that lost its time.
    """
    arrived = np.asarray(arrived_ns, np.int64)
    ahead = (time_ns > arrived + round(ahead_s * SECOND)) & (arrived >= oldest_ns)
    found: NDArray[np.bool_] = (time_ns >= oldest_ns) & ~ahead
    return found

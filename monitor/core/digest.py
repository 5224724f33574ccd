"""One number for a set of scores: equal if and only if every score is equal, bit for bit.

How live, backfill and replay are compared. It does not depend on how the scores were cut into
blocks, on their order, or on the numbers assets happen to carry: rows are sorted by the asset's
name and the tick.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from monitor.core.records import Scores

# N rows, C channels


def digest(scores: Iterable[Scores], names: Mapping[int, str]) -> str:
    """SHA-256 over all rows (asset's name, tick, raw, surprise, blame, state), in hexadecimal.

    Floats count by their bits. ``names`` gives each asset number its name; raises KeyError for one
    it lacks. All rows are held in memory: 17 + 4 C bytes each.
    """
    parts: dict[tuple[str, int], list[NDArray[np.void]]] = defaultdict(list)
    for block in scores:
        channels = block.blame.shape[1]
        rows = _rows(block, channels)
        for asset in np.unique(block.asset).tolist():
            parts[names[asset], channels].append(rows[block.asset == asset])
    summed = hashlib.sha256()
    for (name, channels), pieces in sorted(parts.items(), key=lambda part: part[0]):
        rows = np.concatenate(pieces)
        spelled = name.encode()
        for number in (len(spelled), channels, len(rows)):
            summed.update(number.to_bytes(8, "little"))
        summed.update(spelled)
        summed.update(np.sort(rows, order=rows.dtype.names).tobytes())
    return summed.hexdigest()


def _rows(block: Scores, channels: int) -> NDArray[np.void]:
    """The digested columns as one array of N records; floats as the integers of their bits."""
    rows = np.empty(
        len(block),
        np.dtype(
            [("tick", "<i8"), ("raw", "<u4"), ("surprise", "<u4"), ("state", "u1")]
            + [(f"blame{channel}", "<u4") for channel in range(channels)]
        ),
    )
    rows["tick"] = block.tick
    rows["raw"] = np.ascontiguousarray(block.raw).view(np.uint32)
    rows["surprise"] = np.ascontiguousarray(block.surprise).view(np.uint32)
    rows["state"] = block.state
    for channel in range(channels):
        rows[f"blame{channel}"] = np.ascontiguousarray(block.blame[:, channel]).view(np.uint32)
    return rows

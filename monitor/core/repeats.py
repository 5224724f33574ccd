"""Which samples came to stay, so that a repeat of one is told from a late sample.

Beside the frames, for samples whose frame is closed; in open frames repeats are found when the
frame closes. What is remembered is bounded in source time and in bytes.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectors.batch import I64
from monitor.core.aggregate import Bool, Index

# n samples

LEAST_KEPT = 4096  # samples remembered before it is worth looking for old ones
KNOWN_BYTES = 16  # of one that is remembered: slot and time
MOST_KNOWN = (64 << 20) // KNOWN_BYTES  # 64 MiB a kind: a minute of 70,000 samples a second


class Repeats:
    """Slots and times of the last samples that came to stay.

    ``floor`` gives, for slots [n], the time in ns before which nothing of them is remembered.
    """

    def __init__(self, floor: Callable[[Index], I64], *, most: int = MOST_KNOWN) -> None:
        self.forgotten = 0  # before their time, for there were too many
        self._floor, self._most = floor, most
        self._known: list[tuple[Index, I64]] = []
        self._count = 0  # of them
        self._kept = LEAST_KEPT  # of them, when those too old were last dropped

    def __len__(self) -> int:
        """Count of samples remembered."""
        return self._count

    def note(self, slot: Index, time: I64) -> None:
        """These samples came to stay: a repeat of one is known."""
        if len(slot):
            self._known.append((slot, time))
            self._count += len(slot)
            self._forget()

    def among(self, slot: Index, time: I64) -> Bool:
        """Which of these [n] repeat one that is remembered, or one before it among them."""
        repeat = np.ones(len(slot), np.bool_)
        if not len(slot):
            return repeat
        asked = _pairs(slot, time)
        repeat[np.unique(asked, return_index=True)[1]] = False
        if self._known:
            slots, times = (np.concatenate(column) for column in zip(*self._known, strict=True))
            near = (times >= time.min()) & (times <= time.max())  # few: pairs are slow to sort
            repeat |= np.isin(asked, _pairs(slots[near], times[near])) & (time > self._floor(slot))
        return repeat

    def _forget(self) -> None:
        """Drop what is too old, now and then; and what is too much, the oldest first."""
        if self._count > 2 * self._kept or self._count > self._most:
            kept = []
            for slot, time in self._known:
                recent = time > self._floor(slot)
                if bool(recent.any()):
                    kept.append((slot[recent], time[recent]))
            self._set(kept)
            self._kept = max(self._count, LEAST_KEPT)
        if self._count > self._most:  # an eighth at once: each time all are looked at
            over = self._count - (self._most - self._most // 8)
            self.forgotten += over
            slot, time = (np.concatenate(column) for column in zip(*self._known, strict=True))
            self._set([(slot[over:], time[over:])])

    def _set(self, known: list[tuple[Index, I64]]) -> None:
        self._known, self._count = known, sum(len(slot) for slot, _ in known)

    def snapshot(self) -> dict[str, Any]:
        """Everything that is remembered, as arrays."""
        known = self._known or [(np.empty(0, np.intp), np.empty(0, np.int64))]
        return {
            "slot": np.concatenate([slot for slot, _ in known]),
            "time": np.concatenate([time for _, time in known]),
            "forgotten": self.forgotten,
        }

    def restore(self, tree: Mapping[str, Any], slot_of: Index) -> None:
        """Take back what ``snapshot`` gave: slot s of it is ``slot_of[s]`` here, -1 for none."""
        slot = slot_of[tree["slot"]]
        self._set([])
        self.note(slot[slot >= 0], tree["time"][slot >= 0])
        self.forgotten = tree.get("forgotten", 0)


def _pairs(slot: Index, time: I64) -> NDArray[np.void]:
    """Tag and time as one comparable value."""
    pairs = np.empty(len(slot), [("slot", np.int64), ("time", np.int64)])
    pairs["slot"], pairs["time"] = slot, time
    return pairs

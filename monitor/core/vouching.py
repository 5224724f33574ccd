"""What sources vouched for: spans of time in which all that they did not send stayed as it was.

Beside the frames, which ask here twice: which ticks are known to have been although nothing was
sampled in them, and until when the value that a channel holds was known.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from connectors.batch import I64
from monitor.core.aggregate import FOREVER, NEVER, Bool, Index, ranges

# S sources, A assets, n ticks, R frames


class Vouched:
    """The spans (since, until] in ns that each source vouched for.

    ``uses_SA`` says which assets read from which sources, ``tick`` is the length of theirs in ns.
    """

    def __init__(self, uses_SA: Bool, tick: int) -> None:
        self._uses_SA, self._tick = uses_SA, tick
        self._spans: list[tuple[int, int, int]] = []  # (source, since, until], sorted

    def __len__(self) -> int:
        """Count of spans."""
        return len(self._spans)

    def add(self, source: int, since: int, until: int) -> None:
        """One span more; those of one source that touch become one."""
        merged: list[tuple[int, int, int]] = []
        for span in sorted([*self._spans, (source, since, until)]):
            last = merged[-1] if merged else None
            if last is not None and span[0] == last[0] and span[1] <= last[2]:
                merged[-1] = (last[0], last[1], max(last[2], span[2]))
            else:
                merged.append(span)
        self._spans = merged

    def ticks(self, first_A: I64, limit_A: I64) -> tuple[Index, I64, I64]:
        """The numbers of the ticks within a span, from each asset's first up to its limit.

        Gives the row of the asset [n] and the tick [n], in no order and some of them twice, and for
        each asset the first that lies beyond its limit [A], FOREVER for none. An asset whose first
        is FOREVER has not begun, and has none.
        """
        next_A = np.full(len(first_A), FOREVER, np.int64)
        rows, ticks = [np.empty(0, np.intp)], [np.empty(0, np.int64)]
        for s, since, until in self._spans:
            row = np.flatnonzero(self._uses_SA[s] & (first_A != FOREVER))
            first, last = np.maximum(since // self._tick + 1, first_A[row]), until // self._tick
            beyond = np.maximum(first, limit_A[row] + 1)
            next_A[row] = np.minimum(next_A[row], np.where(beyond <= last, beyond, FOREVER))
            length = np.maximum(np.minimum(last, limit_A[row]) - first + 1, 0)
            rows.append(np.repeat(row, length))
            ticks.append(ranges(first, length))
        return np.concatenate(rows), np.concatenate(ticks), next_A

    def until(self, instant: I64) -> I64:
        """Until when each source vouched for what it holds at each instant, at most it: [S, R].

        NEVER where it did not.
        """
        until_SR = np.full((len(self._uses_SA), len(instant)), NEVER, np.int64)
        for s, since, until in self._spans:
            reached = np.where(since < instant, np.minimum(until, instant), NEVER)
            until_SR[s] = np.maximum(until_SR[s], reached)
        return until_SR

    def forget(self, past_A: I64) -> None:
        """Drop what ended before each asset that reads it was ``past`` it [A], in ns.

        The latest span of a source stays: it may go on.
        """
        past_S = np.where(self._uses_SA, past_A, FOREVER).min(axis=1, initial=FOREVER)
        self._spans = [
            (s, since, until)
            for (s, since, until), (after, _, past) in pairwise([*self._spans, (-1, 0, 0)])
            if s != after or past > past_S[s]
        ]

    def snapshot(self) -> list[list[int]]:
        """The spans, as JSON values."""
        return [list(span) for span in self._spans]

    def restore(self, spans: Sequence[Sequence[int]], source_of: Index) -> None:
        """Take back what ``snapshot`` gave: source s of it is ``source_of[s]`` here, S for none."""
        known = [(int(source_of[s]), since, until) for s, since, until in spans]
        self._spans = sorted(span for span in known if span[0] < len(self._uses_SA))

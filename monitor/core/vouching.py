"""Until when a value is known: what sources vouched for, and where that ends.

A source vouches for a span of time: all that it did not send then stayed as it was. That ends at a
gap: what a channel holds from before it may have changed meanwhile, and later vouching is for what
the source has, not for what we hold. It is known again with the next sample, with what the source
says after the gap (be it the held sample once more), or when history fills the gap.

Beside the frames, which ask here twice: which ticks are known to have been although nothing was
sampled in them, and until when the value that a channel holds was known.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from connectors.batch import I64
from monitor.core.aggregate import FOREVER, NEVER, Bool, Index, ranges
from monitor.core.missing import GapKind, SourceGap, parts

# A assets, G tags (or features of a tag's blocks), C channels of one kind, n ticks, R frames

# Of a source, that are open: beyond that the two oldest are taken for one, with all between them
MOST_GAPS = 256
MOST_SCOPES = 1000  # remembered, so that they are not worked out again and again


class Span(NamedTuple):
    """(since, until] in ns, of a source, or of some of its tags."""

    source: str
    tags: tuple[int, ...]  # none: all of the source
    since: int
    until: int


@dataclass(frozen=True, slots=True)
class Feeds:
    """What feeds the assets of a kind: of each tag its number and its source."""

    source_AG: NDArray[np.object_]  # [A, G] names
    number_AG: Index  # [A, G]
    tag_of_C: Index  # [C]


class Vouched:
    """The spans that sources vouched for, and the gaps in which they could not.

    ``tick`` is the length of a tick in ns.
    """

    def __init__(self, feeds: Feeds, tick: int) -> None:
        self._feeds, self._tick = feeds, tick
        self._scopes: dict[tuple[str, tuple[int, ...], tuple[int, ...]], Bool] = {}  # worked out
        self._spans: list[Span] = []  # sorted
        self._gaps: list[SourceGap] = []  # in the order they were said
        shape = feeds.number_AG.shape
        self._floor_AG = np.full(shape, NEVER, np.int64)  # vouched for until, by spans let go of
        self._told_AG = np.full(shape, NEVER, np.int64)  # end of the latest gap
        self._again_AG = np.full(shape, NEVER, np.int64)  # stamp that was said again after gaps
        self._stood_AG = np.full(shape, NEVER, np.int64)  # end of the last of those gaps
        self._newer_AG = np.full(shape, FOREVER, np.int64)  # first late stamp after the held one

    def __bool__(self) -> bool:
        """Whether anything was ever vouched for."""
        return bool(self._spans) or bool((self._floor_AG != NEVER).any())

    # ---- in -------------------------------------------------------------------------------------

    def add(self, span: Span) -> None:
        """One span more; those of the same tags that touch become one."""
        merged: list[Span] = []
        for one in sorted([*self._spans, span]):
            last = merged[-1] if merged else None
            if last is not None and one[:2] == last[:2] and one.since <= last.until:
                merged[-1] = last._replace(until=max(last.until, one.until))
            else:
                merged.append(one)
        self._spans = merged

    def gap(self, gap: SourceGap) -> None:
        """Vouching ends here; or not, for what was filled."""
        if gap.kind is GapKind.FILLED:
            cut = [part for one in self._gaps for part in parts(one, [gap])]
            self._gaps = [part for part in cut if not part.filled]
        elif gap.since < gap.until:
            self._gaps.append(gap)
            told = np.where(self._scope(gap.source, gap.tags), gap.until, NEVER)
            np.maximum(self._told_AG, told, out=self._told_AG)
        mine = [one for one in self._gaps if one.source == gap.source]
        if len(mine) > MOST_GAPS:
            others = [one for one in self._gaps if one.source != gap.source]
            self._gaps = [*others, _joined(*mine[:2]), *mine[2:]]

    def heard(self, slot: Index, time: I64) -> Bool:
        """The source has said these samples now [n]: it stands by the latest of each tag.

        Gives which of them answer a gap: that lay behind them when they were said.
        """
        answers: Bool = time <= self._told_AG.ravel()[slot]
        if bool(answers.any()):
            slot, time = slot[answers], time[answers]
            again, stood = self._again_AG.ravel(), self._stood_AG.ravel()
            np.maximum.at(again, slot, time)
            latest = slot[time == again[slot]]
            stood[latest] = self._told_AG.ravel()[latest]
        return answers

    def late(self, slot: Index, time: I64, held_AG: I64) -> None:
        """These samples [n] came too late; ``held_AG``: the stamps of what is held."""
        newer = time > held_AG.ravel()[slot]
        np.minimum.at(self._newer_AG.ravel(), slot[newer], time[newer])

    # ---- out ------------------------------------------------------------------------------------

    def ticks(self, first_A: I64, limit_A: I64) -> tuple[Index, I64, I64]:
        """The numbers of the ticks within a span, from each asset's first up to its limit.

        Gives the row of the asset [n] and the tick [n], in no order and some of them twice, and for
        each asset the first that lies beyond its limit [A], FOREVER for none. An asset whose first
        is FOREVER has not begun, and has none.
        """
        next_A = np.full(len(first_A), FOREVER, np.int64)
        rows, ticks = [np.empty(0, np.intp)], [np.empty(0, np.int64)]
        for span in self._spans:
            uses_A = self._scope(span.source, span.tags).any(axis=1)
            row = np.flatnonzero(uses_A & (first_A != FOREVER))
            first = np.maximum(span.since // self._tick + 1, first_A[row])
            last = span.until // self._tick
            beyond = np.maximum(first, limit_A[row] + 1)
            next_A[row] = np.minimum(next_A[row], np.where(beyond <= last, beyond, FOREVER))
            length = np.maximum(np.minimum(last, limit_A[row]) - first + 1, 0)
            rows.append(np.repeat(row, length))
            ticks.append(ranges(first, length))
        return np.concatenate(rows), np.concatenate(ticks), next_A

    def until(self, row: Index, instant: I64, held_RC: I64) -> I64:
        """Until when each held value is vouched for at each instant, at most it: ns [R, C].

        ``held_RC`` are the stamps of what is held. NEVER where nobody vouched.
        """
        tag_of_C = self._feeds.tag_of_C
        until_RC = self._floor_AG[row][:, tag_of_C]
        scopes: dict[tuple[str, tuple[int, ...]], I64] = {}
        for span in self._spans:
            reached = np.where(span.since < instant, np.minimum(span.until, instant), NEVER)
            before = scopes.get(span[:2])
            scopes[span[:2]] = reached if before is None else np.maximum(before, reached)
        for (source, tags), reached in scopes.items():
            mine = self._scope(source, tags)[row][:, tag_of_C]
            until_RC = np.where(mine, np.maximum(until_RC, reached[:, None]), until_RC)
        newer_RC = self._newer_AG[row][:, tag_of_C]
        until_RC = np.minimum(until_RC, np.where(held_RC < newer_RC, newer_RC, FOREVER))
        if self._gaps:
            again = held_RC == self._again_AG[row][:, tag_of_C]
            stands = np.where(again, self._stood_AG[row][:, tag_of_C], held_RC)
            for gap in self._gaps:
                doubt = self._in(gap)[row][:, tag_of_C] & (stands < gap.until)
                doubt &= (gap.since < instant)[:, None]
                until_RC = np.where(doubt, np.minimum(until_RC, gap.since), until_RC)
        return until_RC

    def forget(self, past_A: I64, held_AG: I64, ok_AG: Bool) -> None:
        """Let go of what no frame will ask for: each asset is ``past`` that time [A], in ns.

        Of a span, its end is kept. A gap stays as long as a value from before it is held
        (``held_AG`` are the stamps, ``ok_AG`` whether it is usable).
        """
        np.copyto(self._newer_AG, FOREVER, where=self._newer_AG <= held_AG)
        spans = []
        for span in self._spans:
            scope = self._scope(span.source, span.tags)
            if bool((past_A[scope.any(axis=1)] < span.until).any()):
                spans.append(span)
            else:
                ended = np.where(scope, span.until, NEVER)
                np.maximum(self._floor_AG, ended, out=self._floor_AG)
        self._spans = spans
        if self._gaps:
            stands = np.where(held_AG == self._again_AG, self._stood_AG, held_AG)
            self._gaps = [
                gap
                for gap in self._gaps
                if bool(
                    (
                        self._in(gap)
                        & ((past_A[:, None] < gap.until) | (ok_AG & (stands < gap.until)))
                    ).any()
                )
            ]

    # ---- how ------------------------------------------------------------------------------------

    def _scope(self, source: str, tags: tuple[int, ...] = (), but: tuple[int, ...] = ()) -> Bool:
        """Which tags are meant [A, G]: of the source, those named (none: all), less ``but``."""
        key = source, tags, but
        if key not in self._scopes:
            if len(self._scopes) > MOST_SCOPES:
                self._scopes.clear()
            mine = self._feeds.source_AG == source
            if tags:
                mine = mine & np.isin(self._feeds.number_AG, tags)
            self._scopes[key] = mine & ~np.isin(self._feeds.number_AG, but)
        return self._scopes[key]

    def _in(self, gap: SourceGap) -> Bool:
        return self._scope(gap.source, gap.tags, gap.but)

    # ---- snapshot -------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """Everything, as arrays and JSON values."""
        return {
            "spans": [list(span) for span in self._spans],
            "gaps": [asdict(gap) for gap in self._gaps],
            **{name: getattr(self, f"_{name}").copy() for name in _ARRAYS},
        }

    def restore(
        self, tree: Any, sources: Sequence[str], old_AG: Sequence[Index], new_AG: Sequence[Index]
    ) -> None:
        """Take back what ``snapshot`` gave: the tags ``old_AG`` of it are ``new_AG`` here."""
        if not isinstance(tree, Mapping):  # an earlier version kept the spans alone, by number
            self._spans = sorted(Span(sources[s], (), since, until) for s, since, until in tree)
            return
        self._spans = [
            Span(name, tuple(t), since, until) for name, t, since, until in tree["spans"]
        ]
        self._gaps = [
            SourceGap(
                **(
                    gap
                    | {"kind": GapKind(gap["kind"])}
                    | {"tags": tuple(gap["tags"]), "but": tuple(gap["but"])}
                )
            )
            for gap in tree["gaps"]
        ]
        for name in _ARRAYS:
            getattr(self, f"_{name}")[np.ix_(*new_AG)] = tree[name][np.ix_(*old_AG)]


_ARRAYS = ("floor_AG", "told_AG", "again_AG", "stood_AG", "newer_AG")


def _joined(one: SourceGap, other: SourceGap) -> SourceGap:
    """One gap that covers both, and all between them."""
    named = bool(one.tags and other.tags)
    return replace(
        one,
        since=min(one.since, other.since),
        until=max(one.until, other.until),
        tags=tuple(sorted({*one.tags, *other.tags})) if named else (),
        but=(),
    )

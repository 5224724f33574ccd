"""What sources said is missing, and what of it came back from history: spans of time and of tags.

A source that was not heard, or whose peer dropped samples, says so (GAP, OVERFLOW); what it could
read from history it says, too (FILLED). These statements are results of the step and are kept as
they are. What of a gap is still open is worked out from them here, whenever somebody asks.

Not to be taken for the Gap of an asset: that is a stretch without frames, whatever the reason.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from connectors.batch import Notice, NoticeKind

# What sources say of themselves is kept no longer than this, in characters
LONGEST_WORDS = 500


class GapKind(StrEnum):
    """What is said of a span."""

    GAP = "gap"  # nobody listened
    OVERFLOW = "overflow"  # the peer dropped samples
    FILLED = "filled"  # what was missing was read from history


_KINDS = {
    NoticeKind.GAP: GapKind.GAP,
    NoticeKind.OVERFLOW: GapKind.OVERFLOW,
    NoticeKind.FILLED: GapKind.FILLED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceGap:
    """Of the samples of ``tags`` in (since, until] some are missing, ns since 1970 UTC.

    No tags named: all of the source, less those in ``but``. ``filled``: this part came back.
    """

    source: str
    kind: GapKind
    since: int
    until: int
    tags: tuple[int, ...] = ()
    but: tuple[int, ...] = ()
    reason: str = ""
    received: int  # ns since 1970 UTC, wall time: when it was said
    filled: bool = False


def said(notice: Notice, *, received: int) -> SourceGap | None:
    """What a notice says is missing, or came back; None for every other kind.

    A peer that does not tell when it dropped samples says so of the moment that this was heard.
    """
    kind = _KINDS.get(notice.kind)
    if kind is None:
        return None
    until = received if notice.until is None else notice.until
    since = until if notice.since is None else min(notice.since, until)
    return SourceGap(
        source=notice.source,
        kind=kind,
        since=since,
        until=until,
        tags=tuple(sorted(set(notice.tags))),
        reason=notice.reason[:LONGEST_WORDS],
        received=received,
    )


def parts(gap: SourceGap, fills: Iterable[SourceGap]) -> list[SourceGap]:
    """A gap cut into what is open and what is ``filled``, in order of time.

    The parts do not overlap, and together they are the gap. A gap of no length is open.
    """
    open_parts, found = [gap], []
    for fill in fills:
        left: list[SourceGap] = []
        for part in open_parts:
            closed, rest = _cut(part, fill)
            found += closed
            left += rest
        open_parts = left
    return sorted([*open_parts, *found], key=lambda part: (part.since, part.until, part.filled))


def covered(spans: Iterable[SourceGap]) -> int:
    """How long something of the spans lasts, ns: what several of them share counts once."""
    total, reached = 0, None
    for span in sorted(spans, key=lambda one: one.since):
        since = span.since if reached is None else max(span.since, reached)
        total += max(span.until - since, 0)
        reached = span.until if reached is None else max(reached, span.until)
    return total


def _cut(part: SourceGap, fill: SourceGap) -> tuple[list[SourceGap], list[SourceGap]]:
    """What of an open part a fill closes, and what it leaves open."""
    since, until = max(part.since, fill.since), min(part.until, fill.until)
    if part.source != fill.source or since >= until:
        return [], [part]
    both, rest = _of_tags(part, fill.tags)
    if both is None:
        return [], [part]
    left = [replace(part, until=since)] if part.since < since else []
    left += [replace(rest, since=since, until=until)] if rest is not None else []
    left += [replace(part, since=until)] if until < part.until else []
    return [replace(both, since=since, until=until, filled=True)], left


def _of_tags(part: SourceGap, tags: Sequence[int]) -> tuple[SourceGap | None, SourceGap | None]:
    """A part for those of its tags that are among ``tags`` (none: all), and for the others."""
    if not tags:
        return part, None
    if part.tags:
        inside = tuple(tag for tag in part.tags if tag in set(tags))
        outside = tuple(tag for tag in part.tags if tag not in set(tags))
        return (
            replace(part, tags=inside) if inside else None,
            replace(part, tags=outside) if outside else None,
        )
    inside = tuple(tag for tag in tags if tag not in set(part.but))
    return (
        replace(part, tags=inside, but=()) if inside else None,
        replace(part, but=tuple(sorted({*part.but, *inside}))),
    )

"""What was missed, read from the server's history: piece after piece, all tags of a piece together.

Whatever a notice says is missing is asked for. A piece is a short span of all its tags, in order of
time, so that no tag overtakes another; what it says is filled was read whole: the history of a tag
counts from its last value before the span on, or from the first within.
Method: HistoryRead of raw values, OPC UA Part 4, 5.11.3 and Part 11, 6.5.3.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from asyncua import ua

from connectors.batch import BAD_NO_DATA, Flag, Notice, NoticeKind
from connectors.opcua.link import ENDS, Facts, Link
from connectors.opcua.progress import Span
from connectors.opcua.settings import Settings
from connectors.opcua.units import portions, shortened
from connectors.opcua.values import Wave, moment, nanoseconds

logger = logging.getLogger(__name__)

VALUES_PER_CALL = 5000  # some 200 kB, a tenth of a second to decode
VALUES_PER_PIECE = 50_000  # what a piece is made for; several times that comes if more was stored
SHORTEST_NS = 10_000_000
MOST_SPANS = 50  # waiting: more are taken together, positions stay small
MOST_TAGS = 500  # named in a position, at most 6 kB: it goes with every batch
TRIES = 3
READABLE = 0x04  # of AccessLevel: HistoryRead; Part 3, 5.6.2
BEGINNING = datetime(1971, 1, 1, tzinfo=UTC)  # before all history, and no "not said" as 1601 is
MICROSECOND = timedelta(microseconds=1)

Nodes = Mapping[int, ua.NodeId]  # by the number of the tag


@dataclass(frozen=True, slots=True)
class Piece:
    """What was read at once."""

    wave: Wave
    filled: list[Notice]
    rest: Span | None  # of the span that it was read for


class History:
    """The spans that were missed, and what the server still knows of them."""

    def __init__(self, source: str, settings: Settings, link: Link) -> None:
        self.missed: list[Span] = []
        self._source, self._settings, self._link = source, settings, link
        self._nodes: dict[int, ua.NodeId] = {}
        self._able: dict[int, bool] = {}  # whether a tag has history
        self._length = 0  # ns, of a piece
        self._begun: Span | None = None
        self._unreached: set[int] = set()  # tags whose history does not reach back far enough
        self._per_call = 0
        self._ready = 0.0  # s, the loop's clock: when history is complete

    def miss(self, said: Iterable[Notice]) -> bool:
        """Note what is said to be missing; returns whether new values are to wait for it.

        What a queue of the server lost may be lost again while they wait: that comes as late.
        """
        if not self._settings.fill_gaps:
            return False
        found = False
        for one in said:
            lacks = one.kind in (NoticeKind.GAP, NoticeKind.OVERFLOW)
            if not lacks or one.since is None or one.until is None or one.since == one.until:
                continue
            self._note(Span(since=one.since, until=one.until, tags=one.tags))
            found = found or one.kind is NoticeKind.GAP
        return found

    def go_on(self, missed: Iterable[Span]) -> None:
        """Ask for what was not read before a restart."""
        if self._settings.fill_gaps:
            for one in missed:
                self._note(one)

    def kept(self) -> tuple[Span, ...]:
        """What a position is to hold: spans of all tags, in place of those that name very many."""
        room, spans = MOST_TAGS, []
        for one in self.missed:
            room -= len(one.tags)
            spans.append(one if room >= 0 else replace(one, tags=()))
        return tuple(spans)

    def took(self, piece: Piece) -> None:
        """The piece is handed on."""
        self.missed[:1] = [piece.rest] if piece.rest is not None else []

    def _note(self, span: Span) -> None:
        self._ready = asyncio.get_running_loop().time() + self._settings.history_delay_s
        if len(self.missed) >= MOST_SPANS:
            last = self.missed.pop()
            span = Span(
                since=min(last.since, span.since),
                until=max(last.until, span.until),
                tags=tuple(sorted({*last.tags, *span.tags})) if last.tags and span.tags else (),
            )
        self.missed.append(span)

    async def piece(self, nodes: Nodes, facts: Facts, *, wanted: int) -> Piece:
        """Read the next piece of the first span. Raises what ``link`` raises when it is lost.

        ``nodes``: all that can be watched, by their tags; ``wanted`` is how many should be.
        """
        span = self.missed[0]
        if self._begun is not span:
            self._nodes = dict(nodes)
            await self._begin(span, nodes, facts)
        asked = [tag for tag in span.tags or nodes if self._able.get(tag)]
        if not asked:
            return Piece(Wave(), [], None)
        until = min(span.until, span.since + self._length)
        if until == span.until:  # what happened last may not be there yet
            await asyncio.sleep(max(self._ready - asyncio.get_running_loop().time(), 0))
        found = await self._read(asked, span.since, until)
        if found is None:  # too much at once
            self._length = max((until - span.since) // 4, SHORTEST_NS)
            return Piece(Wave(), [], span)
        rest = replace(span, since=until) if until < span.until else None
        count = sum(len(values) for values in found.values())
        if count < VALUES_PER_PIECE // 4:
            self._length *= 2
        wave = Wave()
        wave.take(
            ((tag, value) for tag, values in found.items() for value in values),
            published=facts.now,
            ahead_s=self._settings.clock_ahead_s,
            after={},
            flag=Flag.REPLAYED,
        )
        wave.keep_sorted(span.since, until)
        filled = self._filled(span, found, until, everything=len(found) == wanted)
        self._begun = rest
        return Piece(wave, filled, rest)

    async def _begin(self, span: Span, nodes: Nodes, facts: Facts) -> None:
        """Find out which tags have history, how far back, and how long a piece may be."""
        self._begun = span
        self._per_call = self._per_call or facts.histories_per_call
        new = [tag for tag in span.tags or nodes if tag in nodes and tag not in self._able]
        for some in portions(new, facts.reads_per_call):
            levels = await self._link.read([nodes[t] for t in some], ua.AttributeIds.AccessLevel)
            for tag, level in zip(some, levels, strict=True):
                self._able[tag] = isinstance(level, int) and bool(level & READABLE)
        lacking = [tag for tag in new if not self._able[tag]]
        if lacking:
            logger.info(
                "Source %s: the server has no history of %d of %d nodes; of them a gap stays.",
                *(self._source, len(lacking), len(nodes)),
            )
        asked = [tag for tag in span.tags or nodes if self._able.get(tag)]
        sampling_ns = self._settings.sampling_ms * 1_000_000
        self._length = max(round(VALUES_PER_PIECE * sampling_ns / max(len(asked), 1)), SHORTEST_NS)
        self._unreached = set(asked)
        before = await self._ask(dict.fromkeys(asked), moment(span.since), BEGINNING, most=1)
        for tag, (result, _) in before.items():
            if result is not None and any(at <= span.since for at in _times(_values(result))):
                self._unreached.discard(tag)

    def _filled(
        self, span: Span, found: Mapping[int, Sequence[Any]], until: int, *, everything: bool
    ) -> list[Notice]:
        """What was read whole; of tags whose history begins within, from there on."""
        reached = sorted(found.keys() - self._unreached)
        begin = {tag: min(_times(found[tag]), default=None) for tag in self._unreached & {*found}}
        later = {tag: at for tag, at in begin.items() if at is not None}
        self._unreached -= {*later}
        said = []
        if reached:
            all_of_it = everything and len(reached) == len(found)
            said.append((span.since, () if all_of_it else tuple(reached)))
        if later:
            said.append((min(max(later.values()), until), tuple(sorted(later))))
        return [
            Notice(
                source=self._source,
                kind=NoticeKind.FILLED,
                since=since,
                until=until,
                tags=tags,
                reason="read from the server's history",
            )
            for since, tags in said
        ]

    async def _read(
        self, tags: Sequence[int], since: int, until: int
    ) -> dict[int, list[Any]] | None:
        """All values of (since, until], by tag; tags that failed are left out. None: too many."""
        found: dict[int, list[Any]] = {tag: [] for tag in tags}
        failed: dict[str, list[int]] = {}
        last = dict.fromkeys(tags, since)
        end = moment(until) + 2 * MICROSECOND  # some leave out what lies at the end of a span
        left: list[tuple[int, dict[int, bytes | None]]] = [(since, dict.fromkeys(tags))]
        while left:
            start, points = left.pop()
            more: dict[int, bytes | None] = {}
            answers = await self._ask(points, moment(start), end, most=VALUES_PER_CALL)
            for tag, (result, most) in answers.items():
                if result is None or not _is_answer(result):
                    why = "no answer" if result is None else result.StatusCode.name
                    failed.setdefault(why, []).append(tag)
                    found.pop(tag, None)
                    continue
                values = _values(result)
                new = [one for one in values if _time_of(one) > last[tag]]
                last[tag] = max(map(_time_of, new), default=last[tag])
                found[tag] += new
                if result.ContinuationPoint and result.ContinuationPoint != points[tag]:
                    more[tag] = result.ContinuationPoint
                elif len(values) >= most and new:  # some cut an answer and do not say so
                    left.append((last[tag], {tag: None}))
            if more:
                left.append((start, more))
            if sum(map(len, found.values())) > 4 * VALUES_PER_PIECE and until - since > SHORTEST_NS:
                return None
        self._give_up(failed)
        return found

    async def _ask(
        self, points: Mapping[int, bytes | None], since: datetime, until: datetime, *, most: int
    ) -> dict[int, tuple[Any, int]]:
        """HistoryRead of tags, each from its continuation point on, of as many as a call takes.

        Gives each tag's result, None where there is none, and the most values that it was asked
        for: its share in ``most`` of a call.
        """
        answers: dict[int, tuple[Any, int]] = {}
        left = list(points)
        while left:
            some = left[: self._per_call]
            share = max(most // len(some), 1)
            given = [(self._nodes[tag], points[tag]) for tag in some]
            results = await self._call(given, since, until, most=share)
            if results is None and len(some) > 1:  # it may be able to do with less
                self._per_call = len(some) // 2
                continue
            for tag, result in zip(some, results or [None], strict=True):
                answers[tag] = result, share
            left = left[len(some) :]
        return answers

    async def _call(
        self,
        nodes: Sequence[tuple[ua.NodeId, bytes | None]],
        since: datetime,
        until: datetime,
        *,
        most: int,
    ) -> list[Any] | None:
        """One HistoryRead, tried again where it takes too long; None: the server cannot do it."""
        for _ in range(TRIES):
            try:
                return await self._link.history(nodes, since=since, until=until, most=most)
            except TimeoutError:
                continue
            except ENDS:
                raise
            except ua.UaError as error:
                logger.debug("Source %s: HistoryRead: %s", self._source, error)
                return None
        return None

    def _give_up(self, failed: Mapping[str, Sequence[int]]) -> None:
        """These tags, by what is said of them, have no history after all."""
        for why, tags in failed.items():
            self._able |= dict.fromkeys(tags, False)
            logger.warning(
                "Source %s: the server does not give the history of %s: %s. Of these a gap stays.",
                *(self._source, shortened([self._nodes[t].to_string() for t in tags]), why),
            )


def _is_answer(result: Any) -> bool:
    """Whether it tells what happened; BadNoData says that nothing did."""
    return bool(result.StatusCode.is_good()) or result.StatusCode.value == BAD_NO_DATA


def _values(result: Any) -> list[Any]:
    """The data values of one node's result."""
    return list(getattr(result.HistoryData, "DataValues", None) or ())


def _times(values: Iterable[Any]) -> list[int]:
    return [at for at in map(_time_of, values) if at]


def _time_of(value: Any) -> int:
    """Of a data value, in ns; 0: it has none."""
    return nanoseconds(value.SourceTimestamp) or nanoseconds(value.ServerTimestamp) or 0

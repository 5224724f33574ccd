"""What is handed on first: what was missed, then history, then what is new.

Beside the listening: new batches wait here while history is read, as long as the server's queues
hold what follows them; then history comes beside them, as late. A position is made when its batch
is handed on: it says what is stored then, and what is still to be read.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from connectors.batch import NoticeKind, Samples
from connectors.contract import Batch
from connectors.opcua.history import History, Piece
from connectors.opcua.link import Link, readable
from connectors.opcua.progress import Message, Position, Span, Unacknowledged
from connectors.opcua.settings import Settings
from connectors.opcua.subscription import Subscription, nodes_of
from connectors.opcua.units import Meanings
from connectors.opcua.waves import Made


@dataclass(frozen=True, slots=True)
class _Held:
    """Batches that wait, the position after them, and the messages that they are made of."""

    batches: list[Batch]
    position: Position
    acknowledged: list[Message]


class Order:
    """What was handed on, what waits, and what is still to be read from history."""

    def __init__(
        self,
        source: str,
        settings: Settings,
        link: Link,
        meanings: Meanings,
        totals: Counter[str],
    ) -> None:
        """``totals`` are counted on."""
        self.history = History(source, settings, link)
        self.unacknowledged = Unacknowledged()
        self._source, self._settings, self._link = source, settings, link
        self._meanings, self._totals = meanings, totals
        self._piece: asyncio.Task[Piece] | None = None
        self._held: list[_Held] = []
        self._quiet: list[Message] = []  # stored with the next position: they said nothing of ours
        self._position = Position(until=0, started=0, kept=())  # of what was handed on
        self._wait_until: float | None = None  # s, the loop's clock

    def begin(self, position: Position, missed: Iterable[Span]) -> None:
        """Nothing was handed on yet but what the position says, and this is still to be read."""
        self._position = position
        self.history.go_on(missed)

    @property
    def patience_s(self) -> float:
        """How long new batches still wait for history, at most."""
        if not self.history.missed or self._wait_until is None:
            return 0.0
        return max(self._wait_until - asyncio.get_running_loop().time(), 0.0)

    @property
    def waits(self) -> bool:
        """Whether new batches wait for history."""
        return self.patience_s > 0

    @property
    def holds(self) -> bool:
        """Whether there are batches that waited."""
        return bool(self._held)

    def take(self, made: Made, position: Position, *, wait_s: float) -> list[Batch]:
        """Hand on what may be of a wave, after which the position is this.

        ``wait_s``: how long the server's queues hold what follows.
        """
        before = bool(self.history.missed)
        gap = self.history.miss(made.said)
        if (before and self._wait_until is None) or (gap and not before):
            wait_s = min(self._settings.fill_wait_s, wait_s)
            self._wait_until = asyncio.get_running_loop().time() + wait_s
        first: list[Batch] = [*made.said]
        if self.waits:
            self._held.append(_Held(made.live, position, made.acknowledged))
            if first:
                first[-1] = replace(first[-1], position=self._text())
            return first
        self._held.append(_Held(first + made.live, position, made.acknowledged))
        return self.let_go()

    def let_go(self) -> list[Batch]:
        """Hand on what waited."""
        batches: list[Batch] = []
        for held in self._held:
            self._position = held.position
            self._quiet += held.acknowledged
            if held.batches:
                position = self._text()
                *others, last = held.batches
                batches += [replace(one, position=position) if isinstance(one, Samples) else one
                            for one in others]  # fmt: skip
                batches.append(replace(last, position=position))
                self.unacknowledged.hand_on(position, self._quiet)
                self._quiet = []
        self._held = []
        return batches

    def _text(self) -> str:
        missed, units = self.history.kept(), self._meanings.kept()
        return replace(self._position, missed=missed, units=units).text()

    # ---- history --------------------------------------------------------------------------------

    def reading(self, subscriptions: Sequence[Subscription]) -> list[asyncio.Task[Piece]]:
        """The piece that is being read, if there is something to read."""
        if self._piece is None and self.history.missed:
            self._piece = self._link.task(self._next(subscriptions))
        return [] if self._piece is None else [self._piece]

    async def _next(self, subscriptions: Sequence[Subscription]) -> Piece:
        with readable():
            facts = await self._link.facts()
            nodes = {tag: node for one in subscriptions
                     for tag, node in nodes_of(one.tags, facts).items()}  # fmt: skip
            wanted = sum(len(one.tags) for one in subscriptions)
            return await self.history.piece(nodes, facts, wanted=wanted)

    def read(self) -> list[Batch]:
        """What was read by now, as batches. Raises what ``link`` raises."""
        if self._piece is None or not self._piece.done():
            return []
        reading, self._piece = self._piece, None
        piece = reading.result()
        self.history.took(piece)
        batches: list[Batch] = [*piece.wave.rejections(self._source)]
        if piece.wave.tag:
            batches.append(piece.wave.samples(self._source, meant=self._meanings.meant))
        batches += piece.filled
        if self._settings.silence == "steady":  # and so it was in between
            batches += [replace(one, kind=NoticeKind.ALIVE, reason="") for one in piece.filled]
        self._totals["replayed_total"] += len(piece.wave.tag)
        self._totals["filled_total"] += len(piece.filled)
        if batches:
            batches[-1] = replace(batches[-1], position=self._text())
        return batches

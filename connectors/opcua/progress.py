"""How far a source has come: until when it heard everything, and what the server may still hold.

A position goes into the journal with its batch. After a restart it says which subscriptions to take
over and from which message on; where that fails, since when nobody has listened.
"""

import json
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field

Message = tuple[int, int]  # subscription, sequence number: what is acknowledged


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A subscription that the server may still hold, and what it said when it was made."""

    key: str  # of the rate class: another is another key
    watched: str  # of its tags and their addresses; empty: its items were being changed
    id: int
    sequence: int  # the last message that is in the journal
    sampling_ms: float
    queue_size: int
    bad: tuple[int, ...]  # tags without an item


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """What was missed in (since, until], in ns of the server's clock, and may be in its history."""

    since: int
    until: int
    tags: tuple[int, ...]  # none named: all


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """What ``open`` goes on from."""

    until: int  # ns, the server's clock: everything up to here has come, but for ``missed``
    started: int  # ns, when this run of the server began: its numbers mean nothing in another
    kept: tuple[Kept, ...]
    ahead: int | None = None  # ns, of the server's clock, of ours; positions once lacked it
    missed: tuple[Span, ...] = ()  # said to be missing, and not yet read from history
    units: Mapping[int, tuple[str, str]] = field(
        default_factory=dict
    )  # by tag: see units.Meanings.kept

    def text(self) -> str:
        """As it is stored: tags that mean the same together, for many do."""
        alike: dict[tuple[str, str], list[int]] = {}
        for tag, meaning in self.units.items():
            alike.setdefault(meaning, []).append(tag)
        tree = asdict(self) | {"units": [[*meaning, tags] for meaning, tags in alike.items()]}
        return json.dumps(tree, separators=(",", ":"))

    def since(self, now: int, *, ahead: int) -> int:
        """Up to when everything has come, by the server's clock as it goes now, ns.

        ``now`` and ``ahead`` (of ours) are of that clock. One that went ahead and was set back
        since is behind ``until``: then our own clock tells how long ago that was.
        """
        if self.until <= now or self.ahead is None:
            return min(self.until, now)
        return min(self.until - self.ahead + ahead, now)

    @classmethod
    def read(cls, text: str) -> "Position":
        """Raises ValueError for what is no position."""
        try:
            tree = json.loads(text)
            return cls(
                until=int(tree["until"]),
                started=int(tree["started"]),
                ahead=None if tree.get("ahead") is None else int(tree["ahead"]),
                kept=tuple(
                    Kept(**one | {"bad": tuple(one["bad"])})
                    for one in tree["kept"]
                    if "watched" in one  # before there was history, none was told apart by it
                ),
                missed=tuple(
                    Span(**one | {"tags": tuple(one["tags"])}) for one in tree.get("missed", ())
                ),
                units={
                    int(tag): (unit, spread)
                    for unit, spread, tags in tree.get("units", ())
                    for tag in tags
                },
            )
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"no position of an OPC UA source: {text[:80]!r}") from error


class Unacknowledged:
    """Messages that were handed on, and those of them that the server may forget."""

    def __init__(self) -> None:
        self._handed_on: deque[tuple[str, tuple[Message, ...]]] = deque()
        self._ripe: list[Message] = []

    def hand_on(self, position: str, messages: Iterable[Message]) -> None:
        """These messages are stored once ``position`` is."""
        self._handed_on.append((position, tuple(messages)))

    def stored(self, messages: Iterable[Message]) -> None:
        """These are stored already, since before this opening."""
        self._ripe += messages

    def accepted(self, position: str) -> None:
        """All up to this position are stored. A position of an earlier opening changes nothing."""
        if not any(position == one for one, _ in self._handed_on):
            return
        while True:
            one, messages = self._handed_on.popleft()
            self._ripe += messages
            if one == position:
                return

    def ripe(self) -> list[Message]:
        """What may be acknowledged now; given once."""
        ripe, self._ripe = self._ripe, []
        return ripe

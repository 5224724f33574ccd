"""A plant whose samples a test lets go: sources over feeds in memory, some can be retuned.

Connectors of their own (`type: feed`, `type: tuned`), among the others while a test lasts.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pytest
from pydantic import BaseModel, ConfigDict
from support.plants import SECOND, START

import connectors
from connectors import Connector
from connectors.batch import GOOD, Notice, NoticeKind, Samples
from connectors.contract import NotReadyError, RefusedError, TagRef

ROWS = 5  # of a batch


@dataclass(slots=True)
class Feed:
    """Columns by address, a row a second, of which the first ``limit`` rows may go."""

    columns: dict[str, np.ndarray]
    limit: int = 0
    over: bool = False
    opened: list[str] = field(default_factory=list)  # the names of the sources that did
    open: int = 0  # links
    most: int = 0  # of them at once
    refuses: set[str] = field(default_factory=set)  # addresses
    accepted: dict[str, int] = field(default_factory=dict)  # rows, by source
    moved: asyncio.Event = field(default_factory=asyncio.Event)

    def let(self, limit: int) -> None:
        """Let rows go up to this one."""
        self.limit = limit
        self.moved.set()

    def end(self) -> None:
        """Let all go, and say that nothing more comes."""
        self.over = True
        self.let(len(next(iter(self.columns.values()))))


FEEDS: dict[str, Feed] = {}


class FeedSettings(BaseModel):
    """Which feed."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    type: Literal["feed", "tuned"]
    feed: str


class Source:
    """Reads a feed from where its position is."""

    Settings = FeedSettings

    def __init__(self, name: str, settings: FeedSettings, tags: Sequence[TagRef]) -> None:
        self.name, self.tags, self._row = name, tuple(tags), 0
        self._feed, self._is_open = settings.feed, False

    @property
    def feed(self) -> Feed:
        return FEEDS[self._feed]

    async def open(self, *, resume: str | None) -> None:
        if self._feed not in FEEDS:
            raise NotReadyError(f"no feed {self._feed}", connector=self.name)
        self.feed.opened.append(self.name)
        self.feed.open += 1
        self.feed.most = max(self.feed.most, self.feed.open)
        self._is_open = True
        self._row = int(resume or 0)

    async def batches(self) -> AsyncIterator[Samples | Notice]:
        feed = self.feed
        while True:
            feed.moved.clear()
            while self._row < feed.limit:
                until = min(self._row + ROWS, feed.limit)
                batch = self._batch(self._row, until)
                self._row = until
                yield batch
            if feed.over:
                yield Notice(source=self.name, kind=NoticeKind.ENDED)
                return
            waiting = asyncio.ensure_future(feed.moved.wait())
            try:
                await asyncio.wait((waiting,), timeout=0.05)  # others clear it, too
            finally:
                waiting.cancel()

    def _batch(self, since: int, until: int) -> Samples:
        rows = np.arange(since, until)
        count = len(self.tags)
        return Samples(
            source=self.name,
            tag=np.tile(np.array([tag.id for tag in self.tags], np.int32), len(rows)),
            time=np.repeat((START + rows) * SECOND, count).astype(np.int64),
            value=np.column_stack(
                [self.feed.columns[tag.address][since:until] for tag in self.tags]
            ).ravel(),
            status=np.full(count * len(rows), GOOD, np.uint32),
            flags=np.zeros(count * len(rows), np.uint8),
            position=str(until),
        )

    async def accepted(self, position: str) -> None:
        self.feed.accepted[self.name] = int(position)

    def status(self) -> Mapping[str, int | float | str]:
        return {}

    async def close(self) -> None:
        if self._is_open:
            self.feed.open -= 1
            self._is_open = False


class RetunableSource(Source):
    """The same, which takes other tags while it runs."""

    async def retune(self, tags: Sequence[TagRef]) -> None:
        bad = [tag.address for tag in tags if tag.address in self.feed.refuses]
        if bad:
            raise RefusedError(f"{self.name}: no such address: {bad[0]}", connector=self.name)
        self.tags = tuple(tags)


@pytest.fixture
def feeds(monkeypatch: pytest.MonkeyPatch) -> dict[str, Feed]:
    """The feeds by name; empty at first."""
    found: dict[str, Any] = connectors.discover() | {
        name: Connector(name=name, source=source, history=None, sink=None)
        for name, source in (("feed", Source), ("tuned", RetunableSource))
    }
    for module in ("settings", "config"):
        monkeypatch.setattr(f"monitor.site.{module}.discover", lambda: found)
    FEEDS.clear()
    return FEEDS

"""Recordings as a source and as a history: the same files, the same samples."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel

from connectors.batch import Notice, NoticeKind, Samples
from connectors.contract import Batch, TagRef
from connectors.files.settings import ReadingSettings

if TYPE_CHECKING:
    from connectors.files.merge import Merge


class Source:
    """Reads files once, from the start or from where it was, then says ENDED.

    Files are read in a worker thread, a chunk at a time. Once ``batches`` was cancelled or has
    raised, open anew with the last stored position.
    """

    Settings: ClassVar[type[BaseModel]] = ReadingSettings

    def __init__(self, name: str, settings: ReadingSettings, tags: Sequence[TagRef]) -> None:
        self.name = name
        self._settings = settings
        self._tags = tags
        self._merge: Merge | None = None

    async def open(self, *, resume: str | None) -> None:
        """See Source of the contract. NotReadyError while no file matches."""
        await self.close()
        merge = _merge(self.name, self._settings, self._tags)
        self._merge = merge
        await asyncio.to_thread(merge.open, resume)

    async def batches(self) -> AsyncIterator[Batch]:
        """See Source of the contract. With ``speed``, a batch comes when its last stamp is due."""
        assert self._merge is not None, "open() first"  # noqa: S101 (the caller's own mistake)
        merge = self._merge
        clock = asyncio.get_running_loop().time
        start: tuple[float, int] | None = None  # wall time in s, stamp in ns
        while dues := await asyncio.to_thread(merge.advance):
            for due in dues:
                if self._settings.speed is not None and due.key is not None:
                    first = due.batch.time[0] if isinstance(due.batch, Samples) else due.key
                    start = start or (clock(), int(first))
                    recorded_s = (due.key - start[1]) / 1e9
                    await asyncio.sleep(start[0] + recorded_s / self._settings.speed - clock())
                yield due.batch
        yield Notice(source=self.name, kind=NoticeKind.ENDED, position=merge.position())

    async def accepted(self, position: str) -> None:
        """Files forget nothing: nothing to do."""

    def status(self) -> Mapping[str, int | float | str]:
        """Nothing beyond what is counted of every source."""
        return {}

    async def close(self) -> None:
        """See Source of the contract. Waits for the chunk that is being read."""
        merge, self._merge = self._merge, None
        if merge is not None:
            await asyncio.to_thread(merge.close)


class History:
    """Reads the same files from start to end, as far as asked for."""

    Settings: ClassVar[type[BaseModel]] = ReadingSettings

    def __init__(self, name: str, settings: ReadingSettings, tags: Sequence[TagRef]) -> None:
        self.name = name
        self._settings = settings
        self._tags = tags

    def read(
        self, *, since: int | None = None, until: int | None = None
    ) -> Iterator[Samples | Notice]:
        """See History of the contract. ``speed`` does not matter here."""
        merge = _merge(self.name, self._settings, self._tags, since=since, until=until)
        try:
            merge.open(None)
            while dues := merge.advance():
                for due in dues:
                    yield due.batch
        finally:
            merge.close()

    def inspect(self) -> None:
        """See Inspectable of the contract: each file's header and first stamp."""
        self._settings.files(connector=self.name)  # before pyarrow is imported
        merge = _merge(self.name, self._settings, self._tags)
        try:
            merge.open(None)
        finally:
            merge.close()


def _merge(name: str, settings: ReadingSettings, tags: Sequence[TagRef], **span: Any) -> "Merge":
    """Make the merge; pyarrow is imported only here, when files are read."""
    from connectors.files.merge import Merge  # noqa: PLC0415 (see above)

    return Merge(name, settings, tags, **span)

"""A camera source: the class of the way that its settings name."""

import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import ClassVar, Self

from pydantic import BaseModel

from connectors.camera.settings import ReadingSettings
from connectors.camera.shots import Gate
from connectors.contract import Batch, TagRef


class Source(ABC):
    """Pictures of the cameras ``tags``. Making one gives the source of the way it is set to."""

    Settings: ClassVar[type[BaseModel]] = ReadingSettings

    def __new__(
        cls, name: str, settings: ReadingSettings, tags: Sequence[TagRef], **given: object
    ) -> Self:
        """As pathlib.Path does: the subclass that fits."""
        del name, settings, tags, given
        from connectors.camera.folder import FolderSource  # noqa: PLC0415 - it is one of us

        return super().__new__(FolderSource if cls is Source else cls)  # type: ignore[return-value]

    def __init__(
        self,
        name: str,
        settings: ReadingSettings,
        tags: Sequence[TagRef],
        *,
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        self.name = name
        self._settings = settings
        self._cameras = {tag.address: tag.id for tag in tags}
        self._now = now
        self._gate = Gate(name, settings)

    @abstractmethod
    async def open(self, *, resume: str | None) -> None:
        """See Source of the contract."""

    @abstractmethod
    def batches(self) -> AsyncIterator[Batch]:
        """See Source of the contract."""

    @abstractmethod
    async def accepted(self, position: str) -> None:
        """See Source of the contract."""

    @abstractmethod
    async def close(self) -> None:
        """See Source of the contract."""

    def status(self) -> Mapping[str, int | float | str]:
        """See Source of the contract."""
        gate = self._gate
        return {
            "pictures_total": gate.pictures,
            "bytes_total": gate.bytes,
            "rejected_total": gate.rejected,
            "restamped_total": gate.restamped,
        }

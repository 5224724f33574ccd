"""What the ways share that pictures may come by, but for MQTT, which has a session of its own."""

import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import ClassVar

from pydantic import BaseModel

from connectors.batch import Notice, NoticeKind
from connectors.camera.settings import ReadingSettings
from connectors.camera.shots import Gate
from connectors.contract import Batch, TagRef

ALIVE_S = 60.0  # how often to say that there is nothing new


class Way(ABC):
    """What the ways share that pictures may come by: pictures of the cameras ``tags``."""

    Settings: ClassVar[type[BaseModel]] = ReadingSettings

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
        self._quiet_since, self._told_s = 0, 0.0  # ns; s of time.monotonic

    def _heard(self) -> None:
        """Pictures came, or the link is new: silence counts from here."""
        self._quiet_since, self._told_s = self._now(), time.monotonic()

    def _alive(self) -> Iterator[Notice]:
        """Now and then, where the peer has answered and there was nothing new: that it is so."""
        if time.monotonic() - self._told_s >= ALIVE_S:
            since = self._quiet_since
            self._heard()
            self._quiet_since = max(self._quiet_since, since)  # a clock that was set back
            yield Notice(
                source=self.name, kind=NoticeKind.ALIVE, since=since, until=self._quiet_since
            )

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

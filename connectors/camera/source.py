"""A camera source: that of the way which its settings name."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from pydantic import BaseModel

from connectors.camera.broker import BrokerSource
from connectors.camera.folder import FolderSource
from connectors.camera.http import HttpSource
from connectors.camera.settings import ReadingSettings
from connectors.contract import TagRef

_OF_WAY: dict[str, Callable[..., Any]] = {
    "folder": FolderSource,
    "mqtt": BrokerSource,
    "http": HttpSource,
}


class Source:
    """Making one gives the source of the way it is set to: see Source of the contract."""

    Settings: ClassVar[type[BaseModel]] = ReadingSettings

    def __new__(
        cls, name: str, settings: ReadingSettings, tags: Sequence[TagRef], **given: Any
    ) -> Any:
        """A source of another class."""
        return _OF_WAY[settings.way](name, settings, tags, **given)

"""Messages as files: one JSON document a message, there whole or not at all."""

import asyncio
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import BaseModel

from connectors.contract import NotReadyError, RefusedError
from connectors.files.settings import WritingSettings
from connectors.points import Message, Outgoing

SAFE_ID = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}"
)  # no separator, not hidden, fits any file system


class Sink:
    """Writes each message to ``<folder>/<id>.json``; what is there already stays as it is."""

    Settings: ClassVar[type[BaseModel]] = WritingSettings
    accepts: ClassVar[tuple[type[Outgoing], ...]] = (Message,)

    def __init__(self, name: str, settings: WritingSettings) -> None:
        self.name = name
        self._folder = Path(settings.folder)

    async def open(self) -> None:
        """Make the folder where only it is lacking, and try it. Raises NotReadyError."""
        await asyncio.to_thread(self._probe)

    async def deliver(self, items: Sequence[Outgoing]) -> None:
        """Write all messages. Raises NotReadyError for the folder, RefusedError for a message."""
        refused = await asyncio.to_thread(self._write_all, items)
        if refused:
            raise RefusedError.of(refused, connector=self.name, count=len(items))

    async def close(self) -> None:
        """Nothing is held open."""

    def _probe(self) -> None:
        probe = self._folder / ".probe.tmp"
        try:
            self._folder.mkdir(exist_ok=True)
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise self._not_ready(error) from error

    def _write_all(self, items: Sequence[Outgoing]) -> dict[int, str]:
        """Write what can be; what cannot, by index, and why."""
        refused = {}
        try:
            for index, item in enumerate(items):
                try:
                    name, content = _file(item)
                except (TypeError, ValueError) as error:
                    refused[index] = str(error)
                    continue
                if not (self._folder / name).exists():
                    self._write(name, content)
            _fsync(self._folder)
        except OSError as error:
            raise self._not_ready(error) from error
        return refused

    def _write(self, name: str, content: bytes) -> None:
        """A file is renamed into place only once its content is on disk."""
        partial = self._folder / f".{name}.tmp"
        partial.write_bytes(content)
        _fsync(partial)
        partial.replace(self._folder / name)

    def _not_ready(self, error: OSError) -> NotReadyError:
        return NotReadyError(
            f"{self.name}: cannot write to {self._folder}: {error.strerror or error}. Trying "
            "again; make the folder, or give this user the right to write there",
            connector=self.name,
        )


def _file(item: Outgoing) -> tuple[str, bytes]:
    """Name and content. Raises ValueError, TypeError: no message, no safe name, no JSON."""
    if not isinstance(item, Message):
        raise TypeError(f"want a Message, got {type(item).__name__}")
    if not SAFE_ID.fullmatch(item.id):
        raise ValueError(f"id {item.id[:40]!r} is no safe file name; want letters, digits, . _ -")
    document = {
        "id": item.id,
        "subject": item.subject,
        "type": item.type,
        "time": f"{np.datetime64(item.time, 'ns')}Z",
        "body": item.body,
    }
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False, default=dict)
    return f"{item.id}.json", text.encode() + b"\n"


def _fsync(path: Path) -> None:
    """Have the disk keep a file, or a folder's names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

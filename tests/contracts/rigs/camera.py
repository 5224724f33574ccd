"""Pictures of two cameras in a folder that can be moved away."""

import os
import zlib
from pathlib import Path

from support.pictures import noise, png

from connectors.camera.settings import FolderSettings, ReadingSettings
from connectors.contract import TagRef

T0 = 1_704_067_200_000_000_000  # 2024-01-01T00:00:00Z


class SourceRig:
    """Pictures, and what is none, of two cameras and one that nobody asked for."""

    clients = ("PIL",)
    pictures = live = True
    tags = (TagRef(id=7, address="top"), TagRef(id=3, address="side"))

    def __init__(self, folder: Path) -> None:
        self._there, self._away = folder / "there", folder / "away"
        self.settings = ReadingSettings(
            type="camera", folder=FolderSettings(path=str(self._there), poll_s=0.02)
        )
        self.samples = []
        for number in range(30):
            name = ("top", "side", "other")[number % 3]
            content = png(noise(number, 4, 5, 1))
            time = T0 + number * 1_000_000
            path = self._there / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            os.utime(path, ns=(time, time))
            (path.parent / f"{number}.txt").write_text("of no picture")
            for tag in self.tags:
                if tag.address == name:
                    self.samples.append((tag.id, time, float(zlib.crc32(content)), 0))

    def vanish(self) -> None:
        self._there.rename(self._away)

    def appear(self) -> None:
        self._away.rename(self._there)

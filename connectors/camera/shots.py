"""What came to batches: pictures that can be inspected, and why the others cannot.

Whatever way a picture came by, it passes here. It is not decoded: that is for whoever inspects it,
apart from the service, as decoders can crash.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from connectors.batch import Notice, NoticeKind, Pictures
from connectors.camera.settings import ReadingSettings
from connectors.payloads.image import PictureError, check
from connectors.stamps import believable


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """One picture as it came."""

    camera: int
    content: bytes
    came: int  # ns since 1970 UTC, by our own clock
    time: int | None = None  # ns since 1970 UTC, when it was taken; None: nobody says
    part: str | None = None
    recipe: str | None = None
    name: str = ""  # of what it came in, for people
    refused: str = ""  # why it cannot be taken, where that was seen before


class Gate:
    """Lets pictures pass, and counts those that do not."""

    def __init__(self, source: str, settings: ReadingSettings) -> None:
        self.pictures = self.bytes = self.rejected = self.restamped = 0
        self._source, self._settings = source, settings

    def batches(self, shots: Sequence[Shot], position: str) -> list[Pictures | Notice]:
        """All of them, the last with the position. Reads them: to be called in a thread."""
        sound: list[Shot] = []
        reasons: Counter[str] = Counter()
        examples: dict[str, str] = {}
        for shot in shots:
            try:
                if not shot.refused:
                    check(shot.content, self._settings.bounds)
                    sound.append(shot)
                    continue
                reason, words = shot.refused, "it was not read"
            except PictureError as error:
                reason, words = str(error.reason), str(error)
            reasons[reason] += 1
            examples.setdefault(reason, f"{shot.name}: {words}" if shot.name else words)
        self.pictures += len(sound)
        self.bytes += sum(len(shot.content) for shot in shots)
        self.rejected += reasons.total()
        made: list[Pictures | Notice] = [
            Notice(
                source=self._source,
                kind=NoticeKind.REJECTED,
                reason=reason,
                count=count,
                example=examples[reason],
            )
            for reason, count in reasons.items()
        ]
        if sound:
            made.append(self._pictures(sound))
        if made:
            made[-1] = replace(made[-1], position=position)
        return made

    def _pictures(self, shots: Sequence[Shot]) -> Pictures:
        came = np.array([shot.came for shot in shots], np.int64)
        time = np.array([shot.came if shot.time is None else shot.time for shot in shots], np.int64)
        false = ~believable(time, came, ahead_s=self._settings.clock_ahead_s)
        self.restamped += int(false.sum())
        return Pictures(
            source=self._source,
            camera=np.array([shot.camera for shot in shots], np.int32),
            time=np.where(false, came, time),
            part=tuple(_text(shot.part) for shot in shots),
            recipe=tuple(_text(shot.recipe) for shot in shots),
            content=tuple(shot.content for shot in shots),
        )


def _text(given: str | None) -> str | None:
    """Text that can be stored: bytes of a file's name that are no UTF-8 are question marks."""
    return None if not given else given.encode("utf-8", "replace").decode()

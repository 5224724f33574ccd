"""Where what came in belongs: a sample in a slot of its kind, a notice in the frames it is about.

The same for the step and for training.
"""

from collections.abc import Iterable

import numpy as np

from connectors.batch import I32, Notice, NoticeKind
from monitor.core.aggregate import Index
from monitor.core.frames import FrameBuilder
from monitor.core.missing import said
from monitor.core.plan import Feature, Plan


class SlotMap:
    """Which kind, and which slot of its frames, each tag of a plan belongs to."""

    def __init__(self, plan: Plan) -> None:
        size = 1 + max((tag for a in plan.assets for tag, _ in a.tags.values()), default=0)
        self._slots: dict[Feature | None, tuple[Index, Index]] = {}  # kind and slot of each tag
        names = {source for a in plan.assets for _, source in a.tags.values()}
        self._number = {source: number for number, source in enumerate(sorted(names))}
        self._source = np.full(size, -1)
        for number, (name, kind) in enumerate(plan.kinds.items()):
            for row, asset in enumerate(plan.assets_of(name)):
                for column, (tag, feature) in enumerate(kind.slots):
                    nothing = np.full(size, -1), np.zeros(size, np.intp)
                    kinds, slots = self._slots.setdefault(feature, nothing)
                    kinds[asset.tags[tag][0]] = number
                    slots[asset.tags[tag][0]] = row * len(kind.slots) + column
                    self._source[asset.tags[tag][0]] = self._number[asset.tags[tag][1]]
        self.features = tuple(feature for feature in self._slots if feature is not None)

    def tags_of(self, source: str) -> list[int]:
        """The numbers of all tags of a source."""
        return np.flatnonzero(self._source == self._number.get(source, -2)).tolist()

    def of(self, source: str, tag: I32, feature: Feature | None = None) -> tuple[Index, Index]:
        """The number of the kind [N], -1 where the source has no such tag, and the slot [N].

        ``feature``: of the tags' waveform blocks; None: of their samples.

        A journal may hold what a tag's source was before the configuration changed.
        """
        known = (tag >= 0) & (tag < len(self._source))
        within = np.where(known, tag, 0)
        if feature not in self._slots:
            return np.full(len(tag), -1), within.astype(np.intp)
        kinds, slots = self._slots[feature]
        known &= self._source[within] == self._number.get(source, len(self._number))
        return np.where(known, kinds[within], -1), slots[within]


def hear(notice: Notice, builders: Iterable[FrameBuilder], *, received: int, now: int) -> None:
    """What a source said of itself, as far as it matters to frames; times as in FrameBuilder."""
    gap = said(notice, received=received)
    for frames in builders:
        match notice:
            case Notice(kind=NoticeKind.ALIVE, since=int() as since, until=int() as until):
                frames.alive(
                    notice.source, since, until, tags=notice.tags, received=received, now=now
                )
            case Notice(kind=NoticeKind.ENDED):
                frames.ended(notice.source)
            case _ if gap is not None:
                frames.missing(gap, received=received)
            case _:
                pass  # kept by the journal alone

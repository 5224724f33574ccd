"""Whether what a camera looks at gets worse: what its pictures up to each one foretell.

Before the alarms of class picture (``pictures.py``). A camera looks at one place of one part: with
another part it begins anew. The model is shown what the journal holds of each picture, features
and area, and how long ago the last one was; its state, some hundred numbers, is in the snapshot.
Pictures count in the order of the journal: one that is stamped before its predecessor counts as
taken at the same moment.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from models.vision.progression import Progression, Unit, again, kept
from monitor.core.plan import DAY, SECOND, Camera
from monitor.core.records import Outlook, PictureResult

ONE: Mapping[Unit, int] = {"pictures": 1, "s": SECOND, "h": 3600 * SECOND, "d": DAY}


class Growth:
    """What the pictures of one camera foretell."""

    def __init__(self, camera: Camera, model: Progression) -> None:
        self._model = model
        scale = camera.mm_per_pixel
        self._unit, self._pixel = ("px", 1.0) if scale is None else ("mm2", scale**2)
        self._part: str | None = None
        self._begin()

    def _begin(self) -> None:
        self._state = self._model.initial(1)
        self._count = 0  # pictures that came, of this part
        self._last: int | None = None  # of them the last that was learnt from: its count, or ns

    def step(self, result: PictureResult) -> Outlook | None:
        """One more picture; None: it says nothing, as one that could not be inspected."""
        if result.part != self._part:
            self._part = result.part
            self._begin()
        self._count += 1
        card, area = self._model.card, result.area_px
        features = np.frombuffer(result.features, "<f4")
        if result.rejected or area is None or result.model != card.inspection:
            return None
        if len(features) != len(card.mean) or not np.isfinite(features).all():
            return None
        now = self._count if card.position_unit == "pictures" else result.time
        passed = 0 if self._last is None else max(now - self._last, 0)
        self._last = now if self._last is None else max(now, self._last)
        found, self._state = self._model.step(
            features[None].astype(np.float32),
            np.array([area]),
            np.array([passed / ONE[card.position_unit]]),
            self._state,
        )
        onset = float(found.onset[0])
        return Outlook(
            unit=self._unit,
            now=area * self._pixel,
            area=float(found.area[0, -1]) * self._pixel,
            low=float(found.low[0, -1]) * self._pixel,
            high=float(found.high[0, -1]) * self._pixel,
            onset=None if np.isnan(onset) else onset,
        )

    def snapshot(self) -> dict[str, Any]:
        """What the next outlooks depend on."""
        return {
            "model": self._model.hash,
            "part": self._part,
            "count": self._count,
            "last": self._last,
            "state": kept(self._state),
        }

    def restore(self, tree: Mapping[str, Any]) -> None:
        """Take back what ``snapshot`` gave; another model begins anew."""
        if tree["model"] == self._model.hash:
            self._part, self._count, self._last = tree["part"], tree["count"], tree["last"]
            self._state = again(tree["state"])

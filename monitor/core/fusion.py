"""One judgement per asset: which sensor evidence and which picture belong together.

Beside the process alarms, for assets that have a camera; the arithmetic is models/fusion.py. A part
passes the camera some time after the process made it, and its picture is inspected later still. So
a frame judges the moment that lies the lag of the last camera, and ``wait_s``, before it: by what
the sensors said then, and the newest picture of what was made up to then. Nothing is known before
it could be: a judgement stands at the frame in which it is made, row for row beside the scores.

An absent side is no evidence, and said to be absent: sensors that were not scored then, or pictures
that never came or have faded. The pictures of one tick count as one: the worst of n, its p times n
(Bonferroni), which depends on neither their order nor on each other. It is the one that is named.

What is held is bounded: the sensors' surprises of the last lag and wait_s, and the pictures of
``MOST_PENDING`` ticks whose frames have not closed. A picture that comes later than wait_s is
counted, and counts from the next frame on.
"""

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectors.batch import I64
from models.fusion import combine, fade, share
from monitor.core.aggregate import NEVER, Bool, Index
from monitor.core.plan import MILLISECOND, SECOND, FusionSettings
from monitor.core.records import Judgements, Spoke

# R frames, A assets, N of the frames of assets with a camera

F32 = NDArray[np.float32]

MOST_PENDING = 1024  # ticks with pictures, of one asset whose sensors are silent


@dataclass(slots=True)
class _Seen:
    """The pictures of one tick."""

    tick: int  # ns, the end of the tick
    time: int  # ns, when the newest part was made
    worst: float  # surprise
    count: int
    hash: str = ""  # of the worst; "": an earlier version wrote it

    @property
    def surprise(self) -> float:
        """Of all of them as one."""
        return max(self.worst - math.log10(self.count), 0.0)


@dataclass(slots=True)
class _Line:
    """What is held of one asset with a camera."""

    behind: int  # ns, how long before a frame the moment lies that it judges
    sensor: deque[tuple[int, float]] = field(default_factory=deque)  # tick, surprise: in order
    seen: list[_Seen] = field(default_factory=list)  # in order of tick; the first is in force
    judged: int = NEVER  # ns, the last moment that was judged

    def put(self, tick: int, time: int, surprise: float, name: str) -> None:
        """A picture more, in its place."""
        at = bisect_left(self.seen, tick, key=lambda one: one.tick)
        if at < len(self.seen) and self.seen[at].tick == tick:
            one = self.seen[at]
            one.time, one.count = max(one.time, time), one.count + 1
            one.worst, one.hash = max((one.worst, one.hash), (surprise, name))
        else:
            self.seen.insert(at, _Seen(tick, time, surprise, 1, name))

    def at(self, moment: int) -> _Seen | None:
        """The newest picture up to a moment; those before it are let go."""
        while len(self.seen) > 1 and self.seen[1].tick <= moment:
            self.seen.pop(0)
        return self.seen[0] if self.seen and self.seen[0].tick <= moment else None

    def said(self, made: int) -> float:
        """What the sensors said at this tick, NaN for nothing; what is before it is let go."""
        while self.sensor and self.sensor[0][0] < made:
            self.sensor.popleft()
        return self.sensor[0][1] if self.sensor and self.sensor[0][0] == made else math.nan


class Fusion:
    """The judgements of all assets of one kind.

    ``ids`` [A] are their numbers; ``lags`` [A] ns from the process to the last camera of each, None
    where there is none.
    """

    def __init__(
        self,
        kind: str,
        settings: FusionSettings,
        *,
        tick_ms: int,
        ids: NDArray[np.int32],
        lags: Sequence[int | None],
    ) -> None:
        self._kind, self._settings, self._ids = kind, settings, ids
        self._tick = tick_ms * MILLISECOND
        wait = round(settings.wait_s * SECOND)
        self._lines = {
            row: _Line(self._up(lag) + self._up(wait))
            for row, lag in enumerate(lags)
            if lag is not None
        }
        self._has_A: Bool = np.array([lag is not None for lag in lags], np.bool_)
        self.late = 0  # pictures whose judgement was made without them
        self.forgotten = 0  # ticks with pictures that were too many to wait for their frames

    def picture(self, asset: int, time: int, surprise: float, name: str = "") -> None:
        """A picture of what an asset (its row) made at ``time``, ns since 1970 UTC.

        That is when it was taken, less the lag of its camera. ``name``: its hash. Nothing where the
        asset has no camera. Raises ValueError for a surprise that is none.
        """
        if not (math.isfinite(surprise) and surprise >= 0):
            raise ValueError(f"picture of asset {asset}: got surprise {surprise}, want 0 or more")
        if (line := self._lines.get(asset)) is None:
            return
        tick = self._up(time)  # the frame at T covers (T - tick, T]
        self.late += tick <= line.judged
        line.put(tick, time, surprise, name)
        if len(line.seen) > MOST_PENDING:
            line.seen.pop(0)
            self.forgotten += 1

    def frames(self, asset: Index, tick: I64, surprise: F32, counts: Bool) -> "Fused":
        """What is judged in frames [R], in order of tick within each asset (its row).

        ``surprise`` [R] of the sensors; ``counts`` [R] where it says something.
        """
        rows = np.flatnonzero(self._has_A[asset])
        sensor, picture = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
        age_s = np.full(len(rows), np.nan)
        names = [""] * len(rows)
        for n, row in enumerate(rows.tolist()):  # each costs the same, whatever came before
            line, now = self._lines[int(asset[row])], int(tick[row])
            if counts[row] and math.isfinite(surprise[row]):
                line.sensor.append((now, float(surprise[row])))
            line.judged = now - line.behind
            sensor[n] = line.said(line.judged)
            if (seen := line.at(line.judged)) is not None:
                picture[n], age_s[n] = seen.surprise, (line.judged - seen.time) / SECOND
                names[n] = seen.hash
        left = fade(np.where(np.isnan(age_s), np.inf, age_s), self._settings.half_life_s)
        gone = left == 0
        picture[gone], age_s[gone] = np.nan, np.nan
        weight = share(self._settings.picture_weight, left)
        heard, shown = ~np.isnan(sensor), ~gone
        one, other = sensor.astype(np.float32), picture.astype(np.float32)
        judgements = Judgements(
            kind=self._kind,
            asset=self._ids[asset[rows]],
            tick=tick[rows],
            surprise=combine(one, other, weight),
            sensor=one,
            picture=other,
            age=age_s.astype(np.float32),
            weight=weight.astype(np.float32),
            spoke=(heard * Spoke.SENSORS + shown * Spoke.PICTURES).astype(np.uint8),
        )
        return Fused(rows, judgements, np.where(gone, "", names).tolist())

    def _up(self, time: int) -> int:
        """Up to a whole tick."""
        return -(-time // self._tick) * self._tick

    def snapshot(self) -> dict[str, Any]:
        """What the next judgements depend on, as JSON values: assets are their rows."""
        return {
            "late": self.late,
            "forgotten": self.forgotten,
            "lines": {
                str(row): {
                    "sensor": [list(one) for one in line.sensor],
                    "seen": [asdict(one) for one in line.seen],
                    "judged": line.judged,
                }
                for row, line in self._lines.items()
            },
        }

    def restore(self, tree: Mapping[str, Any], old_A: Index, new_A: Index) -> None:
        """Take back what ``snapshot`` gave: asset ``old_A[i]`` of it is asset ``new_A[i]`` here."""
        self.late, self.forgotten = tree["late"], tree["forgotten"]
        for old, new in zip(old_A.tolist(), new_A.tolist(), strict=True):
            if new in self._lines and (kept := tree["lines"].get(str(old))) is not None:
                self._lines[new] = _Line(
                    self._lines[new].behind,
                    sensor=deque((int(tick), float(said)) for tick, said in kept["sensor"]),
                    seen=[_Seen(**one) for one in kept["seen"]],
                    judged=kept["judged"],
                )


@dataclass(frozen=True, slots=True)
class Fused:
    """Judgements, and of which of the frames they are."""

    row: Index  # [N]
    judgements: Judgements
    picture: Sequence[str]  # [N] hash of the picture that was part of it, hex; "": none was

"""Cameras in the step: what was inspected becomes alarms of class picture, and everything counts.

Beside the kinds, as ``links`` is. A camera has two points: that a part is graded reject, and that a
picture is stranger than good ones are; and a third with a model of progression: that what is wrong
is foretold to be too large, while it is not yet. Pictures come when parts come, so the delays of
these alarms count pictures, not time; else they are as all others (ISA-18.2: on-delay, off-delay,
deadband). Times are event time: that of the picture. Where one is not later than the change before,
for names tell whole seconds only or an older picture came last, it is 1 ns later than that: an
alarm is known by when it was raised, and a transition by its time.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from models.vision.acceptance import Grade
from models.vision.progression import Progression
from monitor.core.board import Board, alarm_id
from monitor.core.growth import Growth
from monitor.core.plan import Camera, Plan
from monitor.core.records import (
    AlarmClass,
    AlarmEvent,
    PictureResult,
    PicturesTaken,
    Standing,
    Transition,
)

REJECT, SURPRISE, GROWTH = "reject", "surprise", "growth"


@dataclass(slots=True)
class _Point:
    """One condition of one camera."""

    raised: int | None = None  # ns, when the alarm that stands was raised
    run: int = 0  # pictures in a row that speak for a change
    changed: int | None = None  # ns, its last transition

    def turns(self, *, entered: bool, left: bool, raise_after: int, return_after: int) -> bool:
        """Whether it changes with a picture; one in the deadband speaks for nothing."""
        speaks, wanted = (entered, raise_after) if self.raised is None else (left, return_after)
        self.run = self.run + 1 if speaks else 0
        return self.run >= wanted


class Cameras:
    """The cameras of a plan; ``growth`` holds models of progression, by camera."""

    def __init__(self, plan: Plan, growth: Mapping[str, Progression]) -> None:
        self._site = plan.site
        self._cameras = {camera.id: camera for camera in plan.cameras}
        self._growth = {
            camera.id: Growth(camera, growth[camera.name])
            for camera in plan.cameras
            if camera.name in growth
        }
        self._places = {  # what an alarm is about: asset and point
            (camera.asset, f"{camera.name} {what}"): (camera.id, what)
            for camera in plan.cameras
            for what in (REJECT, SURPRISE, GROWTH)
            if what != GROWTH or (camera.id in self._growth and camera.warn_area is not None)
        }
        self._points = {place: _Point() for place in self._places.values()}
        self._seen: Counter[str] = Counter()  # by source: inspected
        self._waiting: Counter[str] = Counter()  # by source: accepted, not inspected yet
        self.board = Board()

    def take(self, taken: PicturesTaken) -> None:
        """Pictures were accepted."""
        self._waiting[taken.source] += len(taken)

    def found(self, result: PictureResult) -> bool:
        """One of them has its result. False: it was not among them, for their record is lost."""
        source = result.source or ""
        waited = self._waiting[source] > 0
        self._waiting[source] -= waited
        self._seen[source] += not result.rejected
        return waited

    @property
    def seen(self) -> Mapping[str, int]:
        """By source: how many pictures were inspected."""
        return self._seen

    @property
    def waiting(self) -> Mapping[str, int]:
        """By source: how many were accepted and have no result yet."""
        return self._waiting

    def camera(self, number: int) -> Camera | None:
        """The camera of this number; None: the plan names it no longer."""
        return self._cameras.get(number)

    def foretold(self, result: PictureResult) -> PictureResult:
        """The result with what the pictures up to this one foretell, where a model tells."""
        growth = self._growth.get(result.camera)
        return result if growth is None else replace(result, outlook=growth.step(result))

    def step(self, result: PictureResult) -> list[AlarmEvent]:
        """The alarms that are raised, or return, with this picture."""
        camera = self.camera(result.camera)
        if camera is None or result.rejected or not result.model:
            return []
        alarm = camera.alarm
        surprise = result.surprise
        over = surprise is not None and surprise > alarm.surprise
        below = surprise is not None and surprise < alarm.surprise * alarm.clear_ratio
        bad, graded = result.grade is Grade.REJECT, result.grade is not Grade.NONE
        nears, stays = _grows(camera, result)
        return [
            self._change(camera, what, result)
            for what, entered, left in (
                (REJECT, bad, graded and not bad),
                (SURPRISE, over, below),
                (GROWTH, nears, stays),
            )
            if (camera.id, what) in self._points
            and self._points[camera.id, what].turns(
                entered=entered,
                left=left,
                raise_after=alarm.raise_after,
                return_after=alarm.return_after,
            )
        ]

    def settle(self, standing: Sequence[Standing]) -> list[Standing]:
        """Let exactly these be active; gives back those that nothing here can end."""
        mine, rest = [], []
        was = {place: point.raised for place, point in self._points.items()}
        for point in self._points.values():
            point.raised = None
        for alarm in standing:
            place = self._places.get((alarm.asset, alarm.point))
            named = (alarm.asset, alarm.alarm_class, alarm.point, alarm.raised)
            if place is not None and alarm.id == alarm_id(self._site, *named):
                point = self._points[place]
                point.raised = alarm.raised
                point.changed = max(point.changed or alarm.raised, alarm.raised)
                mine.append(alarm)
            else:
                rest.append(alarm)
        for place, point in self._points.items():
            if point.raised != was[place]:  # that is news: it counts anew
                point.run = 0
        self.board.settle(mine)
        return rest

    def _change(self, camera: Camera, what: str, result: PictureResult) -> AlarmEvent:
        """An alarm is raised, or returns."""
        point = self._points[camera.id, what]
        rises = point.raised is None
        tick = result.time if point.changed is None else max(result.time, point.changed + 1)
        raised = tick if point.raised is None else point.raised
        point.raised, point.run, point.changed = (raised if rises else None), 0, tick
        name = f"{camera.name} {what}"
        named = (camera.asset, AlarmClass.PICTURE, name, raised)
        value, threshold = _measured(camera, what, result)
        return self.board.note(
            AlarmEvent(
                id=alarm_id(self._site, *named),
                asset=camera.asset,
                alarm_class=AlarmClass.PICTURE,
                point=name,
                transition=Transition.RAISED if rises else Transition.RETURNED,
                tick=tick,
                raised=raised,
                reason=_reason(camera, what, result, rises=rises),
                value=math.nan if value is None else value,
                threshold=threshold,
                picture=result.hash,
                active=rises,
            )
        )

    # ---- snapshot -------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """What the next alarms and counts depend on."""
        return {
            "points": [
                [number, what, point.raised, point.run, point.changed]
                for (number, what), point in self._points.items()
            ],
            "seen": dict(self._seen),
            "waiting": dict(self._waiting),
            "board": self.board.snapshot(),
            "growth": {str(number): one.snapshot() for number, one in self._growth.items()},
        }

    def restore(self, tree: Mapping[str, Any]) -> None:
        """Take back what ``snapshot`` gave, for the cameras that are still there."""
        for number, what, *point in tree["points"]:
            if (number, what) in self._points:
                self._points[number, what] = _Point(*point)
        self._seen, self._waiting = Counter(tree["seen"]), Counter(tree["waiting"])
        self.board.restore(tree["board"], {camera.asset for camera in self._cameras.values()})
        for number, one in self._growth.items():
            if str(number) in tree.get("growth", {}):  # an earlier version has none
                one.restore(tree["growth"][str(number)])


def _grows(camera: Camera, result: PictureResult) -> tuple[bool, bool]:
    """Whether what is wrong is foretold to be too large and is not yet; whether it is not either.

    The middle of what is foretold counts: the lower end of its interval often passes the limit no
    sooner than the area does, and the upper end where nothing comes of it.
    """
    limit, outlook = camera.warn_area, result.outlook
    if limit is None or outlook is None:
        return False, False
    low = limit * camera.alarm.clear_ratio
    return outlook.area > limit >= outlook.now, max(outlook.area, outlook.now) < low


def _measured(camera: Camera, what: str, result: PictureResult) -> tuple[float | None, float]:
    """What an alarm is about, as a number, and its limit."""
    if what == SURPRISE:
        return result.surprise, camera.alarm.surprise
    if what == GROWTH and result.outlook is not None and camera.warn_area is not None:
        return result.outlook.area, camera.warn_area
    return result.probability, 0.0


def _reason(camera: Camera, what: str, result: PictureResult, *, rises: bool) -> str:
    """In words: what was seen, against what."""
    of = f" of part {result.part}" if result.part else ""
    alarm = camera.alarm
    times = alarm.raise_after if rises else alarm.return_after
    row = f", {times} pictures in a row" if times > 1 else ""
    if what == SURPRISE:
        side = f"over {alarm.surprise:g}" if rises else f"below {alarm.clear_ratio:g} of its limit"
        return (
            f"camera {camera.name}: a picture{of} has surprise {result.surprise:.2f}, {side}{row}"
        )
    if what == GROWTH and (outlook := result.outlook) is not None:
        side = "over" if rises else f"below {alarm.clear_ratio:g} of"
        return (
            f"camera {camera.name}: what is wrong on a picture{of} has {outlook.now:.4g} "
            f"{outlook.unit}, and is foretold to have {outlook.area:.4g} ({outlook.low:.4g} to "
            f"{outlook.high:.4g}), {side} its limit of {camera.warn_area:.4g}{row}"
        )
    by = f" by {result.rule}: {result.reason}" if result.rule else ""
    if not rises:
        return f"camera {camera.name}: the picture{of} is graded {result.grade}{by}{row}"
    seen = ", ".join(_named(result.defects)) or f"{result.label} ({result.probability:.0%})"
    return f"camera {camera.name}: the picture{of} is graded reject{by}; {seen}{row}"


def _named(defects: Iterable[Any], most: int = 3) -> list[str]:
    """The worst defects in words, those that are graded reject."""
    bad = [one for one in defects if one.grade is Grade.REJECT]
    return [
        f"{one.label} ({one.probability:.0%}"
        + (f", {one.width_mm:.1f} x {one.height_mm:.1f} mm)" if one.width_mm else ")")
        for one in bad[:most]
    ]

"""How bad is it? Sizes of defects, and the grade of a part by its acceptance table.

The network says what is wrong and where; how bad that is, people have said (acceptance.py). A grade
is that of the worst rule, which is named. Where a rule cannot be judged, for nobody knows how large
a pixel is, or an edge is not found, that is said: a part is accepted only if all rules were judged.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist

from models.vision.acceptance import (
    AcceptanceSettings,
    Grade,
    MeasureSettings,
    RuleSettings,
    ZoneSettings,
)
from models.vision.inspected import BOOL, Defect, Inspected
from models.vision.measuring import Measured, measure

# h, w height and width of a mask; H, W of the picture; P pixels


UNBOUNDED = "its model has learnt classes: it says where it looked, not where a defect ends"
_WORSE = (Grade.ACCEPT, Grade.REWORK, Grade.REJECT)  # in this order


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How large a defect is; None in mm where nobody knows how large a pixel is.

    From its mask: the area of its pixels, and its largest Feret diameter. Of a defect without one
    the area and the diagonal of its box, which are upper bounds. All None where the box does not
    bound it.
    """

    area_px: float | None
    length_px: float | None
    area_mm2: float | None
    length_mm: float | None
    by_mask: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one rule says of one part."""

    rule: str  # its name, as "scratch: length_mm in seal"
    grade: Grade  # NONE: it could not be judged
    reason: str  # in words: what was seen, against what; or why it could not be judged
    defect: int | None = None  # which, of those of the picture; None: of the part as a whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Graded:
    """A part, graded."""

    grade: Grade
    rule: str  # that decided; "": there was nothing to decide
    reason: str
    sizes: tuple[Size, ...]  # of each defect
    grades: tuple[Grade, ...]  # of each defect, by its own rules; the part's may be worse
    measured_px: Mapping[str, float | None]  # each dimension; None: it could not be measured
    measured_mm: Mapping[str, float | None]  # the same, of areas in mm2; None too without a scale
    unjudged: tuple[str, ...]  # rules that could not be judged, and why


def size_of(defect: Defect, mm_per_pixel: float | None) -> Size:
    """How large a defect is. Raises ValueError for a mask that is not of its box's size."""
    _, _, mask = _pixels(defect)
    if not defect.bounded:
        return Size(area_px=None, length_px=None, area_mm2=None, length_mm=None, by_mask=False)
    if defect.mask is None:
        x1, y1, x2, y2 = defect.box
        area, length = (x2 - x1) * (y2 - y1), float(np.hypot(x2 - x1, y2 - y1))
    else:
        area, length = float(mask.sum()), longest(mask)
    scale = mm_per_pixel
    return Size(
        area_px=area,
        length_px=length,
        area_mm2=None if scale is None else area * scale**2,
        length_mm=None if scale is None else length * scale,
        by_mask=defect.mask is not None,
    )


def area_px(inspected: Inspected) -> float | None:
    """Of all defects of a picture together, pixels; None: one has no mask."""
    masks = [one.mask for one in inspected.defects if one.mask is not None]
    return (
        float(sum(mask.sum() for mask in masks)) if len(masks) == len(inspected.defects) else None
    )


def longest(mask: BOOL) -> float:
    """The largest Feret diameter of a mask [h, w], in pixels; 0 where it is empty.

    Between the middles of the outer sides of its pixels, whose convex hull has it: for a straight
    line of pixels its length, for a disc its diameter, to about half a pixel.
    """
    rows = np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return 0.0
    left, right = mask.argmax(axis=1)[rows], mask.shape[1] - 1 - mask[:, ::-1].argmax(axis=1)[rows]
    ends = np.concatenate([np.stack([at, rows], axis=1) for at in (left, right)]).astype(np.float64)
    sides = np.array([(0.5, 0), (-0.5, 0), (0, 0.5), (0, -0.5)])
    points = (ends[:, None] + sides).reshape(-1, 2)
    return float(pdist(points[ConvexHull(points).vertices]).max())


def grade(
    inspected: Inspected,
    acceptance: AcceptanceSettings,
    *,
    mm_per_pixel: float | None,
    picture: NDArray[np.generic] | None = None,
) -> Graded:
    """The grade of a part, from what was found on its picture and, for dimensions, the picture.

    ``mm_per_pixel`` is how large a pixel is on the part; None: nobody knows, and nothing is graded
    by mm. Raises ValueError for a mask that is not of its box's size.
    """
    sizes = tuple(size_of(defect, mm_per_pixel) for defect in inspected.defects)
    verdicts = list(_of_defects(inspected.defects, sizes, acceptance))
    values = {}
    for name, rule in acceptance.measures.items():
        values[name] = _measured(rule, inspected, picture)
        verdicts.append(_of_measure(name, rule, values[name], mm_per_pixel))
    unjudged = tuple(f"{one.rule}: {one.reason}" for one in verdicts if one.grade is Grade.NONE)
    worst = _worst(verdicts)
    if worst.grade is not Grade.REJECT and unjudged:
        first = next(one for one in verdicts if one.grade is Grade.NONE)
        at_least = f"; at least {worst.grade}: {worst.rule}" if worst.grade is Grade.REWORK else ""
        worst = Verdict(rule=first.rule, grade=Grade.NONE, reason=first.reason + at_least)
    return Graded(
        grade=worst.grade,
        rule=worst.rule,
        reason=worst.reason,
        sizes=sizes,
        grades=tuple(
            _alone([one for one in verdicts if one.defect == number])
            for number in range(len(sizes))
        ),
        measured_px={name: one.value_px for name, one in values.items()},
        measured_mm={
            name: _in_mm(acceptance.measures[name], one, mm_per_pixel)
            for name, one in values.items()
        },
        unjudged=unjudged,
    )


def touches(defect: Defect, zone: ZoneSettings) -> bool:
    """Whether the middle of a pixel of a defect lies in a zone; without a mask, of its box."""
    x0, y0, mask = _pixels(defect)
    rows, columns = np.nonzero(mask)
    x, y = columns + x0 + 0.5, rows + y0 + 0.5
    inside = np.zeros(len(x), np.bool_)
    for (x1, y1), (x2, y2) in pairwise((*zone.corners, zone.corners[0])):
        if y1 != y2:  # even-odd rule: how many sides lie to the right
            crosses = (y < y1) != (y < y2)
            inside ^= crosses & (x < x1 + (y - y1) * (x2 - x1) / (y2 - y1))
    return bool(inside.any())


def _pixels(defect: Defect) -> tuple[int, int, BOOL]:
    """Where its rounded box begins, x and y, and which pixels of that belong to the defect."""
    x1, y1, x2, y2 = (round(one) for one in defect.box)
    shape = max(y2 - y1, 1), max(x2 - x1, 1)
    if defect.mask is None:
        return x1, y1, np.ones(shape, np.bool_)
    if defect.mask.shape != shape:
        raise ValueError(
            f"mask of {defect.label}: want [{shape[0]}, {shape[1]}], its rounded box, "
            f"got {list(defect.mask.shape)}"
        )
    return x1, y1, defect.mask


def _of_defects(
    defects: tuple[Defect, ...], sizes: tuple[Size, ...], acceptance: AcceptanceSettings
) -> Iterator[Verdict]:
    """What each rule says of each defect that it is for; counts, of each class."""
    for label in dict.fromkeys(defect.label for defect in defects):
        mine = [number for number, defect in enumerate(defects) if defect.label == label]
        if label not in acceptance.classes:
            for number in mine:
                reason = "this class of defect has no rules"
                yield Verdict(rule=label, grade=Grade.NONE, reason=reason, defect=number)
            continue
        if not acceptance.classes[label]:
            reason = "accepted, whatever there is of it"
            yield Verdict(rule=f"{label}: no rule", grade=Grade.ACCEPT, reason=reason)
        for rule in acceptance.classes[label]:
            zone = None if rule.zone is None else acceptance.zones[rule.zone]
            there = [n for n in mine if zone is None or touches(defects[n], zone)]
            name = f"{label}: {rule.name}"
            if rule.wants_bounds and (vague := [n for n in mine if not defects[n].bounded]):
                for number in vague:
                    yield Verdict(rule=name, grade=Grade.NONE, reason=UNBOUNDED, defect=number)
            elif rule.of == "count":
                yield _over(name, rule, float(len(there)))
            else:
                for number in there:
                    yield _over(name, rule, getattr(sizes[number], rule.of), defect=number)


def _over(
    name: str, rule: RuleSettings, value: float | None, *, defect: int | None = None
) -> Verdict:
    if value is None:
        reason = "nobody knows how large a pixel is: want mm_per_pixel"
        return Verdict(rule=name, grade=Grade.NONE, reason=reason, defect=defect)
    found, limit = Grade.ACCEPT, None
    for worse, over in ((Grade.REWORK, rule.rework_over), (Grade.REJECT, rule.reject_over)):
        if over is not None and value > over:
            found, limit = worse, over
    reason = f"{value:.4g}, over {limit:g}" if limit is not None else f"{value:.4g}, within limits"
    return Verdict(rule=name, grade=found, reason=reason, defect=defect)


def _measured(
    rule: MeasureSettings, inspected: Inspected, picture: NDArray[np.generic] | None
) -> Measured:
    if rule.mask is not None:
        high, wide = inspected.heat.shape
        whole = np.zeros((high, wide), np.bool_)
        for defect in inspected.defects:
            if defect.label == rule.mask:
                if not defect.bounded:
                    return Measured(None, UNBOUNDED)
                x0, y0, mask = _pixels(defect)
                rows, columns = np.nonzero(mask)
                y, x = rows + y0, columns + x0
                within = (y >= 0) & (y < high) & (x >= 0) & (x < wide)
                whole[y[within], x[within]] = True
        return measure(whole, rule)
    if picture is None:
        return Measured(None, "the picture was not given")
    return measure(picture, rule)


def _in_mm(rule: MeasureSettings, found: Measured, scale: float | None) -> float | None:
    if found.value_px is None or scale is None:
        return None
    return found.value_px * (scale**2 if rule.what == "area" else scale)


def _of_measure(
    name: str, rule: MeasureSettings, found: Measured, mm_per_pixel: float | None
) -> Verdict:
    value = _in_mm(rule, found, mm_per_pixel)
    if value is None:
        reason = found.why or (
            f"{found.value_px:.4g} px; nobody knows how large a pixel is: want mm_per_pixel"
        )
        return Verdict(rule=name, grade=Grade.NONE, reason=reason)
    (least, most), unit = rule.limits, "mm2" if rule.what == "area" else "mm"
    words = f"{rule.what} {value:.5g} {unit}"
    if least is not None and value < least:
        return Verdict(rule=name, grade=Grade(rule.beyond), reason=f"{words}, below {least:g}")
    if most is not None and value > most:
        return Verdict(rule=name, grade=Grade(rule.beyond), reason=f"{words}, over {most:g}")
    return Verdict(rule=name, grade=Grade.ACCEPT, reason=f"{words}, within tolerance")


def _worst(verdicts: list[Verdict]) -> Verdict:
    """The worst that was judged, the first of equals."""
    judged = [one for one in verdicts if one.grade is not Grade.NONE]
    return max(
        judged,
        key=lambda one: _WORSE.index(one.grade),
        default=Verdict(rule="", grade=Grade.ACCEPT, reason="nothing was found"),
    )


def _alone(verdicts: list[Verdict]) -> Grade:
    """Of one defect; a reject stands whatever could not be judged."""
    worst = _worst(verdicts).grade
    if worst is not Grade.REJECT and any(one.grade is Grade.NONE for one in verdicts):
        return Grade.NONE
    return worst

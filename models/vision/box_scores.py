"""How good found boxes are, on pictures whose defects are marked.

Average precision per class: found boxes of all pictures in falling order, each matched to the free
marked box of its class that it overlaps most, from a least overlap on; the area under the falling
envelope of precision over recall. ``pooled`` is the measure of the DeepPCB paper (Tang et al.,
arXiv 1902.06197): all classes in one ranking, boxes matched in the order they are marked in before
their class is compared. F1 is that at the best score.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# B boxes: float64 [B, 4] x1, y1, x2, y2

F64 = NDArray[np.float64]
Bool = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Boxes:
    """Of one picture."""

    box: F64  # [B, 4]
    label: NDArray[np.str_]  # [B]
    score: F64  # [B] of marked ones: not looked at

    @classmethod
    def listed(cls, rows: Iterable[tuple[str, Sequence[float], float]]) -> "Boxes":
        """From label, corners and score of each."""
        each = list(rows)
        return cls(
            np.array([box for _, box, _ in each], np.float64).reshape(-1, 4),
            np.array([label for label, _, _ in each], np.str_),
            np.array([score for _, _, score in each], np.float64),
        )

    def of(self, label: str) -> "Boxes":
        """Those of one class."""
        own = self.label == label
        return Boxes(self.box[own], self.label[own], self.score[own])


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxScores:
    """At one least overlap."""

    average_precision: Mapping[str, float]  # of each class that is marked anywhere
    mean: float
    f1: float  # the best one, over all classes
    precision: float  # there
    recall: float
    at: float  # the score from which on boxes count, there


def box_scores(marked: Sequence[Boxes], found: Sequence[Boxes], overlap: float) -> BoxScores:
    """Of pictures, marked and found in the same order. Raises ValueError where none is marked.

    A found box of a class that is marked nowhere is as false as any other, in F1 and precision.
    """
    names = sorted({str(label) for one in (*marked, *found) for label in one.label})
    if not any(len(one.label) for one in marked):
        raise ValueError("boxes: no picture has a marked defect: nothing to be found")
    matched = {
        name: _matched([o.of(name) for o in marked], [o.of(name) for o in found], overlap)
        for name in names
    }
    each = {name: _envelope(*one) for name, one in matched.items() if one[2]}
    score = np.concatenate([one[0] for one in matched.values()])
    hit = np.concatenate([one[1] for one in matched.values()])
    count = sum(one[2] for one in matched.values())
    order = np.argsort(-score, kind="stable")
    if not len(order):
        return BoxScores(
            average_precision=each, mean=0.0, f1=0.0, precision=0.0, recall=0.0, at=1.0
        )
    true, said = np.cumsum(hit[order]), np.arange(len(order)) + 1
    last = np.append(np.diff(score[order]) != 0, True)  # boxes of one score count together
    f1 = np.where(last, 2 * true / (said + count), 0.0)
    best = int(f1.argmax())
    return BoxScores(
        average_precision=each,
        mean=float(np.mean(list(each.values()))),
        f1=float(f1[best]),
        precision=float(true[best] / said[best]),
        recall=float(true[best] / count),
        at=float(score[order][best]),
    )


def pooled(marked: Sequence[Boxes], found: Sequence[Boxes], overlap: float) -> float:
    """The paper's one average precision of all classes: the mean precision at the hits."""
    hits, scores = [], []
    for own, said in zip(marked, found, strict=True):
        hit, used = np.zeros(len(said.box), np.bool_), np.zeros(len(said.box), np.bool_)
        overlaps = overlaps_of(own.box, said.box)
        for number in range(len(own.box)):
            free = np.flatnonzero((overlaps[number] > overlap) & ~used)
            if len(free):
                used[free[0]] = True
                hit[free[0]] = own.label[number] == said.label[free[0]]
        hits.append(hit)
        scores.append(said.score)
    count = sum(len(own.box) for own in marked)
    order = np.argsort(-np.concatenate(scores), kind="stable")
    hit = np.concatenate(hits)[order]
    precision = np.cumsum(hit) / (np.arange(len(hit)) + 1)
    return float(precision[hit].sum() / max(count, 1))


def overlaps_of(one: F64, other: F64) -> F64:
    """Intersection over union [B, D] of boxes [B, 4] and [D, 4]."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    both: F64 = np.clip(high - low, 0, None).prod(2)
    areas = [(each[:, 2:] - each[:, :2]).prod(1) for each in (one, other)]
    union = areas[0][:, None] + areas[1][None] - both
    return np.where(union > 0, both / np.where(union > 0, union, 1.0), 0.0)


def _matched(
    marked: Sequence[Boxes], found: Sequence[Boxes], overlap: float
) -> tuple[F64, Bool, int]:
    """Score and hit of each found box, of one class, and how many are marked."""
    scores, hits = [], []
    for own, said in zip(marked, found, strict=True):
        order = np.argsort(-said.score, kind="stable")
        hit = np.zeros(len(order), np.bool_)
        overlaps = overlaps_of(said.box[order], own.box)
        free = np.ones(len(own.box), np.bool_)
        for number in range(len(order) if len(own.box) else 0):
            each = np.where(free, overlaps[number], -1.0)
            best = int(each.argmax())
            if each[best] >= overlap:
                hit[number], free[best] = True, False
        scores.append(said.score[order])
        hits.append(hit)
    return np.concatenate(scores), np.concatenate(hits), sum(len(own.box) for own in marked)


def _envelope(score: F64, hit: Bool, count: int) -> float:
    if not len(score):
        return 0.0
    true = np.cumsum(hit[np.argsort(-score, kind="stable")])
    precision = true / (np.arange(len(true)) + 1)
    highest = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(np.append(0.0, true / count)) * highest))

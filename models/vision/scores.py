"""How good an inspection is, on pictures whose classes are known.

Every labelled picture counts. Shares, not percent. A class that no picture has, or that was never
said, has NaN for what cannot be counted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

# N pictures, K classes

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bool = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassScores:
    """Of one class."""

    pictures: int
    precision: float  # NaN: it was never said
    recall: float
    f1: float
    auroc: float  # this class against all others


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Overkill against escape, for each threshold of the anomaly that makes a difference.

    Overkill is the share of good pictures that are called bad, escape that of bad ones called good.
    """

    threshold: F64  # rising; an anomaly as large is called bad
    overkill: F64
    escape: F64

    def escape_at(self, overkill: float) -> float:
        """The least escape, where at most this share of good pictures is called bad."""
        allowed = self.escape[self.overkill <= overkill]
        return float(allowed.min()) if len(allowed) else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Of all pictures."""

    classes: tuple[str, ...]
    confusion: I64  # [K, K] rows: what they are; columns: what was said
    by_class: Mapping[str, ClassScores]
    accuracy: float
    balanced_accuracy: float  # the mean recall of the classes there are
    macro_f1: float  # the mean of the classes there are; 0 for one that was never said
    binary_accuracy: float | None  # good or not; None where there is no good class
    binary_auroc: float | None  # of the anomaly
    curve: Curve | None


def scored(
    labels: Sequence[str],
    probabilities: F64,
    classes: Sequence[str],
    *,
    good: str | None = None,
    anomaly: F64 | None = None,
) -> Scores:
    """Scores of probabilities [N, K] whose columns are the classes; the largest is what was said.

    With a good class: ``anomaly`` [N] ranks pictures, or 1 less the probability of the good class
    does. Raises ValueError for a label that is no class, or other counts.
    """
    classes = tuple(classes)
    if strange := sorted(set(labels) - set(classes)):
        raise ValueError(f"labels: {', '.join(strange)}: not among {', '.join(classes)}")
    if probabilities.shape != (len(labels), len(classes)) or not len(labels):
        raise ValueError(
            f"probabilities: want [{len(labels)}, {len(classes)}], at least one row; "
            f"got {list(probabilities.shape)}"
        )
    true = np.array([classes.index(label) for label in labels])
    said = probabilities.argmax(1)
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(confusion, (true, said), 1)
    by_class = {
        name: _class_scores(confusion, number, auroc(true == number, probabilities[:, number]))
        for number, name in enumerate(classes)
    }
    there = [one for one in by_class.values() if one.pictures]
    binary_accuracy, binary_auroc, curve = None, None, None
    if good is not None:
        number = classes.index(good)
        bad = true != number
        ranked = 1 - probabilities[:, number] if anomaly is None else anomaly
        binary_accuracy = float(((said != number) == bad).mean())
        binary_auroc = auroc(bad, ranked)
        curve = overkill_and_escape(bad, ranked)
    return Scores(
        classes=classes,
        confusion=confusion,
        by_class=by_class,
        accuracy=float((true == said).mean()),
        balanced_accuracy=float(np.mean([one.recall for one in there])),
        macro_f1=float(np.mean([one.f1 for one in there])),
        binary_accuracy=binary_accuracy,
        binary_auroc=binary_auroc,
        curve=curve,
    )


def auroc(positive: Bool, score: NDArray[np.floating]) -> float:
    """The chance that a positive outranks a negative, ties counted half; NaN with one kind only."""
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if not positives or not negatives:
        return float("nan")
    ranks = rankdata(score)[positive].sum()
    return float((ranks - positives * (positives + 1) / 2) / (positives * negatives))


def overkill_and_escape(bad: Bool, anomaly: F64) -> Curve | None:
    """The curve over all thresholds; None where one of the two kinds is missing."""
    if bad.all() or not bad.any():
        return None
    threshold = np.append(np.unique(anomaly), np.inf)
    below_bad = np.searchsorted(np.sort(anomaly[bad]), threshold, side="left")
    below_good = np.searchsorted(np.sort(anomaly[~bad]), threshold, side="left")
    return Curve(
        threshold=threshold,
        overkill=1 - below_good / (~bad).sum(),
        escape=below_bad / bad.sum(),
    )


def _class_scores(confusion: I64, number: int, area: float) -> ClassScores:
    hits, of, said = confusion[number, number], confusion[number].sum(), confusion[:, number].sum()
    return ClassScores(
        pictures=int(of),
        precision=float(hits / said) if said else float("nan"),
        recall=float(hits / of) if of else float("nan"),
        f1=float(2 * hits / (of + said)) if of + said else float("nan"),
        auroc=area,
    )

"""Counting: small cases worked out by hand."""

import math

import numpy as np
import pytest

from models.vision.scores import auroc, overkill_and_escape, scored

CLASSES = ("crack", "good", "rust")


def shares(said: list[str], sure: float = 0.8) -> np.ndarray:
    found = np.full((len(said), 3), (1 - sure) / 2)
    found[np.arange(len(said)), [CLASSES.index(one) for one in said]] = sure
    return found


def test_precision_recall_f1_and_the_matrix_are_those_of_the_counts() -> None:
    labels = ["crack", "crack", "good", "good", "good", "rust"]
    said = ["crack", "good", "good", "good", "crack", "crack"]

    found = scored(labels, shares(said), CLASSES)

    assert found.confusion.tolist() == [[1, 1, 0], [1, 2, 0], [1, 0, 0]]
    crack = found.by_class["crack"]
    assert (crack.precision, crack.recall, crack.f1) == pytest.approx((1 / 3, 1 / 2, 2 / 5))
    assert found.by_class["rust"].recall == 0
    assert math.isnan(found.by_class["rust"].precision)
    assert found.accuracy == pytest.approx(3 / 6)
    assert found.balanced_accuracy == pytest.approx((1 / 2 + 2 / 3 + 0) / 3)
    assert found.macro_f1 == pytest.approx((2 / 5 + 2 / 3 + 0) / 3)
    assert found.binary_auroc is None


def test_a_class_that_no_picture_has_does_not_count() -> None:
    found = scored(["crack", "good"], shares(["crack", "good"]), CLASSES)

    assert found.balanced_accuracy == 1
    assert math.isnan(found.by_class["rust"].recall)


def test_ties_count_half() -> None:
    bad = np.array([False, False, True, True])

    assert auroc(bad, np.array([1.0, 2.0, 2.0, 3.0])) == pytest.approx(3.5 / 4)
    assert math.isnan(auroc(np.array([True, True]), np.array([1.0, 2.0])))


def test_good_or_not_is_told_by_the_anomaly_and_by_what_was_said() -> None:
    labels = ["good", "good", "crack", "rust"]
    said = ["good", "crack", "rust", "good"]

    found = scored(
        labels, shares(said), CLASSES, good="good", anomaly=np.array([0.0, 2.0, 3.0, 1.0])
    )

    assert found.binary_accuracy == pytest.approx(2 / 4)  # crack for rust is bad all the same
    assert found.binary_auroc == pytest.approx(3 / 4)


def test_the_curve_goes_from_all_bad_to_all_good() -> None:
    bad = np.array([False, False, False, True, True])

    curve = overkill_and_escape(bad, np.array([0.0, 1.0, 2.0, 2.0, 3.0]))

    assert curve is not None
    assert curve.threshold.tolist() == [0, 1, 2, 3, np.inf]
    assert curve.overkill == pytest.approx([1, 2 / 3, 1 / 3, 0, 0])
    assert curve.escape == pytest.approx([0, 0, 0, 1 / 2, 1])
    assert curve.escape_at(0.0) == pytest.approx(1 / 2)
    assert curve.escape_at(0.34) == 0
    assert overkill_and_escape(np.array([True]), np.array([1.0])) is None


def test_labels_that_are_no_class_and_other_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="dent: not among crack, good, rust"):
        scored(["dent"], shares(["good"]), CLASSES)
    with pytest.raises(ValueError, match=r"want \[2, 3\].*got \[1, 3\]"):
        scored(["good", "good"], shares(["good"]), CLASSES)

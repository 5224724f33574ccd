"""VUS-PR: how well a score ranks anomalous stretches, with no threshold and no exact borders.

The volume under the surface of precision, recall and tolerance (Paparrizos, Boniol, Palpanas, Tsay,
Elmore and Franklin, "Volume under the surface", PVLDB 15, 2022), as the TSB-AD benchmark computes
it. For every tolerance w = 0..W the labels get soft shoulders, ``sqrt(1 - d / w)`` at a distance of
d rows up to w // 2 on either side of each anomaly. At a threshold, with TP the sum of the soft
labels over the alarmed rows: precision = TP / alarms, and recall = min(1, TP / P) times the share
of anomalies (joined where their shoulders meet) with an alarm in or beside them, where P is the
mean of the anomalous rows and of those and the soft labels of alarmed shoulders. 250 thresholds,
evenly spaced in rank. VUS-PR is the mean over w of the areas under precision and recall.
"""

import numpy as np
from numpy.typing import NDArray

# T rows of a recording, K thresholds

F64 = NDArray[np.float64]
Int = NDArray[np.int64]

THRESHOLDS = 250
AUTOCORRELATED = 20_000  # rows that the period is read from
LONGEST_LAG, LONGEST_PERIOD, SHORTEST_PERIOD = 400, 300, 3
NO_PERIOD = 125  # rows; where none is found


def vus_pr(label: NDArray[np.integer], score: F64, tolerance: int) -> float:
    """Of scores [T] against labels [T] (0 or 1), for tolerances 0..``tolerance`` rows.

    Raises ValueError where there is nothing to tell apart.
    """
    anomalous = label > 0
    positive, count = int(anomalous.sum()), len(label)
    if not 0 < positive < count:
        raise ValueError(f"VUS-PR: {positive} of {count} rows are anomalous; want some, not all")
    bounds = _stretches(anomalous)
    order = np.argsort(-score, kind="stable")
    falling = score[order]
    threshold_K = falling[np.linspace(0, count - 1, THRESHOLDS).astype(np.int64)]
    alarms_K = count - np.searchsorted(falling[::-1], threshold_K, side="left")
    hits_K = np.cumsum(anomalous[order])[alarms_K - 1].astype(np.float64)
    areas = []
    for width in range(tolerance + 1):
        soft = _softened(anomalous, bounds, width)
        true_K = np.cumsum(soft[order])[alarms_K - 1]
        relevant_K = (2 * positive + true_K - hits_K) / 2
        tops = np.array([score[a:b].max() for a, b in _joined(bounds, width // 2, count)])
        found_K = (tops[:, None] >= threshold_K).mean(0)
        recall_K = np.minimum(true_K / relevant_K, 1.0) * found_K
        steps = np.diff(np.concatenate([[0.0], recall_K]))
        areas.append(float(np.sum(steps * true_K / alarms_K)))
    return float(np.mean(areas))


def period(value: F64) -> int:
    """The dominant period of a series [T], in rows: TSB-AD's tolerance for it.

    The highest peak of the autocorrelation.
    """
    x = value[:AUTOCORRELATED] - value[:AUTOCORRELATED].mean()
    power = float(x @ x)
    if power <= 0:
        return NO_PERIOD
    lags = range(SHORTEST_PERIOD, min(LONGEST_LAG + 1, len(x)))
    correlation = np.array([float(x[lag:] @ x[: len(x) - lag]) / power for lag in lags])
    inner = correlation[1:-1]
    peaks = np.flatnonzero((inner > correlation[:-2]) & (inner > correlation[2:])) + 1
    if len(peaks) == 0:
        return NO_PERIOD
    best = int(peaks[np.argmax(correlation[peaks])])
    inside = SHORTEST_PERIOD <= best <= LONGEST_PERIOD
    return best + SHORTEST_PERIOD if inside else NO_PERIOD


def _stretches(anomalous: NDArray[np.bool_]) -> Int:
    """First row and row after the last, of each anomaly: [A, 2]."""
    edges = np.diff(np.concatenate([[0], anomalous.astype(np.int64), [0]]))
    return np.flatnonzero(edges).reshape(-1, 2)


def _softened(anomalous: NDArray[np.bool_], bounds: Int, width: int) -> F64:
    """Labels with shoulders; where two meet they add up, to 1 at the most."""
    soft = anomalous.astype(np.float64)
    distance = np.arange(1, width // 2 + 1)
    shoulder = np.sqrt(1.0 - distance / width) if width > 1 else np.empty(0)
    for first, end in bounds:
        for rows in (end - 1 + distance, first - distance):
            inside = (rows >= 0) & (rows < len(soft))
            soft[rows[inside]] += shoulder[inside]
    return np.minimum(soft, 1.0)


def _joined(bounds: Int, reach: int, count: int) -> list[tuple[int, int]]:
    """Anomalies with their shoulders, those that meet as one: first row, row after the last."""
    joined: list[tuple[int, int]] = []
    for first, end in bounds.tolist():
        start = max(first - reach, 0)
        if joined and joined[-1][1] >= first - reach + 1:
            start = joined.pop()[0]
        joined.append((start, min(end + reach, count)))
    return joined

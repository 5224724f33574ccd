"""Do machines keep to their alarm budget on data that nobody has seen?

Scores are drawn that are healthy and follow each other, as those of machines do; a threshold is
chosen from some of them by ``monitor.history.budget``, and the alarms that it raises on others are
counted against the budget. Three tails: exponential, heavy, and machines that are not alike. No
model is trained: this is about the threshold alone.

    python benchmarks/budget.py [--quick] [--json FILE]
"""

import argparse
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from _machine import RESULTS, table, write
from numpy.typing import NDArray
from scipy.signal import lfilter
from scipy.stats import norm, poisson

from models.calibration import Calibration
from monitor.core.plan import AlarmSettings
from monitor.history.budget import support_of, threshold_for
from monitor.history.episodes import Trace, count

# K machines

TICK_S = 60
MEMORY = 0.7  # of a score, from one tick to the next
ALARM = AlarmSettings(on_delay_s=120, off_delay_s=300)
BUDGET = 2.0  # alarms an asset and 30 days
MACHINES = 3  # in the history
ALLOWED = (0.3, 1.5, 3.5, 10.0, 40.0)  # alarms that the budget allows in the history
FRESH = 20  # other machines, watched for
FRESH_DAYS = 30
SEEDS = 10
UNLIKE = 0.1  # standard deviation of the logarithm of a machine's scale

Draw = Callable[[np.random.Generator, int], NDArray[np.float64]]


def depth(chance: np.random.Generator, ticks: int) -> NDArray[np.float64]:
    """Exponential scores that follow each other: -log of the tail probability of an AR(1)."""
    noise = chance.standard_normal(ticks) * np.sqrt(1 - MEMORY**2)
    steps: NDArray[np.float64] = -norm.logsf(lfilter([1.0], [1.0, -MEMORY], noise))
    return steps


TAILS: Mapping[str, Draw] = {
    "exponential": depth,
    "heavy": lambda chance, ticks: np.exp(0.4 * depth(chance, ticks)),
    "unlike machines": lambda chance, ticks: (
        depth(chance, ticks) * np.exp(chance.normal(0.0, UNLIKE))
    ),
}


def drawn(draw: Draw, chance: np.random.Generator, machines: int, days: float) -> list[Any]:
    """Raw scores of some machines."""
    return [draw(chance, round(days * 86_400 / TICK_S)) for _ in range(machines)]


def traces(raw: list[Any], calibration: Calibration) -> list[Trace]:
    """The same as surprise, all of it judged."""
    step = TICK_S * 1_000_000_000
    return [
        Trace(
            f"m{number}",
            np.arange(len(own), dtype=np.int64) * step,
            calibration.apply(own),
            np.ones(len(own), np.bool_),
            step,
        )
        for number, own in enumerate(raw)
    ]


def realised(draw: Draw, allowed: float, seed: int, fresh_days: float) -> dict[str, Any]:
    """What one history leads to, and how many alarms that raises on fresh data."""
    chance = np.random.default_rng(seed)
    days = allowed / BUDGET * 30 / MACHINES
    history = drawn(draw, chance, MACHINES, days)
    calibration = Calibration.fit(np.concatenate(history))
    support = support_of(traces(history, calibration), ALARM, per_asset_30_days=BUDGET)
    chosen = threshold_for(support, BUDGET)
    fresh = traces(drawn(draw, chance, FRESH, fresh_days), calibration)
    return {
        "threshold": chosen.value,
        "provisional": chosen.provisional,
        "alarms": count(fresh, ALARM, chosen.value),
    }


def summed(runs: list[dict[str, Any]], expected: float) -> dict[str, Any]:
    """Of all seeds: the realised rate as a share of the budget, and how often it is kept."""
    alarms = np.array([run["alarms"] for run in runs])
    low, high = (float(poisson.ppf(at, expected)) for at in (0.025, 0.975))
    return {
        "of_budget": {
            name: float(np.quantile(alarms / expected, at))
            for name, at in (("low", 0.1), ("median", 0.5), ("high", 0.9))
        },
        "mean_of_budget": float(alarms.mean() / expected),
        "within_upper_bound": float(np.mean(alarms <= poisson.ppf(0.95, expected))),
        "within_interval": float(np.mean((alarms >= low) & (alarms <= high))),
        "provisional": float(np.mean([run["provisional"] for run in runs])),
        "alarms": alarms.tolist(),
        "thresholds": [run["threshold"] for run in runs],
    }


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="One seed, to see that it runs.")
    parser.add_argument("--json", type=Path, default=RESULTS / "budget.json")
    given = parser.parse_args()
    seeds, fresh_days = (1, 5.0) if given.quick else (SEEDS, FRESH_DAYS)
    expected = BUDGET / 30 * FRESH * fresh_days
    found: dict[str, dict[str, Any]] = {}
    for tail, draw in TAILS.items():
        for allowed in ALLOWED[:2] if given.quick else ALLOWED:
            runs = [realised(draw, allowed, seed, fresh_days) for seed in range(seeds)]
            found[f"{tail}, {allowed:g} allowed"] = summed(runs, expected)
    rows = [
        [
            name,
            ", ".join(f"{share:.2f}" for share in one["of_budget"].values()),
            f"{one['within_upper_bound']:.0%}",
            f"{one['within_interval']:.0%}",
            f"{one['provisional']:.0%}",
        ]
        for name, one in found.items()
    ]
    head = ["history", "of the budget", "under its bound", "in its interval", "provisional"]
    print(table(head, rows))
    write(given.json, {"expected": expected, "seeds": seeds, "realised": found})


if __name__ == "__main__":
    main()

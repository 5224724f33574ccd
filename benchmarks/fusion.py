"""Are sensors and pictures together better than the better of them, and no more often wrong?

Both sides are drawn, so that it is known how strong each is. A side scores health as a unit normal
and a fault as one that is shifted (`steady`: each moment of a fault is a little strange) or that is
shifted far, but in some moments only (`fitful`: a fault that shows itself, or does not). Each side
is calibrated on healthy scores of its own, and the picture's weight follows from the AUROC of both
sides on a few labelled moments of its own: what is judged was never seen by either.

    python benchmarks/fusion.py [--quick] [--json FILE]

Beside it: equal weights; other rules; how often healthy sides that depend on each other reach a
surprise, against how often they should; what becomes of a picture as it ages; and what an alarm
finds, and says again, that wants the combined surprise, or what both sides say.
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
from scipy.special import log_ndtr, ndtri

from models.calibration import Calibration
from models.fusion import CAP, agreed, balance, combine, fade, share
from models.vision.scores import auroc

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

# N moments

STRENGTHS = (0.6, 0.75, 0.9)  # AUROC of a side
SEEDS = 20
MOMENTS = 4000  # judged, of health and of faults each
HEALTHY = 5000  # a side is calibrated on
LABELLED = 200  # of health and of faults each: the weights follow from them
FITFUL = 4.0  # how far a fault that shows itself is shifted
CORRELATIONS = (-0.5, 0.0, 0.3, 0.6, 0.9)  # of the sides, in health
LEVELS = (1.0, 2.0, 3.0)  # surprise
DRAWN = 2_000_000  # healthy moments for each of them
LIFE = 100  # ticks that a fault is there, on average; three times as many until the next
LIVED = 200_000  # ticks
EVERY = (25, 100, 400)  # ticks from one picture to the next
HALF_LIVES = (0.25, 0.5, 1.0)  # times LIFE ln 2, after which half of the faults are over
THRESHOLD = 4.0  # of the sensors' own alarm, the picture's, and that of both
REMARKABLE = 1.0  # a side of less than this surprise says nothing
SHIFTS = (  # of sensors and pictures, in their standard deviations, and what that is
    (2.5, 2.5, "both a little"),
    (3.2, 3.2, "both more"),
    (5.0, 5.0, "both very"),
    (5.0, 0.0, "sensors alone"),
    (0.0, 5.0, "pictures alone"),
    (5.0, 2.5, "one very, one a little"),
)

Rule = Callable[[F32, F32, F64], NDArray[np.floating]]


def harmonic(sensor: F32, picture: F32, weight: F64) -> F64:
    """The weighted harmonic mean p (Wilson, PNAS 116, 2019), as a surprise."""
    left = np.log(1 - weight) + sensor.astype(np.float64) * np.log(10)
    right = np.log(weight) + picture.astype(np.float64) * np.log(10)
    joined: F64 = np.logaddexp(left, right) / np.log(10)
    return joined


def cauchy(sensor: F32, picture: F32, weight: F64) -> F64:
    """The Cauchy combination without a cap on p."""
    left, right = (
        np.minimum(10.0 ** -side.astype(np.float64), 1 - 1e-9) for side in (sensor, picture)
    )
    total = (1 - weight) / np.tan(np.pi * left) + weight / np.tan(np.pi * right)
    joined: F64 = -np.log10(np.arctan2(1.0, total) / np.pi)
    return joined


def fisher(sensor: F32, picture: F32, weight: F64) -> F64:
    """Fisher's sum of logarithms, weighted: for independent sides only, and here for its order."""
    joined: F64 = (1 - weight) * sensor + weight * picture
    return joined


RULES: Mapping[str, Rule] = {
    "cauchy, p at most .9": combine,
    "cauchy": cauchy,
    "harmonic mean": harmonic,
    "fisher": fisher,
}


def drawn(chance: np.random.Generator, strength: float, fault: NDArray[np.bool_], how: str) -> F64:
    """Raw scores [N] of a side of this AUROC."""
    noise = chance.standard_normal(len(fault))
    distance = np.sqrt(2) * float(ndtri(strength))
    if how == "steady":
        noise += distance * fault
        return noise
    # P(shown) x (AUROC of what is shown - 1/2) = AUROC - 1/2
    shown = (strength - 0.5) / (_normal(FITFUL / np.sqrt(2)) - 0.5)
    noise += FITFUL * (fault & (chance.random(len(fault)) < shown))
    return noise


def grid(how: str, *, seeds: int, moments: int) -> list[dict[str, Any]]:
    """Each pair of strengths: the AUROC of both sides and of what is made of them."""
    found = []
    for sensor in STRENGTHS:
        for picture in STRENGTHS:
            runs = [_one(how, (sensor, picture), seed, moments) for seed in range(seeds)]
            means = {name: float(np.mean([run[name] for run in runs])) for name in runs[0]}
            gains = [run["fused"] - max(run["sensor"], run["picture"]) for run in runs]
            better = max(means["sensor"], means["picture"])
            found.append(
                {
                    "strengths": [sensor, picture],
                    **means,
                    "gain": means["fused"] - better,
                    "worst_gain": min(gains),
                    "equal_gain": means["equal weights"] - better,
                }
            )
    return found


def _one(how: str, strengths: tuple[float, float], seed: int, moments: int) -> dict[str, float]:
    chance = np.random.default_rng([seed, *(round(100 * one) for one in strengths)])
    fault, labels = (np.arange(2 * count) >= count for count in (moments, LABELLED))
    found = []
    for strength in strengths:
        calibration = Calibration.fit(drawn(chance, strength, np.zeros(HEALTHY, np.bool_), how))
        known = auroc(labels, drawn(chance, strength, labels, how))
        found.append((known, calibration.apply(drawn(chance, strength, fault, how))))
    (sensor_auroc, sensor), (picture_auroc, picture) = found
    weight = balance(sensor_auroc=sensor_auroc, picture_auroc=picture_auroc)

    def judged(rule: Rule, share: float) -> float:
        return auroc(fault, rule(sensor, picture, np.full(len(fault), share)))

    return {
        "sensor": auroc(fault, sensor),
        "picture": auroc(fault, picture),
        "fused": judged(combine, weight),
        "equal weights": judged(combine, 0.5),
        "weight": weight,
        **{name: judged(rule, weight) for name, rule in RULES.items() if rule is not combine},
    }


def false_alarms(*, count: int) -> list[dict[str, Any]]:
    """How often healthy sides reach a surprise, by how often they should: 1 is right."""
    found = []
    for together in CORRELATIONS:
        chance = np.random.default_rng([7, round(100 * (1 + together))])
        normal = chance.standard_normal((2, count))
        normal[1] = together * normal[0] + np.sqrt(1 - together**2) * normal[1]
        sensor, picture = (-log_ndtr(-normal) / np.log(10)).astype(np.float32)
        for weight in (0.5, 0.8):
            weights = np.full(count, weight)
            rates = {
                name: [
                    float(np.mean(rule(sensor, picture, weights) >= level) * 10**level)
                    for level in LEVELS
                ]
                for name, rule in RULES.items()
                if rule is not fisher
            }
            found.append({"correlation": together, "weight": weight, **rates})
    return found


def ages(*, ticks: int) -> list[dict[str, Any]]:
    """A machine whose faults come and go, and pictures that are seldom: which law of age is best.

    AUROC over all ticks. The weight fades, or the surprise does, or neither.
    """
    chance = np.random.default_rng(11)
    found = []
    for sensor, picture in ((0.75, 0.9), (0.6, 0.9), (0.75, 0.75), (0.9, 0.9)):
        stays = np.arange(ticks // LIFE) % 2 == 1
        fault = np.repeat(stays, chance.geometric(1 / np.where(stays, LIFE, 3 * LIFE)))[:ticks]
        said, seen = (
            (-log_ndtr(-drawn(chance, one, fault, "steady")) / np.log(10)).astype(np.float32)
            for one in (sensor, picture)
        )
        weight = balance(sensor_auroc=sensor, picture_auroc=picture)
        for every in EVERY:
            taken = np.arange(len(fault)) // every * every
            age, shown = (np.arange(len(fault)) - taken).astype(np.float64), seen[taken]
            row = {
                "strengths": [sensor, picture],
                "every": every,
                "sensors alone": auroc(fault, said),
                "no fading": auroc(fault, combine(said, shown, np.full(len(fault), weight))),
            }
            for part in HALF_LIVES:
                left = fade(age, part * LIFE * np.log(2))
                faded = combine(said, shown, share(weight, left))
                weaker = (shown * left).astype(np.float32)
                row[f"weight, {part:g}"] = auroc(fault, faded)
                row[f"surprise, {part:g}"] = auroc(
                    fault, combine(said, weaker, np.full(len(fault), weight))
                )
            found.append(row)
    return found


def alarms(*, count: int) -> list[dict[str, Any]]:
    """How often in moments of a fault each side's own alarm, and that of both, would be raised.

    By each rule: raised; of that the share with no own alarm, which says something new; and the
    share in which one side is unremarkable, which says again what the other's own alarm says.
    """
    found = []
    for left, right, name in SHIFTS:
        chance = np.random.default_rng(13)
        normal = chance.standard_normal((2, count)) + np.array([[left], [right]])
        sensor, picture = (-log_ndtr(-normal) / np.log(10)).astype(np.float32)
        half = np.full(count, 0.5)
        own = np.maximum(sensor, picture) >= THRESHOLD
        again = np.minimum(sensor, picture) < REMARKABLE
        row = {"fault": name, "own": float(own.mean())}
        for rule, said in (("before", combine), ("after", agreed)):
            raised = said(sensor, picture, half) >= THRESHOLD
            row[rule] = float(raised.mean())
            row[f"{rule}, new"] = float((raised & ~own).mean())
            row[f"{rule}, again"] = float((raised & again).mean())
        found.append(row)
    return found


def false_agreement(*, count: int) -> list[dict[str, Any]]:
    """How often healthy sides both say a surprise, by how often the surprise says: 1 is right."""
    found = []
    for together in CORRELATIONS:
        chance = np.random.default_rng([17, round(100 * (1 + together))])
        normal = chance.standard_normal((2, count))
        normal[1] = together * normal[0] + np.sqrt(1 - together**2) * normal[1]
        sensor, picture = (-log_ndtr(-normal) / np.log(10)).astype(np.float32)
        said = agreed(sensor, picture, np.full(count, 0.5))
        rates = [float(np.mean(said >= level) * 10**level) for level in (*LEVELS, THRESHOLD)]
        found.append({"correlation": together, "agreed": rates})
    return found


def _normal(at: float) -> float:
    return float(np.exp(log_ndtr(at)))


def _shown(found: Mapping[str, Any]) -> None:
    """Tables in Markdown."""
    for how in ("steady", "fitful"):
        rows = [
            [
                *(f"{one:g}" for one in cell["strengths"]),
                *(f"{cell[name]:.3f}" for name in ("sensor", "picture", "fused")),
                *(f"{cell[name]:+.3f}" for name in ("gain", "worst_gain", "equal_gain")),
                *(f"{cell[name]:.3f}" for name in RULES if name in cell),
            ]
            for cell in found[how]
        ]
        head = ["sensors", "pictures", "alone", "alone", "fused", "gain", "worst seed"]
        print(f"{how}\n" + table([*head, "equal weights", *list(RULES)[1:]], rows))
    rows = [
        [
            f"{cell['correlation']:g}",
            f"{cell['weight']:g}",
            *(" ".join(f"{one:.2f}" for one in cell[name]) for name in RULES if name in cell),
        ]
        for cell in found["false_alarms"]
    ]
    print("\nfalse alarms, of what they should be, at a surprise of 1, 2 and 3")
    print(table(["correlation", "weight", *list(RULES)[:3]], rows))
    print("\nhealthy sides that both say a surprise of 1, 2, 3 and 4, of what it says")
    rows = [
        [f"{cell['correlation']:g}", *(f"{one:.2f}" for one in cell["agreed"])]
        for cell in found["false_agreement"]
    ]
    print(table(["correlation", "1", "2", "3", "4"], rows))
    names = list(found["alarms"][0])[1:]
    rows = [[cell["fault"], *(f"{cell[name]:.4f}" for name in names)] for cell in found["alarms"]]
    print(f"\nalarms at {THRESHOLD:g}, share of moments\n" + table(["fault", *names], rows))
    names = list(found["ages"][0])[2:]
    rows = [
        [
            " and ".join(f"{one:g}" for one in cell["strengths"]),
            cell["every"],
            *(f"{cell[name]:.3f}" for name in names),
        ]
        for cell in found["ages"]
    ]
    print("\nage\n" + table(["strengths", "a picture every", *names], rows))


def measure(*, quick: bool) -> dict[str, Any]:
    """All figures."""
    size = {"seeds": 3, "moments": 2000} if quick else {"seeds": SEEDS, "moments": MOMENTS}
    return {
        "seeds": size["seeds"],
        "cap": CAP,
        "steady": grid("steady", **size),
        "fitful": grid("fitful", **size),
        "false_alarms": false_alarms(count=DRAWN // 10 if quick else DRAWN),
        "ages": ages(ticks=LIVED // 10 if quick else LIVED),
        "alarms": alarms(count=DRAWN // 10 if quick else DRAWN),
        "false_agreement": false_agreement(count=DRAWN // 10 if quick else DRAWN),
    }


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="Three seeds, to see that it runs.")
    parser.add_argument("--json", type=Path, default=RESULTS / "fusion.json")
    given = parser.parse_args()
    found = measure(quick=given.quick)
    _shown(found)
    write(given.json, found)


if __name__ == "__main__":
    main()

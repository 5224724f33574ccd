"""Are faults called by their name, and is one that was never taught called unknown?

On the Tennessee Eastman process: the model learns on d00, the head on the fault's run dXX, and
each row from the fault's onset on in dXX_te (161) is named. On the simulator: pumps, of which some
have labelled faults to learn from; others, from which neither model nor head has learnt, are
adopted by the days before their faults, and named while a process alarm stands. Beside it: the same
without the side that a channel went to, the nearest mean without a covariance, the recurrent state,
and the most frequent fault.

    python benchmarks/diagnosis.py --data FOLDER [--seeds 0 1 2] [--quick] [--json FILE]

FOLDER is that of benchmarks/tep.py with dXX beside dXX_te; faults with both are used.

`accuracy` is of the nearest fault, whatever its distance; `named` is the share that is named right
and `named_precision` the share of names that are right where it may say unknown; `named_far` is
what is unknown for its distance, which `unknown_share` is a promise of, and the rest of
`named_unknown` is as near to a second fault. `strange` is the share of a fault's frames that are
called unknown by a head that was not taught it, and `unknown_auroc` how well the distance tells
them from the frames of faults that were. Each episode counts the same, however long. Frames before
the first that may be named count as unknown.
"""

import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import tep
from _detection import (
    F64,
    Figures,
    Found,
    Given,
    LayoutError,
    learn,
    main,
    read_csv,
    say,
    score,
    stretch,
)
from scipy.stats import rankdata

from models.bundle import Bundle
from models.contract import Stretch
from models.diagnosis import BLOCKS, Diagnosis, Episode, features, fit, trail
from models.naming import UNKNOWN
from models.settings import DiagnosisSettings, TrainingSettings
from monitor.live.clock import SystemClock
from monitor.site import plant
from monitor.site.config import Config
from monitor.site.labels import Label
from monitor.site.simulate.chance import even, key
from monitor.site.simulate.faults import FAULTS, Family, Fault
from monitor.site.simulate.machines import KINDS
from monitor.site.simulate.recordings import Recordings, tree
from monitor.site.simulate.recordings import write as record
from monitor.site.simulate.unit import DAY_MS
from monitor.site.teaching import alarms_of

# T ticks, C channels, F features, K faults, N frames

SETTINGS = DiagnosisSettings()
LEAD = "blame and its side"


@dataclass(frozen=True, slots=True)
class Shown:
    """One episode of a known fault, to be named."""

    fault: str
    features: F64  # [T, F]
    early: int = 0  # ticks before, in which nothing may be named


def figures(taught: Sequence[Episode], shown: Sequence[Shown]) -> dict[str, float]:
    """How a head taught by these names those, and what it was not taught."""
    return _named(taught, shown) | _left_out(taught, shown)


def _named(taught: Sequence[Episode], shown: Sequence[Shown]) -> dict[str, float]:
    head = fit(taught, SETTINGS)
    away = [head.distances(one.features) for one in shown]
    nearest = [[head.card.faults[k] for k in each.argmin(axis=1)] for each in away]
    far = [(each.min(axis=1) > head.card.limit).mean() for each in away]
    return _judged(shown, _whole(shown, nearest), _names(head, shown)) | {
        "named_far": float(np.mean(far))
    }


def _names(head: Diagnosis, shown: Sequence[Shown]) -> list[list[str]]:
    """What the head calls each tick of each episode."""
    return _whole(shown, [[name.fault for name in head.named(one.features)] for one in shown])


def _whole(
    shown: Sequence[Shown], names: Sequence[Sequence[str]], early: str = UNKNOWN
) -> list[list[str]]:
    """Names with the ticks before them in which there could be none."""
    return [[early] * one.early + list(own) for one, own in zip(shown, names, strict=True)]


def _judged(
    shown: Sequence[Shown], nearest: Sequence[Sequence[str]], names: Sequence[Sequence[str]]
) -> dict[str, float]:
    """The figures of who must name each tick, and of who may say unknown."""
    right = float(np.mean([_share(own, one.fault) for one, own in zip(shown, names, strict=True)]))
    unknown = float(np.mean([_share(own, UNKNOWN) for own in names]))
    ends = [own[-1] == one.fault for one, own in zip(shown, names, strict=True)]
    return _shares(shown, nearest) | {
        "named": right,
        "named_unknown": unknown,
        "named_precision": right / max(1 - unknown, 1e-9),
        "named_at_end": float(np.mean(ends)),
    }


def _left_out(taught: Sequence[Episode], shown: Sequence[Shown]) -> dict[str, float]:
    """Each fault as one that was never taught: told from those that were, by the distance."""
    areas, strange = [], []
    for fault in sorted({one.fault for one in shown} & {one.fault for one in taught}):
        head = fit([one for one in taught if one.fault != fault], SETTINGS)
        away = {True: [], False: []}  # type: dict[bool, list[F64]]
        for one in shown:
            away[one.fault == fault].append(head.distances(one.features).min(axis=1))
        known, unknown = np.concatenate(away[False]), np.concatenate(away[True])
        ranks = rankdata(np.concatenate([unknown, known]))[: len(unknown)].sum()
        least = len(unknown) * (len(unknown) + 1) / 2
        areas.append((ranks - least) / (len(unknown) * len(known)))
        names = [
            name.fault for one in shown if one.fault == fault for name in head.named(one.features)
        ]
        strange.append(names.count(UNKNOWN) / len(names))
    return {"unknown_auroc": float(np.mean(areas)), "strange": float(np.mean(strange))}


def _share(names: Sequence[str], name: str) -> float:
    return list(names).count(name) / len(names)


def _shares(shown: Sequence[Shown], names: Sequence[Sequence[str]]) -> dict[str, float]:
    """Accuracy and its kin of names [T] of each episode."""
    faults = sorted({one.fault for one in shown})
    confusion = _confusion(shown, names)
    recall = {fault: confusion[fault][fault] for fault in faults}
    count = {fault: sum(one.fault == fault for one in shown) for fault in faults}
    called = {fault: sum(count[one] * confusion[one][fault] for one in faults) for fault in faults}
    precision = {f: count[f] * recall[f] / called[f] if called[f] else 0.0 for f in faults}
    return {
        "accuracy": sum(count[f] * recall[f] for f in faults) / len(shown),
        "balanced_accuracy": float(np.mean(list(recall.values()))),
        "macro_precision": float(np.mean(list(precision.values()))),
        **{f"recall_{fault}": value for fault, value in recall.items()},
        **{f"precision_{fault}": value for fault, value in precision.items()},
    }


def _confusion(
    shown: Sequence[Shown], names: Sequence[Sequence[str]]
) -> dict[str, dict[str, float]]:
    """Fault -> name -> share of the fault's episodes that has it."""
    found: dict[str, dict[str, float]] = {}
    every = sorted({*(one.fault for one in shown), *(name for given in names for name in given)})
    for fault in sorted({one.fault for one in shown}):
        own = [given for one, given in zip(shown, names, strict=True) if one.fault == fault]
        found[fault] = {
            name: float(np.mean([_share(given, name) for given in own])) for name in every
        }
    return found


def _certain(shown: Sequence[Shown], names: Sequence[Sequence[str]]) -> dict[str, float]:
    """The figures of what never says unknown."""
    whole = _whole(shown, names, early="")
    strange = {"named_far": 0.0, "unknown_auroc": 0.5, "strange": 0.0}
    return _judged(shown, whole, whole) | strange


def plain(taught: Sequence[Episode], shown: Sequence[Shown]) -> dict[str, float]:
    """The nearest mean, without a covariance."""
    faults = sorted({one.fault for one in taught})
    means = np.stack(
        [
            np.mean([one.features.mean(axis=0) for one in taught if one.fault == fault], axis=0)
            for fault in faults
        ]
    )
    names = []
    for one in shown:
        away = np.square(one.features[:, None] - means).sum(axis=2)
        names.append([faults[k] for k in away.argmin(axis=1)])
    return _certain(shown, names)


def majority(taught: Sequence[Episode], shown: Sequence[Shown]) -> dict[str, float]:
    """The fault that most episodes were of."""
    names = [one.fault for one in taught]
    most = max(sorted(set(names)), key=names.count)
    return _certain(shown, [[most] * len(one.features) for one in shown])


Method = Callable[[Sequence[Episode], Sequence[Shown]], dict[str, float]]
METHODS: Mapping[str, tuple[Method, str]] = {
    LEAD: (figures, "blame side"),
    "blame alone": (figures, "blame"),
    "nearest mean": (plain, "blame side"),
    "nearest mean of blame": (plain, "blame"),
    "most frequent": (majority, "blame"),
}
BASELINES = ("nearest mean", "nearest mean of blame", "most frequent")


@dataclass(frozen=True, slots=True)
class Compared:
    """What one set gave with one seed."""

    figures: Mapping[str, dict[str, float]]  # of each method
    confusion: dict[str, dict[str, float]]
    state: Mapping[str, dict[str, float]] = field(default_factory=dict)  # with the recurrent state


def _compared(
    prefix: str, taught: Sequence[Episode], shown: Sequence[Shown]
) -> dict[str, dict[str, float]]:
    """Every method; blame is in the first half of the features, its side in the second."""
    found = {}
    for name, (method, uses) in METHODS.items():
        wide = taught[0].features.shape[1] // (1 if "side" in uses else 2)
        found[name] = {
            f"{prefix}_{metric}": value
            for metric, value in method(
                [replace(one, features=one.features[:, :wide]) for one in taught],
                [replace(one, features=one.features[:, :wide]) for one in shown],
            ).items()
        }
    return found


# ---- Tennessee Eastman -------------------------------------------------------------------------


def tennessee(given: Given, seed: int) -> Compared:
    """The Tennessee Eastman process."""
    runs, taught_runs = _runs(given.data)
    training = TrainingSettings(seed=seed, epochs=3 if given.quick else 40, device="cpu")
    bundle = learn([runs.healthy], runs.names, tep.GRU, training).bundle
    numbers = [number for number in runs.faults if number in taught_runs]
    taught_on, shown_on = [taught_runs[n] for n in numbers], [runs.faults[n] for n in numbers]
    taught = [
        Episode(fault=f"d{number:02d}", asset="process", features=trail(each, SETTINGS))
        for number, each in zip(numbers, _features(bundle, taught_on), strict=True)
    ]
    shown = [
        Shown(f"d{number:02d}", trail(each[tep.BEFORE :], SETTINGS), SETTINGS.least_ticks - 1)
        for number, each in zip(numbers, _features(bundle, shown_on), strict=True)
    ]
    found = _compared("tep", taught, shown)
    for each in found.values():
        easy = [each[f"tep_recall_d{n:02d}"] for n in numbers if n not in tep.HARD]
        each["tep_accuracy_easy"] = float(np.mean(easy))
    wider = {}
    for name, take in (("state alone", 0), ("blame, its side and state", 1)):
        own = [
            [
                np.concatenate([each[len(each) - len(state) :] * take, state], axis=1)
                for each, state in zip(*pair, strict=True)
            ]
            for pair in (
                (_features(bundle, taught_on), _states(bundle, taught_on)),
                (_features(bundle, shown_on), _states(bundle, shown_on)),
            )
        ]
        wider[name] = _named(
            [
                replace(one, features=trail(each, SETTINGS))
                for one, each in zip(taught, own[0], strict=True)
            ],
            [
                replace(one, features=trail(each[tep.BEFORE :], SETTINGS))
                for one, each in zip(shown, own[1], strict=True)
            ],
        )
    return Compared(found, _confusion(shown, _names(fit(taught, SETTINGS), shown)), wider)


def _runs(folder: Path) -> tuple[tep.Runs, dict[int, Stretch]]:
    """What benchmarks/tep.py reads, and dXX beside it. Raises LayoutError."""
    runs = tep.read(folder)
    found = {}
    for path in sorted(folder.iterdir()):
        if (match := re.fullmatch(r"d(\d+)\.csv(?:\.gz)?", path.name)) and int(match[1]):
            columns = read_csv(path)
            value = np.stack([columns[name].astype(np.float64) for name in runs.names], axis=1)
            found[int(match[1])] = stretch(match[1], value, tick_ms=tep.TICK_MS)
    if len(found.keys() & runs.faults.keys()) < 2:
        raise LayoutError(f"{folder}: want dXX and dXX_te of two faults or more")
    return runs, found


def _features(bundle: Bundle, runs: Sequence[Stretch]) -> list[F64]:
    return [features(one.blame, one.value, one.expected) for one in score(bundle, runs)]


def _states(bundle: Bundle, runs: Sequence[Stretch]) -> list[F64]:
    """The hidden state of the network at each tick [T, H] of each run."""
    found = []
    for one in runs:
        state, hidden = bundle.initial(1), []
        for value, valid in zip(one.value, one.valid, strict=True):
            _, state = bundle.step(value[None], valid[None], state)
            hidden.append(state["hidden"][0].numpy().astype(np.float64))
        found.append(np.stack(hidden))
    return found


# ---- simulator ---------------------------------------------------------------------------------

KIND = "pump"
BEGIN_MS = 20_454 * DAY_MS  # 2026-01-01
PERIOD_MS = 60_000
HEALTHY_DAYS = 7
LONGEST_MS = 2 * DAY_MS  # of a fault
REST_MS = DAY_MS // 2  # between two of a machine
SEVERITY = (0.8, 1.6)  # from, to
MODEL = {"type": "ewma"}


def simulated(given: Given, seed: int) -> Compared:
    """The simulator; besides, how many episodes had an alarm to name."""
    learnt, others = (3, 2) if given.quick else (8, 6)
    names = [f"{KIND}_{number}" for number in range(1, learnt + others + 1)]
    faults = [(name, fault) for name in names for fault in _faults(name, seed)]
    what = Recordings(
        machines={KIND: len(names)},
        seed=20_260_201 + seed,
        begin_ms=BEGIN_MS,
        days=HEALTHY_DAYS + -(-max(fault.end_ms for _, fault in faults) // DAY_MS),
        period_ms=PERIOD_MS,
        faults=[(name, fault.later(BEGIN_MS + HEALTHY_DAYS * DAY_MS)) for name, fault in faults],
        healthy_ms=BEGIN_MS + HEALTHY_DAYS * DAY_MS,
    )
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "plant"
        record(what, folder, progress=lambda name, _share: say(f"simulating {name}"))
        given_tree = tree(what, list(what.units()))
        given_tree["kinds"][KIND]["training"] |= {
            "assets": names[:learnt],
            "model": MODEL,
            "fit": {"seed": seed},
        }
        config = Config.from_data(given_tree | {"config_version": 1}, base=folder)
        plant.learn(
            config,
            KIND,
            clock=SystemClock(),
            progress=lambda _epoch: None,
            should_stop=lambda: False,
        )
        for name in names[learnt:]:
            plant.adopt_asset(config, name, clock=SystemClock(), since=None, until=None)
        say(f"scoring, seed {seed}")
        bundle = plant.bundles(config)[KIND]
        labels = [
            Label(
                line=line,
                asset=name,
                fault=fault.name,
                onset=fault.onset_ms * 1_000_000,
                end=fault.end_ms * 1_000_000,
            )
            for line, (name, fault) in enumerate(what.faults, start=2)
        ]
        alarms = alarms_of(config, KIND, bundle, labels, SETTINGS, clock=SystemClock())
    taught, shown = [], []
    for label, seen in zip(labels, alarms, strict=True):
        if seen is not None and len(seen) >= BLOCKS:
            if label.asset in names[:learnt]:
                taught.append(Episode(fault=label.fault, asset=label.asset, features=seen))
            else:
                shown.append(Shown(label.fault, seen))
    known = {one.fault for one in taught}
    count, shown = len(shown), [one for one in shown if one.fault in known]
    found = _compared("sim", taught, shown)
    unseen = [label for label in labels if label.asset not in names[:learnt]]
    for each in found.values():
        each["sim_alarmed"] = count / len(unseen)
        each["sim_taught_episodes"] = float(len(taught))
    return Compared(found, _confusion(shown, _names(fit(taught, SETTINGS), shown)))


def _faults(name: str, seed: int) -> list[Fault]:
    """One of each kind of a process, in an order and of severities by chance."""
    chance = float(even(key(seed, name), 0)[0])
    kinds = [f for f in KINDS[KIND].faults if FAULTS[f].family is Family.PROCESS]
    kinds = kinds[int(chance * len(kinds)) :] + kinds[: int(chance * len(kinds))]
    found, at_ms = [], DAY_MS
    for fault in kinds:
        share = float(even(key(seed, name, fault), 1)[0])
        lasts_ms = min(FAULTS[fault].lasts_ms, LONGEST_MS)
        severity = round(SEVERITY[0] + (SEVERITY[1] - SEVERITY[0]) * share, 2)
        found.append(Fault(name=fault, onset_ms=at_ms, end_ms=at_ms + lasts_ms, severity=severity))
        at_ms += lasts_ms + REST_MS
    return found


# ---- both --------------------------------------------------------------------------------------


def measure(given: Given) -> Found:
    """Every method on both, each seed."""
    found: dict[str, list[Figures]] = {name: [] for name in METHODS}
    confused: dict[str, list[dict[str, dict[str, float]]]] = {"tep": [], "simulator": []}
    states = []
    for seed in given.seeds:
        say(f"Tennessee Eastman, seed {seed}")
        one, other = tennessee(given, seed), simulated(given, seed)
        for name in METHODS:
            found[name].append(one.figures[name] | other.figures[name])
        confused["tep"].append(one.confusion)
        confused["simulator"].append(other.confusion)
        states.append(one.state)
    chosen = {
        "head": SETTINGS.model_dump(),
        "tep": tep.GRU.model_dump(),
        "simulator": MODEL,
        "confusion": confused,
        "tep_with_state": states,
    }
    return Found(lead=LEAD, baselines=BASELINES, models=found, chosen=chosen)


if __name__ == "__main__":
    main("diagnosis", __doc__ or "", measure)

"""The benchmark of diagnosis judges names as its protocol says."""

import importlib
import itertools
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from models.diagnosis import Episode

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("diagnosis")


def around(place: int, seed: int) -> np.ndarray:
    chance = np.random.default_rng([place, seed])
    level = np.eye(4)[place] + chance.normal(0, 0.03, 4)
    shown: np.ndarray = level + chance.normal(0, 0.05, (20, 4))
    return shown


def school() -> list[Episode]:
    return [
        Episode(fault=f"f{k}", asset=f"m{n}", features=around(k, n))
        for k in range(3)
        for n in range(4)
    ]


def test_faults_that_are_told_apart_have_full_marks_and_a_strange_one_is_unknown(
    script: ModuleType,
) -> None:
    shown = [script.Shown(f"f{k}", around(k, 9)) for k in range(3)]
    found = script.figures(school(), shown)
    assert found["accuracy"] == found["macro_precision"] == found["recall_f0"] == 1.0
    assert found["named"] > 0.8
    assert found["named_precision"] == pytest.approx(1.0)
    assert found["strange"] > 0.9
    assert found["unknown_auroc"] > 0.99


def test_of_what_is_unknown_it_is_said_how_much_is_so_for_its_distance(script: ModuleType) -> None:
    shown = [script.Shown("f0", around(0, 9)), script.Shown("f1", 3.0 * around(3, 9), early=20)]
    found = script.figures(school(), shown)
    assert found["named_unknown"] == found["named_far"] == 0.5


def test_frames_that_come_too_early_for_a_name_count_as_not_named(script: ModuleType) -> None:
    whole = [script.Shown(f"f{k}", around(k, 9)) for k in range(3)]
    late = [script.Shown(f"f{k}", around(k, 9), early=20) for k in range(3)]
    one, other = script.figures(school(), whole), script.figures(school(), late)
    assert other["accuracy"] == one["accuracy"] / 2
    assert other["named"] == pytest.approx(one["named"] / 2)
    assert other["named_unknown"] >= 0.5


def test_an_episode_counts_the_same_however_long_it_is(script: ModuleType) -> None:
    shown = [script.Shown("a", np.zeros((10, 4))), script.Shown("b", np.zeros((90, 4)))]
    found = script._shares(shown, [["a"] * 10, ["a"] * 90])
    assert found["accuracy"] == found["balanced_accuracy"] == 0.5
    assert (found["precision_a"], found["precision_b"]) == (0.5, 0.0)


def test_every_machine_of_the_simulator_has_each_fault_once_and_never_two_at_a_time(
    script: ModuleType,
) -> None:
    faults = script._faults("pump_1", 0)
    assert len({fault.name for fault in faults}) == len(faults) == 8
    for before, after in itertools.pairwise(faults):
        assert after.onset_ms - before.end_ms >= script.REST_MS
    assert script._faults("pump_1", 0) == faults
    assert script._faults("pump_2", 0) != faults

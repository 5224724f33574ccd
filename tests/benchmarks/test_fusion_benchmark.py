"""The benchmark of fusion, small: what it shows on twenty seeds holds on a few."""

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("fusion")


@pytest.mark.parametrize("how", ["steady", "fitful"])
def test_both_sides_are_as_good_as_the_better_one_and_better_where_they_are_alike(
    script: ModuleType, how: str
) -> None:
    found = script.grid(how, seeds=3, moments=2000)
    assert len(found) == 9
    for cell in found:
        for side, strength in zip(("sensor", "picture"), cell["strengths"], strict=True):
            assert cell[side] == pytest.approx(strength, abs=0.02)
        assert cell["gain"] >= -0.01
        if cell["strengths"] == [0.75, 0.75]:
            assert cell["gain"] >= 0.03


def test_sides_that_depend_on_each_other_raise_no_more_false_alarms(script: ModuleType) -> None:
    for cell in script.false_alarms(count=200_000):
        assert max(cell["cauchy, p at most .9"][:2]) < 1.15


def test_a_picture_that_fades_takes_nothing_from_the_sensors_and_gives_where_it_is_fresh(
    script: ModuleType,
) -> None:
    for cell in script.ages(ticks=40_000):
        gain = cell["weight, 0.25"] - cell["sensors alone"]
        assert gain > (0.02 if cell["every"] == 25 else -0.01)


def test_equal_scores_count_half(script: ModuleType) -> None:
    assert script.auroc(np.array([True, False, True, False]), np.array([1.0, 1, 1, 1])) == 0.5
    assert script.auroc(np.array([False, False, True, True]), np.array([1.0, 2, 3, 4])) == 1.0


def test_an_alarm_of_both_finds_what_neither_side_alarms_at_and_says_nothing_again(
    script: ModuleType,
) -> None:
    found = {cell["fault"]: cell for cell in script.alarms(count=100_000)}
    assert found["both a little"]["after, new"] > 0.2
    for cell in found.values():
        assert cell["before, new"] < 1e-4  # it never goes beyond the stronger side
        assert cell["after, again"] == 0
    for one in ("sensors alone", "pictures alone"):
        assert found[one]["before, again"] > 0.7
        assert found[one]["after"] < 0.012
    (apart,) = [one for one in script.false_agreement(count=200_000) if one["correlation"] == 0]
    assert apart["agreed"][:2] == pytest.approx([1, 1], rel=0.1)

"""The tables of detection figures in docs/benchmarks.md are the figures that are kept."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/benchmarks.md").read_text(encoding="utf-8")
Numbers = Sequence[float]  # of a cell: those that it shows, in their order

# what a column is called, and the metric that it shows
COLUMNS: Mapping[str, Mapping[str, str]] = {
    "skab": {"F1": "f1", "FAR %": "far", "MAR %": "mar", "NAB": "nab_standard"},
    "tep": {
        "found % at FAR 1 %": "fdr_far1",
        "before the fault": "prefault_far1",
        "faults 3, 9, 15": "fdr_far1_hard",
        "found % at FAR 5 %": "fdr_far5",
    },
    "nab": {"standard": "standard", "few false alarms": "low_fp"},
    "smap_msl": {
        "TSB-AD multivariate (20)": "vus_pr_multivariate",
        "univariate (13)": "vus_pr_univariate",
        "all 54": "vus_pr",
    },
    "actuator": {
        "AUC": "auc",
        "healthy strokes above the lowest damaged one, %": "far_at_full_detection",
    },
}
# without a network, joined with one, the network by itself
RECURRENT: Mapping[str, tuple[str, str, tuple[str, str, str]]] = {
    "SKAB, F1": ("skab", "f1", ("ensemble without networks", "ensemble", "masked GRU")),
    "TEP, easy faults found % at FAR 1 %": (
        "tep",
        "fdr_far1",
        ("whitened lags", "ensemble of GRU and whitened lags", "GRU"),
    ),
    "NAB, standard": (
        "nab",
        "standard",
        ("half-day mean, drifting level and spread", "the first and a GRU", "GRU"),
    ),
    "SMAP and MSL, VUS-PR of all 54": (
        "smap_msl",
        "vus_pr",
        (
            "nearest example, drifting level",
            "nearest example and the GRU",
            "GRU, one for all channels",
        ),
    ),
    "actuators, AUC": (
        "actuator",
        "auc",
        ("EWMA-Mahalanobis of the travel", "the first and a GRU", "GRU"),
    ),
}


def kept(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / f"benchmarks/results/{name}.json").read_text())
    return found


def figures(name: str) -> dict[str, dict[str, Numbers]]:
    """Of each model: metric to mean, least and most of a seed."""
    found = kept(name)
    own = {"metrics": found["metrics"], "spread": found["spread"]}
    plain = {model: {"metrics": each, "spread": {}} for model, each in found["baselines"].items()}
    return {
        model: {
            metric: [mean, *each["spread"].get(metric, ())]
            for metric, mean in each["metrics"].items()
        }
        for model, each in ({found["model"]: own} | plain | found["ablations"]).items()
    }


def table(*columns: str) -> dict[str, list[str]]:
    """The cells of each row of the one table that has these columns, by the row's first cell."""
    tables = re.findall(r"^(?:\|.*\n)+", PAGE, re.MULTILINE)
    cells = [
        [[cell.strip() for cell in line.strip("|").split("|")] for line in one.splitlines()]
        for one in tables
    ]
    (rows,) = [one[2:] for one in cells if tuple(one[0][1:]) == columns]
    return {row[0].replace("*", ""): row[1:] for row in rows}


def differ(shown: Mapping[str, Sequence[str]], true: Mapping[str, Sequence[Numbers]]) -> list[str]:
    """Cells whose numbers are not those of the results, to as many digits as they have."""
    wrong = []
    for row, cells in shown.items():
        for cell, numbers in zip(cells, true[row], strict=True):
            texts = [text.replace(",", "") for text in re.findall(r"-?\d[\d,]*\.?\d*", cell)]
            places = [len(text.partition(".")[2]) for text in texts]
            if texts != [f"{n:.{p}f}" for n, p in zip(numbers, places, strict=False)] or not texts:
                wrong.append(f"{row}: {cell}, want {numbers}")
    return wrong


@pytest.mark.parametrize("name", COLUMNS)
def test_a_table_of_models_shows_all_of_them_as_they_came_out(name: str) -> None:
    columns = COLUMNS[name]
    true = figures(name)
    shown = table(*columns)

    assert set(shown) == set(true)
    assert next(iter(shown)) == kept(name)["model"]
    wanted = {model: [each[key] for key in columns.values()] for model, each in true.items()}
    assert differ(shown, wanted) == []


def test_what_the_recurrent_part_adds_is_said_as_it_came_out() -> None:
    shown = table("without", "with", "the network alone")

    assert set(shown) == set(RECURRENT)
    wanted = {
        row: [figures(name)[model][metric] for model in models]
        for row, (name, metric, models) in RECURRENT.items()
    }
    assert differ(shown, wanted) == []


def test_what_was_proven_is_said_as_it_came_out() -> None:
    titles = {"skab": "SKAB", "tep": "TEP", "nab": "NAB", "smap_msl": "SMAP and MSL"}
    wanted = {
        f"{titles.get(name, 'actuators')}, {model}": [[proof["frames"]], [proof["ageing"]]]
        for name in COLUMNS
        for model, proof in kept(name).get("proofs", {}).items()
    }
    shown = table("frames compared", "cost")

    assert set(shown) == set(wanted)
    assert differ(shown, wanted) == []


def test_what_is_kept_of_an_alarm_budget_is_said_as_it_came_out() -> None:
    wanted = {
        row: [
            list(one["of_budget"].values()),
            [100 * one["within_upper_bound"]],
            [100 * one["provisional"]],
        ]
        for row, one in kept("budget")["realised"].items()
    }
    shown = table("alarms as a share of the budget", "under the bound", "provisional")

    assert set(shown) == set(wanted)
    assert differ(shown, wanted) == []

"""The detection benchmarks run on any folder of their layout, and judge as their protocols say."""

import gzip
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def script(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A benchmark as a module; its neighbours are found as when it runs by itself."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module(name)


def run(name: str, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """The benchmark, as a person starts it."""
    return subprocess.run(
        [sys.executable, BENCHMARKS / f"{name}.py", "--data", folder, "--quick", *more],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def write_tep(folder: Path) -> None:
    """Four variables with a common cause; fault 21 moves one of them, fault 9 none."""
    folder.mkdir()
    chance = np.random.default_rng(1)
    mixing = chance.normal(size=(4, 4))
    for name, rows in (("d00", 300), ("d00_te", 400), ("d21_te", 260), ("d09_te", 260)):
        value = chance.normal(size=(rows, 4)) @ mixing
        value[160:, 2] += 20.0 if name == "d21_te" else 0.0
        lines = ["sample,A,B,C,D"]
        lines += [f"{n + 1}," + ",".join(f"{x:.6g}" for x in row) for n, row in enumerate(value)]
        text = "\n".join(lines) + "\n"
        if name == "d21_te":
            (folder / f"{name}.csv").write_text(text, encoding="utf-8")
        else:
            with gzip.open(folder / f"{name}.csv.gz", "wt", encoding="utf-8") as file:
                file.write(text)


def test_tep_scores_whatever_faults_are_there_and_proves_that_live_scores_are_the_same(
    tmp_path: Path,
) -> None:
    write_tep(tmp_path / "tep")
    kept = tmp_path / "tep.json"

    done = run("tep", tmp_path / "tep", "--check", "--json", str(kept))

    assert done.returncode == 0, done.stderr
    assert "give the same bits" in done.stdout
    found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
    assert found["set"] == "tep"
    assert found["seeds"] == [0]
    assert found["metrics"].keys() == {
        f"{name}_far{rate}"
        for rate in (1, 5)
        for name in ("fdr", "prefault", "fault_21", "fault_9")
    } | {"fdr_far1_hard", "fdr_far5_hard"}
    assert found["metrics"]["fdr_far1"] == found["metrics"]["fault_21_far1"] > 95
    assert found["metrics"]["fdr_far1_hard"] < 20
    assert found["spread"]["fdr_far1"] == [found["metrics"]["fdr_far1"]] * 2
    assert found["baselines"].keys() >= {"PCA T2", "PCA SPE"}
    assert found["cpu_s"] > 0
    assert {"machine", "command"} <= found.keys()


def test_tep_says_which_run_a_folder_lacks(tmp_path: Path) -> None:
    write_tep(tmp_path / "tep")
    (tmp_path / "tep" / "d00_te.csv.gz").unlink()

    done = run("tep", tmp_path / "tep")

    assert done.returncode == 1
    assert "no d00_te" in done.stderr


def test_tep_sets_the_threshold_on_the_other_healthy_run_and_never_on_the_faults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tep = script("tep", monkeypatch)
    healthy = np.arange(1000.0)
    fault = np.concatenate([np.full(160, 991.0), np.full(100, 980.0), np.full(100, 2000.0)])

    found = tep.figures(healthy, {4: fault})

    assert found["fdr_far1"] == 50.0  # half of the rows of the fault are over 989.01
    assert found["fdr_far5"] == 100.0
    assert found["prefault_far1"] == 100.0
    assert "fdr_far1_hard" not in found

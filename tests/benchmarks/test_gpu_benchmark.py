"""The benchmark of a GPU still runs, without one too: by the GPU's code, on the CPU."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support.benchmarks import start


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_quick_run_measures_every_part_and_finds_the_same_scores(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "gpu.json"

    start("gpu", "--device", "cpu", "--quick", "--json", kept)

    found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
    assert {"cpu", "cores", "torch"} <= found["machine"].keys()
    assert found["device"] == "cpu"
    for part in ("network", "step", "end_to_end"):
        assert found[part].keys() == {"1 assets", "10 assets"}
        assert all(case["ratio"] > 0 and case["delta"] <= 1e-3 for case in found[part].values())
    assert found["sweep"].keys() == {"network", "network and judge", "numpy to numpy"}
    assert all(case["readings_per_s"] > 0 for case in found["sweep"].values())
    assert found["training"]["ratio"] > 0
    assert min(found["roofline"].values()) > 0
    for way in found["accuracy"].values():
        assert way["delta_surprise"] <= 1e-3
        assert way["over_threshold"] > 0
        assert way["over_on_one_only"] == 0
    assert "times faster" in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_without_a_gpu_it_says_so_and_leaves_the_figures_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "gpu.json"

    start("gpu", "--json", kept)

    assert "No CUDA device here" in capsys.readouterr().out
    assert not kept.exists()

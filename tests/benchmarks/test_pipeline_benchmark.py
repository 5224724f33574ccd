"""The benchmark of the step still runs, and both of its sides still compute the same."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.benchmarks import start


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_quick_run_finds_both_sides_equal_and_says_where_it_ran(tmp_path: Path) -> None:
    kept = tmp_path / "pipeline.json"

    start("pipeline", "--quick", "--json", kept)

    found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
    assert {"cpu", "cores", "torch"} <= found["machine"].keys()
    assert "--quick" in found["command"]
    for case in found["samples_to_results"].values():
        assert max(case["delta_raw"], case["delta_surprise"]) <= 1e-4
        assert case["ratio"] > 0
    assert found["step"].keys() == found["network"].keys() == {"1 assets", "10 assets"}

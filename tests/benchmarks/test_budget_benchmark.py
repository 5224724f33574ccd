"""The benchmark of the alarm budget still runs, and says when a history is too short."""

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "budget.py"


def test_a_quick_run_counts_alarms_on_fresh_machines(tmp_path: Path) -> None:
    kept = tmp_path / "budget.json"

    subprocess.run(
        [sys.executable, SCRIPT, "--quick", "--json", kept],
        check=True,
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )

    found = json.loads(kept.read_text(encoding="utf-8"))["realised"]
    assert found["exponential, 0.3 allowed"]["provisional"] == 1
    assert found["exponential, 1.5 allowed"]["provisional"] == 0
    assert all(0 <= one["mean_of_budget"] < 10 for one in found.values())

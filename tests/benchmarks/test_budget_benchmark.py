"""The benchmark of the alarm budget still runs, and says when a history is too short."""

import json
from pathlib import Path

from support.benchmarks import start


def test_a_quick_run_counts_alarms_on_fresh_machines(tmp_path: Path) -> None:
    kept = tmp_path / "budget.json"

    start("budget", "--quick", "--json", kept)

    found = json.loads(kept.read_text(encoding="utf-8"))["realised"]
    assert found["exponential, 0.3 allowed"]["provisional"] == 1
    assert found["exponential, 1.5 allowed"]["provisional"] == 0
    assert all(0 <= one["mean_of_budget"] < 10 for one in found.values())

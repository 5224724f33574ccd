"""The benchmark of line protocol still runs, and both of its sides still write the same points."""

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "line_protocol.py"


def test_a_quick_run_finds_both_sides_equal(tmp_path: Path) -> None:
    kept = tmp_path / "line_protocol.json"

    subprocess.run(
        [sys.executable, SCRIPT, "--quick", "--json", kept],
        check=True,
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )

    found = json.loads(kept.read_text(encoding="utf-8"))
    assert all(case["ratio"] > 0 for case in found["points"].values())

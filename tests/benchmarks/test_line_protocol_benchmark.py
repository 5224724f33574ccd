"""The benchmark of line protocol still runs, and both of its sides still write the same points."""

import json
from pathlib import Path

from support.benchmarks import start


def test_a_quick_run_finds_both_sides_equal(tmp_path: Path) -> None:
    kept = tmp_path / "line_protocol.json"

    start("line_protocol", "--quick", "--json", kept)

    found = json.loads(kept.read_text(encoding="utf-8"))
    assert all(case["ratio"] > 0 for case in found["points"].values())

"""The benchmark of latency still runs: what was planted is found, scored and told."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.servers import program

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "latency.py"


@pytest.mark.slow
@pytest.mark.broker
@pytest.mark.timeout(120)
def test_a_quick_run_follows_every_sample_to_its_score_and_every_crossing_to_its_webhook(
    tmp_path: Path,
) -> None:
    program("mosquitto")
    kept = tmp_path / "latency.json"

    subprocess.run(
        [sys.executable, SCRIPT, "--quick", "--json", kept],
        check=True,
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )

    found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
    assert {"cpu", "cores", "torch"} <= found["machine"].keys()
    (ways,) = found["ways"].values()
    for way in ("score", "webhook"):
        assert ways[way]["count"] == ways[way]["due"] > 0
        assert 0 < ways[way]["ours_p50_ms"] <= ways[way]["p50_ms"]

"""The benchmark of ingest still runs: both sides take everything that they are fed with."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.servers import program

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "ingest.py"
COLUMNS = {"us", "us_worst", "peer_us", "peer_us_worst", "a_second", "peer_a_second", "ratio"}


@pytest.mark.slow
@pytest.mark.broker
@pytest.mark.timeout(240)
def test_a_quick_run_measures_each_shape_of_message_and_changes(tmp_path: Path) -> None:
    program("mosquitto")
    kept = tmp_path / "ingest.json"

    subprocess.run(
        [sys.executable, SCRIPT, "--quick", "--json", kept],
        check=True,
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )

    found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
    assert {"cpu", "cores", "torch"} <= found["machine"].keys()
    assert len(found["mqtt"]) == 3
    assert len(found["opcua"]) == 1
    for case in (*found["mqtt"].values(), *found["opcua"].values()):
        assert case.keys() == COLUMNS
        assert min(case.values()) > 0


def test_without_a_broker_it_says_so_and_leaves_the_figures_alone(tmp_path: Path) -> None:
    without = (
        "import sys, _service; _service.program = lambda _: None; import ingest; ingest.main()"
    )

    done = subprocess.run(
        [sys.executable, "-c", without, "--json", tmp_path / "ingest.json"],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{SCRIPT.parent}:{SCRIPT.parents[1]}"},
    )

    assert "No mosquitto here" in done.stdout
    assert not (tmp_path / "ingest.json").exists()

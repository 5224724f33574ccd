"""`watchkeeper example` as a user and as a script see it."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from support.commands import watchkeeper
from typer.testing import CliRunner

from monitor.cli import app


def example(*words: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["example", *words])
    return result.exit_code, result.stdout, result.stderr


def test_without_a_name_it_lists_what_there_is() -> None:
    code, text, _ = example()

    assert code == 0
    assert {"config", "files", "gru"} <= {line.split()[0] for line in text.splitlines()}


def test_the_printed_plant_can_be_checked_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _, text, _ = example("config")
    (tmp_path / "plant.yaml").write_text(text, encoding="utf-8")

    result = CliRunner().invoke(app, ["check", "plant.yaml"])

    assert (result.exit_code, result.stdout.split(": ")[0]) == (0, "ok")


def test_the_printed_plant_runs_once_its_files_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two pumps, a file each with equal columns, and nothing learnt from what is after `until`."""
    monkeypatch.chdir(tmp_path)
    _, text, _ = example("config")
    quick = text.replace("type: gru", "type: ewma").replace("#hidden", "# hidden")
    (tmp_path / "plant.yaml").write_text(quick, encoding="utf-8")
    (tmp_path / "recordings").mkdir()
    until = datetime(2026, 3, 1, 6, tzinfo=UTC)
    rng = np.random.default_rng(0)
    for pump in ("pump_1", "pump_2"):
        lines = ["time,Flow,temperature,Motor current"]
        for second in range(-900, 600):
            flow, warm, ampere = 12 + rng.normal(size=3)
            flow += 30 if pump == "pump_2" and 300 < second < 400 else 0
            stamp = (until + timedelta(seconds=second)).isoformat()
            lines.append(f"{stamp},{flow:.3f},{warm:.3f},{ampere:.3f}")
        (tmp_path / "recordings" / f"{pump}.csv").write_text("\n".join(lines), encoding="utf-8")

    trained = watchkeeper("train", "plant.yaml")
    ran = watchkeeper("run", "plant.yaml", "--json")

    assert (trained.code, ran.code) == (0, 0)
    frames = 2 * (900 - 60 + 1)  # until is in, and the first minute after a start is left out
    assert f"trained: pump on {frames:,} frames of " in trained.out
    assert ran.json["samples_stored"] == 2 * 3 * 1500
    assert ran.json["alarms"] == {"pump_1": 0, "pump_2": 1}


def test_an_unknown_name_suggests_the_nearest() -> None:
    code, text, complaint = example("file")

    assert (code, text) == (2, "")
    assert complaint == "error: no example 'file'. Did you mean 'files'?\n"


def test_a_script_gets_json() -> None:
    listed, shown = example("--json"), example("files", "--json")

    assert json.loads(listed[1])["config"] == "a complete small plant"
    assert json.loads(shown[1])["yaml"] == example("files")[1]

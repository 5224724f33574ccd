"""`watchkeeper example` as a user and as a script see it."""

import json
from pathlib import Path

import pytest
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


def test_an_unknown_name_suggests_the_nearest() -> None:
    code, text, complaint = example("file")

    assert (code, text) == (2, "")
    assert complaint == "error: no example 'file'. Did you mean 'files'?\n"


def test_a_script_gets_json() -> None:
    listed, shown = example("--json"), example("files", "--json")

    assert json.loads(listed[1])["config"] == "a complete small plant"
    assert json.loads(shown[1])["yaml"] == example("files")[1]

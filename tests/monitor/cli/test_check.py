"""`watchkeeper check` as a user and as a script see it."""

import json
from pathlib import Path

import pytest
from support import plants
from support.commands import process
from typer.testing import CliRunner

from monitor.cli import app

PLANT = """\
config_version: 1
site: {name: plant}
sources: {rig: {type: files, path: "*.csv", layout: wide}}
kinds:
  pump:
    channels:
      flow: {limits: {low: 1, deadband: 0.1}}
assets: {pump_1: {kind: pump, source: rig}}
sinks: {inbox: {type: files, folder: alarms}}
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plant.yaml").write_text(PLANT, encoding="utf-8")
    return Path("plant.yaml")


def change(file: Path, old: str, new: str) -> None:
    assert old in PLANT
    file.write_text(PLANT.replace(old, new), encoding="utf-8")


def check(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["check", *words])
    assert result.stderr == ""
    return result.exit_code, result.stdout


def test_a_right_configuration_is_summed_up(file: Path, tmp_path: Path) -> None:
    assert check(str(file)) == (
        0,
        (
            "ok: plant.yaml: 1 source, 1 kind, 1 asset, 1 tag, 1 channel, 1 sink.\n"
            f"    site plant, data in {tmp_path}/watchkeeper-data\n"
            "warning: kinds.pump: no model; only plain limits can raise alarms\n"
            f"warning: sources.rig: no file matches {tmp_path}/*.csv; if one should be there, "
            "check `path` and the folder it is relative to\n"
        ),
    )


def test_a_wrong_configuration_is_shown_whole(file: Path) -> None:
    change(file, "name: plant", "nam: [plant]")

    assert check(str(file)) == (
        2,
        (
            "plant.yaml:2:8: site.nam: no such setting. Did you mean 'name'?\n"
            "  2 │ site: {nam: [plant]}\n"
            "    │        ^\n"
            "\n"
            "not usable: plant.yaml: 1 problem.\n"
        ),
    )


def test_a_script_gets_the_problems_as_json(file: Path) -> None:
    change(file, "low: 1", "low: one")

    code, text = check(str(file), "--json")

    assert code == 2
    assert json.loads(text) == {
        "ok": False,
        "problems": [
            {
                "file": "plant.yaml",
                "line": 7,
                "column": 28,
                "path": "kinds.pump.channels.flow.limits.low",
                "message": "got 'one', want a number",
            }
        ],
    }


def test_a_script_gets_the_summary_as_json(file: Path) -> None:
    code, text = check(str(file), "--json")

    found = json.loads(text)
    assert code == 0
    assert (found["ok"], found["site"], found["assets"], found["sinks"]) == (True, "plant", 1, 1)
    assert len(found["hash"]) == 64
    assert found["warnings"][0] == "kinds.pump: no model; only plain limits can raise alarms"


def test_it_does_not_wait_for_torch_or_pyarrow_also_where_a_model_is_configured(
    file: Path,
) -> None:
    change(
        file,
        "assets: {pump_1",
        "    model: {bundle: models/pump}\n"
        "    training: {model: {type: gru}, fit: {epochs: 3}}\nassets: {pump_1",
    )
    telling = "import atexit, sys\natexit.register(lambda: print(*sys.modules))"

    with process("check", file, before=telling) as checking:
        out, err = checking.communicate(timeout=20)

    assert checking.returncode == 0, out + err
    imported = set(out.split())
    assert "pydantic" in imported, "or this would prove nothing"
    assert not imported & {"torch", "scipy", "pyarrow", "safetensors"}


def test_a_file_that_is_not_there_has_no_line(file: Path) -> None:
    file.unlink()

    code, text = check("plant.yaml", "--json")

    assert code == 2
    (problem,) = json.loads(text)["problems"]
    assert (problem["line"], problem["column"]) == (None, None)


def test_a_model_that_run_will_refuse_is_said(tmp_path: Path) -> None:
    made = plants.plant(tmp_path / "plant", assets=1)
    assert "does not fit" not in check(str(made.file))[1]
    made.settings["kinds"]["pump"]["tick_ms"] = 2000
    code, said = check(str(made.save().file))
    assert code == 0
    assert "warning: kind pump: this ewma model does not fit: want tick_ms 1000, got 2000" in said


LABELLED = PLANT.replace("*.csv", "rig.csv").replace(
    "      flow: {limits: {low: 1, deadband: 0.1}}\n",
    "      flow: {limits: {low: 1, deadband: 0.1}}\n"
    "    model: {bundle: models/pump}\n"
    "    training: {model: {type: ewma}}\n"
    "    diagnosis: {labels: labels.csv}\n",
)
HEADER = "asset,fault,onset,end\n"


def test_recordings_that_are_not_there_yet_are_a_warning(file: Path) -> None:
    code, text = check(str(file))

    assert code == 0
    assert "warning: sources.rig: no file matches" in text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("time,flwo\n2026-01-01T00:00:00Z,1\n", "no column 'flow' (did you mean 'flwo'?)"),
        ("time,flow\n01.01.2026 00:00,1\n", "'01.01.2026 00:00'"),
        ("time;flow\n2026-01-01T00:00:00Z;1\n", "`delimiter`"),
    ],
)
def test_a_recording_that_is_not_as_configured_is_a_problem_with_its_line(
    file: Path, content: str, said: str
) -> None:
    Path("rig.csv").write_text(content, encoding="utf-8")

    code, text = check(str(file))

    assert code == 2
    assert text.startswith("plant.yaml:3:36: sources.rig.path: ")
    assert "rig.csv" in text
    assert said in text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "labels.csv: no such file"),
        ("asset,fault,begin,end\n", "labels.csv:1: no column onset; got asset, fault, begin, end"),
        (
            HEADER + "pump_9,leak,2026-01-01T00:00:00Z,2026-01-02T00:00:00Z\n",
            "labels.csv:2: no asset 'pump_9'. There is pump_1",
        ),
        (
            HEADER + "pump_1,leak,yesterday,2026-01-02T00:00:00Z\n",
            "labels.csv:2: got 'yesterday' as onset, want a time with its zone",
        ),
    ],
)
def test_a_table_of_labels_that_cannot_be_used_is_a_problem_with_its_line(
    file: Path, content: str | None, said: str
) -> None:
    file.write_text(LABELLED, encoding="utf-8")
    if content is not None:
        Path("labels.csv").write_text(content, encoding="utf-8")

    code, text = check(str(file), "--json")

    (problem,) = json.loads(text)["problems"]
    assert code == 2
    assert (problem["line"], problem["path"]) == (10, "kinds.pump.diagnosis.labels")
    assert said in problem["message"]


def test_recordings_and_labels_that_are_right_are_nothing_to_speak_of(file: Path) -> None:
    file.write_text(LABELLED, encoding="utf-8")
    Path("labels.csv").write_text(
        HEADER + "pump_1,leak,2026-01-01T00:00:00Z,2026-01-02T00:00:00Z\n", encoding="utf-8"
    )
    Path("rig.csv").write_text("time,flow\n2026-01-01T00:00:00Z,1\n", encoding="utf-8")

    code, text = check(str(file))

    assert code == 0
    assert "sources.rig" not in text
    assert "diagnosis" not in text

"""What every command shares: exit codes, and errors in plain words."""

import errno
import importlib
import logging
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import monitor.cli
from connectors.contract import LostError, NotReadyError, RefusedError
from models.bundle import BundleError
from models.training import Epoch
from monitor.cli import console
from monitor.site.problems import ConfigError, PlantError, Problem
from monitor.site.yaml_places import Place
from monitor.state.errors import LockedError, StorageFullError

SCRIPT = Path(sys.executable).with_name("watchkeeper")


def end_of(error: BaseException | None, *options: str) -> tuple[int, str, str]:
    """How a command that raises this ends: its code, stdout and stderr."""
    app = typer.Typer(cls=monitor.cli._Commands, pretty_exceptions_enable=False)
    app.callback()(monitor.cli._options)

    @app.command()
    def fall() -> None:
        if error is not None:
            raise error

    result = CliRunner().invoke(app, [*options, "fall"])
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (console.StopError("no such thing", code=console.Exit.FAILED), 1, "no such thing"),
        (NotReadyError("no answer from plc", connector="rig"), 3, "no answer from plc"),
        (LostError("the link is gone", connector="rig"), 3, "the link is gone"),
        (RefusedError("wrong password", connector="rig"), 4, "wrong password"),
        (LockedError("process 7 runs here", pid=7), 4, "process 7 runs here"),
        (StorageFullError("the disk is full"), 3, "the disk is full"),
        (BundleError("not a model of ours"), 4, "not a model of ours"),
        (PlantError("kind pump: too little history"), 4, "too little history"),
        (FileNotFoundError(errno.ENOENT, "x", "a.csv"), 3, "a.csv: no such file or folder"),
        (PermissionError(errno.EACCES, "x", "a.csv"), 3, "a.csv: this user has no permission"),
        (OSError(errno.ENOSPC, "x"), 3, "the disk is full; make room"),
        (OSError(errno.EIO, "Input/output error", "/dev/sda"), 3, "/dev/sda: Input/output error"),
        (OSError("plain"), 3, "plain"),
        (KeyboardInterrupt(), 130, "Stopped."),
    ],
)
def test_an_expected_error_is_said_in_words_on_stderr(
    error: BaseException, code: int, words: str
) -> None:
    ended, stdout, stderr = end_of(error)

    assert (ended, stdout) == (code, "")
    assert words in stderr
    assert "Traceback" not in stderr


def test_all_is_well_ends_with_0() -> None:
    assert end_of(None) == (0, "", "")


def test_a_wrong_configuration_is_shown_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "plant.yaml"
    file.write_text("site:\n  nam: x\n", encoding="utf-8")
    error = ConfigError([Problem(str(file), Place(2, 3), "site.nam", "no such setting")])

    code, _, stderr = end_of(error)

    assert code == 2
    assert stderr == (
        f"{file}:2:3: site.nam: no such setting\n"
        "  2 │   nam: x\n"
        "    │   ^\n"
        "error: the configuration has 1 problem; nothing was done\n"
    )


def test_debug_shows_where_an_error_came_from(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LostError):
        raise_out(LostError("gone", connector="rig"), "--debug")
    monkeypatch.setenv("WATCHKEEPER_DEBUG", "1")
    with pytest.raises(LostError):
        raise_out(LostError("gone", connector="rig"))


def raise_out(error: Exception, *options: str) -> None:
    app = typer.Typer(cls=monitor.cli._Commands)
    app.callback()(monitor.cli._options)

    @app.command()
    def fall() -> None:
        raise error

    CliRunner().invoke(app, [*options, "fall"], catch_exceptions=False)


def test_a_mistake_of_the_program_is_not_dressed_up() -> None:
    with pytest.raises(ZeroDivisionError):
        raise_out(ZeroDivisionError())


@pytest.mark.parametrize(("module", "name"), console.EXPECTED)
def test_every_expected_error_exists(module: str, name: str) -> None:
    assert issubclass(getattr(importlib.import_module(module), name), BaseException)


def test_text_of_a_plant_is_no_markup_and_is_not_wrapped(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = "[red]pump[/red] :warning: " + "x" * 300

    console.say(text)

    assert capsys.readouterr().out == text + "\n"


def test_a_line_that_could_move_the_cursor_is_shown_tamely(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "plant.yaml"
    file.write_text("a: \x1b[2Jx\n", encoding="utf-8")

    console.say_problems((Problem(str(file), Place(1, 4), "", "bad"),))

    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize("line", ["a: {password: hunter2}", "url: mqtt://me:hunter2@broker"])
def test_a_line_with_a_secret_is_not_quoted(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, line: str
) -> None:
    file = tmp_path / "plant.yaml"
    file.write_text(line, encoding="utf-8")

    console.say_problems((Problem(str(file), Place(1, 1), "", "bad"),))

    assert capsys.readouterr().out == f"{file}:1:1: bad\n"


def test_a_thousand_problems_do_not_fill_the_screen(capsys: pytest.CaptureFixture[str]) -> None:
    console.say_problems(tuple(Problem("x", None, f"p{n}", "bad") for n in range(1000)))

    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == console.MOST_SHOWN + 1
    assert lines[-1] == "... and 950 more"


def test_where_there_is_no_terminal_training_says_a_line_each_ten_seconds_at_most(
    capsys: pytest.CaptureFixture[str],
) -> None:
    seconds = 100.0
    with console.training("pump", monotonic=lambda: seconds) as report:
        for epoch in range(1, 9):
            seconds += 4
            report(
                Epoch(
                    fit=2,
                    fits=3,
                    epoch=epoch,
                    epochs=40,
                    training_loss=0.5,
                    validation_loss=0.25,
                    learning_rate=1e-3,
                    gradient_norm=1.0,
                )
            )

    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == [
        "training pump",
        "training pump: model 2 of 3, epoch 3 of 40, loss 0.500, validation 0.250",
        "training pump: model 2 of 3, epoch 6 of 40, loss 0.500, validation 0.250",
    ]


def test_json_is_strict(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        console.say_json({"value": float("nan")})
    assert capsys.readouterr().out == ""


def test_help_lists_every_exit_code_and_every_command_with_its_meaning() -> None:
    result = CliRunner().invoke(monitor.cli.app, ["--help"], env={"COLUMNS": "200"})

    assert result.exit_code == 0
    for code in console.Exit:
        assert f"{code.value}  {code.meaning}" in result.stdout
    for command in monitor.cli.app.registered_commands:
        assert f"│ {command.name} " in result.stdout
        assert command.callback is not None
        assert command.callback.__doc__


def test_the_program_starts_without_torch_and_numpy() -> None:
    code = (
        "import sys, monitor.cli\n"
        "slow = {'torch', 'numpy', 'pydantic', 'rich', 'pyarrow'} & set(sys.modules)\n"
        "sys.exit(f'imported at start: {slow}' if slow else 0)"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_installed_script_runs_and_ends_with_the_right_code(tmp_path: Path) -> None:
    def run(*words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [SCRIPT, *words], cwd=tmp_path, capture_output=True, text=True, check=False
        )

    assert run("--version").stdout.startswith("watchkeeper ")
    wrong = run("check", "nix.yaml")
    assert (wrong.returncode, wrong.stderr) == (2, "")
    assert wrong.stdout.startswith("nix.yaml: no such file.")
    assert run("chek", "nix.yaml").returncode == 2


def test_a_reader_that_has_had_enough_is_no_error() -> None:
    started = subprocess.Popen(
        [SCRIPT, "example", "files"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert started.stdout is not None
    started.stdout.close()  # before anything was read

    _, stderr = started.communicate()

    assert stderr == b""


def test_the_log_says_what_the_service_does_not_each_request_of_its_libraries() -> None:
    levels = {name: logging.getLogger(name).level for name in ("asyncua", "httpx")}
    try:
        console.log_to(logging.NullHandler())
        assert not logging.getLogger("asyncua.client.client").isEnabledFor(logging.WARNING)
        assert logging.getLogger("asyncua.client.client").isEnabledFor(logging.ERROR)
        assert not logging.getLogger("httpx").isEnabledFor(logging.INFO)
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def test_where_there_is_no_terminal_reading_says_a_line_each_ten_seconds_at_most(
    capsys: pytest.CaptureFixture[str],
) -> None:
    seconds = 100.0
    with console.reading("scoring", monotonic=lambda: seconds) as report:
        for number in range(1, 9):
            seconds += 4
            report(number * 1000, number * 3_600_000_000_000)

    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == [
        "scoring",
        "scoring: 3,000 samples, up to 1970-01-01 03:00:00.000+00:00",
        "scoring: 6,000 samples, up to 1970-01-01 06:00:00.000+00:00",
    ]


def test_where_there_is_no_terminal_counting_says_a_line_each_ten_seconds_at_most(
    capsys: pytest.CaptureFixture[str],
) -> None:
    seconds = 100.0
    with console.counting("inspecting", "pictures", monotonic=lambda: seconds) as report:
        for number in range(1, 9):
            seconds += 4
            report(number * 1000, 8000)

    assert capsys.readouterr().err.splitlines() == [
        "inspecting: 3,000 of 8,000 pictures",
        "inspecting: 6,000 of 8,000 pictures",
    ]


def test_help_is_broken_into_lines_by_the_terminal_alone() -> None:
    command = ["vision", "train", "--help"]
    printed = CliRunner().invoke(monitor.cli.app, command, env={"COLUMNS": "100"}).output

    said = printed.partition("\u256d")[0].splitlines()  # what stands above the options
    paragraph = said[next(n for n, line in enumerate(said) if "Ctrl-C" in line) :]
    whole = paragraph[: next(n for n, line in enumerate(paragraph) if not line.strip())]
    assert len(whole) > 2
    assert all(len(line.rstrip()) > 80 for line in whole[:-1])

"""The repository as a whole: what is shipped, what is described, and what must not be in it."""

import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

import configs
import connectors
import models
import monitor

ROOT = Path(__file__).parent.parent
ROOMS = ("connectors", "models", "monitor")
GRAFANA = "configs/grafana/provisioning"
DECISION_HEADINGS = [
    "Context",
    "Choice",
    "What we give up",
    "What would change our mind",
]


def files_of_the_repository() -> Iterator[Path]:
    """Every file but what .gitignore names. It holds plain names of files and folders only."""
    lines = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    ignored = [".git", *(line.rstrip("/") for line in lines)]
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if not any(fnmatch(name, it) for it in ignored)]
        yield from (
            Path(folder, name) for name in names if not any(fnmatch(name, it) for it in ignored)
        )


def modules_of_the_rooms() -> set[str]:
    """All modules as paths; a package's own file only says what the package is."""
    found = (path.relative_to(ROOT) for room in ROOMS for path in (ROOT / room).rglob("*.py"))
    return {str(path) for path in found if path.name != "__init__.py"}


@pytest.mark.parametrize("room", [connectors, models, monitor, configs])
def test_the_rooms_are_imported_from_this_tree_and_not_from_a_namesake(room: object) -> None:
    where = Path(str(getattr(room, "__file__", None)))

    assert where.parent.parent == ROOT


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_wheel_holds_the_rooms_the_licence_the_demo_and_the_dashboards(tmp_path: Path) -> None:
    # Built from what is in the repository, not from what lies about in the tree.
    source = tmp_path / "source"
    for path in files_of_the_repository():
        copy = source / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"),
            *("--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(source)),
        ],
        check=True,
        capture_output=True,
    )

    (wheel,) = tmp_path.glob("watchkeeper-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    data = {path for path in (ROOT / "configs").rglob("*") if path.is_file()}
    shipped = {str(path.relative_to(ROOT)) for path in data if path.suffix != ".pyc"}
    assert {"configs/demo/demo.yaml", f"{GRAFANA}/datasources/watchkeeper.yaml"} <= shipped
    assert {Path(name).suffix for name in shipped} >= {".json", ".parquet", ".md"}
    assert shipped <= set(names)
    assert modules_of_the_rooms() <= set(names)
    assert any(re.fullmatch(r"watchkeeper-.*\.dist-info/licenses/LICENSE", name) for name in names)
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/"))]


def decisions() -> list[Path]:
    return sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))


@pytest.mark.parametrize("page", decisions(), ids=lambda page: page.stem)
def test_a_decision_has_the_four_headings_and_stands_in_the_index(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    number, title = re.findall(r"\A# (\d+)\. (.+)$", text, re.MULTILINE)[0]
    index = (page.parent / "README.md").read_text(encoding="utf-8")

    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == DECISION_HEADINGS
    assert int(number) == int(page.name[:4])
    assert f"- [{number}. {title}]({page.name})" in index


def test_decisions_are_numbered_without_a_gap_and_without_a_double() -> None:
    assert [int(page.name[:4]) for page in decisions()] == list(range(1, len(decisions()) + 1))


def test_each_module_has_one_line_in_the_architecture_and_each_line_a_module() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    lines = re.findall(r"^- `([^`]+\.py)`: \S", text, re.MULTILINE)

    assert sorted(lines) == sorted(set(lines))
    described = {line for line in lines if not line.endswith("__init__.py")}
    assert described == modules_of_the_rooms()
    assert all((ROOT / line).is_file() for line in lines)


def test_nothing_names_a_folder_of_a_machine_or_the_address_of_a_registry() -> None:
    # Written in pieces, or this file would find itself.
    unwanted = re.compile(
        "|".join(
            [
                "/" + r"(work|root|opt|home)/\w",
                "/" + r"tmp/\w",
                "index" + "-url[ =]+http",
                r"(pypi|npm|artifact|registry)[\w.-]*\." + "(org|pkg|dev|com|io|internal|local)",
                "file:" + "///",
            ]
        )
    )
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in files_of_the_repository()
        for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), start=1)
        if unwanted.search(line)
    ]

    assert found == []


def test_the_entry_points_of_a_newcomer_are_there_and_can_be_run() -> None:
    for name in (".ci/run", "scripts/bootstrap", "scripts/debian-install", "scripts/test-servers"):
        assert (ROOT / name).stat().st_mode & 0o111, f"{name} cannot be executed"
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in ("help", ".venv", "demo", "servers", "test", "faults", "fast", "bench", "clean"):
        assert re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE), target
    assert "make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")

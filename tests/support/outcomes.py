"""What the fault suite found: one outcome a unit of work, kept so that hours can be resumed.

A unit is one test with the mark ``fault``. Tests are short unless ``WATCHKEEPER_FAULTS`` says
``full``, as `make faults` does: then counts are scaled, each unit's outcome is kept in a folder
that git ignores and merged into benchmarks/results/reliability.json, and a unit that has passed
for the very same program and test is not run again. ``continue`` asks only whether it has passed.
"""

import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from benchmarks._machine import machine

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "fault-outcomes"
RESULTS = ROOT / "benchmarks" / "results" / "reliability.json"
ROOMS = ("connectors", "models", "monitor")

T = TypeVar("T")
Figures = dict[str, float | list[float]]  # counts, which add up; and lists, which are joined


class Mode(StrEnum):
    """How much is run."""

    SHORT = "short"
    FULL = "full"
    CONTINUE = "continue"  # full, and what passed on older code is not run again


MODE = Mode(os.environ.get("WATCHKEEPER_FAULTS", Mode.SHORT))


def scaled(*, short: T, full: T) -> T:
    """What holds in this run."""
    return short if MODE is Mode.SHORT else full


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a unit ended. ``code`` and ``test`` are hashes of the program and of the test."""

    unit: str
    fault: str
    passed: bool
    code: str
    test: str
    date: str  # UTC, as 2026-01-31T12:00:00Z
    took_s: float
    figures: Figures = field(default_factory=dict)
    reason: str = ""  # why it failed


def hash_of(*paths: Path) -> str:
    """A short hash of files, or of all Python files of folders."""
    sum_ = hashlib.sha256()
    for path in paths:
        for file in sorted(path.rglob("*.py")) if path.is_dir() else (path,):
            sum_.update(str(file.relative_to(ROOT)).encode() + b"\0" + file.read_bytes() + b"\0")
    return sum_.hexdigest()[:12]


def code() -> str:
    """The program as it is now."""
    return hash_of(*(ROOT / room for room in ROOMS))


def hash_of_test(path: Path) -> str:
    """A test's file as it is now, and what tests share: the balance is struck there."""
    return hash_of(path, ROOT / "tests" / "support")


def now() -> str:
    """The time, UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def keep(outcome: Outcome, folder: Path = FOLDER) -> None:
    """Write an outcome down, in place of the one before of the same unit."""
    folder.mkdir(exist_ok=True)
    name = hashlib.sha256(outcome.unit.encode()).hexdigest()[:16] + ".json"
    partial = folder / (name + ".partial")
    partial.write_text(json.dumps(asdict(outcome), indent=1), encoding="utf-8")
    partial.replace(folder / name)


def known(folder: Path = FOLDER, results: Path = RESULTS) -> dict[str, Outcome]:
    """The newest outcome of each unit, from the folder and from what was merged before."""
    found = [json.loads(path.read_text("utf-8")) for path in folder.glob("*.json")]
    if results.is_file():
        merged = json.loads(results.read_text("utf-8"))["units"]
        found += [{"unit": unit, **rest} for unit, rest in merged.items()]
    outcomes = sorted((Outcome(**one) for one in found), key=lambda one: one.date)
    return {one.unit: one for one in sorted(outcomes, key=lambda one: one.unit)}


def is_done(outcome: Outcome | None, *, code: str, test: str, mode: Mode) -> bool:
    """Whether a unit need not be run."""
    if outcome is None or not outcome.passed:
        return False
    return mode is Mode.CONTINUE or (outcome.code, outcome.test) == (code, test)


def merge(folder: Path = FOLDER, results: Path = RESULTS) -> None:
    """Bring the results up to date with the folder."""
    units = {}
    for unit, outcome in known(folder, results).items():
        units[unit] = rounded(asdict(outcome))
        del units[unit]["unit"]
    content = {"machine": machine(), "command": "make faults", "units": units}
    results.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def rounded(given: Any) -> Any:
    """The same with times to the millisecond."""
    if isinstance(given, float):
        return round(given, 3)
    if isinstance(given, Mapping):
        return {name: rounded(value) for name, value in given.items()}
    return [rounded(one) for one in given] if isinstance(given, list) else given

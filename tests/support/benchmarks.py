"""Benchmarks: as modules, and as a person starts them, but in this process, which has torch."""

import importlib
import runpy
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


def script(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """One as a module; its neighbours are found as when it runs by itself."""
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module(name)


def start(name: str, *words: object) -> None:
    """``python benchmarks/NAME.py WORDS``; what ends it otherwise than well is raised."""
    path = str(FOLDER / f"{name}.py")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        patch.setattr(sys, "argv", [path, *map(str, words)])
        runpy.run_path(path, run_name="__main__")

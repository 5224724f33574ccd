"""What every benchmark needs: the machine in words, a clock that neighbours do not move, a file.

Times are CPU times of the one thread that works, in interleaved rounds, of which the fastest
counts: what runs beside it on the same cores costs wall time, but hardly this. Ratios within one
run travel to other machines; times do not.
"""

import gc
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
LIBRARIES = ("numpy", "torch", "scipy")


@dataclass(frozen=True, slots=True)
class Times:
    """CPU seconds of each round of one contestant."""

    rounds: tuple[float, ...]

    @property
    def best(self) -> float:
        """The fastest round: the least disturbed one."""
        return min(self.rounds)

    @property
    def worst(self) -> float:
        """The slowest round."""
        return max(self.rounds)


def race(contestants: Mapping[str, Callable[[], Callable[[], object]]], rounds: int) -> list[Times]:
    """Time each contestant once a round, in turn, after one round that does not count.

    A contestant is a function that gets ready, which is not timed, and gives the function to time.
    """
    found: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name, ready in contestants.items():
            work = ready()
            gc.collect()
            gc.disable()  # a collection belongs to no contestant
            before = time.thread_time()
            work()
            spent = time.thread_time() - before
            gc.enable()
            if number:
                found[name].append(spent)
    return [Times(tuple(times)) for times in found.values()]


def machine() -> dict[str, Any]:
    """The CPU, its cores, and the versions that shape the figures."""
    return {
        **_cpu(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in LIBRARIES},
    }


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Keep the figures, with the machine and the command they come from."""
    given = [Path(each).name if Path(each).is_absolute() else each for each in sys.argv[1:]]
    command = " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *given])
    path.parent.mkdir(parents=True, exist_ok=True)
    everything = {"machine": machine(), "command": command, **content}
    path.write_text(json.dumps(everything, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table in Markdown, as docs/benchmarks.md shows it."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _cpu() -> dict[str, str]:
    """Model and widest vectors, as Linux has them; elsewhere what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {"cpu": platform.processor() or platform.machine()}
    known = {line.partition(":")[0].strip(): line.partition(":")[2].strip() for line in lines}
    flags = known.get("flags", "").split()
    vectors = [width for width in ("avx512f", "avx2", "avx") if width in flags]
    return {
        "cpu": known.get("model name", platform.machine()),
        "vectors": vectors[0] if vectors else "",
    }

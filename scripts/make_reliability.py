"""Write docs/reliability.md from benchmarks/results/reliability.json, which the fault suite fills.

``python scripts/make_reliability.py`` writes it; a test fails where it is something else.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "reliability.json"
FILE = ROOT / "docs" / "reliability.md"

Unit = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Fault:
    """A row of the page: what is done, and how often a full run does it."""

    title: str
    wanted: int  # of what `times` of the units counts
    promise: str


# The order of the page. A test names its row: @pytest.mark.fault("mosquitto_killed").
PEERS = {
    "mosquitto": "mosquitto",
    "influxdb": "InfluxDB",
    "asyncua": "asyncua with persistent history",
    "node_opcua": "node-opcua, without history",
}
KILL_PROMISES = {
    "mosquitto": "stored = what the broker handed over or still held",
    "influxdb": "every point arrives",
    "asyncua": "nothing is lost",
    "node_opcua": "what is missing lies in recorded gaps",
}
FAULTS: dict[str, Fault] = {
    "watchkeeper_killed": Fault(
        "Watchkeeper killed, recordings", 200, "results equal the undisturbed run"
    ),
    "watchkeeper_killed_live": Fault(
        "Watchkeeper killed, MQTT and webhooks", 40, "results equal the undisturbed run"
    ),
    "watchkeeper_killed_opcua": Fault(
        "Watchkeeper killed, OPC UA", 40, "each sample stored, or in a gap"
    ),
    **{
        f"{peer}_killed": Fault(f"{title} killed", 20, KILL_PROMISES[peer])
        for peer, title in PEERS.items()
    },
    **{
        f"{peer}_frozen": Fault(
            f"{title} frozen 3, 12, 60 s, twice in a row", 6, "recovers every time"
        )
        for peer, title in PEERS.items()
    },
    "network_mqtt": Fault("link down, packets dropped, delayed: MQTT", 12, "no loss"),
    "network_opcua": Fault(
        "link down, packets dropped, delayed: OPC UA", 12, "no loss, no dead subscription"
    ),
    "poison": Fault("poison payloads, six decoders", 600_000, "no crash, each rejection counted"),
    "disk_full": Fault("disk full, then freed", 1, "nothing accepted is lost"),
    "soak": Fault("soak, minutes", 120, "no growth of memory, files or lag"),
}

HEAD = """\
# Reliability

<!-- Made by scripts/make_reliability.py out of benchmarks/results/reliability.json. -->

What was done to Watchkeeper and to the servers around it, and what became of the samples. Real
servers are killed, frozen and cut off while machines send; in the end every sample that was sent is
looked for. Each run asserts that

    received = stored + duplicate + rejected + late
    sent - received = samples inside recorded gaps + lost by the peer itself

A sample is *lost by the peer* where the machine had the peer's receipt for it, and the peer lost it
before it was handed over: a mosquitto that is killed forgets what came after its last autosave.
`make faults` runs everything; it takes hours, can be stopped at any time, and goes on with what has
not passed yet for this program. `make test` runs one or two of each kind.
"""

TIMES = """\
Seconds: half of them are at most / 95 of 100 are at most / the longest. *Noticed*: from the fault
until `source_connected` is false. *Back*: from the moment the peer answers again until its first
sample is stored; of Watchkeeper itself, from its start to its first new result."""

GROWTHS = {
    "memory_growth": "growth: of memory, a share",
    "files_growth": "of open files",
    "lag_growth_s": "of lag, s",
}
LOAD = """\
What grew in the last three quarters of the time: the slope of the straight line that fits best,
times its length. The lag is the age of the oldest input that has no stored result yet."""


def percentile(times: Sequence[float], share: float) -> float:
    """The smallest time that so large a share of all does not exceed."""
    ordered = sorted(times)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def joined(units: Iterable[Unit]) -> dict[str, Any]:
    """The figures of several units as one: counts added, lists joined."""
    found: dict[str, Any] = {}
    for unit in units:
        for name, value in unit["figures"].items():
            found[name] = found[name] + value if name in found else value
    return found


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def count(figures: Mapping[str, Any], name: str) -> str:
    """A count with its thousands apart; nothing where it was not counted."""
    return f"{figures[name]:,.0f}" if name in figures else ""


def seconds(figures: Mapping[str, Any], name: str) -> str:
    """p50 / p95 / most of a list of times; what was killed in the very moment has none."""
    times = [time for time in figures.get(name, []) if time is not None]
    if not times:
        return ""
    shown = (percentile(times, 0.5), percentile(times, 0.95), max(times))
    return " / ".join(f"{one:.2f}" if one < 10 else f"{one:.0f}" for one in shown)


def page(results: Mapping[str, Any]) -> str:
    """The page of these results."""
    units: Mapping[str, Unit] = results["units"]
    runs, samples, times, failed = [], [], [], []
    for key, fault in FAULTS.items():
        mine = [unit for unit in units.values() if unit["fault"] == key]
        passed = [unit for unit in mine if unit["passed"]]
        figures = joined(passed)
        done = figures.get("times", 0)
        state = "all" if done >= fault.wanted else "part" if done else "not run yet"
        newest = max((unit["date"][:10] for unit in mine), default="")
        runs.append((fault.title, fault.promise, f"{done:,.0f} of {fault.wanted:,}", state, newest))
        if "stored" in figures:
            names = ("sent", "received", "stored", "duplicate", "late", "in_gaps", "lost_by_peer")
            samples.append((fault.title, *(count(figures, name) for name in names)))
        if figures.get("recovered_s") or figures.get("detected_s"):
            cells = (seconds(figures, name) for name in ("detected_s", "recovered_s"))
            times.append((fault.title, *cells))
        failed += [
            f"- `{unit}`: {one['reason'] or 'failed'}"
            for unit, one in units.items()
            if one["fault"] == key and not one["passed"]
        ]
    machine = results["machine"]
    codes = sorted({unit["code"] for unit in units.values()})
    where = (
        f"Measured on an {machine['cpu']}, {machine['cores']} cores, Python {machine['python']}, "
        f"with `{results['command']}`. Hash of the program's sources: {', '.join(codes) or 'none'}."
    )
    parts = [
        HEAD.rstrip(),
        "## What was run",
        where,
        table(("fault", "what must hold", "done", "", "last run"), runs),
        "Only what was run is claimed.",
    ]
    if failed:
        parts += ["## What failed", "\n".join(failed)]
    if samples:
        head = (
            "fault",
            "sent",
            "received",
            "stored",
            "duplicate",
            "late",
            "in gaps",
            "lost by the peer",
        )
        parts += ["## Samples", table(head, samples)]
    if times:
        parts += [
            "## Times",
            TIMES,
            table(("fault", "noticed", "back"), times),
        ]
    loads = [unit["figures"] for unit in units.values() if "memory_growth" in unit["figures"]]
    loads = [figures for figures in loads if figures["times"]]  # others were too short to judge
    if loads:
        head = ("minutes", "samples a second", "lag, s", "memory, MB", *GROWTHS.values())
        rows = [load(figures) for figures in loads]
        parts += ["## Hours of load", LOAD, table(head, rows)]
    return "\n\n".join(parts) + "\n"


def load(figures: Mapping[str, Any]) -> list[str]:
    """A row of the table of loads."""
    (rate,), (lag,), (memory,) = (figures[one] for one in ("a_second", "lag_s", "memory_mb"))
    grown = (figures[name][0] for name in GROWTHS)
    shown = [f"{figures['times']:.0f}", f"{rate:,.0f}", f"{lag:.2f}", f"{memory:,.0f}"]
    return [*shown, *(f"{one:+.3f}" for one in grown)]


def read() -> dict[str, Any]:
    """The results."""
    found: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))
    return found


def write() -> None:
    """Write the page."""
    FILE.write_text(page(read()), encoding="utf-8")


if __name__ == "__main__":
    write()

"""The table of what went wrong: one row a fault, beside the data."""

import csv
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from monitor.site.simulate.unit import Unit

FILE = "labels.csv"
COLUMNS = ("asset", "fault", "family", "onset", "end", "severity", "channels", "trip")


def write(units: Iterable[Unit], path: Path) -> int:
    """Write the faults of some machines, by onset; how many there are.

    Columns: asset; fault; family, process or instrument; onset and end, ISO 8601 UTC, the end not
    included; severity; channels, those that show it, the clearest first, with blanks between; trip,
    when it had stopped its machine, or nothing.
    """
    rows = [
        (
            unit.name,
            fault.name,
            str(fault.kind.family),
            stamp(fault.onset_ms),
            stamp(fault.end_ms),
            fault.severity,
            " ".join(unit.channels_of(fault)),
            "" if fault.trip_ms is None else stamp(fault.trip_ms),
        )
        for unit in units
        for fault in unit.faults
    ]
    rows.sort(key=lambda row: (row[3], row[0]))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    return len(rows)


def stamp(moment_ms: int) -> str:
    """ISO 8601, UTC."""
    moment = datetime.fromtimestamp(moment_ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

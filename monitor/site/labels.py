"""What people know of the past: which fault was in which machine, from when to when.

A CSV as `watchkeeper simulate` writes it, or a person: asset, fault, onset and end, the end not
included. Other columns are passed over, but ``family``: what it calls `instrument` is a fault of an
instrument, which the instrument alarms name.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from models.naming import UNKNOWN
from monitor.core.records import AlarmClass
from monitor.site.config import Config
from monitor.site.healthy import ns
from monitor.site.problems import PlantError, did_you_mean

COLUMNS = ("asset", "fault", "onset", "end")


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """One episode, as its line says."""

    line: int  # of the file, from 1
    asset: str
    fault: str
    onset: int  # ns since 1970 UTC
    end: int  # ns since 1970 UTC, not included


def read(path: Path, config: Config, kind: str) -> list[Label]:
    """The episodes of the assets of a kind, in the order of the file.

    Raises PlantError naming file and line: no such file, a column, asset or time that is not there,
    an end that is not after its onset, or two episodes of one asset at once.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            found = list(_labels(path, csv.DictReader(file, strict=True), config))
    except FileNotFoundError as error:
        raise PlantError(
            f"{path}: no such file. Correct `diagnosis.labels`, relative to the configuration."
        ) from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PlantError(f"{path}: cannot be read as a table: {error}.") from error
    own = [label for label in found if config.assets[label.asset].kind == kind]
    for before, after in pairwise(sorted(own, key=lambda label: (label.asset, label.onset))):
        if before.asset == after.asset and after.onset < before.end:
            raise PlantError(
                f"{path}:{after.line}: {after.asset} has {after.fault} while line {before.line} "
                f"says {before.fault}; want one fault at a time: leave out where there are two."
            )
    return own


def _labels(path: Path, rows: "csv.DictReader[str]", config: Config) -> Iterator[Label]:
    if missing := [name for name in COLUMNS if name not in (rows.fieldnames or ())]:
        given = ", ".join(rows.fieldnames or ()) or "none"
        raise PlantError(f"{path}:1: no column {', '.join(missing)}; got {given}.")
    for row in rows:
        place = f"{path}:{rows.line_num}"
        asset, fault = (row["asset"] or "").strip(), (row["fault"] or "").strip()
        if row.get("family") == AlarmClass.INSTRUMENT:
            continue
        if asset not in config.assets:
            raise PlantError(f"{place}: no asset {asset!r}.{did_you_mean(asset, config.assets)}")
        if not fault or fault == UNKNOWN:
            raise PlantError(f"{place}: got {fault!r} as a fault, want its name.")
        onset, end = (_moment(place, name, row[name] or "") for name in ("onset", "end"))
        if onset >= end:
            raise PlantError(
                f"{place}: ends at {row['end']}, want a time after its onset {row['onset']}."
            )
        yield Label(line=rows.line_num, asset=asset, fault=fault, onset=onset, end=end)


def _moment(place: str, name: str, given: str) -> int:
    try:
        moment = datetime.fromisoformat(given.strip())
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise PlantError(
            f"{place}: got {given!r} as {name}, want a time with its zone, as 2026-03-01T06:00:00Z."
        )
    return ns(moment)


def lines(path: Path, labels: Sequence[Label]) -> str:
    """Where these stand, in words."""
    return ", ".join(f"{path}:{one.line} ({one.asset}, {one.fault})" for one in labels)

"""Recordings of simulated machines, what went wrong in them, and a configuration to work with them.

The other side of the files connector, and made without it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv
from pyarrow import parquet as pq

from monitor.site.problems import PlantError
from monitor.site.simulate import labels, watcher
from monitor.site.simulate.faults import Fault
from monitor.site.simulate.machines import KINDS
from monitor.site.simulate.unit import DAY_MS, MOST_DAYS, Unit

FOLDER = "recordings"
ON_DELAY_S, OFF_DELAY_S = 300.0, 1800.0
MODEL = {"type": "ewma", "lags": 3, "score_span": 16}  # that leads on these machines: decision 57

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


class Form(StrEnum):
    """What a recording is written as."""

    CSV = "csv"
    PARQUET = "parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recordings:
    """What is recorded."""

    machines: Mapping[str, int]  # how many of which kind
    seed: int
    begin_ms: int  # since 1970 UTC
    days: int
    period_ms: int
    faults: Sequence[tuple[str, Fault]] = ()  # of which machine
    healthy_ms: int  # nothing goes wrong before: what a model may learn from
    changes_only: bool = False
    form: Form = Form.CSV

    def units(self) -> Iterator[Unit]:
        """The machines. Raises ValueError for a fault that one cannot have."""
        for kind, count in self.machines.items():
            for number in range(1, count + 1):
                name = f"{kind}_{number}"
                yield Unit(
                    kind,
                    name,
                    seed=self.seed,
                    faults=[fault for asset, fault in self.faults if asset == name],
                    period_ms=self.period_ms,
                    changes_only=self.changes_only,
                )

    def pieces(self) -> Iterator[I64]:
        """The moments, ms since 1970 UTC, in pieces that fit into memory."""
        end_ms = self.begin_ms + self.days * DAY_MS
        first = -(-self.begin_ms // self.period_ms) * self.period_ms
        piece_ms = max(MOST_DAYS * DAY_MS // self.period_ms, 1) * self.period_ms
        for start in range(first, end_ms, piece_ms):
            yield np.arange(start, min(start + piece_ms, end_ms), self.period_ms)


def write(what: Recordings, folder: Path, *, progress: Callable[[str, float], None]) -> int:
    """Write recordings/*, labels.csv and plant.yaml into an empty or new folder; samples written.

    ``progress`` is told of each machine, and the share of its time that is written.

    Raises PlantError for a folder that holds something, ValueError for a fault that its machine
    cannot have, OSError.
    """
    units = list(what.units())
    if folder.exists() and any(folder.iterdir()):
        raise PlantError(f"{folder}: not empty; recordings want a folder of their own.")
    (folder / FOLDER).mkdir(parents=True)
    samples = 0
    for unit in units:
        path = folder / FOLDER / f"{unit.name}.{what.form}"
        schema = _schema(unit, what.form)
        with _writer(path, schema, what.form) as keep:
            for times in what.pieces():
                shown = unit.values(times)
                samples += int(np.isfinite(shown).sum())
                keep(_table(times, shown, schema))
                done_ms = int(times[-1]) - what.begin_ms
                progress(unit.name, done_ms / (what.days * DAY_MS))
    labels.write(units, folder / labels.FILE)
    text = watcher.yaml(tree(what, units), "Made by `watchkeeper simulate --recordings`.")
    (folder / watcher.FILE).write_text(text, encoding="utf-8")
    return samples


def _schema(unit: Unit, form: Form) -> pa.Schema:
    time = pa.timestamp("ms", "UTC") if form is Form.PARQUET else pa.string()
    return pa.schema(
        [("time", time), *((channel, pa.float64()) for channel in unit.kind.instruments)]
    )


@contextmanager
def _writer(path: Path, schema: pa.Schema, form: Form) -> Iterator[Callable[[pa.Table], None]]:
    if form is Form.PARQUET:
        with pq.ParquetWriter(path, schema, compression="zstd") as parquet:
            yield parquet.write_table
    else:
        options = csv.WriteOptions(quoting_style="none")
        with csv.CSVWriter(path, schema, write_options=options) as text:
            yield text.write_table


def _table(times: I64, shown: F64, schema: pa.Schema) -> pa.Table:
    """Rows in which anything was measured; what was not is empty."""
    rows = np.isfinite(shown).any(axis=1)
    stamps = times[rows].astype("datetime64[ms]")
    written = schema.field("time").type
    if pa.types.is_string(written):
        column = pa.array(np.char.add(np.datetime_as_string(stamps), "Z"), written)
    else:
        column = pa.array(stamps, pa.timestamp("ms")).cast(written)
    values = [pa.array(one, from_pandas=True) for one in shown[rows].T]  # NaN: nothing
    return pa.Table.from_arrays([column, *values], schema=schema)


def tree(what: Recordings, units: Sequence[Unit]) -> dict[str, Any]:
    """The configuration that works with them: learns from what is healthy, scores all."""
    source = {"type": "files", "layout": "wide"}
    kinds = {
        kind: {
            "tick_ms": what.period_ms,
            **watcher.machine(
                KINDS[kind], period_ms=what.period_ms, changes_only=what.changes_only
            ),
            "alarm": {"on_delay_s": ON_DELAY_S, "off_delay_s": OFF_DELAY_S},
            "training": {
                "until": labels.stamp(what.healthy_ms),
                "model": dict(MODEL),
            },
            "model": {"bundle": f"models/{kind}"},
        }
        for kind in what.machines
    }
    return {
        "site": {"name": "simulation", "data_dir": watcher.DATA},
        "sources": {
            f"{unit.name}_recording": {**source, "path": f"{FOLDER}/{unit.name}.{what.form}"}
            for unit in units
        },
        "kinds": kinds,
        "assets": {
            unit.name: {"kind": unit.kind.name, "source": f"{unit.name}_recording"}
            for unit in units
        },
    }

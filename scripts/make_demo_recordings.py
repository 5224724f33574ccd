"""Cut the demo recordings out of the public rotary-actuator data set.

``python scripts/make_demo_recordings.py --data FOLDER --out configs/demo`` reads ``act_1.npz``,
``act_2.npz``, ``act_3.npz`` and ``act_5.npz`` and writes one Parquet file a unit.
configs/demo/SOURCE.md says where the data come from and what is changed here. The files in the
repository were made by this script.
"""

import argparse
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

# S strokes, T samples of a stroke, K kept columns

KEPT = ("Accel_1", "Accel_2", "Accel_3", "Angle", "Temp_1", "Temp_2", "PG_1", "PG_2", "Lim_2")
RECORDED_AT = re.compile(r"_(\d+-\d+-\d{4}-\d+-\d+-\d+ [AP]M)\.txt$")
SAMPLE_MS = 1  # assumed: the source does not state its sampling rate
SLOW_MS = 10  # all but the accelerometers: what an OPC UA server of a plant may well send
HEALTHY_STROKES = 100  # of units 1 and 2 each, to keep the files small
CHANGE_STROKES = 25  # of unit 3 before and after its change


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """Strokes of one unit, in order of recording."""

    start: NDArray[np.int64]  # [S] ms since 1970, the recorder's clock taken as UTC
    counts: NDArray[np.uint16]  # [S, T, K] raw converter counts

    def __len__(self) -> int:
        """Count of strokes."""
        return len(self.start)

    def take(self, chosen: NDArray[np.intp] | slice) -> "Recording":
        """Some of the strokes."""
        return Recording(start=self.start[chosen], counts=self.counts[chosen])


def read(path: Path) -> Recording:
    """All strokes of one file of the data set. Raises ValueError where a name bears no time."""
    with np.load(path, allow_pickle=False) as data:
        columns = [str(column) for column in data["columns"]]
        start = np.array([started_at(str(name)) for name in data["names"]], dtype=np.int64)
        counts = data["x"][:, :, [columns.index(column) for column in KEPT]]
    order = np.argsort(start, kind="stable")
    return Recording(start=start[order], counts=counts[order])


def started_at(name: str) -> int:
    """Time of recording out of a stroke's file name, in ms since 1970."""
    found = RECORDED_AT.search(name)
    if found is None:
        raise ValueError(f"{name}: want a name that ends as in _9-11-2019-8-55-09 AM.txt")
    local = datetime.strptime(found[1], "%m-%d-%Y-%I-%M-%S %p").replace(tzinfo=UTC)
    return int(local.timestamp()) * 1000


def spread(count: int, wanted: int) -> NDArray[np.intp]:
    """``wanted`` of ``count`` indices, evenly spread over the recording."""
    return np.linspace(0, count - 1, wanted).round().astype(np.intp)


def changed(healthy: Recording, damaged: Recording) -> Recording:
    """Strokes of one unit, then of another, stamped on at the median spacing of the first."""
    spacing = int(np.median(np.diff(healthy.start)))
    follow = healthy.start[-1] + spacing * np.arange(1, len(damaged) + 1)
    return Recording(
        start=np.concatenate([healthy.start, follow]),
        counts=np.concatenate([healthy.counts, damaged.counts]),
    )


def table(recording: Recording) -> pa.Table:
    """One row a sample: the time, then one column a tag."""
    strokes, samples, _ = recording.counts.shape
    time = recording.start[:, None] + SAMPLE_MS * np.arange(samples)
    counts = recording.counts.reshape(strokes * samples, len(KEPT))
    columns: dict[str, pa.Array] = {
        "time": pa.array(time.ravel(), type=pa.int64()).cast(pa.timestamp("ms", tz="UTC"))
    }
    left_out = np.broadcast_to(SAMPLE_MS * np.arange(samples) % SLOW_MS > 0, time.shape).ravel()
    columns |= {
        name.lower(): pa.array(counts[:, k], mask=None if name.startswith("Accel") else left_out)
        for k, name in enumerate(KEPT)
    }
    return pa.table(columns)


def main() -> None:
    """Write unit_1, unit_2, unit_5 and unit_3 into the folder asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with act_1.npz and the others"
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder to write the Parquet files to"
    )
    asked = parser.parse_args()

    recorded = {number: read(asked.data / f"act_{number}.npz") for number in (1, 2, 3, 5)}
    # Strokes go to and fro: neighbours are dealt out by pairs, so that both sides see both ways.
    first_half = np.arange(len(recorded[5])) // 2 % 2 == 0
    healthy = recorded[5].take(np.flatnonzero(~first_half)[:CHANGE_STROKES])
    made = {
        "unit_1": recorded[1].take(spread(len(recorded[1]), HEALTHY_STROKES)),
        "unit_2": recorded[2].take(spread(len(recorded[2]), HEALTHY_STROKES)),
        "unit_5": recorded[5].take(np.flatnonzero(first_half)),
        "unit_3": changed(healthy, recorded[3].take(slice(CHANGE_STROKES))),
    }
    asked.out.mkdir(parents=True, exist_ok=True)
    for name, recording in made.items():
        rows = table(recording)
        pq.write_table(
            rows,
            asked.out / f"{name}.parquet",
            compression="zstd",
            compression_level=19,
            use_dictionary=False,
            column_encoding=dict.fromkeys(rows.column_names, "DELTA_BINARY_PACKED"),
        )


if __name__ == "__main__":
    main()

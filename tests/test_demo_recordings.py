"""The recordings that come with the demo have the shape that configs/demo/SOURCE.md promises."""

from importlib import resources
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from monitor.site.config import load

DEMO = Path(str(resources.files("configs"))) / "demo"
STROKE = 3000  # samples, 1 ms apart
STROKES = {"unit_1": 100, "unit_2": 100, "unit_3": 50, "unit_5": 54}
SLOW_MS = 10  # all but the accelerometers
TAGS = ["accel_1", "accel_2", "accel_3", "angle", "temp_1", "temp_2", "pg_1", "pg_2", "lim_2"]


def time_of(unit: str) -> NDArray[np.int64]:
    """Stamps in ms since 1970 UTC, one row a stroke."""
    column = pq.read_table(DEMO / f"{unit}.parquet", columns=["time"])["time"]
    stamps: NDArray[np.int64] = column.cast(pa.int64()).to_numpy().reshape(-1, STROKE)
    return stamps


@pytest.mark.parametrize("unit", STROKES)
def test_a_recording_has_a_time_and_nine_columns_of_raw_counts(unit: str) -> None:
    schema = pq.read_schema(DEMO / f"{unit}.parquet")

    assert schema.field("time").type == pa.timestamp("ms", tz="UTC")
    assert schema.names == ["time", *TAGS]
    assert {schema.field(tag).type for tag in TAGS} == {pa.uint16()}


@pytest.mark.parametrize("unit", STROKES)
def test_a_recording_is_whole_strokes_in_order_one_millisecond_a_sample(unit: str) -> None:
    stamps = time_of(unit)

    assert len(stamps) == STROKES[unit]
    assert (np.diff(stamps, axis=1) == 1).all()
    assert (np.diff(stamps[:, 0]) >= 11_000).all(), "strokes are more than 8 s apart"


@pytest.mark.parametrize("unit", STROKES)
def test_all_but_the_accelerometers_are_there_every_ten_milliseconds(unit: str) -> None:
    table = pq.read_table(DEMO / f"{unit}.parquet")
    ms = np.tile(np.arange(STROKE), STROKES[unit])
    for tag in TAGS:
        known = table[tag].is_valid().to_numpy()
        wanted = np.ones(len(ms), np.bool_) if tag.startswith("accel") else ms % SLOW_MS == 0
        assert np.array_equal(known, wanted), tag


def test_no_healthy_stroke_of_the_changing_unit_is_in_the_healthy_unit() -> None:
    healthy = time_of("unit_3")[:25, 0]

    assert not np.isin(healthy, time_of("unit_5")[:, 0]).any()


def test_the_damaged_strokes_follow_at_the_spacing_of_the_healthy_ones() -> None:
    start = time_of("unit_3")[:, 0]

    assert set(np.diff(start[24:])) == {np.median(np.diff(start[:25]))}


def test_the_converters_have_settled_within_what_the_demo_does_not_score() -> None:
    for unit in STROKES:
        table = pq.read_table(DEMO / f"{unit}.parquet", columns=["temp_1"])
        known = table["temp_1"].drop_null().to_numpy()
        temp = known.reshape(-1, STROKE // SLOW_MS).astype(float)
        above = (temp > 11_000).argmax(axis=1)  # kinds.actuator.running in demo.yaml
        settled = np.array(
            [stroke[at + 100 // SLOW_MS] for stroke, at in zip(temp, above, strict=True)]
        )
        assert (above * SLOW_MS <= 70).all()
        assert (abs(settled / temp[:, -1] - 1) < 0.01).all()


def test_the_recordings_are_small_and_carry_their_licence() -> None:
    assert sum(path.stat().st_size for path in DEMO.iterdir()) < 12_000_000
    assert "Virginia Tech" in (DEMO / "LICENSE").read_text(encoding="utf-8")
    source = (DEMO / "SOURCE.md").read_text(encoding="utf-8")
    assert "f9926eb53e1c324d7ffafc4536f2494b7508d7ed" in source
    assert all(f"`{unit}.parquet`" in source for unit in STROKES)


def test_the_demo_trains_on_other_units_than_it_watches() -> None:
    config = load(DEMO / "demo.yaml")
    start = {unit: time_of(unit)[0, 0] for unit in config.asset_names()}

    assert config.asset_names() == tuple(sorted(STROKES))
    assert all(a != b for a, b in pairwise(sorted(start.values())))
    training = config.kinds["actuator"].training
    assert training is not None
    assert set(training.assets) == {"unit_1", "unit_2"}

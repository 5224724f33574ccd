"""Stamps: every form, exactly, and what cannot be known."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.recordings import SECOND, T0, history, rejected, samples, settings, source, tags, write

from connectors.contract import RefusedError

HOUR = 3600 * SECOND
LONG = {"layout": "long", "tag_column": "tag", "value_column": "value"}
CLOCKS_BACK = "2024-10-27"  # in Europe/Berlin at 3:00, to 2:00
TWO_SUMMER = 1_729_987_200 * SECOND  # 02:00 CEST, the first time


def times_of(tmp_path, *stamps, **given):
    path = write(tmp_path / "a.csv", "time|flow", *(f"{stamp}|1" for stamp in stamps))
    read = history(tags("flow"), settings(path, delimiter="|", **given))
    return [time for _, time, _, _ in samples(read)], rejected(read)


@pytest.mark.parametrize(
    ("stamp", "after_t0"),
    [
        ("2024-01-01T00:00:00.001Z", 1_000_000),
        ("2024-01-01T00:00:00.123456789Z", 123_456_789),
        ("2024-01-01 00:00:00.1Z", 100_000_000),
        ("2024-01-01T00:00:00,5Z", 500_000_000),
        ("2024-01-01T00:00Z", 0),
        ("2024-01-01T01:00:00+01:00", 0),
        ("2024-01-01T01:00:00+0100", 0),
        ("2024-01-01T01:00:00+01", 0),
        ("2023-12-31 18:30:00 -05:30", 0),
        ("  2024-01-01T00:00:00Z ", 0),
    ],
)
def test_iso_8601_with_an_offset_is_read_to_the_nanosecond(tmp_path, stamp, after_t0):
    assert times_of(tmp_path, stamp) == ([T0 + after_t0], {})


def test_every_whole_millisecond_and_many_nanoseconds_come_back_as_they_were(tmp_path):
    rng = np.random.default_rng(1)
    wanted = T0 + rng.integers(0, 10**17, 300)
    texts = [f"{np.datetime64(int(time), 'ns')}Z" for time in wanted]
    assert times_of(tmp_path, *texts)[0] == wanted.tolist()


@pytest.mark.parametrize(
    "stamp",
    [
        "2024-02-30T00:00:00Z",
        "2024-13-01T00:00:00Z",
        "2024-01-01T24:00:00Z",
        "2024-01-01T00:00:60Z",
        "3000-01-01T00:00:00Z",
        "yesterday",
        "01.02.2024 00:00:00",
        "",
    ],
)
def test_a_stamp_that_cannot_be_read_is_counted_and_its_neighbours_are_taken(tmp_path, stamp):
    good = ["2024-01-01T00:00:00Z", "2024-01-01T00:00:01Z"]
    got = times_of(tmp_path, good[0], stamp, good[1], timezone="UTC")
    assert got == ([T0, T0 + SECOND], {"time not readable": 1})


@pytest.mark.parametrize(
    ("form", "stamp", "time"),
    [
        ("epoch_s", "1704067200", T0),
        ("epoch_s", "1704067200.123456789", T0 + 123_456_789),
        ("epoch_s", "1704067200.1234567899", T0 + 123_456_789),
        ("epoch_s", "1.7040672e9", T0),
        ("epoch_s", "-1.5", -1_500_000_000),
        ("epoch_ms", "1704067200001", T0 + 1_000_000),
        ("epoch_ms", "1704067200001.5", T0 + 1_500_000),
        ("epoch_us", "1704067200000001", T0 + 1000),
        ("epoch_ns", "1704067200000000001", T0 + 1),
    ],
)
def test_numbers_since_1970_pass_through_no_float(tmp_path, form, stamp, time):
    assert times_of(tmp_path, stamp, time_format=form) == ([time], {})


@pytest.mark.parametrize("stamp", ["99999999999999", "1e40", "2024-01-01T00:00:00Z", "nan"])
def test_a_number_that_is_no_time_is_counted(tmp_path, stamp):
    got = times_of(tmp_path, stamp, T0 // SECOND, time_format="epoch_s")
    assert got == ([T0], {"time not readable": 1})


@pytest.mark.parametrize(
    ("stamp", "after_t0"),
    [
        ("01.01.2024 00:00:01", SECOND),
        ("1.1.2024 0:00:01,5", SECOND + SECOND // 2),
        ("01/01/2024 01:00", HOUR),
        ("02.01.2024", 24 * HOUR),
        ("1.2.2024 00:00Z", 31 * 24 * HOUR),
        ("2.1.2024T00:00:00+01:00", 23 * HOUR),
    ],
)
def test_a_stamp_may_begin_with_the_day(tmp_path, stamp, after_t0):
    given = {"time_format": "day_first", "timezone": "UTC"}
    assert times_of(tmp_path, stamp, **given) == ([T0 + after_t0], {})


@pytest.mark.parametrize("stamp", ["2024-01-01", "13.13.2024", "1.1.24", "0.1.2024", "01.02.2024x"])
def test_what_does_not_begin_with_a_day_is_not_guessed(tmp_path, stamp):
    given = {"time_format": "day_first", "timezone": "UTC"}
    assert times_of(tmp_path, stamp, "1.1.2024", **given) == ([T0], {"time not readable": 1})


def test_a_stamp_without_an_offset_is_refused_until_a_zone_is_named(tmp_path):
    with pytest.raises(RefusedError, match=r"without an offset, as 2024-01-01T12:00.*`timezone`"):
        times_of(tmp_path, "2024-01-01T12:00:00")
    assert times_of(tmp_path, "2024-01-01T12:00:00", timezone="UTC")[0] == [T0 + 12 * HOUR]
    berlin = {"timezone": "Europe/Berlin"}
    assert times_of(tmp_path, "2024-01-01T12:00:00.5", **berlin)[0] == [
        T0 + 11 * HOUR + SECOND // 2
    ]
    assert times_of(tmp_path, "2024-07-01 12:00", "2024-07-02", **berlin)[0] == [
        T0 + (31 + 29 + 31 + 30 + 31 + 30) * 24 * HOUR + 10 * HOUR,
        T0 + (31 + 29 + 31 + 30 + 31 + 30) * 24 * HOUR + 22 * HOUR,
    ]


def test_an_offset_in_the_stamp_wins_over_the_zone_row_by_row(tmp_path):
    got = times_of(
        tmp_path, "2024-01-01T01:00:00", "2024-01-01T00:00:01Z", timezone="Europe/Berlin"
    )
    assert got == ([T0, T0 + SECOND], {})


def test_a_stamp_in_the_hour_that_dst_skips_is_counted(tmp_path):
    stamps = [f"2024-03-31T{clock}" for clock in ("01:59:59", "02:00:00", "02:59:59", "03:00:00")]
    times, counted = times_of(tmp_path, *stamps, timezone="Europe/Berlin")
    assert np.diff(times).tolist() == [SECOND]
    assert counted == {"time in the hour that DST skips": 2}


def test_the_doubled_hour_is_refused_and_the_way_out_is_named(tmp_path):
    with pytest.raises(RefusedError, match=r"2024-10-27T02:30.*twice in Europe/Berlin.*by_order"):
        times_of(tmp_path, f"{CLOCKS_BACK}T02:30:00", timezone="Europe/Berlin")
    around = (f"{CLOCKS_BACK}T01:59:59", f"{CLOCKS_BACK}T03:00:00")
    times, _ = times_of(tmp_path, *around, timezone="Europe/Berlin")
    assert np.diff(times).tolist() == [2 * HOUR + SECOND]


@pytest.mark.parametrize("batch_rows", [1, 2, 5, 100])
def test_the_doubled_hour_is_resolved_by_order(tmp_path, batch_rows):
    clocks = ("01:30", "02:00", "02:20", "02:40", "02:00", "02:20", "02:40", "03:00")
    times, _ = times_of(
        tmp_path,
        *(f"{CLOCKS_BACK}T{clock}" for clock in clocks),
        timezone="Europe/Berlin",
        doubled_hour="by_order",
        batch_rows=batch_rows,
    )
    minutes = [(time - TWO_SUMMER) // (60 * SECOND) for time in times]
    assert minutes == [-30, 0, 20, 40, 60, 80, 100, 120]


async def test_the_doubled_hour_is_resolved_in_each_series_and_after_a_restart(tmp_path):
    rows = [
        f"{CLOCKS_BACK}T{clock},{tag},1"
        for clock in ("02:10", "02:50", "02:10", "02:50")
        for tag in ("a", "b")
    ]
    rows.insert(5, f"{CLOCKS_BACK}T02:20,c,1")  # c is still in its first pass while a is back
    path = write(tmp_path / "a.csv", "time,tag,value", *rows)
    read = settings(path, timezone="Europe/Berlin", doubled_hour="by_order", batch_rows=1, **LONG)
    whole = await source(tags("a", "b", "c"), read)
    at_once = read.model_copy(update={"batch_rows": 100})
    assert samples(await source(tags("a", "b", "c"), at_once)) == samples(whole)
    minutes: dict[int, list[int]] = {}
    for tag, time, _, _ in samples(whole):
        minutes.setdefault(tag, []).append((time - TWO_SUMMER) // (60 * SECOND))
    assert minutes == {1: [10, 50, 70, 110], 2: [10, 50, 70, 110], 3: [20]}
    for cut in range(1, len(whole)):
        rest = await source(tags("a", "b", "c"), read, resume=whole[cut - 1].position)
        assert samples(whole[:cut]) + samples(rest) == samples(whole)


def test_half_hour_changes_are_known(tmp_path):
    """Lord Howe Island moves by 30 minutes: 02:00 goes back to 01:30 on 2024-04-07."""
    stamps = [f"2024-04-07T{clock}" for clock in ("01:29", "01:30", "01:59", "01:30", "02:00")]
    zone = {"timezone": "Australia/Lord_Howe", "doubled_hour": "by_order"}
    times, _ = times_of(tmp_path, *stamps, **zone)
    assert [(time - times[0]) // (60 * SECOND) for time in times] == [0, 1, 30, 31, 61]


def test_stamps_of_the_start_of_an_interval_are_moved_to_its_end(tmp_path):
    got = times_of(tmp_path, "2024-01-01T00:00:00Z", stamp="start", interval_ms=60_000)
    assert got == ([T0 + 60 * SECOND], {})
    got = times_of(tmp_path, "2024-01-01T00:00:00Z", stamp="end", interval_ms=60_000)
    assert got == ([T0], {})


@pytest.mark.parametrize(
    ("column", "given", "time"),
    [
        (pa.array([T0 + 1], pa.timestamp("ns", "UTC")), {}, T0 + 1),
        (pa.array([T0 // SECOND], pa.timestamp("s", "Asia/Tokyo")), {}, T0),
        (pa.array([T0 // 10**6], pa.timestamp("ms")), {"timezone": "Asia/Tokyo"}, T0 - 9 * HOUR),
        (pa.array([T0 // 10**6 + 1]), {"time_format": "epoch_ms"}, T0 + 10**6),
        (pa.array([T0 // SECOND + 0.001]), {"time_format": "epoch_s"}, T0 + 10**6),
        (pa.array(["2024-01-01T00:00:00Z"]).dictionary_encode(), {}, T0),
    ],
)
def test_parquet_stamps_of_every_type_are_exact(tmp_path, column, given, time):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"time": column, "flow": [1.0]}), path)
    assert samples(history(tags("flow"), settings(path, **given))) == [(1, time, 1, 0)]


def test_parquet_stamps_that_do_not_say_what_they_mean_are_refused(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"time": pa.array([0], pa.timestamp("us")), "flow": [1.0]}), path)
    with pytest.raises(RefusedError, match="`timezone`"):
        history(tags("flow"), settings(path))
    pq.write_table(pa.table({"time": [T0], "flow": [1.0]}), path)
    with pytest.raises(RefusedError, match="epoch_ns"):
        history(tags("flow"), settings(path))

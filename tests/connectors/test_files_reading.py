"""Files as files: kinds, damage, several at once, resuming, pace and memory."""

import asyncio
import gzip
import io
import json
import logging
import time
import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from support.recordings import (
    SECOND,
    T0,
    history,
    rejected,
    samples,
    settings,
    source,
    source_now,
    tags,
    write,
)

from connectors.batch import GOOD, Notice, NoticeKind, Samples
from connectors.contract import LostError, NotReadyError, RefusedError
from connectors.files import tables
from connectors.files.source import History, Source

EPOCH = {"time_format": "epoch_s"}
S0 = T0 // SECOND


def rows(*seconds, value=1.0):
    """Lines of a table with one column, at these seconds after T0."""
    return ["time,flow", *(f"{S0 + second},{value}" for second in seconds)]


# Kinds of files, and damage


def test_a_glob_that_matches_nothing_is_not_ready_for_files_may_still_appear(tmp_path):
    for path in (tmp_path / "*.csv", tmp_path / "a.csv", tmp_path / "no" / "**" / "a.parquet"):
        with pytest.raises(NotReadyError, match="no file matches"):
            history(tags("flow"), settings(path))


def test_a_file_of_another_kind_is_refused(tmp_path):
    write(tmp_path / "a.xlsx", "what")
    with pytest.raises(RefusedError, match=r"a\.xlsx: want a name that ends in \.csv"):
        history(tags("flow"), settings(tmp_path / "*"))


def test_folders_are_searched_with_two_stars_and_compressed_files_are_read(tmp_path):
    folder = tmp_path / "2024" / "01"
    folder.mkdir(parents=True)
    write(tmp_path / "2024" / "a.txt", *rows(0))
    with gzip.open(folder / "b.csv.gz", "wt") as file:
        file.write("\n".join(rows(1)))
    read = settings(tmp_path / "**" / "*.[ct]*", **EPOCH)
    assert [at for _, at, _, _ in samples(history(tags("flow"), read))] == [T0, T0 + SECOND]


def test_a_name_with_wildcard_characters_is_itself_first(tmp_path):
    path = write(tmp_path / "a[1].csv", *rows(0))
    assert len(samples(history(tags("flow"), settings(path, **EPOCH)))) == 1


@pytest.mark.parametrize("content", ["", "time,flow\n", "time,flow", "\n\n"])
def test_an_empty_file_among_others_is_passed_over_with_one_warning(tmp_path, caplog, content):
    (tmp_path / "a.csv").write_text(content)
    write(tmp_path / "b.csv", *rows(0))
    with caplog.at_level(logging.WARNING):
        got = source_now(tags("flow"), settings(tmp_path / "*.csv", **EPOCH))
    assert samples(got) == [(1, T0, 1, GOOD)]
    assert [record.getMessage() for record in caplog.records] == [
        f"rig: {tmp_path / 'a.csv'} holds no rows."
    ]


def test_an_empty_parquet_file_is_passed_over(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"")
    pq.write_table(pa.table({"time": [S0], "flow": [1.0]})[:0], tmp_path / "b.parquet")
    pq.write_table(pa.table({"time": [S0], "flow": [1.0]}), tmp_path / "c.parquet")
    read = settings(tmp_path / "*.parquet", **EPOCH)
    assert samples(history(tags("flow"), read)) == [(1, T0, 1, GOOD)]


def test_a_wrong_encoding_is_refused_with_the_place(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes("time,flow,Gerät\n1,2,x\n1,2,ä\n".encode("cp1252"))
    with pytest.raises(RefusedError, match=r"a\.csv: byte 13 \(line 1\) is no utf-8.*`encoding`"):
        history(tags("flow"), settings(path, **EPOCH))
    path.write_bytes("time,flow,x\n1,2,x\n1,2,ä\n".encode("cp1252"))
    with pytest.raises(RefusedError, match=r"byte 22 \(line 3\) is no utf-8"):
        history(tags("flow"), settings(path, **EPOCH))
    assert len(samples(history(tags("flow"), settings(path, encoding="cp1252", **EPOCH)))) == 2
    path.write_bytes("time,flow,x\n1,2,ä".encode()[:-1])
    with pytest.raises(RefusedError, match=r"byte 16 \(line 2\) is no utf-8"):
        history(tags("flow"), settings(path, **EPOCH))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_encodings_and_line_ends_of_windows_are_read(tmp_path, encoding):
    path = tmp_path / "a.csv"
    path.write_bytes(f"time;Gerät\r\n{S0};1\r\n{S0 + 1};2".encode(encoding))
    given = EPOCH | {"encoding": "utf-8" if encoding == "utf-8-sig" else encoding}
    read = history(tags("Gerät"), settings(path, delimiter=";", **given))
    assert samples(read) == [(1, T0, 1, GOOD), (1, T0 + SECOND, 2, GOOD)]


def test_a_character_cut_by_the_end_of_a_read_is_no_fault(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "BLOCK_BYTES", 7)
    lines = [f"{S0 + n},{n},äöüß€" for n in range(50)]
    path = write(tmp_path / "a.csv", "time,flow,Gerät", *lines)
    read = history(tags("flow"), settings(path, **EPOCH))
    assert [value for _, _, value, _ in samples(read)] == list(range(50))


def test_a_file_without_line_ends_is_refused_before_it_fills_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "BLOCK_BYTES", 10)
    monkeypatch.setattr(tables, "LONGEST_LINE", 100)
    path = tmp_path / "a.csv"
    path.write_text("x" * 1000)
    with pytest.raises(RefusedError, match="line 1 is longer than 100 characters"):
        history(tags("flow"), settings(path))


def test_a_file_whose_lines_end_otherwise_is_refused_and_no_crash(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"time,flow\r1704067200,1\r")  # as of old Macs
    with pytest.raises(RefusedError, match=r"a\.csv: its header cannot be read.* LF or CRLF"):
        history(tags("flow"), settings(path, **EPOCH))


def test_truncated_and_foreign_files_are_refused(tmp_path):
    whole = tmp_path / "whole.parquet"
    pq.write_table(pa.table({"time": [S0] * 1000, "flow": np.arange(1000.0)}), whole)
    content = whole.read_bytes()
    path = tmp_path / "a.parquet"
    for damaged in (content[:-10], content[:20], b"time,flow\n1,2\n"):
        path.write_bytes(damaged)
        with pytest.raises(RefusedError, match=r"a\.parquet is no Parquet file, or damaged"):
            history(tags("flow"), settings(path, **EPOCH))
    path.write_bytes(content[:4] + b"\xff" * 2000 + content[2004:])  # the footer is whole
    with pytest.raises(RefusedError, match="damaged"):
        history(tags("flow"), settings(path, **EPOCH))
    packed = gzip.compress("\n".join(rows(*range(10_000))).encode())
    for damaged in (packed[: len(packed) // 2], packed[:-4] + b"1234", b"no gzip at all"):
        (tmp_path / "a.csv.gz").write_bytes(damaged)
        with pytest.raises(RefusedError, match="compressed data is damaged or cut off"):
            history(tags("flow"), settings(tmp_path / "a.csv.gz", **EPOCH))


def test_parquet_columns_of_all_numbers_are_read_and_others_are_refused(tmp_path):
    path = tmp_path / "a.parquet"
    table = pa.table(
        {
            "time": [S0, S0 + 1],
            "int": pa.array([1, None], pa.uint16()),
            "flag": [True, False],
            "exact": pa.array([1, 2]).cast(pa.decimal128(22, 3)),
            "text": ["1.5", "oops"],
            "list": [[1.0], [2.0]],
        }
    )
    pq.write_table(table, path)
    read = history(tags("int", "flag", "exact", "text"), settings(path, **EPOCH))
    assert [(tag, value) for tag, _, value, _ in samples(read)] == [
        (1, 1), (2, 1), (3, 1), (4, 1.5), (2, 0), (3, 2),
    ]  # fmt: skip
    assert rejected(read) == {"value not a number": 1}
    with pytest.raises(RefusedError, match="cannot be read"):
        history(tags("list"), settings(path, **EPOCH))


def test_the_unit_of_a_parquet_field_is_checked(tmp_path):
    path = tmp_path / "a.parquet"
    field = pa.field("flow", pa.float64(), metadata={b"unit": b"l/min"})
    schema = pa.schema([pa.field("time", pa.int64()), field])
    pq.write_table(pa.table({"time": [S0], "flow": [1.0]}, schema), path)
    assert len(samples(history(tags(("flow", "l/min")), settings(path, **EPOCH)))) == 1
    with pytest.raises(RefusedError, match=r"'flow' is in 'l/min'.*says 'bar'"):
        history(tags(("flow", "bar")), settings(path, **EPOCH))


# Any table, in any form


CELLS = st.none() | st.integers(-5, 5).map(float) | st.sampled_from([0.1, 1e-300, float("nan")])
TABLES = st.lists(st.tuples(st.integers(0, 10**12), CELLS, CELLS), min_size=1, max_size=12)


@given(table=TABLES, cut=st.integers(0, 12), batch_rows=st.integers(1, 13))
@hypothesis_settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_table_gives_the_same_samples_in_any_form_and_cut(tmp_path, table, cut, batch_rows):
    wanted = [
        (tag, T0 + after, str(value) if value != value else value)  # noqa: PLR0124 (NaN)
        for after, *cells in table
        for tag, value in enumerate(cells, 1)
        if value is not None
    ]

    def shown(value):
        return "" if value is None else repr(value)

    folder = tmp_path / "table"
    for old in folder.glob("*"):
        old.unlink()
    folder.mkdir(exist_ok=True)
    wide = [f"{T0 + at},{shown(x)},{shown(y)}" for at, x, y in table]
    long = [
        f"{T0 + at},{tag},{shown(value)}"
        for at, x, y in table
        for tag, value in (("x", x), ("y", y))
        if value is not None
    ]
    write(folder / "wide.csv", "time,x,y", *wide)
    write(folder / "long.csv", "time,tag,value", *long)
    columns = {
        "time": [T0 + at for at, _, _ in table],
        "x": pa.array([x for _, x, _ in table], pa.float64()),
        "y": pa.array([y for _, _, y in table], pa.float64()),
    }
    pq.write_table(pa.table(columns), folder / "wide.parquet", row_group_size=5)
    given = {"time_format": "epoch_ns", "batch_rows": batch_rows}
    in_long = {"layout": "long", "tag_column": "tag", "value_column": "value"}
    forms = (("wide.csv", {}), ("long.csv", in_long), ("wide.parquet", {}))
    for name, form in forms:
        got = history(tags("x", "y"), settings(folder / name, **given, **form))
        assert [sample[:3] for sample in samples(got)] == wanted
    for n, part in enumerate((table[:cut], table[cut:])):
        lines = [f"{T0 + at},{shown(x)},{shown(y)}" for at, x, y in part]
        write(folder / f"part{n}.csv", "time,x,y", *lines)
    got = history(tags("x", "y"), settings(folder / "part*.csv", **given))
    assert sorted(map(repr, samples(got))) == sorted(
        map(repr, samples(history(tags("x", "y"), settings(folder / "wide.csv", **given))))
    )


# Several files


@pytest.mark.parametrize("batch_rows", [1, 2, 3, 7, 1000])
def test_several_files_come_out_in_one_order_of_time_however_they_are_cut(tmp_path, batch_rows):
    rng = np.random.default_rng(2)
    wanted = []
    for n in range(6):
        seconds = np.sort(rng.integers(n * 20, n * 20 + 50, 30))  # neighbours overlap, with ties
        write(tmp_path / f"{n}.csv", *rows(*seconds, value=n))
        wanted += [(T0 + int(second) * SECOND, n) for second in seconds]
    read = settings(tmp_path / "*.csv", batch_rows=batch_rows, **EPOCH)
    got = history(tags("flow"), read)
    assert [(at, value) for _, at, value, _ in samples(got)] == sorted(wanted)
    assert max(len(batch) for batch in got if isinstance(batch, Samples)) <= batch_rows


def test_disorder_within_a_file_is_passed_on_as_it_is(tmp_path):
    write(tmp_path / "a.csv", *rows(0, 5, 3, 4, 6, value=1))
    write(tmp_path / "b.csv", *rows(1, 2, 5, 7, value=2))
    got = samples(history(tags("flow"), settings(tmp_path / "*.csv", batch_rows=2, **EPOCH)))
    assert [((at - T0) // SECOND, value) for _, at, value, _ in got] == [
        (0, 1), (1, 2), (2, 2), (5, 1), (3, 1), (4, 1), (5, 2), (6, 1), (7, 2),
    ]  # fmt: skip


def test_a_file_is_opened_only_when_its_first_stamp_is_due(tmp_path):
    for n in range(50):
        write(tmp_path / f"{49 - n:02}.csv", *rows(*range(n * 10, n * 10 + 12)))
    reader = Source("rig", settings(tmp_path / "*.csv", **EPOCH), tags("flow"))

    async def most_open():
        await reader.open(resume=None)
        most = 0
        async for _ in reader.batches():
            most = max(most, len(reader._merge._active))
        await reader.close()
        return most

    assert asyncio.run(most_open()) <= 3


async def test_tags_without_any_sample_are_named_once_at_the_end(tmp_path, caplog):
    path = write(tmp_path / "a.csv", "time,tag,value", f"{S0},flow,1")
    read = settings(path, layout="long", tag_column="tag", value_column="value", **EPOCH)
    with caplog.at_level(logging.WARNING):
        await source(tags("flow", "flwo"), read)
    assert [record.getMessage() for record in caplog.records] == [
        "rig: no sample of 1 tags: 'flwo'."
    ]


# Resuming


async def test_disorder_within_a_file_is_the_same_after_a_stop(tmp_path):
    write(tmp_path / "a.csv", *rows(0, 5, 3, 1, 6, 2, value=1))
    write(tmp_path / "b.csv", *rows(1, 4, 2, 5, 3, 9, value=2))
    write(tmp_path / "c.csv", *rows(2, 5, 5, 1, 6, 7, value=3))
    read = settings(tmp_path / "*.csv", batch_rows=1, **EPOCH)
    whole = await source(tags("flow"), read)
    for cut in range(1, len(whole)):
        rest = await source(tags("flow"), read, resume=whole[cut - 1].position)
        assert samples(whole[:cut]) + samples(rest) == samples(whole)


def bad_and_good(tmp_path):
    """Three files that overlap, with every kind of rejected cell."""
    for n in range(3):
        lines = []
        for k in range(12):
            stamp = "never" if k % 5 == 4 else str(S0 + n * 5 + k)
            lines.append(f"{stamp},{'oops' if k % 3 == 1 else k},{k}" + ",9" * (k % 4 == 3))
        write(tmp_path / f"{n}.csv", "time,flow,temp", *lines)
    return settings(tmp_path / "*.csv", batch_rows=3, **EPOCH)


async def test_a_stop_between_any_two_batches_loses_nothing_and_counts_nothing_twice(tmp_path):
    read, asked = bad_and_good(tmp_path), tags("flow", "temp")
    whole = await source(asked, read)
    assert len(rejected(whole)) == 3
    for cut in range(1, len(whole)):
        rest = await source(asked, read, resume=whole[cut - 1].position)
        assert samples(whole[:cut]) + samples(rest) == samples(whole)
        both = rejected(whole[:cut] + rest)
        assert both == rejected(whole)


async def test_a_stop_after_every_single_batch_gives_the_same_as_no_stop(tmp_path):
    read, asked = bad_and_good(tmp_path), tags("flow", "temp")
    whole = await source(asked, read)
    taken, resume = [], None
    while not taken or getattr(taken[-1], "kind", None) is not NoticeKind.ENDED:
        taken += await source(asked, read, resume=resume, stop_after=1)
        resume = taken[-1].position
    assert samples(taken) == samples(whole)
    assert rejected(taken) == rejected(whole)


async def test_parquet_resumes_within_a_row_group(tmp_path):
    path = tmp_path / "a.parquet"
    table = pa.table({"time": [S0 + n for n in range(100)], "flow": np.arange(100.0)})
    pq.write_table(table, path, row_group_size=30)
    read = settings(path, batch_rows=7, **EPOCH)
    whole = await source(tags("flow"), read)
    for cut in range(1, len(whole)):
        rest = await source(tags("flow"), read, resume=whole[cut - 1].position)
        assert samples(whole[:cut]) + samples(rest) == samples(whole)


async def test_resuming_with_another_batch_size_gives_the_same_samples(tmp_path):
    read, asked = bad_and_good(tmp_path), tags("flow", "temp")
    whole = await source(asked, read)
    other = read.model_copy(update={"batch_rows": 2})
    for cut in range(1, len(whole)):
        rest = await source(asked, other, resume=whole[cut - 1].position)
        assert samples(whole[:cut]) + samples(rest) == samples(whole)
        assert rejected(whole[:cut] + rest) == rejected(whole)


async def test_what_was_read_is_not_read_again_and_what_came_since_is(tmp_path):
    write(tmp_path / "a.csv", *rows(0, 1))
    read = settings(tmp_path / "*.csv", **EPOCH)
    first = await source(tags("flow"), read)
    again = await source(tags("flow"), read, resume=first[-1].position)
    assert [batch.kind for batch in again] == [NoticeKind.ENDED]
    write(tmp_path / "a.csv", *rows(0, 1, 2))
    write(tmp_path / "b.csv", *rows(3))
    more = await source(tags("flow"), read, resume=again[-1].position)
    assert [(at - T0) // SECOND for _, at, _, _ in samples(more)] == [2, 3]


async def test_a_file_that_became_shorter_is_refused(tmp_path):
    path = write(tmp_path / "a.csv", *rows(0, 1, 2, 3))
    read = settings(path, batch_rows=2, **EPOCH)
    batches = await source(tags("flow"), read)
    write(path, *rows(0))
    with pytest.raises(RefusedError, match=r"a\.csv is another file .*2 rows were read"):
        await source(tags("flow"), read, resume=batches[0].position)
    with pytest.raises(RefusedError, match=r"a\.csv is another file .*bytes were read"):
        await source(tags("flow"), read, resume=batches[-1].position)


async def test_a_file_that_is_gone_is_forgotten_and_said_if_it_was_not_read_to_its_end(
    tmp_path, caplog
):
    write(tmp_path / "a.csv", *rows(0, 1))
    write(tmp_path / "b.csv", *rows(5))
    read = settings(tmp_path / "*.csv", batch_rows=1, **EPOCH)
    first = await source(tags("flow"), read, stop_after=1)
    (tmp_path / "a.csv").unlink()
    with caplog.at_level(logging.ERROR):
        rest = await source(tags("flow"), read, resume=first[0].position)
    assert [record.getMessage() for record in caplog.records] == [
        "rig: a.csv is gone and was not read to its end."
    ]
    assert len(samples(rest)) == 1
    assert json.loads(rest[-1].position)["files"].keys() == {"b.csv"}


@pytest.mark.parametrize(
    "position", ["", "17", "{}", '{"files":[],"owed":{}}', '{"files":{"a":1}}']
)
def test_a_position_of_something_else_is_refused(tmp_path, position):
    path = write(tmp_path / "a.csv", *rows(0))
    with pytest.raises(RefusedError, match="position is none of this connector"):
        source_now(tags("flow"), settings(path, **EPOCH), resume=position)


# History


def test_history_gives_what_the_source_gives_within_the_interval(tmp_path):
    read, asked = bad_and_good(tmp_path), tags("flow", "temp")
    whole = samples(source_now(asked, read))
    assert samples(history(asked, read)) == whole
    since, until = sorted({at for _, at, _, _ in whole})[3:8:4]
    some = list(History("rig", read, asked).read(since=since, until=until))
    wanted = [sample for sample in whole if since < sample[1] <= until]
    assert samples(some) == wanted
    assert until in {at for _, at, _, _ in wanted}
    parts = [History("rig", read, asked).read(until=since), iter(some)]
    parts.append(History("rig", read, asked).read(since=until))
    count = [sum(rejected(list(part)).values()) for part in parts]
    assert sum(count) == sum(rejected(history(asked, read)).values())


# Time and memory


async def test_a_source_ends_with_a_notice(tmp_path):
    path = write(tmp_path / "a.csv", *rows(0))
    batches = await source(tags("flow"), settings(path, **EPOCH))
    assert isinstance(batches[-1], Notice)
    assert batches[-1].kind is NoticeKind.ENDED


async def test_a_recording_is_paced_as_recorded_times_the_speed(tmp_path):
    path = write(tmp_path / "a.csv", *rows(*range(31)))
    paced = Source("rig", settings(path, speed=100.0, **EPOCH), tags("flow"))
    await paced.open(resume=None)
    clock = asyncio.get_running_loop().time
    start, late = clock(), []
    async for batch in paced.batches():
        if isinstance(batch, Samples):
            last = (int(batch.time[-1]) - T0) / SECOND / 100
            late.append(clock() - start - last)
            assert batch.time[-1] - batch.time[0] < 20 * SECOND  # 0.2 s of wall time
    await paced.close()
    assert clock() - start >= 0.3
    assert min(late) >= 0


async def test_a_pause_of_the_recording_can_be_cancelled_at_once(tmp_path):
    path = write(tmp_path / "a.csv", *rows(0, 1000))
    paced = Source("rig", settings(path, speed=1.0, **EPOCH), tags("flow"))
    await paced.open(resume=None)
    batches = paced.batches()
    assert isinstance(await anext(batches), Samples)
    waiting = asyncio.ensure_future(anext(batches))
    await asyncio.sleep(0)
    start = time.monotonic()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await paced.close()
    assert time.monotonic() - start < 1


async def test_a_file_that_vanishes_before_it_is_due_is_a_lost_link(tmp_path):
    write(tmp_path / "a.csv", *rows(0))
    later = write(tmp_path / "b.csv", *rows(9))
    reader = Source("rig", settings(tmp_path / "*.csv", **EPOCH), tags("flow"))
    await reader.open(resume=None)
    later.unlink()
    with pytest.raises(LostError, match=r"b\.csv cannot be opened"):
        async for _ in reader.batches():
            pass
    await reader.close()


async def test_a_disk_that_fails_is_not_ready_at_open_and_a_lost_link_later(tmp_path, monkeypatch):
    path = write(tmp_path / "a.csv", *rows(*range(1000)))
    reader = Source("rig", settings(path, **EPOCH), tags("flow"))

    class Failing(io.FileIO):
        def read(self, _size=-1, /):
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(tables, "open", Failing, raising=False)
    with pytest.raises(NotReadyError, match=r"a\.csv broke off near line 1: Input/output error"):
        await reader.open(resume=None)
    monkeypatch.undo()
    monkeypatch.setattr(tables, "BLOCK_BYTES", 100)
    await reader.open(resume=None)
    batches = reader.batches()
    assert isinstance(await anext(batches), Samples)
    table = reader._merge._active[0].table
    table._file.close()
    table._file = Failing(path)
    with pytest.raises(LostError, match="broke off near line"):
        async for _ in batches:
            pass
    await reader.close()


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_million_cells_are_read_in_bounded_memory(tmp_path, kind):
    width, count = 10, 100_000
    names = [f"c{n}" for n in range(width)]
    table = pa.table(
        {"time": np.arange(count) + S0}
        | {name: np.round(np.random.default_rng(0).random(count), 4) for name in names}
    )
    path = tmp_path / f"a.{kind}"
    if kind == "csv":
        pa.csv.write_csv(table, path)
    else:
        pq.write_table(table, path, row_group_size=count)
    del table
    read = History("rig", settings(path, **EPOCH), tags(*names))
    tracemalloc.start()
    before = pa.total_allocated_bytes()
    seen, most, arrow = 0, 0, 0
    for batch in read.read():
        seen += len(batch)
        most = max(most, len(batch))
        arrow = max(arrow, pa.total_allocated_bytes() - before)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seen == width * count
    assert most <= 2000 * width
    assert peak < 16 << 20  # the samples alone would take 33 MB
    assert arrow < 6 << 20

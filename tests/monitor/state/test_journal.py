import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.keeping import batch, same

from connectors.batch import Notice, NoticeKind, Samples, Waveforms, with_bad_numbers_marked
from monitor.core.records import (
    Action,
    Beat,
    Cause,
    Command,
    Epoch,
    Grade,
    PictureResult,
    PicturesTaken,
    Record,
    SeenDefect,
)
from monitor.state.columns import pack
from monitor.state.database import Database
from monitor.state.errors import CorruptError, DamagedError
from monitor.state.journal import Journal, Row, encode

INSTANTS = st.integers(-(1 << 63), (1 << 63) - 1)
POSITIONS = st.none() | st.text()
SOURCES = st.text(max_size=8)


@st.composite
def samples(draw):
    bits = draw(st.lists(st.integers(0, (1 << 64) - 1), max_size=20))
    value = np.array(bits, np.uint64).view(np.float64)
    generator = np.random.default_rng(draw(st.integers(0, 9)))
    status = generator.integers(0, 1 << 32, len(bits), dtype=np.uint32)
    return Samples(
        source=draw(SOURCES),
        tag=generator.integers(0, 1 << 31, len(bits), dtype=np.int32),
        time=generator.integers(-(1 << 63), 1 << 63, len(bits), dtype=np.int64),
        value=value,
        status=with_bad_numbers_marked(value, status),
        flags=generator.integers(0, 256, len(bits), dtype=np.uint8),
        position=draw(POSITIONS),
    )


@st.composite
def waveforms(draw):
    count, length = draw(st.integers(0, 3)), draw(st.integers(0, 50))
    generator = np.random.default_rng(count * 100 + length)
    return Waveforms(
        source=draw(SOURCES),
        tag=np.arange(count, dtype=np.int32),
        time=np.arange(count, dtype=np.int64),
        rate=np.full(count, 25_600.0),
        speed=np.full(count, np.nan, np.float32),
        status=np.zeros(count, np.uint32),
        block=generator.standard_normal((count, length), np.float32),
        position=draw(POSITIONS),
    )


@st.composite
def pictures(draw):
    count = draw(st.integers(0, 3))
    texts = st.lists(st.none() | st.text(), min_size=count, max_size=count).map(tuple)
    return PicturesTaken(
        source=draw(SOURCES),
        camera=np.arange(count, dtype=np.int32),
        time=np.arange(count, dtype=np.int64),
        part=draw(texts),
        recipe=draw(texts),
        hash=("ab",) * count,
        repeated=draw(st.integers(0, 9)),
        position=draw(POSITIONS),
    )


NOTICES = st.builds(
    Notice,
    source=SOURCES,
    kind=st.sampled_from(NoticeKind),
    since=st.integers(0, 1 << 62),
    until=st.integers(1 << 62, (1 << 63) - 1),
    tags=st.lists(st.integers(0, 99)).map(tuple),
    reason=st.text(min_size=1),
    count=st.integers(1, 99),
    position=POSITIONS,
)
NUMBERS = st.floats(allow_nan=False)
DEFECTS = st.builds(
    SeenDefect,
    label=st.text(),
    probability=NUMBERS,
    box=st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS),
    width_mm=st.none() | NUMBERS,
    grade=st.sampled_from(Grade),
)
BODIES = st.one_of(
    samples(),
    waveforms(),
    NOTICES,
    st.builds(
        PictureResult,
        camera=st.integers(0, 9),
        time=INSTANTS,
        part=st.none() | st.text(),
        label=st.text(),
        probability=NUMBERS,
        recipe=st.none() | st.text(),
        hash=st.text(),
        surprise=st.none() | NUMBERS,
        grade=st.sampled_from(Grade),
        defects=st.lists(DEFECTS, max_size=3).map(tuple),
        rejected=st.text(),
        source=st.none() | SOURCES,
        area_px=st.none() | NUMBERS,
        features=st.lists(st.floats(width=32)).map(lambda row: np.array(row, "<f4").tobytes()),
    ),
    pictures(),
    st.builds(
        Command,
        action=st.sampled_from(Action),
        target=st.text(),
        who=st.text(),
        why=st.text(),
        until=st.none() | INSTANTS,
    ),
    st.builds(
        Epoch,
        config=st.text(),
        bundles=st.dictionaries(st.text(), st.text()),
        cause=st.sampled_from(Cause),
    ),
    st.builds(Beat),
)


@given(st.lists(st.builds(Record, INSTANTS, BODIES), max_size=12))
@settings(max_examples=25, deadline=None)
def test_any_sequence_of_records_reads_back_equal_after_a_restart(records):
    with tempfile.TemporaryDirectory() as name:
        with Database(Path(name)) as database, database.atomic() as tx:
            numbers = [Journal(database).append(tx, record) for record in records]
        with Database(Path(name)) as database:
            found = list(Journal(database).read(0))
            positions = Journal(database).positions()
    assert numbers == [number for number, _ in found] == list(range(1, len(records) + 1))
    assert all(same(was, now) for was, (_, now) in zip(records, found, strict=True))
    bodies = [record.body for record in records]
    assert positions == {
        body.source: body.position
        for body in bodies
        if isinstance(body, Samples | Waveforms | PicturesTaken | Notice)
        and body.position is not None
    }


def fill(database, count, *, size=1):
    with database.atomic() as tx:
        for number in range(1, count + 1):
            Journal(database).append(tx, batch(number, size=size))


def numbers(found):
    return [number for number, _ in found]


def test_reading_stops_at_the_bytes_allowed_but_gives_at_least_one(database):
    fill(database, 100)
    journal = Journal(database)
    size = len(encode(batch(1)).body)
    assert numbers(journal.read(0, limit_bytes=1)) == [1]
    assert len(numbers(journal.read(0, limit_bytes=size * 50))) in (50, 51)
    assert numbers(journal.read(97)) == [98, 99, 100]
    assert numbers(journal.read(100)) == []


def test_large_records_are_not_fetched_many_at_once(database, monkeypatch):
    noise = np.random.default_rng(1).random(50_000)  # 400 kB that cannot be deflated
    with database.atomic() as tx:
        for number in range(1, 41):
            one = batch(number, size=len(noise) if number % 2 else 1)
            if number % 2:
                one = replace(one, body=replace(one.body, value=noise))
            Journal(database).append(tx, one)
    fetched, query = [], Database.query

    def counted(self, sql, arguments=()):
        rows = query(self, sql, arguments)
        if "body FROM journal" in sql:
            fetched.append([len(row[-1]) for row in rows])
        return rows

    monkeypatch.setattr(Database, "query", counted)
    assert numbers(Journal(database).read(0)) == list(range(1, 41))
    assert max(len(page) for page in fetched) > 1
    assert all(len(page) == 1 or sum(page) <= 1 << 20 for page in fetched)


def test_a_record_encoded_beforehand_is_the_same(database):
    with database.atomic() as tx:
        Journal(database).append(tx, encode(batch(5)))
    assert same(next(Journal(database).read(0))[1], batch(5))


def test_a_position_that_was_not_committed_is_not_remembered(database):
    fill(database, 3)
    with pytest.raises(ZeroDivisionError), database.atomic() as tx:
        Journal(database).append(tx, batch(Journal(database).append(tx, batch(9)) // 0))
    assert Journal(database).positions() == {"press": "3"}


def test_positions_outlive_the_records_they_came_with(database):
    fill(database, 3)
    with database.atomic() as tx:
        assert Journal(database).forget(tx, 99) == 3
    assert Journal(database).positions() == {"press": "3"}


def test_a_forgotten_number_is_never_used_again(database):
    fill(database, 3)
    journal = Journal(database)
    with database.atomic() as tx:
        journal.forget(tx, 99)
    assert (journal.first(), journal.last()) == (4, 3)
    fill(database, 1)
    assert (journal.first(), journal.last()) == (4, 4)


def test_forgetting_goes_in_bounded_steps_and_spares_the_rest(database):
    fill(database, 10)
    journal = Journal(database)
    for went in (4, 3, 0):
        with database.atomic() as tx:
            assert journal.forget(tx, 8, limit=4) == went
    assert journal.first() == 8
    assert numbers(journal.read(7)) == [8, 9, 10]


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE journal SET body = zeroblob(length(body)) WHERE number = 3",
        "UPDATE journal SET body = substr(body, 1, length(body) - 1) WHERE number = 3",
        "UPDATE journal SET received = received + 1 WHERE number = 3",
        "UPDATE journal SET source = 'other' WHERE number = 3",
        "UPDATE journal SET position = '9' WHERE number = 3",
        "DELETE FROM journal WHERE number = 3",
    ],
)
def test_a_damaged_record_is_named_and_the_caller_may_read_on(database, damage):
    fill(database, 5)
    with database.atomic() as tx:
        tx.execute(damage)
    reading = Journal(database).read(0)
    assert [next(reading)[0], next(reading)[0]] == [1, 2]
    with pytest.raises(CorruptError, match="3") as caught:
        next(reading)
    assert caught.value.number == 3
    assert numbers(Journal(database).read(caught.value.number)) == [4, 5]


@pytest.mark.parametrize(
    "changed",
    [
        "kind = CAST(x'ff00' AS TEXT)",
        "received = x'00'",
        "received = 'x'",
        "body = 7",
        "body = x''",
    ],
)
def test_columns_of_another_type_or_text_are_damage_like_any_other(database, changed):
    fill(database, 3)
    with database.atomic() as tx:
        tx.execute(f"UPDATE journal SET {changed} WHERE number = 2")  # noqa: S608 - ours
    with pytest.raises(CorruptError, match="journal record 2") as caught:
        list(Journal(database).read(0))
    assert caught.value.number == 2
    assert numbers(Journal(database).read(2)) == [3]


def test_a_number_out_of_order_is_damage_of_the_database_and_skips_nothing(database):
    fill(database, 3)
    with database.atomic() as tx:
        tx.execute("UPDATE journal SET number = 1 << 40 WHERE number = 3")
        tx.execute("UPDATE sqlite_sequence SET seq = 3 WHERE name = 'journal'")
    with pytest.raises(DamagedError, match="stands after 2"):
        list(Journal(database).read(0))


def test_a_replay_from_before_what_was_forgotten_is_refused(database):
    fill(database, 5)
    with database.atomic() as tx:
        Journal(database).forget(tx, 4)
    with pytest.raises(CorruptError, match="records 3 to 3 are not there"):
        list(Journal(database).read(2))


def test_a_kind_of_record_that_is_not_known_is_named(database):
    bare = Row(received=1, kind="dream", source=None, position=None, body=b"")
    with database.atomic() as tx:
        Journal(database).append(tx, replace(bare, body=pack({}, {}, bound_to=bare.seal)))
    with pytest.raises(CorruptError, match="its kind is 'dream', want one of samples, "):
        list(Journal(database).read(0))

"""The store of pictures: safe before they count, one result each, and let go of in their time."""

import os
from dataclasses import replace

import numpy as np
import pytest
from support.pictures import jpeg, noise, png

from connectors.batch import Pictures
from models.vision.acceptance import Grade
from monitor.core.records import Outlook, PictureResult, SeenDefect
from monitor.state.database import Database
from monitor.state.errors import CorruptError
from monitor.state.picture_results import PictureResults
from monitor.state.pictures import PictureStore

CONTENT = [png(noise(n, 4, 4, 1)) for n in range(4)]
SIZE = len(CONTENT[0])


@pytest.fixture
def store(database):
    return PictureStore(database)


def batch(*numbers, time=0, camera=0):
    count = len(numbers)
    return Pictures(
        source="eyes",
        camera=np.full(count, camera, np.int32),
        time=np.array(numbers, np.int64) + time,
        part=tuple(f"p{n}" for n in numbers),
        recipe=(None,) * count,
        content=tuple(CONTENT[n] for n in numbers),
    )


def take(database, store, *numbers, received=0, **given):
    for number in numbers:
        store.keep(CONTENT[number])
    with database.atomic() as tx:
        return store.take(tx, batch(*numbers, **given), received=received)


def finish(database, store):
    with database.atomic() as tx:
        return [store.finish(tx, one.number) for one in store.waiting(99)]


def forget(database, store, *, before=-1, limit_bytes=1 << 30, limit=99):
    with database.atomic() as tx:
        gone = store.forget(tx, before=before, limit_bytes=limit_bytes, limit=limit)
    with database.atomic() as tx:
        store.delete_files(tx, limit=limit)
    return gone


def files(store):
    return sorted(path.read_bytes() for path in store.folder.glob("*/*"))


def test_a_picture_waits_until_it_has_its_result_and_has_only_one(database, store):
    taken = take(database, store, 0, 1)
    assert len(taken) == 2
    first, second = store.waiting(9)
    assert (first.part, second.part) == ("p0", "p1")
    assert [one.hash for one in (first, second)] == list(taken.hash)
    assert store.read(first.file) == CONTENT[0]
    assert store.waiting_bytes() == 2 * SIZE
    with database.atomic() as tx:
        assert store.finish(tx, first.number)
        assert not store.finish(tx, first.number)
    assert [one.number for one in store.waiting(9)] == [second.number]
    assert store.waiting_bytes() == SIZE


def test_an_overlay_is_shown_in_place_of_its_picture_and_goes_with_it(database, store):
    digests = take(database, store, 0, 1).hash
    first, _ = store.waiting(9)
    store.keep_overlay(first.file, b"drawn")
    assert [store.shown(digest, overlay=True).read_bytes() for digest in digests] == [
        b"drawn",
        CONTENT[1],
    ]
    assert store.shown(digests[0]).read_bytes() == CONTENT[0]
    assert store.sweep(before=1e12) == 0  # its picture has a row
    finish(database, store)
    assert forget(database, store, before=0, limit=1) == 1
    assert files(store) == [CONTENT[1]]
    assert store.shown(digests[0], overlay=True) is None


def test_an_overlay_that_lost_its_picture_is_swept_when_it_is_old(store):
    store.keep_overlay(store.keep(CONTENT[0]), b"drawn")
    assert store.sweep(before=0) == 0
    assert store.sweep(before=1e12) == 2
    assert files(store) == []


def test_a_file_is_named_by_its_hash_and_its_form(store):
    assert store.keep(CONTENT[0]).endswith(".png")
    assert store.keep(jpeg(noise(1, 8, 8, 1))).endswith(".jpg")
    assert store.keep(CONTENT[0]) == store.keep(CONTENT[0])
    assert len(files(store)) == 2


def test_a_file_that_lost_its_end_is_written_again_when_its_picture_comes_again(store):
    os.truncate(store.folder / store.keep(CONTENT[0]), 3)
    store.keep(CONTENT[0])
    assert files(store) == [CONTENT[0]]


def test_the_same_picture_again_is_counted_and_another_of_its_moment_is_taken(database, store):
    take(database, store, 0)
    again = take(database, store, 0, 1)
    assert (len(again), again.repeated) == (1, 1)
    moved = batch(2, time=-1)  # of the moment of picture 1
    store.keep(CONTENT[2])
    with database.atomic() as tx:
        assert len(store.take(tx, moved, received=0)) == 1
    assert len(store.waiting(9)) == 3


def test_equal_pictures_of_different_moments_share_a_file_until_both_are_gone(database, store):
    take(database, store, 0, received=1)
    take(database, store, 0, time=5, received=2)
    finish(database, store)
    assert forget(database, store, before=1) == 1
    assert files(store) == [CONTENT[0]]
    assert forget(database, store, before=2) == 1
    assert files(store) == []


def test_what_waits_is_never_let_go_of(database, store):
    take(database, store, 0, 1)
    assert forget(database, store, before=1 << 60, limit_bytes=0) == 0
    assert len(files(store)) == 2


def test_the_oldest_go_by_age_and_by_bytes(database, store):
    for number in range(4):
        take(database, store, number, received=number)
    finish(database, store)
    assert forget(database, store, before=0) == 1
    assert files(store) == sorted(CONTENT[1:])
    assert forget(database, store, limit_bytes=SIZE) == 2
    assert files(store) == [CONTENT[3]]


def test_a_picture_that_comes_again_while_its_file_goes_has_its_file(database, store):
    take(database, store, 0)
    finish(database, store)
    with database.atomic() as tx:
        store.forget(tx, before=1 << 60, limit_bytes=0, limit=9)
    store.keep(CONTENT[0])  # it is there still, so nothing is written
    with database.atomic() as tx:
        store.delete_files(tx, limit=9)
    assert files(store) == []
    with database.atomic() as tx:
        store.take(tx, batch(0), received=0)
    assert files(store) == [CONTENT[0]]


def test_a_file_that_another_picture_came_to_need_stays(database, store):
    take(database, store, 0)
    finish(database, store)
    with database.atomic() as tx:
        store.forget(tx, before=1 << 60, limit_bytes=0, limit=9)
    take(database, store, 0)
    with database.atomic() as tx:
        store.delete_files(tx, limit=9)
    assert files(store) == [CONTENT[0]]


def test_a_sweep_deletes_what_a_kill_left_and_nothing_that_has_a_row(database, store):
    take(database, store, 0)
    store.keep(CONTENT[1])  # killed before its row
    half = store.folder / store.keep(CONTENT[2])
    half.rename(half.with_name(half.name + ".00.tmp"))
    assert store.sweep(before=0.0) == 1  # half a file; the other one is young
    assert files(store) == sorted(CONTENT[:2])
    assert store.sweep(before=1e12) == 1
    assert files(store) == [CONTENT[0]]


def test_a_file_that_is_gone_or_changed_does_not_read(database, store):
    take(database, store, 0, 1)
    first, second = store.waiting(9)
    (store.folder / first.file).unlink()
    (store.folder / second.file).write_bytes(CONTENT[0])
    for one in (first, second):
        with pytest.raises(CorruptError):
            store.read(one.file)


def test_results_are_kept_value_for_value_and_let_go_of(tmp_path):
    seen = SeenDefect(
        label="hole", probability=0.5, box=(1.0, 2.0, 3.0, 4.0), area_mm2=1.5, grade=Grade.REWORK
    )
    ahead = Outlook(unit="px", now=6.0, area=9.0, low=7.5, high=12.0, onset=None)
    results = [
        PictureResult(
            camera=n % 2, time=n, part=f"p{n}", label="hole", probability=0.25, hash=f"{n}",
            grade=Grade.REWORK, defects=(seen,), surprise=1.5, source="eyes", area_px=6.0,
            outlook=ahead if n else None,
        )
        for n in range(4)
    ]  # fmt: skip
    with Database(tmp_path / "results") as database:
        kept = PictureResults(database)
        with database.atomic() as tx:
            kept.add(tx, [replace(one, features=b"1234") for one in results])  # not kept
            kept.add(tx, results[:1])
        assert kept.read() == results[::-1]
        assert kept.read(1, since=1) == [results[3]]
        assert kept.read(limit=1) == [results[3]]
        assert kept.newest() == 3
        with database.atomic() as tx:
            assert kept.forget(tx, before=1, limit=9) == 2
        assert kept.read() == [results[3], results[2]]

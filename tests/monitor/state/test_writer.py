import threading
from concurrent.futures import CancelledError, wait

import pytest
from support.keeping import batch, same

from monitor.state.database import Database
from monitor.state.errors import QueueFullError, StorageFullError
from monitor.state.journal import Journal
from monitor.state.writer import Writer


@pytest.fixture
def gate():
    return threading.Event()


def held(writer, gate):
    """Keep the writer busy until the gate opens; returns once it is."""
    began = threading.Event()

    def work(_tx):
        began.set()
        gate.wait()

    future = writer.submit(work, size=1)
    assert began.wait(10)
    return future


def append(database, record):
    return lambda tx: Journal(database).append(tx, record)


def test_what_a_future_says_is_committed(database):
    writer = Writer(database, group_s=0)
    number = writer.submit(append(database, batch(1)), size=100).result()
    ((found, record),) = Journal(database).read(0)
    assert found == number == 1
    assert same(record, batch(1))
    writer.close()


def test_jobs_that_come_during_a_commit_share_the_next_one(database, gate):
    writer = Writer(database, group_s=0)
    first = held(writer, gate)
    futures = [writer.submit(append(database, batch(n)), size=100) for n in range(50)]
    gate.set()
    assert [future.result() for future in futures] == list(range(1, 51))
    first.result()
    assert writer.counters().transactions == 2
    writer.close()


def test_a_group_ends_at_its_bytes(database, gate):
    writer = Writer(database, group_s=0, group_bytes=1000)
    held(writer, gate)
    futures = [writer.submit(append(database, batch(n)), size=250) for n in range(12)]
    gate.set()
    wait(futures)
    assert writer.counters().transactions == 1 + 3
    writer.close()


def test_a_full_group_does_not_wait_for_company(database):
    writer = Writer(database, group_s=1e6, group_bytes=300)
    futures = [writer.submit(append(database, batch(n)), size=100) for n in range(3)]
    assert [future.result(10) for future in futures] == [1, 2, 3]
    writer.close()


def test_one_job_that_fails_takes_no_other_with_it(database, gate):
    writer = Writer(database, group_s=0)
    held(writer, gate)

    def poison(tx):
        Journal(database).append(tx, batch(99))
        raise ZeroDivisionError

    good = [writer.submit(append(database, batch(n)), size=100) for n in (1, 2)]
    bad = writer.submit(poison, size=100)
    more = writer.submit(append(database, batch(3)), size=100)
    gate.set()
    with pytest.raises(ZeroDivisionError):
        bad.result()
    assert [future.result() for future in (*good, more)] == [1, 2, 3]
    assert [int(record.body.value[0]) for _, record in Journal(database).read(0)] == [1, 2, 3]
    assert writer.counters().failed == 1
    writer.close()


def test_more_than_the_bound_is_refused_and_counted_and_taken_later(database, gate):
    writer = Writer(database, group_s=0, bound_bytes=1000)
    held(writer, gate)
    kept = writer.submit(append(database, batch(1)), size=900)
    with pytest.raises(QueueFullError, match="901 bytes wait, and 900 more pass its bound of 1000"):
        writer.submit(append(database, batch(2)), size=900)
    assert writer.counters().refused == 1
    gate.set()
    assert kept.result() == 1
    assert writer.submit(append(database, batch(2)), size=900, wait_s=None).result() == 2
    writer.close()


def test_a_submit_that_may_wait_goes_on_when_there_is_room(database, gate):
    writer = Writer(database, group_s=0, bound_bytes=1000)
    held(writer, gate)
    writer.submit(append(database, batch(1)), size=900)
    results = []

    def submit():
        job = writer.submit(append(database, batch(2)), size=900, wait_s=None)
        results.append(job.result())

    thread = threading.Thread(target=submit)
    thread.start()
    gate.set()
    thread.join()
    assert results == [2]
    writer.close()


def test_a_job_larger_than_the_bound_is_taken_when_nothing_waits(database):
    writer = Writer(database, group_s=0, bound_bytes=10)
    assert writer.submit(append(database, batch(1)), size=10_000).result() == 1
    writer.close()


def test_closing_commits_what_waits_and_ends_what_is_to_come(database):
    writer = Writer(database, group_s=1e6)
    futures = [writer.submit(append(database, batch(n)), size=100) for n in range(5)]
    writer.close()
    writer.close()
    assert [future.result(0) for future in futures] == [1, 2, 3, 4, 5]
    with pytest.raises(RuntimeError, match="after close"):
        writer.submit(append(database, batch(9)), size=1)


def test_a_cancelled_job_is_not_done(database, gate):
    writer = Writer(database, group_s=0)
    held(writer, gate)
    future = writer.submit(append(database, batch(1)), size=100)
    assert future.cancel()
    gate.set()
    assert writer.submit(append(database, batch(2)), size=100).result() == 1
    with pytest.raises(CancelledError):
        future.result()
    writer.close()


def fill_up(writer, database, *, size):
    """Submit records until one finds no space; the numbers of those that were stored."""
    stored = []
    for number in range(1, 200):
        futures = [writer.submit(append(database, batch(number, size=size)), size=1) for _ in "ab"]
        try:
            stored += [future.result() for future in futures]
        except StorageFullError:
            stored += [future.result() for future in futures if future.exception() is None]
            return stored
    raise AssertionError("the disk was never full")


def test_a_full_disk_fails_what_does_not_fit_and_writing_goes_on_after(small_disk):
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(1_500_000))
    with Database(small_disk / "state") as database:
        noise = Writer(database, group_s=0)
        stored = fill_up(noise, database, size=3000)
        assert Journal(database).last() == len(stored)
        with pytest.raises(StorageFullError, match="free space"):
            noise.submit(append(database, batch(7, size=200_000)), size=1).result()
        ballast.unlink()
        after = [noise.submit(append(database, batch(n)), size=1).result() for n in range(3)]
        assert after == [len(stored) + 1, len(stored) + 2, len(stored) + 3]
        noise.close()
    with Database(small_disk / "state") as database:
        found = [number for number, _ in Journal(database).read(0)]
        assert found == list(range(1, len(stored) + 4))


def test_a_database_at_its_bound_fails_what_does_not_fit_and_writing_goes_on_after(database):
    database._connection.execute("PRAGMA max_page_count = 100")
    writer = Writer(database, group_s=0)
    stored = fill_up(writer, database, size=3000)
    assert Journal(database).last() == len(stored)
    database._connection.execute("PRAGMA max_page_count = 100000")
    assert writer.submit(append(database, batch(1)), size=1).result() == len(stored) + 1
    writer.close()


def test_what_frees_space_is_done_even_when_its_group_does_not_fit(database, gate):
    writer = Writer(database, group_s=0)
    database._connection.execute("PRAGMA max_page_count = 100")
    stored = fill_up(writer, database, size=3000)
    held(writer, gate)
    large = writer.submit(append(database, batch(1, size=100_000)), size=1)
    prune = writer.submit(lambda tx: Journal(database).forget(tx, stored[-1]), size=1)
    small = writer.submit(append(database, batch(2)), size=1)
    gate.set()
    assert isinstance(large.exception(), StorageFullError)
    assert prune.result() == len(stored) - 1
    assert small.result() == len(stored) + 1
    writer.close()

"""A histogram as Prometheus counts: a bound belongs to the bucket below it."""

from monitor.live.latency import BOUNDS, Latency


def test_each_time_falls_into_the_first_bucket_that_holds_it():
    found = Latency().plus([0.0, BOUNDS[0], BOUNDS[0] * 1.01, 1e9])
    assert found.counts[:2] == (2, 1)
    assert found.counts[-1] == 1
    assert sum(found.counts) == 4
    assert found.total_s == 0.0 + BOUNDS[0] + BOUNDS[0] * 1.01 + 1e9


def test_adding_leaves_what_was_there():
    first = Latency().plus([1.0])
    second = first.plus([1.0, 2.0])
    assert (sum(first.counts), sum(second.counts)) == (1, 3)
    assert second.total_s == 4.0


def test_a_clock_that_is_put_back_takes_nothing_off_the_sum():
    found = Latency().plus([1.0]).plus([-3600.0, 0.5])
    assert found.total_s == 1.5
    assert sum(found.counts) == 3

"""How long to wait before the next attempt."""

import pytest

from monitor.live.backoff import Allowance, Backoff


@pytest.mark.parametrize("_", range(20))
def test_waits_double_up_to_the_longest_and_are_never_all_the_same(_):
    backoff = Backoff(first_s=1.0, longest_s=8.0)
    waits = [backoff.next_s() for _ in range(6)]
    for wait, full in zip(waits, [1, 2, 4, 8, 8, 8], strict=True):
        assert full / 2 <= wait <= full
    assert len(set(waits)) == len(waits)


def test_a_peer_that_asks_for_longer_gets_it():
    assert Backoff(first_s=1.0).next_s(30.0) == 30.0


def test_after_a_success_the_wait_is_short_again():
    backoff = Backoff(first_s=1.0)
    for _ in range(5):
        backoff.next_s()
    backoff.reset()
    assert backoff.next_s() <= 1.0


def test_days_of_attempts_do_not_overflow():
    backoff = Backoff(longest_s=300.0)
    for _ in range(5000):
        wait = backoff.next_s()
    assert 150.0 <= wait <= 300.0


def test_attempts_that_were_saved_come_at_once_and_then_one_after_the_other():
    now = 0.0
    allowance = Allowance(per_minute=6, saved=3, now=lambda: now)
    waits = []
    for _ in range(6):
        waits.append(allowance.take_s())
        now += waits[-1]
    assert waits == pytest.approx([0, 0, 0, 10, 10, 10])
    now += 3600.0
    assert [allowance.take_s() for _ in range(4)] == pytest.approx([0, 0, 0, 10])

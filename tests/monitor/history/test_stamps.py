"""Clocks that are odd, seen in the stamps of a history as it is read."""

import numpy as np
from support.building import START, samples

from connectors.batch import Notice, NoticeKind
from monitor.history.stamps import Stamps, Watch

SECOND = 1_000_000_000


def stamped(*pieces, base=START):
    seen = Stamps()
    for piece in pieces:
        seen.add(base + np.asarray(piece, np.int64) * SECOND)
    return seen


def test_a_clock_that_goes_on_is_not_odd():
    seen = stamped(range(100), range(100, 7000), range(9000, 9100))
    assert (seen.count, seen.repeated, seen.backwards, seen.hours()) == (7100, 0, 0, [])


def test_stamps_that_repeat_or_go_back_are_counted_over_the_ends_of_batches():
    seen = stamped([1, 2, 2, 3], [3, 4], [2, 5])
    assert (seen.count, seen.repeated, seen.backwards) == (8, 2, 1)


def test_a_lost_hour_and_a_doubled_one_are_told_with_their_time():
    lost = stamped(range(0, 6000, 10), range(6000 + 3600, 12_000, 10))
    assert lost.hours() == [START + 5990 * SECOND]
    doubled = stamped(range(0, 7200, 10), range(7200 - 3600, 12_000, 10))
    assert doubled.hours() == [START + 7190 * SECOND]


def test_a_gap_of_another_length_is_no_hour():
    assert stamped(range(0, 6000, 10), range(6000 + 3700, 12_000, 10)).hours() == []
    slow = stamped(range(0, 100_000, 3600))
    assert slow.hours() == [], "it comes once an hour"


def test_batches_pass_unchanged_and_each_tag_is_seen_by_itself():
    watch = Watch()
    ended = Notice(source="s", kind=NoticeKind.ENDED)
    batches = [samples((0, 1, 1.0), (1, 5, 1.0), (0, 2, 1.0)), samples((1, 4, 1.0)), ended]

    assert list(watch(batches)) == batches
    assert {tag: (one.count, one.backwards) for tag, one in watch.tags.items()} == {
        0: (2, 0),
        1: (2, 1),
    }

"""Several histories read side by side, in one order."""

import pytest
from support.building import START, samples

from connectors.batch import Notice, NoticeKind
from connectors.contract import RefusedError
from monitor.history.reading import merged

SECOND = 1_000_000_000


class Recording:
    """A history of given batches; notes what it was asked for and how far it was read."""

    def __init__(self, name, *batches):
        self.name, self.batches = name, batches
        self.asked, self.read_so_far = None, 0

    def read(self, *, since=None, until=None):
        self.asked = (since, until)
        for batch in self.batches:
            self.read_so_far += 1
            if isinstance(batch, Exception):
                raise batch
            yield batch


def at(source, *seconds):
    return samples(*((0, second, 1.0) for second in seconds), source=source)


def told(batches):
    """What came, as (source, first second) or (source, kind of notice)."""
    return [
        (one.source, str(one.kind))
        if isinstance(one, Notice)
        else (one.source, (int(one.time.min()) - START) // SECOND)
        for one in batches
    ]


def test_batches_come_in_the_order_of_their_first_stamps():
    left = Recording("left", at("left", 1, 2), at("left", 5, 6), at("left", 9))
    right = Recording("right", at("right", 3, 4), at("right", 7, 8))
    assert told(merged([left, right])) == [
        ("left", 1),
        ("right", 3),
        ("left", 5),
        ("right", 7),
        ("right", "ended"),
        ("left", 9),
        ("left", "ended"),
    ]


def test_notices_keep_their_place_and_the_end_is_said_once():
    gap = Notice(source="left", kind=NoticeKind.GAP, since=1, until=2)
    ended = Notice(source="left", kind=NoticeKind.ENDED)
    left = Recording("left", at("left", 1), gap, at("left", 2), ended)
    assert told(merged([left])) == [
        ("left", 1),
        ("left", "gap"),
        ("left", 2),
        ("left", "ended"),
    ]


def test_an_empty_history_has_ended():
    assert told(merged([Recording("left"), Recording("right", at("right", 1))])) == [
        ("left", "ended"),
        ("right", 1),
        ("right", "ended"),
    ]
    assert list(merged([])) == []


def test_only_one_batch_of_each_history_is_held():
    many = Recording("many", *(at("many", n) for n in range(100)))
    reading = merged([many, Recording("one", at("one", 50))])
    next(reading)
    assert many.read_so_far <= 2


def test_the_interval_is_handed_on_and_errors_come_through():
    broken = Recording("left", at("left", 1), RefusedError("damaged", connector="left"))
    with pytest.raises(RefusedError, match="damaged"):
        list(merged([broken], since=5, until=9))
    assert broken.asked == (5, 9)

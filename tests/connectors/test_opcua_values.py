"""Data values to columns: stamps that cannot be true, and where a server dropped samples."""

import numpy as np
from asyncua import ua
from support.opcua import utc

from connectors.batch import Flag, NoticeKind
from connectors.opcua import values
from connectors.opcua.values import OVERFLOW, STRANGER, Wave

T0 = 1_780_000_000_000_000_000
SECOND = 1_000_000_000
YEAR_2000 = 946_684_800 * SECOND


def data(value, at, *, served=None, status=0):
    served = None if served is None else utc(served)
    code = ua.StatusCode(ua.UInt32(status))
    return ua.DataValue(ua.Variant(value), code, SourceTimestamp=utc(at), ServerTimestamp=served)


def wave_of(*items, after=None):
    wave = Wave()
    wave.take(items, published=T0, ahead_s=60, after=after or {})
    return wave


def test_a_stamp_that_cannot_be_true_gives_way_to_the_servers_and_that_to_the_messages():
    wave = wave_of(
        (1, data(1.0, YEAR_2000 + 5 * SECOND, served=T0 - SECOND)),  # a PLC that lost its clock
        (1, data(2.0, T0 + 61 * SECOND, served=T0 - SECOND)),
        (1, data(3.0, 1000, served=YEAR_2000)),
        (1, data(4.0, T0 + 3600 * SECOND)),
    )
    assert wave.time == [T0 - SECOND, T0 - SECOND, T0, T0]
    assert wave.flags == [Flag.RESTAMPED] * 4


def test_an_old_stamp_and_one_that_is_a_little_ahead_are_believed():
    old = T0 - 900 * 86_400 * SECOND  # a value that has not changed for years
    wave = wave_of((1, data(1.0, old)), (1, data(2.0, T0 + 60 * SECOND)))
    assert wave.time == [old, T0 + 60 * SECOND]
    assert wave.flags == [0, 0]


def test_an_item_that_was_let_go_is_passed_over_and_a_strangers_is_counted():
    wave = wave_of((None, data(1.0, T0)), (STRANGER, data(2.0, T0)), (1, data(3.0, T0)))
    (said,) = wave.rejections("plc")
    assert (said.count, said.tags, wave.value) == (1, (), [3.0])


def test_a_value_that_cannot_be_read_is_rejected_and_the_others_are_taken():
    broken = data(2.0, T0)
    broken.SourceTimestamp = broken.SourceTimestamp.replace(tzinfo=None)
    wave = wave_of((1, data(1.0, T0)), (2, broken), (1, data(3.0, T0)))
    (said,) = wave.rejections("plc")
    assert (said.reason, said.count, said.tags) == ("decoder_failed: TypeError", 1, (2,))
    assert (wave.tag, wave.value) == ([1, 1], [1.0, 3.0])


def test_an_overflow_is_said_from_the_last_sample_of_the_tag_to_the_one_that_tells():
    lost = OVERFLOW
    wave = wave_of(
        (1, data(1.0, T0 + 1)),
        (2, data(2.0, T0 + 2000, status=lost)),
        (1, data(3.0, T0 + 3000)),
        (1, data(4.0, T0 + 4000, status=lost)),
        (3, data(5.0, T0 + 5000, status=lost)),
    )
    said = wave.overflows("plc", {2: T0 - 50, 1: T0 - 90}, T0 - 1000)
    assert {one.kind for one in said} == {NoticeKind.OVERFLOW}
    assert [(one.tags, one.since - T0, one.until - T0) for one in said] == [
        ((2,), -50, 2000),
        ((1,), 3000, 4000),
        ((3,), -1000, 5000),  # nothing of it came yet, but for what was before the opening
    ]


def test_very_many_overflows_at_once_are_said_together(monkeypatch):
    monkeypatch.setattr(values, "MOST_OVERFLOWS", 2)
    wave = wave_of(*((n, data(1.0, T0 + n * 1000, status=OVERFLOW)) for n in range(1, 5)))
    (said,) = wave.overflows("plc", {1: T0 - 7}, T0)
    assert (said.tags, said.since, said.until) == ((1, 2, 3, 4), T0 - 7, T0 + 4000)


def test_what_is_kept_of_a_span_is_what_is_stamped_within_in_order():
    wave = wave_of(*((1, data(float(n), T0 + n * 1000)) for n in (3, 1, 0, 2, 4)))
    wave.keep_sorted(T0, T0 + 3000)
    assert wave.value == [1.0, 2.0, 3.0]
    assert np.diff(wave.time).tolist() == [1000, 1000]


def test_what_waited_in_the_queues_of_several_items_is_one_batch_in_order_of_time():
    queues = [
        (tag, data(float(at), T0 + at * 1000)) for tag, at in ((1, 0), (1, 2), (2, 1), (2, 2))
    ]
    batch = wave_of(*queues).samples("plc", meant=lambda _, value, status: (value, status))
    assert batch.tag.tolist() == [1, 2, 1, 2]
    assert batch.value.tolist() == [0.0, 1.0, 2.0, 2.0]

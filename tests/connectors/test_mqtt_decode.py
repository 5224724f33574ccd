"""Messages to batches, without a broker."""

import itertools
import json
import logging

import numpy as np
import pytest
from pydantic import ValidationError

from connectors.batch import Flag, Notice, Samples, Waveforms
from connectors.contract import RefusedError, TagRef
from connectors.mqtt.decode import Decoder
from connectors.mqtt.pump import Received
from connectors.mqtt.settings import ReadingSettings, WritingSettings, filter_or_error
from connectors.mqtt.topics import fits

CAME = 1_704_067_300_000_000_000
T0 = 1_704_067_200_000
TIMED = b'{"timestamp_ms": 1704067200000, "value": 1}'
LINK = {"type": "mqtt", "host": "h", "client_id": "c"}
numbers = itertools.count(1)


def decoder(*addresses, **given):
    settings = ReadingSettings.model_validate(LINK | given)
    return Decoder("m", settings, [TagRef(id=n, address=a) for n, a in enumerate(addresses, 1)])


def came(topic, payload, *, retained=False, again=False, said=(), packet=1):
    return Received(topic, payload, packet, retained, again, said, CAME + next(numbers))


def rejected(batches):
    return {b.reason: b.count for b in batches if isinstance(b, Notice)}


def test_what_came_together_becomes_one_batch_in_its_order():
    made = decoder("a", "b#x", "b#y")
    messages = [came("b", b'{"x": 1, "y": 2}'), came("a", TIMED), came("b", b'{"y": 3}')]
    (batch,) = made.decode(messages, "p")
    assert isinstance(batch, Samples)
    assert batch.tag.tolist() == [2, 3, 1, 3]
    assert batch.value.tolist() == [1, 2, 1, 3]
    assert batch.time.tolist()[2] == T0 * 1_000_000
    assert batch.flags.tolist() == [4, 4, 0, 4]
    assert batch.position == "p"


def test_only_the_last_batch_carries_the_position():
    blocks = {"payloads": [{"topic": "w/#", "format": "waveform", "rate_hz": 10}]}
    made = decoder("a", "w", **blocks)
    messages = [came("w", bytes(8)), came("w", bytes(4)), came("a", b"x"), came("a", b"1")]
    batches = made.decode(messages, "p")
    assert [batch.position for batch in batches] == [None, None, None, "p"]
    assert sorted(b.block.shape[1] for b in batches if isinstance(b, Waveforms)) == [1, 2]
    assert rejected(batches) == {"not_json": 1}
    assert made.decode([came("a", b"x")], "q")[-1].position == "q"


def test_no_batch_holds_what_came_before_something_in_an_earlier_one():
    blocks = {"payloads": [{"topic": "w/#", "format": "waveform", "rate_hz": 10}]}
    made = decoder("a", "w/a", "w/b", **blocks)
    short, long = bytes(4), bytes(8)
    topics = [("a", b"1"), ("a", b"2"), ("w/a", short), ("w/b", long), ("w/b", long),
              ("w/a", short), ("a", b"3"), ("w/a", short)]  # fmt: skip
    batches = made.decode([came(*one) for one in topics], "p")
    order = [tag for batch in batches for tag in batch.tag.tolist()]
    assert order == [1, 1, 2, 3, 3, 2, 1, 2]
    assert [len(batch) for batch in batches] == [2, 1, 2, 1, 1, 1]


def test_a_block_without_a_time_began_its_own_length_before_it_came():
    rule = {"topic": "w", "format": "waveform", "rate_hz": 10}
    message = came("w", np.zeros(20, "<f4").tobytes(), said=[("speed_hz", "3")])
    (batch,) = decoder("w", payloads=[rule]).decode([message], "p")
    assert batch.time.tolist() == [message.came - 2_000_000_000]
    assert batch.speed.tolist() == [3]


def test_a_last_value_with_its_own_time_is_taken_and_marked():
    (batch,) = decoder("a").decode([came("a", TIMED, retained=True)], "p")
    assert batch.flags.tolist() == [Flag.RETAINED]
    assert batch.time.tolist() == [T0 * 1_000_000]


def test_a_last_value_of_unknown_age_is_not_taken_for_a_new_one():
    batches = decoder("a").decode([came("a", b"1", retained=True)], "p")
    assert rejected(batches) == {"retained_without_time": 1}
    assert len(batches) == 1


def test_what_may_be_a_repeat_is_counted_only_where_nobody_can_see_that():
    made = decoder("a")
    (batch,) = made.decode([came("a", TIMED, again=True), came("a", b"1", again=True)], "p")
    assert batch.flags.tolist() == [Flag.REPLAYED, Flag.REPLAYED | Flag.NO_SOURCE_TIME]
    assert made.maybe_duplicate == 1


RESTAMPED = Flag.RESTAMPED | Flag.NO_SOURCE_TIME
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
NOW_MS = CAME // 1_000_000


def stamped(*times_ms):
    """Entries of ThingsBoard, as a gateway sends that gathers some."""
    return json.dumps([{"ts": ms, "values": {"x": n}} for n, ms in enumerate(times_ms)]).encode()


@pytest.mark.parametrize(
    ("ms", "true"),
    [
        (NOW_MS, True),
        (NOW_MS + 59_000, True),
        (NOW_MS + 61_000, False),
        (NOW_MS - 30 * DAY_MS, True),  # the broker kept it
        (946_684_800_000, False),  # 2000-01-01: the clock of a PLC that lost its power
        (946_684_800_000 + 200 * DAY_MS, False),
        (1_000_000_000_000, True),  # 2001-09-09
    ],
)
def test_a_stamp_that_cannot_be_true_gives_way_to_the_time_of_receipt(ms, true, caplog):
    made = decoder("a#x")
    message = came("a", stamped(ms))
    (batch,) = made.decode([message], "p")
    assert batch.time.tolist() == [ms * 1_000_000 if true else message.came]
    assert batch.flags.tolist() == [0 if true else RESTAMPED]
    assert made.restamped == (not true)
    assert ("cannot be true" in caplog.text) is not true


def test_how_far_a_clock_may_be_ahead_is_a_setting():
    (batch,) = decoder("a#x", clock_ahead_s=7200).decode(
        [came("a", stamped(NOW_MS + HOUR_MS))], "p"
    )
    assert batch.flags.tolist() == [0]


def test_samples_of_one_message_keep_their_distance_when_their_clock_is_wrong():
    made = decoder("a#x")
    y2000 = 946_684_800_000
    first = came("a", stamped(y2000, y2000 + 2000, y2000 + 1000))
    second = came("a", stamped(NOW_MS, NOW_MS + HOUR_MS, NOW_MS + HOUR_MS - 500))
    third = came("a", stamped(1, NOW_MS + 999 * DAY_MS))  # nothing that two clocks agree on
    (batch,) = made.decode([first, second, third], "p")
    assert [batch.time[n] - first.came for n in range(3)] == [-2 * 10**9, 0, -(10**9)]
    assert [batch.time[n] - second.came for n in (4, 5)] == [0, -500_000_000]
    assert batch.time[3] == NOW_MS * 1_000_000
    assert [batch.time[n] - third.came for n in (6, 7)] == [0, 0]
    assert made.restamped == 7


def test_a_wrong_clock_is_logged_once_a_source_and_counted_for_each_sample(caplog):
    made = decoder("a#x", "b#x")
    for topic in ("b", "a", "b"):
        made.decode([came(topic, stamped(1, 2)), came(topic, stamped(NOW_MS))], "p")
    assert made.restamped == 6
    assert [record.args[1] for record in caplog.records] == ["b"]


def test_a_restamped_message_that_comes_again_cannot_be_told_from_a_new_one():
    made = decoder("a#x")
    made.decode([came("a", stamped(1), again=True), came("a", stamped(NOW_MS), again=True)], "p")
    assert made.maybe_duplicate == 1


def test_a_last_value_whose_stamp_cannot_be_true_is_of_unknown_age():
    batches = decoder("a#x").decode([came("a", stamped(1), retained=True)], "p")
    assert rejected(batches) == {"retained_without_time": 1}


def test_a_block_is_judged_by_its_end_and_a_wrong_one_ends_when_it_came():
    rule = {"topic": "w", "format": "waveform", "rate_hz": 10}
    made = decoder("w", payloads=[rule])
    block = np.zeros(20, "<f4").tobytes()  # 2 s
    message = came("w", block, said=[("ts", str(NOW_MS + 59_000))])
    (batch,) = made.decode([came("w", block, said=[("ts", str(NOW_MS + 50_000))]), message], "p")
    assert batch.time.tolist() == [(NOW_MS + 50_000) * 1_000_000, message.came - 2 * 10**9]
    assert made.restamped == 1


def test_a_rate_that_makes_no_time_is_no_rate():
    made = decoder("w")
    payloads = [
        {"rate_hz": 1e-320, "block": [1.0]},
        {"rate_hz": 1e-7, "block": [1.0]},
        {"rate_hz": 1e308, "block": [1.0]},
    ]
    for payload in payloads:
        assert rejected(made.decode([came("w", json.dumps(payload).encode())], "p")) == {"rate": 1}


def test_each_message_is_counted_once_by_what_became_of_it():
    made = decoder("a", "b#x")
    messages = [came("a", b"1"), came("a", b"x"), came("b", b'{"y": 1}'), came("c", b"1")]
    made.decode([*messages, came("a", b"[]")], "p")
    assert (made.messages, made.rejected, made.empty, made.unwanted) == (5, 1, 2, 1)
    assert made.strays == {"c"}


def test_other_tags_are_read_from_then_on_and_the_counters_go_on():
    made = decoder("a", "b")
    made.decode([came("a", b"1"), came("b", b"x")], "p")
    made.use(made.reading([TagRef(id=7, address="a"), TagRef(id=8, address="c")]))
    (batch,) = made.decode([came("a", b"1"), came("b", b"1"), came("c", b"1")], "p")
    assert batch.tag.tolist() == [7, 8]
    assert (made.topics, made.unheard) == (("a", "c"), 0)
    assert (made.messages, made.rejected, made.unwanted) == (5, 1, 1)


def test_what_a_message_takes_in_memory_counts_all_that_came_with_it():
    long = came("t" * 100, b"p" * 10, said=[("k" * 7, "v" * 1000)])
    assert long.size - came("", b"").size == 100 + 10 + 7 + 1000


def test_what_nobody_asked_for_makes_no_batch():
    made = decoder("a")
    assert made.decode([came("b", b"1"), came("", b"1")], "p") == []
    assert (made.unwanted, made.messages) == (2, 2)


def test_a_payload_over_the_limit_is_counted_and_not_read():
    batches = decoder("a", max_payload_kb=1).decode([came("a", b"1" + b" " * 1024)], "p")
    assert rejected(batches) == {"too_large": 1}


def test_trouble_with_a_topic_is_logged_once_without_its_payload(caplog):
    caplog.set_level(logging.INFO)
    made = decoder("a", "b")
    made.decode([came("a", b"hush"), came("a", b"1"), came("a", b"hush")], "p")
    made.decode([came("a", b"hush"), came("b", b"hush")], "q")
    assert [record.args[1:] for record in caplog.records] == [("a", "not_json"), ("b", "not_json")]
    assert "hush" not in caplog.text


def test_a_payload_of_sparkplug_is_rejected_counted_and_its_topic_named(caplog):
    topic = "spBv1.0/plant/DDATA/edge/pump"
    metric = b"\x12\x10\x0a\x04flow\x20\x0a\x69\x00\x00\x00\x00\x00\x00\x29\x40"  # 12.5
    payload = b"\x08\x80\xd8\x8a\xe3\xcc\x31" + metric + b"\x18\x07"  # timestamp, metric, seq
    batches = decoder(topic).decode([came(topic, payload)], "p")
    assert rejected(batches) == {"not_json": 1}
    assert topic in caplog.text


def test_the_first_rule_that_fits_counts():
    rules = [
        {"topic": "p/+/t", "format": "number"},
        {"topic": "p/#", "format": "value"},
    ]
    made = decoder("p/1/t", "p/1/u", "q", payloads=rules)
    payloads = [came(topic, b"1") for topic in ("p/1/t", "p/1/u", "q")]
    batches = made.decode(payloads, "p")
    assert rejected(batches) == {"form": 1}
    assert batches[-1].tag.tolist() == [1, 3]


@pytest.mark.parametrize(
    ("wanted", "topic", "does"),
    [
        ("a/b", "a/b", True),
        ("a/+", "a/b", True),
        ("+/+", "/a", True),
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("#", "a", True),
        ("a/+", "a", False),
        ("a/+", "a/b/c", False),
        ("a", "a/b", False),
        ("#", "$SYS/x", False),
        ("+/x", "$SYS/x", False),
        ("$SYS/#", "$SYS/x", True),
    ],
)
def test_a_topic_filter_means_what_mqtt_says(wanted, topic, does):
    assert fits(wanted, topic) is does


@pytest.mark.parametrize("wrong", ["", "a+", "a/#/b", "a#", "a\0"])
def test_what_is_no_topic_filter_is_not_one(wrong):
    with pytest.raises(ValueError, match="topic filter"):
        filter_or_error(wrong)


@pytest.mark.parametrize("address", ["a/+/b", "#x", "a#", "\0", "$share/g/a", "a/\ud800"])
def test_an_address_that_is_no_topic_can_never_work(address):
    with pytest.raises(RefusedError):
        decoder(address)


@pytest.mark.parametrize(
    "given",
    [
        {"password_env": "X"},
        {"user_name": "u", "password_env": "X", "password_file": "f"},
        {"tls": {"ca_file": "ca.crt", "cert_file": "c"}},
        {"password": "p"},
    ],
)
def test_settings_that_contradict_themselves_are_refused(given):
    with pytest.raises(ValidationError):
        ReadingSettings.model_validate(LINK | given)


def test_the_usual_ports_and_a_protocol_written_as_a_number():
    assert ReadingSettings.model_validate(LINK | {"protocol": 5}).where == "h:1883"
    assert ReadingSettings.model_validate(LINK | {"tls": {"ca_file": "ca.crt"}}).where == "h:8883"
    with pytest.raises(ValidationError):
        WritingSettings.model_validate(LINK | {"site": "a/+"})


def test_a_message_that_trips_its_decoder_is_rejected_and_the_others_are_taken(caplog):
    def tripped(_payload):
        raise KeyError("oops")

    made = decoder("a", "b")
    made.use({**made.reading([TagRef(id=1, address="a")]), "b": tripped})
    for position in ("p", "q"):
        batches = made.decode([came("b", b"1"), came("a", b"1")], position)
        assert rejected(batches) == {"decoder_failed": 1}
        assert batches[-1].position == position
        assert batches[-1].value.tolist() == [1]
    assert made.rejected == 2
    assert [one.exc_info is not None for one in caplog.records] == [True, False], "each once"

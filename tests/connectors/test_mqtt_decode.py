"""Messages to batches, without a broker."""

import itertools
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


@pytest.mark.parametrize("address", ["a/+/b", "#x", "a#", "\0"])
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

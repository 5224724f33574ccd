"""OPC UA without a server: addresses, rates, queues, positions, acknowledgements."""

import json
from uuid import UUID

import numpy as np
import pytest
from pydantic import ValidationError

from connectors.batch import BAD, UNCERTAIN
from connectors.contract import Delayed
from connectors.opcua.nodes import OPC_UA, Address, index_of, parse
from connectors.opcua.progress import Kept, Position, Span, Unacknowledged
from connectors.opcua.settings import Settings
from connectors.opcua.values import with_da_quality_read


def settings(**given):
    return Settings.model_validate(
        {"type": "opcua", "url": "opc.tcp://127.0.0.1:4840", "insecure": True, **given}
    )


def test_how_late_a_sample_may_be_is_told_by_the_rate_of_its_tag():
    server = settings(
        publishing_ms=500, source_delay_ms=30, rates=[{"address": "*.slow", "sampling_ms": 4000}]
    )
    assert isinstance(server, Delayed)
    assert server.delay_ms("nsu=urn:plant;s=flow") == 1000 + 500 + 30
    assert server.delay_ms("nsu=urn:plant;s=a.slow") == 4000 + 500 + 30


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        ("nsu=urn:plant;s=pump.flow", Address("urn:plant", "pump.flow")),
        ("nsu=urn:plant;s=a;b=c", Address("urn:plant", "a;b=c")),
        ("nsu=urn:a%3Bb%25;i=7", Address("urn:a;b%", 7)),
        ("i=2258", Address(OPC_UA, 2258)),
        (
            "nsu=urn:x;g=72962b91-fa75-4ae6-8d28-b404dc7daf63",
            Address("urn:x", UUID("72962b91-fa75-4ae6-8d28-b404dc7daf63")),
        ),
        ("nsu=urn:x;b=AQI=", Address("urn:x", b"\x01\x02")),
    ],
)
def test_a_node_id_is_read_in_every_form(address, wanted):
    assert parse(address) == wanted


@pytest.mark.parametrize(
    "address",
    ["", "flow", "nsu=;s=x", "nsu=urn:x", "nsu=urn:x;s=", "i=-1", "i=4294967296", "g=1", "b=%"],
)
def test_a_malformed_node_id_is_refused_with_what_is_wanted(address):
    with pytest.raises(ValueError, match="want nsu=<namespace URI>"):
        parse(address)


def test_an_index_in_place_of_a_namespace_is_refused_with_the_reason():
    with pytest.raises(ValueError, match=r"after the server's next start; want .*;s=flow"):
        parse("ns=2;s=flow")


def test_a_namespace_is_found_where_the_server_has_it_now():
    flow = parse("nsu=urn:plant;s=flow")
    assert index_of(flow, ["a", "b", "urn:plant"]) == 2
    assert index_of(flow, ["a", "urn:plant"]) == 1
    assert index_of(flow, ["a"]) is None
    assert index_of(parse("i=1"), []) == 0


def test_the_first_rate_that_fits_an_address_counts():
    made = settings(
        sampling_ms=1000,
        rates=[
            {"address": "*vibration", "sampling_ms": 100},
            {"address": "*", "publishing_ms": 5000, "every_sample": True},
        ],
    )
    fast, slow = made.rate_of("nsu=urn:x;s=vibration"), made.rate_of("nsu=urn:x;s=flow")
    assert (fast.sampling_ms, fast.publishing_ms, fast.every_sample) == (100, 1000, False)
    assert (slow.sampling_ms, slow.publishing_ms, slow.every_sample) == (1000, 5000, True)


def test_a_queue_holds_two_publishings_and_the_outage():
    made = settings(sampling_ms=300, publishing_ms=1000, queue_s=60)
    rate = made.rate_of("i=1")
    assert made.queue_size(rate) == 2 * 4 + 200
    assert made.keepalive_count(rate) == 10
    assert made.lifetime_count(rate) == 300


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"insecure": False}, "without encryption and without signatures"),
        ({"url": "http://127.0.0.1:4840"}, "want opc.tcp://HOST:PORT"),
        ({"url": "opc.tcp://127.0.0.1"}, "want opc.tcp://HOST:PORT"),
        ({"url": "opc.tcp://mon:secret@plc:4840"}, "no user and no password here"),
        ({"lifetime_s": 20}, "at least 3 x keepalive_s"),
        ({"queue_s": 900}, "at least queue_s"),
        ({"password_env": "P"}, "user_name is missing"),
        ({"user_name": "a", "password_env": "P", "password_file": "p"}, "want one of them"),
        ({"deadband": 1}, "Extra inputs"),
    ],
)
def test_what_cannot_be_meant_is_refused(given, said):
    with pytest.raises(ValidationError, match=said):
        settings(**given)


def test_what_is_insecure_must_be_said():
    with pytest.raises(ValidationError, match="insecure"):
        Settings.model_validate({"type": "opcua", "url": "opc.tcp://127.0.0.1:4840"})


def test_a_position_is_read_as_it_was_written():
    kept = Kept(key="k", watched="w", id=4, sequence=9, sampling_ms=50.5, queue_size=10, bad=(3,))
    missed = (Span(since=1, until=3, tags=(7, 8)), Span(since=2, until=4, tags=()))
    units = {7: ("degC", "0 to 100"), 8: ("degC", ""), 9: ("degC", "0 to 100")}
    position = Position(until=5, started=6, kept=(kept,), missed=missed, units=units)
    assert Position.read(position.text()) == position


def test_a_position_of_before_there_was_history_is_gone_on_from():
    kept = {"key": "k", "id": 4, "sequence": 9, "sampling_ms": 50.0, "queue_size": 1, "bad": []}
    text = json.dumps({"until": 5, "started": 6, "kept": [kept]})
    assert Position.read(text) == Position(until=5, started=6, kept=())


def test_messages_may_be_acknowledged_up_to_the_position_that_is_stored():
    waiting = Unacknowledged()
    waiting.hand_on("a", [(1, 1)])
    waiting.hand_on("b", [(1, 2), (2, 1)])
    waiting.hand_on("c", [(1, 3)])
    assert waiting.ripe() == []
    waiting.accepted("b")
    assert waiting.ripe() == [(1, 1), (1, 2), (2, 1)]
    assert waiting.ripe() == []
    waiting.accepted("of an earlier opening")
    assert waiting.ripe() == []


def test_a_quality_of_opc_da_gets_the_severity_it_means_and_a_status_code_stays():
    status = np.array([0, 0xC0, 0x44, 0x18, 0x80, 0x4000, 0x480, 0x80340000], np.uint32)
    wanted = [0, 0xC0, UNCERTAIN | 0x44, BAD | 0x18, BAD | 0x80, 0x4000, 0x480, 0x80340000]
    assert with_da_quality_read(status).tolist() == wanted

"""What comes of payloads: readings, blocks, or one of a few words; never an error."""

import base64
import contextlib
import json
import math
import struct

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from connectors.batch import BAD, BAD_NO_DATA, GOOD, UNCERTAIN
from connectors.payloads.forms import Decoded, Form, Reason, RejectedError, Wanted
from connectors.payloads.json import JsonDecoder
from connectors.payloads.stamps import stamp
from connectors.payloads.waveform import decode_binary

T0 = 1_704_067_200_000  # ms
NS = T0 * 1_000_000
WHOLE = (Wanted(1),)
FORMATS = ["auto", "number", "value", "flat", "values", "block"]


def read(payload: object, *wanted: Wanted, **form: object) -> Decoded:
    raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return JsonDecoder(Form.model_validate(form), wanted or WHOLE)(raw)


@pytest.mark.parametrize(
    ("payload", "value"), [(b"12.5", 12.5), (b" -3\n", -3.0), (b"true", 1.0), (b"false", 0.0)]
)
def test_a_bare_number_or_truth_is_a_reading_without_a_time(payload, value):
    assert read(payload).readings == [(1, None, value, GOOD)]


def test_null_is_a_bad_sample_that_keeps_its_time():
    ((tag, time, value, status),) = read({"ts": T0, "value": None}).readings
    assert (tag, time, status) == (1, NS, BAD_NO_DATA)
    assert math.isnan(value)


@pytest.mark.parametrize(
    ("payload", "wanted"),
    [
        ({"timestamp_ms": T0, "value": 3}, Wanted(1)),
        ({"timestamp_ms": T0, "value": 3}, Wanted(1, "value")),
        ({"time": "2024-01-01T01:00:00+01:00", "flow": 3, "temp": 4}, Wanted(1, "flow")),
        ({"ts": T0, "values": {"flow": 3, "temp": 4}}, Wanted(1, "flow")),
        ([{"ts": T0, "values": {"flow": 3}}], Wanted(1, "flow")),
        ({"ts": T0, "pump": {"in": {"flow": 3}}}, Wanted(1, "pump.in.flow")),
        ({"ts": T0, "pump.in": 3}, Wanted(1, "pump.in")),
        ({"ts": T0, "flow": {"value": 3, "q": "good", "unit": "l"}}, Wanted(1, "flow", "l")),
    ],
)
def test_each_form_of_object_gives_its_reading(payload, wanted):
    assert read(payload, wanted) == Decoded([(1, NS, 3.0, GOOD)])


def test_an_array_gives_a_reading_of_each_entry():
    entries = [{"ts": T0 + n, "values": {"flow": n}} for n in range(3)]
    got = read(entries, Wanted(1, "flow")).readings
    assert [(time - NS, value) for _, time, value, _ in got] == [
        (0, 0.0),
        (1_000_000, 1.0),
        (2_000_000, 2.0),
    ]


def test_a_member_that_is_not_there_is_no_sample_and_no_error():
    assert read({"ts": T0, "temp": 4}, Wanted(1, "flow")) == Decoded()


@pytest.mark.parametrize(
    ("quality", "status"),
    [
        *(("good", GOOD), ("Uncertain", UNCERTAIN), ("BAD", BAD), ("ok", GOOD)),
        *((192, GOOD), ("192", GOOD), (64, UNCERTAIN), (0, BAD), (500, BAD), (216, GOOD)),
        *((0x8004_0000, 0x8004_0000), (0x4000_0000, UNCERTAIN)),
    ],
)
@pytest.mark.parametrize("key", ["q", "quality", "status"])
def test_a_quality_is_told_in_words_in_opc_da_or_as_a_status_code(key, quality, status):
    assert read({"ts": T0, "value": 1, key: quality}).readings == [(1, NS, 1.0, status)]


@pytest.mark.parametrize(
    ("number", "ns"),
    [
        (1_704_067_200, NS),
        (1_704_067_200.123457, NS + 123_457_000),
        (T0, NS),
        (T0 + 0.5, NS + 500_000),
        (T0 * 1000 + 1, NS + 1000),
        (NS + 1, NS + 1),
        (str(T0), NS),
        ("2024-01-01T00:00:00.000001Z", NS + 1000),
        (946_684_800_000, 946_684_800 * 10**9),  # a clock that was set back to 2000
    ],
)
def test_a_number_counts_what_its_size_says(number, ns):
    assert stamp(number, "auto") == ns


def test_a_named_format_is_not_guessed():
    assert stamp(5_000, "epoch_s") == 5_000 * 10**9
    assert read({"ts": "2024-01-01T00:00:00Z", "value": 1}, time_format="epoch_s").reasons == [
        Reason.TIME
    ]


@pytest.mark.parametrize(
    ("payload", "form", "reason"),
    [
        (b"", {}, Reason.NOT_JSON),
        (b"\xff\xfe", {}, Reason.NOT_JSON),
        (b'"\xff"', {}, Reason.NOT_JSON),
        (b"NaN", {}, Reason.NOT_JSON),
        (b"1e999", {}, Reason.NOT_JSON),
        (b'{"value": -Infinity}', {}, Reason.NOT_JSON),
        (b"[" * 100_000, {}, Reason.NOT_JSON),
        (b'{"value":' * 5_000 + b"1" + b"}" * 5_000, {}, Reason.NOT_JSON),
        (b'"12"', {}, Reason.NOT_A_NUMBER),
        ({"value": "12"}, {}, Reason.NOT_A_NUMBER),
        ({"value": [1]}, {}, Reason.NOT_A_NUMBER),
        ({"flow": 1}, {}, Reason.FORM),
        (1, {"format": "value"}, Reason.FORM),
        ({"value": 1}, {"format": "flat"}, Reason.FORM),
        ({"value": 1}, {"time_key": "when"}, Reason.TIME),
        (1, {"time_key": "when"}, Reason.TIME),
        ({"value": 1, "ts": "2024-01-01T00:00:00"}, {}, Reason.TIME),
        ({"value": 1, "ts": None}, {}, Reason.TIME),
        ({"value": 1, "ts": True}, {}, Reason.TIME),
        ({"value": 1, "ts": -5}, {}, Reason.TIME),
        ({"value": 1, "ts": 10**30}, {}, Reason.TIME),
        ({"value": 1, "q": "so so"}, {}, Reason.STATUS),
        ({"value": 1, "q": 1.5}, {}, Reason.STATUS),
        ({"value": 1, "unit": "degF"}, {}, Reason.UNIT),
        ([{"value": 1}, {"ts": T0, "value": 1}], {}, Reason.TIME),
    ],
)
def test_what_cannot_be_taken_is_named_by_one_word(payload, form, reason):
    got = read(payload, Wanted(1, unit="degC"), **form)
    assert got.reasons == [reason]
    assert [one for one in got.readings if one[1] is None] == []


def test_a_quality_that_is_none_is_believed_when_the_rule_says_so():
    told = {"ts": T0, "value": 1, "status": "running", "unit": "degF"}
    got = read(told, Wanted(1, unit="degC"), status_key="", unit_key="")
    assert got == Decoded([(1, NS, 1.0, GOOD)])


NUMBERS = np.array([1.0, -2.0, 300.0, 4.0])


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("dtype", ["i2", "i4", "f4", "f8"])
def test_a_binary_block_is_read_as_the_rule_says(dtype, order):
    raw = NUMBERS.astype(("<" if order == "little" else ">") + dtype).tobytes()
    form = Form(
        format="waveform",
        dtype=dtype,
        byte_order=order,
        rate_hz=100,
        scale=0.5,
        offset=1,
        samples=4,
    )
    (block,) = decode_binary(
        raw, {"ts": str(T0), "speed_hz": "25"}, form, Wanted(1, unit="g")
    ).blocks
    assert block.samples.tolist() == (NUMBERS * 0.5 + 1).tolist()
    assert (block.time, block.rate, block.speed, block.samples.dtype) == (NS, 100, 25, np.float32)


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("dtype", ["i2", "i4", "f4", "f8"])
def test_a_block_that_is_not_scaled_has_the_bits_of_one_scaled_by_one(dtype, order):
    numbers = [0.0, -0.0, 1.0, -3.0, 0.1, 1e-40, 16_777_217.0, 2**31 - 1.0]
    if dtype == "i2":
        numbers = [0.0, -32_768.0, 32_767.0]
    raw = np.array(numbers).astype(("<" if order == "little" else ">") + dtype)
    form = Form(format="waveform", dtype=dtype, byte_order=order, rate_hz=100)
    (block,) = decode_binary(raw.tobytes(), {}, form, Wanted(1)).blocks
    scaled = (raw.astype(np.float64) * 1.0 + 0.0).astype(np.float32)
    assert block.samples.tobytes() == scaled.tobytes()


def test_a_header_tells_the_time_and_the_rate_of_a_binary_block():
    raw = struct.pack(">qd4h", NS, 12.5, 1, 2, 3, 4)
    form = Form(format="waveform", dtype="i2", byte_order="big", header="time_rate")
    (block,) = decode_binary(raw, {}, form, Wanted(1)).blocks
    assert (block.time, block.rate, block.samples.tolist()) == (NS, 12.5, [1, 2, 3, 4])


@pytest.mark.parametrize(
    "block", [base64.b64encode(NUMBERS.astype("<f8")).decode(), NUMBERS.tolist()]
)
def test_a_block_within_json_says_what_it_is(block):
    told = {"ts": T0, "rate_hz": 50, "dtype": "f8", "block": block, "q": "uncertain"}
    for payload, wanted in ((told, Wanted(1)), ({"ts": T0, "x": told}, Wanted(1, "x"))):
        (got,) = read(payload, wanted).blocks
        assert (got.time, got.rate, got.status, got.samples.tolist()) == (
            NS,
            50,
            UNCERTAIN,
            NUMBERS.tolist(),
        )


@pytest.mark.parametrize(
    "block", ["AAA", "AA=A", "AAAA\n", "AA AA", "====", "AAAA====", "A-_A", "AA==AAAA", "\u00e9"]
)
def test_a_block_that_is_no_base64_is_not_taken(block):
    got = read({"ts": T0, "rate_hz": 50, "dtype": "f4", "block": block})
    assert (got.blocks, got.reasons) == ([], [Reason.FORM])


@pytest.mark.parametrize(
    ("raw", "said", "form", "reason"),
    [
        (b"", {"rate_hz": "1"}, {}, Reason.LENGTH),
        (b"12345", {"rate_hz": "1"}, {}, Reason.LENGTH),
        (b"12345678", {"rate_hz": "1"}, {"samples": 3}, Reason.LENGTH),
        (b"1234", {}, {"header": "time"}, Reason.LENGTH),
        (b"1234", {}, {}, Reason.RATE),
        (b"1234", {"rate_hz": "nan"}, {}, Reason.RATE),
        (b"1234", {"rate_hz": "-1"}, {}, Reason.RATE),
        (b"1234", {"rate_hz": "1", "dtype": "O"}, {}, Reason.DTYPE),
        (b"1234", {"rate_hz": "1", "ts": "soon"}, {}, Reason.TIME),
        (b"1234", {"rate_hz": "1", "unit": "mm/s"}, {}, Reason.UNIT),
        (b"1234", {"rate_hz": "1", "q": "what"}, {}, Reason.STATUS),
        (struct.pack("<f", math.nan), {"rate_hz": "1"}, {}, Reason.NOT_FINITE),
        (struct.pack("<d", 1e300), {"rate_hz": "1", "dtype": "f8"}, {}, Reason.NOT_FINITE),
    ],
)
def test_a_block_that_cannot_be_taken_is_named_by_one_word(raw, said, form, reason):
    got = decode_binary(raw, said, Form.model_validate(form), Wanted(1, unit="g"))
    assert (got.blocks, got.reasons) == ([], [reason])


def sound(found: Decoded) -> None:
    """All that a decoder may give."""
    for tag, time, value, status in found.readings:
        assert isinstance(tag, int)
        assert time is None or 0 < time < 1 << 63
        assert math.isfinite(value) or status >> 30 >= 2
        assert 0 <= status < 1 << 32
    for block in found.blocks:
        assert block.rate > 0
        assert np.isfinite(block.samples).all()
        assert len(block.samples)
    assert all(isinstance(reason, Reason) for reason in found.reasons)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.sampled_from(
                ["ts", "value", "values", "block", "q", "unit", "rate_hz", "dtype", "a"]
            )
            | st.text(),
            inner,
        )
    ),
    max_leaves=20,
)
KEYED = (Wanted(1), Wanted(2, "a", "g"), Wanted(3, "values.a"), Wanted(4, "value"))


@given(st.binary() | JSON.map(lambda tree: json.dumps(tree).encode()), st.sampled_from(FORMATS))
@example(b'{"ts":1e308,"value":1}', "auto")
@example(b'{"block":[1e308,' + b"9" * 400 + b'],"rate_hz":1e-320}', "block")
@example(b'{"block":[99999999999999999999],"rate_hz":1,"scale":1e308}', "auto")
def test_whatever_comes_a_json_decoder_gives_readings_or_reasons(payload, form):
    sound(read(payload, *KEYED, format=form))


@given(
    st.binary(),
    st.dictionaries(st.sampled_from(["ts", "rate_hz", "dtype", "q", "unit", "scale"]), st.text()),
    st.sampled_from(["none", "time", "time_rate"]),
    st.sampled_from(["i2", "i4", "f4", "f8"]),
)
def test_whatever_comes_a_block_decoder_gives_a_block_or_a_reason(payload, said, header, dtype):
    form = Form(format="waveform", header=header, dtype=dtype, rate_hz=1)
    found = decode_binary(payload, said, form, Wanted(1, unit="g"))
    sound(found)
    assert len(found.blocks) + len(found.reasons) == 1


@given(JSON, st.sampled_from(["auto", "epoch_s", "epoch_ms", "epoch_us", "epoch_ns", "iso"]))
@example(1e308, "epoch_s")
def test_whatever_comes_a_stamp_is_a_time_or_no_time(value, form):
    with contextlib.suppress(RejectedError):
        assert 0 < stamp(value, form) < 1 << 63

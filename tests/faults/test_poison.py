"""Whatever a peer may send: no decoder fails, and each thing sent is taken, rejected, or empty.

Hypothesis makes the payloads, in rounds of their own seeds: repeatable, and no round remembers the
one before. WATCHKEEPER_FAULTS=full makes that 100,000 payloads a decoder, all its forms together.
"""

import base64
import json
import math
import string
import struct
import tracemalloc
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from asyncua import ua
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from support import outcomes, recordings
from support.outcomes import Mode

from connectors.batch import Notice, NoticeKind, Samples, Waveforms
from connectors.contract import Batch, ConnectorError, TagRef
from connectors.files.casts import numbers, status_codes
from connectors.mqtt.decode import Decoder
from connectors.mqtt.pump import Received
from connectors.mqtt.settings import ReadingSettings
from connectors.opcua.units import Meanings
from connectors.opcua.values import STRANGER, Wave
from connectors.payloads.forms import RejectedError
from connectors.payloads.stamps import stamp
from connectors.stamps import OLDEST_NS
from monitor.core.plan import Feature
from monitor.core.records import Record
from monitor.core.vibration import feature_of, samples_of
from monitor.state.journal import decode, encode

FULL = outcomes.MODE is not Mode.SHORT
AT_ONCE = 20  # payloads of one example
EXAMPLES = 50 if FULL else 15  # of one round
ROUNDS = 100 if FULL else 1  # of one decoder
ROUND = settings(
    max_examples=EXAMPLES,
    database=None,
    deadline=None,
    phases=[Phase.generate],  # what fails is shown as it came: to make it smaller takes minutes
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
CAME = 1_704_067_300_000_000_000
T0 = 1_704_067_200_000  # ms
AHEAD_NS = 60_000_000_000
TAGS = [
    TagRef(id=n, address=address, unit="g" if n % 2 else None)
    for n, address in enumerate(("t", "t#value", "t#a", "t#a.b", "t#values.a", "t#values"), 1)
]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.fault("poison"),
    pytest.mark.timeout(7200 if FULL else 60),
]


def poison(*strategies, forms):
    """Call a check at once with what is drawn from these; a decoder has so many ``forms``."""

    def call(check):
        for number in range(-(-ROUNDS // len(forms))):
            seed(number)(ROUND(given(*strategies)(check)))()

    return call


@dataclass
class Tally:
    """What became of all payloads of a test."""

    payloads: int = 0
    taken: int = 0  # that gave samples
    empty: int = 0  # that held nothing that was asked for
    rejected: Counter[str] = field(default_factory=Counter)


@pytest.fixture
def tally(figures, tell):
    """What is counted here is kept as the figures of the unit."""
    found = Tally()
    yield found
    figures |= {
        "times": found.payloads,
        "taken": found.taken,
        "empty": found.empty,
        "rejected": found.rejected.total(),
    }
    tell(f"{json.dumps(figures)} {dict(found.rejected)}")


# ---- what is sent --------------------------------------------------------------------------------

NAMES = "ts timestamp_ms time value values block a b a.b q status unit rate_hz speed_hz dtype scale"
KEYS = st.sampled_from([*NAMES.split(), ""]) | st.text(st.characters(), max_size=4)
WORDS = st.sampled_from(
    [
        *("good", "uncertain", "bad", "192", "g", "f8", ">i2", "AAAA", "nan", "-1", "1e400", "1_0"),
        *("2024-01-01T00:00:00Z", "9999-12-31T23:59:59.999999-23:59", "0001-01-01T00:00:00+23:59"),
        *(str(T0), "9" * 19, "\u0663", "24:00"),
    ]
)
HUGE = st.sampled_from(
    [
        *(b"1e308", b"-1e309", b"1e-400", b"1e999999999", b"5e-324", b"0." + b"1" * 999),
        *(b"9223372036854775807", b"-9223372036854775809", b"18446744073709551616"),
        *(b"9" * 25, b"9" * 5000, b"-" + b"8" * 400),
        *(b"NaN", b"Infinity", b"-0", b"-0.0", b"00", b"1.", b"+1", b"0x1F", b"1e"),
    ]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from([0, 1, 64, 192, 2**31, 2**32, T0, T0 * 10**6, 1e18, 1e-320, 1e300])
    | WORDS
    | st.text(st.characters(), max_size=8)
)
BLOCKS = st.lists(st.floats(width=32) | st.integers(), max_size=6) | st.binary(max_size=24).map(
    lambda raw: base64.b64encode(raw).decode()
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=12,
)
LIKELY = st.fixed_dictionaries(
    {},
    optional={
        "ts": st.sampled_from([T0, T0 // 1000, 1, 10**15, "2024-01-01T00:00:00Z"]) | SCALARS,
        "value": st.floats(-1e6, 1e6) | SCALARS | TREES,
        "a": st.integers(-9, 9) | TREES,
        "values": st.dictionaries(KEYS, SCALARS, max_size=4) | TREES,
        "block": BLOCKS | SCALARS,
        "rate_hz": st.sampled_from([1, 25600, 1e-320, 1e308, "50"]) | SCALARS,
        "q": WORDS | st.integers(0, 600) | SCALARS,
        "unit": st.just("g") | SCALARS,
        "dtype": st.sampled_from(["i2", "i4", "f4", "f8"]) | SCALARS,
    },
)


def dumped(tree):
    return json.dumps(tree).encode()


def with_doubles(pairs):
    """An object as text, in which a key may stand twice."""
    return b"{" + b",".join(dumped(key) + b":" + value for key, value in pairs) + b"}"


def damaged(raw, places):
    """Some bytes changed, some left out, and cut off behind."""
    found = bytearray(raw)
    for place, byte in places:
        at = place % (len(found) + 1)
        found[at : at + place % 3] = bytes([byte])
    return bytes(found)


PAIRS = st.lists(st.tuples(KEYS, HUGE | SCALARS.map(dumped) | TREES.map(dumped)), max_size=6)
SOUND = st.sampled_from(
    [
        {"ts": T0, "value": 1.5, "q": "good", "unit": "g"},
        {"ts": T0, "values": {"a": 1, "b": True}},
        {"ts": T0, "rate_hz": 100, "block": [1, 2.5]},
        {"ts": T0, "rate_hz": 100, "dtype": "f4", "block": "AACAPwAAAEA="},
        {"ts": T0, "a": {"value": 1, "q": 192}, "b": None},
        {"ts": T0, "a": {"b": 3}, "value": False},
    ]
)
SPOILT = st.builds(lambda sound, odd: sound | odd, SOUND, st.dictionaries(KEYS, TREES, max_size=2))
WHOLE = LIKELY.map(dumped) | st.lists(LIKELY, max_size=4).map(dumped)
DEEP = st.builds(
    lambda start, count, end: start * count + b"1" + end * count,
    st.sampled_from([b"[", b'{"a":', b'[{"value":', b'{"values":{"a":']),
    st.sampled_from([1, 50, 900, 1500, 20_000]),
    st.sampled_from([b"]", b"}", b"}]", b"}}", b""]),
)
LONG = st.builds(
    lambda entry, count, key: b'{"%s":[%s]}' % (key, b",".join([entry] * count)),
    st.sampled_from([b"1", b"[]", b'{"ts":1}', b'"x"', b"1e300", b"null"]),
    st.sampled_from([0, 1, 3000]),
    st.sampled_from([b"block", b"value", b"a", b"values"]),
)
PLACES = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), min_size=1, max_size=3)
TEXTS = st.one_of(
    SPOILT.map(dumped),
    WHOLE,
    SCALARS.map(dumped),
    TREES.map(dumped),
    PAIRS.map(with_doubles),
    st.builds(damaged, WHOLE, PLACES),
    HUGE,
    DEEP,
    LONG,
    st.binary(max_size=40),
)


def together(payloads):
    return st.lists(payloads, min_size=AT_ONCE, max_size=AT_ONCE)


# ---- what becomes of it --------------------------------------------------------------------------


def decoder(**rule):
    payloads = [{"topic": "#", **rule}] if rule else []
    read = {"type": "mqtt", "host": "h", "client_id": "c", "payloads": payloads}
    return Decoder("m", ReadingSettings.model_validate(read), TAGS)


def message(number, payload, said=()):
    """One that came a millisecond after the one before."""
    again, retained = number % 7 == 3, number % 11 == 5
    return Received("t", payload, 1, retained, again, said, CAME + number * 1_000_000)


def check(batch: Batch, came: int) -> None:
    """A batch can be stored, and what the step makes of it can be made."""
    row = encode(Record(came, batch))
    assert type(decode(row, number=1).body) is type(batch)
    if isinstance(batch, Samples):
        times, lasts = batch.time, 0
    elif isinstance(batch, Waveforms):
        lasts = np.rint(batch.block.shape[1] / batch.rate * 1e9).astype(np.int64)
        times = batch.time
        assert len(samples_of(batch)) == batch.block.size
        for feature in Feature:
            assert len(feature_of(batch, feature)) == len(batch)
    else:
        return
    assert (times + lasts >= OLDEST_NS).all()
    assert (times + lasts <= came + AHEAD_NS).all()


def follow(made: Decoder, messages: list[Received], tally: Tally) -> None:
    """Every message is taken, rejected or empty, and counted as that."""
    for one in messages:
        try:
            follow_one(made, one, tally)
        except Exception as error:
            error.add_note(f"at {one.payload[:400]!r} {one.said!r}")
            raise
    for batch in made.decode(messages, "p"):
        check(batch, messages[-1].came)


def follow_one(made: Decoder, one: Received, tally: Tally) -> None:
    before = (made.messages, made.rejected, made.empty)
    batches = made.decode([one], "p")
    for batch in batches:
        check(batch, one.came)
    taken = sum(len(batch) for batch in batches if not isinstance(batch, Notice))
    reasons = Counter()
    for batch in batches:
        if isinstance(batch, Notice):
            assert batch.kind is NoticeKind.REJECTED
            reasons[batch.reason] += batch.count
    assert made.messages - before[0] == 1
    assert made.rejected - before[1] == reasons.total()
    empty = made.empty - before[2]
    assert bool(taken or reasons) != bool(empty)
    assert not batches or batches[-1].position == "p"
    tally.payloads += 1
    tally.taken += taken > 0
    tally.empty += empty
    tally.rejected += reasons


JSON_FORMS = ["auto", "number", "value", "flat", "values", "block"]


@pytest.mark.parametrize("form", JSON_FORMS)
def test_whatever_json_comes_is_taken_rejected_or_empty(form, tally):
    made = decoder(format=form)

    @poison(together(TEXTS), forms=JSON_FORMS)
    def poisoned(payloads):
        follow(made, [message(n, payload) for n, payload in enumerate(payloads)], tally)

    assert tally.taken > 0


HEADERS = ["none", "time", "time_rate"]
SAID = st.dictionaries(
    st.sampled_from(["ts", "rate_hz", "dtype", "q", "unit", "scale", "offset", "speed_hz"]),
    WORDS | st.text(st.characters(), max_size=6),
    max_size=4,
)
NUMBERS = st.lists(st.floats(width=32), max_size=5).map(
    lambda numbers: struct.pack(f"<{len(numbers)}f", *numbers)
)
SHORTS = st.sampled_from([b"", b"\0" * 8, struct.pack("<4h", 1, 2, 3, 4)])
HEADED = st.builds(
    lambda time, rate, rest: struct.pack("<qd", time, rate) + rest,
    st.sampled_from([T0, T0 * 10**6, 0, -1, 2**63 - 1]) | st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([1.0, 25600.0, 1e-320, 1e308, math.nan, -math.inf]) | st.floats(),
    SHORTS | NUMBERS | st.binary(max_size=9),
)


@pytest.mark.parametrize("header", HEADERS)
def test_whatever_block_comes_is_taken_or_rejected(header, tally):
    made = [
        decoder(format="waveform", header=header, dtype=dtype, rate_hz=10.0, scale=2.0)
        for dtype in ("i2", "i4", "f4", "f8")
    ]

    @poison(
        together(st.tuples(HEADED | NUMBERS | st.binary(max_size=40), st.just({}) | SAID)),
        forms=HEADERS,
    )
    def poisoned(payloads):
        messages = [message(n, raw, list(said.items())) for n, (raw, said) in enumerate(payloads)]
        follow(made[tally.payloads // AT_ONCE % len(made)], messages, tally)

    assert tally.taken > 0
    assert tally.empty == 0


STAMPS = ["auto", "epoch_s", "epoch_ms", "epoch_us", "epoch_ns", "iso"]


@pytest.mark.parametrize("form", STAMPS)
def test_whatever_stamp_comes_is_a_time_or_rejected(form, tally):
    texts = st.text(string.digits + ".-+:TZW", max_size=25) | st.datetimes().map(
        lambda moment: moment.isoformat() + "Z"
    )

    @poison(together(SCALARS | texts | TREES), forms=STAMPS)
    def poisoned(values):
        for value in values:
            tally.payloads += 1
            try:
                assert 0 < stamp(value, form) < 1 << 63
                tally.taken += 1
            except RejectedError as error:
                tally.rejected[error.reason] += 1

    assert tally.payloads == tally.taken + tally.rejected.total()
    assert tally.taken > 0


CELLS = st.one_of(
    st.none(),
    st.floats().map(str),
    st.integers().map(str),
    WORDS,
    st.text(string.digits + ".,+-eE _'", max_size=12),
    st.text(max_size=6),
)


@pytest.mark.parametrize("decimal", [".", ","])
def test_whatever_stands_in_a_cell_is_a_number_empty_or_rejected(decimal, tally):
    @poison(together(CELLS), forms=".,")
    def poisoned(cells):
        value, empty, bad = numbers(pa.array(cells, pa.string()), decimal)
        codes, unreadable = status_codes(pa.array(cells, pa.string()), "opc_ua")
        assert len(value) == len(empty) == len(bad) == len(codes) == len(unreadable) == len(cells)
        assert not (empty & bad).any()
        assert np.isnan(value[empty | bad]).all()
        tally.payloads += len(cells)
        tally.empty += int(empty.sum())
        tally.taken += int((~empty & ~bad).sum())
        tally.rejected["value not a number"] += int(bad.sum())

    assert tally.payloads == tally.taken + tally.empty + tally.rejected.total()
    assert tally.taken > 0


LINES = st.one_of(  # with the number of a line put in
    CELLS.map(lambda cell: f"{{}},{str(cell).translate(PLAIN)}"),
    CELLS.map(lambda cell: f"{{}},{str(cell).translate(PLAIN)}"),
    st.lists(CELLS.map(lambda cell: str(cell).translate(PLAIN)), max_size=4).map(",".join),
    st.text('",;\t\r\n1.', max_size=12),
)
PLAIN = str.maketrans("{}", "()", "\r\n")


@pytest.mark.parametrize("damage", [False, True])
def test_whatever_file_comes_is_read_or_refused(damage, tally, tmp_path):
    file = tmp_path / "a.csv"
    read = recordings.settings(file, time_format="epoch_s")

    @poison(together(LINES), PLACES, forms=[False, True])
    def poisoned(lines, places):
        numbered = [line.format(T0 // 1000 + n) for n, line in enumerate(lines, 1)]
        raw = "\n".join(["time,flow", f"{T0 // 1000},1", *numbered]).encode()
        file.write_bytes(damaged(raw, places) if damage else raw)
        tally.payloads += len(lines)
        try:
            batches = recordings.history([TagRef(id=1, address="flow")], read)
        except ConnectorError:
            tally.rejected["refused"] += len(lines)
            return
        for batch in batches:
            encode(Record(CAME, batch))
        tally.taken += len(recordings.samples(batches))
        tally.rejected += Counter(recordings.rejected(batches))

    assert tally.taken > 0 or damage  # of a line's form, or of an encoding: refused as a whole


MOMENTS = (
    st.none()
    | st.datetimes(timezones=st.just(UTC))
    | st.sampled_from(
        [
            datetime(1601, 1, 1, tzinfo=UTC),
            datetime(1650, 1, 1, tzinfo=UTC),
            datetime(2024, 1, 1, tzinfo=UTC),
            datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),  # what OPC UA has for no end
        ]
    )
)
SORTS = {
    ua.VariantType.Null: st.none(),
    ua.VariantType.Boolean: st.booleans(),
    ua.VariantType.Byte: st.integers(0, 255),
    ua.VariantType.Int64: st.integers(-(2**63), 2**63 - 1),
    ua.VariantType.UInt64: st.integers(0, 2**64 - 1),
    ua.VariantType.Float: st.floats(width=32),
    ua.VariantType.Double: st.floats(),
    ua.VariantType.String: st.none() | st.text(max_size=5),
    ua.VariantType.DateTime: st.datetimes(timezones=st.just(UTC)),
    ua.VariantType.ByteString: st.none() | st.binary(max_size=5),
    ua.VariantType.LocalizedText: st.just(ua.LocalizedText("x")),
    ua.VariantType.StatusCode: st.just(ua.StatusCode(0)),
}
VARIANTS = st.one_of(
    *(
        st.builds(ua.Variant, value | st.lists(value, max_size=3), st.just(sort))
        if sort is not ua.VariantType.Null
        else st.builds(ua.Variant, value, st.just(sort))
        for sort, value in SORTS.items()
    )
)
DATA = st.builds(
    ua.DataValue,
    VARIANTS,
    st.integers(0, 2**32 - 1).map(ua.StatusCode) | st.just(ua.StatusCode(0)),
    MOMENTS,
    MOMENTS,
)


def test_whatever_an_opc_ua_server_notifies_of_is_taken_or_rejected(tally):
    @poison(together(st.tuples(st.integers(1, 4), DATA)), st.booleans(), forms=[Wave])
    def poisoned(values, away):
        wave = Wave()
        after = dict.fromkeys((1, 2), CAME) if away else {}
        tags = (tag if tag < 4 else STRANGER for tag, _ in values)
        items = zip(tags, (data for _, data in values), strict=True)
        wave.take(items, published=CAME, ahead_s=60, after=after)
        batch = wave.samples("plc", meant=Meanings("plc", {}).meant)
        for notice in [*wave.rejections("plc"), *wave.overflows("plc", {}, CAME)]:
            encode(Record(CAME, notice))
        encode(Record(CAME, batch))
        rejected = {reason: len(tags) for reason, tags in wave.rejected.items()}
        assert len(batch) + sum(rejected.values()) == len(values)
        tally.payloads += len(values)
        tally.taken += len(batch)
        tally.rejected += Counter(rejected)

    assert tally.payloads == tally.taken + tally.rejected.total()
    assert tally.taken > 0


# ---- how much it may take ------------------------------------------------------------------------

LARGEST = 1 << 16  # of a payload here, in bytes; all grow in step with it
SHAPES = {
    "numbers": (b"[", b"1,", b"1]"),
    "arrays": (b"[", b"[],", b"[]]"),
    "objects": (b"[", b"{},", b"{}]"),
    "members": (b'{"a":', b'{"a":1,"b":{}},"c":', b"1}"),
    "entries": (b"[", b'{"ts":1,"value":1},', b"1]"),
    "text": (b'{"value":"', b"\\u0041", b'"}'),
    "samples": (b'{"ts":1704067200,"rate_hz":9,"block":[', b"1,", b"1]}"),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_payload_takes_no_more_than_a_fixed_multiple_of_its_length(shape):
    start, middle, end = SHAPES[shape]
    payload = start + middle * ((LARGEST - len(start + end)) // len(middle)) + end
    made = decoder()
    tracemalloc.start()
    try:
        made.decode([message(0, payload)], "p")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100 * LARGEST

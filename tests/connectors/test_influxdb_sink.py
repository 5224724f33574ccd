"""Points into a real InfluxDB 1 behind a shim, into VictoriaMetrics, and against odd answers."""

import asyncio
import contextlib
import gzip
import json
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.certificates import Certificates
from support.databases import TOKEN, Shim, Victoria, new_database, shared_influx
from support.plants import until
from support.receivers import HANG_UP, SAY_NOTHING, Answer, receiving
from support.servers import started

from connectors.contract import NotReadyError, RefusedError
from connectors.influxdb.settings import WritingSettings
from connectors.influxdb.sink import Sink
from connectors.points import Message, Points

NOW = (time.time_ns() // 1_000_000_000 - 60) * 1_000_000_000
SECOND = 1_000_000_000
ROWS = 3

broker = pytest.mark.broker


def points(number, *, rows=ROWS, since=NOW, **texts):
    """A block of asset number; its rows are a second apart."""
    return Points(
        measurement="asset_score",
        tags={"asset": f"p{number}"},
        time=since + np.arange(rows) * SECOND,
        fields={} if texts else {"surprise": np.arange(rows) + 0.1 * number},
        texts={name: (text,) * rows for name, text in texts.items()},
    )


def expected(blocks):
    """What InfluxDB holds when it has these blocks."""
    found = {}
    for block in blocks:
        tags = tuple(sorted((key, value) for key, value in block.tags.items() if value))
        for row, stamp in enumerate(block.time.tolist()):
            numbers = {name: float(column[row]) for name, column in block.fields.items()}
            texts = {name: column[row] for name, column in block.texts.items()}
            found[block.measurement, tags, stamp] = numbers | texts
    return found


class Bucket:
    """A bucket of the shared InfluxDB, and sinks for it."""

    def __init__(self, folder, *, keep="INF", body="25m"):
        self.influx = shared_influx()
        self.name = new_database(self.influx, keep=keep)
        self.shim = Shim(folder / "shim", self.influx, body=body)
        self.token = folder / "token"
        self.token.write_text(TOKEN)

    def sink(self, **given):
        known = {
            "type": "influxdb",
            "url": self.shim.url,
            "bucket": self.name,
            "token_file": str(self.token),
        }
        return Sink("db", WritingSettings.model_validate(known | given))

    def contents(self):
        return self.influx.contents(self.name)


@pytest.fixture
def bucket(tmp_path):
    made = Bucket(tmp_path)
    with started(made.shim):
        yield made


async def deliver(sink, items):
    """Open, deliver, close."""
    await sink.open()
    try:
        await sink.deliver(items)
    finally:
        await sink.close()


@contextlib.contextmanager
def answering(*answers, usual=None, **given):
    """A sink and the receiver that plays its server."""
    with receiving() as receiver:
        receiver.answers.extend(answers)
        if usual is not None:
            receiver.usual = usual
        url = receiver.url.removesuffix("/hook")
        known = {"type": "influxdb", "url": url, "bucket": "b", "org": "o"}
        yield Sink("db", WritingSettings.model_validate(known | given)), receiver


def body(request):
    return gzip.decompress(request.body).decode()


# ---- what arrives ----------------------------------------------------------------------------


NAME = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=6).filter(
    lambda name: "\\" not in name and not name.startswith("#") and name != "time"
)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@st.composite
def blocks(draw):
    """Blocks of any names, values and texts; fields and tags never share a name."""
    made = []
    for number in range(draw(st.integers(1, 5))):
        names = draw(st.lists(NAME, min_size=2, max_size=6, unique=True))
        cut = draw(st.integers(0, len(names) - 1))
        rows = draw(st.integers(1, 4))

        def column(kind, rows=rows, **given):
            return draw(st.lists(kind, min_size=rows, max_size=rows, **given))

        made.append(
            Points(
                measurement=f"{draw(NAME)}{number}",
                tags={name: draw(NAME | st.just("")) for name in names[:cut]},
                time=NOW + np.array(column(st.integers(0, 10**12), unique=True)),
                fields={name: np.array(column(NUMBER)) for name in names[cut::2]},
                texts={name: tuple(column(TEXT)) for name in names[cut + 1 :: 2]},
            )
        )
    return made


@broker
@pytest.mark.slow
@pytest.mark.timeout(120)
@given(given_blocks=blocks())
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_what_was_written_is_read_back_equal(bucket, given_blocks):
    bucket.name = new_database(bucket.influx)
    asyncio.run(deliver(bucket.sink(), given_blocks))
    assert bucket.contents() == expected(given_blocks)


@broker
async def test_many_blocks_arrive_in_requests_of_a_bounded_size(bucket):
    given_blocks = [points(n, rows=n % 5) for n in range(60)]
    await deliver(bucket.sink(batch_lines=7), given_blocks)
    assert bucket.contents() == expected(given_blocks)


async def test_requests_are_full_and_hold_no_more_lines_than_allowed():
    with answering(batch_lines=7) as (sink, receiver):
        await deliver(sink, [points(0, rows=16), points(1, rows=4), points(2, rows=0)])
        assert [body(one).count("\n") for one in receiver.got] == [7, 7, 6]


async def test_a_request_is_compressed_names_its_bucket_and_carries_the_token(monkeypatch):
    monkeypatch.setenv("RIG_TOKEN", "t0ken")
    with answering(token_env="RIG_TOKEN") as (sink, receiver):  # noqa: S106 (a variable's name)
        await deliver(sink, [points(0, rows=1)])
    (request,) = receiver.got
    assert request.path == "/api/v2/write?org=o&bucket=b&precision=ns"
    assert request.headers["authorization"] == "Token t0ken"
    assert body(request) == f"asset_score,asset=p0 surprise=0 {NOW}\n"


async def test_of_two_values_for_one_point_the_later_item_counts():
    first, other, last = points(0, rows=1), points(0, rows=1, said="x"), points(0, rows=1)
    with answering() as (sink, receiver):
        await deliver(sink, [first, other, last])
    assert ["said" in line for line in body(receiver.got[0]).splitlines()] == [False, True, False]


@broker
async def test_victoriametrics_gets_the_same_points(tmp_path):
    with started(Victoria(tmp_path)) as victoria:
        settings = WritingSettings(type="influxdb", url=victoria.url, bucket="any")
        await deliver(Sink("db", settings), [points(1), points(2, rows=1)])
        found = victoria.export("asset_score_surprise")
    assert sorted((labels["asset"], values, stamps) for labels, values, stamps in found) == [
        ("p1", [0.1, 1.1, 2.1], [NOW // 10**6 + n * 1000 for n in range(3)]),
        ("p2", [0.2], [NOW // 10**6]),
    ]


# ---- what is refused -------------------------------------------------------------------------


@broker
async def test_exactly_the_blocks_of_another_type_are_refused_and_all_others_written(bucket):
    await deliver(bucket.sink(), [points(99)])
    given_blocks = [points(n) for n in range(40)]
    given_blocks[7] = points(7, surprise="a text")
    given_blocks[31] = points(31, surprise="a text")
    with pytest.raises(RefusedError, match="field type conflict") as refused:
        await deliver(bucket.sink(), given_blocks)
    assert refused.value.items == (7, 31)
    wanted = [block for n, block in enumerate(given_blocks) if n not in (7, 31)]
    assert bucket.contents() == expected([*wanted, points(99)])


@broker
async def test_points_older_than_the_bucket_keeps_are_refused_with_that_reason(tmp_path):
    bucket = Bucket(tmp_path, keep="1h")
    with started(bucket.shim):
        given_blocks = [points(n) for n in range(4)]
        given_blocks[2] = points(2, since=NOW - 10 * 86_400 * SECOND)
        with pytest.raises(RefusedError, match="retention policy") as refused:
            await deliver(bucket.sink(), given_blocks)
        assert refused.value.items == (2,)
        assert bucket.contents() == expected([given_blocks[n] for n in (0, 1, 3)])


@broker
async def test_what_has_no_form_is_refused_beside_what_the_server_refuses(bucket):
    await deliver(bucket.sink(), [points(99)])
    message = Message(id="m", subject="s", type="alarm.raised", time=NOW, body={})
    broken = points(3, said="\ud800")
    with pytest.raises(RefusedError) as refused:
        await deliver(
            bucket.sink(), [points(0), message, points(2, surprise="x"), broken, points(4)]
        )
    assert refused.value.items == (1, 2, 3)
    assert bucket.contents() == expected([points(0), points(4), points(99)])


async def test_a_422_is_searched_as_a_400_is():
    def usual(request):
        poison = "p5" in body(request)
        return Answer(422, body=b'{"code":"x","message":"no"}') if poison else Answer(204)

    refusing = pytest.raises(RefusedError, match="422: no")
    with answering(usual=usual) as (sink, receiver), refusing as refused:
        await deliver(sink, [points(n) for n in range(9)])
    assert refused.value.items == (5,)
    taken = "".join(body(one) for one in receiver.taken)
    assert all(f"asset=p{n} " in taken for n in range(9) if n != 5)


@broker
async def test_requests_too_large_for_a_proxy_become_smaller(tmp_path):
    bucket = Bucket(tmp_path, body="1k")
    random = np.random.default_rng(0)
    given_blocks = [
        Points(
            measurement="m",
            tags={"n": str(n)},
            time=NOW + np.arange(100),
            fields={"x": random.normal(size=100)},
        )
        for n in range(5)
    ]
    with started(bucket.shim):
        await deliver(bucket.sink(), given_blocks)
        assert bucket.contents() == expected(given_blocks)


async def test_one_line_that_is_too_large_is_refused():
    def usual(request):
        return Answer(413) if len(body(request)) > 200 else Answer(204)

    refusing = pytest.raises(RefusedError, match="413")
    with answering(usual=usual) as (sink, receiver), refusing as refused:
        await deliver(sink, [points(0), points(1, rows=1, said="x" * 300), points(2)])
    assert refused.value.items == (1,)
    assert sum(body(one).count("\n") for one in receiver.taken) == 2 * ROWS


# ---- what is tried again ---------------------------------------------------------------------


@broker
async def test_a_token_can_be_mended_while_it_waits(bucket):
    bucket.token.write_text("wrong")
    sink = bucket.sink()
    with pytest.raises(NotReadyError, match=r"401 \(unauthorized access\).*token") as error:
        await deliver(sink, [points(0)])
    assert "wrong" not in str(error.value)
    bucket.token.write_text(TOKEN)
    await deliver(sink, [points(0)])
    assert bucket.contents() == expected([points(0)])


@broker
async def test_a_bucket_can_be_made_while_it_waits(bucket):
    sink = bucket.sink(bucket="later")
    with pytest.raises(NotReadyError, match=r"404 \(database not found.*make it"):
        await deliver(sink, [points(0)])
    bucket.influx.database("later")
    await deliver(sink, [points(0)])
    assert bucket.influx.contents("later") == expected([points(0)])


@pytest.mark.parametrize(
    "answer",
    [
        HANG_UP,
        Answer(301, {"Location": "http://localhost:1/"}),
        Answer(400, body=b"<html>The plain HTTP request was sent to HTTPS port</html>"),
        Answer(400, body=b"[]"),
        Answer(403),
        Answer(404),
        Answer(429),
        Answer(500, body=b'{"error":"timeout"}'),
        Answer(502, body=b"\xff not UTF-8"),
    ],
    ids=str,
)
async def test_what_does_not_speak_of_the_points_refuses_none_of_them(answer):
    with answering(answer) as (sink, receiver):
        with pytest.raises(NotReadyError) as error:
            await deliver(sink, [points(0), points(1)])
        assert "0x" not in str(error.value), "the same words each time"
        await deliver(sink, [points(0), points(1)])
    assert len(receiver.got) == 2


async def test_the_patience_asked_for_is_handed_on():
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    answers = [Answer(429, {"Retry-After": "7"}), Answer(503, {"Retry-After": date})]
    with answering(*answers) as (sink, _):
        with pytest.raises(NotReadyError) as error:
            await deliver(sink, [points(0)])
        assert error.value.retry_after_s == 7
        with pytest.raises(NotReadyError) as error:
            await deliver(sink, [points(0)])
        assert 90 < error.value.retry_after_s <= 100


async def test_a_server_that_says_nothing_is_given_up():
    given_up = pytest.raises(NotReadyError, match=r"no answer in time|timed out")
    with answering(SAY_NOTHING, timeout_s=0.2) as (sink, _), given_up:
        await deliver(sink, [points(0)])


async def test_it_closes_at_once_while_a_request_is_under_way():
    with answering(SAY_NOTHING) as (sink, receiver):
        await sink.open()
        delivering = asyncio.ensure_future(sink.deliver([points(0)]))
        await until(lambda: receiver.got)
        async with asyncio.timeout(5):
            delivering.cancel()
            await asyncio.wait([delivering])
            await sink.close()
        receiver.stop()  # lets go of the thread that still waits


def test_a_request_under_way_does_not_hold_up_the_end_of_the_program():
    with receiving() as receiver:
        receiver.usual = lambda _: SAY_NOTHING
        hanging = {"url": receiver.url.removesuffix("/hook"), "bucket": "b", "timeout_s": 300.0}
        sink = Sink("db", WritingSettings.model_validate({"type": "influxdb", **hanging}))

        async def give_up():
            await sink.open()
            delivering = asyncio.ensure_future(sink.deliver([points(0)]))
            await until(lambda: receiver.got)
            delivering.cancel()
            await asyncio.wait([delivering])
            await sink.close()

        asyncio.run(give_up())  # it ends when all threads of the loop's pool have


async def test_a_server_is_known_by_its_certificate(tmp_path):
    ours = Certificates(tmp_path)
    with receiving(tls=ours.server_context) as receiver:
        url = receiver.url.removesuffix("/hook")
        known = {"type": "influxdb", "url": url, "bucket": "b"}
        with pytest.raises(NotReadyError, match="certificate"):
            await deliver(Sink("db", WritingSettings.model_validate(known)), [points(0)])
        assert receiver.got == []
        trusting = known | {"ca_file": str(ours.ca)}
        await deliver(Sink("db", WritingSettings.model_validate(trusting)), [points(0)])
        assert len(receiver.got) == 1


def test_two_places_for_one_token_are_refused():
    given_twice = {"token_file": "a", "token_env": "B"}
    with pytest.raises(ValueError, match="want one of them"):
        WritingSettings.model_validate(
            {"type": "influxdb", "url": "http://h", "bucket": "b"} | given_twice
        )


def test_what_the_server_says_is_shown_but_no_page_of_a_proxy():
    from connectors.influxdb.sink import _reason

    assert _reason(json.dumps({"error": "x" * 1000})) == "x" * 500
    assert _reason("<html>") == _reason(None) == _reason(b"3") == ""

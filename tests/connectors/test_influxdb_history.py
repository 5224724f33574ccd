"""What others wrote into an InfluxDB, read back in order of time."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.databases import new_database, shared_influx
from support.receivers import HANG_UP, Answer, receiving
from support.recordings import rejected, samples, tags

from connectors.batch import Flag
from connectors.contract import NotReadyError, RefusedError, TagRef
from connectors.influxdb.history import History
from connectors.influxdb.series import Series
from connectors.influxdb.settings import ReadingSettings

T0 = 1_704_067_200_000_000_000  # 2024-01-01T00:00:00Z
SECOND = 1_000_000_000
HOUR = 3600 * SECOND

broker = pytest.mark.broker


def history(url, database, *asked, **more):
    known = {"type": "influxdb", "url": url, "database": database}
    return History("db", ReadingSettings.model_validate(known | more), tags(*asked))


class Base:
    """A database of its own in the shared InfluxDB."""

    def __init__(self):
        self.influx = shared_influx()
        self.name = new_database(self.influx)

    def write(self, *lines):
        self.influx.write(self.name, "\n".join(lines))

    def history(self, *asked, **more):
        return history(self.influx.url, self.name, *asked, **more)

    def read(self, *asked, since=None, until=None, **more):
        """(tag, seconds after T0, value) of every sample."""
        got = list(self.history(*asked, **more).read(since=since, until=until))
        return [(tag, (time - T0) / SECOND, value) for tag, time, value, _ in samples(got)]


@pytest.fixture
def base():
    return Base()


def at(second):
    return T0 + round(second * SECOND)


# ---- addresses -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "series"),
    [
        ("vibration.rms", Series("vibration", "rms")),
        ("a.b.c", Series("a.b", "c")),
        ("v.rms{machine=pump_1}", Series("v", "rms", (("machine", "pump_1"),))),
        ("v.rms{b=2, a=x y}", Series("v", "rms", (("a", "x y"), ("b", "2")))),
        ("v.rms{a=}", Series("v", "rms", (("a", ""),))),
        ("v.rms{a=*}", Series("v", "rms", (), frozenset("a"))),
        ('v.rms{a="*"}', Series("v", "rms", (("a", "*"),))),
        (r'"a{b}"."c.d"{"e=f"="g,\"h\\"}', Series("a{b}", "c.d", (("e=f", 'g,"h\\'),))),
        ("v.rms{}", Series("v", "rms")),
    ],
)
def test_an_address_says_measurement_field_and_tags(address, series):
    assert Series.of(address) == series


NO_ADDRESSES = ["", "rms", ".rms", "v.", "v.rms{a}", "v.rms{a=1", "v.rms{a=1,a=2}", '"v.r']


@pytest.mark.parametrize("address", [*NO_ADDRESSES, "v.rms{=1}"])
def test_an_address_that_is_none_is_refused_by_name(address):
    with pytest.raises(RefusedError, match="address"):
        list(history("http://localhost:1", "d", address).read())


# ---- what is read ----------------------------------------------------------------------------


@broker
def test_series_written_in_any_order_come_in_one_order_of_time(base):
    base.write(
        f"m,machine=a x=3,y=30 {at(3)}",
        f"m,machine=b x=2.5 {at(2)}",
        f"m,machine=a x=1 {at(1)}",
        f"n z=4i {at(1)}",
        f"n z=true {at(86_400 * 30)}",  # a field may be of another type in another shard
        f"n z=0.5 {at(86_400 * 60)}",
    )
    asked = ("m.x{machine=b}", "n.z", "m.x{machine=a}", "m.y{machine=a}", "m.nothing{machine=a}")
    assert base.read(*asked) == [
        (2, 1, 4.0),
        (3, 1, 1.0),
        (1, 2, 2.5),
        (3, 3, 3.0),
        (4, 3, 30.0),
        (2, 86_400 * 30, 1.0),
        (2, 86_400 * 60, 0.5),
    ]


@broker
def test_what_is_read_is_marked_as_read_from_history_and_cut_into_batches(base):
    base.write(*(f"m x={n} {at(n)}" for n in range(25)))
    batches = list(base.history("m.x", batch_rows=10).read())
    assert [len(batch) for batch in batches] == [10, 10, 5]
    assert all((batch.flags == Flag.REPLAYED).all() for batch in batches)


@broker
def test_a_long_series_comes_whole(base):
    base.write(*(f"m x={n},y={-n} {at(n)}" for n in range(12_345)))
    assert len(base.read("m.x", "m.y")) == 2 * 12_345


@broker
def test_bounds_and_edges_of_stretches_lose_and_repeat_nothing(base):
    base.write(*(f"m x={n} {T0 + n * HOUR // 2 + d}" for n in range(8) for d in (-1, 0, 1)))
    stamps = [T0 + n * HOUR // 2 + d for n in range(8) for d in (-1, 0, 1)]
    for since, until in [(None, None), (T0, T0 + HOUR), (T0 - 1, T0 + HOUR + 1), (T0 + HOUR, None)]:
        got = base.history("m.x", chunk_hours=1).read(since=since, until=until)
        times = [time for _, time, _, _ in samples(got)]
        low, high = T0 - 10 * HOUR if since is None else since, 2**62 if until is None else until
        assert times == [time for time in stamps if low < time <= high]


@broker
def test_years_without_a_sample_cost_one_question(base, monkeypatch):
    base.write(f"m x=1 {at(0)}", f"m x=2 {at(20 * 365 * 86_400)}")
    asked = []
    answer = History._answer

    def counted(self, client, query):
        asked.append(query)
        return answer(self, client, query)

    monkeypatch.setattr(History, "_answer", counted)
    assert [value for _, _, value in base.read("m.x", chunk_hours=1)] == [1, 2]
    assert len(asked) < 10


@broker
def test_stamps_of_the_start_of_an_interval_are_moved_to_its_end_bounds_too(base):
    base.write(*(f"m x={n} {at(60 * n)}" for n in range(5)))
    moved = {"stamp": "start", "interval_ms": 60_000}
    assert base.read("m.x", **moved) == [(1, 60 * (n + 1), n) for n in range(5)]
    got = base.read("m.x", since=at(60), until=at(180), **moved)
    assert got == [(1, 120, 1), (1, 180, 2)]


@broker
def test_texts_are_counted_as_rejected_and_numbers_between_them_are_read(base):
    base.write(f'm x="1.5",y=1 {at(0)}', f'm x="high" {at(1)}')
    got = list(base.history("m.x", "m.y").read())
    assert [value for _, _, value, _ in samples(got)] == [1]
    assert rejected(got) == {"value not a number": 2}


@broker
def test_an_address_that_is_several_series_is_refused_and_says_how_they_differ(base):
    base.write(f"m,host=a,machine=p x=1 {at(0)}", f"m,host=b,machine=p x=2 {at(1)}")
    with pytest.raises(RefusedError, match=r"differ in host: host='a' and host='b'.*\{host=\*\}"):
        base.read("m.x{machine=p}")
    assert base.read("m.x{machine=p,host=b}") == [(1, 1, 2)]
    assert base.read("m.x{host=*}") == [(1, 0, 1), (1, 1, 2)]


@broker
def test_a_tag_that_is_not_there_is_asked_for_with_nothing(base):
    base.write(f"m,host=a x=1 {at(0)}", f"m x=2 {at(1)}")
    assert base.read("m.x{host=}") == [(1, 1, 2)]


@broker
def test_names_with_quotes_and_blanks_are_found(base):
    base.write(f'm\\ "1",t\\ ag=o\'h\\ "x" fi\\ eld=1 {at(0)}')
    assert base.read(r'"m \"1\""."fi eld"{t ag="o' + "'" + r'h \"x\""}') == [(1, 0, 1)]


@broker
def test_two_tags_may_read_one_series_and_nothing_asked_for_reads_nothing(base):
    base.write(f"m x=1 {at(0)}")
    assert base.read("m.x", "m.x") == [(1, 0, 1), (2, 0, 1)]
    assert base.read() == []


@broker
def test_an_address_where_nothing_is_found_is_named(base, caplog):
    base.write(f"m x=1 {at(0)}")
    assert base.read("m.x", "m.typo") == [(1, 0, 1)]
    assert "db: nothing found of m.typo." in caplog.text


ROWS = st.lists(
    st.tuples(
        st.integers(0, 3),  # which series
        st.integers(0, 40),  # when, in quarters of an hour
        st.floats(allow_nan=False, allow_infinity=False),
    ),
    max_size=30,
    unique_by=lambda row: row[:2],
)
EDGE = st.none() | st.integers(-1, 41)


@broker
@pytest.mark.slow
@pytest.mark.timeout(90)
@given(rows=ROWS, since=EDGE, until=EDGE, chunk=st.sampled_from([0.2, 0.25, 1, 7, 72]))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_range_read_in_any_stretches_is_what_was_written(base, rows, since, until, chunk):
    measurement = f"m{abs(hash((tuple(rows), since, until, chunk)))}"
    quarter = HOUR // 4
    lines = [f"{measurement},s={s} x={v!r} {T0 + t * quarter}" for s, t, v in rows]
    if lines:
        base.write(*lines)
    asked = [TagRef(id=s, address=f"{measurement}.x{{s={s}}}") for s in range(4)]
    known = {"type": "influxdb", "url": base.influx.url, "database": base.name}
    reader = History("db", ReadingSettings.model_validate(known | {"chunk_hours": chunk}), asked)
    bounds = [None if edge is None else T0 + edge * quarter for edge in (since, until)]
    got = [(t, s, v) for s, t, v, _ in samples(reader.read(since=bounds[0], until=bounds[1]))]
    low, high = -2 if since is None else since, 99 if until is None else until
    assert got == sorted((T0 + t * quarter, s, v) for s, t, v in rows if low < t <= high)


# ---- what is refused, and what is tried again ------------------------------------------------


@broker
def test_a_database_that_is_not_there_is_refused(base):
    with pytest.raises(RefusedError, match="database not found: none"):
        list(history(base.influx.url, "none", "m.x").read())


@broker
def test_a_retention_policy_is_named_or_not_found(base):
    base.influx.query(f'CREATE RETENTION POLICY "short" ON "{base.name}" DURATION 0s REPLICATION 1')
    base.influx.post("/write", f"m x=7 {at(0)}".encode(), db=base.name, rp="short")
    assert base.read("m.x") == []
    assert base.read("m.x", retention_policy="short") == [(1, 0, 7)]
    with pytest.raises(RefusedError, match="retention policy not found"):
        base.read("m.x", retention_policy="none")


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (HANG_UP, NotReadyError),
        (Answer(429, {"Retry-After": "7"}), NotReadyError),
        (Answer(503, {"Retry-After": "7"}), NotReadyError),
        (Answer(401), RefusedError),
        (Answer(400, body=b'{"error":"no such thing"}'), RefusedError),
        (Answer(404), RefusedError),
        (Answer(302, {"Location": "/"}), RefusedError),
        (Answer(200, body=b"<html>"), RefusedError),
        (Answer(200, body=b"5"), RefusedError),
        (Answer(200, body=b'{"results":[null]}'), RefusedError),
        (Answer(200, body=b'{"results":[{"error":"query-timeout limit exceeded"}]}'), RefusedError),
        # cut off in the middle of an answer
        (Answer(200, {"Content-Length": "99", "Connection": "close"}, b"{}\n"), NotReadyError),
    ],
    ids=lambda one: str(getattr(one, "status", "")),
)
def test_an_answer_that_is_none_says_whether_to_try_again(answer, error):
    with receiving() as receiver:
        receiver.answers.append(answer)
        made = history(receiver.url.removesuffix("/hook"), "d", "m.x")
        with pytest.raises(error) as found:
            list(made.read())
    if "Retry-After" in answer.headers:
        assert found.value.retry_after_s == 7


@pytest.mark.parametrize(
    ("more", "header"),
    [
        ({}, None),
        ({"token_env": "RIG_TOKEN"}, "Token s3cret"),
        ({"token_env": "RIG_TOKEN", "username": "reader"}, "Basic cmVhZGVyOnMzY3JldA=="),
    ],
)
def test_a_token_or_a_user_with_a_password_is_shown_to_the_server(monkeypatch, more, header):
    monkeypatch.setenv("RIG_TOKEN", "s3cret")
    with receiving() as receiver:
        receiver.usual = lambda _: Answer(200, body=b'{"results":[{}]}\n')
        made = history(receiver.url.removesuffix("/hook"), "d", "m.x", **more)
        assert list(made.read()) == []
        assert receiver.got[0].headers.get("authorization") == header


def test_settings_that_contradict_each_other_are_refused():
    for more in ({"stamp": "start"}, {"username": "u"}):
        with pytest.raises(ValueError, match=r"needs"):
            history("http://h", "d", "m.x", **more)

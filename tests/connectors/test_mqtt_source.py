"""The MQTT source against real brokers."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest
from support import brokers
from support.brokers import PASSWORD, USER, mosquitto, publish
from support.certificates import Certificates
from support.plants import until
from support.recordings import rejected, samples
from support.servers import HERE, program, started

from connectors.batch import NoticeKind, Samples, Waveforms
from connectors.contract import (
    LostError,
    NotReadyError,
    RefusedError,
    Retunable,
    TagRef,
    Watched,
)
from connectors.mqtt import Source
from connectors.mqtt.client import WiredClient
from connectors.mqtt.settings import ReadingSettings

pytestmark = [pytest.mark.broker, pytest.mark.timeout(60)]
T0 = 1_704_067_200_000


def source(broker, *addresses, **given):
    settings = {"type": "mqtt", "host": HERE, "port": broker.port, "client_id": "watch"} | given
    tags = [TagRef(id=n, address=a) for n, a in enumerate(addresses or ("a",), 1)]
    return Source("m", ReadingSettings.model_validate(settings), tags)


@contextlib.asynccontextmanager
async def opened(one, resume=None):
    await one.open(resume=resume)
    try:
        yield one
    finally:
        await one.close()
        assert not [t for t in threading.enumerate() if t.name.startswith("mqtt ")]


async def take(one, count, *, accept=True):
    """Batches until so many samples or rejections came."""
    taken = []
    async for batch in one.batches():
        taken.append(batch)
        if accept and batch.position is not None:
            await one.accepted(batch.position)
        if seen(taken) >= count:
            return taken
    raise AssertionError


def seen(batches):
    lengths = [len(b) for b in batches if isinstance(b, Samples | Waveforms)]
    return sum(lengths) + sum(rejected(batches).values())


def timed(*numbers, topic="a"):
    return [(topic, json.dumps({"timestamp_ms": T0 + n, "value": n})) for n in numbers]


def values(batches):
    return [int(value) for _, _, value, _ in samples(batches)]


async def published(broker, *messages, **given):
    await asyncio.to_thread(publish, broker, *messages, **given)


async def test_ten_thousand_messages_come_once_and_in_order(tmp_path):
    with mosquitto(tmp_path) as broker:
        async with opened(source(broker)) as one:
            sending = asyncio.create_task(published(broker, *timed(*range(10_000))))
            got = await take(one, 10_000)
            await sending
            assert values(got) == list(range(10_000))
            assert one.status()["messages_total"] == 10_000


async def test_what_was_not_accepted_comes_again_and_what_was_does_not(tmp_path):
    with mosquitto(tmp_path) as broker:
        async with opened(source(broker, batch_messages=4)) as one:
            await published(broker, *timed(*range(12)))
            first = await take(one, 4)
            await take(one, 4, accept=False)
        async with opened(source(broker), first[-1].position) as one:
            assert one.status()["session_present"] == 1
            got = await take(one, 8)
            assert values(got) == list(range(4, 12))
            assert {int(flag) for b in got for flag in b.flags} >= {2}  # replayed


async def test_a_repeat_without_a_time_is_counted(tmp_path):
    with mosquitto(tmp_path) as broker:
        async with opened(source(broker)) as one:
            await published(broker, ("a", "1"), ("a", "1"))
            got = await take(one, 2, accept=False)
            times = [time for _, time, _, _ in samples(got)]
            assert len(set(times)) == 2, "two that came in one breath are two"
        async with opened(source(broker), got[-1].position) as one:
            await take(one, 2)
            assert one.status()["maybe_duplicate_total"] == 2


async def test_an_acknowledgement_of_an_earlier_link_is_not_sent_on_a_later_one(tmp_path):
    with mosquitto(tmp_path) as broker:
        one = source(broker)
        async with opened(one):
            await published(broker, *timed(1, 2))
            old = await take(one, 2, accept=False)
        async with opened(one, old[-1].position):
            await take(one, 2, accept=False)
            await one.accepted(old[-1].position)
        async with opened(one, old[-1].position):
            assert values(await take(one, 2)) == [1, 2]


async def test_a_broker_that_restarts_is_lost_once_and_nothing_else_is(tmp_path):
    with mosquitto(tmp_path) as broker:
        one = source(broker)
        async with opened(one):
            await published(broker, *timed(1))
            first = await take(one, 1)
            broker.stop()
            with pytest.raises(LostError):
                await take(one, 1)
        broker.start()
        await published(broker, *timed(2))
        async with opened(one, first[-1].position):
            assert values(await take(one, 1)) == [2]


def forget(broker):
    """A clean start ends the session."""
    with brokers.client(broker, "watch"):
        pass


def gaps(batches):
    return [(b.since, b.until) for b in batches if getattr(b, "kind", None) is NoticeKind.GAP]


async def after_publishing(one, broker, *numbers):
    """What is taken once a session stands, up to as many samples as are published then."""
    taking = asyncio.create_task(take(one, len(numbers)))
    await until(lambda: one.status()["connected"])
    await published(broker, *timed(*numbers))
    return await taking


async def test_a_broker_that_forgot_us_leaves_a_gap_from_the_last_message_to_the_new_session(
    tmp_path,
):
    with mosquitto(tmp_path) as broker:
        async with opened(source(broker)) as one:
            await published(broker, *timed(1))
            first = await take(one, 1)
        forget(broker)
        async with opened(source(broker), first[-1].position) as one:
            await published(broker, *timed(2))  # nobody keeps it for us
            got = await after_publishing(one, broker, 3)
            assert values(got) == [3]
            (since, told), (again, until) = gaps(got)
            assert since == int(first[-1].position.split("/")[2])
            assert since < told == again < until, "the gap goes on until there is a session"
            assert one.status()["gaps_total"] == 1
        async with opened(source(broker), got[-1].position) as one:
            assert not gaps(await after_publishing(one, broker, 4))


async def test_a_gap_is_told_again_until_it_is_stored_whoever_is_killed(tmp_path):
    with mosquitto(tmp_path) as broker:
        async with opened(source(broker)) as one:
            await published(broker, *timed(1))
            first = await take(one, 1)
        forget(broker)
        for _ in range(2):  # killed before the notice is in the journal
            async with opened(source(broker), first[-1].position) as one:
                gap = await anext(one.batches())
                assert gap.since == int(first[-1].position.split("/")[2])
        async with opened(source(broker), gap.position) as one:
            more = await anext(one.batches())
            assert more.since == gap.until
            assert one.status()["session_present"] == 0
        async with opened(source(broker), gap.position) as one:  # killed again
            got = await after_publishing(one, broker, 2)
            assert [since for since, _ in gaps(got)] == [gap.until]
        async with opened(source(broker), got[-1].position) as one:
            assert not gaps(await after_publishing(one, broker, 3))


async def test_a_gap_is_told_where_the_session_after_it_could_not_subscribe(tmp_path, monkeypatch):
    with mosquitto(tmp_path) as broker:
        with monkeypatch.context() as patched:
            patched.setattr(WiredClient, "ask_for", lambda *_: 4711)  # which nobody answers
            async with opened(source(broker, timeout_s=0.3), "1/1/1000") as one:
                got = []
                with pytest.raises(LostError, match="no answer"):
                    await take_into(got, one)
        assert gaps(got)[0][0] == 1000
        async with opened(source(broker), got[-1].position) as one:
            assert one.status()["session_present"] == 1, "made by the link that never opened"
            assert len(gaps(await after_publishing(one, broker, 1))) == 1


async def test_a_source_that_got_nothing_yet_tells_a_gap_since_it_first_listened(tmp_path):
    with mosquitto(tmp_path) as broker:
        before = time.time_ns()
        one = source(broker)
        async with opened(one):
            pass
        forget(broker)
        async with opened(one):
            (since, _), _ = gaps(await after_publishing(one, broker, 1))
            assert before < since < time.time_ns()


async def test_without_a_kept_session_each_link_begins_with_a_gap(tmp_path):
    with mosquitto(tmp_path) as broker:
        one = source(broker, session_expiry_s=0)
        async with opened(one):
            first = await after_publishing(one, broker, 1)
            assert not gaps(first)
        async with opened(one, first[-1].position):
            assert len(gaps(await after_publishing(one, broker, 2))) == 1


async def test_topics_of_an_earlier_configuration_are_unsubscribed_and_nothing_else_is_lost(
    tmp_path, caplog
):
    with mosquitto(tmp_path) as broker:
        async with opened(source(broker, "a", "b")) as one:
            got = await after_publishing(one, broker, 0)
        both = [message for n in range(1, 50) for message in (*timed(n), *timed(n, topic="b"))]
        await published(broker, *both)
        async with opened(source(broker, "b", "c"), got[-1].position) as one:
            await published(broker, *timed(50, topic="c"))
            assert values(await take(one, 50)) == list(range(1, 51))
            assert one.status()["unwanted_total"] == 49
            assert one.status()["unsubscribed_total"] == 1
            await published(broker, *timed(51), *timed(51, topic="b"))
            last = await take(one, 1)
            assert values(last) == [51]
            assert one.status()["unwanted_total"] == 49, "it comes no more"
        async with opened(source(broker, "b", "c"), last[-1].position) as one:
            await published(broker, *timed(52), *timed(52, topic="b"))
            await take(one, 1)
            assert one.status()["unwanted_total"] == 0
    assert "with wildcards" not in caplog.text


async def test_what_a_foreign_subscription_with_wildcards_brings_is_counted_and_said_once(
    tmp_path, caplog
):
    with mosquitto(tmp_path) as broker:
        brokers.keep_session(broker, "watch", "x/#")
        async with opened(source(broker)) as one:
            for n in range(2):
                strays = [timed(n, topic=f"x/{m}")[0] for m in range(5)]
                await published(broker, *strays, *timed(n))
                await take(one, 1)
            assert one.status()["unwanted_total"] == 10
            assert one.status()["unsubscribed_total"] == 5, "each once"
    assert caplog.text.count("with wildcards") == 1


async def test_other_tags_are_taken_while_it_runs_and_those_that_stay_miss_nothing(tmp_path):
    with mosquitto(tmp_path) as broker:
        async with opened(source(broker, "a", "b")) as one:
            sending = asyncio.create_task(published(broker, *timed(*range(500), topic="b")))
            taking = asyncio.create_task(take(one, 500 + 1))
            await asyncio.sleep(0)
            await one.retune([TagRef(id=9, address="b"), TagRef(id=3, address="c")])
            await published(broker, *timed(500, topic="c"), *timed(501))
            await sending
            got = await taking
            by_tag = {2: [], 9: [], 3: []}
            for tag, _, value, _ in samples(got):
                by_tag[tag].append(int(value))
            assert by_tag[2] + by_tag[9] == list(range(500))
            assert by_tag[3] == [500]
            assert one.status()["topics"] == 2
            assert one.status()["messages_total"] == 501
            with pytest.raises(RefusedError):
                await one.retune([TagRef(id=1, address="a/+")])
            await published(broker, *timed(502, topic="c"))
            assert values(await take(one, 1)) == [502], "nothing has changed then"
        async with opened(one, got[-1].position):
            await published(broker, *timed(503, topic="c"))
            assert values(await take(one, 1)) == [503]


async def test_tags_that_change_while_a_link_is_being_opened_are_subscribed_with_it(
    tmp_path, monkeypatch
):
    ask, asking = WiredClient.ask_for, threading.Event()

    def slowly(client, topics):
        asking.wait(5)
        return ask(client, topics)

    monkeypatch.setattr(WiredClient, "ask_for", slowly)
    with mosquitto(tmp_path) as broker:
        one = source(broker, "a")
        opening = asyncio.create_task(one.open(resume=None))
        await until(lambda: one._link is not None)
        await one.retune([TagRef(id=1, address="b")])
        asking.set()
        await opening
        await published(broker, *timed(1, topic="b"))
        async with asyncio.timeout(10):
            assert values(await take(one, 1)) == [1]
        await one.close()


async def test_a_change_of_tags_does_not_wait_for_a_link_that_is_gone(tmp_path):
    with mosquitto(tmp_path) as broker:
        one = source(broker)
        assert isinstance(one, Retunable)
        assert isinstance(one, Watched)
        await one.retune([TagRef(id=1, address="b")])
        async with opened(one):
            broker.stop()
            async with asyncio.timeout(5):
                await one.retune([TagRef(id=1, address="c")])
        broker.start()
        async with opened(one):
            await published(broker, *timed(1, topic="c"))
            assert values(await take(one, 1)) == [1]


async def test_malformed_payloads_are_counted_acknowledged_and_stop_nothing(tmp_path):
    with mosquitto(tmp_path) as broker:
        async with opened(source(broker, max_payload_kb=2)) as one:
            bad = [b"\xff", b"{", b"[" * 1500, b'"x"', b" " * 3000]
            await published(broker, *(("a", one) for one in bad), *timed(1))
            got = await take(one, 6)
            assert values(got) == [1]
            assert rejected(got) == {"not_json": 3, "not_a_number": 1, "too_large": 1}
            assert one.status()["rejected_total"] == 5
        async with opened(source(broker), got[-1].position) as one:
            await published(broker, *timed(2))
            assert seen(await take(one, 1)) == 1


async def test_a_binary_block_carries_its_time_and_rate_as_user_properties(tmp_path):
    rule = {"topic": "w", "format": "waveform", "dtype": "i2"}
    with mosquitto(tmp_path) as broker:
        async with opened(source(broker, "w", payloads=[rule])) as one:
            said = {"ts": str(T0), "rate_hz": "25600"}
            await published(broker, ("w", b"\1\0\2\0"), said=said)
            (batch,) = await take(one, 1)
            assert batch.block.tolist() == [[1, 2]]
            assert (batch.time[0], batch.rate[0]) == (T0 * 1_000_000, 25600)


async def test_a_retained_value_is_taken_by_its_own_time_or_not_at_all(tmp_path):
    with mosquitto(tmp_path) as broker:
        await published(broker, *timed(1), ("b", "1"), retain=True)
        async with opened(source(broker, "a", "b")) as one:
            got = await take(one, 2)
            assert values(got) == [1]
            assert rejected(got) == {"retained_without_time": 1}
        async with opened(source(broker, "a", "b"), got[-1].position) as one:
            await published(broker, *timed(2))
            assert values(await take(one, 1)) == [2], "last values come with new topics only"


class Scripted:
    """A broker that greets and answers SUBSCRIBE as told, or says nothing at all."""

    def __init__(self, *, greets=True, codes=()):
        self._greets, self._codes, self.port = greets, bytes(codes), 0

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, HERE, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            if not self._greets:
                await reader.read()  # what TLS sends may look like anything
            while self._greets:
                kind, size = await reader.readexactly(2)
                packet = await reader.readexactly(size)
                if kind >> 4 == 1:
                    writer.write(bytes([0x20, 3, 0, 0, 0]))
                elif kind >> 4 == 8:
                    answer = packet[:2] + b"\0" + self._codes
                    writer.write(bytes([0x90, len(answer)]) + answer)
                elif kind >> 4 == 14:
                    break
        writer.close()


async def test_a_topic_that_is_refused_is_said_and_the_others_go_on(caplog):
    async with Scripted(codes=[1, 0x87]) as broker, opened(source(broker, "a", "b")) as one:
        assert one.status()["topics_refused"] == 1
        assert "does not let us read 'b': Not authorized" in caplog.text


async def test_where_every_topic_is_refused_there_is_nothing_to_be_connected_for():
    async with Scripted(codes=[0x87, 0x87]) as broker:
        with pytest.raises(NotReadyError, match="none of 2 topics"):
            async with opened(source(broker, "a", "b")):
                pass


async def test_a_topic_that_is_kept_from_us_without_a_word_shows_as_unheard(tmp_path):
    with mosquitto(tmp_path, access=["topic readwrite a", "topic write b"]) as broker:
        async with opened(source(broker, "a", "b")) as one:
            await published(broker, ("b", "1"), *timed(1))
            assert values(await take(one, 1)) == [1]
            assert one.status()["topics_unheard"] == 1


async def test_a_wrong_password_may_be_mended_and_is_not_shown(tmp_path):
    file = tmp_path / "password"
    file.write_text("another-secret\n")
    login = {"user_name": USER, "password_file": str(file)}
    with mosquitto(tmp_path, password=True) as broker:
        one = source(broker, **login)
        with pytest.raises(NotReadyError, match="user_name") as error:
            await one.open(resume=None)
        await one.close()
        shown = f"{error.value!r} {one!r} {vars(one)}"
        assert "another-secret" not in shown
        file.write_text(PASSWORD)
        async with opened(one):
            await published(broker, *timed(1), password=True)
            assert values(await take(one, 1)) == [1]
        file.unlink()
        with pytest.raises(NotReadyError, match="password: cannot read"):
            await one.open(resume=None)


async def test_over_tls_both_sides_are_known_or_there_is_no_link(tmp_path):
    made, other = Certificates(tmp_path / "ca"), Certificates(tmp_path / "other")
    with mosquitto(tmp_path, tls=made) as broker:
        ours = {"cert_file": str(made.client[0]), "key_file": str(made.client[1])}
        async with opened(source(broker, tls={"ca_file": str(made.ca)} | ours)) as one:
            assert one.status()["connected"] == 1
        for tls, words in (
            ({"ca_file": str(made.ca)}, "TLS|certificate"),
            ({"ca_file": str(other.ca)} | ours, "not trusted"),
            ({"ca_file": str(tmp_path / "none")}, "ca_file"),
        ):
            with pytest.raises(NotReadyError, match=words):
                async with opened(source(broker, tls=tls)):
                    pass


@pytest.mark.parametrize("tls", [False, True])
async def test_a_broker_that_takes_a_connection_and_says_nothing_is_not_waited_for(tls, tmp_path):
    async with Scripted(greets=False) as broker:
        more = {"tls": {"ca_file": str(Certificates(tmp_path).ca)}} if tls else {}
        with pytest.raises(NotReadyError, match=r"no answer in 0\.3 s"):
            async with opened(source(broker, timeout_s=0.3, **more)):
                pass
        one = source(broker, timeout_s=60, **more)
        opening = asyncio.create_task(one.open(resume=None))
        await asyncio.sleep(0.1)
        opening.cancel()
        await asyncio.wait([opening])
        await within_a_second(one.close())
        assert not [t for t in threading.enumerate() if t.name.startswith("mqtt ")]


async def within_a_second(closing):
    async with asyncio.timeout(1):
        await closing


async def test_a_broker_that_freezes_is_noticed_and_closing_does_not_wait_for_it(tmp_path):
    with mosquitto(tmp_path) as broker:
        one = source(broker, keepalive_s=2, timeout_s=1)
        start = time.monotonic()
        async with opened(one):
            first = one.heard
            assert start < first < start + one.watchdog_s
            await until(lambda: one.heard > first)  # no value changes: it is a PINGRESP
            broker.freeze()
            with pytest.raises(LostError, match="silent"):
                await take(one, 1)
            silent_s = time.monotonic() - one.heard
            assert one.watchdog_s - 2 < silent_s, "the watchdog is not faster than the link"
            with pytest.raises(NotReadyError, match="no answer"):
                await one.open(resume=None)
        broker.thaw()
        async with opened(one):
            broker.freeze()
            await within_a_second(one.close())
            broker.thaw()


async def test_a_second_client_of_our_name_throws_us_out_and_we_say_so(tmp_path):
    with mosquitto(tmp_path) as broker:
        one = source(broker)
        async with opened(one):
            with (
                brokers.client(broker, "watch", clean=False),
                pytest.raises(LostError, match="client_id"),
            ):
                await take(one, 1)


async def test_a_full_inbox_is_not_read_on_and_the_session_keeps_the_rest(tmp_path):
    size, count = 10_000, 400
    with mosquitto(tmp_path) as broker:
        one = source(broker, keepalive_s=2, buffer_mb=0.2, max_payload_kb=100)
        padded = [
            ("a", json.dumps({"timestamp_ms": T0 + n, "value": n, "p": "x" * size}))
            for n in range(count)
        ]
        got, largest = [], 0
        async with opened(one):
            await published(broker, *padded)
            while one.status()["connected"]:  # nobody takes anything
                largest = max(largest, one.status()["buffered_bytes"])
                await asyncio.sleep(0.05)
            assert 0.2e6 <= largest < 0.2e6 + 2 * size
            with pytest.raises(LostError, match="no room"):
                got = await take_into(got, one)
        async with opened(one, got[-1].position):
            missing = count - len(dict.fromkeys(values(got)))
            assert missing > 0
            async for batch in one.batches():
                got.append(batch)
                await one.accepted(batch.position)
                if len(dict.fromkeys(values(got))) == count:
                    break
        assert list(dict.fromkeys(values(got))) == list(range(count))


def resident_mb():
    """Of this process, now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6


async def test_what_is_published_while_nobody_takes_it_stays_at_the_broker(tmp_path):
    size, count, buffer_mb = 100_000, 1000, 2.0  # 100 MB
    (tmp_path / "payload").write_bytes(timed(1)[0][1].ljust(size).encode())
    with mosquitto(tmp_path) as broker:
        one = source(broker, buffer_mb=buffer_mb, receive_maximum=65_535)
        where = ["-h", HERE, "-p", str(broker.port), "-t", "a", "-q", "1"]
        what = ["-f", str(tmp_path / "payload"), "--repeat", str(count)]
        async with opened(one):
            before = resident_mb()
            sending = await asyncio.create_subprocess_exec(program("mosquitto_pub"), *where, *what)
            assert await sending.wait() == 0
            await until(lambda: one.status()["buffered_bytes"] >= buffer_mb * 1e6)
            assert one.status()["buffered_bytes"] < buffer_mb * 1e6 + 2 * size
            assert resident_mb() - before < 30
            largest = 0.0
            async for batch in one.batches():
                await one.accepted(batch.position)
                largest = max(largest, resident_mb())
                if one.status()["messages_total"] == count:
                    break
            assert largest - before < 30
            assert one.status()["links_total"] == 1


async def test_a_payload_that_is_too_large_is_counted_and_one_that_is_absurd_never_comes(tmp_path):
    with mosquitto(tmp_path) as broker:
        async with opened(source(broker, max_payload_kb=10)) as one:
            await published(broker, ("a", " " * 30_000), ("a", " " * 3_000_000), *timed(1))
            got = await take(one, 2)
            assert rejected(got) == {"too_large": 1}
            assert values(got) == [1], "the link and what follows are none the worse for it"
            assert one.status()["messages_total"] == 2


async def test_many_topics_are_all_subscribed_however_long_that_takes(tmp_path):
    topics = [f"plant/{n}" for n in range(5000)]
    with mosquitto(tmp_path) as broker:
        async with opened(source(broker, *topics)) as one:
            await published(broker, *timed(1, topic=topics[0]), *timed(2, topic=topics[-1]))
            assert values(await take(one, 2)) == [1, 2]


async def take_into(got, one):
    """What lies in the inbox, up to the error that ends the link."""
    async for batch in one.batches():
        got.append(batch)
        await one.accepted(batch.position)
    return got


async def test_a_broker_that_is_killed_before_we_accepted_sends_again(tmp_path):
    with mosquitto(tmp_path) as broker:
        one = source(broker)
        async with opened(one):
            await published(broker, *timed(*range(10)))
            first = await take(one, 10, accept=False)
            broker.stop(signal.SIGTERM)
            broker.start()
        async with opened(one, first[-1].position):
            assert values(await take(one, 10)) == list(range(10))


async def test_mqtt_3_1_1_keeps_a_session_too(tmp_path):
    with mosquitto(tmp_path) as broker:
        one = source(broker, protocol="3.1.1")
        async with opened(one):
            await published(broker, *timed(1, 2))
            first = await take(one, 2, accept=False)
        async with opened(one, first[-1].position):
            assert one.status()["session_present"] == 1
            assert values(await take(one, 2)) == [1, 2]


async def test_nothing_listens_is_not_ready():
    with socket.socket() as taken:
        taken.bind((HERE, 0))

        class Nobody:
            port = taken.getsockname()[1]

        start = time.monotonic()
        with pytest.raises(NotReadyError, match="refused"):
            await source(Nobody).open(resume=None)
        assert time.monotonic() - start < 5


async def test_amqtt_will_do_where_there_is_no_other_broker_and_nothing_must_be_kept(tmp_path):
    with started(brokers.Amqtt(tmp_path)) as broker:
        async with opened(source(broker, protocol="3.1.1")) as one:
            await published(broker, *timed(*range(20)))
            assert values(await take(one, 20)) == list(range(20))


async def test_amqtt_and_mqtt_5_do_not_go_together_and_that_is_said(tmp_path):
    with (
        started(brokers.Amqtt(tmp_path)) as broker,
        pytest.raises(NotReadyError, match=r"protocol: 3\.1\.1"),
    ):
        async with opened(source(broker, timeout_s=2)):
            pass

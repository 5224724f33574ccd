"""Whatever a peer sends or refuses: the whole service goes on, counts it and says it once.

Beside each bad peer there are good ones, a recording and a folder for the alarms, which notice
nothing of it.
"""

import asyncio
import contextlib
import json
import socket
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from support import brokers, living, opcua, plants
from support.brokers import PASSWORD, USER, mosquitto
from support.databases import TOKEN, Shim, new_database, shared_influx
from support.plants import CHANNELS, START, TICKS, until
from support.receivers import SAY_NOTHING, Answer, receiving
from support.servers import HERE, free_port, started

from monitor.live.control import ask
from monitor.live.metrics import exposition
from monitor.state.outbox import Outbox

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(60)]

ATTEMPTS = 4  # before it is looked at what was said
SECRET = "whsec_" + "a" * 32


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """What failed is tried again soon."""
    monkeypatch.setattr("monitor.live.backoff.random.uniform", lambda _low, high: high / 50)


def tries(peer):
    """One entry for each time that a source or sink is opened from now on."""
    made, really = [], peer.open

    async def opened(**given):
        made.append(given)
        await really(**given)

    peer.open = opened
    return made


async def figures(running):
    """What /metrics says: name and labels, those in the order of their names -> value."""
    page = exposition(await running.service.standing()).decode()
    return {
        (one.name.removeprefix("watchkeeper_"), *one.labels.values()): one.value
        for family in text_string_to_metric_families(page)
        for one in family.samples
    }


def rejected(seen):
    """How many samples, for whatever reason."""
    return sum(value for name, value in seen.items() if name[0] == "samples_rejected_total")


async def told(running):
    """What `status` says of the running service."""
    return await asyncio.to_thread(ask, running.database.folder, "status")


def stored(running, source):
    return running.status["sources"].get(source, {}).get("stored")


def lines(caplog, words):
    return [record.getMessage() for record in caplog.records if words in record.getMessage()]


# ---- payloads ------------------------------------------------------------------------------------

BLOCK = np.arange(4, dtype="<f4")
PAYLOADS = [
    ("not_json", "m0/telemetry", b"no JSON at all"),
    ("not_json", "m0/telemetry", b'{"ts": 1700000000, "flow": 1'),
    ("not_json", "m0/telemetry", b'{"ts": 1700000000, "flow": "caf\xe9"}'),
    ("not_json", "m0/telemetry", b"\xff\xfe\x00"),
    ("not_json", "m0/telemetry", b""),
    ("not_json", "m0/telemetry", b"[" * 200_000),
    ("not_json", "m0/telemetry", b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    ("not_json", "m0/telemetry", b'{"ts": 1700000000, "flow": 1e400}'),
    ("too_large", "m0/telemetry", b'{"flow": "' + b"x" * 2_000_000 + b'"}'),
    ("form", "m0/telemetry", b"12.5"),
    ("form", "m0/telemetry", b'{"ts": 1700000000, "flow": {"x": 1}}'),
    ("not_a_number", "m0/telemetry", b'{"ts": 1700000000, "flow": "12.5"}'),
    ("not_a_number", "m0/telemetry", b'{"ts": 1700000000, "flow": [1, 2]}'),
    ("not_a_number", "m0/telemetry", b'{"ts": 1700000000, "flow": 1' + b"0" * 400 + b"}"),
    ("time", "m0/telemetry", b'{"ts": "yesterday", "flow": 1}'),
    ("time", "m0/telemetry", b'{"ts": [], "flow": 1}'),
    ("status", "m0/telemetry", b'{"ts": 1700000000, "q": "perhaps", "flow": 1}'),
    ("unit", "m0/telemetry", b'{"ts": 1700000000, "unit": "psi", "flow": 1}'),
    ("length", "m0/block", BLOCK[:3].tobytes()),
    ("length", "m0/block", BLOCK.tobytes()[:-1]),
    ("length", "m0/block", b""),
    ("not_finite", "m0/block", np.full(4, np.nan, "<f4").tobytes()),
]


async def test_payloads_that_cannot_be_taken_are_counted_by_reason_and_stop_nothing(
    tmp_path, caplog
):
    rule = {"topic": "+/block", "format": "waveform", "rate_hz": 100.0, "samples": len(BLOCK)}
    with mosquitto(tmp_path) as broker:
        made = living.plant(tmp_path / "plant", broker, assets=2, payloads=[rule])
        made.settings["kinds"]["pump"]["channels"]["shake"] = {"model": False, "feature": "rms"}
        for name, asset in made.settings["assets"].items():
            asset["tags"] = {"shake": {"address": f"{name}/block"}}
        good = [
            (f"{name}/telemetry", json.dumps({"ts": START + row, "flow": 1.0, "heat": 2.0}))
            for name in made.assets
            for row in range(3 * len(PAYLOADS))
        ]
        messages = []
        for number, (_, topic, payload) in enumerate(2 * PAYLOADS):
            messages += [*good[3 * number : 3 * number + 3], (topic, payload)]
        async with plants.serving(made.save()) as running:
            source = running.service.supervisors["rig"].source
            await until(lambda: source.status()["connected"])
            await asyncio.to_thread(brokers.publish, broker, *messages)
            await until(lambda: source.status()["messages_total"] == len(messages))
            await until(lambda: source.status()["unacknowledged"] == 0)
            await until(
                lambda: running.status["samples_received"] == 2 * (len(good) + len(PAYLOADS))
            )
            status, seen = running.status, await figures(running)
            expected = Counter(reason for reason, _, _ in 2 * PAYLOADS)
            while rejected(seen) < expected.total():  # what is shown is a little behind
                await asyncio.sleep(0.05)
                seen = await figures(running)
            assert not running.task.done()
    assert status["sources"]["rig"]["rejected"] == expected
    assert status["samples_stored"] == 2 * len(good)
    assert status["samples_conserved"]
    for reason, count in expected.items():
        assert seen["samples_rejected_total", reason, "rig"] == count
        topics = {topic for why, topic, _ in PAYLOADS if why == reason}
        assert len(lines(caplog, f"all be taken: {reason} ")) == len(topics)
    assert seen["conservation_missing", "rig"] == 0
    assert seen["samples_accepted_total", "rig"] == 2 * len(good)


# ---- sources -------------------------------------------------------------------------------------

MUTE = {"timeout_s": 0.3}


@dataclass(frozen=True, slots=True)
class Case:
    """A peer that is not as it should be."""

    settings: dict[str, Any]  # of the source or sink
    words: str  # of the reason that is told
    mend: Any = None  # makes it as it should be


@contextlib.contextmanager
def mute():
    """The port of somebody who takes connections and never says a word."""
    with socket.create_server((HERE, 0)) as listener:
        yield listener.getsockname()[1]


def from_broker(port, **given):
    return {"type": "mqtt", "host": HERE, "port": port, "client_id": "other", **given}


def from_plc(port, **given):
    return {**opcua.QUICK, "url": f"opc.tcp://{HERE}:{port}", **given}


def login(folder, word):
    (folder / "password").write_text(word)
    return {"user_name": USER, "password_file": str(folder / "password")}


@contextlib.contextmanager
def no_broker(_):
    yield Case(from_broker(free_port()), "Connection refused")


@contextlib.contextmanager
def half_open_broker(_):
    with mute() as port:
        yield Case(from_broker(port, **MUTE), "no answer in 0.3 s")


@contextlib.contextmanager
def closed_broker(folder):
    with mosquitto(folder, password=True) as broker:
        yield Case(
            from_broker(broker.port, **login(folder, "another-secret")),
            "check user_name and its password",
            lambda: login(folder, PASSWORD),
        )


@contextlib.contextmanager
def no_plc(_):
    yield Case(from_plc(free_port()), "Connect")


@contextlib.contextmanager
def half_open_plc(_):
    with mute() as port:
        yield Case(from_plc(port, **MUTE), "no answer in 0.3 s")


@contextlib.contextmanager
def closed_plc(folder):
    server = opcua.shared_node_server()
    yield Case(from_plc(server.port, **login(folder, "another-secret")), "does not let mon in")


@pytest.mark.parametrize(
    "bad", [no_broker, half_open_broker, closed_broker, no_plc, half_open_plc, closed_plc]
)
async def test_a_source_that_cannot_be_had_is_said_once_and_stops_no_other(bad, tmp_path, caplog):
    caplog.set_level("INFO")
    with bad(tmp_path) as case:
        made = plants.plant(tmp_path / "plant")
        made.settings["sources"]["other"] = case.settings
        address = opcua.address("{asset}.{tag}") if "url" in case.settings else "{asset}/{tag}"
        made.settings["assets"]["m9"] = {"kind": "pump", "source": "other", "address": address}
        async with plants.serving(made.save()) as running:
            tried = tries(running.service.supervisors["other"].source)
            await until(lambda: running.status["frames"] == TICKS)
            await until(lambda: running.status["backlog"]["inbox"] == 0)
            patient = (
                bad is closed_plc
            )  # it asks again in a minute: a server may lock who asks often
            await until(lambda: lines(caplog, "Source other waits"))
            await until(lambda: patient or len(tried) >= ATTEMPTS)
            said, seen = await told(running), await figures(running)
            assert len(made.messages()) == len(running.store.alarm_events()) > 0
            assert not running.task.done()
            if case.mend is not None:
                case.mend()
                await until(lambda: lines(caplog, "Source other is open."))
    assert said["sources"]["other"]["state"] == "waiting"
    assert case.words in said["sources"]["other"]["reason"]
    assert said["sources"]["rig"]["state"] == "ended"
    assert seen["source_connected", "other"] == 0
    assert seen["samples_accepted_total", "rig"] == TICKS * len(CHANNELS)
    assert seen["conservation_missing", "rig"] == seen["conservation_missing", "other"] == 0
    assert len(lines(caplog, "Source other waits")) == 1
    assert "another-secret" not in caplog.text


async def test_a_broker_that_freezes_is_given_up_said_once_and_loses_nothing(tmp_path, caplog):
    caplog.set_level("INFO")
    with mosquitto(tmp_path) as broker:
        made = living.plant(tmp_path / "plant", broker, keepalive_s=2, timeout_s=1.0)
        async with plants.serving(made) as running:
            await until(lambda: lines(caplog, "Source rig is open."))
            with living.machines(broker, made) as machines:
                await until(lambda: stored(running, "rig"))
                broker.freeze()
                await until(lambda: lines(caplog, "Source rig waits"))
                tried = tries(running.service.supervisors["rig"].source)
                await until(lambda: len(tried) >= ATTEMPTS)
                said = await told(running)
                broker.thaw()
                rows = machines.rows
                await until(lambda: machines.rows > rows)
                sent = await asyncio.to_thread(machines.stop)
            await until(lambda: stored(running, "rig") == sent)
            seen = await figures(running)
    assert said["sources"]["rig"]["state"] == "waiting"
    assert seen["conservation_missing", "rig"] == 0
    reasons = lines(caplog, "Source rig waits")
    assert len(set(reasons)) == len(reasons) <= 3, "lost, then why it cannot be had again"
    assert len(lines(caplog, "Source rig is open.")) == 2


async def test_a_node_that_is_not_there_is_said_once_and_stops_no_other(tmp_path, caplog):
    plc = opcua.corner({"m9.flow": 1.0, "m9.heat": 2.0})
    made = plants.plant(tmp_path / "plant")
    made.settings["sources"]["other"] = from_plc(plc.port, retry_s=0.1)
    tags = {channel: {"address": plc.address(f"m9.{channel}")} for channel in CHANNELS}
    made.settings["assets"]["m9"] = {"kind": "pump", "source": "other", "tags": tags}
    async with plants.serving(made.save()) as running:
        await until(lambda: stored(running, "rig") == TICKS * len(CHANNELS))
        await until(lambda: stored(running, "other") == 3)  # of the third, that it is bad
        plc.set("m9.flow", 3.0)
        await until(lambda: stored(running, "other") == 4)
        source = running.service.supervisors["other"].source
        await until(lambda: source.status()["items_bad"])
        said, seen = await told(running), await figures(running)
        plc.add("m9.load", 5.0)
        await until(lambda: not source.status()["items_bad"])
    assert said["sources"]["other"]["state"] == "running"
    assert plc.named("m9.load") in said["sources"]["other"]["peer"]["bad_items"]
    assert seen["source_items_bad", "other"] == 1
    assert seen["source_items_created", "other"] == 2
    assert len(lines(caplog, "BadNodeIdUnknown")) == 1


# ---- sinks ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def no_receiver(folder):
    with receiving() as receiver:
        receiver.stop()
        yield Case(to_receiver(receiver, folder), "Connection refused", receiver.start)


@contextlib.contextmanager
def hanging_receiver(folder):
    with receiving() as receiver:
        receiver.usual = lambda _: SAY_NOTHING
        yield Case(to_receiver(receiver, folder), "no answer in time", taking(receiver))


@contextlib.contextmanager
def distrustful_receiver(folder):
    with receiving() as receiver:
        receiver.usual = lambda _: Answer(401)
        yield Case(to_receiver(receiver, folder), "answers 401", taking(receiver))


def to_receiver(receiver, folder):
    (folder / "secret").write_text(SECRET)
    file = str(folder / "secret")
    return {"type": "webhook", "url": receiver.url, "secret_file": file, **MUTE}


def taking(receiver):
    return lambda: setattr(receiver, "usual", lambda _: Answer(204))


@contextlib.contextmanager
def closed_database(folder):
    influx = shared_influx()
    with started(Shim(folder / "shim", influx)) as shim:
        token = folder / "token"
        token.write_text("another-secret")
        settings = to_database(shim.url, new_database(influx), token)
        yield Case(settings, "answers 401", lambda: token.write_text(TOKEN))


@contextlib.contextmanager
def hanging_database(folder):
    with receiving() as receiver:
        receiver.usual = lambda _: SAY_NOTHING
        (folder / "token").write_text(TOKEN)
        settings = to_database(receiver.url.removesuffix("/hook"), "plant", folder / "token")
        yield Case(settings, "no answer in time", taking(receiver))


def to_database(url, bucket, token):
    file = str(token)
    return {"type": "influxdb", "url": url, "bucket": bucket, "token_file": file, **MUTE}


@contextlib.contextmanager
def closed_broker_for_results(folder):
    with closed_broker(folder) as case:
        yield Case({**case.settings, "site": "works"}, case.words, case.mend)


@pytest.mark.parametrize(
    "bad",
    [
        no_receiver,
        hanging_receiver,
        distrustful_receiver,
        closed_database,
        hanging_database,
        closed_broker_for_results,
    ],
)
async def test_a_sink_that_takes_nothing_is_said_once_and_holds_up_no_other(bad, tmp_path, caplog):
    caplog.set_level("INFO")
    with bad(tmp_path) as case:
        made = plants.never_ending(plants.plant(tmp_path / "plant"))
        made.settings["sinks"]["other"] = case.settings
        async with plants.serving(made.save()) as running:
            backlog = Outbox(running.database).backlog
            await until(lambda: [*running.service.deliveries])
            tried = tries([*running.service.deliveries][1].sink)
            await until(lambda: running.status["frames"] == TICKS)
            await until(lambda: running.status["backlog"]["inbox"] == 0)
            await until(lambda: len(tried) >= ATTEMPTS and backlog("other").items >= 4)
            said, seen = await told(running), await figures(running)
            assert len(made.messages()) == len(running.store.alarm_events()) > 0
            assert not running.task.done()
            case.mend()
            await until(lambda: not backlog("other").items, limit_s=20)
            await until(lambda: lines(caplog, "Deliveries to sink other go on."))
            status = running.status
    assert case.words in said["sinks"]["other"]["reason"]
    assert said["sinks"]["inbox"]["reason"] == ""
    assert said["not_ready"] == []
    assert (seen["sink_away", "other"], seen["sink_away", "inbox"]) == (1, 0)
    assert seen["outbox_items", "other"] >= 4
    assert seen["outbox_items", "inbox"] == 0
    assert status["dead_letters"] == 0
    assert status["dropped"] == {"inbox": 0, "other": 0}
    assert len(lines(caplog, "Sink other is held up")) == 1
    assert "another-secret" not in caplog.text


async def test_points_that_a_database_refuses_are_put_aside_and_all_others_are_written(
    tmp_path, caplog
):
    influx = shared_influx()
    bucket = new_database(influx)
    influx.write(bucket, f'alarm_event value="a text" {START}000000000')  # where we write a number
    with started(Shim(tmp_path / "shim", influx)) as shim:
        made = plants.plant(tmp_path / "plant")
        (tmp_path / "token").write_text(TOKEN)
        made.settings["sinks"]["db"] = to_database(shim.url, bucket, tmp_path / "token")
        made.settings["sinks"]["db"]["timeout_s"] = 10.0
        plants.never_ending(made)
        async with plants.serving(made.save()) as running:
            outbox = Outbox(running.database)
            await until(lambda: running.status["frames"] == TICKS)
            await until(lambda: not outbox.backlog("db").items)
            said, seen = await told(running), await figures(running)
            events = running.store.alarm_events()
            letters = outbox.dead_letters()
            contents = influx.contents(bucket)
    assert len(made.messages()) == len(events) > 0
    assert [one.item.texts["alarm_id"] for one in letters] == [(one.id,) for one in events]
    assert all("conflict" in one.reason for one in letters)
    written = Counter(measurement for measurement, _, _ in contents)
    assert written["asset_score"] == TICKS
    assert written["alarm_event"] == 1, "the one that was there before"
    assert said["sinks"]["db"]["dead_letters"] == seen["dead_letter_total", "db"] == len(events)
    assert said["sinks"]["db"]["reason"] == ""
    begun, ended = lines(caplog, "refuses items for good"), lines(caplog, "takes every item again")
    assert 1 <= len(begun) <= len(events)
    assert len(begun) - len(ended) in (0, 1)

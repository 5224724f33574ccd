"""The load generator: deterministic, nothing skipped, and a plant.yaml that watches all of it."""

import asyncio
import json
import signal
import time
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from asyncua import Client, ua
from hypothesis import given
from hypothesis import strategies as st
from support.brokers import Recorder, mosquitto
from support.commands import process, wait_for, watchkeeper
from support.servers import HERE, free_port
from support.simulators import simulator

from connectors.contract import TagRef
from connectors.opcua.link import Link
from connectors.opcua.nodes import parse
from connectors.opcua.settings import Settings
from connectors.opcua.subscription import Subscription
from connectors.payloads.forms import Form as Meant
from connectors.payloads.forms import Wanted
from connectors.payloads.json import JsonDecoder
from monitor.live.clock import SystemClock
from monitor.site.config import load
from monitor.site.plc import EPOCH
from monitor.site.simulate import signals, watcher
from monitor.site.simulate.compare import Sent, compare_folder
from monitor.site.simulate.faults import Fault
from monitor.site.simulate.ledger import Ledger, What
from monitor.site.simulate.plan import NAMESPACE, Form, Simulation
from monitor.site.simulate.publishing import WINDOW, messages
from monitor.site.simulate.running import Run
from monitor.site.simulate.serving import LedgerHistory, plc
from monitor.site.simulate.values import Values
from monitor.state.errors import StateError

MILLISECOND = 1_000_000
TICK = 17_000_000_000  # of 100 ms: in 2023
NOBODY = ("127.0.0.1", 1)  # where no broker is


class Flag(asyncio.Event):
    """An event that is set by calling it."""

    __call__ = asyncio.Event.set


def plant(**given):
    """A few machines over MQTT."""
    return Simulation.of(
        **{
            "seed": 3,
            "assets": 3,
            "channels": 2,
            "periods_ms": [100],
            "mqtt": NOBODY,
            "name": "sim",
            **given,
        }
    )


@given(st.integers(0, 2**31), st.integers(0, 10_000), st.integers(0, 40), st.integers(0, 2**45))
def test_a_value_is_a_function_of_seed_asset_channel_and_tick_alone(seed, asset, channel, tick):
    alone = signals.values(seed, asset, channel, tick)
    among = signals.values(
        seed,
        np.array([asset - 1, asset, asset + 5])[:, None, None],
        np.array([channel, channel + 1])[:, None],
        np.array([tick - 1, tick]),
    )
    assert among.shape == (3, 2, 2)
    assert among[1, 0, 1] == alone.item()
    assert 0 < alone.item() < signals.HIGHEST / signals.PER_UNIT


def test_channels_assets_and_seeds_differ_and_a_signal_moves_slowly_beside_its_noise():
    ticks = np.arange(2_000)
    shown = signals.values(1, np.arange(2)[:, None, None], np.arange(2)[:, None], ticks)
    shown = np.concatenate([shown, signals.values(2, np.arange(2)[:, None, None], 0, ticks)], 1)
    rows = shown.reshape(-1, len(ticks))
    assert np.abs(np.corrcoef(rows) - np.eye(len(rows))).max() < 0.9
    assert (rows.std(axis=1) > 3 * np.diff(rows, axis=1).std(axis=1)).all()


def test_values_are_what_they_were():
    """Old ledgers read as they were written."""
    assert signals.values(1, 0, np.arange(3), 17_000_000_000).tolist() == [50.95, 30.76, 48.43]
    assert signals.block(1, 0, 0, 17_000_000_000, 3).tolist() == [13.5625, 15.4375, 16.390625]


def test_machines_are_divided_among_protocols_and_rates_and_none_is_forgotten():
    found = plant(assets=11, periods_ms=[100, 1000], share_opcua=0.5, opcua_port=4840)
    assert [(lane.name, lane.assets) for lane in found.lanes] == [
        ("opcua_100ms", 3),
        ("opcua_1000ms", 3),
        ("mqtt_100ms", 3),
        ("mqtt_1000ms", 2),
    ]
    names = [name for lane in found.lanes for name in lane.asset_names]
    assert names == [f"machine_{number:04d}" for number in range(1, 12)]
    assert found.samples_a_second == (6 * 10 + 5 * 1) * 2
    assert Simulation.from_json(found.to_json()) == found


def machines(**given):
    """Two pumps and a valve over both protocols, which report changes only; a pump leaks."""
    leak = Fault(name="leak", onset_ms=60_000, end_ms=3_600_000)
    return plant(
        **{
            "machines": {"pump": 2, "valve": 1},
            "periods_ms": [1000],
            "share_opcua": 0.5,
            "opcua_port": 4840,
            "changes_only": True,
            "faults": (("pump_2", leak),),
            "begin_ms": TICK * 100,
            **given,
        }
    )


def test_a_simulation_that_knew_of_no_machines_reads_as_it_was():
    tree = json.loads(plant().to_json())
    for name in ("faults", "begin_ms"):
        del tree[name]
    for lane in tree["lanes"]:
        del lane["kind"], lane["changes_only"]
    assert Simulation.from_json(json.dumps(tree)) == plant()


def test_machines_are_numbered_by_kind_and_watched_with_their_units_and_run_states(tmp_path):
    simulation = machines()
    assert Simulation.from_json(simulation.to_json()) == simulation
    names = [name for lane in simulation.lanes for name in lane.asset_names]
    assert names == ["pump_1", "pump_2", "valve_1"]
    config = load(watcher.write(simulation, tmp_path))
    by_name = {lane.name: config.kinds[lane.name] for lane in simulation.lanes}
    assert {kind.running is None for name, kind in by_name.items() if "valve" in name} == {True}
    assert by_name["pump_mqtt_1000ms"].running.channel == "speed"
    assert by_name["pump_mqtt_1000ms"].channels["flow"].unit == "m3/h"
    assert by_name["pump_mqtt_1000ms"].channels["flow"].stale_s > 15 * 60


@pytest.mark.parametrize("form", [Form.FLAT, Form.VALUE])
def test_what_a_machine_does_not_report_is_in_no_message(form):
    simulation = machines(form=form)
    number = next(n for n, lane in enumerate(simulation.lanes) if lane.over_mqtt)
    lane, values = simulation.lanes[number], Values(simulation)
    for tick in range(TICK // 10, TICK // 10 + 20):
        (shown,) = values.of(number, [tick])
        told = [json.loads(text) for _, _, text in messages(simulation, lane, tick, shown)]
        said = [value for one in told for name, value in one.items() if name != "ts"]
        assert said == shown[np.isfinite(shown)].tolist()


def test_faults_count_from_the_begin_that_the_ledger_keeps(tmp_path):
    first = machines()
    Ledger.make(tmp_path, first).close()
    ledger = Ledger.make(tmp_path, replace(first, begin_ms=first.begin_ms + 5_000))
    assert ledger.simulation.begin_ms == first.begin_ms
    (unit,) = (unit for unit in Values(ledger.simulation).units if unit.faults)
    assert (unit.name, unit.faults[0].onset_ms) == ("pump_2", first.begin_ms + 60_000)
    ledger.close()


async def test_the_history_of_a_machine_holds_what_it_reported(tmp_path):
    simulation = machines(share_opcua=1)
    ledger = Ledger.make(tmp_path, simulation)
    ticks = np.arange(TICK // 10, TICK // 10 + 300)
    number = next(n for n, lane in enumerate(simulation.lanes) if lane.kind == "valve")
    ledger.send(number, ticks.tolist(), 0)
    values = Values(simulation)
    history = LedgerHistory(ledger, values)
    found, more = await history.read_node_history(
        ua.NodeId("valve_1.flow", 2), EPOCH, datetime(2100, 1, 1, tzinfo=UTC), 0
    )
    newest, _ = await history.read_node_history(
        ua.NodeId("valve_1.flow", 2), None, datetime(2100, 1, 1, tzinfo=UTC), 3
    )
    shown = values.of(number, ticks)[:, 0, 2]
    reported = np.isfinite(shown)
    assert more is None
    assert 3 < reported.sum() < 300
    assert [one.Value.Value for one in found] == shown[reported].tolist()
    assert [one.SourceTimestamp.timestamp() for one in found] == ticks[reported].tolist()
    assert [one.Value.Value for one in newest] == shown[reported][:-4:-1].tolist()
    ledger.close()


@pytest.mark.broker
async def test_a_broker_gets_what_machines_report_and_acknowledges_all_of_it(tmp_path):
    with mosquitto(tmp_path) as broker:
        simulation = machines(mqtt=(HERE, broker.port), share_opcua=0, opcua_port=None)
        ledger = Ledger.make(tmp_path, simulation)
        ended = await Run(ledger, SystemClock(), for_ms=120_000, speed=1_000).run(Flag())
    sent = Sent.of(ledger)
    values = Values(simulation)
    there = [values.sent(number, ticks).sum() for number, ticks in enumerate(sent.ticks)]
    assert ended.sent == ended.acknowledged == sum(there) < 120 * (7 + 7 + 6)
    assert all(acknowledged.all() for acknowledged in sent.acknowledged)
    ledger.close()


def test_quantities_that_come_again_get_a_number():
    (lane,) = plant(channels=10).lanes
    assert lane.channel_names[8:] == ("temperature_2", "pressure_2")
    assert lane.units[8:] == ("degC", "bar")


@pytest.mark.parametrize("form", [Form.FLAT, Form.VALUE, Form.BLOCK])
def test_the_written_configuration_is_right_and_its_addresses_mean_what_is_sent(form, tmp_path):
    simulation = plant(form=form, samples=8, share_opcua=0.34, opcua_port=4840)
    config = load(watcher.write(simulation, tmp_path))
    number, lane = next((n, one) for n, one in enumerate(simulation.lanes) if one.over_mqtt)
    assert number == 1
    (values,) = Values(simulation).of(number, [TICK])
    sent = list(messages(simulation, lane, TICK, values))
    for asset, shown in zip(lane.asset_names, values, strict=True):
        for bound, value in zip(config.tags_of(asset), shown, strict=True):
            topic, _, member = bound.address.partition("#")
            (payload,) = (text for _, where, text in sent if where == topic)
            found = JsonDecoder(Meant(), [Wanted(1, member or None)])(payload.encode())
            assert not found.reasons
            if form is Form.BLOCK:
                assert found.blocks[0].time == TICK * 100 * MILLISECOND
                assert found.blocks[0].samples.tolist() == value.tolist()
            else:
                assert found.readings == [(1, TICK * 100 * MILLISECOND, value, 0)]
    assert [bound.address for bound in config.tags_of("machine_0001")] == [
        f"nsu={NAMESPACE};s=machine_0001.temperature",
        f"nsu={NAMESPACE};s=machine_0001.pressure",
    ]


def test_a_configuration_that_somebody_has_changed_is_kept(tmp_path):
    path = watcher.write(plant(), tmp_path)
    path.write_text("mine\n")
    watcher.write(plant(), tmp_path)
    assert path.read_text() == "mine\n"


async def test_without_a_broker_nothing_is_sent_and_it_says_how_far_it_is_behind(tmp_path):
    ledger = Ledger.make(tmp_path, plant(periods_ms=[10]))
    run = Run(ledger, SystemClock(), for_ms=60_000, speed=10_000)
    working = asyncio.create_task(run.run(begun := Flag()))
    await begun.wait()
    while run.progress().behind_s <= 1:  # noqa: ASYNC110 - time passes
        await asyncio.sleep(0.005)
    run.stop()
    ended = await working
    assert (ended.sent, ended.connected) == (0, False)
    assert ended.behind_s > 1
    assert ledger.last(0) is None
    assert [what for _, what, _ in ledger.events()] == [What.STARTED, What.STOPPED]
    ledger.close()


@pytest.mark.broker
async def test_no_more_is_on_its_way_than_the_window_holds_however_much_is_due(tmp_path):
    with mosquitto(tmp_path) as broker:
        simulation = plant(
            mqtt=(HERE, broker.port), form=Form.VALUE, assets=40, channels=10, periods_ms=[20]
        )
        ledger = Ledger.make(tmp_path, simulation)
        run = Run(ledger, SystemClock(), for_ms=1_000, speed=1_000)
        working = asyncio.create_task(run.run(Flag()))
        most = 0
        while not working.done():
            await asyncio.sleep(0)
            most = max(most, 0 if run._publisher is None else run._publisher.unanswered)
        assert (await working).acknowledged == 50 * 40 * 10
    assert WINDOW // 2 < most < 2 * WINDOW
    ledger.close()


@pytest.mark.parametrize(
    ("given", "how"),
    [
        ({}, {"speed": 0.5}),
        ({}, {"speed": 2}),
        ({"share_opcua": 1, "opcua_port": 1}, {"speed": 2, "for_ms": 1000}),
    ],
)
def test_a_speed_that_cannot_be_is_refused(tmp_path, given, how):
    ledger = Ledger.make(tmp_path, plant(**given))
    with pytest.raises(ValueError, match="speed"):
        Run(ledger, SystemClock(), **how)
    ledger.close()


@pytest.mark.broker
@pytest.mark.timeout(60)
async def test_what_a_broker_hands_on_is_what_the_ledger_says_also_when_the_broker_was_away(
    tmp_path,
):
    with mosquitto(tmp_path) as broker:
        simulation = plant(mqtt=(HERE, broker.port), periods_ms=[20])
        ledger = Ledger.make(tmp_path, simulation)
        run = Run(ledger, SystemClock())
        recorder = Recorder(broker, "sim/#", name="rec", clean=False, expiry_s=600)
        working = asyncio.create_task(run.run(begun := Flag()))
        await begun.wait()
        for away in (True, False):
            before = run.progress().acknowledged
            while run.progress().acknowledged < before + 100:  # noqa: ASYNC110 - a thread counts
                await asyncio.sleep(0.01)
            if away:
                broker.stop()
                while run.progress().connected:  # noqa: ASYNC110 - as above
                    await asyncio.sleep(0.01)
                broker.start()
        run.stop()
        ended = await working
        got = {
            (topic, json.loads(payload)["ts"]): json.loads(payload)
            for topic, payload, _ in await asyncio.to_thread(recorder.all)
        }
        recorder.disconnect()
    sent = Sent.of(ledger)
    (ticks,), (acknowledged,) = sent.ticks, sent.acknowledged
    assert (np.diff(ticks) == 1).all()
    assert acknowledged.all()
    assert ended.sent == ended.acknowledged == len(ticks) * 3 * 2
    whats = [what for _, what, _ in ledger.events()]
    assert whats.count(What.DISCONNECTED) >= 1
    assert whats.count(What.CONNECTED) >= 2
    (lane,) = simulation.lanes
    values = Values(simulation).of(0, ticks)
    assert got == {
        (topic, json.loads(payload)["ts"]): json.loads(payload)
        for tick, shown in zip(ticks.tolist(), values, strict=True)
        for _, topic, payload in messages(simulation, lane, tick, shown)
    }
    ledger.close()


@pytest.mark.broker
@pytest.mark.timeout(60)
async def test_a_server_that_was_killed_goes_on_with_its_history_and_the_ledger_knows_the_outage(
    tmp_path,
):
    simulation = plant(mqtt=None, share_opcua=1, opcua_port=free_port(), periods_ms=[50])
    with simulator(tmp_path, simulation) as plc:
        plc.heard("running")
        plc.stop(signal.SIGKILL)
        plc.start()
        plc.heard("running")
        ledger = Ledger(tmp_path)
        ticks, written = ledger.sent(0)
        ((since, until),) = ledger.outages()
        async with Client(f"opc.tcp://{HERE}:{simulation.opcua_port}") as client:
            index = await client.get_namespace_index(NAMESPACE)
            node = client.get_node(f"ns={index};s=machine_0002.pressure")
            start, end = (
                datetime.fromtimestamp(int(tick) * 50 / 1000, UTC) for tick in ticks[[1, -2]]
            )
            found = await node.read_raw_history(start, end)
            newest = await node.read_raw_history(None, end, 3)
        outage = int(np.diff(ticks).max()) * 50
    times = [value.SourceTimestamp.timestamp() for value in found]
    assert times == (ticks[1:-1] * 50 / 1000).tolist()
    wanted = signals.values(3, 1, 1, ticks[1:-1]).tolist()
    assert [value.Value.Value for value in found] == wanted
    assert [value.Value.Value for value in newest] == wanted[:-4:-1]
    assert outage > 50
    assert 0 < until - since < outage * MILLISECOND
    assert written[:-1].all(axis=1).sum() >= len(ticks) - 2  # but the last before the kill
    ledger.close()


async def test_what_subscribers_have_not_acknowledged_is_known_and_they_are_asked_for_it(tmp_path):
    simulation = plant(assets=1, channels=1, mqtt=None, share_opcua=1.0, opcua_port=free_port())
    ledger, (lane,) = Ledger.make(tmp_path, simulation), simulation.lanes
    address = f"nsu={NAMESPACE};s={lane.asset_names[0]}.{lane.channel_names[0]}"
    url = f"opc.tcp://{HERE}:{simulation.opcua_port}"
    settings = Settings(type="opcua", url=url, insecure=True, publishing_ms=20, keepalive_s=60)
    ledger.send(0, [TICK], 0)
    async with plc(ledger, Values(simulation)) as served:
        assert not served.unfetched
        link = Link(settings, None)
        await link.connect()
        tags = {1: (TagRef(id=1, address=address), parse(address))}
        one = Subscription("plc", settings, settings.rate_of(address), tags)
        await one.create(link, await link.facts())
        nothing_yet = await link.publish([])
        requests = [link.publish([]), link.publish([])]  # with no word of what is not stored yet
        await served.send(0, lane, TICK, np.ones((1, 1)))
        assert served.unfetched == 2  # one is not published yet
        stored = [nothing_yet, await requests[0]]
        assert served.unfetched == 2
        served.ask()
        async with asyncio.timeout(5):
            await requests[1]
        numbers = [one.Parameters.NotificationMessage.SequenceNumber for one in stored]
        link.publish([(one.id, number) for number in numbers])
        async with asyncio.timeout(5):
            while served.unfetched:  # noqa: ASYNC110 - a server tells nobody
                await asyncio.sleep(0.01)
        await link.close()
    ledger.close()


@pytest.mark.parametrize(
    ("left", "looks"),
    [
        ([3, 3, 2, 2, 1, 1, 0], 7),  # slowly, but it goes on
        ([3, 3, 3, 3, 3, 0], 3),  # nobody is there
        ([3, 0, 0], 2),
    ],
)
async def test_at_the_end_it_waits_for_as_long_as_somebody_takes_something(tmp_path, left, looks):
    ledger = Ledger.make(tmp_path, plant(mqtt=None, share_opcua=1.0, opcua_port=1))
    run = Run(ledger, Hasty())
    run._plc = Taking(left)
    await run._rest()
    assert run._plc.looks == looks
    ledger.close()


class Hasty:
    """A clock on which 6 s pass from one look to the next."""

    def __init__(self):
        self.looks = 0

    def now(self):
        self.looks += 1
        return self.looks * 6_000_000_000


class Taking:
    """A server of which so much is left to be taken, look by look."""

    def __init__(self, left):
        self.left, self.looks = left, 0

    @property
    def unfetched(self):
        self.looks += 1
        return self.left[self.looks - 1]

    def ask(self):
        pass


@pytest.mark.broker
@pytest.mark.timeout(300)
def test_a_service_beside_it_has_stored_all_that_was_sent_over_both_protocols(tmp_path):
    with mosquitto(tmp_path) as broker:
        simulation = Simulation.of(
            seed=5,
            assets=20,
            channels=4,
            periods_ms=[100, 500],
            share_opcua=0.5,
            mqtt=(HERE, broker.port),
            opcua_port=free_port(),
        )
        with (
            simulator(tmp_path, simulation) as machines,
            process("run", machines.plant, "--json") as service,
        ):
            wait_for(lambda: stored_of_each(tmp_path) > 100)
            heard = time.time_ns()  # all tags: each source subscribes to its own at once
            machines.stop()
            wait_for(lambda: not compare_folder(tmp_path, since=heard)[0].lost)
            service.send_signal(signal.SIGTERM)
            _, err = service.communicate()
    assert service.returncode == 0, err
    found, summary = compare_folder(tmp_path)
    assert found.holds, found.examples
    assert found.sent == found.acknowledged == found.stored + found.early
    assert (found.in_gaps, found.duplicated) == (0, 0)
    assert summary["samples_stored"] == found.stored
    said = watchkeeper("ledger", tmp_path, "--json")
    assert (said.code, said.json["stored"]) == (0, found.stored)
    said = watchkeeper("ledger", tmp_path, "--since", "2001-01-01T00:00:00Z")
    assert said.code == (1 if found.early else 0)


def stored_of_each(folder):
    """What the source that has less has stored by now."""
    try:
        sources = compare_folder(folder)[1]["sources"]
    except StateError:
        return 0
    return min((one["stored"] for one in sources.values()), default=0) if len(sources) > 1 else 0

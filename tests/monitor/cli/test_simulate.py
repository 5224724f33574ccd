"""`watchkeeper simulate` and `watchkeeper ledger`: what they refuse, and what they say."""

import os
import signal
import socket
from contextlib import closing

import pytest
from support.brokers import mosquitto
from support.commands import process, watchkeeper

from monitor.site.simulate import watcher
from monitor.site.simulate.ledger import Ledger, alone, explained
from monitor.site.simulate.plan import Form, Simulation
from monitor.state.database import Database
from monitor.state.errors import StorageFullError


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "where to?"),
        (["--mqtt", "localhost"], "--mqtt: got 'localhost', want HOST:PORT"),
        (["--mqtt", "localhost:99999"], "want HOST:PORT"),
        (["--mqtt", "mqtt://localhost:1883"], "want HOST:PORT without a scheme"),
        (["--mqtt", "h:1", "--rate", "3"], "--rate: got 3, want Hz with a period of whole"),
        (["--mqtt", "h:1", "--rate", "0"], "--rate: got 0"),
        (["--mqtt", "h:1", "--share-opcua", "0.5"], "some machines want --opcua PORT"),
        (["--mqtt", "h:1", "--assets", 1, "--share-opcua", "0.3"], "some machines want --opcua"),
        (["--opcua", "4840", "--assets", 1, "--share-opcua", "0.7"], "some machines want --mqtt"),
        (["--opcua", "4840", "--share-opcua", "0.5"], "some machines want --mqtt HOST:PORT"),
        (["--mqtt", "h:1", "--speed", "2"], "--speed: above 1 it wants --for"),
        (["--opcua", "4840", "--speed", "2", "--for", "1s"], "such a server shows the present"),
        (["--mqtt", "h:1", "--assets", 9000, "--form", "value"], "72000 messages of one instant"),
        (["--mqtt", "h:1", "--for", "soon"], "--for: got 'soon'"),
        (["--mqtt", "h:1", "--recordings", "r"], "what for? --out FOLDER to send"),
        (["--mqtt", "h:1", "--machines", "pump", "--faults", "all"], "for --recordings alone"),
        (["--mqtt", "h:1", "--machines", "pump", "--form", "block"], "no blocks of fast samples"),
        (["--mqtt", "h:1", "--changes-only"], "--changes-only is theirs"),
        (["--mqtt", "h:1", "--fault", "pump_1/leak,at=1h"], "--machines pump:4 makes some"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(words, said, tmp_path):
    ended = watchkeeper("simulate", "--out", tmp_path / "new", *words)
    assert ended.code == 2
    assert said in ended.err
    assert not (tmp_path / "new").exists()


def test_a_folder_without_a_ledger_or_without_a_service_is_told_so(tmp_path):
    ended = watchkeeper("ledger", tmp_path)
    assert (ended.code, "no ledger here" in ended.err) == (4, True)


def test_the_service_keeps_its_data_where_its_configuration_says(tmp_path):
    simulation = Simulation.of(seed=1, assets=1, channels=1, periods_ms=[100], mqtt=("h", 1))
    Ledger.make(tmp_path / "sim", simulation).close()
    plant = watcher.write(simulation, tmp_path / "sim")
    elsewhere = tmp_path / "elsewhere"
    plant.write_text(plant.read_text().replace('data_dir: "data"', f'data_dir: "{elsewhere}"'))
    ended = watchkeeper("ledger", tmp_path / "sim")
    assert (ended.code, f"{elsewhere / 'state.db'}: there is no state here" in ended.err) == (
        3,
        True,
    )
    with Database(elsewhere):
        pass
    assert watchkeeper("ledger", tmp_path / "sim").code == 0


def test_a_second_simulation_in_one_folder_is_refused_while_the_first_runs(tmp_path):
    words = ["simulate", "--out", tmp_path, "--mqtt", "127.0.0.1:1", "--for", "1s"]
    with alone(tmp_path):
        ended = watchkeeper(*words)
    assert ended.code == 4
    assert f"process {os.getpid()} is simulating in this folder. Stop it first" in ended.err
    assert not (tmp_path / "ledger.db").exists()


def test_a_folder_that_cannot_be_made_is_told_so(tmp_path):
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "sim"):
        ended = watchkeeper("simulate", "--out", out, "--mqtt", "127.0.0.1:1")
        assert (ended.code, f"{out}: cannot be written" in ended.err) == (3, True)


@pytest.mark.parametrize("content", [b"", b"no database " * 1000])
def test_a_file_that_is_no_ledger_is_told_so(tmp_path, content):
    (tmp_path / "ledger.db").write_bytes(content)
    for words in (["ledger", tmp_path], ["simulate", "--out", tmp_path, "--mqtt", "127.0.0.1:1"]):
        ended = watchkeeper(*words)
        assert ended.code == 4
        assert f"{tmp_path / 'ledger.db'}: no ledger, or a damaged one (" in ended.err


def test_a_disk_that_is_full_is_told_so(tmp_path):
    simulation = Simulation.of(seed=1, assets=1, channels=1, periods_ms=[1], mqtt=("h", 1))

    def fill():
        with explained(tmp_path), closing(Ledger.make(tmp_path, simulation)) as ledger:
            ((pages,),) = ledger._connection.execute("PRAGMA page_count")
            ledger._connection.execute(f"PRAGMA max_page_count = {pages}")
            with ledger.atomic():
                ledger.send(0, range(10_000), 1)

    with pytest.raises(StorageFullError, match="the disk is full"):
        fill()


def test_a_port_that_is_taken_is_named(tmp_path, caplog):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = watchkeeper("simulate", "--out", tmp_path, "--opcua", port, "--for", "1s")
    assert ended.code == 3
    assert f"error: port {port}: the address is in use by another program" in ended.err
    assert not caplog.records


def test_a_broker_that_is_away_is_named_once_with_the_reason(tmp_path):
    words = ["--mqtt", "127.0.0.1:1", "--rate", 10, "--speed", 10, "--for", "1s"]
    with process("simulate", "--out", tmp_path, *words) as away:
        line = next(line for line in away.stderr if line.startswith("warning"))
        away.send_signal(signal.SIGINT)
        rest = away.stderr.read()
    assert line.startswith("warning: the broker 127.0.0.1:1 is away (Connection refused): ")
    assert "away" not in rest


@pytest.mark.broker
def test_what_was_sent_is_said_at_the_end_and_the_same_folder_goes_on(tmp_path):
    with mosquitto(tmp_path) as broker:
        words = ["simulate", "--out", tmp_path / "sim", "--mqtt", f"127.0.0.1:{broker.port}"]
        words += ["--assets", 3, "--channels", 2, "--form", "value"]
        words += ["--rate", 50, "--for", "2s", "--speed", 4]
        ended = watchkeeper(*words, "--json")
        assert ended.code == 0
        assert ended.json["sent"] == ended.json["acknowledged"] == 3 * 2 * 100
        assert "1,200 samples/s. Watch them with `watchkeeper run" in ended.err
        again = watchkeeper(*words, "--seed", 2)
        assert (again.code, "with other options" in again.err) == (4, True)
        more = watchkeeper(*words)
        assert more.code == 0
        assert "samples sent" in more.out
    ledger = Ledger(tmp_path / "sim")
    ticks, acknowledged = ledger.sent(0)
    assert ledger.simulation.lanes[0].form is Form.VALUE
    assert len(ticks) > 100
    assert acknowledged.all()
    assert len(ledger.outages()) == 1
    ledger.close()
    assert watchkeeper("check", tmp_path / "sim" / "plant.yaml").code == 0
    nothing = watchkeeper("ledger", tmp_path / "sim")
    assert (nothing.code, "no state here" in nothing.err) == (3, True)

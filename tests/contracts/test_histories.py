"""Every history keeps the contract: whatever `connectors.discover()` finds, with its rig."""

import subprocess
import sys

import pytest
import yaml
from support.recordings import samples
from support.rigs import marked, rig

import connectors
from connectors.batch import Notice, Samples
from connectors.contract import History, NotReadyError
from monitor.site import examples

FOUND = connectors.discover()
HISTORIES = marked(name for name, found in FOUND.items() if found.history is not None)

pytestmark = pytest.mark.parametrize("connector", HISTORIES)


@pytest.fixture
def peer(connector, new_rig):
    return new_rig(connector, "SourceRig")


def made(connector, peer):
    return FOUND[connector].history("rig", peer.settings, peer.tags)


def test_it_is_a_history_and_gives_every_sample_in_pieces(connector, peer):
    history = made(connector, peer)
    assert isinstance(history, History)
    got = list(history.read())
    assert samples(got) == list(peer.samples)
    assert all(isinstance(piece, Samples | Notice) for piece in got)
    assert len(got) > 1


def test_it_reads_again_from_the_start(connector, peer):
    history = made(connector, peer)
    assert samples(history.read()) == samples(history.read())


def test_since_is_left_out_and_until_is_in(connector, peer):
    times = sorted(sample[1] for sample in peer.samples)
    since, until = times[2], times[-3]
    wanted = [sample for sample in peer.samples if since < sample[1] <= until]
    assert samples(made(connector, peer).read(since=since, until=until)) == wanted
    assert samples(made(connector, peer).read(since=times[-1])) == []
    assert samples(made(connector, peer).read(until=times[0] - 1)) == []


def test_adjoining_intervals_give_every_sample_once(connector, peer):
    middle = sorted(sample[1] for sample in peer.samples)[len(peer.samples) // 2]
    history = made(connector, peer)
    parts = samples(history.read(until=middle)) + samples(history.read(since=middle))
    assert sorted(parts) == sorted(peer.samples)


def test_making_one_looks_at_nothing(connector, peer, watching):
    made(connector, peer)
    with watching() as seen:
        made(connector, peer)
    assert seen == []


def test_it_says_that_its_peer_is_not_there(connector, peer):
    peer.vanish()
    with pytest.raises(NotReadyError):
        list(made(connector, peer).read())
    peer.appear()
    assert samples(made(connector, peer).read()) == list(peer.samples)


def test_a_reading_that_is_given_up_lets_go(connector, peer):
    reading = made(connector, peer).read()
    next(reading)
    reading.close()  # an open file or socket left behind would be a warning, and so an error


def test_its_client_is_imported_only_when_it_reads(connector):
    clients = rig(connector).SourceRig.clients
    code = "import sys, connectors; connectors.discover(); print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert set(clients).isdisjoint(loaded.stdout.split())


def test_every_setting_says_what_it_means(connector):
    settings = FOUND[connector].history.Settings
    assert [n for n, field in settings.model_fields.items() if not field.description] == []
    assert settings.model_config["extra"] == "forbid"


@pytest.mark.parametrize("switched_on", [False, True])
def test_its_printed_example_is_right(connector, switched_on):
    text = examples.example(connector)
    tree = yaml.safe_load(examples.uncommented(text) if switched_on else text)
    settings = FOUND[connector].history.Settings
    assert settings.model_validate(tree["sources"][connector]).type == connector

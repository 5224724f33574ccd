"""The way to a server is cut, loses packets, or is long: nothing is lost, and all comes in again.

The server runs in a network of its own, behind a cable; the machines are on its side. Delay is made
by a relay, for the kernels that this runs on can make none.
"""

import contextlib

import pytest
from support.network import network
from support.outages import Outage, balance
from support.outcomes import scaled
from support.trials import Unit, broker_trial, foreign_trial

pytestmark = [pytest.mark.broker, pytest.mark.slow]

CUTS_S = scaled(short=(3,), full=(3, 12, 60))
LOSSES = scaled(short=((30, 4),), full=((10, 20), (30, 20), (60, 20)))  # percent, s
DELAYS_S = scaled(short=(0.3,), full=(0.3, 0.8, 2.0))  # each way; answers are waited for 1 s
DELAYED_S = scaled(short=3, full=15)


def cut(net, seconds):
    return Outage(net.pull, net.plug, seconds)


def lossy(net, percent, seconds):
    return Outage(lambda: net.drop(percent), net.drop_none, seconds, after_s=1.0)


def long(relay, delay_s):
    def delay(seconds):
        relay.delay_s = seconds

    return Outage(lambda: delay(delay_s), lambda: delay(0.0), DELAYED_S)


def cuts(it):
    """Twice in a row: the second finds what the first left behind."""
    return [cut(it.network, seconds) for seconds in CUTS_S for _ in range(2)]


def losses(it):
    return [lossy(it.network, percent, seconds) for percent, seconds in LOSSES]


def delays(it):
    return [long(it.relay, seconds) for seconds in DELAYS_S]


WAYS = {"cut": cuts, "lossy": losses, "long": delays}


@contextlib.contextmanager
def reached_by(way):
    """How a peer is reached, so that this can be done to it: as the trials take it."""
    with contextlib.nullcontext() if way == "long" else network() as net:
        yield {"relay": True} if way == "long" else {"network": net}


LONGEST_S = 120 + 3 * sum(CUTS_S) + 90 * len(CUTS_S)


@pytest.mark.fault("network_mqtt")
@pytest.mark.timeout(LONGEST_S)
@pytest.mark.parametrize("way", scaled(short=["cut"], full=WAYS))
async def test_a_bad_way_to_a_broker_loses_nothing(way, tmp_path, figures, tell):
    unit = Unit(WAYS[way], figures, tell)
    with reached_by(way) as apart:
        made, _ = await broker_trial(tmp_path, unit, **apart)
    found = balance(made.folder, "broker", figures)
    assert not found.in_gaps


@pytest.mark.fault("network_opcua")
@pytest.mark.timeout(LONGEST_S)
@pytest.mark.parametrize("way", scaled(short=["lossy"], full=WAYS))
async def test_a_bad_way_to_a_server_leaves_no_dead_subscription(way, tmp_path, figures, tell):
    unit = Unit(WAYS[way], figures, tell)
    with reached_by(way) as apart:
        found, _ = await foreign_trial(tmp_path, unit, **apart)
    assert not found.in_gaps

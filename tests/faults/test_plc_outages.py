"""An OPC UA server is killed, and frozen, while a device writes to it.

asyncua's answers for what was: nothing is lost. node-opcua's here does not: what it had not handed
over is missing, and lies in gaps that claim no more than is missing.
"""

import numpy as np
import pytest
from support.outages import freezes, kills
from support.outcomes import scaled
from support.trials import MS, SAMPLING_MS, Unit, bodies, foreign_trial, server_trial

from connectors.batch import Notice, NoticeKind, Samples, usable

pytestmark = [pytest.mark.broker, pytest.mark.slow]

ROUNDS = scaled(short=1, full=4)
KILLS = scaled(short=1, full=5)  # in one service
FREEZES_S = scaled(short=(3,), full=(3, 12, 60))
MADE_IN_NS = 1000 * MS  # a subscription and its items, on a machine that has much to do


def overclaimed(folder):
    """What gaps claim although it is stored, beyond one sampling interval where they begin.

    A subscription begins with what the server shows: of each tag, the first that comes after a gap
    was said may be older than the gap's end, and is known all the same. A gap ends when the server
    has all items: what the first of them gave by then is claimed, too.
    """
    found = bodies(folder)
    wrong = []
    for place, gap in enumerate(found):
        if not isinstance(gap, Notice) or gap.kind is not NoticeKind.GAP:
            continue
        begun = gap.since + SAMPLING_MS * MS
        wrong += [(tag, at, gap) for at, tag in rows(found[:place]) if begun < at <= gap.until]
        shown = set()
        for at, tag in rows(found[place:]):
            if tag in shown and gap.since < at <= gap.until - MADE_IN_NS:
                wrong.append((tag, at, gap))
            shown.add(tag)
    return wrong


def rows(batches):
    """Time and tag of each good sample, in the order they came."""
    return [
        (at, tag)
        for one in batches
        if isinstance(one, Samples)
        for good in [usable(one.status)]
        for at, tag in zip(one.time[good].tolist(), one.tag[good].tolist(), strict=True)
    ]


def killing(number, figures, tell):
    chance = np.random.default_rng(number)
    return Unit(lambda it: kills(it.server, chance, KILLS), figures, tell)


def freezing(seconds, figures, tell):
    return Unit(lambda it: freezes(it.server, seconds), figures, tell)


@pytest.mark.fault("asyncua_killed")
@pytest.mark.timeout(60 + 30 * KILLS)
@pytest.mark.parametrize("number", range(ROUNDS))
async def test_a_killed_server_with_a_history_loses_nothing(number, tmp_path, figures, tell):
    found = await server_trial(tmp_path, killing(number, figures, tell))
    assert not found.in_gaps


@pytest.mark.fault("node_opcua_killed")
@pytest.mark.timeout(60 + 30 * KILLS)
@pytest.mark.parametrize("number", range(ROUNDS))
async def test_what_a_killed_server_without_history_lost_lies_in_gaps(
    number, tmp_path, figures, tell
):
    found, made = await foreign_trial(tmp_path, killing(number, figures, tell))
    # One kill may fall where the server has handed over everything that the device knows of.
    assert found.in_gaps or KILLS == 1, "nothing was lost: nothing was tested"
    assert overclaimed(made.data) == []


@pytest.mark.fault("asyncua_frozen")
@pytest.mark.timeout(120 + 4 * max(FREEZES_S))
@pytest.mark.parametrize("seconds", scaled(short=(), full=FREEZES_S))
async def test_a_server_with_a_history_that_freezes_twice_in_a_row_loses_nothing(
    seconds, tmp_path, figures, tell
):
    found = await server_trial(tmp_path, freezing(seconds, figures, tell))
    assert not found.in_gaps


@pytest.mark.fault("node_opcua_frozen")
@pytest.mark.timeout(120 + 4 * max(FREEZES_S))
@pytest.mark.parametrize("seconds", FREEZES_S)
async def test_a_server_that_freezes_twice_in_a_row_hands_over_what_it_held(
    seconds, tmp_path, figures, tell
):
    found, _ = await foreign_trial(tmp_path, freezing(seconds, figures, tell))
    assert not found.in_gaps

"""An OPC UA server is killed, and frozen, while a device writes to it.

asyncua's answers for what was: nothing is lost. node-opcua's here does not: what it had not handed
over is missing, and lies in gaps that claim no more than is missing.
"""

import numpy as np
import pytest
from support.outages import freezes, kills
from support.outcomes import scaled
from support.trials import Unit, bodies, foreign_trial, server_trial

from connectors.batch import Notice, NoticeKind, Samples, usable

pytestmark = [pytest.mark.broker, pytest.mark.slow]

ROUNDS = scaled(short=1, full=4)
KILLS = scaled(short=1, full=5)  # in one service
FREEZES_S = scaled(short=(3,), full=(3, 12, 60))


def overclaimed(folder):
    """What gaps claim although it is stored.

    A subscription begins with what the server shows: of each tag, that may be older than the gap's
    end, and is known all the same.
    """
    found = bodies(folder)
    rows = [
        (at, tag)
        for one in found
        if isinstance(one, Samples)
        for good in [usable(one.status)]
        for at, tag in zip(one.time[good].tolist(), one.tag[good].tolist(), strict=True)
    ]
    wrong = []
    for gap in found:
        if isinstance(gap, Notice) and gap.kind is NoticeKind.GAP:
            within = sorted(row for row in rows if gap.since < row[0] <= gap.until)
            shown = {tag: at for at, tag in within}  # the last of each
            wrong += [(tag, at, gap) for at, tag in within if shown[tag] != at]
    return wrong


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
    assert found.in_gaps, "nothing was lost: nothing was tested"
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

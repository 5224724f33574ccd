"""What is remembered of each asset from frame to frame, against a loop that remembers it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.core.by_asset import ByAsset

ASSETS, CHANNELS = 4, 2


def looped(row, flag, now, held):
    """Column by column: latest, before, previous and since, one frame after the other."""
    latest, before, previous, since = (np.zeros_like(now) for _ in range(4))
    end = {name: held.copy() for name in ("latest", "since")}
    last = held.copy()
    for i, a in enumerate(row):
        before[i], previous[i], last[a] = end["latest"][a], last[a], now[i]
        end["latest"][a] = np.where(flag[i], now[i], end["latest"][a])
        end["since"][a] = np.where(flag[i], 0, end["since"][a] + now[i])
        latest[i], since[i] = end["latest"][a], end["since"][a]
    return {"latest": latest, "before": before, "previous": previous, "since": since}, end


@given(st.lists(st.integers(0, 3), min_size=ASSETS, max_size=ASSETS), st.integers(0, 2**32 - 1))
def test_whatever_each_asset_has_of_frames_all_is_as_a_loop_over_them_finds_it(lengths, seed):
    row = np.repeat(np.arange(ASSETS), lengths)
    if not len(row):
        return
    random = np.random.default_rng(seed)
    flag = random.random((len(row), CHANNELS)) < random.random()
    now, held = random.integers(0, 9, size=(2, max(len(row), ASSETS), CHANNELS))
    now, held = now[: len(row)], held[:ASSETS]
    by = ByAsset(row)
    wanted, end = looped(row, flag, now, held)
    found = {
        "latest": by.latest(flag, (now, held))[0],
        "before": by.before(flag, (now, held))[0],
        "previous": by.previous(now, held),
        # begun anew with a frame, it is 0 there: what the frame itself adds does not count
        "since": by.since(flag, np.where(flag, 0, now), held),
    }
    for name, one in found.items():
        assert one.tolist() == wanted[name].tolist(), name
    for name, kept in end.items():
        mine = held.copy()
        by.keep(mine, by.ends(found[name]))
        assert mine.tolist() == kept.tolist(), name


@pytest.mark.parametrize("lengths", [[1, 1, 1], [3, 3], [1, 3, 2]])
def test_its_ticks_visit_every_frame_once_and_those_of_an_asset_in_order(lengths):
    row = np.repeat(np.arange(len(lengths)), lengths)
    seen, place = [], np.arange(len(row))
    for which, now in ByAsset(row).ticks():
        assert row[now].tolist() == np.arange(len(lengths))[which].tolist()
        seen += place[now].tolist()
    assert sorted(seen) == place.tolist()
    for asset in range(len(lengths)):
        assert (theirs := [i for i in seen if row[i] == asset]) == sorted(theirs)


def test_what_is_held_is_a_copy_that_later_frames_do_not_change():
    held = np.zeros((2, 1))
    by = ByAsset(np.arange(2))
    before = by.held(held)
    by.keep(held, np.ones((2, 1)))
    assert before.tolist() == [[0], [0]]

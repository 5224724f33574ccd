"""What is kept of an asset, each moment once, as fine as it still is."""

import numpy as np
import pytest
from support.keeping import SECOND, START, scores

from monitor.core.plan import MILLISECOND
from monitor.core.records import Results, ScoreState
from monitor.history.rows import read
from monitor.state.database import Database
from monitor.state.rollups import Rollups, Width
from monitor.state.store import Store

HOUR = 3600
END = 1 << 62


@pytest.fixture
def database(tmp_path):
    with Database(tmp_path / "state") as opened:
        yield opened


def keep(database, *blocks):
    store = Store(database)
    for block in blocks:
        with database.atomic() as tx:
            store.write(tx, Results(scores=(block,)), done=store.done() + 1)


def age(database, *, frames=END, minutes=None):
    """Roll up what ends at ``frames`` or earlier, forget the minutes up to ``minutes``, in s."""
    rollups = Rollups(database)
    with database.atomic() as tx:
        rollups.step(tx, before=START + frames * SECOND if frames < END else END)
        if minutes is not None:
            rollups.forget(tx, Width.MINUTE, before=START + minutes * SECOND, limit=1000)


def rows(database, *, tick_ms=1000, since=None, until=None):
    given = {
        name: None if at is None else START + at * SECOND
        for name, at in (("since", since), ("until", until))
    }
    return read(database, 0, tick=tick_ms * MILLISECOND, **given)


def spans(found):
    """(resolution in s, first start, last end) of each stretch, in s after START."""
    told = []
    for resolution in dict.fromkeys(found.resolution.tolist()):
        mine = found.resolution == resolution
        first, last = found.start[mine][0], found.end[mine][-1]
        told.append((resolution // SECOND, (first - START) // SECOND, (last - START) // SECOND))
    return told


def test_each_moment_is_there_once_as_fine_as_it_is_kept(database):
    seconds = range(10, 4 * HOUR + 1, 10)
    keep(database, *(scores(seconds[n : n + 30]) for n in range(0, len(seconds), 30)))
    age(database, frames=3 * HOUR, minutes=HOUR)
    found = rows(database, tick_ms=10_000)
    assert spans(found) == [(3600, 0, HOUR), (60, HOUR, 3 * HOUR), (0, 3 * HOUR, 4 * HOUR)]
    assert (found.start[1:] == found.end[:-1]).all()
    assert found.states.sum() == len(seconds)
    assert np.isfinite(found.expected).all(axis=1).tolist() == (found.resolution == 0).tolist()


def test_a_minute_that_is_partly_rolled_up_reaches_to_where_the_frames_begin(database):
    keep(database, scores(range(1, 91)), scores(range(91, 200)))
    age(database, frames=90)
    found = rows(database)
    assert spans(found) == [(60, 0, 90), (0, 90, 199)]
    assert found.states.sum() == 199


@pytest.mark.parametrize("minutes", [None, 2 * HOUR])
def test_an_hour_in_which_frames_begin_is_drawn_up_to_there_if_its_minutes_are_gone(
    database, minutes
):
    keep(database, scores(range(1, 5400)), scores(range(5400, 5500)))
    age(database, frames=5399, minutes=minutes)
    found = rows(database)
    coarse = (60, 0, 5399) if minutes is None else (3600, 0, 5399)
    assert spans(found) == [coarse, (0, 5399, 5499)]
    assert found.states.sum() == 5499


def test_a_recording_that_began_within_an_hour_is_not_drawn_from_its_hour_as_well(database):
    keep(database, scores(range(1201, 5000)), scores([5000]))
    age(database, frames=4999)
    assert spans(rows(database)) == [(60, 1200, 4999), (0, 4999, 5000)]


@pytest.mark.parametrize("tick_s", [45, 90, 600, 2 * HOUR])
def test_frames_that_are_longer_than_a_row_leave_no_gaps(tick_s, database):
    seconds = range(tick_s, 20 * tick_s + 1, tick_s)
    keep(database, scores(seconds[:15]), scores(seconds[15:]))
    age(database, frames=seconds[14])
    found = rows(database, tick_ms=1000 * tick_s)
    assert (found.start[1:] <= found.end[:-1]).all()
    assert found.states.sum() == 20


def test_only_what_was_asked_for_is_there(database):
    keep(database, scores(range(1, 301)), scores(range(301, 601)))
    age(database, frames=300)
    found = rows(database, since=120, until=400)
    assert spans(found) == [(60, 120, 300), (0, 300, 400)]
    assert rows(database, since=700) is None, "not the hour, which has its minutes elsewhere"
    age(database)
    assert spans(rows(database, until=240)) == [(60, 0, 240)]


def test_values_and_scores_of_a_row_are_those_of_its_frames(database):
    state = [ScoreState.OK, ScoreState.OK, ScoreState.OFF, ScoreState.OFF, ScoreState.OFF]
    value = [1, 5, np.nan, np.nan, np.nan]
    keep(database, scores(range(1, 6), surprise=[1, 4, 9, 9, 9], state=state, value=value))
    age(database)
    found = rows(database)
    assert (found.surprise.tolist(), found.peak.tolist()) == ([2.5], [4])
    assert (found.low[0, 0], found.value[0, 0], found.high[0, 0]) == (1, 3, 5)
    assert found.counts.tolist() == [True]
    assert found.mostly(ScoreState.OFF).tolist() == [True]
    assert found.mostly(ScoreState.OK).tolist() == [False]
    assert found.mostly_missing().tolist() == [[True, True]]


def test_rows_of_other_channels_than_the_last_are_left_out(database):
    keep(database, scores([1], channels=("flow",)), scores([61]), scores([121]))
    age(database, frames=61)
    found = rows(database)
    assert found.channels == ("flow", "heat")
    assert spans(found) == [(60, 60, 120), (0, 120, 121)]

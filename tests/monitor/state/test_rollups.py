import logging
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.keeping import SECOND, START, scores

from monitor.core.records import Results, ScoreState
from monitor.state.losses import Losses
from monitor.state.rollups import Rollups, Width
from monitor.state.store import Store, rows_of

LONG_AFTER = START + 10**18


@pytest.fixture
def keep(database):
    """Stores blocks as results of one record after the other."""

    def keep(*blocks):
        for block in blocks:
            with database.atomic() as tx:
                done = Store(database).done() + 1
                Store(database).write(tx, Results(scores=(block,)), done=done)

    return keep


@pytest.fixture
def rollups(database):
    return Rollups(database)


def roll(rollups, *, before=LONG_AFTER, limit=1000):
    count = 0
    while True:
        with rollups.database.atomic() as tx:
            went = rollups.step(tx, before=before, limit=limit)
        if not went:
            return count
        count += went


def only(rollups, width, asset=0, **bounds):
    (found,) = rollups.read(width, asset, **bounds)
    return found


def test_a_minute_says_what_its_scores_said(keep, rollups):
    keep(
        scores(
            [10, 20, 30, 60],
            surprise=[1, 4, 99, 1],
            state=[ScoreState.OK, ScoreState.OK, ScoreState.WARMING, ScoreState.OK],
            value=[5, 7, np.nan, 6],
            coverage=[1, 0.5, 0.25, 1],
        )
    )
    roll(rollups)
    minute = only(rollups, Width.MINUTE)
    assert minute.bucket.tolist() == [START + 60 * SECOND]
    assert minute.states.tolist() == [[3, 1, 0, 0]]
    assert minute.surprise_mean.tolist() == [2.0]
    assert minute.surprise_max.tolist() == [4.0]
    assert minute.raw_max.tolist() == [8.0]
    assert minute.coverage_mean.tolist() == [0.6875]
    assert minute.coverage_min.tolist() == [0.25]
    assert minute.value_count.tolist() == [[3, 3]]
    assert minute.value_mean.tolist() == [[6.0, 6.0]]
    assert minute.value_min.tolist() == [[5.0, 5.0]]
    assert minute.value_max.tolist() == [[7.0, 7.0]]
    assert minute.blame_mean.tolist() == [[1.0, 0.0]]


def test_a_minute_ends_at_its_stamp(keep, rollups):
    keep(scores([0, 0.001, 60, 60.001]))
    roll(rollups)
    minutes = [
        (bucket - START) // SECOND
        for found in rollups.read(Width.MINUTE, 0)
        for bucket in found.bucket.tolist()
    ]
    assert minutes == [0, 60, 120]


def test_where_nothing_counts_there_is_no_mean(keep, rollups):
    keep(scores([1], state=ScoreState.BLIND, value=np.nan))
    roll(rollups)
    minute = only(rollups, Width.MINUTE)
    for column in (minute.surprise_mean, minute.surprise_max, minute.raw_max, minute.value_mean):
        assert np.isnan(column).all()
    assert minute.states.tolist() == [[0, 0, 1, 0]]


def test_hours_are_the_fold_of_their_minutes(keep, rollups):
    keep(scores(range(1, 7201, 7), surprise=np.arange(1029) % 13))
    roll(rollups)
    hours = only(rollups, Width.HOUR)
    assert ((hours.bucket - START) // SECOND).tolist() == [3600, 7200]
    minutes = list(rollups.read(Width.MINUTE, 0))
    assert [len(found.bucket) for found in minutes] == [60, 60]
    assert hours.surprise_sum.tolist() == [found.surprise_sum.sum() for found in minutes]
    assert hours.surprise_max.tolist() == [found.surprise_max.max() for found in minutes]
    assert hours.states.sum(axis=0).tolist() == [1029, 0, 0, 0]


def test_blocks_go_when_they_are_rolled_and_younger_ones_stay(keep, rollups, database):
    keep(scores([1, 2]), scores([100, 101]), scores([200]))
    assert roll(rollups, before=START + 101 * SECOND) == 2
    left = [block.tick.tolist() for block in Store(database).scores()]
    assert left == [[START + 200 * SECOND]]


def test_rolling_again_changes_nothing(keep, rollups):
    keep(scores([1, 2, 3]))
    assert roll(rollups) == 1
    before = only(rollups, Width.MINUTE)
    assert roll(rollups) == 0
    assert only(rollups, Width.MINUTE).states.tolist() == before.states.tolist()


def test_a_step_that_is_not_committed_takes_no_block(keep, rollups, database):
    keep(scores([1]))
    with pytest.raises(ZeroDivisionError), database.atomic() as tx:
        rollups.step(tx, before=rollups.step(tx, before=LONG_AFTER) // 0)
    assert list(rollups.read(Width.MINUTE, 0)) == []
    assert roll(rollups) == 1
    assert only(rollups, Width.MINUTE).states.tolist() == [[1, 0, 0, 0]]


@given(cuts=st.lists(st.integers(0, 300), max_size=6), limit=st.integers(1, 5))
@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_how_blocks_are_cut_and_stepped_does_not_matter(keep, rollups, database, cuts, limit):
    with database.atomic() as tx:
        for width in Width:
            rollups.forget(tx, width, before=LONG_AFTER, limit=1000)
    generator = np.random.default_rng(3)
    whole = scores(
        np.repeat(np.arange(1, 5000, 50), 3)[:300],
        asset=generator.integers(0, 2, 300),
        surprise=generator.integers(0, 9, 300),
        state=generator.integers(0, 4, 300),
    )
    edges = [0, *sorted(cuts), 300]
    at = np.arange(300)
    keep(*(rows_of(whole, (at >= a) & (at < b)) for a, b in pairwise(edges)))
    roll(rollups, limit=limit)
    for asset in (0, 1):
        mine = whole.asset == asset
        minutes = list(rollups.read(Width.MINUTE, asset))
        hours = list(rollups.read(Width.HOUR, asset))
        for found in (minutes, hours):
            states = sum(part.states.sum(axis=0) for part in found)
            assert states.tolist() == np.bincount(whole.state[mine], minlength=4).tolist()
            total = sum(part.surprise_sum.sum() for part in found)
            assert total == whole.surprise[mine & (whole.state == ScoreState.OK)].sum()
        buckets = np.concatenate([part.bucket for part in minutes])
        assert (np.diff(buckets) > 0).all()


def test_assets_kinds_and_changed_channels_stay_apart(keep, rollups):
    keep(
        scores([1, 1], asset=[0, 1]),
        scores([2], asset=0, channels=("flow", "speed")),
        scores([3], asset=2, kind="fan"),
    )
    roll(rollups)
    assert [found.channels for found in rollups.read(Width.HOUR, 0)] == [
        ("flow", "heat"),
        ("flow", "speed"),
    ]
    assert only(rollups, Width.HOUR, 1).states.tolist() == [[1, 0, 0, 0]]
    assert only(rollups, Width.HOUR, 2).kind == "fan"


def test_rows_are_found_by_time_and_forgotten_by_age(keep, rollups, database):
    keep(scores(range(30, 3 * 3600, 60)))
    roll(rollups)
    since, until = START + 3600 * SECOND, START + 3720 * SECOND
    found = only(rollups, Width.MINUTE, since=since, until=until)
    assert ((found.bucket - since) // SECOND).tolist() == [60, 120]
    with database.atomic() as tx:
        assert rollups.forget(tx, Width.MINUTE, before=since, limit=9) == 1
    assert [len(part.bucket) for part in rollups.read(Width.MINUTE, 0)] == [60, 60]
    assert sum(len(part.bucket) for part in rollups.read(Width.HOUR, 0)) == 3


def test_rows_are_forgotten_in_bounded_steps_the_oldest_first(keep, rollups, database):
    keep(scores(range(30, 5 * 3600, 600)))
    roll(rollups)
    for went in (2, 2, 1, 0):
        with database.atomic() as tx:
            assert rollups.forget(tx, Width.MINUTE, before=LONG_AFTER, limit=2) == went
        if went == 2:
            left = next(rollups.read(Width.MINUTE, 0)).bucket[0]
            assert left > START + went * 3600 * SECOND


def test_a_step_takes_no_more_bytes_than_it_may_but_one_block_at_least(keep, rollups, database):
    keep(*(scores([second]) for second in range(6)))
    ((size,),) = database.query("SELECT MAX(LENGTH(body)) FROM score_block")
    taken = []
    for limit_bytes in (2 * size, 1, 1 << 20, 1):
        with database.atomic() as tx:
            taken.append(rollups.step(tx, before=LONG_AFTER, limit_bytes=limit_bytes))
            assert rollups.waiting(tx, before=LONG_AFTER) == (sum(taken) < 6)
    assert taken == [2, 1, 3, 0]


def test_a_damaged_block_is_given_up_with_an_error_and_holds_back_no_other(
    keep, rollups, database, caplog
):
    keep(scores([1]), scores([2]))
    with database.atomic() as tx:
        tx.execute("UPDATE score_block SET body = zeroblob(9) WHERE id = 1")
    with caplog.at_level(logging.ERROR):
        assert roll(rollups) == 2
    assert "score block 1 of pump" in caplog.text
    assert only(rollups, Width.MINUTE).states.tolist() == [[1, 0, 0, 0]]
    assert Losses(database).damaged()["score_blocks"] == 1


def test_a_damaged_row_is_begun_anew_counted_and_holds_back_no_other(
    keep, rollups, database, caplog
):
    keep(scores([1]), scores([1], asset=1))
    roll(rollups)
    with database.atomic() as tx:
        tx.execute("UPDATE rollup SET body = zeroblob(9) WHERE asset = 0")
    keep(scores([2]), scores([2], asset=1))
    with caplog.at_level(logging.ERROR):
        roll(rollups)
    assert "rollup of asset 0" in caplog.text
    assert Losses(database).damaged()["rollup_rows"] == 2, "of minutes, and of hours"
    for asset, count in ((0, 1), (1, 2)):
        (found,) = rollups.read(Width.MINUTE, asset)
        assert found.states[:, 0].sum() == count

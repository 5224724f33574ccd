"""Episodes are the alarms that a live run raises over the same scores."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.batch import I64
from monitor.core.aggregate import Bool
from monitor.core.alarms import Alarms
from monitor.core.holding import Frames
from monitor.core.plan import SECOND, AlarmSettings, ChannelSettings, KindSettings
from monitor.core.records import Scores, ScoreState, Transition
from monitor.history.episodes import BLOCK, Trace, count, episodes, held

START = 1_700_000_000 * SECOND
GAP = 90  # ticks


def trace(*surprise, counts=None, tick=None, asset="a"):
    n = len(surprise)
    ticks = np.arange(n) if tick is None else np.asarray(tick)
    return Trace(
        asset,
        START + ticks.astype(np.int64) * SECOND,
        np.array(surprise, np.float32),
        np.ones(n, np.bool_) if counts is None else np.asarray(counts, np.bool_),
        SECOND,
    )


def live(tick: I64, fresh: Bool, surprise, state, coverage, *, asset, threshold, alarm, chunks):
    """(raised, returned or None) of each alarm of a live step over the same, chunk by chunk."""
    channels = {"x": ChannelSettings()}
    kind = KindSettings(channels=channels, alarm=alarm)
    alarms = Alarms(kind, ("a0", "a1"), site="works", threshold=threshold)
    found: dict[tuple[str, int], int | None] = {}
    count = len(tick)
    one = np.zeros((count, 1))
    for rows in np.split(np.arange(count), chunks):
        frames = Frames(
            asset=asset[rows],
            tick=tick[rows],
            value=one[rows],
            age=one[rows].astype(np.float32),
            valid=np.ones((len(rows), 1), np.bool_),
            forced=np.zeros((len(rows), 1), np.bool_),
            quality=np.zeros((len(rows), 1), np.uint8),
            fresh=fresh[rows],
        )
        blank = one[rows].astype(np.float32)
        scores = Scores(
            kind="k",
            channels=("x",),
            asset=asset[rows].astype(np.int32),
            tick=tick[rows],
            raw=blank[:, 0],
            surprise=surprise[rows],
            blame=blank,
            coverage=coverage[rows],
            state=state[rows],
            value=blank,
            expected=blank,
            spread=blank,
        )
        for event in alarms.step(frames, scores):
            is_raise = event.transition is Transition.RAISED
            found[event.asset, event.raised] = None if is_raise else event.tick
    return sorted((*key, end or 0) for key, end in found.items())


@given(
    seed=st.integers(0, 10_000),
    on_delay_s=st.integers(0, 8),
    off_delay_s=st.integers(0, 8),
    clear_ratio=st.sampled_from([0.5, 0.8, 1.0]),
    return_ratio=st.sampled_from([0.0, 0.1, 0.4]),
    threshold=st.sampled_from([0.5, 1.5, 2.5]),
)
def test_episodes_are_the_alarms_of_a_live_run_over_the_same_scores(
    *, seed, on_delay_s, off_delay_s, clear_ratio, return_ratio, threshold
):
    chance = np.random.default_rng(seed)
    alarm = AlarmSettings(
        on_delay_s=on_delay_s,
        off_delay_s=off_delay_s,
        clear_ratio=clear_ratio,
        return_ratio=return_ratio,
    )
    parts, expected = [], []
    for number in range(2):
        n = int(chance.integers(3 * BLOCK, 6 * BLOCK))
        fresh = chance.random(n) < 0.02
        fresh[0] = True
        tick = START + np.cumsum(np.where(fresh, GAP, 1)) * SECOND
        surprise = np.repeat(chance.exponential(1.0, n), chance.integers(1, 6, n))[:n]
        state = chance.choice(np.array(ScoreState, np.uint8), n, p=[0.85, 0.05, 0.05, 0.05])
        coverage = chance.choice(np.float32([0.3, 0.5, 1.0]), n, p=[0.05, 0.05, 0.9])
        of = surprise.astype(np.float32)
        counts = (state == ScoreState.OK) & (coverage >= alarm.min_coverage)
        own = Trace(f"a{number}", tick, of, counts, SECOND)
        expected += [
            (episode.asset, episode.raised, episode.returned or 0)
            for episode in episodes(own, alarm, threshold)
        ]
        parts.append((tick, fresh, of, state, coverage, np.full(n, number)))
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    order = np.argsort(columns[0], kind="stable")  # both machines' frames come together
    tick, fresh, surprise, state, coverage, asset = (column[order] for column in columns)
    chunks = np.sort(chance.integers(0, len(tick), 5))
    assert sorted(expected) == live(
        tick,
        fresh,
        surprise,
        state,
        coverage,
        asset=asset,
        threshold=threshold,
        alarm=alarm,
        chunks=chunks,
    )


def test_an_episode_says_when_how_high_and_whether_it_still_stands():
    alarm = AlarmSettings(on_delay_s=1, off_delay_s=1)
    first, second = episodes(trace(0, 5, 6, 9, 0, 0, 0, 5, 7), alarm, 4.0)
    assert first.raised == START + 2 * SECOND
    assert first.returned == START + 5 * SECOND
    assert first.peak == 9.0
    assert first.rows == slice(1, 6), "from where its timer began"
    assert (second.raised, second.returned) == (START + 8 * SECOND, None)
    assert count([trace(0, 5, 6, 9, 0, 0, 0, 5, 7)], alarm, 4.0) == 2


def test_rest_in_a_quiet_block_ends_what_a_fault_left_behind():
    alarm = AlarmSettings(return_ratio=0.5)
    fault = [0.0] * (BLOCK - 4) + [20.0, 20.0, 6.0, 6.0]  # it returns below 10, not at rest
    assert count([trace(*fault, *[0.0] * BLOCK, 6.0)], alarm, 4.0) == 2
    assert count([trace(*fault, *[3.9] * BLOCK, 6.0)], alarm, 4.0) == 1, "it is in its trace"


def test_what_does_not_count_is_no_peak():
    (episode,) = episodes(trace(5, 99, 6, counts=[1, 0, 1]), AlarmSettings(), 4.0)
    assert episode.peak == 6.0


def test_a_quiet_trace_and_an_empty_one_have_no_episode():
    assert episodes(trace(*[0.0] * 5 * BLOCK), AlarmSettings(), 4.0) == []
    assert episodes(trace(), AlarmSettings(), 4.0) == []


@pytest.mark.parametrize("on_delay_s", [0, 1, 3])
def test_the_level_held_is_the_highest_threshold_at_which_an_episode_is_raised(on_delay_s):
    chance = np.random.default_rng(on_delay_s)
    alarm = AlarmSettings(on_delay_s=on_delay_s, off_delay_s=2)
    of = trace(*chance.exponential(1.0, 400).repeat(3))
    found = episodes(of, alarm, 1.0)
    levels = [held(of, alarm, episode) for episode in found]
    assert len(levels) > 10
    worst = max(levels)
    assert count([of], alarm, worst) > 0
    assert count([of], alarm, float(np.nextafter(np.float32(worst), np.float32(np.inf)))) == 0
    assert all(episode.peak >= level >= 1.0 for episode, level in zip(found, levels, strict=True))

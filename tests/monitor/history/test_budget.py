"""The threshold of an alarm budget: counted, fitted or provisional."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter
from scipy.stats import norm, poisson
from support.machines import CHANNELS, QUICK, fleet, healthy, stretch

from models.calibration import Calibration
from models.settings import EwmaSettings
from models.tail import Tail
from models.threshold import Support
from models.training import HeldOut, train
from monitor.core.plan import SECOND, AlarmSettings
from monitor.history.budget import (
    bound,
    choose_threshold,
    own_scores,
    support_of,
    threshold_for,
    traces_of,
    wanted_days,
)
from monitor.history.episodes import Trace, count

START = 1_700_000_000 * SECOND
DELAYED = AlarmSettings(on_delay_s=20, off_delay_s=30)


def held_out(*surprise, asset="a", warming=(), coverage=None, start=0):
    count = len(surprise)
    marks = np.zeros(count, np.bool_)
    marks[list(warming)] = True
    return HeldOut(
        asset=asset,
        tick=START + (start + np.arange(count, dtype=np.int64)) * SECOND,
        surprise=np.array(surprise, np.float32),
        coverage=np.ones(count, np.float32) if coverage is None else np.float32(coverage),
        warming=marks,
    )


def supported(*stretches, alarm=None, **settings):
    alarm = alarm or AlarmSettings(**settings)
    return support_of(traces_of(stretches, alarm, tick_ms=1000), alarm, per_asset_30_days=1.0)


def worst(*stretches, **alarm):
    """The level that the worst episode held: no higher one was raised."""
    return supported(*stretches, **alarm).counted[0][0]


def test_nothing_is_raised_just_above_the_worst_healthy_score():
    found = supported(held_out(1.0, 3.5, 2.0), held_out(0.5, 1.5, asset="b"))
    assert found.counted[0] == (pytest.approx(3.5), 0)
    assert found.counted[0][0] > 3.5
    assert found.healthy_days * 86_400 == pytest.approx(5.0)
    assert found.assets == 2


def test_a_spike_shorter_than_the_on_delay_does_not_count():
    assert worst(held_out(1.0, 9.0, 1.0, 2.0, 2.0, 2.0, 1.0), on_delay_s=2.0) == pytest.approx(2.0)


def test_an_episode_counts_with_the_level_it_held_for_the_on_delay():
    assert worst(held_out(1.0, 5.0, 4.0, 6.0, 1.0), on_delay_s=2.0) == pytest.approx(4.0)


def test_an_episode_goes_on_in_the_next_stretch_of_its_machine_as_live():
    first, second = held_out(1.0, 5.0, 5.0), held_out(5.0, 5.0, 1.0, start=90)
    assert worst(first, second, on_delay_s=2.0) == pytest.approx(5.0)
    assert worst(second, first, on_delay_s=2.0) == pytest.approx(5.0), "in whatever order"
    other = held_out(5.0, 5.0, 1.0, start=90, asset="b")
    assert worst(first, other, on_delay_s=2.0) == pytest.approx(1.0)


def test_the_time_of_a_gap_does_not_count():
    first, second = held_out(1.0, 5.0, 5.0), held_out(5.0, 1.0, 1.0, start=90)
    assert worst(first, second, on_delay_s=2.0) == pytest.approx(1.0)


def test_frames_with_nothing_valid_pause_an_episode_however_little_coverage_is_asked_for():
    paused = held_out(1.0, 5.0, 5.0, 0.0, 5.0, 5.0, coverage=[1, 1, 1, 0, 1, 1])
    assert worst(paused, on_delay_s=2.0, min_coverage=0.0) == pytest.approx(5.0)


def test_what_is_warming_or_seen_too_little_is_no_evidence():
    warming = held_out(9.0, 9.0, 2.0, warming=(0, 1))
    blind = held_out(8.0, 2.0, 2.0, 0.0, coverage=[0.4, 1.0, 1.0, 0.0], asset="b")
    found = supported(warming, blind, min_coverage=0.5)
    assert found.counted[0] == (pytest.approx(2.0), 0)
    assert found.healthy_days * 86_400 == pytest.approx(4.0 - 1.0)


@pytest.mark.parametrize("seed", range(20))
def test_it_is_the_least_level_above_which_no_alarm_is_raised(seed):
    chance = np.random.default_rng(seed)
    random = held_out(*chance.exponential(1.0, 200).round(1))
    delay = int(chance.integers(0, 5))
    surprise = random.surprise
    sustained = [surprise[n : n + delay + 1].min() for n in range(200 - delay)]
    assert worst(random, on_delay_s=delay) == pytest.approx(max(sustained))


def test_a_models_own_scores_are_those_of_its_steps_stretch_by_stretch():
    bundle = train(fleet(150), CHANNELS, EwmaSettings(spans=(1, 4), warmup_ticks=5), QUICK).bundle
    seen = np.ones((90, len(CHANNELS)), np.bool_)
    seen[40] = seen[50, 0] = False
    runs = [
        stretch(healthy(70, 7), asset="b"),
        stretch(healthy(90, 8), asset="a", valid=seen),
        stretch(healthy(20, 9), asset="a", start=500),
    ]
    found = {(one.asset, int(one.tick[0])): one for one in own_scores(bundle, runs)}
    assert len(found) == 3
    for run in runs:
        one, state = found[run.asset, int(run.tick[0])], bundle.initial(1)
        for t in range(len(run)):
            judged, state = bundle.step(run.value[t : t + 1], run.valid[t : t + 1], state)
            sees = run.valid[t].any()
            assert one.surprise[t] == (judged.surprise[0] if sees else 0)
            assert one.warming[t] == (t < bundle.warmup_ticks)
            assert one.coverage[t] == run.valid[t].mean().astype(np.float32)


@pytest.mark.parametrize(("worst_own", "by_itself"), [(2.0, False), (3.2, False), (3.4, True)])
def test_a_model_that_finds_clearly_more_than_its_cross_fit_is_judged_by_itself(
    worst_own, by_itself
):
    of, threshold = choose_threshold(
        [held_out(1.0, 3.0, 1.0)],
        [held_out(1.0, worst_own, 1.0)],
        AlarmSettings(),
        tick_ms=1000,
        per_asset_30_days=1.0,
    )
    assert of.own is by_itself
    assert threshold.value == pytest.approx(1.0 + (worst_own if by_itself else 3.0))


# ---- rules --------------------------------------------------------------------------------------


def support(counted, *, days, tail=None):
    return Support(
        healthy_days=days, assets=1, alarm={}, counted=counted, tail=tail, per_asset_30_days=1.0
    )


COUNTED = ((5.0, 0), (4.0, 1), (3.0, 4), (2.0, 3), (1.0, 40))


def test_three_alarms_allowed_and_none_seen_is_enough_history():
    assert bound(0) == pytest.approx(3.0, abs=0.005)
    days = wanted_days(1.0)
    found = threshold_for(support(COUNTED, days=days), 1.0)
    assert (found.value, found.provisional) == (5.0, False)
    short = threshold_for(support(COUNTED, days=days - 0.1), 1.0)
    assert (short.value, short.provisional) == (6.0, True), "no tail: one decade beyond"


def test_as_many_alarms_are_let_through_as_the_bound_of_their_number_allows():
    days = 30 * bound(1)
    assert threshold_for(support(COUNTED, days=days * 0.999), 1.0).value == 5.0
    assert threshold_for(support(COUNTED, days=days * 1.001), 1.0).value == 4.0


def test_a_lower_threshold_with_fewer_alarms_is_not_taken_past_one_with_more():
    days = 30 * bound(3) * 1.001
    assert threshold_for(support(COUNTED, days=days), 1.0).value == 4.0


def test_a_history_without_an_episode_gives_no_threshold_of_nothing():
    found = supported(held_out(*[0.0] * 50))
    assert found.counted == ((0.1, 0),)
    assert threshold_for(found, 1.0).value == pytest.approx(1.1)
    assert threshold_for(found, 1e9).value == 0.1


@given(
    counts=st.lists(st.integers(0, 200), min_size=1, max_size=12),
    days=st.floats(0.001, 10_000),
    peaks=st.none() | st.lists(st.floats(0.01, 3.0), min_size=30, max_size=40),
    budgets=st.lists(st.floats(0.001, 1000), min_size=2, max_size=6),
)
@settings(deadline=None, max_examples=40)
def test_a_smaller_budget_never_has_a_lower_threshold_nor_a_surer_one(counts, days, peaks, budgets):
    levels = [(6.0 - 0.4 * n, alarms) for n, alarms in enumerate([0, *counts])]
    tail = None if peaks is None else Tail.fit(2.0 + np.array(peaks), 2.0)
    of = support(levels, days=days, tail=tail)
    found = [threshold_for(of, budget) for budget in sorted(budgets)]
    values = [one.value for one in found]
    assert values == sorted(values, reverse=True)
    marks = [one.provisional for one in found]
    assert marks == sorted(marks, reverse=True)


def of_machines(scales, *, hours=40, seed=0):
    """The support by machines with exponential scores, each with a scale of its own."""
    chance = np.random.default_rng(seed)
    return supported(
        *(
            held_out(*(scale * chance.exponential(1.0, hours * 3600)), asset=f"m{number}")
            for number, scale in enumerate(scales)
        )
    )


def test_machines_that_are_not_alike_raise_the_threshold_and_alike_ones_hardly_do():
    alike, unlike = of_machines([1.0, 1.0, 1.0]), of_machines([0.8, 1.0, 1.25])
    assert alike.unlike < 0.1
    # Student's bound with two degrees of freedom of logarithms 0.22 apart, within what is chance
    assert unlike.unlike == pytest.approx(2.92 * 0.223 / 3**0.5, rel=0.3)
    without = unlike.model_copy(update={"unlike": 0.0})
    for budget in (1.0, 100.0, 10_000.0):  # provisional, and counted
        raised, plain = threshold_for(unlike, budget), threshold_for(without, budget)
        assert raised.value == pytest.approx(plain.value * np.exp(unlike.unlike))
        assert raised.provisional is plain.provisional


def test_more_machines_tell_more_of_others_and_one_machine_nothing():
    few, many = of_machines([0.8, 1.25]), of_machines([0.8, 1.25] * 5, hours=10)
    assert few.unlike > 3 * many.unlike > 0
    assert of_machines([1.0]).unlike == 0


def test_a_machine_with_hardly_an_episode_is_compared_with_nobody():
    assert supported(held_out(*np.arange(1.0, 400.0)), held_out(2.0, asset="b")).unlike == 0


def test_a_fit_is_never_below_what_was_counted_and_needs_one_alarm_allowed():
    low = Tail.fit(1.0 + np.random.default_rng(0).exponential(0.2, 100), 1.0)
    of = support(COUNTED, days=30 * 2.0, tail=low)
    assert threshold_for(of, 1.0) == threshold_for(of, 0.51)
    assert (threshold_for(of, 1.0).value, threshold_for(of, 1.0).provisional) == (5.0, False)
    assert threshold_for(of, 0.49).provisional
    high = Tail.fit(4.0 + np.random.default_rng(0).exponential(0.5, 100), 4.0)
    of = support(COUNTED, days=30 * 2.0, tail=high)
    fitted = threshold_for(of, 1.0)
    assert fitted.value == high.upper(0.02, 0.95) > high.level(0.02)
    assert not fitted.provisional


def test_no_fit_speaks_further_than_ten_such_histories():
    tail = Tail.fit(4.0 + np.random.default_rng(0).exponential(0.5, 100), 4.0)
    of = support(COUNTED, days=3.0, tail=tail)
    assert threshold_for(of, 1.0) == threshold_for(of, 0.001)
    assert threshold_for(of, 1.0).provisional


def test_a_tail_that_does_not_fit_is_not_used():
    lumps = Tail.fit(4.0 + np.repeat([0.001, 2.0], 50), 4.0)
    assert lumps.misfit < 0.05
    assert threshold_for(support(COUNTED, days=60.0, tail=lumps), 1.0).value == 6.0


# ---- on data that nobody has seen ----------------------------------------------------------------


def exponential(chance, ticks):
    """Scores of a machine, a minute apart, that follow each other."""
    noise = chance.standard_normal(ticks) * np.sqrt(1 - 0.7**2)
    return -norm.logsf(lfilter([1.0], [1.0, -0.7], noise))


def heavy(chance, ticks):
    return np.exp(0.4 * exponential(chance, ticks))


def realised(draw, *, allowed, seed, fresh_days):
    """The threshold from a history that the budget allows so many alarms in; what it raises."""
    chance = np.random.default_rng(seed)
    budget, machines = 40.0, 3
    days = allowed / budget * 30 / machines
    history = [draw(chance, round(days * 1440)) for _ in range(machines)]
    calibration = Calibration.fit(np.concatenate(history))

    def watched(raw):
        tick = np.arange(len(raw), dtype=np.int64) * 60 * SECOND
        return Trace("m", tick, calibration.apply(raw), np.ones(len(raw), np.bool_), 60 * SECOND)

    alarm = AlarmSettings(on_delay_s=120, off_delay_s=300)
    of = support_of([watched(raw) for raw in history], alarm, per_asset_30_days=budget)
    chosen = threshold_for(of, budget)
    fresh = [watched(draw(chance, fresh_days * 1440)) for _ in range(machines)]
    return chosen, count(fresh, alarm, chosen.value)


@pytest.mark.parametrize("draw", [exponential, heavy])
def test_fresh_machines_keep_to_the_budget_that_a_short_history_was_counted_for(draw):
    expected = 40.0 / 30 * 3 * 10
    runs = [realised(draw, allowed=5.0, seed=seed, fresh_days=10) for seed in range(5)]
    assert not any(chosen.provisional for chosen, _ in runs)
    assert sum(alarms <= poisson.ppf(0.95, expected) for _, alarms in runs) >= 4


@pytest.mark.parametrize("draw", [exponential, heavy])
def test_fresh_machines_use_their_budget_where_the_history_is_long(draw):
    expected = 40.0 / 30 * 3 * 3
    low, high = poisson.ppf([0.025, 0.975], expected)
    runs = [realised(draw, allowed=50.0, seed=seed, fresh_days=3) for seed in range(4)]
    assert sum(low <= alarms <= high for _, alarms in runs) >= 3, [n for _, n in runs]


def test_a_history_that_is_too_short_says_so():
    chosen, _ = realised(exponential, allowed=0.5, seed=0, fresh_days=1)
    assert chosen.provisional

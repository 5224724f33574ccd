"""The simulated machines: determined by the seed, physical, and labelled truly."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.site.simulate.chance import key, normal
from monitor.site.simulate.conditions import LONGEST_LAG_S, Conditions
from monitor.site.simulate.faults import DAY_MS, FAULTS, HOUR_MS, Family, Fault
from monitor.site.simulate.machines import KINDS
from monitor.site.simulate.machines.tank import AREA, HEIGHT
from monitor.site.simulate.unit import BLOCK_MS, STEP_MS, Unit

BEGIN = 20_454 * DAY_MS  # 2026-01-01
MINUTE_MS = 60_000
SLOW = "m365"  # a motor of seed 1 whose winding is slow
PROCESS = [(kind, fault) for kind, one in KINDS.items() for fault in one.faults]
INSTRUMENT = [name for name, kind in FAULTS.items() if kind.family is Family.INSTRUMENT]


def every(period_ms, days=1.0, begin=BEGIN):
    return np.arange(begin, begin + round(days * DAY_MS), period_ms)


def fault(name, *, at_h=6, lasts_h=12, **given):
    onset = BEGIN + round(at_h * HOUR_MS)
    return Fault(name=name, onset_ms=onset, end_ms=onset + round(lasts_h * HOUR_MS), **given)


@settings(deadline=None, max_examples=12)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    changes_only=st.booleans(),
    cuts=st.lists(st.integers(1, 2879), max_size=4, unique=True),
)
def test_stretches_of_any_length_give_the_same_numbers(kind, changes_only, cuts):
    what = {"seed": 7, "period_ms": MINUTE_MS, "changes_only": changes_only}
    times = every(MINUTE_MS, days=2)
    whole = Unit(kind, "a", **what).values(times)
    pieces = [Unit(kind, "a", **what).values(part) for part in np.split(times, sorted(cuts))]
    assert np.array_equal(np.concatenate(pieces), whole, equal_nan=True)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_shows_the_same_and_another_seed_name_or_period_its_own(kind):
    times = every(MINUTE_MS)
    shown = Unit(kind, "a", seed=1).values(times)
    assert np.array_equal(shown, Unit(kind, "a", seed=1).values(times))
    assert np.array_equal(shown, Unit(kind, "a", seed=1, period_ms=MINUTE_MS).values(times))
    for other in (Unit(kind, "a", seed=2), Unit(kind, "b", seed=1)):
        assert (np.abs(shown - other.values(times)).mean(0) > 0.1 * shown.std(0)).all()


@settings(deadline=None, max_examples=8)
@given(kind=st.sampled_from(sorted(KINDS)), name=st.text(max_size=8), seed=st.integers(0, 2**40))
def test_a_machine_may_have_any_name(kind, name, seed):
    assert np.isfinite(Unit(kind, name, seed=seed).truth(every(HOUR_MS))).all()


@pytest.mark.parametrize(("kind", "lag"), [("motor", "winding"), ("tank", "contents")])
def test_the_slowest_of_many_machines_forgets_its_start_within_half_a_day(kind, lag):
    """What is drawn for each name has an end: here are names that come near it."""
    draws = {
        name: float(normal(key(3, f"{kind}/{name}", lag), 0)[0])
        for name in (f"M{number}" for number in range(5_000))
    }
    slowest = max(draws, key=draws.__getitem__)
    assert draws[slowest] > 2.8
    assert np.isfinite(Unit(kind, slowest, seed=3).truth(every(HOUR_MS))).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_day_goes_on_where_the_one_before_ended(kind):
    """Each day is worked out from half a day before it: by midnight that is forgotten."""
    unit = Unit(kind, "a", seed=3)
    midnights = BEGIN + np.arange(1, 30) * DAY_MS
    before = 2 * unit.truth(midnights - STEP_MS // 2) - unit.truth(midnights - STEP_MS)
    shown = np.array([1 / one.per_unit for one in unit.kind.instruments.values()])
    assert (np.abs(before - unit.truth(midnights)) < 0.1 * shown).all()


@pytest.mark.parametrize("leak", [False, True])
def test_what_flows_into_a_tank_is_what_flows_out_and_what_stays(leak):
    faults = [fault("leak")] if leak else []
    unit = Unit("tank", "a", seed=5, faults=faults)
    times = every(STEP_MS)
    inflow, outflow, level = unit.truth(times)[:, :3].T
    stays = np.diff(level) / 100 * HEIGHT * AREA  # m3 a step
    lost = (inflow - outflow)[:-1] * STEP_MS / HOUR_MS - stays
    if not leak:
        assert np.abs(lost).max() < 1e-9
    else:
        expected = 2.5 * faults[0].at(times)[:-1] * STEP_MS / HOUR_MS
        assert np.abs(lost - expected).max() < 1e-9
        assert lost.sum() == pytest.approx(2.5 * 12, rel=0.05)


def test_a_machine_that_is_slow_by_its_spread_is_no_slower_than_a_day_forgets():
    slow = Conditions(1, f"motor/{SLOW}", first_day=20_454, days=1)
    assert slow.of("winding", 2400.0, 0.05) > LONGEST_LAG_S
    both = Unit("motor", SLOW, seed=1).truth(every(MINUTE_MS, 2.0))
    second = Unit("motor", SLOW, seed=1).truth(every(MINUTE_MS, 1.0, BEGIN + DAY_MS))
    np.testing.assert_array_equal(both[1440:], second)


def test_a_pump_obeys_the_affinity_laws_and_its_heads_meet():
    """At rest at two speeds: shut-off head with the square of the speed, and flow below it."""
    speed, flow, suction, discharge, current, _, _ = (
        Unit("pump", "a", seed=5).truth(every(STEP_MS)).T
    )
    runs = speed > 2000
    n = speed[runs] / 2950
    head = (discharge - suction)[runs] / 0.0981
    shut_off, curve = np.linalg.lstsq(
        np.stack([n**2, -(flow[runs] ** 2)], axis=1), head, rcond=None
    )[0]
    assert shut_off == pytest.approx(60, rel=0.1)
    assert curve == pytest.approx(15 / 100**2, rel=0.1)
    assert np.abs(shut_off * n**2 - curve * flow[runs] ** 2 - head).max() < 1e-6 * 60
    assert np.corrcoef(current[runs], flow[runs] * head)[0, 1] > 0.99


def test_a_machine_that_stands_still_shows_it_and_cools_down():
    unit = Unit("pump", "a", seed=1)
    times = every(MINUTE_MS, days=20)
    speed, flow, *_, current, temperature, vibration = unit.truth(times).T
    stands = np.flatnonzero(speed == 0)
    assert 0.002 < len(stands) / len(times) < 0.1
    assert flow[stands].max() == 0
    assert current[stands].max() == 0
    assert vibration[stands].max() < 0.1 * np.median(vibration)
    assert temperature[stands].min() < np.median(temperature) - 10


@pytest.mark.parametrize(("kind", "name"), PROCESS)
def test_a_fault_of_the_process_begins_at_its_onset_shows_where_its_label_says_and_ends(kind, name):
    days = 1 if name not in ("drift", "bearing_wear") else 3
    wrong = fault(name, at_h=6, lasts_h=14 * days)
    healthy, faulty = Unit(kind, "a", seed=11), Unit(kind, "a", seed=11, faults=[wrong])
    times = every(MINUTE_MS, days=days + 1)
    moved = np.abs(faulty.truth(times) - healthy.truth(times))
    assert moved[times < wrong.onset_ms].max() == 0
    during = (times >= wrong.onset_ms) & (times < (wrong.trip_ms or wrong.end_ms))
    noise = np.array([one.noise + 1 / one.per_unit for one in healthy.kind.instruments.values()])
    noise += healthy.truth(times).mean(0) * [i.share for i in healthy.kind.instruments.values()]
    seen = dict(zip(healthy.kind.instruments, moved[during].max(0) / noise, strict=True))
    for channel in healthy.channels_of(wrong):
        assert seen[channel] > 3, f"{channel}: moved by {seen[channel]:.1f} of its noise"


def test_a_fault_that_trips_its_machine_stops_it_until_it_is_repaired():
    wrong = fault("trip", at_h=6, lasts_h=8)
    unit = Unit("motor", "a", seed=11, faults=[wrong])
    assert wrong.trip_ms == BEGIN + 10 * HOUR_MS
    for at_h, stands in ((9.9, False), (10.1, True), (13.9, True), (14.1, False)):
        speed = unit.truth(np.array([BEGIN + round(at_h * HOUR_MS)]))[0, 1]
        assert (speed == 0) == stands


@pytest.mark.parametrize("name", INSTRUMENT)
def test_a_fault_of_an_instrument_changes_its_own_channel_within_its_time_and_nothing_else(name):
    wrong = fault(name, channel="discharge_pressure")
    healthy, faulty = Unit("pump", "a", seed=2), Unit("pump", "a", seed=2, faults=[wrong])
    times = every(MINUTE_MS)
    before, after = healthy.values(times), faulty.values(times)
    assert np.array_equal(faulty.truth(times), healthy.truth(times))
    there = (times >= wrong.onset_ms) & (times < wrong.end_ms)
    own = list(healthy.kind.instruments).index("discharge_pressure")
    same = (before == after) | (np.isnan(before) & np.isnan(after))
    assert same[:, np.arange(same.shape[1]) != own].all()
    assert same[~there].all()
    assert not same[there, own].all()
    shown = after[there, own]
    if name == "frozen":
        assert len(set(shown)) == 1
    elif name == "dropout":
        assert np.isnan(shown).all()
    elif name == "range_clamp":
        assert (shown == shown.max()).mean() > 0.2
    elif name == "noise_collapse":
        assert np.diff(shown).std() < np.diff(before[there, own]).std()
    elif name == "spike":
        assert 0.01 < (np.abs(shown - before[there, own]) > 1).mean() < 0.06


def test_only_changes_are_reported_and_what_is_left_out_was_within_the_dead_band():
    times = every(STEP_MS, days=0.25)
    all_of_it = Unit("tank", "a", seed=2).values(times)
    reported = Unit("tank", "a", seed=2, changes_only=True).values(times)
    came = np.isfinite(reported)
    assert 0.01 < came.mean() < 0.5
    assert np.array_equal(reported[came], all_of_it[came])
    assert came[times % BLOCK_MS == 0].all()
    kept = np.array([one.deadband for one in KINDS["tank"].instruments.values()])
    last = np.maximum.accumulate(np.where(came, np.arange(len(times))[:, None], 0))
    held = np.take_along_axis(all_of_it, last, axis=0)
    assert (np.abs(all_of_it - held) < kept + 1e-9).all()


@pytest.mark.parametrize(
    ("kind", "wrong", "said"),
    [
        ("tank", fault("cavitation"), "a: got the fault cavitation, want one that a tank can have"),
        ("tank", fault("frozen"), "got the channel None, want one of inflow"),
        ("tank", fault("frozen", channel="speed"), "got the channel speed"),
        ("pump", fault("leak", channel="flow"), "is a fault of the process and has no channel"),
    ],
)
def test_a_fault_that_a_machine_cannot_have_is_refused(kind, wrong, said):
    with pytest.raises(ValueError, match=said):
        Unit(kind, "a", seed=1, faults=[wrong])

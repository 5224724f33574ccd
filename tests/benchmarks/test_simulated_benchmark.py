"""The benchmark on the simulated plant still runs, and counts what it says it counts."""

import json

import numpy as np
import pytest
from support.benchmarks import script, start

from monitor.core.plan import AlarmSettings
from monitor.site.simulate.faults import DAY_MS, HOUR_MS, Fault
from monitor.site.simulate.unit import Unit

ONSET = 20_456 * DAY_MS
MS = 1_000_000


@pytest.fixture
def simulated(monkeypatch):
    """The script as a module."""
    return script("simulated", monkeypatch)


def trial(simulated, name, **given):
    fault = Fault(name=name, onset_ms=ONSET, end_ms=ONSET + 6 * HOUR_MS, **given)
    return simulated.Trial(Unit("pump", "a", seed=1, faults=[fault]), fault)


def event(simulated, at_h, *blame, alarm_class="process", point="surprise"):
    tick = int(ONSET + at_h * HOUR_MS) * MS
    return simulated.Event(tick, tick + HOUR_MS * MS, alarm_class, point, blame)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_quick_run_counts_false_alarms_faults_and_blame_of_every_model(tmp_path):
    kept = tmp_path / "simulated.json"
    words = ("--quick", "--kinds", "tank", "--models", "ewma", "pca", "--json", kept)
    start("simulated", *words)
    found = json.loads(kept.read_text(encoding="utf-8"))
    for figures in (found["metrics"], found["metrics_degraded"], *found["baselines"].values()):
        assert figures["healthy_asset_months"] == pytest.approx(2 * 3 / 30)
        assert (figures["process_faults"], figures["instrument_faults"]) == (5, 8)
        assert 0 <= figures["process_detected"] <= 1
    assert found["metrics"]["detected_unit_change"] == 1
    assert set(found["baselines"]) == {"pca", "rolling z-score"}


def test_an_alarm_counts_for_a_fault_from_its_onset_until_half_an_hour_after_its_end(simulated):
    leak = trial(simulated, "leak")
    for at_h, counts in ((-0.1, False), (0, True), (6.4, True), (6.6, False)):
        assert (simulated.first(leak, [event(simulated, at_h, "flow")]) is not None) == counts
    both = [event(simulated, 3, "flow"), event(simulated, 2, "speed")]
    assert simulated.delay_h(leak, both) == 2
    limit = event(simulated, 1, alarm_class="limit", point="flow high")
    assert simulated.first(leak, [limit]) is None


def test_blame_is_right_where_it_names_a_channel_of_the_label(simulated):
    leak = trial(simulated, "leak")
    told = [
        (leak, [event(simulated, 1, "flow", "speed")]),
        (leak, [event(simulated, 1, "speed", "flow")]),
        (leak, [event(simulated, 1, "speed", "current", "flow")]),
        (leak, []),
    ]
    found = simulated.of_family(simulated.Family.PROCESS, told)
    assert found["process_detected"] == 3 / 4
    assert found["process_blame_first"] == 1 / 3
    assert found["process_blame_first_two"] == 2 / 3


def test_beside_blame_stands_what_chance_and_the_rolling_z_score_would_have_named(simulated):
    leak = trial(simulated, "leak")  # 3 of 7 channels show it
    hit = event(simulated, 1, "flow", "speed")
    tick = np.array([hit.tick - HOUR_MS * MS, hit.tick])
    channels = tuple(leak.unit.kind.instruments)
    for largest, right in (("discharge_pressure", 1), ("speed", 0)):
        z = np.full((2, 7), 1.0)
        z[0, channels.index("flow")] = z[1, channels.index(largest)] = 9.0
        trace = simulated.Trace(tick, z, np.ones(2, np.bool_), channels)
        beside = simulated.beside_rolling({"a": [hit]}, {"a": trace})
        found = simulated.of_family(simulated.Family.PROCESS, [(leak, beside["a"])])
        assert found["process_blame_first_by_z"] == right
        assert found["process_blame_first"] == 1
        assert found["process_blame_first_by_chance"] == pytest.approx(3 / 7)
        assert found["process_blame_first_two_by_chance"] == pytest.approx(1 - 4 / 7 * 3 / 6)


def test_a_fault_of_an_instrument_is_called_one_by_an_alarm_of_that_class_on_its_channel(
    simulated,
):
    frozen = trial(simulated, "frozen", channel="flow")
    instrument = {"alarm_class": "instrument"}
    told = [
        (frozen, [event(simulated, 1, point="flow failure", **instrument)]),
        (frozen, [event(simulated, 1, point="speed failure", **instrument)]),
        (frozen, [event(simulated, 1, "flow")]),
        (frozen, []),
    ]
    found = simulated.of_family(simulated.Family.INSTRUMENT, told)
    assert found["instrument_detected"] == 3 / 4
    assert found["instrument_called_instrument"] == 1 / 4
    assert found["instrument_called_process_too"] == 1 / 4


def test_the_interval_of_a_count_is_garwoods(simulated):
    assert simulated.garwood(0) == pytest.approx((0, 3.689), abs=1e-3)
    assert simulated.garwood(10) == pytest.approx((4.795, 18.390), abs=1e-3)


def test_a_rolling_z_score_is_that_of_the_running_frames_of_the_day_before(simulated):
    rng = np.random.default_rng(0)
    value = rng.normal(5, 2, (3000, 2))
    counts = np.arange(3000) % 10 != 0
    z = simulated.rolling(value, counts)
    row = 2501
    past = value[:row][counts[:row]][-simulated.WINDOW :]
    assert z[row] == pytest.approx(np.abs(value[row] - past.mean(0)) / past.std(0), rel=1e-6)
    assert (z[~counts] == 0).all()
    assert (z[: simulated.LEAST_SEEN] == 0).all()


def test_an_alarm_of_the_rolling_z_score_waits_out_the_delays(simulated):
    z = np.zeros(100)
    z[10:13] = z[40:60] = 9.0
    tick = np.arange(100) * 60 * 1_000_000_000
    alarm = AlarmSettings(on_delay_s=300, off_delay_s=600)
    found = simulated.spells(tick, z, np.ones(100, np.bool_), alarm, 5.0)
    ((row, start, end),) = found
    assert (row, start) == (45, int(tick[45]))
    assert end == int(tick[70])

"""Instrument or process: what each way to fail looks like, and what is healthy all the same."""

import numpy as np
import pytest
from support.building import SECOND, START, kind

from connectors.batch import QUALITY_BAD, QUALITY_UNCERTAIN
from models.contract import Stretch
from models.instruments import health_of
from monitor.core.holding import Frames
from monitor.core.modes import RunState
from monitor.core.plan import ChannelSettings, SensorSettings
from monitor.core.sensors import Sensors, Verdict

CHANNELS = ("flow", "heat", "valve", "target")
FLOW, HEAT, VALVE, TARGET = range(4)
LENGTH = 2000


def machine(seed, length=LENGTH):
    """A noisy flow, a slow quantised heat, a valve that rests for minutes, a constant target."""
    random = np.random.default_rng(seed)
    load = np.sin(np.arange(length) * (2 * np.pi / 1500) + seed)
    noise = random.normal(size=(length, 2))
    flow = 20 + 3 * load + 0.5 * noise[:, 0]
    heat = np.round(60 + 5 * np.roll(load, 50) + 0.05 * noise[:, 1], 1)
    steps = np.cumsum(random.choice([0, 0, 0, 5, -5], size=length // 150 + 1))
    valve = 50 + np.repeat(steps, 150)[:length]
    return np.stack([flow, heat, valve, np.full(length, 42.0)], axis=1)


LEARNT = [
    Stretch(
        asset=f"a{seed}",
        tick=START + np.arange(LENGTH) * SECOND,
        value=machine(seed),
        valid=np.ones((LENGTH, 4), bool),
    )
    for seed in range(3)
]
HEALTH = dict(zip(CHANNELS, health_of(LEARNT), strict=True))


def frames(value, *, start=0, row=0, **columns):
    count = len(value)
    given = {
        "asset": np.full(count, row),
        "tick": START + (start + np.arange(count)) * SECOND,
        "value": value,
        "age": np.zeros(value.shape, np.float32),
        "valid": ~np.isnan(value),
        "forced": np.zeros(value.shape, bool),
        "quality": np.zeros(value.shape, np.uint8),
        "fresh": np.arange(count) + start == 0,
    }
    return Frames(**(given | columns))


def sensors(assets=1, health=HEALTH, **settings):
    seen = {name: ChannelSettings(sensor=settings.get(name, {})) for name in CHANNELS}
    return Sensors(kind(channels=seen), assets, health)


def judged(value, *, of=None, states=None, **columns):
    running = np.full(len(value), RunState.RUNNING, np.uint8) if states is None else states
    return (of or sensors()).judge(frames(value, **columns), running)


def said(found, channel):
    """The verdicts on a channel in the order they first came, without good."""
    seen = [Verdict(one).name.lower() for one in found.verdict[:, channel] if one]
    return list(dict.fromkeys(seen))


def since(found, channel):
    """The row of the first verdict on a channel."""
    return int(np.flatnonzero(found.verdict[:, channel])[0])


# ---- healthy ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10, 16))
def test_a_healthy_machine_of_every_sort_of_signal_gets_no_verdict_and_hides_nothing(seed):
    found = judged(machine(seed))
    assert not found.verdict.any()
    assert not found.hidden.any()


def test_what_rests_in_health_is_not_called_restless():
    assert [HEALTH[name].restless for name in CHANNELS] == [True, True, False, False]


def test_a_report_on_change_valve_that_rests_for_hours_is_not_frozen():
    value = machine(20)
    value[500:, VALVE] = value[500, VALVE]
    found = judged(value)
    assert said(found, VALVE) == []
    assert said(found, TARGET) == []


def test_a_set_point_that_jumps_further_than_ever_is_no_offset():
    value = machine(20)
    value[500:, TARGET] = 90.0
    found = judged(value)
    assert not found.hidden[:, TARGET].any()


def test_a_machine_that_is_off_freezes_no_sensor_and_loses_no_noise():
    value = machine(20)
    value[500:, :2] = value[500, :2]
    states = np.where(np.arange(LENGTH) < 500, RunState.RUNNING, RunState.OFF).astype(np.uint8)
    assert not judged(value, states=states).verdict.any()


def test_a_rest_of_everything_at_once_is_not_a_sensor_s():
    value = machine(20)
    value[500:] = value[500]
    assert not {"frozen", "clamped"} & set(said(judged(value), FLOW))


def test_what_the_source_does_not_say_anew_is_held_not_frozen():
    value = machine(20)
    value[500:560, FLOW] = value[500, FLOW]
    age = np.zeros(value.shape, np.float32)
    age[500:560, FLOW] = np.arange(60)
    assert said(judged(value, age=age), FLOW) == []


def test_a_step_that_other_channels_share_is_the_machine_s():
    value = machine(20)
    value[500:, FLOW] += 15
    value[502:, HEAT] += 10
    found = judged(value)
    assert said(found, FLOW) == said(found, HEAT) == []
    assert found.hidden[500:506].any()  # for as long as it may be a spike
    assert not found.hidden[506:].any()


def test_a_step_that_others_shared_may_be_taken_back_by_itself():
    value = machine(20)
    value[500:700, FLOW] += 15
    value[504:, HEAT] += 10
    found = judged(value)
    assert said(found, FLOW) == said(found, HEAT) == []
    assert not found.hidden[520:, FLOW].any()


# ---- instruments --------------------------------------------------------------------------------


def test_a_frozen_sensor_is_hidden_at_once_and_called_frozen_soon():
    value = machine(20)
    value[500:, FLOW] = value[500, FLOW]
    found = judged(value)
    assert said(found, FLOW) == ["frozen"]
    assert since(found, FLOW) < 530
    assert found.hidden[515:, FLOW].all()
    assert not found.hidden[:, HEAT].any()


def test_a_slow_quantised_sensor_is_given_as_much_longer_as_it_rests_in_health():
    value = machine(20)
    value[500:, HEAT] = value[500, HEAT]
    found = judged(value)
    assert said(found, HEAT) == ["frozen"]
    assert since(found, HEAT) > 500 + 2 * HEALTH["heat"].still


def test_a_sensor_that_rests_at_an_end_of_its_range_is_clamped():
    value = np.minimum(machine(20), [[22.0, 99, 99, 99]])
    found = judged(value, of=sensors(flow=SensorSettings(range=(0, 22))))
    assert "clamped" in said(found, FLOW)


def test_a_value_beyond_the_range_is_out_of_range_at_once_and_without_a_model():
    value = machine(20)
    value[500, FLOW] = 30.0
    found = judged(value, of=sensors(health={}, flow=SensorSettings(range=(0, 29))))
    assert found.verdict[:, FLOW].nonzero()[0].tolist() == [500]
    assert said(found, FLOW) == ["out_of_range"]
    assert found.hidden[500, FLOW]


def test_a_sensor_whose_noise_has_gone_is_quiet():
    value = machine(20)
    smooth = 20 + 3 * np.sin(np.arange(LENGTH) * (2 * np.pi / 1500))
    value[500:, FLOW] = smooth[500:]
    found = judged(value)
    assert said(found, FLOW) == ["quiet"]
    assert 500 < since(found, FLOW) < 700


def test_a_single_spike_is_hidden_and_nothing_is_said():
    value = machine(20)
    value[500:502, FLOW] += 30
    found = judged(value)
    assert said(found, FLOW) == []
    assert found.hidden[:, FLOW].nonzero()[0].tolist() == [500, 501]


def test_spikes_again_and_again_are_said_and_each_is_hidden_alone():
    value = machine(20)
    value[500:800:40, FLOW] += 30
    found = judged(value)
    assert said(found, FLOW) == ["spikes"]
    assert found.hidden[:, FLOW].nonzero()[0].tolist() == list(range(500, 800, 40))
    assert not found.verdict[-1].any()  # it is forgotten


def test_a_channel_that_jumps_alone_is_off_until_it_jumps_back():
    value = machine(20)
    value[500:900, FLOW] += 15
    found = judged(value)
    assert said(found, FLOW) == ["offset"]
    assert found.hidden[500:900, FLOW].all()
    assert not found.hidden[900:, FLOW].any()


def test_a_change_of_unit_that_nobody_announces_is_a_jump_alone():
    value = machine(20)
    value[500:, HEAT] = value[500:, HEAT] * 1.8 + 32
    assert said(judged(value), HEAT) == ["offset"]


@pytest.mark.parametrize(
    ("column", "says"),
    [
        ({"quality": QUALITY_UNCERTAIN}, "uncertain"),
        ({"forced": True}, "forced"),
        ({"quality": QUALITY_BAD, "valid": False}, "bad"),
        ({"valid": False}, "stale"),
    ],
)
def test_what_its_source_says_is_taken_over_with_or_without_a_model(column, says):
    value = machine(20, 100)
    columns = {}
    for name, what in column.items():
        columns[name] = np.zeros(value.shape, np.uint8 if name == "quality" else bool)
        columns[name] |= name == "valid"
        columns[name][50:, FLOW] = what
    found = judged(value, of=sensors(health={}), **columns)
    assert said(found, FLOW) == [says]
    assert since(found, FLOW) == 50


def test_what_never_came_is_not_stale():
    value = machine(20, 100)
    value[:, FLOW] = np.nan
    assert said(judged(value), FLOW) == []


@pytest.mark.parametrize(("ticks", "counts"), [(3, True), (4, False), (8, False)])
def test_a_jump_that_is_back_within_three_ticks_is_a_spike_and_a_longer_one_is_not(ticks, counts):
    value = machine(20)
    for start in range(500, 800, 40):
        value[start : start + ticks, FLOW] += 30
    found = judged(value)
    assert ("spikes" in said(found, FLOW)) == counts
    for start in range(500, 800, 40):
        assert found.hidden[start : start + ticks, FLOW].all()


def test_a_jump_that_lands_where_an_earlier_one_began_is_seen_all_the_same():
    value = machine(20)
    value[:, FLOW] += np.clip((np.arange(LENGTH) - 520) / 10, 0, 30)  # slowly to another level
    value[500, FLOW] += 30  # one spike, at the old one
    value[1200:, FLOW] -= 30
    found = judged(value)
    assert said(found, FLOW) == ["offset"]
    assert since(found, FLOW) < 1220


def test_the_way_back_is_the_machine_s_only_from_where_it_went():
    value = machine(20)
    value[500:, FLOW] += 15
    value[502:, HEAT] += 10  # the machine's
    value[:, FLOW] += np.clip((np.arange(LENGTH) - 600) / 10, 0, 25)
    value[1200:, FLOW] -= 40  # back where it began, from elsewhere and alone
    assert said(judged(value), FLOW) == ["offset"]


def test_a_unit_that_changed_is_said_until_somebody_has_looked():
    value, of = machine(20, 120), sensors(health={})
    which = np.zeros((1, 4), bool)
    which[0, HEAT] = True
    first = judged(value[:40], of=of)
    of.unit_changed(which)
    second = judged(value[40:80], of=of, start=40)
    of.unit_known(which)
    third = judged(value[80:], of=of, start=80)
    assert [said(found, HEAT) for found in (first, second, third)] == [[], ["unit"], []]
    assert second.hidden[:, HEAT].all()
    assert not second.hidden[:, FLOW].any()


# ---- settings -----------------------------------------------------------------------------------


def test_each_test_can_be_set_for_a_channel_or_switched_off():
    value = machine(20)
    value[500:, FLOW] = value[500, FLOW]
    value[700, HEAT] += 50
    off = SensorSettings(frozen_s="off", noise=False, jump=False)
    found = judged(value, of=sensors(flow=off, heat=off))
    assert not found.verdict.any()
    assert not found.hidden.any()


def test_a_valve_is_frozen_where_a_setting_says_so():
    value = machine(20)
    value[:, VALVE] = np.where(np.arange(LENGTH) < 500, 10, 20)
    found = judged(value, of=sensors(health={}, valve=SensorSettings(frozen_s=900)))
    assert said(found, VALVE) == ["frozen"]
    assert since(found, VALVE) == 1401


# ---- one tick at a time -------------------------------------------------------------------------


def failing():
    """Every failure in one stretch, one after the other."""
    value = machine(20)
    value[300:340, FLOW] = value[300, FLOW]
    value[500:800:40, FLOW] += 30
    value[1000:1400, FLOW] += 15
    value[1500:1510, HEAT] = np.nan
    value[2000:, HEAT] = np.round(value[2000:, HEAT])
    return value


@pytest.mark.parametrize("cut", [1, 305, 501, 1001, 1003, 1505])
def test_it_does_not_depend_on_how_the_frames_are_cut_nor_on_a_restart(cut):
    value, running = failing(), np.full(LENGTH, RunState.RUNNING, np.uint8)
    other = machine(21)
    both = Frames.join([frames(value), frames(other, row=1)])
    whole = sensors(2).judge(both, np.tile(running, 2))
    first, later = sensors(1), sensors(2)
    found = [first.judge(frames(value[:cut]), running[:cut])]
    later.restore(first.snapshot(), ([0], [0, 1, 2, 3]), ([1], [0, 1, 2, 3]))
    found.append(later.judge(frames(value[cut:], start=cut, row=1), running[cut:]))
    for name in ("verdict", "hidden", "faulty"):
        parts = [getattr(one, name) for one in found]
        assert np.array_equal(np.concatenate(parts), getattr(whole, name)[:LENGTH]), name

"""A sensor that was at fault, hidden and repaired: its machine is no stranger for it."""

import pytest
from support.building import BAD, SECOND, START, kind, plan, samples, stepped
from support.machines import CHANNELS, QUICK, healthy, stretch

from connectors.batch import Notice, NoticeKind
from models.bundle import Bundle
from models.settings import EwmaSettings
from models.training import train
from monitor.core.pipeline import Pipeline
from monitor.core.plan import AlarmSettings, ChannelSettings, SensorSettings
from monitor.core.records import AlarmClass, Transition

ENDED = Notice(source="s", kind=NoticeKind.ENDED)
LENGTH = 900
FAILS, CALLED, REPAIRED = 300, 330, 600  # s: reads too high; its source says so; it is right again


@pytest.fixture(scope="module", params=[1, 3])
def bundle(request) -> Bundle:
    settings = EwmaSettings(spans=(1, 4, 64), lags=request.param)
    runs = [stretch(healthy(3000, seed), asset=f"a{seed}") for seed in range(2)]
    return train(runs, CHANNELS, settings, QUICK).bundle


def process_alarms(bundle, fails=LENGTH, called=LENGTH, repaired=LENGTH):
    """When process alarms are raised of a healthy machine whose first sensor fails, in s."""
    value = healthy(LENGTH, 7)
    value[fails:repaired, 0] += 15.0
    points = [
        (tag, second, value[second, tag], BAD if tag == 0 and called <= second < repaired else 0)
        for second in range(1, LENGTH)
        for tag in range(4)
    ]
    silent = SensorSettings(frozen_s="off", noise=False, jump=False)
    of = kind(
        channels={one.name: ChannelSettings(sensor=silent, settle_s=5) for one in CHANNELS},
        alarm=AlarmSettings(threshold=5, on_delay_s=3),
    )
    results = stepped(Pipeline(plan(of), {"k": bundle}), samples(*points), ENDED)
    return [
        (one.tick - START) // SECOND
        for one in results.alarms
        if one.alarm_class is AlarmClass.PROCESS and one.transition is Transition.RAISED
    ]


def test_a_repaired_sensor_does_not_bring_its_fault_along(bundle):
    assert process_alarms(bundle) == []
    (raised,) = process_alarms(bundle, FAILS, CALLED, REPAIRED)
    assert FAILS <= raised < CALLED


@pytest.mark.parametrize("hidden", [1, 5, 20, 100, 400])
def test_a_healthy_sensor_that_was_hidden_is_strange_to_nobody(bundle, hidden):
    assert process_alarms(bundle, called=200, repaired=200 + hidden) == []

"""The ledger, and what is held against it: every sample that is missing is found, and no other."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.batch import BAD_NO_DATA, Notice, NoticeKind, Samples, Waveforms
from monitor.site.problems import PlantError
from monitor.site.simulate.compare import MILLISECOND, Sent, compare
from monitor.site.simulate.faults import Fault
from monitor.site.simulate.ledger import Ledger, What
from monitor.site.simulate.plan import Form, Simulation
from monitor.site.simulate.values import Values
from monitor.site.simulate.watcher import source_of

FLAT = Simulation.of(
    seed=7, assets=5, channels=3, periods_ms=[100], share_opcua=0.4, mqtt=("localhost", 1883)
)
BLOCKS = Simulation.of(
    seed=7, assets=2, channels=2, periods_ms=[100], form=Form.BLOCK, samples=8, mqtt=("h", 1)
)
FIRST = 10_000_000
MACHINES = Simulation.of(
    seed=7, assets=0, channels=0, periods_ms=[1000], share_opcua=0.5, mqtt=("h", 1),
    machines={"pump": 2}, changes_only=True, begin_ms=FIRST * 1000,
    faults=(("pump_2", Fault(name="dropout", onset_ms=0, end_ms=60_000, channel="flow")),),
)  # fmt: skip


def names_of(simulation):
    return {
        number: f"{asset}/{channel}"
        for number, (asset, channel) in enumerate(
            (asset, channel)
            for lane in simulation.lanes
            for asset in lane.asset_names
            for channel in lane.channel_names
        )
    }


def all_of(simulation, ticks):
    """Everything that was sent, acknowledged and received."""
    numbers = {name: number for number, name in names_of(simulation).items()}
    sent = Sent(
        simulation=simulation,
        ticks=tuple(np.array(ticks, np.int64) for _ in simulation.lanes),
        acknowledged=tuple(
            np.ones((len(ticks), lane.assets), np.bool_) for lane in simulation.lanes
        ),
    )
    batches = []
    for number, lane in enumerate(simulation.lanes):
        tag_AC = [
            [numbers[f"{asset}/{channel}"] for channel in lane.channel_names]
            for asset in lane.asset_names
        ]
        count = lane.assets * lane.channels
        for tick, shown in zip(ticks, Values(simulation).of(number, ticks), strict=True):
            columns = {
                "source": source_of(lane),
                "tag": np.array(tag_AC, np.int32).ravel(),
                "time": np.full(count, tick * lane.period_ms * MILLISECOND),
                "status": np.zeros(count, np.uint32),
            }
            if lane.form is Form.BLOCK:
                rate, speed = np.full(count, 80.0), np.full(count, np.nan, np.float32)
                block = shown.reshape(count, lane.samples)
                batches.append(Waveforms(**columns, rate=rate, speed=speed, block=block))
            else:
                flags = np.zeros(count, np.uint8)
                value = np.nan_to_num(shown.ravel())  # a 0 where nothing was sent
                batches.append(Samples(**columns, value=value, flags=flags))
    return sent, batches


def without(batch, rows):
    """A batch that lacks some rows."""
    keep = np.ones(len(batch), np.bool_)
    keep[sorted(rows)] = False
    columns = ("tag", "time", "value", "status", "flags")
    return replace(batch, **{name: getattr(batch, name)[keep] for name in columns})


def gap(kind, since_tick, until_tick, tags=(), source="broker"):
    since, until = (tick * 100 * MILLISECOND for tick in (since_tick, until_tick))
    return Notice(source=source, kind=kind, since=since, until=until, tags=tuple(tags))


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_exactly_what_is_missing_is_found_and_told_from_what_the_service_says_is(data):
    ticks = list(range(FIRST, FIRST + 12))
    sent, batches = all_of(FLAT, ticks)
    lost, said, repeated = 0, 0, 0
    since = data.draw(st.integers(FIRST - 1, FIRST + 11))
    until = data.draw(st.integers(since, FIRST + 12))
    named = data.draw(st.sets(st.sampled_from(sorted(names_of(FLAT)))))
    notice = gap(NoticeKind.GAP, since, until, sorted(named))
    came = []
    for batch in batches:
        gone = data.draw(st.sets(st.integers(0, len(batch) - 1)))
        for row in gone:
            tick = int(batch.time[row]) // (100 * MILLISECOND)
            within = since < tick <= until and batch.source == "broker"
            if within and (not named or int(batch.tag[row]) in named):
                said += 1
            else:
                lost += 1
        came.append(without(batch, gone))
        if data.draw(st.booleans()):
            came.append(came[-1])
            repeated += len(came[-1])
    came.insert(data.draw(st.integers(0, len(came))), notice)
    found = compare(sent, came, names_of(FLAT), since=0)
    total = 12 * 5 * 3
    assert (found.sent, found.acknowledged) == (total, total)
    assert (found.lost, found.in_gaps) == (lost, said)
    assert found.stored == total - lost - said
    assert found.duplicated == repeated
    assert found.received == found.stored + repeated
    assert (found.differing, found.unknown, found.early) == (0, 0, 0)
    assert found.holds is (lost == 0)


def test_what_machines_did_not_report_was_never_sent_and_is_not_missed():
    ticks = list(range(FIRST, FIRST + 60))
    sent, batches = all_of(MACHINES, ticks)
    values = Values(MACHINES)
    there = [
        values.sent(number, sent.ticks[number])[at].ravel()
        for number in range(len(MACHINES.lanes))
        for at in range(len(ticks))
    ]
    came = [without(*one) for one in zip(batches, (np.flatnonzero(~t) for t in there), strict=True)]
    found = compare(sent, came, names_of(MACHINES), since=0)
    assert found.holds
    assert found.sent == found.acknowledged == found.stored == sum(map(len, came))
    assert 0 < found.sent < 60 * 2 * 7
    flow = list(names_of(MACHINES).values()).index("pump_2/flow")
    assert not any((batch.tag == flow).any() for batch in came)
    busy = next(n for n, batch in enumerate(came) if len(batch))
    fewer = [*came[:busy], without(came[busy], {0}), *came[busy + 1 :]]
    assert compare(sent, fewer, names_of(MACHINES), since=0).lost == 1
    made_up = [*came[:busy], batches[busy + 1], *came[busy + 1 :]]
    found = compare(sent, made_up, names_of(MACHINES), since=0)
    assert found.differing == (~there[busy + 1]).sum() > 0


def test_of_what_reports_changes_a_value_from_before_does_not_mean_that_somebody_listened():
    sent, batches = all_of(MACHINES, list(range(FIRST, FIRST + 60)))
    values = Values(MACHINES)
    there = values.sent(0, sent.ticks[0])
    came = [
        without(*one) for one in zip(batches, (np.flatnonzero(~t) for t in there), strict=False)
    ]
    before = [np.flatnonzero(column[:30]) for column in there[:, 0].T]  # nobody listened yet
    last = [int(rows[-1]) if len(rows) else -1 for rows in before]
    heard = [
        without(batch, [row for row, tag in enumerate(batch.tag) if at < 30 and last[tag] != at])
        for at, batch in enumerate(came)
    ]
    plc = replace(sent, acknowledged=(sent.acknowledged[0], sent.acknowledged[1] & False))
    found = compare(plc, heard, names_of(MACHINES))
    assert (found.lost, found.early) == (0, sum(map(len, came)) - sum(map(len, heard)))
    assert found.early > 0
    assert compare(plc, heard, names_of(MACHINES), since=0).lost == found.early


def test_the_last_word_on_a_sample_counts():
    sent, batches = all_of(FLAT, [FIRST, FIRST + 1, FIRST + 2])
    broker = [batch for batch in batches if batch.source == "broker"]
    other = [batch for batch in batches if batch.source != "broker"]
    said = gap(NoticeKind.GAP, FIRST, FIRST + 2)
    filled = gap(NoticeKind.FILLED, FIRST, FIRST + 1)
    found = compare(sent, [*other, broker[0], said, filled], names_of(FLAT))
    assert (found.lost, found.in_gaps) == (9, 9)
    again = compare(sent, [*other, broker[0], said, filled, said], names_of(FLAT))
    assert (again.lost, again.in_gaps) == (0, 18)


def test_a_gap_of_one_source_excuses_no_other():
    sent, batches = all_of(FLAT, [FIRST, FIRST + 1])
    said = gap(NoticeKind.GAP, FIRST - 1, FIRST + 1, source="plc")
    came = [batch for batch in batches if batch.source == "plc"]
    assert compare(sent, [*came, said], names_of(FLAT), since=0).lost == 2 * 3 * 3


def test_an_overflow_excuses_its_tags_only():
    sent, batches = all_of(FLAT, [FIRST, FIRST + 1])
    said = gap(NoticeKind.OVERFLOW, FIRST, FIRST + 1, tags=[0], source="plc")
    came = [without(batch, {0, 1} if n == 1 else ()) for n, batch in enumerate(batches)]
    found = compare(sent, [*came, said], names_of(FLAT))
    assert (found.lost, found.in_gaps) == (1, 1)
    assert found.examples == ("lost: machine_0001/pressure at 1970-01-12T13:46:40.100Z",)


def test_what_the_peer_never_acknowledged_is_not_missed_and_may_come_all_the_same():
    sent, batches = all_of(FLAT, [FIRST, FIRST + 1])
    half = sent.acknowledged[1].copy()
    half[1] = [True, False, False]
    sent = replace(sent, acknowledged=(sent.acknowledged[0], half))
    came = [*batches[:3], without(batches[3], range(6))]  # of the last tick only the last asset
    found = compare(sent, came, names_of(FLAT))
    assert (found.acknowledged, found.lost, found.unknown) == (24, 3, 0)


def test_what_was_sent_before_the_service_first_heard_is_early_unless_a_beginning_is_named():
    sent, batches = all_of(FLAT, [FIRST, FIRST + 1])
    came = [batches[1], batches[3]]  # of both lanes the second tick
    found = compare(sent, came, names_of(FLAT))
    assert (found.early, found.lost) == (15, 0)
    assert compare(sent, came, names_of(FLAT), since=0).lost == 15


def test_a_tag_is_judged_from_its_own_first_for_a_subscription_begins_in_the_middle_of_a_tick():
    sent, batches = all_of(FLAT, [FIRST, FIRST + 1, FIRST + 2])
    heard = [*batches[:3], without(batches[3], range(6)), *batches[4:]]  # its last asset alone
    found = compare(sent, heard, names_of(FLAT))
    assert (found.early, found.lost) == (6, 0)
    later = [*heard[:4], without(heard[4], [0]), without(heard[5], [1, 2])]
    found = compare(sent, later, names_of(FLAT))
    assert (found.early, found.lost) == (7, 2)
    unheard = [*heard[:4], *(without(batch, [0]) for batch in heard[4:])]  # of one tag nothing
    found = compare(sent, unheard, names_of(FLAT))
    assert (found.early, found.lost) == (6, 2)


def test_another_value_a_bad_status_and_a_stranger_are_found():
    sent, batches = all_of(FLAT, [FIRST])
    value, status, time = (getattr(batches[1], name).copy() for name in ("value", "status", "time"))
    value[0] += 0.01
    status[1] = BAD_NO_DATA
    time[2] += 1
    planted = replace(batches[1], value=value, status=status, time=time)
    found = compare(sent, [batches[0], planted], names_of(FLAT))
    assert (found.differing, found.unknown, found.lost) == (2, 1, 1)
    assert not found.holds
    assert "never sent: machine_0003/flow, 1 times" in found.examples


def test_a_value_that_was_never_measured_is_no_stranger():
    sent, batches = all_of(FLAT, [FIRST])
    nothing_yet = replace(
        batches[0],
        time=batches[0].time + 1,
        value=np.full(len(batches[0]), np.nan),
        status=np.full(len(batches[0]), 0x8032_0000, np.uint32),
    )
    found = compare(sent, [nothing_yet, *batches], names_of(FLAT))
    assert found.holds
    assert found.stored == found.sent


def test_blocks_are_held_against_what_was_sent_sample_by_sample():
    sent, batches = all_of(BLOCKS, [FIRST, FIRST + 1])
    found = compare(sent, batches, names_of(BLOCKS))
    assert found.holds
    assert found.stored == 2 * 2 * 2 * 8
    block = batches[1].block.copy()
    block[3, 7] += 1
    found = compare(sent, [batches[0], replace(batches[1], block=block)], names_of(BLOCKS))
    assert found.differing == 8


def test_the_ledger_tells_what_was_sent_and_what_of_it_was_acknowledged(tmp_path):
    ledger = Ledger.make(tmp_path, FLAT)
    with ledger.atomic():
        ledger.send(1, [5, 6, 7, 8], 1)
        ledger.acknowledge(1, 5)
        ledger.acknowledge(1, 7, np.array([False, True, False]))
    ledger.close()
    again = Ledger(tmp_path)
    ticks, has = again.sent(1)
    assert again.simulation == replace(FLAT, name=again.simulation.name)
    assert ticks.tolist() == [5, 6, 7, 8]
    assert has.tolist() == [[True] * 3, [False] * 3, [False, True, False], [False] * 3]
    assert again.last(1) == 8
    assert again.last(0) is None
    assert again.ticks(1, first=6, last=8, limit=2) == [6, 7]
    assert again.ticks(1, first=6, last=8, limit=2, newest_first=True) == [8, 7]
    again.close()


def test_each_ledger_has_a_name_of_its_own_so_that_no_broker_mixes_them_up(tmp_path):
    ledgers = [Ledger.make(tmp_path / str(n), FLAT) for n in range(2)]
    assert len({ledger.simulation.name for ledger in ledgers} - {""}) == 2
    for ledger in ledgers:
        ledger.close()


def test_what_was_not_committed_together_is_not_there(tmp_path):
    ledger = Ledger.make(tmp_path, FLAT)

    def interrupted():
        with ledger.atomic():
            ledger.send(0, [5], 1)
            raise KeyError

    with pytest.raises(KeyError):
        interrupted()
    assert ledger.last(0) is None
    ledger.close()


def test_an_outage_lasts_from_the_last_sign_of_life_to_the_next_start(tmp_path):
    ledger = Ledger.make(tmp_path, FLAT)
    ledger.note(What.STARTED, 100)
    ledger.send(0, [5], 150)  # and then it was killed
    ledger.note(What.STARTED, 300)
    ledger.note(What.STOPPED, 400)
    ledger.note(What.STARTED, 500)
    assert ledger.outages() == [(150, 300), (400, 500)]
    ledger.close()


def test_another_simulation_does_not_write_into_the_ledger(tmp_path):
    first, again = (Ledger.make(tmp_path, FLAT) for _ in range(2))
    assert again.simulation == first.simulation
    first.close()
    again.close()
    with pytest.raises(PlantError, match="with other options"):
        Ledger.make(tmp_path, replace(FLAT, seed=8))
    with pytest.raises(PlantError, match="no ledger here"):
        Ledger(tmp_path / "elsewhere")


def test_counts_of_the_ledger_and_of_the_plan_agree():
    assert Counter(lane.assets for lane in FLAT.lanes) == {2: 1, 3: 1}
    assert FLAT.samples_a_second == 5 * 3 * 10

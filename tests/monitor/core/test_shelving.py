"""A shelf hides what happens at its point and changes nothing of it."""

import random
from dataclasses import replace

import pytest
from support.building import NOW, SECOND, kind, plan, samples

from monitor.core.pipeline import Pipeline
from monitor.core.plan import ChannelSettings
from monitor.core.records import Action, Beat, Command, Epoch, Record, Transition

RAISED, RETURNED, ACKNOWLEDGED, SHELVED, UNSHELVED, *_ = Transition
LIMITED = plan(
    kind(
        channels={
            "x": ChannelSettings(limits={"high": 5.0}),
            "y": ChannelSettings(limits={"high": 5.0}),
        }
    ),
    2,
)
HOUR = 3600 * SECOND
EPOCH = Epoch(config="", bundles={})


class Plant:
    """A pipeline with its clock; second by second."""

    def __init__(self, pipeline=None):
        self.pipeline = pipeline or Pipeline(LIMITED, {})
        self.second, self.now = 0, NOW
        self.events = []

    def do(self, body, *, later=1):
        """One record, ``later`` seconds after the one before; the events that follow from it."""
        self.now += later * SECOND
        found = list(self.pipeline.step(Record(self.now, body)).alarms)
        self.events += found
        return found

    def show(self, x, y=0.0, *, other=0.0):
        """What both machines show for two seconds: enough for a frame of it."""
        found = []
        for _ in range(2):
            self.second += 1
            values = ((0, x), (1, y), (2, other), (3, other))
            found += self.do(samples(*((tag, float(self.second), of) for tag, of in values)))
        return found

    def shelve(self, alarm, *, hours=1.0, why="in repair"):
        until = self.now + round(hours * HOUR)
        return self.do(
            Command(action=Action.SHELVE, target=alarm.id, who="ann", why=why, until=until)
        )

    def unshelve(self, alarm):
        return self.do(Command(action=Action.UNSHELVE, target=alarm.id, who="bob"))

    def acknowledge(self, alarm):
        return self.do(Command(action=Action.ACKNOWLEDGE, target=alarm.id, who="bob"))


def told(events):
    """What leaves the house: (transition, active)."""
    return [(event.transition, event.active) for event in events if not event.silent]


@pytest.fixture
def raised():
    """A plant in which x of the first machine is too high, and the alarm of that."""
    plant = Plant()
    (alarm,) = plant.show(9.0)
    assert alarm.transition is RAISED
    return plant, alarm


def test_shelving_is_told_with_who_why_and_until_when(raised):
    plant, alarm = raised
    (event,) = plant.shelve(alarm, hours=2)
    assert (event.id, event.transition, event.silent) == (alarm.id, SHELVED, False)
    assert (event.who, event.reason) == ("ann", "in repair")
    assert event.shelved_until == plant.now - SECOND + 2 * HOUR
    assert (event.tick, event.active, event.acknowledged) == (plant.now, True, False)


def test_what_happens_on_a_shelf_is_found_and_marked_but_told_to_nobody(raised):
    plant, alarm = raised
    plant.shelve(alarm)
    returned = plant.show(1.0)
    again = plant.show(9.0)
    assert [event.transition for event in (*returned, *again)] == [RETURNED, RAISED]
    assert told([*returned, *again]) == []
    assert {event.shelved_until for event in (*returned, *again)} == {plant.events[1].shelved_until}
    assert again[0].id != alarm.id


def test_other_points_and_other_machines_are_told_of_as_ever(raised):
    plant, alarm = raised
    plant.shelve(alarm)
    found = plant.show(9.0, y=9.0, other=9.0)
    assert sorted((event.asset, event.point) for event in found if not event.silent) == [
        ("a0", "y high"),
        ("a1", "x high"),
        ("a1", "y high"),
    ]


def test_when_the_time_is_over_the_true_state_is_told_even_if_all_is_silent(raised):
    plant, alarm = raised
    plant.shelve(alarm)
    assert plant.do(Beat(), later=3598) == []
    (event,) = plant.do(Beat())
    assert (event.id, event.transition, event.active) == (alarm.id, UNSHELVED, True)
    assert event.reason == "the time is over; it was shelved by ann: in repair"
    assert (event.who, event.silent, event.shelved_until) == ("", False, None)
    assert plant.do(Beat(), later=3600) == []
    assert told(plant.show(1.0)) == [(RETURNED, False)], "from here on it is told again"


def test_a_person_ends_it_before_its_time(raised):
    plant, alarm = raised
    plant.shelve(alarm)
    plant.show(1.0)
    (event,) = plant.unshelve(alarm)
    assert (event.transition, event.active, event.who) == (UNSHELVED, False, "bob")
    assert plant.unshelve(alarm) == []
    assert plant.do(Beat(), later=7200) == []


def test_acknowledging_works_on_a_shelf_and_is_told_at_its_end(raised):
    plant, alarm = raised
    plant.shelve(alarm)
    (event,) = plant.acknowledge(alarm)
    assert (event.transition, event.silent) == (ACKNOWLEDGED, True)
    (event,) = plant.unshelve(alarm)
    assert (event.active, event.acknowledged) == (True, True)


def test_an_alarm_that_was_told_of_is_closed_when_another_one_came_meanwhile(raised):
    plant, alarm = raised
    plant.shelve(alarm)
    plant.show(1.0)
    plant.show(9.0)
    plant.show(1.0)
    (another,) = plant.show(9.0)
    old, new = plant.unshelve(another)
    assert (old.id, old.active) == (alarm.id, False)
    assert (new.id, new.active, new.acknowledged) == (another.id, True, False)
    assert new.raised == another.raised


def test_shelving_again_is_for_longer_and_remembers_what_was_told(raised):
    plant, alarm = raised
    plant.shelve(alarm)
    plant.show(1.0)
    (another,) = plant.show(9.0)
    plant.shelve(another, hours=3)
    assert plant.do(Beat(), later=3700) == []
    found = plant.do(Beat(), later=3 * 3600)
    assert [event.id for event in found] == [alarm.id, another.id]


def test_a_returned_alarm_is_shelved_before_it_comes_again():
    plant = Plant()
    (alarm,) = plant.show(9.0)
    plant.show(1.0)
    (event,) = plant.shelve(alarm)
    assert event.active is False
    assert told(plant.show(9.0)) == []


@pytest.mark.parametrize(
    "command",
    [
        Command(action=Action.SHELVE, target="nothing", who="ann", why="", until=NOW + HOUR),
        Command(action=Action.UNSHELVE, target="nothing", who="ann"),
    ],
)
def test_an_alarm_that_there_is_not_is_neither_shelved_nor_unshelved(command, raised):
    plant, _ = raised
    assert plant.do(command) == []


def test_shelving_without_an_end_is_none(raised):
    plant, alarm = raised
    assert plant.do(Command(action=Action.SHELVE, target=alarm.id, who="ann")) == []
    assert told(plant.show(1.0)) == [(RETURNED, False)]


def test_a_clock_that_is_set_back_does_not_make_it_longer(raised):
    plant, alarm = raised
    plant.shelve(alarm)
    assert plant.do(Beat(), later=3000) == []
    plant.now -= 10 * HOUR
    assert plant.do(Beat()) == []
    plant.now += 10 * HOUR
    assert told(plant.do(Beat(), later=700)) == [(UNSHELVED, True)]


def test_what_is_shelved_after_a_clock_ran_ahead_stays_so_for_its_time(raised):
    plant, alarm = raised
    plant.now += 9000 * HOUR
    plant.do(Beat())
    plant.now -= 9000 * HOUR
    plant.do(Beat())
    plant.shelve(alarm)
    assert told(plant.do(Beat(), later=3000)) == []
    assert told(plant.do(Beat(), later=700)) == [(UNSHELVED, True)]


def test_the_end_of_what_is_no_longer_configured_is_told_when_the_shelf_ends(raised):
    plant, alarm = raised
    plant.shelve(alarm)
    shelves = list(plant.pipeline._shelves._shelves.values())
    gone = Plant(Pipeline(plan(kind(), 2), {}))
    gone.pipeline.restore(plant.pipeline.snapshot())
    gone.pipeline.settle([shelves[0].newest], shelves)
    gone.now = plant.now
    (event,) = gone.do(EPOCH)
    assert (event.reason, event.silent) == ("no longer configured", True)
    assert told(gone.do(Beat(), later=3601)) == [(UNSHELVED, False)]


@pytest.mark.parametrize("seed", range(20))
def test_a_shelf_changes_nothing_but_what_is_told(seed):
    """The same story with and without shelves; saved and taken back by another now and then."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    plain, shelved = Plant(), Plant()
    for _ in range(40):
        x, y = (chance.choice([1.0, 9.0]) for _ in range(2))
        plain.show(x, y)
        shelved.show(x, y)
        alarms = [event for event in shelved.events if event.transition is RAISED]
        what = chance.choice(["shelve", "unshelve", "wait", "restore", "acknowledge"])
        if what == "restore":
            other = Pipeline(LIMITED, {})
            other.restore(shelved.pipeline.snapshot())
            shelved.pipeline = other
        elif what == "wait":
            plain.do(Beat(), later=1800)
            shelved.do(Beat(), later=1800)
        elif alarms:
            alarm = chance.choice(alarms[-2:])
            if what == "acknowledge":
                plain.acknowledge(alarm)
                shelved.acknowledge(alarm)
            else:
                getattr(shelved, what)(alarm)
                plain.do(Beat())
    plain.do(Beat(), later=7200)  # nothing is shelved after this
    shelved.do(Beat(), later=7200)
    kept = [
        replace(event, shelved_until=None)
        for event in shelved.events
        if event.transition not in (SHELVED, UNSHELVED)
    ]
    assert list(map(repr, kept)) == list(map(repr, plain.events))  # repr: NaN is NaN
    assert any(event.silent for event in shelved.events)
    heard = {event.id: event.active for event in shelved.events if not event.silent}
    for alarm, active in {event.id: event.active for event in plain.events}.items():
        assert heard.get(alarm, False) == active, "who hears what is told knows what is"

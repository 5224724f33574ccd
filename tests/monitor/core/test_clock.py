"""Our own clock jumps, back and forth: what the step takes for silence, for the future, for late.

The stamps of the sources go on as they are: the plant's clocks are right.
"""

import pytest
from support.building import SECOND, START, kind, plan, samples

from connectors.batch import Notice, NoticeKind
from monitor.core.pipeline import Pipeline
from monitor.core.plan import ChannelSettings, LimitSettings
from monitor.core.records import Action, Beat, Command, Epoch, Record, Transition

HOUR = 3600
JUMPS = [-24 * HOUR, -HOUR, -60, HOUR, 24 * HOUR]
TWO = plan(kind(), 1, sources=("s", "t"), spread=True)


class Plant:
    """Seconds go by, samples come each second, and our clock is off by so many seconds."""

    def __init__(self, site=TWO):
        self.pipeline, self.second, self.off = Pipeline(site, {}), 0, 0
        self.ticks, self.events = [], []

    def feel(self, *bodies):
        received = START + (self.second + self.off) * SECOND
        for body in bodies:
            results = self.pipeline.step(Record(received, body))
            self.ticks += [int(t - START) // SECOND for s in results.scores for t in s.tick]
            self.events += [(str(e.transition), (e.tick - START) // SECOND) for e in results.alarms]

    def live(self, seconds, *, sources=("s", "t"), value=1.0):
        for _ in range(seconds):
            self.second += 1
            for tag, source in enumerate(sources):
                self.feel(samples((tag, self.second, value), source=source))
            self.feel(Beat())

    @property
    def rejected(self):
        return {name: dict(counts.rejected) for name, counts in self.pipeline.conservation.items()}


@pytest.mark.parametrize("jump", JUMPS)
@pytest.mark.parametrize("back", [False, True])
def test_nothing_is_taken_for_the_future_however_long_ago_the_clock_was_set(jump, back):
    plant = Plant()
    plant.live(10)
    plant.off = jump
    plant.live(100)
    if back:
        plant.off = 0
        plant.live(100)
    assert plant.rejected == {"s": {}, "t": {}}
    assert plant.ticks == list(range(1, plant.second))
    assert all(counts.late == 0 for counts in plant.pipeline.conservation.values())


@pytest.mark.parametrize("jump", JUMPS)
def test_a_stamp_of_the_future_is_refused_after_a_jump_back_as_before_it(jump):
    plant = Plant()
    plant.live(10)
    plant.off = min(jump, 0)
    plant.live(100)
    plant.feel(samples((0, plant.second + 90, 1.0)))
    assert plant.rejected["s"] == {"ahead": 1}


@pytest.mark.parametrize("jump", JUMPS)
def test_what_a_source_vouches_for_is_believed_after_a_jump(jump):
    plant = Plant()
    plant.live(10)
    plant.off = jump
    plant.live(100)
    for source in "st":
        since, until = START + plant.second * SECOND, START + (plant.second + 20) * SECOND
        plant.feel(Notice(source=source, kind=NoticeKind.ALIVE, since=since, until=until))
    assert plant.ticks[-1] == plant.second + 20


@pytest.mark.parametrize("jump", JUMPS)
def test_a_source_that_pauses_is_waited_for_as_long_as_ever_when_the_clock_jumps(jump):
    plant = Plant()
    plant.live(10)
    plant.off = jump
    plant.live(20, sources=("s",))
    assert plant.ticks[-1] == 9, "t is not silent for idle_s yet"
    plant.live(20, sources=("s",))
    assert plant.ticks[-1] >= 30, "and then it is"


def test_a_start_believes_the_clock_of_then():
    plant = Plant()
    plant.off = 24 * HOUR  # of a machine without a battery, say
    plant.live(10)
    plant.off = 0
    plant.feel(Epoch(config="", bundles={}))
    plant.feel(samples((0, plant.second + 90, 1.0)))
    assert plant.rejected["s"] == {"ahead": 1}


def test_a_state_saved_after_a_jump_goes_on_from_it():
    plant = Plant()
    plant.live(10)
    plant.off = -HOUR
    plant.live(100)
    other = Plant()
    other.second, other.off = plant.second, plant.off
    other.pipeline.restore(plant.pipeline.snapshot())
    other.live(100)
    assert other.rejected == {"s": {}, "t": {}}
    tree = plant.pipeline.snapshot()
    del tree["reached"]
    other.pipeline.restore(tree)
    assert other.pipeline.snapshot()["reached"] == tree["latest"]


LIMITED = kind(
    channels={
        "x": ChannelSettings(limits=LimitSettings(high=5, on_delay_s=30, off_delay_s=30)),
        "y": ChannelSettings(),
    }
)


@pytest.mark.parametrize("jump", [0, *JUMPS])
def test_the_delays_of_alarms_count_the_plants_time(jump):
    plant = Plant(plan(LIMITED, 1, sources=("s", "t"), spread=True))
    plant.live(10)
    plant.live(15, value=9.0)
    plant.off = jump
    plant.live(25, value=9.0)
    plant.off = 0
    plant.live(60)
    assert plant.events == [("raised", 41), ("returned", 81)]


@pytest.mark.parametrize("jump", [-HOUR, HOUR])
def test_a_shelf_ends_once_whatever_the_clock_does(jump):
    quick = plan(
        kind(channels={"x": ChannelSettings(limits={"high": 5}), "y": ChannelSettings()}),
        1,
        sources=("s", "t"),
        spread=True,
    )
    plant = Plant(quick)
    plant.live(5, value=9.0)
    (raised,) = plant.pipeline._kinds["k"].alarms.board.active("a0")
    plant.feel(
        Command(
            action=Action.SHELVE,
            target=raised.id,
            who="ann",
            why="cleaning",
            until=START + 60 * SECOND,
        )
    )
    plant.off = jump
    plant.live(20, value=9.0)
    ended = [one for one, _ in plant.events].count(Transition.UNSHELVED)
    assert ended == (jump > 0), "a clock that is ahead of its end has passed it"
    plant.off = 0
    plant.live(60, value=9.0)
    assert [one for one, _ in plant.events].count(Transition.UNSHELVED) == 1

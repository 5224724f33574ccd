"""What the step keeps in memory is bounded: what waits for a frame, and what is remembered."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.building import NOW, SECOND, Grid, assets, kind, plan, samples, seconds, stepped
from support.checks import assert_conserved

from monitor.core import frames as room
from monitor.core.aggregate import NEVER
from monitor.core.frames import FrameBuilder
from monitor.core.pipeline import Pipeline
from monitor.core.plan import Asset
from monitor.core.repeats import LEAST_KEPT, Repeats
from monitor.core.waiting import SAMPLE_BYTES, Waiting, to_close


class Tight(Grid):
    """Frames with little room."""

    def __init__(self, of, *machines, **bounds):
        super().__init__(of, *machines)
        self.builder = FrameBuilder(of, machines or assets(1, of), **bounds)
        self.builder.listen(NOW)


# ---- what waits ---------------------------------------------------------------------------------


def test_a_sample_that_waits_takes_as_many_bytes_as_is_reckoned_with():
    none = Waiting.none()
    columns = (none.slot, none.source, none.time, none.value, none.status)
    assert sum(column.itemsize for column in columns) == SAMPLE_BYTES


def test_a_source_whose_stamps_lag_holds_the_others_back_only_as_long_as_there_is_room():
    asset = Asset(name="a", id=0, kind="k", tags={"x": (0, "s"), "y": (1, "t")})
    grid = Tight(kind(), asset, most_waiting=100)
    late = 0
    for second in range(400):
        grid.push((0, second, 1.0), source="s")
        late += int(grid.push((1, second / 100, 2.0), source="t").late.sum())
        grid.close()
        assert len(grid.builder._open) <= 100
    assert grid.builder.outrun["t"] > 0
    assert grid.builder.outrun["s"] == 0
    assert sum(grid.builder.stored.values()) + sum(grid.builder.duplicate.values()) + late == 800
    assert late > 0


def test_a_lateness_for_which_there_is_no_room_is_cut_short():
    grid = Tight(kind(lateness_ms=80_000_000), most_waiting=50)
    for second in range(500):
        grid.push((0, second, 1.0))
        grid.close()
        assert len(grid.builder._open) <= 50
    hurried = (500 - 51) // 26 + 1  # at 51 samples, the older 26 of them
    assert grid.builder.outrun == {"s": hurried}
    assert len(grid.rest()) == 500 - hurried * 26


def test_an_asset_within_its_share_waits_as_long_as_it_would():
    of = kind(lateness_ms=5000)
    grid = Tight(of, *assets(2, of), most_waiting=40)
    closed = []
    for second in range(60):
        grid.push((0, second, 1.0), *((1, second + n / 1000, 1.0) for n in range(30)))
        assert not grid.push((2, second - 4.0, 1.0), (3, second, 1.0)).late.any()
        frames = grid.close()
        closed += seconds(frames.rows(frames.asset == 1))
    assert closed[-1] == 59 - 5 - 1


@given(
    ticks=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 20)), max_size=80),
    most=st.integers(4, 40),
)
def test_what_is_left_waiting_always_fits(ticks, most):
    row = np.array([asset for asset, _ in ticks], np.intp)
    tick = np.array([one for _, one in ticks], np.int64)
    until_A = to_close(row, tick, 4, most=most)
    left = tick > until_A[row]
    assert left.sum() <= most
    held_A = np.bincount(row, minlength=4)
    fits = (held_A <= most // 4) | (len(row) <= most)
    assert (until_A[fits] == NEVER).all()
    assert (np.bincount(row[left], minlength=4)[fits] == held_A[fits]).all()


def test_what_was_not_waited_for_is_in_the_status_and_nothing_is_lost(monkeypatch):
    monkeypatch.setattr(room.FrameBuilder.__init__, "__kwdefaults__", BOUNDS)
    two = plan(kind(), 1, sources=("s", "t"), spread=True)
    pipeline = Pipeline(two, {})
    for second in range(100):
        stepped(
            pipeline,
            samples((0, second, 1.0), source="s"),
            samples((1, second / 100, 2.0), source="t"),
        )
        assert_conserved(pipeline)
    status = pipeline.status()
    assert status["outrun"]["t"] > 0
    assert status["repeats_forgotten"] > 0
    assert pipeline.conservation["t"].late > 0
    other = Pipeline(two, {})
    other.restore(pipeline.snapshot())
    assert other.status() == status
    assert Pipeline(two, {}).status()["outrun"] == {}


BOUNDS = {"most_waiting": 20, "most_known": 30}


# ---- what is remembered -------------------------------------------------------------------------


def test_an_asset_that_fell_silent_does_not_keep_what_the_others_sent():
    of = kind(remember_s=10)
    grid = Grid(of, *assets(2, of))
    grid.push((2, 0.0, 1.0))
    for second in range(0, 20_000, 100):
        grid.push(*((0, second + n, 1.0) for n in range(100)))
        grid.builder.listen(NOW + second * SECOND)
        grid.close(NOW + (second + 31) * SECOND)
    assert len(grid.builder._repeats) <= 2 * LEAST_KEPT + 200


def test_a_repeat_older_than_what_there_is_room_for_counts_as_late():
    grid = Tight(kind(remember_s=1000), most_known=10)
    for second in range(50):
        grid.push((0, second, 1.0))
        grid.close()
    assert 9 <= len(grid.builder._repeats) <= 10
    assert grid.builder.forgotten == 49 - len(grid.builder._repeats)
    assert grid.push((0, 45, 1.0)).duplicate == 1
    assert grid.push((0, 20, 1.0)).late.tolist() == [True]


def test_late_samples_alone_are_not_remembered_without_end():
    grid = Tight(kind(remember_s=10**6), most_known=10)
    grid.push((0, 1.0, 1.0), (0, 900.0, 2.0))
    grid.rest()
    for second in range(2, 100):
        assert grid.push((1, second, 1.0)).late.all()
    assert 9 <= len(grid.builder._repeats) <= 10


def test_where_there_is_too_much_not_all_is_gone_through_with_each_batch():
    looked = []
    repeats = Repeats(
        lambda slot: looked.append(len(slot)) or np.zeros(len(slot), np.int64), most=800
    )
    for number in range(1, 8001):
        repeats.note(np.zeros(1, np.intp), np.array([number]))
    assert sum(looked) < 20 * 8000


def test_a_late_sample_that_comes_twice_in_one_batch_is_late_once():
    grid = Grid(kind())
    grid.push((0, 1.0, 1.0), (0, 9.0, 2.0))
    grid.close()
    intake = grid.push((0, 5.5, 1.0), (0, 5.5, 2.0), (0, 5.5, 3.0), (1, 5.5, 1.0))
    assert intake.late.tolist() == [True, False, False, True]
    assert intake.duplicate == 2


@pytest.mark.parametrize("most", [1, 5, 100])
def test_what_is_remembered_and_what_is_forgotten_are_what_came(most):
    repeats = Repeats(lambda slot: np.zeros(len(slot), np.int64), most=most)
    for number in range(1, 40):
        repeats.note(np.zeros(3, np.intp), np.arange(3) + 10 * number)
        assert len(repeats) <= most
        assert len(repeats) + repeats.forgotten == 3 * number
    assert repeats.among(np.zeros(1, np.intp), np.array([392])).all()
    other = Repeats(lambda slot: np.zeros(len(slot), np.int64), most=most)
    other.restore(repeats.snapshot(), np.zeros(1, np.intp))
    assert (len(other), other.forgotten) == (len(repeats), repeats.forgotten)

"""Run state: what is scored and what is masked."""

from support.building import BAD, Grid, kind

from monitor.core.modes import RunState, RunStates
from monitor.core.plan import ChannelSettings, RunningSettings

RUNNING, STARTING, STOPPING, OFF, UNKNOWN = (
    RunState.RUNNING,
    RunState.STARTING,
    RunState.STOPPING,
    RunState.OFF,
    RunState.UNKNOWN,
)


def states(*speeds, cut=None, **settings):
    """The states of a machine with one speed a second; None is a bad sample, "gap" a silent one."""
    of = kind(
        gap_ticks=5,
        channels={"speed": ChannelSettings()},
        running=RunningSettings(channel="speed", above=100, **settings),
    )
    grid, run = Grid(of), RunStates(of, 1)
    found = []
    for second, speed in enumerate(speeds):
        if speed == "gap":
            continue
        grid.push((0, second, 0.0, BAD) if speed is None else (0, second, speed))
        if cut is None or second % cut == 0:
            found += closed(grid, run)
    grid.builder.ended("s")
    return found + closed(grid, run)


def closed(grid, run):
    frames = grid.close()
    return run.of(frames).tolist() if len(frames) else []


def test_a_machine_above_the_limit_runs_and_below_it_is_off():
    assert states(0, 200, 200, 50) == [OFF, RUNNING, RUNNING, OFF]


def test_a_start_and_a_stop_are_masked_for_their_time():
    assert states(0, 200, 200, 200, 0, 0, 0, startup_s=2, coastdown_s=1) == [
        STOPPING,
        STARTING,
        STARTING,
        RUNNING,
        STOPPING,
        OFF,
        OFF,
    ]


def test_the_first_frame_and_the_first_after_a_gap_count_as_a_start():
    assert states(200, 200, *["gap"] * 8, 200, 200, startup_s=1) == [
        STARTING,
        RUNNING,
        STARTING,
        RUNNING,
    ]


def test_a_bad_running_tag_is_unknown():
    assert states(200, None, 200) == [RUNNING, UNKNOWN, RUNNING]


def test_a_bad_running_tag_is_no_new_start():
    assert states(200, 200, None, 200, startup_s=1) == [STARTING, RUNNING, UNKNOWN, RUNNING]


def test_cutting_the_frames_changes_nothing():
    speeds = [0, 200, 200, None, 200, 0, 0, 200, 200]
    whole = states(*speeds, startup_s=2, coastdown_s=2)
    assert states(*speeds, cut=1, startup_s=2, coastdown_s=2) == whole
    assert states(*speeds, cut=3, startup_s=2, coastdown_s=2) == whole


def test_without_a_condition_every_machine_runs():
    of = kind()
    grid = Grid(of)
    grid.push((0, 1.0, 0.0), (0, 2.0, 0.0))
    assert RunStates(of, 1).of(grid.rest()).tolist() == [RUNNING, RUNNING]

"""The process that inspects, as its parent sees it."""

import os
from dataclasses import replace

import pytest

from monitor.live import child as child_room
from monitor.live.child import PARENTS, Child, EndedError
from monitor.live.grading import CameraSetup
from monitor.state.pictures import Waiting


def test_one_that_fails_by_itself_may_say_why_before_it_is_ended(capfd):
    child = Child()
    for ours in PARENTS:  # while it loads: they are its parent's to answer
        os.kill(child._process.pid, ours)
    try:
        child.prepare({})
        one = Waiting(
            number=1, camera=7, time=0, source="eyes", part=None, recipe=None, file="x", received=0
        )
        with pytest.raises(EndedError, match=r"has ended \(status 1\)"):
            child.look(one, b"", within_s=20)
    finally:
        child.close()
    assert "KeyError: 7" in capfd.readouterr().err


def test_one_may_take_twice_as_long_to_load_as_a_picture_may_take(monkeypatch):
    monkeypatch.setattr(child_room, "START_S", 0.01)
    slow = CameraSetup(name="top", inspector=None, mm_per_pixel=None, recipe=None, timeout_s=0.02)
    child = Child()
    try:
        with pytest.raises(EndedError, match=r"gave no answer within 0\.04 s"):
            child.prepare({0: slow, 1: replace(slow, timeout_s=0.01)})
    finally:
        child.close()

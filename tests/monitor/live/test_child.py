"""The process that inspects, as its parent sees it."""

import pytest

from monitor.live.child import Child, EndedError
from monitor.state.pictures import Waiting


def test_one_that_fails_by_itself_may_say_why_before_it_is_ended(capfd):
    child = Child()
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

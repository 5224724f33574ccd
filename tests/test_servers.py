"""The servers that tests start: what happens where one is missing, or does not come up."""

import os
import sys

import pytest
from support import servers


@pytest.mark.parametrize(
    ("user", "outcome"), [(0, pytest.fail.Exception), (1000, pytest.skip.Exception)]
)
def test_a_missing_server_fails_for_root_and_is_skipped_for_others(user, outcome, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: user)
    with pytest.raises(outcome, match="no such-server here: run `make servers` as root"):
        servers.program("such-server")


def test_a_server_that_ends_at_once_is_said_with_its_last_words(tmp_path):
    command = [sys.executable, "-c", "print('no room'); raise SystemExit(3)"]
    server = servers.Server(command, port=servers.free_port(), log=tmp_path / "log")
    with pytest.raises(AssertionError, match=r"ended with 3 at once\. no room"):
        server.start()

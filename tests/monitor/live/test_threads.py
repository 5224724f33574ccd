"""Handing the writer work from the event loop."""

import pytest

from monitor.live.threads import submitted
from monitor.state.database import Database
from monitor.state.writer import Writer


def test_a_job_goes_to_a_writer_with_room_at_once_and_through_no_thread(tmp_path):
    with Database(tmp_path) as database, Writer(database) as writer:
        handing = submitted(writer, lambda _: "done", size=1)
        with pytest.raises(StopIteration) as handed:  # it never waited
            handing.send(None)
        assert handed.value.value.result() == "done"

"""Handing the writer work from the event loop."""

import asyncio
import threading

import pytest
from support.plants import until

from monitor.live.threads import submitted
from monitor.state.database import Database
from monitor.state.writer import Writer


def test_a_job_goes_to_a_writer_with_room_at_once_and_through_no_thread(tmp_path):
    with Database(tmp_path) as database, Writer(database) as writer:
        handing = submitted(writer, lambda _: "done", size=1)
        with pytest.raises(StopIteration) as handed:  # it never waited
            handing.send(None)
        assert handed.value.value.result() == "done"


async def test_a_job_that_is_given_up_while_it_waits_for_room_is_never_done(tmp_path):
    disk, done = threading.Event(), []
    with Database(tmp_path) as database, Writer(database, bound_bytes=10) as writer:
        slow = writer.submit(lambda _: disk.wait(10), size=10)
        handing = asyncio.create_task(submitted(writer, lambda _: done.append(1), size=1))
        await until(lambda: writer.counters().refused == 1)
        handing.cancel()
        await asyncio.wait((handing,))
        disk.set()
        await asyncio.wrap_future(slow)
        await until(lambda: writer.counters().committed == 2)  # it was handed over nevertheless
    assert handing.cancelled()
    assert done == []

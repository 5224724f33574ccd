"""The intake and a source that sends no more before it hears that the rest is safe."""

import asyncio
import logging

import numpy as np

from connectors.batch import Notice, NoticeKind, Samples
from connectors.contract import NotReadyError
from monitor.live.clock import SystemClock
from monitor.live.intake import Behind, Desk
from monitor.live.supervisor import Assignment, Supervisor
from monitor.state.database import Database
from monitor.state.journal import Journal
from monitor.state.writer import Writer


class Windowed:
    """Sends one batch at a time; the next once the one before was accepted."""

    name = "m"

    def __init__(self, count):
        self._count = count
        self._accepted = asyncio.Event()
        self.accepted_positions = []

    async def open(self, *, resume):
        del resume

    async def batches(self):
        for n in range(self._count):
            self._accepted.clear()
            yield Samples(
                source=self.name,
                tag=np.zeros(1, np.int32),
                time=np.full(1, n, np.int64),
                value=np.zeros(1),
                status=np.zeros(1, np.uint32),
                flags=np.zeros(1, np.uint8),
                position=str(n),
            )
            await self._accepted.wait()
        yield Notice(source=self.name, kind=NoticeKind.ENDED)

    async def accepted(self, position):
        self.accepted_positions.append(position)
        self._accepted.set()

    async def close(self):
        pass


async def taken_in(source, folder):
    """What the source gave, until it has ended."""
    with Database(folder) as database, Writer(database) as writer:
        desk = Desk(
            journal=Journal(database),
            writer=writer,
            clock=SystemClock(),
            behind=Behind(lambda: 1 << 62),
            committed=lambda: None,
        )
        watched = Assignment(name="m", make=lambda: source, tags={}, expected_s=30.0)
        over = asyncio.Event()
        supervisor = Supervisor(watched, desk=desk, changed=over.set)
        supervisor.start()
        try:
            async with asyncio.timeout(10):
                await over.wait()
        finally:
            await supervisor.stop()


async def test_what_is_committed_is_acknowledged_though_nothing_more_comes(tmp_path):
    source = Windowed(5)
    await taken_in(source, tmp_path)
    assert source.accepted_positions == ["0", "1", "2", "3", "4"]


async def test_of_an_outage_each_reason_is_said_once_and_not_without_end(
    tmp_path, caplog, monkeypatch
):
    caplog.set_level("INFO")
    monkeypatch.setattr("monitor.live.backoff.random.uniform", lambda *_: 0.0)
    source = Windowed(1)
    reasons = ["closed", "silent"] * 3 + [f"request {n} failed" for n in range(9)]

    async def opened(*, resume):
        del resume
        if reasons:
            raise NotReadyError(reasons.pop(0), connector="m")

    source.open = opened
    await taken_in(source, tmp_path)
    told = ["closed", "silent", "request 0 failed", "request 1 failed", "request 2 failed"]
    assert [record.getMessage() for record in caplog.records] == [
        *[f"Source m waits, and is tried again: {reason}" for reason in told],
        "Source m is open.",
        "Source m is ended.",
    ]


async def test_a_source_is_closed_before_it_is_left_alone_for_a_while(tmp_path):
    source, closed = Windowed(1), asyncio.Event()

    async def opened(*, resume):
        raise NotReadyError(f"closed, after {resume}", connector="m", retry_after_s=3600.0)

    async def close():
        closed.set()

    source.open, source.close = opened, close
    trying = asyncio.create_task(taken_in(source, tmp_path))
    async with asyncio.timeout(5):
        await closed.wait()
    assert not trying.done()
    trying.cancel()
    await asyncio.gather(trying, return_exceptions=True)


class Halting(Windowed):
    """Says that something is missing, and ends."""

    async def batches(self):
        yield Notice(
            source=self.name,
            kind=NoticeKind.GAP,
            since=1_700_000_000_000_000_000,
            until=1_700_000_045_200_000_000,
            reason="nobody listened",
        )
        yield Notice(source=self.name, kind=NoticeKind.ENDED)


async def test_a_gap_is_said_with_its_length_and_its_end(tmp_path, caplog):
    caplog.set_level(logging.ERROR)
    await taken_in(Halting(0), tmp_path)
    assert [record.getMessage() for record in caplog.records] == [
        "Source m: a gap of 45.2 s, up to 2023-11-14T22:14:05.200+00:00: nobody listened."
    ]

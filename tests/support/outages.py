"""A peer goes away and comes back while a service reads it, and every sample is accounted for."""

import asyncio
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from support.plants import Serving, until
from support.servers import Server

from monitor.live.standing import SourceState
from monitor.live.supervisor import Supervisor
from monitor.site.simulate.compare import Comparison, compare_folder

BACK_S = 60.0  # the longest that anything may take to be as before: then it is stuck
LOOK_S = 0.01


@dataclass(frozen=True, slots=True)
class Outage:
    """What is done to a peer, and how it ends. Both are called in a thread."""

    begin: Callable[[], object]
    end: Callable[[], object]
    lasts_s: float
    after_s: float = 0.0  # of peace before it


def kills(server: Server, chance: np.random.Generator, count: int) -> Iterator[Outage]:
    """SIGKILL at any moment, and after a while it is started again."""
    for _ in range(count):
        away, peace = chance.uniform((0.1, 0.2), (2.0, 3.0))
        yield Outage(lambda: server.stop(signal.SIGKILL), server.start, float(away), float(peace))


def freezes(server: Server, seconds: float, count: int = 2) -> Iterator[Outage]:
    """SIGSTOP, one after the other: it keeps its connections and says nothing."""
    for _ in range(count):
        yield Outage(server.freeze, server.thaw, seconds)


@dataclass(frozen=True, slots=True)
class Felt:
    """How a service went through an outage."""

    detected_s: float | None  # until the source was said not to be connected; None: it never was
    recovered_s: float  # from the peer's return until its first sample is stored


async def reading(running: Serving, source: str) -> Supervisor:
    """The supervisor of a source, once that gives samples."""
    one = running.service.supervisors[source]
    await until(lambda: one._sampled and one.state is SourceState.RUNNING, limit_s=BACK_S)
    return one


async def suffer(running: Serving, source: Supervisor, outage: Outage) -> Felt:
    """Go through an outage, in which the machines go on sending; fails where it does not end."""
    await asyncio.sleep(outage.after_s)
    began, detected, ending = time.monotonic(), None, None
    await asyncio.to_thread(outage.begin)
    while ending is None or not ending.done():
        since = time.monotonic() - began
        if detected is None and not connected(source):
            detected = since
        if ending is None and since >= outage.lasts_s:
            ending = asyncio.create_task(asyncio.to_thread(outage.end))
        assert not running.task.done()
        await asyncio.sleep(LOOK_S)
    await ending
    back, wall = time.monotonic(), time.time_ns()
    async with asyncio.timeout(BACK_S):
        while not (connected(source) and (source._sampled or 0) > wall):
            assert not running.task.done()
            await asyncio.sleep(LOOK_S)
    return Felt(detected, time.monotonic() - back)


def connected(source: Supervisor) -> bool:
    """As the metric source_connected says it."""
    return source.state in (SourceState.RUNNING, SourceState.SILENT)


def add(figures: dict[str, Any], felt: Felt) -> None:
    """Put what was felt into a unit's figures."""
    figures["times"] = figures.get("times", 0) + 1
    noticed = [] if felt.detected_s is None else [felt.detected_s]
    figures["detected_s"] = [*figures.get("detected_s", []), *noticed]
    figures["recovered_s"] = [*figures.get("recovered_s", []), felt.recovered_s]


def balance(
    folder: Path,
    source: str,
    figures: dict[str, Any],
    *,
    lost_by_peer: int = 0,
    since: int | None = None,
) -> Comparison:
    """The two equations, for a simulation's folder and what its watcher stored.

    ``lost_by_peer``: samples of which is known that the peer handed them over to nobody. ``since``:
    when all tags were read, ns since 1970; left out: since the first one stored.
    """
    found, summary = compare_folder(folder, since=since)
    counts = summary["sources"][source]
    rejected = sum(counts["rejected"].values())
    accounted = counts["stored"] + counts["duplicate"] + counts["late"] + rejected
    assert summary["samples_conserved"]
    assert counts["received"] == accounted
    assert found.lost == lost_by_peer, found.examples
    assert found.differing == found.unknown == 0, found.examples
    assert found.stored <= summary["samples_stored"] + summary["samples_late"], "not stepped"
    figures |= {
        "sent": found.acknowledged - found.early,
        "received": counts["received"],
        "stored": counts["stored"],
        "duplicate": counts["duplicate"],
        "late": counts["late"],
        "in_gaps": found.in_gaps,
        "lost_by_peer": lost_by_peer,
    }
    return found

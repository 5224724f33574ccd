"""A peer goes away and comes back while a service reads it: how soon it is noticed and over."""

import asyncio
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from support.plants import Serving, until
from support.servers import Server

from monitor.live.intake import Intake, SourceState

BACK_S = 60.0  # the longest that anything may take to be as before: then it is stuck
LOOK_S = 0.01


@dataclass(frozen=True, slots=True)
class Outage:
    """What is done to a peer, and how it ends. Both are called in a thread."""

    begin: Callable[[], object]
    end: Callable[[], object]
    lasts_s: float
    after_s: float = 0.0  # of peace before it


def killed(server: Server, chance: np.random.Generator) -> Outage:
    """SIGKILL at any moment, and after a while it is started again."""
    away, peace = chance.uniform((0.1, 0.2), (2.0, 3.0))
    return Outage(lambda: server.stop(signal.SIGKILL), server.start, float(away), float(peace))


def frozen(server: Server, *, lasts_s: float) -> Outage:
    """SIGSTOP: it keeps its connections and says nothing."""
    return Outage(server.freeze, server.thaw, lasts_s)


@dataclass(frozen=True, slots=True)
class Felt:
    """How a service went through an outage."""

    detected_s: float | None  # until the source was said not to be connected; None: it never was
    recovered_s: float  # from the peer's return until its first sample is stored


async def reading(running: Serving, source: str) -> Intake:
    """The intake of a source of a running service, once it reads."""

    def found() -> list[Intake]:
        return [one for one in running.service._intakes if one.source.name == source]

    await until(lambda: found() and found()[0].state is SourceState.RUNNING, limit_s=30)
    return found()[0]


async def suffer(running: Serving, one: Intake, outage: Outage) -> Felt:
    """Go through an outage, in which the machines go on sending; fails where it does not end."""
    await asyncio.sleep(outage.after_s)
    began, detected = time.monotonic(), None
    await asyncio.to_thread(outage.begin)
    while (since := time.monotonic() - began) < outage.lasts_s:
        if detected is None and one.state is not SourceState.RUNNING:
            detected = since
        assert not running.task.done()
        await asyncio.sleep(LOOK_S)
    await asyncio.to_thread(outage.end)
    back, wall = time.monotonic(), time.time_ns()
    async with asyncio.timeout(BACK_S):
        while not (one.state is SourceState.RUNNING and (one.sampled or 0) > wall):
            assert not running.task.done()
            await asyncio.sleep(LOOK_S)
    return Felt(detected, time.monotonic() - back)


def add(figures: dict[str, Any], *felt: Felt) -> None:
    """Put what was felt into a unit's figures."""
    figures["times"] = figures.get("times", 0) + len(felt)
    noticed = [one.detected_s for one in felt if one.detected_s is not None]
    figures["detected_s"] = [*figures.get("detected_s", []), *noticed]
    figures["recovered_s"] = [*figures.get("recovered_s", []), *(one.recovered_s for one in felt)]

"""The simulation while it runs: what is due is written into the ledger, then sent.

Nothing is skipped: who falls behind sends late, and says by how much. Ticks are missing only from
when no process ran, and that the ledger knows.
"""

import asyncio
import math
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import numpy as np

from monitor.live.clock import Clock
from monitor.site.simulate.ledger import Ledger, What
from monitor.site.simulate.plan import Lane
from monitor.site.simulate.publishing import WINDOW, Publisher
from monitor.site.simulate.serving import Plc, plc
from monitor.site.simulate.values import Values

MILLISECOND, SECOND = 1_000_000, 1_000_000_000
MOST_AT_ONCE = 50  # ticks of a lane, before another lane has its turn
LONGEST_SLEEP_S = 0.02  # acknowledgements are written down at least this often
REPORT_S = 0.5
LINGER_S = 3.0  # that the OPC UA server stays at least after the last value: for who is away
PATIENCE_S = 10.0  # how long the broker and subscribers may take none of the rest, at the end


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a simulation is."""

    sent: int  # samples, of this run
    acknowledged: int  # samples that the peer has, of this run
    elapsed_s: float  # since the start, until the last was sent
    behind_s: float  # what is due for how long and was not sent
    connected: bool | None  # to the broker; None: there is none
    reason: str  # why it is not connected, as far as that is known

    @property
    def rate(self) -> float:
        """Samples a second, on average."""
        return self.sent / self.elapsed_s if self.elapsed_s else 0.0


class Run:
    """One run of a simulation, from a start to a stop."""

    def __init__(
        self, ledger: Ledger, clock: Clock, *, for_ms: int | None = None, speed: float = 1.0
    ) -> None:
        """``speed`` above 1 wants ``for_ms``: stamps then end, not begin, with the present.

        Raises ValueError for a speed that cannot be.
        """
        simulation = ledger.simulation
        if speed < 1 or (speed > 1 and (for_ms is None or simulation.opcua_port is not None)):
            raise ValueError(
                f"speed: got {speed:g}, want 1, or more where the length is given and nothing "
                f"goes over OPC UA"
            )
        self._ledger, self._clock, self._speed = ledger, clock, speed
        self._simulation, self._values = simulation, Values(simulation)
        self._for_ms = for_ms
        self._lanes = [_Due(number, lane) for number, lane in enumerate(simulation.lanes)]
        self._publisher: Publisher | None = None
        self._plc: Plc | None = None
        self._sent = 0
        self._begun = clock.now()  # ns
        self._first_ms = 0.0  # plant time at the start
        self._over: int | None = None  # ns, when the last was sent
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Begin nothing new; ``run`` returns soon."""
        self._stopping.set()

    async def run(self, ready: Callable[[], None]) -> Progress:
        """Send until the end, or until ``stop``. ``ready`` is called when servers listen."""
        async with AsyncExitStack() as stack:
            if self._simulation.opcua_port is not None:
                self._plc = await stack.enter_async_context(plc(self._ledger, self._values))
            if self._simulation.mqtt is not None:
                self._publisher = Publisher(self._simulation, self._ledger)
                self._publisher.open()
                stack.callback(self._publisher.close)
            self._begin()
            stack.callback(lambda: self._ledger.note(What.STOPPED, self._clock.now()))
            ready()
            while not self._stopping.is_set() and not self._ended:
                if not await self._step():
                    await self._pause()
            self._over = self._clock.now()
            await self._rest()
            return self.progress()

    def progress(self) -> Progress:
        """How far it is."""
        senders = [one for one in (self._plc, self._publisher) if one is not None]
        now_ms = self._now_ms()
        return Progress(
            sent=self._sent,
            acknowledged=sum(one.acknowledged for one in senders),
            elapsed_s=((self._over or self._clock.now()) - self._begun) / SECOND,
            behind_s=max(
                ((now_ms - due.next_ms) / 1000 for due in self._lanes if due.is_due(now_ms)),
                default=0.0,
            ),
            connected=None if self._publisher is None else self._publisher.connected,
            reason="" if self._publisher is None else self._publisher.reason,
        )

    def _begin(self) -> None:
        self._begun = self._clock.now()
        self._ledger.note(What.STARTED, self._begun)
        lead_ms = 0.0 if self._for_ms is None else self._for_ms * (1 - 1 / self._speed)
        self._first_ms = self._begun / MILLISECOND - lead_ms
        for due in self._lanes:
            last = self._ledger.last(due.number)
            after = int(self._first_ms) // due.lane.period_ms + 1
            due.tick = after if last is None else max(after, last + 1)
            if self._for_ms is not None:
                due.end = int(self._first_ms + self._for_ms) // due.lane.period_ms

    def _now_ms(self) -> int:
        passed_ms = (self._clock.now() - self._begun) / MILLISECOND
        return int(self._first_ms + passed_ms * self._speed)

    @property
    def _ended(self) -> bool:
        return all(due.end is not None and due.tick > due.end for due in self._lanes)

    async def _step(self) -> bool:
        """Send what is due, a little of each lane; whether anything was."""
        if self._publisher is not None:
            with self._ledger.atomic():
                self._publisher.take(self._clock.now())
        now_ms, any_sent = self._now_ms(), False
        for due in self._lanes:
            ticks = [] if self._is_held(due.lane) else due.upto(now_ms)
            if not ticks:
                continue
            with self._ledger.atomic():
                self._ledger.send(due.number, ticks, self._clock.now())
            values_K = self._values.of(due.number, np.array(ticks, np.int64))
            for tick, values in zip(ticks, values_K, strict=True):
                if due.lane.over_mqtt:
                    assert self._publisher is not None  # noqa: S101 - it has such lanes
                    self._publisher.send(due.number, due.lane, tick, values)
                else:
                    assert self._plc is not None  # noqa: S101 - as above
                    await self._plc.send(due.number, due.lane, tick, values)
            due.tick = ticks[-1] + 1
            self._sent += int(np.isfinite(values_K).sum())
            any_sent = True
            await asyncio.sleep(0)
        return any_sent

    def _is_held(self, lane: Lane) -> bool:
        return lane.over_mqtt and (self._publisher is None or not self._publisher.room)

    async def _pause(self) -> None:
        next_ms = min((due.due_ms for due in self._lanes), default=0)
        seconds = (next_ms - self._now_ms()) / 1000 / self._speed
        await asyncio.sleep(min(max(seconds, 0.001), LONGEST_SLEEP_S))

    async def _rest(self) -> None:
        """Give the peers time for the last of it: the broker to acknowledge, clients to fetch."""
        linger_s = 0.0 if self._plc is None else LINGER_S
        begun = moved = self._clock.now()
        least = math.inf
        while True:
            now, left = self._clock.now(), 0
            if self._publisher is not None:
                with self._ledger.atomic():
                    self._publisher.take(now)
                left += self._publisher.unanswered if self._publisher.connected else 0
            if self._plc is not None:
                left += self._plc.unfetched
                self._plc.ask()
            if left < least:
                least, moved = left, now
            is_over = not left or now - moved > PATIENCE_S * SECOND
            if is_over and now - begun >= linger_s * SECOND:
                return
            await asyncio.sleep(LONGEST_SLEEP_S)


async def until_stopped(
    run: Run,
    *,
    ready: Callable[[], None],
    report: Callable[[Progress], None],
    every_s: float = REPORT_S,
) -> Progress:
    """Run until it ends, or SIGINT or SIGTERM comes; report how it stands now and then."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, run.stop)
    started = asyncio.Event()

    def begun() -> None:
        ready()
        started.set()

    working = asyncio.create_task(run.run(begun), name="simulation")

    async def reporting() -> None:
        await started.wait()
        while True:
            await asyncio.sleep(every_s)
            report(run.progress())

    told = asyncio.create_task(reporting(), name="reporting")
    try:
        return await working
    finally:
        told.cancel()


class _Due:
    """Where a lane is."""

    def __init__(self, number: int, lane: Lane) -> None:
        self.number, self.lane = number, lane
        self.tick = 0  # the next one
        self.end: int | None = None  # the last one

    @property
    def next_ms(self) -> int:
        """When the next tick is whole."""
        return self.tick * self.lane.period_ms + self.lane.takes_ms

    @property
    def due_ms(self) -> float:
        """The same; never, after the last."""
        return float("inf") if self.end is not None and self.tick > self.end else self.next_ms

    def is_due(self, now_ms: int) -> bool:
        """Whether something is to be sent."""
        return self.due_ms <= now_ms

    def upto(self, now_ms: int) -> list[int]:
        """The ticks that are due, in order; not all of too many."""
        last = (now_ms - self.lane.takes_ms) // self.lane.period_ms
        last = last if self.end is None else min(last, self.end)
        count = min(MOST_AT_ONCE, max(WINDOW // self.lane.messages, 1))
        return list(range(self.tick, min(last + 1, self.tick + count)))

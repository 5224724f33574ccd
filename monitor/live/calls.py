"""Calls into a connector: each has an end, and its bugs are named.

A connector may raise what it may not, hang in any call, or not let itself be cancelled. What cannot
be helped is a call that never gives the event loop back.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from connectors.contract import ConnectorError, Sink, Source

logger = logging.getLogger(__name__)

CLOSE_S = 10.0  # for close()
LET_GO_S = 10.0  # for a call that was cancelled: the contract says one, and our disk may be slow


class FaultyError(ConnectorError):
    """A connector did what none may: a bug of its own, or of its client."""


@contextmanager
def bugs_named(name: str, *, what: str = "source") -> Iterator[None]:
    """Raise whatever no connector may raise as FaultyError: it is no reason to end the service."""
    try:
        yield
    except ConnectorError:
        raise
    except Exception as error:
        raise FaultyError(
            f"{what} {name}: {type(error).__name__}: {error}. This is a bug of the connector or "
            f"of its client; the log has the traceback.",
            connector=name,
        ) from error


class Calls:
    """Calls into connectors of one name, one after the other; cut off when ``stop`` is set."""

    def __init__(self, name: str, *, stop: asyncio.Event, what: str = "source") -> None:
        self.hung = False  # a call did not end as it must: that source is to be used no more
        self._name, self._stop, self._what = name, stop, what
        self._left: set[asyncio.Task[None]] = set()  # those that hang, left behind

    async def opening(
        self, source: Source, resume: str | None, left_s: Callable[[], float]
    ) -> bool:
        """Open a source; False: cut off."""
        return await self.ended(self._named(lambda: source.open(resume=resume)), left_s)

    async def closing(self, connector: Source | Sink) -> None:
        """Close one, in bounded time, also while we stop."""
        task = asyncio.create_task(self._named(connector.close))
        await asyncio.wait((task,), timeout=CLOSE_S)
        if task.done() and not task.cancelled() and task.exception() is None:
            return
        self.hung = True
        failure = task.exception() if task.done() and not task.cancelled() else None
        logger.error(
            "%s %s: close() did not end well within %g s.",
            *(self._what.capitalize(), self._name, CLOSE_S),
            exc_info=failure,
        )
        await self._let_go(task)

    async def ended(self, work: Coroutine[Any, Any, None], left_s: Callable[[], float]) -> bool:
        """Wait for the end of a call; False: it was cut off.

        It is asked again and again how many seconds are left; at 0 it is cut off. Raises what the
        call and ``left_s`` raise.
        """
        task = asyncio.create_task(work)
        stopping = asyncio.create_task(self._stop.wait())
        try:
            while not (task.done() or self._stop.is_set()) and (left := left_s()) > 0:
                await asyncio.wait(
                    (task, stopping), timeout=left, return_when=asyncio.FIRST_COMPLETED
                )
        finally:
            finished = task.done()
            stopping.cancel()
            await self._let_go(task)
        if finished and task.cancelled():  # by itself: some task of its client was
            raise FaultyError(f"{self._what} {self._name}: cancelled itself.", connector=self._name)
        if finished:
            task.result()
        return finished

    async def _let_go(self, task: asyncio.Task[None]) -> None:
        """End a call that takes too long, or is not wanted any more."""
        if task.done():
            return
        task.cancel()
        task.add_done_callback(seen)
        await asyncio.wait((task,), timeout=LET_GO_S)
        if not task.done():
            self.hung = True
            self._left.add(task)
            task.add_done_callback(self._left.discard)
            what = self._what.capitalize()
            logger.error("%s %s: a call was cancelled, and does not end.", what, self._name)

    async def _named(self, call: Callable[[], Awaitable[None]]) -> None:
        with bugs_named(self._name, what=self._what):
            await call()


def seen(future: asyncio.Future[Any]) -> None:
    """Whoever still waits looks at its error, if there is one; asyncio need not speak of it."""
    if not future.cancelled():
        future.exception()

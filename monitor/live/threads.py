"""What would stop the event loop is done in a thread: reading, and waiting for the writer.

And the end of a task: told, and waited for.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar, cast

from monitor.state.database import Transaction
from monitor.state.errors import QueueFullError
from monitor.state.writer import Writer

T = TypeVar("T")


async def in_thread(read: Callable[[], T]) -> T:
    """What ``read`` gives. Cancelled, it waits for the thread: then the database may be closed.

    asyncio.to_thread() leaves its thread behind, and a connection closed under it ends the process.
    """
    reading = asyncio.ensure_future(asyncio.to_thread(read))
    try:
        return await asyncio.shield(reading)
    except asyncio.CancelledError:
        await asyncio.wait([reading])
        raise


async def submitted(writer: Writer, work: Callable[[Transaction], T], *, size: int) -> Future[T]:
    """Hand a job to the writer, once its queue has room; the job's own future, as submit() gives.

    Cancelled while it waits for room, the job may still be handed over, but does nothing.
    """
    try:
        return writer.submit(work, size=size)
    except QueueFullError:
        pass
    wanted = True

    def if_wanted(tx: Transaction) -> T:
        return work(tx) if wanted else cast("T", None)  # nobody asks what it gave

    try:
        return await asyncio.to_thread(writer.submit, if_wanted, size=size, wait_s=None)
    except asyncio.CancelledError:
        wanted = False
        raise


async def committed(writer: Writer, work: Callable[[Transaction], T], *, size: int = 1024) -> T:
    """Have a job done in a transaction; what it gives. Raises what it raised."""
    return await asyncio.wrap_future(await submitted(writer, work, size=size))


async def cancelled(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and wait until they have let go of everything."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

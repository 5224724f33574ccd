"""Reading in a thread, so that the event loop goes on: nobody leaves before the thread has."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

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

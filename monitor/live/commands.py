"""What a person asks of the running service: checked, journaled, and answered by what came of it.

A command is a record like any other, so a replay repeats it. What cannot be done is said before it
is one.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, ValidationError

from monitor.core.plan import Settings
from monitor.core.records import Action, AlarmEvent, Command
from monitor.live.clock import Clock
from monitor.live.control import RequestError
from monitor.live.stepper import Stepper
from monitor.live.threads import in_thread
from monitor.live.tidying import HOUR
from monitor.state.database import DatabaseReader
from monitor.state.errors import StorageError
from monitor.state.store import Alarm, Store

STEPPED_S = 5.0  # how long an answer waits for the step; the command is safe already
LOOK_S = 0.01
MOST_NAMED = 5  # alarms, where a name is not unique

Words = Annotated[str, StringConstraints(strip_whitespace=True, max_length=1000)]


class CommandRequest(Settings):
    """What can be asked. ``target`` is an alarm's id, or the beginning of one."""

    action: Literal[Action.ACKNOWLEDGE, Action.SHELVE, Action.UNSHELVE]
    target: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=64)]
    who: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
    why: Words = ""
    until: int | None = Field(None, description="ns since 1970 UTC")


class Commands:
    """Takes commands for the alarms of one database."""

    def __init__(
        self,
        database: DatabaseReader,
        *,
        record: Callable[[Command], Awaitable[int]],
        stepper: Stepper,
        clock: Clock,
        shelve_hours: Callable[[], float],
    ) -> None:
        """``record`` commits a command to the journal and gives its number.

        ``shelve_hours`` tells for how long an alarm may be shelved at most.
        """
        self._store, self._record, self._stepper = Store(database), record, stepper
        self._clock, self._shelve_hours = clock, shelve_hours

    async def do(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The alarm's full id and the transitions that followed. Raises RequestError.

        ``stepped`` is false where the step was too far behind to wait for: the command is in the
        journal, and its time will come.
        """
        try:
            asked = CommandRequest.model_validate(request)
        except ValidationError as error:
            raise RequestError("; ".join(_plain(one) for one in error.errors())) from None
        alarm = await in_thread(partial(self._alarm, asked.target))
        if asked.action is not Action.ACKNOWLEDGE:  # what is shelved is the point
            alarm = await in_thread(partial(self._newest, alarm))
        self._check(asked, alarm)
        command = Command(
            action=asked.action, target=alarm.id, who=asked.who, why=asked.why, until=asked.until
        )
        known = len(await self._events(alarm.id))
        try:
            number = await self._record(command)
        except StorageError as error:
            raise RequestError(str(error)) from None
        try:
            async with asyncio.timeout(STEPPED_S):
                while self._stepper.done < number:  # noqa: ASYNC110 - the step does not call
                    await asyncio.sleep(LOOK_S)
        except TimeoutError:
            return {"alarm": alarm.id, "stepped": False, "transitions": []}
        events = (await self._events(alarm.id))[known:]
        return {
            "alarm": alarm.id,
            "stepped": True,
            "transitions": [str(event.transition) for event in events],
        }

    async def _events(self, alarm: str) -> list[AlarmEvent]:
        return await in_thread(partial(self._store.alarm_events, alarm=alarm))

    def _alarm(self, target: str) -> Alarm:
        """The one alarm whose id begins so. Raises RequestError for none and for several."""
        found = self._store.alarms(beginning=target)
        if not found:
            raise RequestError(f"no alarm {target!r}; `watchkeeper alarms list` shows them")
        if len(found) > 1:
            named = ", ".join(f"{one.id[:12]} ({one.asset}, {one.point})" for one in found)
            some = named if len(found) <= MOST_NAMED else f"{len(found)} alarms"
            raise RequestError(f"{target!r} begins several ids: {some}; give more of it")
        return found[0]

    def _newest(self, alarm: Alarm) -> Alarm:
        """The last alarm of the same point."""
        return next(
            one
            for one in self._store.alarms(asset=alarm.asset)
            if (one.alarm_class, one.point) == (alarm.alarm_class, alarm.point)
        )

    def _check(self, asked: CommandRequest, alarm: Alarm) -> None:
        """Raises RequestError where the command would change nothing, or may not."""
        if asked.action is Action.ACKNOWLEDGE and alarm.acknowledged:
            raise RequestError(f"alarm {alarm.id[:8]} was acknowledged before")
        if asked.action is Action.UNSHELVE and alarm.shelved_until is None:
            raise RequestError(f"alarm {alarm.id[:8]} is not shelved")
        if asked.action is not Action.SHELVE:
            return
        if not asked.why:
            raise RequestError("why: shelving wants a reason; somebody will ask for it")
        most = self._shelve_hours()
        hours = ((asked.until or 0) - self._clock.now()) / HOUR
        if not 0 < hours <= most:
            raise RequestError(
                f"shelving: want an end from now on, at most {most:g} h away (site.shelve_hours)"
            )


def _plain(error: Mapping[str, Any]) -> str:
    where = ".".join(map(str, error["loc"])) or "the request"
    return f"{where}: {error['msg']}"

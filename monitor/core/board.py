"""What people know: the last alarm of each point, and whether one of them has seen it.

Everything that raises alarms keeps one. States follow ISA-18.2: an alarm is active or normal,
acknowledged or not.
"""

import hashlib
from collections.abc import Container, Iterator, Sequence
from dataclasses import replace
from typing import Any

from monitor.core.records import AlarmClass, AlarmEvent, Command, Standing, Transition


def alarm_id(site: str, asset: str, alarm_class: AlarmClass, point: str, raised: int) -> str:
    """The name of an alarm: 32 hex digits, the same wherever it is worked out."""
    named = "\x1f".join((site, asset, alarm_class, point, str(raised)))
    return hashlib.blake2b(named.encode(), digest_size=16).hexdigest()


class Board:
    """The last alarm of each point of each asset."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], Standing] = {}

    def note(self, event: AlarmEvent) -> AlarmEvent:
        """Remember how the point stands now; the event is given back."""
        if event.transition is Transition.DIAGNOSED:
            return event  # it stands as it stood
        seen = event.transition is Transition.RETURNED
        self._last[event.asset, event.point] = Standing(
            id=event.id,
            asset=event.asset,
            alarm_class=event.alarm_class,
            point=event.point,
            raised=event.raised,
            threshold=event.threshold,
            acknowledged=seen and self._last[event.asset, event.point].acknowledged,
            active=bool(event.active),
        )
        return event

    def active(self, asset: str) -> Iterator[Standing]:
        """Those of an asset that stand."""
        return (one for one in self._last.values() if one.asset == asset and one.active)

    def acknowledge(self, command: Command, *, now: int) -> list[AlarmEvent]:
        """A person has seen the alarm that the command names; nothing if it was seen before."""
        alarm = self.find(command.target)
        if alarm is None or alarm.acknowledged:
            return []
        self._last[alarm.asset, alarm.point] = replace(alarm, acknowledged=True)
        return [
            alarm.event(
                Transition.ACKNOWLEDGED,
                tick=now,
                reason=command.why,
                who=command.who,
                acknowledged=True,
            )
        ]

    def find(self, alarm_id: str) -> Standing | None:
        """The alarm of this id, if it is the last one of its point."""
        return next((one for one in self._last.values() if one.id == alarm_id), None)

    def settle(self, standing: Sequence[Standing]) -> None:
        """Let exactly these be active."""
        self._last = {place: replace(one, active=False) for place, one in self._last.items()}
        self._last |= {(one.asset, one.point): replace(one, active=True) for one in standing}

    def snapshot(self) -> list[list[Any]]:
        """What the next transitions depend on."""
        return [
            [
                one.asset,
                one.point,
                {
                    "id": one.id,
                    "class": str(one.alarm_class),
                    "raised": one.raised,
                    "threshold": one.threshold,
                    "acknowledged": one.acknowledged,
                    "active": one.active,
                },
            ]
            for one in self._last.values()
        ]

    def restore(self, tree: Sequence[Sequence[Any]], assets: Container[str]) -> None:
        """Take back what ``snapshot`` gave, for these assets."""
        self._last = {
            (asset, point): Standing(
                asset=asset,
                alarm_class=AlarmClass(alarm["class"]),
                point=point,
                id=alarm["id"],
                raised=alarm["raised"],
                threshold=alarm["threshold"],
                acknowledged=alarm["acknowledged"],
                active=alarm.get("active", False),  # once it was not kept; settle() says it then
            )
            for asset, point, alarm in tree
            if asset in assets
        }

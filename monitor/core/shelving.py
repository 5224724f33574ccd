"""Shelving: a person silences one point of one asset, for a time and with a reason.

A shelf hides what happens at its point and changes nothing of it (suppression in the words of
ISA-18.2): transitions are found and stored as ever, marked, but none is told. When the time is
over, or a person says so, the point is told of once more, with the state that it truly has.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from monitor.core.records import (
    AlarmClass,
    AlarmEvent,
    Command,
    Shelf,
    Standing,
    Transition,
)

Place = tuple[str, AlarmClass, str]  # asset, class and point


class Shelves:
    """The points that are shelved, of all assets."""

    def __init__(self) -> None:
        self._shelves: dict[Place, Shelf] = {}

    def put(self, alarm: Standing, command: Command, *, now: int) -> list[AlarmEvent]:
        """Shelve the point of an alarm, or shelve it anew; nothing without an end."""
        if command.until is None:
            return []
        before = self._shelves.get(_place(alarm))
        told = () if before is None else before.told
        self._shelves[_place(alarm)] = Shelf(
            until=command.until,
            who=command.who,
            why=command.why,
            told=tuple(dict.fromkeys((*told, alarm))),
            newest=alarm,
        )
        return [
            alarm.event(
                Transition.SHELVED,
                tick=now,
                reason=command.why,
                who=command.who,
                acknowledged=alarm.acknowledged,
                shelved_until=command.until,
            )
        ]

    def take(self, command: Command, *, now: int) -> list[AlarmEvent]:
        """A person ends the shelving of the alarm that the command names, if it is shelved."""
        return [
            event
            for place, shelf in list(self._shelves.items())
            if command.target in {alarm.id for alarm in (*shelf.told, shelf.newest)}
            for event in self._end(place, now, why=command.why or "unshelved", who=command.who)
        ]

    def expire(self, now: int) -> list[AlarmEvent]:
        """The ends of those whose time is over by ``now``, wall time in ns."""
        return [
            event
            for place, shelf in list(self._shelves.items())
            if shelf.until <= now
            for event in self._end(place, now, why="the time is over", who="")
        ]

    def mark(self, events: Iterable[AlarmEvent]) -> list[AlarmEvent]:
        """The events, those of a shelved point marked; the shelves remember what they say."""
        marked = []
        for event in events:
            place = event.asset, event.alarm_class, event.point
            if (shelf := self._shelves.get(place)) is None:
                marked.append(event)
                continue
            self._shelves[place] = replace(
                shelf,
                told=tuple(_after(alarm, event) for alarm in shelf.told),
                newest=_after(_last(shelf, event), event),
            )
            marked.append(replace(event, shelved_until=shelf.until))
        return marked

    def settle(self, shelves: Iterable[Shelf]) -> None:
        """Let exactly these be shelved."""
        self._shelves = {_place(shelf.newest): shelf for shelf in shelves}

    def snapshot(self) -> list[dict[str, Any]]:
        """What the next transitions depend on."""
        return [asdict(shelf) for shelf in self._shelves.values()]

    def restore(self, tree: Sequence[Mapping[str, Any]]) -> None:
        """Take back what ``snapshot`` gave."""
        self.settle(
            Shelf(
                until=shelf["until"],
                who=shelf["who"],
                why=shelf["why"],
                told=tuple(map(Standing.from_json, shelf["told"])),
                newest=Standing.from_json(shelf["newest"]),
            )
            for shelf in tree
        )

    def _end(self, place: Place, now: int, *, why: str, who: str) -> list[AlarmEvent]:
        """Tell the true state: of the alarms that people know of, and of the last one."""
        shelf = self._shelves.pop(place)
        alarms = dict.fromkeys((*shelf.told, shelf.newest))  # most often it is one
        reason = f"{why}; it was shelved by {shelf.who}: {shelf.why}"
        return [
            alarm.event(
                Transition.UNSHELVED,
                tick=now,
                reason=reason,
                who=who,
                acknowledged=alarm.acknowledged,
            )
            for alarm in alarms
        ]


def _place(alarm: Standing) -> Place:
    return alarm.asset, alarm.alarm_class, alarm.point


def _last(shelf: Shelf, event: AlarmEvent) -> Standing:
    """The last alarm of a point: a new one, if it was raised just now."""
    if event.transition is not Transition.RAISED:
        return shelf.newest
    return replace(
        shelf.newest,
        id=event.id,
        raised=event.raised,
        threshold=event.threshold,
        acknowledged=False,
    )


def _after(alarm: Standing, event: AlarmEvent) -> Standing:
    """The alarm after a transition; one of another alarm changes nothing."""
    if event.id != alarm.id:
        return alarm
    seen = event.transition is Transition.ACKNOWLEDGED
    return replace(alarm, active=bool(event.active), acknowledged=alarm.acknowledged or seen)

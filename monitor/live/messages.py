"""What an alarm's transition says to the world: one message each, named by what it says."""

import hashlib
from dataclasses import asdict

from connectors.points import Message
from monitor.core.records import AlarmEvent


def message(event: AlarmEvent, *, site: str) -> Message:
    """The message of a transition. The same transition always gives the same id."""
    named = f"{event.id}\x1f{event.transition}\x1f{event.tick}"
    return Message(
        id=hashlib.blake2b(named.encode(), digest_size=16).hexdigest(),
        subject=event.id,
        type=f"alarm.{event.transition}",
        time=event.tick,
        body={
            "site": site,
            "asset": event.asset,
            "alarm": event.id,
            "class": str(event.alarm_class),
            "point": event.point,
            "transition": str(event.transition),
            "raised_ns": event.raised,
            "time_ns": event.tick,
            "reason": event.reason,
            "value": event.value if event.value == event.value else None,
            "threshold": event.threshold,
            "blame": dict(event.blame),
            "diagnosis": None if event.diagnosis is None else asdict(event.diagnosis),
            "picture": f"/pictures/{event.picture}/overlay" if event.picture else None,
            "who": event.who,
            "active": event.active,
            "acknowledged": event.acknowledged,
            "shelved_until_ns": event.shelved_until,
        },
    )

"""How a plant stands, from what is stored: the same figures for a running service and after it."""

from collections import Counter
from typing import Any

from monitor.core.conservation import Conservation
from monitor.state.database import DatabaseReader
from monitor.state.losses import Losses
from monitor.state.names import Family, Names
from monitor.state.outbox import Outbox
from monitor.state.store import Store


def summary(database: DatabaseReader) -> dict[str, Any]:
    """Samples, frames, alarms and deliveries, as JSON values."""
    store, outbox = Store(database), Outbox(database)
    status = store.status() or {}
    sources = {
        name: Conservation.from_json(counts)
        for name, counts in status.get("conservation", {}).items()
    }
    total = sum(sources.values(), Conservation())
    frames = status.get("frames", {})
    alarms = store.alarms()
    backlogs = {name: outbox.backlog(name) for name in outbox.sinks()}
    raised = Counter(alarm.asset for alarm in alarms)
    return {
        "samples_received": total.received,
        "samples_stored": total.stored,
        "samples_duplicated": total.duplicate,
        "samples_late": total.late,
        "samples_rejected": dict(total.rejected),
        "samples_conserved": total.holds,
        "sources": {name: counts.to_json() for name, counts in sources.items()},
        "frames": sum(frames.values()),
        "frames_scored": frames.get("ok", 0),
        "alarms": {name: raised[name] for name in Names(database).of(Family.ASSET).values()},
        "alarms_active": sum(alarm.active for alarm in alarms),
        "score_latency_ms": status.get("score_latency_ms", {"p50": None, "p99": None}),
        "updated_ns": status.get("updated_ns"),
        "backlog": {name: waiting.items for name, waiting in backlogs.items()},
        "dead_letters": outbox.dead_letter_count(),
        "dropped": {name: waiting.dropped for name, waiting in backlogs.items()},
        "no_longer_kept": dict(Losses(database).counts()),
    }

"""How a plant stands, from what is stored: the same figures for a running service and after it."""

from collections import Counter
from dataclasses import asdict
from typing import Any

from monitor.core.conservation import Conservation
from monitor.core.plan import BudgetSettings
from monitor.core.records import AlarmClass, PictureResult, Scores, ScoreState
from monitor.live.budget import spent
from monitor.site.advice import rejections
from monitor.state.database import DatabaseReader
from monitor.state.losses import Losses
from monitor.state.names import Family, Names
from monitor.state.outbox import Outbox
from monitor.state.picture_results import PictureResults
from monitor.state.pictures import PictureStore
from monitor.state.source_gaps import GapFigures, SourceGaps
from monitor.state.store import Alarm, Store

RECENT = 100  # results of a camera whose grades are counted
NO_GAPS = GapFigures(told=0, filled=0, missing_ns=0, last=None)


def summary(database: DatabaseReader, budget: BudgetSettings | None = None) -> dict[str, Any]:
    """Samples, sources, assets, frames, alarms and deliveries, as JSON values.

    With a ``budget``, also how many alarms there were beside it.
    """
    store, outbox = Store(database), Outbox(database)
    status = store.status() or {}
    sources = {
        name: Conservation.from_json(counts)
        for name, counts in status.get("conservation", {}).items()
    }
    total = sum(sources.values(), Conservation())
    cameras = status.get("cameras", {})
    pictured = {camera["source"] for camera in cameras.values()}
    frames = status.get("frames", {})
    alarms = store.alarms()
    backlogs = {name: outbox.backlog(name) for name in outbox.sinks()}
    raised = Counter(alarm.asset for alarm in alarms if not _of(alarm, alarm.asset))
    names = Names(database).of(Family.ASSET)
    tags = {str(number): name for number, name in Names(database).of(Family.TAG).items()}
    latest = store.latest()
    said = status.get("sources", {})
    gaps = SourceGaps(database).figures()
    return {
        "samples_received": total.received,
        "samples_stored": total.stored,
        "samples_duplicated": total.duplicate,
        "samples_late": total.late,
        "samples_rejected": dict(total.rejected),
        "samples_waiting": total.waiting,
        "samples_conserved": total.holds,
        "sources": {
            name: {
                **sources.get(name, Conservation()).to_json(),
                **said.get(name, {"state": "left", "last_ns": None}),
                "pictures": name in pictured,  # what it gives, not samples
                "reason": "",
                **status.get("troubles", {}).get(name, {}),
                "examples": status.get("examples", {}).get(name, {}),
                "outrun": status.get("outrun", {}).get(name, 0),
                "marks": status.get("marks", {}).get(name, {}),
                "unit_changed": {
                    tags.get(number, number): reason
                    for number, reason in status.get("unit_changed", {}).get(name, {}).items()
                },
                "gaps": gaps.get(name, NO_GAPS).to_json(),
                "active": [_active(one) for one in alarms if one.active and _of(one, name)],
            }
            for name in sorted({*sources, *said, *gaps})
        },
        "assets": {
            name: _asset(name, latest.get(number), status.get("thresholds", {}))
            | {"forced": status.get("forced", {}).get(name, [])}
            | {"cameras_alone": name in status.get("cameras_alone", ())}
            | {
                "active": [
                    _active(one)
                    for one in alarms
                    if one.active and one.asset == name and not _of(one, name)
                ]
            }
            for number, name in names.items()
        },
        "cameras": _cameras(database, cameras),
        "frames": sum(frames.values()),
        "frames_scored": frames.get("ok", 0),
        "alarms": {name: raised[name] for name in names.values()},
        "alarms_active": sum(alarm.active for alarm in alarms),
        "score_latency_ms": status.get("score_latency_ms", {"p50": None, "p99": None}),
        "updated_ns": status.get("updated_ns"),
        "backlog": {name: waiting.items for name, waiting in backlogs.items()},
        "dead_letters": sum(outbox.dead_letter_counts().values()),
        "dropped": {name: waiting.dropped for name, waiting in backlogs.items()},
        "repeats_forgotten": status.get("repeats_forgotten", 0),
        "judgements": status.get("judgements", {}),
        "no_longer_kept": dict(Losses(database).counts()),
        "damaged": dict(Losses(database).damaged()),
        **({} if budget is None else {"budget": asdict(spent(store, budget))}),
    }


def rejected(found: dict[str, Any], *, wholly: bool = False) -> dict[str, str]:
    """The sources of a summary of which something (``wholly``: everything) was rejected: why."""
    return {
        name: rejections(
            name,
            counts["rejected"],
            counts["examples"],
            received=counts["received"],
            what="pictures" if counts["pictures"] else "samples",
        )
        for name, counts in found["sources"].items()
        if (count := sum(counts["rejected"].values()))
        and (count == counts["received"] or not wholly)
    }


def _cameras(database: DatabaseReader, known: dict[str, Any]) -> dict[str, Any]:
    """Each camera: what waits, its newest result, and the grades of the newest RECENT of them."""
    if not known:
        return {}
    waiting, results = PictureStore(database).waiting_of_cameras(), PictureResults(database)
    found = {name: results.read(one["number"], limit=RECENT) for name, one in known.items()}
    return {
        name: {
            "asset": known[name]["asset"],
            "source": known[name]["source"],
            "waiting": waiting.get(known[name]["number"], 0),
            "last": None if not newest else _seen(newest[0]),
            "recent": len(newest),
            "grades": dict(Counter(str(one.grade) for one in newest)),
        }
        for name, newest in found.items()
    }


def _seen(one: PictureResult) -> dict[str, Any]:
    """The result of a picture, without its defects."""
    return {
        "time_ns": one.time,
        "label": one.label,
        "probability": one.probability,
        "surprise": one.surprise,
        "grade": str(one.grade),
        "rule": one.rule,
        "reason": one.reason,
        "part": one.part,
        "picture": one.hash,
        "rejected": one.rejected,
    }


def _asset(name: str, row: Scores | None, thresholds: dict[str, Any]) -> dict[str, Any]:
    """The newest score of an asset; all None where there is none."""
    nothing = dict.fromkeys(("kind", "tick_ns", "state", "surprise", "coverage", "threshold"))
    if row is None:
        return {**nothing, "provisional": False, "not_learnt": False}
    state = ScoreState(int(row.state[0]))
    scored = state is ScoreState.OK
    level = thresholds.get(row.kind, {"value": None, "provisional": False})
    return {
        "kind": row.kind,
        "tick_ns": int(row.tick[0]),
        "state": state.name.lower(),
        "surprise": float(row.surprise[0]) if scored else None,
        "coverage": float(row.coverage[0]) if scored else None,
        "threshold": level["value"],
        "provisional": level["provisional"],
        "not_learnt": name in level.get("not_learnt", ()),  # nor adopted
    }


def _of(alarm: Alarm, source: str) -> bool:
    """Whether an alarm is of a source, not of an asset that may have its name."""
    return alarm.asset == source and alarm.alarm_class is AlarmClass.PIPELINE


def _active(alarm: Alarm) -> dict[str, Any]:
    return {
        "class": str(alarm.alarm_class),
        "point": alarm.point,
        "raised_ns": alarm.raised,
        "reason": alarm.reason,
        "diagnosis": None if alarm.diagnosis is None else asdict(alarm.diagnosis),
    }

"""What the step found, as points for databases: scores, channels around them, pictures, alarms.

A point is stamped with event time and named by bounded sets only (site, area, asset, model,
channel, class, transition, and the alarm's point: a channel and one of five limits; camera, label
and grade), so writing it again changes nothing and no series grows without end. Every point carries
all its fields, each a finite number: where there is none it says 0, and ``valid`` (or ``judged``) 0
beside it, because a database merges what is written twice.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from connectors.batch import F64, I32, I64
from connectors.points import Points
from models.bundle import Bundle
from monitor.core.aggregate import FOREVER, NEVER, Bool, Index, changes
from monitor.core.kind import threshold_of
from monitor.core.plan import MILLISECOND, SECOND, Asset, Camera, Plan
from monitor.core.records import (
    AlarmClass,
    AlarmEvent,
    Judgements,
    PictureResult,
    Results,
    Scores,
    ScoreState,
    Spoke,
    Standing,
    Transition,
)
from monitor.live.standing import ServiceStanding

HEALTH_NS = 10 * SECOND  # health is stamped with multiples of it
NO_MODEL = "none"  # the tag `model` of a kind without one

# N rows of one asset


class PointMaker:
    """Turns results into points, record after record.

    ``channel_s`` is how often channels are told while all is well; while an alarm of their asset
    stands, each tick is.
    """

    def __init__(
        self,
        plan: Plan,
        bundles: Mapping[str, Bundle],
        *,
        channel_s: float,
    ) -> None:
        self._plan = plan
        self._assets = {asset.id: asset for asset in plan.assets}
        self._models = {kind: bundle.card.kind for kind, bundle in bundles.items()}
        self._thresholds = {
            name: threshold_of(kind, bundles.get(name)) or 0.0 for name, kind in plan.kinds.items()
        }
        self._together = {
            name: self._thresholds[name]
            if kind.fusion is None or kind.fusion.threshold == "auto"
            else kind.fusion.threshold
            for name, kind in plan.kinds.items()
        }
        self._tags_of = {asset.name: _tags(plan.site, asset) for asset in plan.assets}
        self._cameras = {camera.id: camera for camera in plan.cameras}
        self._channel_ns = round(channel_s * SECOND)
        self._standing: set[tuple[str, str]] = set()

    def settle(self, standing: Iterable[Standing]) -> None:
        """These stand before the next record."""
        self._standing = {(alarm.asset, alarm.id) for alarm in standing if _of_asset(alarm)}

    def of(self, results: Results) -> list[Points]:
        """The points of results, in no order. Results must come in the order of the journal."""
        near = self._spans(results.alarms)
        points = [self._alarm_event(event) for event in _apart(results.alarms)]
        for scores in results.scores:
            points += self._of_kind(scores, near)
        points += [
            self._picture_result(camera, result)
            for result in results.pictures
            if (camera := self._cameras.get(result.camera)) is not None
        ]
        for judgements in results.judgements:
            points += self._of_both(judgements)
        return points

    def _picture_result(self, camera: Camera, result: PictureResult) -> Points:
        """A picture. Two of one camera, moment, label and grade are one point."""
        fields = {
            "valid": bool(result.model),
            "probability": result.probability,
            "surprise": result.surprise or 0.0,
            "defects": len(result.defects),
            "sized": any(one.width_mm is not None for one in result.defects),
        } | {  # of the largest
            name: max((getattr(one, name) or 0.0 for one in result.defects), default=0.0)
            for name in ("width_mm", "height_mm", "length_mm", "area_mm2")
        }
        ahead = result.outlook
        fields |= {
            "foretold": ahead is not None,
            "begun": ahead is not None and ahead.onset is None,
        }
        fields |= {
            name: 0.0 if ahead is None else getattr(ahead, of)
            for name, of in (
                ("area_now", "now"),
                ("area_ahead", "area"),
                ("area_low", "low"),
                ("area_high", "high"),
            )
        }
        fields["onset"] = 0.0 if ahead is None or ahead.onset is None else ahead.onset
        fields["warn_area"] = camera.warn_area or 0.0
        return Points(
            measurement="picture_result",
            tags=self._tags_of[camera.asset]
            | {
                "camera": camera.name,
                "label": result.label or result.rejected or NO_MODEL,
                "grade": str(result.grade),
            },
            time=np.array([result.time], np.int64),
            fields={name: _finite(np.array([one], np.float64)) for name, one in fields.items()},
            texts={
                "part": (result.part or "",),
                "recipe": (result.recipe or "",),
                "picture": (result.hash,),
                "rule": (result.rule,),
                "reason": (result.reason,),
                "model_hash": (result.model,),
                "area_unit": ("" if ahead is None else ahead.unit,),
            },
        )

    def _of_both(self, judged: Judgements) -> Iterator[Points]:
        """What sensors and pictures say together; 0 with ``has_...`` 0 is a side that is absent."""
        spoke = judged.spoke
        columns = {
            "surprise": _finite(judged.surprise),
            "agreed": _finite(np.where(spoke == Spoke.BOTH, judged.agreed, np.nan)),
            "threshold": np.full(len(judged), self._together[judged.kind]),
            "sensor": _finite(judged.sensor),
            "picture": _finite(judged.picture),
            "picture_age_s": _finite(judged.age),
            "picture_weight": _finite(judged.weight),
            "has_sensor": (spoke & Spoke.SENSORS > 0).astype(np.float64),
            "has_picture": (spoke & Spoke.PICTURES > 0).astype(np.float64),
            "valid": (spoke != Spoke.NOBODY).astype(np.float64),
        }
        for number, rows in _by_asset(judged.asset):
            if (asset := self._assets.get(number)) is not None:
                yield Points(
                    measurement="asset_judgement",
                    tags=self._tags_of[asset.name],
                    time=judged.tick[rows],
                    fields={name: column[rows] for name, column in columns.items()},
                )

    def _of_kind(
        self, scores: Scores, near: Mapping[str, Sequence[tuple[int, int]]]
    ) -> Iterator[Points]:
        """Whole columns first, then each asset's rows of them: an asset has only a few."""
        model = {"model": self._models.get(scores.kind, NO_MODEL)}
        tick_ms = self._plan.kinds[scores.kind].tick_ms
        ok = (scores.state == ScoreState.OK) & np.isfinite(scores.surprise)
        of_asset = {
            "surprise": _finite(scores.surprise),
            "threshold": np.full(len(scores), self._thresholds[scores.kind]),
            "raw": _finite(scores.raw),
            "coverage": _finite(scores.coverage),
            "state": scores.state.astype(np.float64),
            "valid": ok.astype(np.float64),
        }
        residual = scores.value - scores.expected
        of_channel = {  # each [N, C]
            "value": _finite(scores.value),
            "expected": _finite(scores.expected),
            "residual": _finite(residual),
            "spread": _finite(scores.spread),
            "contribution": _finite(scores.blame),
            "valid": np.isfinite(scores.value).astype(np.float64),
            "judged": np.isfinite(residual).astype(np.float64),
        }
        for number, rows in _by_asset(scores.asset):
            if (asset := self._assets.get(number)) is None:
                continue
            tags = self._tags_of[asset.name] | model
            tick = scores.tick[rows]
            spans = near.get(asset.name, ())
            yield Points(
                measurement="asset_score",
                tags=tags,
                time=tick,
                fields={name: column[rows] for name, column in of_asset.items()}
                | {"alarms_open": _open(tick, spans)},
            )
            told = self._told(tick, tick_ms, spans)
            if not told.any():
                continue
            own = {name: table[rows[told]] for name, table in of_channel.items()}
            for place, channel in enumerate(scores.channels):
                yield Points(
                    measurement="channel_score",
                    tags=tags | {"channel": channel},
                    time=tick[told],
                    fields={name: table[:, place] for name, table in own.items()},
                )

    def _told(self, tick: I64, tick_ms: int, near: Sequence[tuple[int, int]]) -> Bool:
        """Which ticks [N] tell of their channels: the first of each span, and all in an alarm."""
        told: Bool = np.ones(len(tick), np.bool_)
        if self._channel_ns:
            span = tick // self._channel_ns
            told = span != (tick - tick_ms * MILLISECOND) // self._channel_ns
        for since, until in near:
            told |= (tick >= since) & (tick <= until)
        return told

    def _spans(self, events: Iterable[AlarmEvent]) -> dict[str, list[tuple[int, int]]]:
        """When alarms of each asset stand, both ends within, as far as these events say."""
        since = dict.fromkeys(self._standing, NEVER)
        spans = defaultdict(list)
        for event in filter(_of_asset, events):
            alarm = (event.asset, event.id)
            if event.transition is Transition.RAISED:
                since[alarm] = event.tick
            elif event.transition is Transition.RETURNED:
                spans[event.asset].append((since.pop(alarm, event.tick), event.tick))
        for (asset, _), start in since.items():
            spans[asset].append((start, FOREVER))
        self._standing = set(since)
        return spans

    def _alarm_event(self, event: AlarmEvent) -> Points:
        named = {"site": self._plan.site, "asset": event.asset}
        return Points(
            measurement="alarm_event",
            tags=(self._tags_of.get(event.asset, named) if _of_asset(event) else named)
            | {
                "class": str(event.alarm_class),
                "point": event.point,
                "transition": str(event.transition),
            },
            time=np.array([event.tick], np.int64),
            fields={
                "value": _finite(np.array([event.value])),
                "threshold": _finite(np.array([event.threshold])),
                "valid": np.isfinite(np.array([event.value])).astype(np.float64),
                "shelved": np.array([event.shelved_until is not None], np.float64),
            },
            texts={
                "alarm_id": (event.id,),
                "reason": (event.reason,),
                "who": (event.who,),
                "fault": ("" if event.diagnosis is None else event.diagnosis.fault,),
                "picture": (event.picture,),
            },
        )


def health_points(standing: ServiceStanding, *, site: str, ready: bool) -> list[Points]:
    """How the service stands as ``pipeline_health``: a row of it, one a source, and one a sink.

    An age that is not known yet is 0, with ``sampled`` 0 beside it.
    """
    time = np.array([standing.now // HEALTH_NS * HEALTH_NS], np.int64)

    def row(tags: dict[str, str], fields: Mapping[str, float | None]) -> Points:
        return Points(
            measurement="pipeline_health",
            tags={"site": site} | tags,
            time=time,
            fields={name: np.array([value or 0], np.float64) for name, value in fields.items()},
        )

    sinks = standing.sinks.values()
    scored = standing.frames.get("ok", 0)
    service = row(
        {},
        {
            "ready": ready,
            "frames_scored": scored,
            "frames_skipped": sum(standing.frames.values()) - scored,
            "latency_p50_ms": standing.latency_ms["p50"],
            "latency_p99_ms": standing.latency_ms["p99"],
            "inspecting": not standing.inspection.trouble,
            "inspection_p50_ms": standing.inspection.latency_ms["p50"],
            "inspection_p99_ms": standing.inspection.latency_ms["p99"],
            "behind_s": standing.behind_s,
            "journal_bytes": standing.journal_bytes,
            "alarms_open": sum(standing.alarms_open.values()),
            "backlog": sum(sink.items for sink in sinks),
            "oldest_age_s": max((sink.oldest_age_s or 0 for sink in sinks), default=0),
            "dropped": sum(sink.dropped for sink in sinks),
            "dead_letters": sum(sink.dead_letters for sink in sinks),
        },
    )
    sources = [
        row(
            {"source": name},
            {
                "connected": source.connected,
                "fresh": source.fresh,
                "sampled": source.sample_age_s is not None,
                "sample_age_s": source.sample_age_s,
                "received": source.counts.received,
                "stored": source.counts.stored,
                "duplicate": source.counts.duplicate,
                "late": source.counts.late,
                "rejected": sum(source.counts.rejected.values()),
                "waiting": source.counts.waiting,
                "gaps": sum(source.gaps.get(kind, 0) for kind in ("gap", "overflow")),
            },
        )
        for name, source in standing.sources.items()
    ]
    of_sinks = [
        row(
            {"sink": name},
            {
                "connected": not sink.reason,
                "backlog": sink.items,
                "backlog_bytes": sink.bytes,
                "oldest_age_s": sink.oldest_age_s,
                "dropped": sink.dropped,
                "dead_letters": sink.dead_letters,
            },
        )
        for name, sink in standing.sinks.items()
    ]
    return [service, *sources, *of_sinks]


def _of_asset(alarm: AlarmEvent | Standing) -> bool:
    """Whether it is of a machine: what is wrong with a source has the source's name there."""
    return alarm.alarm_class is not AlarmClass.PIPELINE


def _tags(site: str, asset: Asset) -> dict[str, str]:
    area = {} if asset.area is None else {"area": asset.area}
    return {"site": site, "asset": asset.name} | area


def _apart(events: Iterable[AlarmEvent]) -> Iterator[AlarmEvent]:
    """The events, 1 ns later where series and time are taken: several alarms that are unshelved."""
    taken = set()
    for event in events:
        series, tick = (event.asset, event.alarm_class, event.point, event.transition), event.tick
        while (series, tick) in taken:
            tick += 1
        taken.add((series, tick))
        yield replace(event, tick=tick)


def _open(tick: I64, spans: Sequence[tuple[int, int]]) -> F64:
    """How many of these alarms stand at each tick [N]; one that returns at a tick does no more."""
    count = np.zeros(len(tick))
    for since, until in spans:
        count += (tick >= since) & (tick < until)
    return count


def _by_asset(asset: I32) -> Iterator[tuple[int, Index]]:
    """The number of each asset and which rows are its own, in order of time."""
    order = np.argsort(asset, kind="stable")
    for rows in np.split(order, np.flatnonzero(changes(asset[order]))[1:]):
        yield int(asset[rows[0]]), rows


def _finite(column: np.ndarray) -> F64:
    """The column as float64, 0 where it is no number."""
    return np.where(np.isfinite(column), column, 0).astype(np.float64)

"""What the step found, and how far it had come: scores, alarms, gaps, late samples.

Results and the number of the record they come from are stored together, so after a crash each
record's results are in exactly once, or not at all and the record is stepped again.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectors.batch import Samples
from models.naming import Named
from monitor.core.digest import digest
from monitor.core.missing import SourceGap
from monitor.core.records import (
    AlarmClass,
    AlarmEvent,
    Gap,
    Results,
    Scores,
    Shelf,
    Standing,
    Transition,
)
from monitor.state.columns import apart, pack, unpack
from monitor.state.database import EARLIEST, LATEST, DatabaseReader, Transaction
from monitor.state.errors import CorruptError
from monitor.state.judgements import StoredJudgements
from monitor.state.losses import Loss, Losses
from monitor.state.names import Family, Names
from monitor.state.picture_results import PictureResults
from monitor.state.source_gaps import SourceGaps


class AlarmState(StrEnum):
    """Where an alarm stands."""

    ACTIVE = "active"
    ACKNOWLEDGED = "acknowledged"  # and still active
    RETURNED = "returned"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """One alarm as it stands now; reason, value and blame are those it was raised with."""

    id: str
    asset: str
    alarm_class: AlarmClass
    point: str
    raised: int  # ns since 1970 UTC, event time
    changed: int  # ns since 1970 UTC, event time of the last transition
    reason: str
    value: float
    threshold: float
    blame: Mapping[str, float]
    active: bool
    acknowledged: bool
    tripped: bool  # its machine stopped soon after it was raised
    shelved_until: int | None  # ns since 1970 UTC, wall time; None: it is not shelved
    who: str  # the last person who did something to it, "" if nobody did
    diagnosis: Named | None  # what it looks like, as was told last; None: nobody says
    picture: str = ""  # hash of the picture that raised it, hex; "": none did

    @property
    def state(self) -> AlarmState:
        """The one word for it."""
        if not self.active:
            return AlarmState.RETURNED
        return AlarmState.ACKNOWLEDGED if self.acknowledged else AlarmState.ACTIVE


_NEWEST_BLOCKS = 256  # looked through for the newest scores: minutes of a live plant

# What a transition changes of a standing alarm: (column, value)
_CHANGES = {
    Transition.RAISED: {"active": 1},
    Transition.RETURNED: {"active": 0},
    Transition.ACKNOWLEDGED: {"acknowledged": 1},
}


@dataclass(frozen=True, slots=True)
class Store:
    """The results kept in one database. Intervals are (since, until], ns since 1970 UTC."""

    database: DatabaseReader

    def write(self, tx: Transaction, results: Results, *, done: int) -> bool:
        """Store the results of the records up to number ``done``.

        False: they are in already, and nothing was written; then put nothing into the outbox.
        """
        moved = tx.execute(
            "INSERT INTO progress (name, record) VALUES ('done', ?)"
            " ON CONFLICT (name) DO UPDATE SET record = excluded.record"
            " WHERE excluded.record > record",
            (done,),
        ).rowcount
        if not moved:
            return False
        for scores in results.scores:
            _write_scores(tx, scores, done)
        for event in results.alarms:
            _write_alarm(tx, event)
        tx.executemany(
            "INSERT INTO gap (asset, since, until) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            [(gap.asset, gap.since, gap.until) for gap in results.gaps],
        )
        SourceGaps(self.database).add(tx, results.source_gaps)
        PictureResults(self.database).add(tx, results.pictures)
        StoredJudgements(self.database).add(tx, results.judgements)
        tx.executemany(
            "INSERT INTO late (record, samples, body) VALUES (?, ?, ?)",
            [(done, len(samples), pack(*apart(samples))) for samples in results.late],
        )
        return True

    def done(self) -> int:
        """The last record whose results are in; 0 at the start."""
        rows = self.database.query("SELECT record FROM progress WHERE name = 'done'")
        return int(rows[0][0]) if rows else 0

    def poison(self) -> set[int]:
        """The records at which the step failed: they are not stepped again."""
        rows = self.database.query("SELECT record FROM progress WHERE name LIKE 'poison %'")
        return {record for (record,) in rows}

    def note_poison(self, tx: Transaction, record: int) -> None:
        """The step failed at this record."""
        tx.execute(
            "INSERT INTO progress (name, record) VALUES (?, ?) ON CONFLICT DO NOTHING",
            (f"poison {record}", record),
        )

    def scores(
        self,
        kind: str | None = None,
        asset: int | None = None,
        since: int | None = None,
        until: int | None = None,
    ) -> Iterator[Scores]:
        """Scores at full rate, block by block as they were stored, with only the rows asked for.

        For each asset that is in order of tick, within blocks and from block to block: its frames
        close in that order. Several assets in one block may be at different times. Raises
        CorruptError with the number of a block that does not read back.
        """
        since, until = _bounds(since, until)
        found = self.database.query(
            "SELECT id FROM score_block WHERE last_tick > :since AND first_tick <= :until"
            " AND (:kind IS NULL OR kind = :kind)"
            " AND (:asset IS NULL OR :asset BETWEEN first_asset AND last_asset)"
            " ORDER BY id",
            {"since": since, "until": until, "kind": kind, "asset": asset},
        )
        for (number,) in found:
            rows = self.database.query("SELECT kind, body FROM score_block WHERE id = ?", (number,))
            for name, body in rows:  # none: it became a rollup meanwhile
                block = read_scores(number, name, body)
                wanted = (block.tick > since) & (block.tick <= until)
                if asset is not None:
                    wanted &= block.asset == asset
                if wanted.all():
                    yield block
                elif wanted.any():
                    yield rows_of(block, wanted)

    def latest(self) -> dict[int, Scores]:
        """The newest row of each asset, by its number; of those silent for long there may be none.

        A block that does not read back is passed over.
        """
        found: dict[int, Scores] = {}
        wanted = len(Names(self.database).of(Family.ASSET))
        for number, last_tick in self.database.query(
            "SELECT id, last_tick FROM score_block ORDER BY last_tick DESC, id DESC LIMIT ?",
            (_NEWEST_BLOCKS,),
        ):
            if len(found) == wanted and last_tick <= min(
                int(row.tick[0]) for row in found.values()
            ):
                break
            rows = self.database.query("SELECT kind, body FROM score_block WHERE id = ?", (number,))
            for kind, body in rows:  # none: it became a rollup meanwhile
                try:
                    block = read_scores(number, kind, body)
                except CorruptError:
                    continue  # counted when it becomes old
                for asset in np.unique(block.asset).tolist():
                    last = int(np.flatnonzero(block.asset == asset)[-1])
                    if asset not in found or block.tick[last] > found[asset].tick[0]:
                        found[asset] = rows_of(block, np.arange(len(block)) == last)
        return found

    def digest(self, since: int | None = None, until: int | None = None) -> str:
        """The digest of all scores at full rate: what a backfill or a replay must give, too."""
        return digest(self.scores(since=since, until=until), Names(self.database).of(Family.ASSET))

    def alarms(
        self,
        *,
        active_only: bool = False,
        shelved_only: bool = False,
        asset: str | None = None,
        since: int | None = None,
        beginning: str = "",
    ) -> list[Alarm]:
        """Alarms raised after ``since``, the newest first; ``active_only``: that stand now.

        ``beginning`` is how their ids begin.
        """
        rows = self.database.query(
            "SELECT alarm, asset, class, point, raised, changed, reason, value, threshold, blame,"
            " active, acknowledged, shelved, who, EXISTS (SELECT 1 FROM alarm_event AS event"
            " WHERE event.alarm = alarm.alarm AND event.transition = 'tripped'), diagnosis, picture"
            " FROM alarm WHERE raised > :since"
            " AND (:asset IS NULL OR asset = :asset) AND (active OR NOT :active)"
            " AND (shelved OR NOT :shelved)"
            " AND substr(alarm, 1, length(:beginning)) = :beginning"
            " ORDER BY raised DESC, alarm",
            {
                "since": _bounds(since, None)[0],
                "asset": asset,
                "active": active_only,
                "shelved": shelved_only,
                "beginning": beginning,
            },
        )
        return [
            Alarm(
                id=row[0],
                asset=row[1],
                alarm_class=AlarmClass(row[2]),
                point=row[3],
                raised=row[4],
                changed=row[5],
                reason=row[6],
                value=_number(row[7]),
                threshold=_number(row[8]),
                blame=json.loads(row[9]),
                active=bool(row[10]),
                acknowledged=bool(row[11]),
                shelved_until=row[12] or None,
                who=row[13],
                tripped=bool(row[14]),
                diagnosis=_diagnosis(row[15]),
                picture=row[16] or "",
            )
            for row in rows
        ]

    def alarms_open(self) -> dict[AlarmClass, int]:
        """How many alarms of each class stand."""
        rows = self.database.query("SELECT class, COUNT(*) FROM alarm WHERE active GROUP BY class")
        return dict.fromkeys(AlarmClass, 0) | {AlarmClass(name): count for name, count in rows}

    def raised(self, alarm_class: AlarmClass, *, since: int) -> dict[str, int]:
        """How many alarms of a class each asset raised after ``since``; none for those without."""
        rows = self.database.query(
            "SELECT asset, COUNT(*) FROM alarm WHERE raised > ? AND class = ?"
            " GROUP BY asset ORDER BY asset",
            (since, alarm_class),
        )
        return dict(rows)

    def standing(self) -> list[Standing]:
        """The alarms that have not returned, the newest first."""
        return [_standing(alarm) for alarm in self.alarms(active_only=True)]

    def shelves(self) -> list[Shelf]:
        """The points that are shelved."""
        places: dict[tuple[str, str, str], list[Alarm]] = {}
        for alarm in self.alarms(shelved_only=True):
            places.setdefault((alarm.asset, alarm.alarm_class, alarm.point), []).append(alarm)
        return [self._shelf(alarms) for alarms in places.values()]

    def _shelf(self, alarms: Sequence[Alarm]) -> Shelf:
        """The shelf of a point, from its alarms since it was shelved, the newest first."""
        put = [
            event
            for alarm in alarms
            for event in self.alarm_events(alarm=alarm.id)
            if event.transition is Transition.SHELVED
        ]
        last = max(put, key=lambda event: event.tick)
        named = {event.id for event in put}
        assert last.shelved_until is not None  # noqa: S101 - so it was written
        return Shelf(
            until=last.shelved_until,
            who=last.who,
            why=last.reason,
            told=tuple(_standing(alarm) for alarm in reversed(alarms) if alarm.id in named),
            newest=_standing(alarms[0]),
        )

    def alarm_events(
        self, *, alarm: str | None = None, asset: str | None = None, since: int | None = None
    ) -> list[AlarmEvent]:
        """Every transition after ``since``, in the order in which they happened."""
        rows = self.database.query(
            "SELECT alarm, asset, class, point, transition, tick, raised, reason, value,"
            " threshold, blame, who, active, acknowledged, shelved_until, diagnosis, picture"
            " FROM alarm_event"
            " WHERE tick > :since"
            " AND (:alarm IS NULL OR alarm = :alarm)"
            " AND (:asset IS NULL OR asset = :asset) ORDER BY number",
            {"since": _bounds(since, None)[0], "alarm": alarm, "asset": asset},
        )
        return [
            AlarmEvent(
                id=row[0],
                asset=row[1],
                alarm_class=AlarmClass(row[2]),
                point=row[3],
                transition=Transition(row[4]),
                tick=row[5],
                raised=row[6],
                reason=row[7],
                value=_number(row[8]),
                threshold=_number(row[9]),
                blame=json.loads(row[10]),
                who=row[11],
                active=_truth(row[12]),
                acknowledged=_truth(row[13]),
                shelved_until=row[14],
                diagnosis=_diagnosis(row[15]),
                picture=row[16] or "",
            )
            for row in rows
        ]

    def source_gaps(
        self, source: str | None = None, since: int | None = None, until: int | None = None
    ) -> list[SourceGap]:
        """What sources said is missing: what still is, and what was filled. In order of time."""
        return SourceGaps(self.database).read(source, since, until)

    def gaps(self, asset: str | None = None) -> list[Gap]:
        """Stretches of assets that nobody scored, in order of time."""
        rows = self.database.query(
            "SELECT asset, since, until FROM gap WHERE (:asset IS NULL OR asset = :asset)"
            " ORDER BY since, asset",
            {"asset": asset},
        )
        return [Gap(asset=name, since=since, until=until) for name, since, until in rows]

    def late(self, after: int = 0) -> Iterator[tuple[int, Samples]]:
        """Late batches after number ``after``, as they came. Raises CorruptError with a number."""
        for (number,) in self.database.query(
            "SELECT number FROM late WHERE number > ? ORDER BY number", (after,)
        ):
            rows = self.database.query("SELECT body FROM late WHERE number = ?", (number,))
            for (body,) in rows:  # none: forgotten meanwhile
                columns, meta = unpack(body, what=f"late samples {number}", number=number)
                yield number, Samples(**(columns | meta))

    def newest(self) -> int:
        """The tick of the newest score at full rate, ns since 1970 UTC; 0: there is none."""
        ((tick,),) = self.database.query("SELECT MAX(last_tick) FROM score_block")
        return int(tick or 0)

    def forget_late(self, tx: Transaction, *, now: int, before: int, limit: int) -> int:
        """Delete late batches first looked at ``before`` or earlier; how many, ``limit`` at most.

        Those never looked at before are looked at ``now``. Times are wall time, ns. What goes is
        counted as lost, in samples.
        """
        tx.execute(
            "UPDATE late SET kept_from = ? WHERE number IN"
            " (SELECT number FROM late WHERE kept_from IS NULL LIMIT ?)",
            (now, limit),
        )
        gone = tx.execute(
            "DELETE FROM late WHERE number IN"
            " (SELECT number FROM late WHERE kept_from <= ? LIMIT ?) RETURNING samples",
            (before, limit),
        ).fetchall()
        Losses(self.database).add(tx, Loss.LATE_SAMPLES, sum(samples for (samples,) in gone))
        return len(gone)

    def forget_alarms(self, tx: Transaction, *, before: int, limit: int) -> int:
        """Delete alarms that changed last ``before`` or earlier, with their events; how many.

        Event time, ns; ``limit`` at most. Never one that stands or is shelved.
        """
        gone = tx.execute(
            "DELETE FROM alarm WHERE alarm IN (SELECT alarm FROM alarm WHERE raised <= :before"
            " AND changed <= :before AND NOT active AND NOT shelved ORDER BY raised LIMIT :limit)"
            " RETURNING alarm",
            {"before": before, "limit": limit},
        ).fetchall()
        tx.executemany("DELETE FROM alarm_event WHERE alarm = ?", gone)
        return len(gone)

    def forget_gaps(self, tx: Transaction, *, before: int, limit: int) -> int:
        """Delete gaps that ended ``before`` or earlier, event time, ns; how many, at most limit."""
        return tx.execute(
            "DELETE FROM gap WHERE (asset, since, until) IN"
            " (SELECT asset, since, until FROM gap WHERE until <= ? ORDER BY until LIMIT ?)",
            (before, limit),
        ).rowcount

    def write_status(self, tx: Transaction, status: Mapping[str, Any]) -> None:
        """Keep the counters as they stand: one JSON value, the last one wins."""
        tx.execute(
            "INSERT INTO status (only_row, body) VALUES (1, ?)"
            " ON CONFLICT (only_row) DO UPDATE SET body = excluded.body",
            (json.dumps(dict(status)),),
        )

    def status(self) -> dict[str, Any] | None:
        """The counters as they were last kept; None before, and where they do not read back."""
        rows = self.database.query("SELECT body FROM status")
        try:
            return dict(json.loads(rows[0][0])) if rows else None
        except ValueError:
            return None


def _standing(alarm: Alarm) -> Standing:
    return Standing(
        id=alarm.id,
        asset=alarm.asset,
        alarm_class=alarm.alarm_class,
        point=alarm.point,
        raised=alarm.raised,
        threshold=alarm.threshold,
        acknowledged=alarm.acknowledged,
        active=alarm.active,
    )


def read_scores(number: int, kind: str, body: bytes) -> Scores:
    """The scores of one stored block. Raises CorruptError with its number."""
    columns, meta = unpack(
        body, what=f"score block {number} of {kind}", number=number, bound_to=kind.encode()
    )
    return Scores(kind=kind, channels=tuple(meta["channels"]), **columns)


def rows_of(scores: Scores, wanted: NDArray[np.bool_]) -> Scores:
    """The rows of a block where ``wanted`` (bool [N]) is true."""
    columns, meta = apart(scores)
    return Scores(**(meta | {name: column[wanted] for name, column in columns.items()}))


def _write_scores(tx: Transaction, scores: Scores, record: int) -> None:
    if len(scores) == 0:
        return
    columns, meta = apart(scores, without=("kind",))
    tx.execute(
        "INSERT INTO score_block"
        " (record, kind, first_tick, last_tick, first_asset, last_asset, body)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            record,
            scores.kind,
            int(scores.tick.min()),
            int(scores.tick.max()),
            int(scores.asset.min()),
            int(scores.asset.max()),
            pack(columns, meta, bound_to=scores.kind.encode()),
        ),
    )


def _write_alarm(tx: Transaction, event: AlarmEvent) -> None:
    """Keep the transition and move its alarm; a transition that is there changes nothing."""
    row = {
        "alarm": event.id,
        "asset": event.asset,
        "class": event.alarm_class,
        "point": event.point,
        "transition": event.transition,
        "tick": event.tick,
        "raised": event.raised,
        "reason": event.reason,
        "value": event.value,  # SQLite keeps NaN as NULL
        "threshold": event.threshold,
        "blame": json.dumps(dict(event.blame)),
        "who": event.who,
        "event_active": event.active,
        "event_acknowledged": event.acknowledged,
        "shelved_until": event.shelved_until,
        "diagnosis": None if event.diagnosis is None else json.dumps(asdict(event.diagnosis)),
        "picture": event.picture,
    }
    new = tx.execute(
        "INSERT INTO alarm_event (alarm, asset, class, point, transition, tick, raised, reason,"
        " value, threshold, blame, who, active, acknowledged, shelved_until, diagnosis, picture)"
        " VALUES (:alarm, :asset, :class, :point, :transition, :tick, :raised, :reason, :value,"
        " :threshold, :blame, :who, :event_active, :event_acknowledged, :shelved_until,"
        " :diagnosis, :picture)"
        " ON CONFLICT (alarm, transition, tick) DO NOTHING",
        row,
    ).rowcount
    if not new:
        return
    changes: dict[str, int | None] = dict.fromkeys(("active", "acknowledged"))
    tx.execute(
        "INSERT INTO alarm (alarm, asset, class, point, raised, changed, reason, value, threshold,"
        " blame, active, acknowledged, shelved, who, diagnosis, picture)"
        " VALUES (:alarm, :asset, :class, :point, :raised, :tick, :reason, :value, :threshold,"
        " :blame, coalesce(:active, 0), coalesce(:acknowledged, 0), coalesce(:shelved_until, 0),"
        " :who, :diagnosis, :picture)"
        " ON CONFLICT (alarm) DO UPDATE SET changed = :tick, active = coalesce(:active, active),"
        " acknowledged = coalesce(:acknowledged, acknowledged),"
        " who = CASE WHEN :who = '' THEN who ELSE :who END,"
        " diagnosis = coalesce(:diagnosis, diagnosis)",
        row | changes | _CHANGES.get(event.transition, {}),
    )
    if event.transition in (Transition.SHELVED, Transition.UNSHELVED):
        tx.execute(  # it is the point that is shelved: with all of its alarms that were, till now
            "UPDATE alarm SET shelved = coalesce(:shelved_until, 0) WHERE asset = :asset"
            " AND class = :class AND point = :point AND (alarm = :alarm OR shelved)",
            row,
        )


def _bounds(since: int | None, until: int | None) -> tuple[int, int]:
    return (EARLIEST if since is None else since), (LATEST if until is None else until)


def _diagnosis(stored: str | None) -> Named | None:
    return None if stored is None else Named(**json.loads(stored))


def _truth(stored: int | None) -> bool | None:
    return None if stored is None else bool(stored)


def _number(stored: float | None) -> float:
    return math.nan if stored is None else stored

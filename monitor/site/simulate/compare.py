"""What was sent against what was taken in: every sample once, by tag, time and value.

The ledger says what was sent, the journal what came and where the service itself says that
something is missing. Whatever is missing outside of what it says was lost quietly.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from connectors.batch import I32, I64, Notice, NoticeKind, Samples, Waveforms, usable
from monitor.site.config import load
from monitor.site.simulate.ledger import Bools, Ledger, explained
from monitor.site.simulate.plan import Lane, Simulation
from monitor.site.simulate.values import Values
from monitor.site.simulate.watcher import FILE, source_of
from monitor.site.status import summary
from monitor.state.database import DatabaseReader
from monitor.state.journal import Journal
from monitor.state.names import Family, Names

# N samples of one batch, T ticks of a lane, A assets, C channels, G samples that are missing

MILLISECOND = 1_000_000
MOST_EXAMPLES = 5
SAYS_MISSING = (NoticeKind.GAP, NoticeKind.OVERFLOW)

Index = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What a ledger holds."""

    simulation: Simulation
    ticks: tuple[I64, ...]  # of each lane, [T] in order
    acknowledged: tuple[Bools, ...]  # of each lane, [T, A]

    @classmethod
    def of(cls, ledger: Ledger) -> Self:
        """All that is in a ledger by now."""
        lanes = range(len(ledger.simulation.lanes))
        found = [ledger.sent(lane) for lane in lanes]
        return cls(
            simulation=ledger.simulation,
            ticks=tuple(ticks for ticks, _ in found),
            acknowledged=tuple(has for _, has in found),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Counts are of samples; times ns since 1970 UTC."""

    sent: int
    acknowledged: int  # by the peer: the broker, or the OPC UA server that holds them
    received: int  # of those sent, repeats included
    stored: int  # of those sent, each once
    duplicated: int  # received, and not for the first time
    early: int  # acknowledged before the service first heard of the tag: not judged
    in_gaps: int  # acknowledged, not stored, and the service says so
    lost: int  # acknowledged, not stored, and nothing says so: must be 0
    differing: int  # received with another value or a bad status: must be 0
    unknown: int  # received as good, never sent: must be 0
    first: int | None = None  # time of the first one stored
    last: int | None = None
    examples: tuple[str, ...] = ()  # of what must not be, in words

    @property
    def holds(self) -> bool:
        """Whether nothing was lost quietly, and nothing made up."""
        return not (self.lost or self.differing or self.unknown)

    def to_json(self) -> dict[str, Any]:
        """For scripts."""
        return {**asdict(self), "examples": list(self.examples), "holds": self.holds}


def compare(
    sent: Sent,
    batches: Iterable[Samples | Waveforms | Notice],
    tags: Mapping[int, str],
    *,
    since: int | None = None,
) -> Comparison:
    """Hold what came against what was sent.

    Args:
        sent: The ledger.
        batches: All that sources gave, in the order of the journal.
        tags: What the numbers of tags stand for, as asset/channel.
        since: Judge what is stamped from here on, in ns; left out: each tag from what was stored
            of it first.
    """
    values = Values(sent.simulation)
    tallies = [_Tally(sent, number, values) for number in range(len(sent.ticks))]
    places = _Places(sent.simulation, tags)
    statements: list[Notice] = []
    unknown: Counter[str] = Counter()
    for batch in batches:
        if isinstance(batch, Notice):
            if batch.kind in (*SAYS_MISSING, NoticeKind.FILLED):
                statements.append(batch)
            continue
        unknown += places.hand_out(batch, tallies)
    found = [tally.judged(statements, places, since) for tally in tallies]
    return _together(found, unknown)


def compare_folder(
    folder: Path, data: Path | None = None, *, since: int | None = None
) -> tuple[Comparison, dict[str, Any]]:
    """The same for a simulation's folder, and the counts of the service that watched it.

    Args:
        folder: Where the ledger is.
        data: The data folder of the service; left out: what ``plant.yaml`` in the folder says.
        since: As for ``compare``.

    Raises PlantError for no ledger, ConfigError for a plant.yaml that is missing or wrong,
    StateError for no state, CorruptError where the journal has let go of its beginning.
    """
    with explained(folder), closing(Ledger(folder)) as ledger:
        sent = Sent.of(ledger)
    with DatabaseReader(data or load(folder / FILE).data_dir) as database:
        bodies = (record.body for _, record in Journal(database).read(0))
        batches = (body for body in bodies if isinstance(body, Samples | Waveforms | Notice))
        found = compare(sent, batches, Names(database).of(Family.TAG), since=since)
        return found, summary(database)


class _Places:
    """Which lane, asset and channel each tag number stands for."""

    def __init__(self, simulation: Simulation, tags: Mapping[int, str]) -> None:
        known = {
            f"{asset}/{channel}": (number, place, column)
            for number, lane in enumerate(simulation.lanes)
            for place, asset in enumerate(lane.asset_names)
            for column, channel in enumerate(lane.channel_names)
        }
        self._table = np.full((max(tags, default=0) + 2, 3), -1)
        self.tag = [np.full((lane.assets, lane.channels), -1) for lane in simulation.lanes]
        self._names = tags
        for tag, name in tags.items():
            if name in known:
                number, place, column = known[name]
                self._table[tag] = number, place, column
                self.tag[number][place, column] = tag

    def hand_out(self, batch: Samples | Waveforms, tallies: "list[_Tally]") -> Counter[str]:
        """Give each tally its rows of a batch; what nobody sent, by tag."""
        lane_N, place_N, column_N = self._table[np.clip(batch.tag, -1, len(self._table) - 2)].T
        strange_N = lane_N < 0
        for number, tally in enumerate(tallies):
            mine = np.flatnonzero(lane_N == number)
            if len(mine):
                strange_N[mine] = tally.take(batch, mine, place_N[mine], column_N[mine])
        strange_N &= usable(batch.status)  # a value that was never measured was never sent
        return Counter(self._names.get(tag, str(tag)) for tag in batch.tag[strange_N].tolist())


class _Tally:
    """What came of one lane."""

    def __init__(self, sent: Sent, number: int, values: Values) -> None:
        self._lane: Lane = sent.simulation.lanes[number]
        self._number, self._values = number, values
        self._ticks_T, self._acknowledged_TA = sent.ticks[number], sent.acknowledged[number]
        shape = len(self._ticks_T), self._lane.assets, self._lane.channels
        self._seen_TAC = np.zeros(shape, np.bool_)
        self._received = 0
        self._differing: list[tuple[int, int, int]] = []  # tick, asset, channel
        self._different = 0

    def take(
        self, batch: Samples | Waveforms, rows: Index, place: Index, column: Index
    ) -> NDArray[np.bool_]:
        """Note rows [N] of a batch; which of them were never sent [N]."""
        lane, time = self._lane, batch.time[rows]
        tick, rest = np.divmod(time, lane.period_ms * MILLISECOND)
        at = np.minimum(np.searchsorted(self._ticks_T, tick), max(len(self._ticks_T) - 1, 0))
        known: Bools = rest == 0
        known &= self._ticks_T[at] == tick if len(self._ticks_T) else np.False_
        rows, place, column = rows[known], place[known], column[known]
        tick, at = tick[known], at[known]
        was_sent = self._values.at(self._number, place, column, tick)
        given = (batch.value if isinstance(batch, Samples) else batch.block)[rows]
        same = np.zeros(len(rows), np.bool_)
        if given.shape == was_sent.shape:
            same = (given == was_sent).all(axis=tuple(range(1, given.ndim)))
        same &= usable(batch.status[rows])
        self._received += len(rows)
        self._seen_TAC[at, place, column] = True
        self._different += int((~same).sum())
        wrong = np.flatnonzero(~same)[: MOST_EXAMPLES - len(self._differing)]
        self._differing += [(int(tick[n]), int(place[n]), int(column[n])) for n in wrong]
        return ~known

    def judged(self, statements: list[Notice], places: _Places, since: int | None) -> Comparison:
        """What is missing, and whether the statements say so; the last one on a sample counts."""
        lane, seen_TAC = self._lane, self._seen_TAC
        time_T = self._ticks_T * (lane.period_ms * MILLISECOND)
        came_T = time_T[seen_TAC.any(axis=(1, 2))]
        sent_TAC = self._values.sent(self._number, self._ticks_T)
        acknowledged_TAC = self._acknowledged_TA[:, :, None] & sent_TAC
        missing_TAC = acknowledged_TAC & ~seen_TAC
        begin_AC = self._begin(time_T) if since is None else np.int64(since)
        early_TAC = missing_TAC & (time_T[:, None, None] < begin_AC)
        early = int(early_TAC.sum())
        row_G, place_G, column_G = np.nonzero(missing_TAC & ~early_TAC)
        tag_G, time_G = places.tag[self._number][place_G, column_G], time_T[row_G]
        said_G = _said_missing(
            statements, source_of(lane), tag_G, time_G, lane.takes_ms * MILLISECOND
        )
        lost = np.flatnonzero(~said_G)
        words = [
            f"lost: {self._named(row_G[n], place_G[n], column_G[n])}" for n in lost[:MOST_EXAMPLES]
        ]
        words += [f"differs: {self._named_tick(*where)}" for where in self._differing]
        stored = int(seen_TAC.sum())
        return Comparison(
            sent=int(sent_TAC.sum()) * lane.samples,
            acknowledged=int(acknowledged_TAC.sum()) * lane.samples,
            received=self._received * lane.samples,
            stored=stored * lane.samples,
            duplicated=(self._received - stored) * lane.samples,
            early=early * lane.samples,
            in_gaps=int(said_G.sum()) * lane.samples,
            lost=len(lost) * lane.samples,
            differing=self._different * lane.samples,
            unknown=0,
            first=int(came_T[0]) if len(came_T) else None,
            last=int(came_T[-1]) if len(came_T) else None,
            examples=tuple(words),
        )

    def _begin(self, time_T: I64) -> I64:
        """From when each tag is judged, [A, C]: from its first that came.

        A subscription begins tag by tag, be it in the middle of a tick. A tag of which nothing came
        is judged from where all that came had begun.
        """
        came_AC = self._seen_TAC.any(axis=0)
        if not came_AC.any():
            return np.full(came_AC.shape, np.iinfo(np.int64).min)
        first_AC = self._seen_TAC.argmax(axis=0)
        begin_AC: I64 = time_T[np.where(came_AC, first_AC, first_AC[came_AC].max())]
        return begin_AC

    def _named(self, row: int, place: int, column: int) -> str:
        return self._named_tick(int(self._ticks_T[row]), place, column)

    def _named_tick(self, tick: int, place: int, column: int) -> str:
        moment = np.datetime64(tick * self._lane.period_ms, "ms")
        return f"{self._lane.asset_names[place]}/{self._lane.channel_names[column]} at {moment}Z"


def _said_missing(
    statements: Iterable[Notice], source: str, tag_G: I32, time_G: I64, takes: int
) -> Bools:
    """Whether the last statement on each of these samples says that it is missing, [G]."""
    said_G = np.zeros(len(time_G), np.bool_)
    for one in statements:
        if one.source != source:
            continue
        since, until = one.since, one.until
        within_G = np.ones(len(time_G), np.bool_)
        if since is not None:
            within_G &= time_G + takes > since
        if until is not None:
            within_G &= time_G <= until
        if one.tags:
            within_G &= np.isin(tag_G, one.tags)
        said_G[within_G] = one.kind in SAYS_MISSING
    return said_G


def _together(found: list[Comparison], unknown: Counter[str]) -> Comparison:
    """The lanes as one."""
    counted = (
        "sent", "acknowledged", "received", "stored", "duplicated", "early", "in_gaps", "lost",
        "differing",
    )  # fmt: skip
    words = [word for one in found for word in one.examples]
    words += [
        f"never sent: {tag}, {count} times" for tag, count in unknown.most_common(MOST_EXAMPLES)
    ]
    return Comparison(
        **{name: sum(getattr(one, name) for one in found) for name in counted},
        unknown=unknown.total(),
        first=min((one.first for one in found if one.first is not None), default=None),
        last=max((one.last for one in found if one.last is not None), default=None),
        examples=tuple(words[:MOST_EXAMPLES]),
    )

"""Which fault an alarm may come from: named while it stands, from what was to blame since it began.

Beside the process alarms, where the model has a head that names faults (models/diagnosis.py). What
speaks for a fault is gathered from frames whose surprise is at or over the threshold (what fades
after a fault looks like no fault), until surprise is at rest and no alarm stands. A name is told
when the alarm is raised, which is often too early for one, and again when another one has stood for
some of these frames. A frame costs the same whatever came before.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from connectors.batch import I64
from models.diagnosis import Diagnosis, advance, features
from models.naming import UNKNOWN, Named
from models.settings import DiagnosisSettings
from monitor.core.aggregate import NEVER, Bool, Index
from monitor.core.crossings import Crossing
from monitor.core.plan import AlarmSettings
from monitor.core.records import Scores

# R rows, A assets, C channels, F features


class Evidence:
    """The running features of each asset, of what channels the model sees (``columns``)."""

    def __init__(
        self,
        settings: DiagnosisSettings,
        columns: Index,
        *,
        alarm: AlarmSettings,
        threshold: float,
        assets: int,
    ) -> None:
        self._memory, self._columns = settings.memory_ticks, columns
        self._threshold, self._clear = threshold, threshold * alarm.clear_ratio
        self.ticks = np.zeros(assets, np.int64)  # [A] that were gathered; 0: nothing is
        self.mean = np.zeros((assets, 2 * len(columns)))  # [A, F]

    def step(
        self,
        asset: Index,
        scores: Scores,
        *,
        counts: Bool,
        raised_A: I64,
        crossings: Sequence[Crossing],
    ) -> Iterator[tuple[int, int]]:
        """Each row from which something was gathered, or in which an alarm changed; and its asset.

        Rows [R] in order of tick within each asset. ``raised_A`` says since when a process alarm
        stood before them, NEVER where none did; it is led on with the crossings.
        """
        changes = {crossing.change.row: crossing.change for crossing in crossings}
        busy_A = (self.ticks > 0) | (raised_A != NEVER)
        busy_A[asset[counts & (scores.surprise >= self._threshold)]] = True
        rows = np.flatnonzero(busy_A[asset])
        at = np.ix_(rows, self._columns)
        feature = features(scores.blame[at], scores.value[at], scores.expected[at])
        for place, row in enumerate(rows.tolist()):
            a = int(asset[row])
            if row in changes:
                raised_A[a] = changes[row].raised if changes[row].active else NEVER
            if not counts[row]:
                continue
            if scores.surprise[row] >= self._threshold:
                self.mean[a] = advance(
                    self.mean[a], int(self.ticks[a]), feature[place], memory=self._memory
                )
                self.ticks[a] += 1
            elif raised_A[a] == NEVER and scores.surprise[row] < self._clear:
                self.ticks[a], self.mean[a] = 0, 0.0
            if row in changes or scores.surprise[row] >= self._threshold:
                yield row, a


@dataclass(frozen=True, slots=True)
class Told:
    """A name that an alarm has from this row on."""

    row: int
    raised: int  # ns, which alarm of the row's asset
    name: Named


class Diagnoses:
    """What the process alarms of all assets of one kind may come from."""

    def __init__(
        self,
        head: Diagnosis,
        columns: Index,
        *,
        alarm: AlarmSettings,
        threshold: float,
        assets: int,
    ) -> None:
        self._head = head
        self._settings = head.card.settings
        self._evidence = Evidence(
            self._settings, columns, alarm=alarm, threshold=threshold, assets=assets
        )
        self._names = (UNKNOWN, *head.card.faults)
        self._told_A = np.zeros(assets, np.int64)  # place in names
        self._chance_A = np.zeros(assets)  # of what was told, when it was last so
        self._other_A = np.zeros(assets, np.int64)  # ticks in which what was seen was another name
        self._seen_A = np.zeros(assets, np.int64)  # which

    def step(
        self,
        asset: Index,
        scores: Scores,
        *,
        counts: Bool,
        raised_A: I64,
        crossings: Sequence[Crossing],
    ) -> tuple[dict[int, Named], list[Told]]:
        """What is to be said with each crossing, by its row, and what else is news.

        Arguments as of Evidence.step.
        """
        crossed = {crossing.change.row: crossing.change.active for crossing in crossings}
        at_crossing: dict[int, Named] = {}
        news = []
        for row, a in self._evidence.step(
            asset, scores, counts=counts, raised_A=raised_A, crossings=crossings
        ):
            if crossed.get(row) is False:
                at_crossing[row] = self._said(a)
            if raised_A[a] == NEVER:
                continue
            seen = self._look(a)
            if row in crossed:
                self._tell(a, seen)
                at_crossing[row] = seen
            elif self._changed(a, seen):
                self._tell(a, seen)
                news.append(Told(row, int(raised_A[a]), seen))
        return at_crossing, news

    def _look(self, a: int) -> Named:
        """What the evidence of an asset looks like now."""
        if self._evidence.ticks[a] < self._settings.least_ticks:
            return Named(UNKNOWN)
        return self._head.name(self._evidence.mean[a])

    def _tell(self, a: int, name: Named) -> None:
        self._told_A[a], self._other_A[a] = self._names.index(name.fault), 0
        self._chance_A[a] = name.probability or 0.0

    def _said(self, a: int) -> Named:
        """What was told of the alarm of an asset."""
        told = int(self._told_A[a])
        return Named(self._names[told], float(self._chance_A[a]) or None)

    def _changed(self, a: int, name: Named) -> bool:
        """Whether a name has been another than was told for long enough to be told."""
        seen = self._names.index(name.fault)
        if seen == self._told_A[a]:
            self._other_A[a], self._chance_A[a] = 0, name.probability or 0.0
            return False
        self._other_A[a] = self._other_A[a] + 1 if seen == self._seen_A[a] else 1
        self._seen_A[a] = seen
        return bool(self._other_A[a] >= self._settings.least_ticks)

    def snapshot(self) -> dict[str, Any]:
        """What the next names depend on."""
        return {
            "names": list(self._names),
            "ticks": self._evidence.ticks.copy(),
            "mean": self._evidence.mean.copy(),
            "told": self._told_A.copy(),
            "chance": self._chance_A.copy(),
            "other": self._other_A.copy(),
            "seen": self._seen_A.copy(),
        }

    def restore(self, tree: Mapping[str, Any], old_A: Index, new_A: Index) -> None:
        """Take back what ``snapshot`` gave, unless another head wrote it."""
        wide = self._evidence.mean.shape[1]
        if tree["names"] != list(self._names) or tree["mean"].shape[1] != wide:
            return
        for mine, kept in (
            (self._evidence.ticks, "ticks"),
            (self._evidence.mean, "mean"),
            (self._told_A, "told"),
            (self._chance_A, "chance"),
            (self._other_A, "other"),
            (self._seen_A, "seen"),
        ):
            mine[new_A] = tree[kept][old_A]

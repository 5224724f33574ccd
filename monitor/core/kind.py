"""All assets of one kind: their frames, run states, scores, judgements and alarms, in turn."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from models.bundle import Bundle
from monitor.core.aggregate import common
from monitor.core.alarms import Alarms
from monitor.core.frames import FrameBuilder
from monitor.core.fusion import Fusion
from monitor.core.modes import RunStates
from monitor.core.plan import Asset, KindSettings
from monitor.core.records import AlarmClass, AlarmEvent, Gap, Judgements, Scores, Standing
from monitor.core.scoring import Scorer
from monitor.core.sensors import Sensors, Verdict, Word
from monitor.core.settling import Settling
from monitor.core.switching import LoneStops


class KindPipeline:
    """Frames, run states, scores, judgements and alarms of all assets of one kind.

    ``fusion`` takes the pictures of its assets; None where no asset has a camera. ``lags``: see
    Plan.
    """

    def __init__(
        self,
        name: str,
        kind: KindSettings,
        assets: list[Asset],
        bundle: Bundle | None,
        *,
        site: str,
        lags: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self.assets = [asset.name for asset in assets]
        self._rows = {name: row for row, name in enumerate(self.assets)}
        self.frames = FrameBuilder(kind, assets)
        shape = len(assets), len(kind.channels)
        tags = [asset.tags[kind.tag_of(name)] for asset in assets for name in kind.channels]
        self._tag_AC = np.array([tag for tag, _ in tags], np.int64).reshape(shape)
        self._source_AC = np.array([source for _, source in tags], np.object_).reshape(shape)
        ids = np.array([asset.id for asset in assets], np.int32)
        self._running = RunStates(kind, len(assets))
        health = bundle.card.health_by_name if bundle is not None else {}
        self._sensors = Sensors(kind, len(assets), health)
        self._stops = LoneStops(kind, len(assets), health)
        self._settling = Settling(kind, len(assets))
        self._scorer = Scorer(name, kind, ids, bundle, self.assets)
        self.fusion: Fusion | None = None
        lag_A = [lags.get(asset.name) for asset in assets]
        if kind.fusion is not None and lag_A.count(None) < len(lag_A):
            self.fusion = Fusion(name, kind.fusion, tick_ms=kind.tick_ms, ids=ids, lags=lag_A)
        self.threshold = threshold_of(kind, bundle)
        self.provisional = (
            bundle is not None and bundle.card.provisional and kind.alarm.threshold == "auto"
        )
        self.not_learnt = bundle.not_learnt(self.assets) if bundle is not None else ()
        self.alarms = Alarms(
            kind,
            self.assets,
            site=site,
            threshold=self.threshold,
            head=bundle.diagnosis if bundle is not None else None,
        )

    def close(
        self, now: int, blind: frozenset[str]
    ) -> tuple[Scores | None, list[AlarmEvent], list[Gap], Judgements | None]:
        """Everything that follows from the frames that are complete by now.

        ``blind``: the sources that show nothing; that is told of them, not of their channels.
        """
        frames, gaps = self.frames.close(now)
        if not len(frames):
            return None, [], gaps, None
        alone, doubted = None, None
        if self.frames.kind.running is not None:
            alone = np.zeros(frames.valid.shape, np.bool_)
            alone[:, self._stops.column] = self._stops.of(frames)
            doubted = (alone | self._sensors.beside(frames))[:, self._stops.column]
        running = self._running.of(frames, doubted)
        judged = self._sensors.judge(frames, running, alone)
        scores = self._scorer.score(frames, running, self._settling.evidence(frames, judged))
        fused = None
        if self.fusion is not None:
            counts = scores.counts(self.frames.kind.alarm.min_coverage)
            fused = self.fusion.frames(frames.asset, frames.tick, scores.surprise, counts)
        told = None
        if blind:
            theirs = np.isin(self._source_AC, list(blind))[frames.asset]
            told = theirs & (judged.verdict == Verdict.STALE)
        explain = self._scorer.explain
        events = self.alarms.step(
            frames, scores, judged.verdict, running, told, fused=fused, explain=explain
        )
        return scores, events, gaps, None if fused is None else fused.judgements

    def picture(self, asset: str, time: int, surprise: float, name: str) -> None:
        """A picture of what an asset made at ``time``, ns since 1970 UTC; ``name``: its hash."""
        if self.fusion is not None and (row := self._rows.get(asset)) is not None:
            self.fusion.picture(row, time, surprise, name)

    def units(self, source: str, tags: Sequence[int], *, changed: bool) -> None:
        """The unit of some tags of a source (none named: of all) changed, or is right again."""
        which = self._source_AC == source
        if tags:
            which &= np.isin(self._tag_AC, tags)
        (self._sensors.unit_changed if changed else self._sensors.unit_known)(which)

    def looked(self, alarm: Standing) -> list[int]:
        """Somebody has seen an alarm: a tag's unit that changed is known now; its number."""
        channel = alarm.point.removesuffix(f" {Word.CHECK}")
        names = list(self.frames.kind.channels)
        if alarm.alarm_class is not AlarmClass.INSTRUMENT or channel not in names:
            return []
        tag = int(self._tag_AC[self.assets.index(alarm.asset), names.index(channel)])
        self._sensors.unit_known(self._tag_AC == tag)
        return [tag]

    def units_known(self) -> None:
        """Another configuration says what the units are."""
        self._sensors.unit_known(np.ones(self._tag_AC.shape, np.bool_))

    def snapshot(self) -> dict[str, Any]:
        """Everything that the next results depend on."""
        return {
            "assets": list(self.assets),
            "frames": self.frames.snapshot(),
            "running": self._running.snapshot(),
            "sensors": self._sensors.snapshot(),
            "settling": self._settling.snapshot(),
            "stops": self._stops.snapshot(),
            "scoring": self._scorer.snapshot(),
            "alarms": self.alarms.snapshot(),
            **({} if self.fusion is None else {"fusion": self.fusion.snapshot()}),
        }

    def restore(self, tree: Mapping[str, Any]) -> None:
        """Take back what ``snapshot`` gave, for the assets that are still there."""
        old_A, new_A = common(tree["assets"], self.assets)
        self.frames.restore(tree["frames"])
        self._running.restore(tree["running"], old_A, new_A)
        old_C, new_C = common(tree["frames"]["channels"], list(self.frames.kind.channels))
        for name, part in (
            ("sensors", self._sensors),
            ("settling", self._settling),
            ("stops", self._stops),
        ):
            if name in tree:  # else an earlier version wrote it
                part.restore(tree[name], (old_A, old_C), (new_A, new_C))
        self._scorer.restore(tree["scoring"], old_A, new_A)
        self.alarms.restore(tree["alarms"], tree["assets"])
        if self.fusion is not None and "fusion" in tree:
            self.fusion.restore(tree["fusion"], old_A, new_A)


def threshold_of(kind: KindSettings, bundle: Bundle | None) -> float | None:
    """The surprise to alarm at, or None without a model. Raises ValueError where none is known."""
    if bundle is None:
        return None
    threshold = bundle.card.threshold if kind.alarm.threshold == "auto" else kind.alarm.threshold
    if threshold is None:
        raise ValueError(
            "alarm.threshold is auto, but the model has no threshold of its own. "
            "Train it again, or set alarm.threshold to a surprise, such as 4."
        )
    return threshold

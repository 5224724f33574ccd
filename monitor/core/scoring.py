"""Frames to scores: one model step a tick on a table of states, for all assets of a kind at once.

Between the frames and the alarms. The bundle does the arithmetic; this room keeps each asset's row
of the state table, starts it anew after a gap or a stop, and says which scores count. Nothing here
looks back: the cost of a frame does not depend on what came before it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.bundle import Bundle
from models.contract import Deviation, State
from monitor.core.aggregate import Bool, Index, changes, ends, last_true
from monitor.core.holding import Frames
from monitor.core.modes import scored
from monitor.core.plan import KindSettings
from monitor.core.records import Scores, ScoreState

# R frames, n of them scored, in K runs; A assets, C channels of the kind, of which the model sees M

F64 = NDArray[np.float64]


class Scorer:
    """The scores of all assets of one kind. Without a bundle every frame is blind."""

    def __init__(
        self,
        name: str,
        kind: KindSettings,
        ids: NDArray[np.int32],
        bundle: Bundle | None,
        assets: Sequence[str] = (),
    ) -> None:
        """``assets``: their names, as the ids; left out: nobody is scaled by its own."""
        self._name, self._ids, self._bundle = name, ids, bundle
        self._scale = bundle.scale_of(assets) if bundle is not None else None
        self._device = bundle.detector.device if bundle is not None else "cpu"
        self._channels = tuple(kind.channels)
        self._model_C = np.flatnonzero([c.model for c in kind.channels.values()])
        self._sees_all = len(self._model_C) == len(self._channels)
        self._frames_A = np.zeros(len(ids), np.int64)  # since the state began
        self._table = bundle.initial(len(ids)) if bundle is not None else {}
        self._lately: tuple[_Runs, F64, Bool, State] | None = None  # what the last frames came from

    def score(self, frames: Frames, running: NDArray[np.uint8], evidence: Bool) -> Scores:
        """Scores of the frames, row for row; ``running`` [R] are their RunStates.

        ``evidence`` [R, C]: what the model may see of what is valid.
        """
        count_R, count_C = frames.value.shape
        off = ~scored(running)
        with np.errstate(over="ignore"):  # what float32 cannot hold is infinite there
            shown = frames.value.astype(np.float32)
        scores = Scores(
            kind=self._name,
            channels=self._channels,
            asset=self._ids[frames.asset],
            tick=frames.tick,
            raw=np.zeros(count_R, np.float32),
            surprise=np.zeros(count_R, np.float32),
            blame=np.zeros((count_R, count_C), np.float32),
            coverage=np.zeros(count_R, np.float32),
            state=np.where(off, ScoreState.OFF, ScoreState.BLIND).astype(np.uint8),
            value=shown,
            expected=np.full((count_R, count_C), np.nan, np.float32),
            spread=np.full((count_R, count_C), np.nan, np.float32),
        )
        if self._bundle is not None:
            self._judge(self._bundle, frames, evidence, off, scores)
        return scores

    def explain(self, row: int) -> Deviation | None:
        """How far each channel [C] lay from what was expected, at a row of the last frames.

        The model steps through the asset's rows once more, so scores cost nothing for it. None
        where nothing was scored, or where the model cannot say.
        """
        if self._bundle is None or self._lately is None:
            return None
        runs, value, valid, states = self._lately
        (at,) = np.nonzero(runs.rows == row)
        if not len(at):
            return None
        run = runs.run[at[0]]
        rows = runs.rows[(runs.run == run) & (runs.rank <= runs.rank[at[0]])]
        found = self._bundle.explain(
            value[rows],
            valid[rows],
            {name: tensor[run : run + 1] for name, tensor in states.items()},
            None if self._scale is None else self._scale.rows(runs.asset[run]),
        )
        if found is None or self._sees_all:
            return found
        ticks = np.ones(len(self._channels), np.int64)
        by, times = np.full((2, len(self._channels)), np.nan, np.float32)
        ticks[self._model_C], by[self._model_C], times[self._model_C] = (
            found.ticks,
            found.by,
            found.times,
        )
        return Deviation(ticks=ticks, by=by, times=times)

    def _judge(
        self, bundle: Bundle, frames: Frames, evidence: Bool, off: Bool, scores: Scores
    ) -> None:
        """Fill in what the bundle says."""
        value, valid = frames.value, evidence
        if not self._sees_all:
            value, valid = value[:, self._model_C], valid[:, self._model_C]
        scores.coverage[:] = valid.mean(axis=1)
        runs = _Runs(frames, off)
        self._lately = None
        if len(rows := runs.rows):
            before = self._states(bundle, runs)
            self._lately = runs, value, valid, before
            judged, after = bundle.sweep(
                value[rows],
                valid[rows],
                runs.counts,
                before,
                None if self._scale is None else self._scale.rows(runs.asset[runs.run]),
            )
            last = runs.last
            seen_K = np.where(runs.anew, 0, self._frames_A[runs.asset])
            self._frames_A[runs.asset[last]] = seen_K[last] + runs.length[last]
            self._keep(runs.asset[last], after, last)

            warm = seen_K[runs.run] + runs.rank >= bundle.warmup_ticks
            sees = np.any(judged.blame, axis=1)  # else it has nothing to go by
            state = np.where(warm, ScoreState.OK, ScoreState.WARMING)
            scores.state[rows] = np.where(sees, state, ScoreState.BLIND)
            scores.raw[rows] = np.where(sees, judged.raw, 0)
            scores.surprise[rows] = np.where(sees, judged.surprise, 0)
            at = rows if self._sees_all else np.ix_(rows, self._model_C)
            scores.blame[at] = np.where(sees[:, None], judged.blame, 0)
            scores.expected[at], scores.spread[at] = judged.expected, judged.spread
        last = ends(frames.asset)
        stopped = frames.asset[last[off[last]]]
        if len(stopped):
            self._frames_A[stopped] = 0
            self._keep(stopped, bundle.initial(len(stopped)), np.arange(len(stopped)))

    def _states(self, bundle: Bundle, runs: "_Runs") -> State:
        """What each run starts from: its asset's row of the table, or nothing seen."""
        index = torch.from_numpy(runs.asset).to(self._device)
        states = {name: tensor.index_select(0, index) for name, tensor in self._table.items()}
        if bool(runs.anew.any()):
            anew = torch.from_numpy(np.flatnonzero(runs.anew)).to(self._device)
            for name, tensor in bundle.initial(len(anew)).items():
                states[name][anew] = tensor
        return states

    def _keep(self, asset: Index, states: State, rows: Index) -> None:
        """Put these rows of the states into the table."""
        index = torch.from_numpy(asset).to(self._device)
        chosen = torch.from_numpy(rows).to(self._device)
        for name, tensor in states.items():
            self._table[name].index_copy_(0, index, tensor.index_select(0, chosen))

    def snapshot(self) -> dict[str, Any]:
        """The state table, with the hash of the bundle it belongs to."""
        return {
            "bundle": self._bundle.hash if self._bundle is not None else "",
            "frames": self._frames_A.copy(),
            "table": {name: tensor.cpu().numpy().copy() for name, tensor in self._table.items()},
        }

    def restore(self, tree: Mapping[str, Any], old_A: Index, new_A: Index) -> None:
        """Take back what ``snapshot`` gave; states of another bundle are left behind."""
        if self._bundle is None or tree["bundle"] != self._bundle.hash:
            return
        self._frames_A[new_A] = tree["frames"][old_A]
        for name, array in tree["table"].items():
            rows = torch.from_numpy(array[old_A]).to(self._table[name].device)
            self._table[name][torch.from_numpy(new_A)] = rows


class _Runs:
    """The scored frames of a block, in runs: frames of one asset with no new start between them.

    No run depends on another, not even of one asset, so they step side by side: all their first
    frames, then all their second ones. The longest come first: each tick holds the first few runs.
    ``off`` [R] frames are not scored, and end a run.
    """

    def __init__(self, frames: Frames, off: Bool) -> None:
        rows = np.flatnonzero(~off)
        asset = frames.asset[rows]
        breaks = frames.fresh | off
        broken = np.cumsum(breaks)  # a run starts anew where this rose since the frame before
        opening = last_true(changes(frames.asset))  # the asset's first frame in the block
        first = changes(asset)
        before = np.append([0], broken[rows])[: len(rows)]
        before[first] = (broken - breaks)[opening[rows[first]]]
        anew = broken[rows] != before

        heads = np.flatnonzero(first | anew)
        length = np.diff(np.append(heads, len(rows)))
        longest = np.argsort(-length, kind="stable")
        place = np.empty_like(longest)
        place[longest] = np.arange(len(longest))
        run, rank = np.repeat(place, length), np.arange(len(rows)) - np.repeat(heads, length)
        order = np.lexsort((run, rank))

        self.rows: Index = rows[order]  # [n] of the block, tick by tick
        self.counts: list[int] = np.bincount(rank).tolist()  # frames of each tick
        self.run: Index = run[order]  # [n]
        self.rank: Index = rank[order]  # [n] frames of the run before this one
        self.asset: Index = asset[heads[longest]]  # [K]
        self.anew: Bool = anew[heads[longest]]  # [K] has seen nothing before its first frame
        self.length: Index = length[longest]  # [K]
        self.last: Index = place[ends(asset[heads])]  # the last run of each asset

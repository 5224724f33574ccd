"""Cross-fitting: who is held out from whom, and what a model that never saw them makes of them.

A unit is scored by a model of the other units, for units differ by more than noise. With one unit
only, a block of time is held out instead; it is led in by the ticks before it, so that no frame is
lost to warm-up.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from models.contract import Stretch
from models.gradient import Run
from models.residual import Judge, ResidualDetector, sustained
from models.scaling import Scales, Scaling
from models.surprise import anywhere

# T ticks, C channels, W numbers that a judge keeps of each row

FOLDS = 4
BLOCK = 4096  # rows measured at once
SWEEP = 64  # ticks between two looks at whether to stop


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch to be scored; its first ``lead`` ticks only warm the model up."""

    stretch: Stretch
    lead: int


@dataclass(frozen=True, slots=True)
class Fold:
    """What to learn from, and what to score with it."""

    learning: list[Stretch]
    held: list[Piece]


@dataclass(frozen=True, slots=True)
class Record:
    """What a judge needs of one piece."""

    piece: Piece
    smoothed: NDArray[np.float32]  # [T, W]
    known: NDArray[np.bool_]  # [T, K] which of them may be judged
    valid: NDArray[np.bool_]  # [T, C]
    counts: NDArray[np.bool_]  # [T] past the warm-up, with something known


def folds_of(stretches: Sequence[Stretch], warmup_ticks: int) -> list[Fold]:
    """Leave out one asset at a time, or one of four groups of them.

    Of a single asset, a block of time.
    """
    assets = sorted({stretch.asset for stretch in stretches})
    if len(assets) > 1:
        groups = [set(assets[k::FOLDS]) for k in range(min(FOLDS, len(assets)))]
        return [
            Fold(
                [stretch for stretch in stretches if stretch.asset not in group],
                [Piece(stretch, 0) for stretch in stretches if stretch.asset in group],
            )
            for group in groups
        ]
    total = sum(map(len, stretches))
    edges = [round(total * k / FOLDS) for k in range(FOLDS + 1)]
    folds = [Fold([], []) for _ in range(FOLDS)]
    before = 0
    for stretch in stretches:
        for fold, first, last in zip(
            folds, *zip(*itertools.pairwise(edges), strict=True), strict=True
        ):
            start = min(max(first - before, 0), len(stretch))
            end = min(max(last - before, 0), len(stretch))
            if start < end:
                lead = min(warmup_ticks, start)
                fold.held.append(Piece(_part(stretch, start - lead, end), lead))
            kept = [_part(stretch, 0, start), _part(stretch, end, len(stretch))]
            fold.learning.extend(part for part in kept if len(part))
        before += len(stretch)
    return folds


def _part(stretch: Stretch, start: int, end: int) -> Stretch:
    pick = slice(start, end)
    return Stretch(
        asset=stretch.asset,
        tick=stretch.tick[pick],
        value=stretch.value[pick],
        valid=stretch.valid[pick],
    )


def scaled_run(stretch: Stretch, scaling: Scaling) -> Run:
    """The stretch in scaled units, 0 where not valid."""
    value, valid = scaling.apply(stretch.value, stretch.valid)
    return Run(asset=stretch.asset, value=np.where(valid, value, np.float32(0)), valid=valid)


def record(
    detector: ResidualDetector,
    pieces: Sequence[Piece],
    scales: Scales,
    *,
    usable: NDArray[np.bool_],
    warmup_ticks: int,
    between_ticks: Callable[[], None],
) -> list[Record]:
    """Step through all pieces side by side, as scoring does.

    Channels not ``usable`` [C] are masked. The first ``warmup_ticks`` do not count.
    """
    by_length = sorted(range(len(pieces)), key=lambda n: -len(pieces[n].stretch))
    runs = [scaled_run(pieces[n].stretch, scales.of(pieces[n].stretch.asset)) for n in by_length]
    valid = [run.valid & usable for run in runs]
    width = detector.judge.width
    smoothed = [np.empty((len(run), width), np.float32) for run in runs]
    knowns = [np.empty((len(run), width // detector.judge.lags), np.bool_) for run in runs]
    state = detector.initial(len(runs))
    longest = max(map(len, runs), default=0)
    with torch.inference_mode():
        for start in range(0, longest, SWEEP):
            between_ticks()
            ticks = range(start, min(start + SWEEP, longest))
            going = [sum(len(run) > t for run in runs) for t in ticks]
            places = [(n, t) for t, count in zip(ticks, going, strict=True) for n in range(count)]
            value_RC = torch.from_numpy(np.stack([runs[n].value[t] for n, t in places]))
            valid_RC = torch.from_numpy(np.stack([valid[n][t] for n, t in places]))
            _, _, means_RW, known_RK, state = detector.advance(
                value_RC.to(detector.device),
                valid_RC.to(detector.device),
                going,
                {name: part[: going[0]] for name, part in state.items()},
            )
            found = zip(places, means_RW.cpu().numpy(), known_RK.cpu().numpy(), strict=True)
            for (n, t), means, known in found:
                smoothed[n][t], knowns[n][t] = means, known
    records: dict[int, Record] = {}
    for n, seen, means, known in zip(by_length, valid, smoothed, knowns, strict=True):
        counts: NDArray[np.bool_] = np.asarray(known.any(1))
        counts[: max(warmup_ticks, pieces[n].lead)] = False
        records[n] = Record(pieces[n], means, known, seen, counts)
    return [records[n] for n in range(len(pieces))]


def score(judge: Judge, records: Sequence[Record]) -> list[NDArray[np.float32]]:
    """Raw scores [T] of each record."""
    scores = []
    with torch.inference_mode():
        for record in records:
            smoothed, known = torch.from_numpy(record.smoothed), torch.from_numpy(record.known)
            picks = [slice(start, start + BLOCK) for start in range(0, len(known), BLOCK)]
            measured = [judge.measure(smoothed[pick], known[pick]) for pick in picks]
            raw, blame = (torch.cat(column) for column in zip(*measured, strict=True))
            if judge.score_span > 1:
                ticks, nothing = [1] * len(raw), torch.zeros(1, blame.shape[1])
                known_RC = anywhere(known, blame.shape[1])
                raw, *_ = sustained(raw, blame, known_RC, ticks, nothing, span=judge.score_span)
            scores.append(raw.numpy())
    return scores

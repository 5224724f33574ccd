"""A predictor and a judge, as one thing that steps.

The predictor says what it expects of each channel and how sure it is; the judge turns what came
instead into one number and each channel's share in it.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.contract import Detector, Deviation, Evidence, State, added, under
from models.surprise import anywhere, memory_of

# N rows (one asset each), C channels, T ticks, R rows of many ticks, W numbers that a judge keeps
# of each row: its smoothed residuals, K of each of the last L ticks


class Predictor(Protocol):
    """Says what it expects of each channel: from the ticks before, or from the other channels."""

    warmup_ticks: int  # ticks after a reset before its word counts
    forecasts: bool  # False: it knows each channel's healthy mean, and no more

    def initial(self, rows: int) -> State:
        """The state of ``rows`` assets that have seen nothing yet."""
        ...

    def step(
        self, value_NC: Tensor, valid_NC: Tensor, state: State
    ) -> tuple[Tensor, Tensor, State]:
        """Expected value and spread, float32 [N, C] each, made without the channel's own value.

        The new state comes third.

        A row's result depends on that row alone, to the bit: not on N, the order, or the other
        rows.
        """
        ...

    def tensors(self) -> dict[str, Tensor]:
        """Everything learnt, by name."""
        ...

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what tensors() gave: the same names and shapes, checked by the detector."""
        ...

    def to(self, device: str) -> None:
        """Move everything learnt to a torch device."""
        ...


@runtime_checkable
class SequencePredictor(Predictor, Protocol):
    """One that can take many ticks of the same rows at once: what a GPU needs to be fast."""

    def sequence(
        self, value_TNC: Tensor, valid_TNC: Tensor, state: State
    ) -> tuple[Tensor, Tensor, State]:
        """What stepping through the ticks gives, but for rounding: [T, N, C], and the state."""
        ...


class Judge(Protocol):
    """Turns residuals into one raw score and each channel's share in it."""

    width: int  # W = L * K
    lags: int  # L
    score_span: int  # ticks that the raw score is a mean of; 1: each tick's own
    memory_ticks: int  # ticks after a reset until where it started no longer matters

    def smooth(
        self,
        residual_RC: Tensor,
        valid_RC: Tensor,
        counts: Sequence[int],
        smoothed: Tensor,
        seen: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The smoothed residuals after each tick, and the share of each that was seen, [R, W].

        That is all that is remembered, float32: ``smoothed`` (at first 0) and ``seen`` (1), [N, W],
        are of before the first tick; rows and ``counts`` as in Detector.sweep. Third, which of them
        may be judged, bool [R, K].
        """
        ...

    def measure(self, smoothed: Tensor, known_NK: Tensor) -> tuple[Tensor, Tensor]:
        """Raw score [N] and blame [N, C]. A row's result depends on that row alone, to the bit."""
        ...

    def explain(
        self, smoothed_W: NDArray[np.float32], known_K: NDArray[np.bool_]
    ) -> Deviation | None:
        """How far each channel of one row lay from what was expected; None: it cannot say."""
        ...

    def fit(
        self,
        smoothed: NDArray[np.float32],
        known: NDArray[np.bool_],
        *,
        floor: NDArray[np.float64],
    ) -> None:
        """Learn what healthy looks like from [M, W] and [M, K].

        ``floor`` [C]: resolution, scaled units.
        """
        ...

    def tensors(self) -> dict[str, Tensor]:
        """Everything learnt, by name."""
        ...

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what tensors() gave: the same names and shapes, checked by the detector."""
        ...

    def to(self, device: str) -> None:
        """Move everything learnt to a torch device."""
        ...


JUDGES = ("smoothed", "shares", "parts")  # of the state: not the predictor's
RESIDUAL_LIMIT = 100.0  # spreads; one wild sample must not ring in the slow scales for hours


class ResidualDetector(Detector):
    """One predictor and one judge, as one thing that steps."""

    def __init__(
        self, *, channels: int, predictor: Predictor, judge: Judge, warmup_ticks: int | None = None
    ) -> None:
        own = predictor.warmup_ticks + judge.memory_ticks + memory_of(judge.score_span)
        super().__init__(
            channels=channels, warmup_ticks=own if warmup_ticks is None else warmup_ticks
        )
        self.predictor = predictor
        self.judge = judge

    def initial(self, rows: int) -> State:
        """The state of ``rows`` assets that have seen nothing yet."""
        state = {
            **self.predictor.initial(rows),
            "smoothed": torch.zeros(rows, self.judge.width, device=self.device),
            "shares": torch.ones(rows, self.judge.width, device=self.device),
        }
        if self.judge.score_span > 1:
            state["parts"] = torch.zeros(rows, self.channels, device=self.device)
        return state

    def advance(
        self, value_RC: Tensor, valid_RC: Tensor, counts: Sequence[int], state: State
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, State]:
        """The part of a sweep in which a tick depends on the one before.

        Expected and spread [R, C], smoothed residuals [R, W], which of them are known [R, K],
        and the new state.
        """
        now = {name: part for name, part in state.items() if name not in JUDGES}
        ended: list[State] = []  # of rows whose last tick is past; what was first stood last
        forecasts: list[tuple[Tensor, Tensor]] = []
        pieces = self._pieces(counts)
        sizes = [ticks * count for ticks, count in pieces]
        values = torch.split_with_sizes(value_RC, sizes)
        valids = torch.split_with_sizes(valid_RC, sizes)
        before = counts[0]
        for value, valid, (ticks, count) in zip(values, valids, pieces, strict=True):
            if count < before:
                ended.append({name: part[count:] for name, part in now.items()})
                now = {name: part[:count] for name, part in now.items()}
            before = count
            expected, spread, now = self._forecast(value, valid, ticks, now)
            forecasts.append((expected, spread))
        expected, spread = (_joined(column) for column in zip(*forecasts, strict=True))
        residual = ((value_RC - expected) / spread).clamp_(-RESIDUAL_LIMIT, RESIDUAL_LIMIT)
        residual = torch.where(valid_RC, residual, 0.0)
        smoothed, seen, known = self.judge.smooth(
            residual, valid_RC, counts, state["smoothed"], state["shares"]
        )

        after = {
            name: _joined([part, *(rows[name] for rows in reversed(ended))])
            for name, part in now.items()
        }
        after["smoothed"] = _last(torch.split_with_sizes(smoothed, counts), counts)
        after["shares"] = _last(torch.split_with_sizes(seen, counts), counts)
        return expected, spread, smoothed, known, after

    def _pieces(self, counts: Sequence[int]) -> list[tuple[int, int]]:
        """What the predictor takes at once: so many ticks of so many rows.

        One tick: only so are a row's bits its own. On a GPU, where they never are, and where a tick
        costs its launches whatever it holds: all ticks of the same rows.
        """
        if self.device == "cpu" or not isinstance(self.predictor, SequencePredictor):
            return [(1, count) for count in counts]
        return [(len(list(ticks)), count) for count, ticks in itertools.groupby(counts)]

    def _forecast(
        self, value: Tensor, valid: Tensor, ticks: int, state: State
    ) -> tuple[Tensor, Tensor, State]:
        """Expected and spread of so many ticks of the same rows, tick by tick; the new state."""
        if ticks > 1 and isinstance(self.predictor, SequencePredictor):
            shape = (ticks, len(value) // ticks, self.channels)
            expected, spread, after = self.predictor.sequence(
                value.view(shape), valid.view(shape), state
            )
            return expected.flatten(0, 1), spread.flatten(0, 1), after
        return self.predictor.step(value, valid, state)

    def sweep(
        self, value_RC: Tensor, valid_RC: Tensor, counts: Sequence[int], state: State
    ) -> tuple[Evidence, State]:
        """What each tick of each row is evidence of: see Detector."""
        with torch.inference_mode():
            expected, spread, smoothed, known, after = self.advance(
                value_RC, valid_RC, counts, state
            )
            raw, blame = self.judge.measure(smoothed, known)
            if self.judge.score_span > 1:
                known_RC = anywhere(known, self.channels)
                raw, blame, after["parts"] = sustained(
                    raw, blame, known_RC, counts, state["parts"], span=self.judge.score_span
                )
        return Evidence(raw=raw, blame=blame, expected=expected, spread=spread), after

    def explain(self, value_TC: Tensor, valid_TC: Tensor, state: State) -> Deviation | None:
        """By the judge, in the units of its own values: see Detector."""
        with torch.inference_mode():
            _, spread, smoothed, known, _ = self.advance(
                value_TC, valid_TC, [1] * len(value_TC), state
            )
        found = self.judge.explain(smoothed[-1].cpu().numpy(), known[-1].cpu().numpy())
        return found and replace(found, by=found.by * spread[-1].cpu().numpy())

    def tensors(self) -> dict[str, Tensor]:
        """Everything learnt, by name, on the CPU, as it is kept in weights.safetensors."""
        parts = {"predictor": self.predictor.tensors(), "judge": self.judge.tensors()}
        return {
            f"{part}.{name}": tensor.detach().cpu().contiguous()
            for part, tensors in parts.items()
            for name, tensor in tensors.items()
        }

    def _take(self, tensors: Mapping[str, Tensor]) -> None:
        self.predictor.load_tensors(under("predictor.", tensors))
        self.judge.load_tensors(under("judge.", tensors))

    def _move(self, device: str) -> None:
        self.predictor.to(device)
        self.judge.to(device)


def sustained(
    raw_R: Tensor,
    blame_RC: Tensor,
    known_RC: Tensor,
    counts: Sequence[int],
    before_NC: Tensor,
    *,
    span: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Raw score [R] and blame [R, C] over so many ticks, and what is kept of them [N, C].

    What is smoothed, exponentially, is each channel's part of the score; rows and ``counts`` as in
    Detector.sweep. The score is the sum over the channels that are known now: what a hidden one did
    before accuses nobody else. A tick of which nothing is known scores 0, and changes nothing.
    """
    weight = 2.0 / (span + 1.0)
    means = []
    now = before_NC
    ticks = zip(
        torch.split_with_sizes(raw_R[:, None] * blame_RC, counts),
        torch.split_with_sizes(known_RC.any(1, keepdim=True), counts),
        strict=True,
    )
    for parts, seen in ticks:
        kept = now[: len(parts)]
        now = torch.where(seen, kept + weight * (parts - kept), kept)
        means.append(now)
    parts_RC = torch.where(known_RC, _joined(means), 0.0)
    total_R = added(parts_RC.unbind(1))
    there = total_R > 0
    shares_RC = parts_RC / torch.where(there, total_R, 1.0)[:, None]
    return total_R, torch.where(there[:, None], shares_RC, blame_RC), _last(means, counts)


def _last(ticks: Sequence[Tensor], counts: Sequence[int]) -> Tensor:
    """What the last tick of each row left: those that end first stand last."""
    of_ticks = zip(ticks, [*counts[1:], 0], strict=True)
    return _joined([tick[going_on:] for tick, going_on in of_ticks][::-1])


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """The rows of all parts, one after the other."""
    return torch.cat(list(parts)) if len(parts) > 1 else parts[0]

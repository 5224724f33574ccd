"""Training a forecaster by gradients.

One fit, that can be stopped and taken up again to the same bits.

Teacher-forced, truncated back-propagation through time: the hidden state is carried from chunk to
chunk, the gradient is not (Williams and Peng, Neural Computation 2, 1990). Long runs are cut into
rows, and rows share a batch. Two failures that plants have every day are trained for: channels that
fall out, and channels that report on change only; so that they do not look like a fault of the
process. Adam (Kingma and Ba, 2015), early stopping on the last part of each asset's time.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.contract import under
from models.recurrent import WARMUP_TICKS, Forecaster
from models.settings import TrainingSettings

# T ticks, N rows, C channels, K ticks of one chunk

GRADIENT_NORM = 1.0
BATCH_ROWS = 64
ROW_CHUNKS = 8  # a row is at least this many chunks long, where its run is
DEADBAND = (0.05, 0.5)  # scaled units: the range of report-on-change that is simulated


class StoppedError(Exception):
    """Asked to stop in the middle of an epoch; what that epoch did is lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """How a fit went. The losses are of the epoch whose weights are kept, in nats a value."""

    epochs: int  # passes made
    best_epoch: int  # whose weights are kept, counted from 1
    training_loss: float
    validation_loss: float
    mean_loss: float  # validation loss of whoever only knows the mean and spread of each channel
    stopped_early: bool  # it had got no better for a while; else: at the limit, still improving
    kept: bool = False  # its weights are in the bundle; else: it was for cross-fitted scores alone

    @property
    def beats_mean(self) -> bool:
        """Whether it learnt more than each channel's mean and spread."""
        return self.validation_loss < self.mean_loss


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One stretch in scaled units."""

    asset: str
    value: NDArray[np.float32]  # [T, C] 0 where not valid
    valid: NDArray[np.bool_]  # [T, C]

    def __len__(self) -> int:
        """Count of ticks."""
        return len(self.value)

    def part(self, start: int, end: int) -> "Run":
        """Ticks start..end."""
        return Run(asset=self.asset, value=self.value[start:end], valid=self.valid[start:end])


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows side by side, filled up with nothing to the longest."""

    value: Tensor  # float32 [T, N, C]
    valid: Tensor  # float32 [T, N, C]
    counts: Tensor  # float32 [T, N, 1] 1 where the loss counts: within the row, past its warm-up

    @classmethod
    def of(cls, rows: Sequence[Run], device: str) -> "Batch":
        """Rows of one set of channels."""
        length, count, channels = max(map(len, rows)), len(rows), rows[0].value.shape[1]
        value = np.zeros((length, count, channels), np.float32)
        valid = np.zeros((length, count, channels), np.float32)
        counts = np.zeros((length, count, 1), np.float32)
        for n, row in enumerate(rows):
            value[: len(row), n] = row.value
            valid[: len(row), n] = row.valid
            counts[WARMUP_TICKS : len(row), n] = 1.0
        return cls(*(torch.from_numpy(part).to(device) for part in (value, valid, counts)))

    def chunks(self, ticks: int) -> Iterator["Batch"]:
        """Pieces of so many ticks, in order; the last may be shorter."""
        for start in range(0, len(self.value), ticks):
            pick = slice(start, start + ticks)
            yield Batch(self.value[pick], self.valid[pick], self.counts[pick])


class GradientFit:
    """One fit under way.

    ``capture`` and ``restore`` move all of it, so that it may go on elsewhere.
    """

    def __init__(
        self, forecaster: Forecaster, runs: Sequence[Run], settings: TrainingSettings, *, fold: int
    ) -> None:
        self.forecaster = forecaster
        self.network = forecaster.network
        self.settings = settings
        self.device = forecaster.device
        learning, validating = _split(runs, settings.validation_share)
        self.rows = _rows(learning, settings.chunk_ticks)
        self.validating = [row for row in validating if len(row) > WARMUP_TICKS]
        if not self.rows or not self.validating:
            raise ValueError(
                f"training: want runs longer than the {WARMUP_TICKS} ticks of warm-up in the first "
                f"{1 - settings.validation_share:.0%} of an asset's time and after it; "
                "the longest of "
                f"{len(runs)} has {max(map(len, runs), default=0)}. Give longer runs."
            )
        self.generator = torch.Generator().manual_seed((settings.seed << 8) + fold)
        self.network.start(self.generator)
        self.adam = torch.optim.Adam(self.network.parameters(), lr=settings.learning_rate)
        self.epoch = 0
        self.stale = 0
        self.best_loss = math.inf
        self.training_loss = math.inf  # of the best epoch
        self.best = self._weights()

    @property
    def finished(self) -> bool:
        """No more epochs, or no more patience."""
        return self.epoch >= self.settings.epochs or self.stale >= self.settings.patience

    def run_epoch(self, should_stop: Callable[[], bool]) -> tuple[float, float]:
        """One pass over all rows; gives the training and the validation loss, in nats a value.

        Raises StoppedError as soon as should_stop() says so, ValueError when the loss is no number
        any more.
        """
        order = torch.randperm(len(self.rows), generator=self.generator).tolist()
        total, count = 0.0, 0.0
        for start in range(0, len(order), BATCH_ROWS):
            rows = [self.rows[n] for n in order[start : start + BATCH_ROWS]]
            for batch_loss, values in self._learn(Batch.of(rows, self.device), should_stop):
                total, count = total + batch_loss * values, count + values
        validation = self._validate(should_stop)
        if not math.isfinite(total) or not math.isfinite(validation):
            raise ValueError(
                f"training: the loss is not finite after epoch {self.epoch + 1}. "
                f"Try a learning_rate below {self.settings.learning_rate}."
            )
        self.epoch += 1
        training = total / max(count, 1.0)
        if validation < self.best_loss:
            self.best_loss, self.training_loss = validation, training
            self.stale, self.best = 0, self._weights()
        else:
            self.stale += 1
        return training, validation

    def finish(self) -> Fitted:
        """Put the best weights seen into the forecaster."""
        self.forecaster.load_tensors(self.best)
        return Fitted(
            epochs=self.epoch,
            best_epoch=self.epoch - self.stale,
            training_loss=self.training_loss,
            validation_loss=self.best_loss,
            mean_loss=self._mean_loss(),
            stopped_early=self.stale >= self.settings.patience,
        )

    def capture(self) -> tuple[dict[str, Tensor], dict[str, float | int]]:
        """Copies of all that the next epoch depends on: tensors, and numbers."""
        tensors = {f"now.{name}": tensor for name, tensor in self._weights().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self.best.items()}
        for index, moments in self.adam.state_dict()["state"].items():
            for name, tensor in moments.items():
                tensors[f"adam.{index}.{name}"] = tensor.detach().cpu().clone()
        tensors["generator"] = self.generator.get_state()
        return tensors, {
            "epoch": self.epoch,
            "stale": self.stale,
            "best_loss": self.best_loss if self.epoch else 0.0,  # JSON knows no infinity
            "training_loss": self.training_loss if self.epoch else 0.0,
        }

    def restore(self, tensors: dict[str, Tensor], numbers: dict[str, float | int]) -> None:
        """Take up what capture() gave."""
        self.network.load_state_dict(under("now.", tensors))
        self.best = under("best.", tensors)
        state = self.adam.state_dict()
        for name, tensor in under("adam.", tensors).items():
            index, key = name.split(".", 1)
            state["state"].setdefault(int(index), {})[key] = tensor.clone()
        self.adam.load_state_dict(state)
        self.generator.set_state(tensors["generator"])
        self.epoch, self.stale = int(numbers["epoch"]), int(numbers["stale"])
        self.best_loss = float(numbers["best_loss"]) if self.epoch else math.inf
        self.training_loss = float(numbers["training_loss"]) if self.epoch else math.inf

    def _learn(
        self, batch: Batch, should_stop: Callable[[], bool]
    ) -> Iterator[tuple[float, float]]:
        """Chunk by chunk, the state carried on.

        The loss and over how many values it is the mean.
        """
        state = self._nothing_seen(batch)
        for chunk in batch.chunks(self.settings.chunk_ticks):
            if should_stop():
                raise StoppedError
            value, given = self._disturbed(chunk)
            mean, log_spread, state = self.network(value * given, given, state)
            state = tuple(part.detach() for part in state)
            loss, values = _loss(mean, log_spread, value, chunk)
            if values == 0:
                continue  # all of it is warm-up
            self.adam.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), GRADIENT_NORM)
            self.adam.step()
            yield float(loss.detach()), values

    def _validate(self, should_stop: Callable[[], bool]) -> float:
        total, count = 0.0, 0.0
        with torch.no_grad():
            for start in range(0, len(self.validating), BATCH_ROWS):
                batch = Batch.of(self.validating[start : start + BATCH_ROWS], self.device)
                state = self._nothing_seen(batch)
                for chunk in batch.chunks(self.settings.chunk_ticks):
                    if should_stop():
                        raise StoppedError
                    mean, log_spread, state = self.network(chunk.value, chunk.valid, state)
                    loss, values = _loss(mean, log_spread, chunk.value, chunk)
                    total, count = total + float(loss) * values, count + values
        return total / max(count, 1.0)

    def _mean_loss(self) -> float:
        """Scaled values have mean 0 and deviation 1, as far as what was learnt from tells."""
        total, count = 0.0, 0.0
        for row in self.validating:
            batch = Batch.of([row], "cpu")
            zero = torch.zeros_like(batch.value)
            loss, values = _loss(zero, zero, batch.value, batch)
            total, count = total + float(loss) * values, count + values
        return total / max(count, 1.0)

    def _nothing_seen(self, batch: Batch) -> tuple[Tensor, ...]:
        states = self.forecaster.initial(batch.value.shape[1])
        return tuple(torch.zeros_like(state) for state in states.values())

    def _disturbed(self, chunk: Batch) -> tuple[Tensor, Tensor]:
        """The chunk as worse instruments would give it: what is to be forecast, and what is given.

        A channel that falls out must still be forecast, from the others; of one that reports on
        change, what it reports.
        """
        share = self.settings.channel_dropout
        _, rows, channels = chunk.value.shape
        draw = torch.rand(3, rows, channels, generator=self.generator).to(self.device)
        given = chunk.valid * (draw[0] >= share)
        low, high = DEADBAND
        deadband = torch.where(draw[1] < share, low + (high - low) * draw[2], 0.0)
        if not bool((deadband > 0).any()):
            return chunk.value, given
        held = [chunk.value[0]]
        for value, valid in zip(chunk.value[1:], chunk.valid[1:], strict=True):
            moved = ((value - held[-1]).abs() >= deadband) & (valid > 0)
            held.append(torch.where(moved, value, held[-1]))
        return torch.where(deadband > 0, torch.stack(held), chunk.value), given

    def _weights(self) -> dict[str, Tensor]:
        return {
            name: tensor.detach().cpu().clone()
            for name, tensor in self.network.state_dict().items()
        }


def _loss(mean: Tensor, log_spread: Tensor, value: Tensor, chunk: Batch) -> tuple[Tensor, float]:
    """Mean negative log likelihood of the valid values, without its constant.

    And how many they are.
    """
    counts = chunk.valid * chunk.counts
    values = float(counts.sum())
    error = (value - mean) * torch.exp(-log_spread)
    return ((0.5 * error.square() + log_spread) * counts).sum() / max(values, 1.0), values


def _split(runs: Sequence[Run], share: float) -> tuple[list[Run], list[Run]]:
    """Each asset's time in two, the later part led in by the warm-up that its loss leaves out."""
    learning, validating = [], []
    for asset in sorted({run.asset for run in runs}):
        own = [run for run in runs if run.asset == asset]
        left = round(sum(map(len, own)) * (1 - share))
        for run in own:
            cut = min(left, len(run))
            left -= cut
            learning.append(run.part(0, cut))
            if cut < len(run):
                validating.append(run.part(max(cut - WARMUP_TICKS, 0), len(run)))
    return learning, validating


def _rows(runs: Sequence[Run], chunk_ticks: int) -> list[Run]:
    """Long runs cut into rows, so that a batch is filled; too short ones left out."""
    length = max(ROW_CHUNKS * chunk_ticks, math.ceil(sum(map(len, runs)) / BATCH_ROWS))
    rows = [run.part(at, at + length) for run in runs for at in range(0, len(run), length)]
    return [row for row in rows if len(row) > WARMUP_TICKS]

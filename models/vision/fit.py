"""One network fitted by gradients: passes, early stopping, and a folder to go on from.

Knows nothing of pictures: an ``Objective`` gives the loss of some examples, and of those held out.
Adam or another (models/fitting.py), the step by its schedule, the weights of the best pass kept.
"""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from models.bundle import write_folder
from models.contract import under
from models.fitting import Dropout, optimizer, penalty, rate
from models.gradient import StoppedError
from models.training import Epoch, Progress
from models.vision.settings import VisionFitSettings

FIRST_STEPS = 10  # a running mean forgets the first weights, far off, within some times as many
STATE, TENSORS = "checkpoint.json", "checkpoint.safetensors"


class Objective(Protocol):
    """What a fit lowers."""

    network: nn.Module
    count: int  # examples that one pass goes over

    def loss(self, numbers: Sequence[int], generator: torch.Generator) -> Tensor:
        """The mean loss of some examples, varied as the generator says."""

    def validate(self) -> float:
        """The mean loss of what is held out, by the network in evaluation."""


class Fit:
    """One fit under way."""

    def __init__(
        self,
        objective: Objective,
        settings: VisionFitSettings,
        generator: torch.Generator,
        *,
        fingerprint: str,
    ) -> None:
        self.objective, self.settings, self.generator = objective, settings, generator
        self.network = objective.network
        self.fingerprint = fingerprint
        for module in self.network.modules():
            if isinstance(module, Dropout):
                module.share, module.draw = settings.dropout, self._draw
        self.optimizer = optimizer(self.network, settings)
        self.epoch, self.stale, self.cuts = 0, 0, 0
        self.best_loss = math.inf
        self.gradient_norm = 0.0  # before it was cut, the mean of the last pass
        self.best = self._weights()
        self.steps = 0
        self.mean = self._weights() if settings.average else {}  # of all steps, the last ones most

    @property
    def best_epoch(self) -> int:
        """Whose weights are kept, counted from 1."""
        return self.epoch - self.stale

    def run(
        self,
        *,
        number: int,
        fits: int,
        progress: Progress | None,
        checkpoint: Path | None,
        should_stop: Callable[[], bool],
    ) -> None:
        """All passes that are left; the network then has the weights of the best one.

        ``number`` of so many ``fits``, as progress tells it. Each pass is saved to ``checkpoint``,
        and what is saved there is taken up first. Raises StoppedError where should_stop() says
        so, ValueError for the checkpoint of another training or a loss that is no number any more.
        """
        if checkpoint is not None and checkpoint.exists():
            self._restore(checkpoint)
        settings = self.settings
        while self.epoch < settings.epochs and self.stale < settings.patience:
            step = rate(settings, self.epoch, self.cuts)
            training, validation = self._epoch(step, should_stop)
            if checkpoint is not None:
                self._save(checkpoint)
            if progress is not None:
                progress(
                    Epoch(
                        fit=number,
                        fits=fits,
                        epoch=self.epoch,
                        epochs=settings.epochs,
                        training_loss=training,
                        validation_loss=validation,
                        learning_rate=step,
                        gradient_norm=self.gradient_norm,
                    )
                )
        self.network.load_state_dict(self.best)
        self.network.eval()

    def _epoch(self, step: float, should_stop: Callable[[], bool]) -> tuple[float, float]:
        """One pass; gives the training and the validation loss of an example."""
        order = torch.randperm(self.objective.count, generator=self.generator).tolist()
        for group in self.optimizer.param_groups:
            group["lr"] = step
        self.network.train()
        total, count, norms = 0.0, 0, []
        size = self.settings.batch_size
        for first in range(0, len(order), size):
            if should_stop():
                raise StoppedError
            numbers = order[first : first + size]
            if len(numbers) == 1 and count:
                continue  # a batch norm wants two
            loss, norm = self._learn(numbers)
            total, count = total + loss * len(numbers), count + len(numbers)
            norms.append(norm)
        self.gradient_norm = sum(norms) / len(norms)
        training = total / count
        now = self._weights()
        self.network.load_state_dict(self.mean or now)
        self.network.eval()
        with torch.no_grad():
            validation = self.objective.validate()
        judged = self._weights()
        self.network.load_state_dict(now)
        if not math.isfinite(training) or not math.isfinite(validation):
            raise ValueError(
                f"training: the loss is not finite after epoch {self.epoch + 1}. "
                f"Try a learning_rate below {self.settings.learning_rate}."
            )
        self.epoch += 1
        if validation < self.best_loss - self.settings.min_delta:
            self.best_loss, self.stale, self.best = validation, 0, judged
        else:
            self.stale += 1
            self.cuts += self.stale % self.settings.schedule_epochs == 0
        return training, validation

    def _learn(self, numbers: Sequence[int]) -> tuple[float, float]:
        """One step; the loss, and how long the gradient was."""
        loss = self.objective.loss(numbers, self.generator)
        cost = penalty(self.network, self.settings)
        self.optimizer.zero_grad(set_to_none=True)
        (loss if cost is None else loss + cost).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        norm = torch.nn.utils.clip_grad_norm_(
            self.network.parameters(), self.settings.gradient_norm or math.inf
        )
        self.optimizer.step()
        self.steps += 1
        self._average()
        return float(loss.detach()), float(norm)

    def _average(self) -> None:
        """Take this step's weights into the mean, where there is one."""
        kept = min(self.settings.average, self.steps / (self.steps + FIRST_STEPS))
        now = self.network.state_dict()
        for name, mean in self.mean.items():
            if mean.is_floating_point():
                mean.lerp_(now[name].detach().cpu(), 1 - kept)
            else:
                mean.copy_(now[name])  # how many batches a norm has seen

    def _save(self, folder: Path) -> None:
        """Everything that the next pass depends on."""
        tensors = {f"now.{name}": x for name, x in self._weights().items()}
        tensors |= {f"best.{name}": x for name, x in self.best.items()}
        tensors |= {f"mean.{name}": x for name, x in self.mean.items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            for name, x in moments.items():
                if x is not None:  # a momentum that is not used
                    tensors[f"optimizer.{index}.{name}"] = x.detach().cpu().contiguous()
        tensors["generator"] = self.generator.get_state()
        numbers = {
            "fingerprint": self.fingerprint,
            "epoch": self.epoch,
            "steps": self.steps,
            "stale": self.stale,
            "cuts": self.cuts,
            "best_loss": self.best_loss,
        }
        files = {
            STATE: json.dumps(numbers, indent=1, allow_nan=False).encode(),
            TENSORS: safetensors.torch.save(tensors),
        }
        write_folder(folder, files)

    def _restore(self, folder: Path) -> None:
        """Take up what was saved. Raises ValueError where that is of another training."""
        try:
            numbers = json.loads((folder / STATE).read_bytes())
            tensors = safetensors.torch.load_file(folder / TENSORS)
            fingerprint = numbers["fingerprint"]
        except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
            raise ValueError(
                f"{folder}: no checkpoint of a training: {error}. Remove it to start anew."
            ) from error
        if fingerprint != self.fingerprint:
            raise ValueError(
                f"{folder}: a checkpoint of another training (other pictures, labels or "
                "settings). Remove it to start anew, or give the same again."
            )
        self.network.load_state_dict(under("now.", tensors))
        self.best = under("best.", tensors)
        self.mean = under("mean.", tensors)
        state = self.optimizer.state_dict()
        for name, x in under("optimizer.", tensors).items():
            index, key = name.split(".", 1)
            state["state"].setdefault(int(index), {})[key] = x
        self.optimizer.load_state_dict(state)
        self.generator.set_state(tensors["generator"])
        self.epoch, self.stale, self.cuts = numbers["epoch"], numbers["stale"], numbers["cuts"]
        self.best_loss, self.steps = numbers["best_loss"], numbers["steps"]

    def _draw(self, depth: int, rows: int, width: int) -> Tensor:
        """Uniform numbers for dropout, where the network is."""
        drawn = torch.rand(depth, rows, width, generator=self.generator)
        return drawn.to(next(self.network.parameters()).device)

    def _weights(self) -> dict[str, Tensor]:
        return {
            name: x.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, x in self.network.state_dict().items()
        }

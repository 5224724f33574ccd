"""What can be chosen about a fit: what it lowers, how weights move, and what keeps them small.

Losses are those of one value each; what is summed, and over what, is the fit's own business.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.settings import FitSettings

# T ticks, N rows, C channels, H hidden


def losses(kind: str, error_TNC: Tensor, log_spread_TNC: Tensor) -> Tensor:
    """The loss of each value [T, N, C], scaled units.

    likelihood: negative log likelihood of a normal distribution, without its constant. huber:
    squared up to one deviation of the channel, beyond that by its size (Huber, 1964).
    """
    if kind == "mse":
        return error_TNC.square()
    if kind == "mae":
        return error_TNC.abs()
    if kind == "huber":
        return functional.huber_loss(error_TNC, torch.zeros_like(error_TNC), reduction="none")
    return 0.5 * (error_TNC * torch.exp(-log_spread_TNC)).square() + log_spread_TNC


def optimizer(network: nn.Module, settings: FitSettings) -> torch.optim.Optimizer:
    """Adam (Kingma and Ba, 2015), SGD or RMSprop (Tieleman and Hinton, 2012)."""
    weights, rate = network.parameters(), settings.learning_rate
    if settings.optimizer == "sgd":
        return torch.optim.SGD(weights, lr=rate, momentum=settings.momentum)
    if settings.optimizer == "rmsprop":
        return torch.optim.RMSprop(weights, lr=rate, momentum=settings.momentum)
    return torch.optim.Adam(weights, lr=rate, betas=settings.betas)


def rate(settings: FitSettings, epoch: int, cuts: int) -> float:
    """The optimizer's step in an epoch, counted from 0.

    ``cuts``: how often a plateau was met. In closed form, so that nothing of it must be kept when
    training is stopped.
    """
    warm = settings.warmup_epochs
    if epoch < warm:
        return settings.learning_rate * (epoch + 1) / (warm + 1)
    if settings.schedule == "cosine":  # Loshchilov and Hutter, 2017, without restarts
        part = 0.5 * (1.0 + math.cos(math.pi * (epoch - warm) / (settings.epochs - warm)))
    elif settings.schedule == "step":
        part = settings.schedule_factor ** ((epoch - warm) // settings.schedule_epochs)
    elif settings.schedule == "plateau":
        part = settings.schedule_factor**cuts
    else:
        part = 1.0
    return settings.learning_rate * part


def penalty(network: nn.Module, settings: FitSettings) -> Tensor | None:
    """What large weights cost, beside the loss; None where they are free. Biases always are."""
    weights = [parameter for parameter in network.parameters() if parameter.dim() > 1]
    costs = []
    if settings.l1:
        costs.append(settings.l1 * torch.stack([w.abs().sum() for w in weights]).sum())
    if settings.l2:
        costs.append(0.5 * settings.l2 * torch.stack([w.square().sum() for w in weights]).sum())
    return torch.stack(costs).sum() if costs else None


class Dropout(nn.Module):
    """Hides parts of the memory in training, the same ones for all ticks of a row's chunk.

    Gal and Ghahramani, 2016. Nothing is hidden until a fit gives it what it draws with: uniform
    numbers of a shape.
    """

    def __init__(self) -> None:
        super().__init__()
        self.share = 0.0
        self.draw: Callable[[int, int, int], Tensor] | None = None

    def forward(self, memory_TNH: Tensor) -> Tensor:
        """The memory with parts at 0, the others larger by as much."""
        if not self.training or not self.share or self.draw is None:
            return memory_TNH
        _, rows, hidden = memory_TNH.shape
        kept = self.draw(1, rows, hidden) >= self.share
        return memory_TNH * (kept / (1.0 - self.share))

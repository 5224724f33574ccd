"""A judge that learnt from simulated faults to tell which channels are at fault.

The other judges learn health alone, and measure how far a frame is from it. This one is shown
faults as well, planted into the smoothed residuals of healthy frames, and learns to say of each
channel how likely it is at fault: a small network (one hidden layer) on the same few numbers. The
faults are crude on purpose. They need not look like those to come, they have to mark the border of
health from outside (outlier exposure: Hendrycks, Mazeika and Dietterich, ICLR 2019; faults planted
into time series: Carmona, Aubet, Flunkert and Gasthaus, NCAD, 2021).

The raw score is the sum over channels of -ln of the chance that each is healthy, in nats; blame is
each one's part of it. It is no chance of a real fault, for those were not what it learnt from: what
it means is for calibration to say, as of any other raw score. What it knows of the past is what the
smoothing keeps, so where it started is soon forgotten.
"""

import math
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.contract import added
from models.surprise import COLUMNS, F32, F64, ROWS, SmoothingJudge, anywhere

# M healthy frames, B frames of a batch, N rows, C channels, L lags, S time scales, H hidden

HIDDEN = 64
STEPS, BATCH, RATE = 800, 256, 3e-3  # of Adam
SEED = 0  # same frames, same judge
FAULTY_SHARE = 0.5  # of the frames it is shown
ALONE_SHARE = 0.5  # of faults touch one channel; the others each channel by even chance
DROPOUT = 0.1  # how often a channel falls out, which is no fault
SIZES = (0.5, 10.0)  # in the channel's healthy spread, evenly by logarithm
LIMIT = 32.0  # healthy spreads of each number that the network is given
LEAST_SCALE = 1e-3  # of a number that never moved in health
REGISTERS = 32  # floats: softplus over a ragged end may take another path, with other bits


class Discriminator(SmoothingJudge):
    """Evidence against the health of each channel, by a network that was shown faults."""

    def __init__(self, channels: int, spans: tuple[int, ...], lags: int = 1) -> None:
        super().__init__(channels, spans, lags)
        with torch.random.fork_rng(devices=[]):  # the global generator is not ours to move
            self._layers = nn.Linear(self.width + channels, HIDDEN), nn.Linear(HIDDEN, channels)
        self._network = nn.Sequential(self._layers[0], nn.ReLU(), self._layers[1])
        self._start(torch.Generator().manual_seed(SEED))
        self._scale = torch.ones(self.width)
        self._ready()

    def fit(self, smoothed: F32, known: NDArray[np.bool_], *, floor: F64) -> None:  # noqa: ARG002 (scaling knows it)
        """Learn to tell healthy frames [M, L * K], [M, K] from those with a fault planted in."""
        generator = torch.Generator().manual_seed(SEED)
        self._start(generator)
        frames = torch.from_numpy(smoothed)
        self._scale = frames.square().mean(0).sqrt().clamp(min=LEAST_SCALE)
        spread_C = self._scale[: self.channels]
        learner = torch.optim.Adam(self._network.parameters(), lr=RATE)
        for _ in range(STEPS):
            rows = torch.randint(len(frames), (BATCH,), generator=generator)
            others = torch.randint(len(frames), (BATCH,), generator=generator)
            z, faulty = self.planted(frames[rows], frames[others], spread_C, generator)
            kept = torch.rand(BATCH, self.channels, generator=generator) >= DROPOUT
            seen = torch.from_numpy(known)[rows] & kept.repeat(1, self.copies)
            odds = self._network(self._inputs(z, seen))
            each = functional.binary_cross_entropy_with_logits(
                odds, faulty.float(), reduction="none"
            )
            learner.zero_grad(set_to_none=True)
            (each * anywhere(seen, self.channels)).mean().backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            learner.step()
        self._ready()

    def planted(
        self, frames: Tensor, others: Tensor, spread_C: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Smoothed frames [B, L * K] with a fault in about half of them, and where: bool [B, C].

        A shift, as it shows on each scale so many ticks after it began (an offset, a drift);
        unrest (noise, an oscillation); a value that stands still; and what the channel did in
        another frame, healthy alone but no longer with the others.
        """
        count = len(frames)
        shape = (count, self.lags, self.copies, self.channels)

        def drawn(*size: int) -> Tensor:
            return torch.rand(count, *size, generator=generator)

        faulty = drawn(1) < FAULTY_SHARE
        alone = torch.randint(self.channels, (count, 1), generator=generator)
        one = torch.arange(self.channels) == alone
        touched = faulty & (one | ((drawn(1) >= ALONE_SHARE) & (drawn(self.channels) < 0.5)))
        low, high = map(math.log, SIZES)
        size = torch.exp(low + (high - low) * drawn(1, 1, self.channels)) * spread_C
        sign = torch.where(drawn(1, 1, self.channels) < 0.5, -1.0, 1.0)
        alpha_S1 = torch.from_numpy(self.alpha).float()[:, None]
        age = torch.exp(math.log(max(self.memory_ticks, 2)) * drawn(1, 1, 1))  # ticks
        grown = 1.0 - (1.0 - alpha_S1) ** age
        unrest = torch.randn(shape, generator=generator) * (alpha_S1 / (2.0 - alpha_S1)).sqrt()
        z, other = frames.view(shape), others.view(shape)
        kinds = torch.stack(
            [
                z + sign * size * grown,
                z + size * unrest,
                z + (other[:, :1, :1] - z) * grown,
                other,
            ]
        )
        kind = torch.randint(len(kinds), (count,), generator=generator)
        changed = kinds[kind, torch.arange(count)]
        return torch.where(touched[:, None, None], changed, z).flatten(1), touched

    def measure(self, smoothed: Tensor, known_NK: Tensor) -> tuple[Tensor, Tensor]:
        """Raw score [N] and blame [N, C]; rows are filled up to whole groups of eight."""
        rows, channels = len(known_NK), self.channels
        padded = math.ceil(rows / ROWS) * ROWS
        inputs = smoothed.new_zeros(padded, self.width + channels)
        inputs[:rows] = self._inputs(smoothed, known_NK)
        hidden = torch.addmm(self._first_bias, inputs, self._first).relu_()
        odds = torch.addmm(self._second_bias, hidden, self._second)
        flat = odds.new_zeros(math.ceil(odds.numel() / REGISTERS) * REGISTERS)
        flat[: odds.numel()] = odds.flatten()
        evidence = functional.softplus(flat)[: odds.numel()].view(odds.shape)[:rows, :channels]
        seen_NC = anywhere(known_NK, channels).to(torch.float32)
        evidence_NC = evidence * seen_NC
        raw_N, known_N = added(evidence_NC.unbind(1)), added(seen_NC.unbind(1))
        blame_NC = torch.where(
            (raw_N > 0)[:, None],
            evidence_NC / torch.where(raw_N > 0, raw_N, 1.0)[:, None],
            seen_NC / known_N.clamp(min=1.0)[:, None],
        )
        return raw_N, blame_NC

    def tensors(self) -> dict[str, Tensor]:
        """The network's weights and the scale of what it is given, float32."""
        return {**self._network.state_dict(), "scale": self._scale}

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what tensors() gave."""
        own = {name: tensor.cpu() for name, tensor in tensors.items()}
        self._scale = own.pop("scale").clone()
        self._network.load_state_dict(own)
        self._ready()

    def to(self, device: str) -> None:
        """Work on a torch device from now on."""
        super().to(device)
        self._ready()

    def _start(self, generator: torch.Generator) -> None:
        """Draw every weight anew, uniform within 1 / sqrt(inputs) as torch does."""
        with torch.no_grad():
            for layer in self._layers:
                bound = 1.0 / math.sqrt(layer.in_features)
                for parameter in (layer.weight, layer.bias):
                    parameter.uniform_(-bound, bound, generator=generator)

    def _inputs(self, smoothed: Tensor, known_NK: Tensor) -> Tensor:
        """Of each row its smoothed residuals in healthy spreads, 0 where not known.

        Then which channels are, at any scale.
        """
        scale = self._scale.to(smoothed.device)
        z = (smoothed / scale).clamp(-LIMIT, LIMIT) * known_NK.repeat(1, self.lags)
        return torch.cat([z, anywhere(known_NK, self.channels).to(z.dtype)], 1)

    def _ready(self) -> None:
        """Weights as the products take them, with columns of nothing up to whole groups."""
        first, second = self._layers
        missing = -self.channels % COLUMNS
        self._first = first.weight.detach().t().contiguous().to(self.device)
        self._first_bias = first.bias.detach().to(self.device)
        weight = functional.pad(second.weight.detach(), (0, 0, 0, missing))
        self._second = weight.t().contiguous().to(self.device)
        self._second_bias = functional.pad(second.bias.detach(), (0, missing)).to(self.device)

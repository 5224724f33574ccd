"""GRU and LSTM forecasters with a Gaussian head: what each channel will be next, and how sure.

One set of weights, two forms. Over whole sequences (training, and many ticks at once on a GPU) they
run in nn.GRU and nn.LSTM; one tick at a time (scoring, live and backfill alike) they run in the
step below, which costs the same whatever came before.

The step is few, large operations on work space made once. sigmoid is about ten times faster than
tanh on a CPU, so tanh(a) = 2 sigmoid(2a) - 1 throughout; what the 2 and the -1 leave over is folded
into the weights, once, by keeping the state shifted: g = (h + 1) / 2 for the GRU, h / 2 and c / 2
for the LSTM. The forecast is read off the state before the tick is seen, so its weights ride along
in the same product.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.contract import State
from models.fitting import Dropout
from models.judges import judge_of
from models.residual import ResidualDetector
from models.settings import RecurrentSettings

# T ticks, N rows, C channels, I = 2C inputs, H hidden, P rows padded to whole groups of eight

ROWS = 8  # float32 products give a row the same bits in any batch that is a multiple of this
TILE = 1024  # rows a pass: more leave the cache, fewer pay for calls
REGISTERS = 32  # floats: two of the widest registers, what torch's loops take at a time
GPU_TILE = 65_536  # rows a pass there: a pass costs a dozen launches, whatever it holds
WORK_ROWS = 262_144  # of all the work space kept
SEQUENCE_FLOATS = 33_554_432  # of hidden states at once: cuDNN takes several times that of memory
LEAST_FLOOR = 0.03  # scaled units: no forecast is surer than this, whatever it saw in training
WARMUP_TICKS = 32  # the forecast of the first ticks after a reset does not count


class Network(nn.Module):
    """The weights, and their form over whole sequences.

    ``floor`` [C] bounds the spread from below.
    """

    floor: Tensor

    def __init__(self, kind: type[nn.GRU] | type[nn.LSTM], channels: int, hidden: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):  # the global generator is not ours to move
            self.cell = kind(2 * channels, hidden)
            self.head = nn.Linear(hidden, 2 * channels)
        self.dropout = Dropout()
        self.register_buffer("floor", torch.full((channels,), LEAST_FLOOR))
        self.start(torch.Generator().manual_seed(0))

    def start(self, generator: torch.Generator) -> None:
        """Draw every weight anew from this generator, uniform within 1 / sqrt(H) as torch does."""
        bound = 1.0 / math.sqrt(self.head.in_features)
        with torch.no_grad():
            for parameter in self.parameters():
                drawn = torch.empty(parameter.shape).uniform_(-bound, bound, generator=generator)
                parameter.copy_(drawn)

    def set_spread(self, spread_C: Tensor) -> None:
        """Forecast this spread [C] at all times, scaled units: for a fit that learns none."""
        channels = len(spread_C)
        with torch.no_grad():
            self.head.weight[channels:] = 0.0
            self.head.bias[channels:] = spread_C.log()

    def forward(
        self, value_TNC: Tensor, valid_TNC: Tensor, state: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Forecast of every tick from those before it: mean and log spread [T, N, C].

        The state after the last tick, [N, H] each, comes third.

        ``value`` is 0 where not valid; ``valid`` is 0 or 1, float32.
        """
        seen_TNH, after = self.run(torch.cat([value_TNC, valid_TNC], 2), state)
        known_TNH = torch.cat(
            [state[0][None], seen_TNH[:-1]]
        )  # a tick is forecast before it is seen
        mean_TNC, log_spread_TNC = self.head(self.dropout(known_TNH)).chunk(2, 2)
        log_spread_TNC = torch.maximum(log_spread_TNC, self.floor.log())
        return mean_TNC, log_spread_TNC, after

    def run(
        self, inputs_TNI: Tensor, state: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The memory after each tick [T, N, H], and the state after the last, [N, H] each."""
        before = tuple(part.unsqueeze(0) for part in state)
        if isinstance(self.cell, nn.GRU):
            seen_TNH, hidden = self.cell(inputs_TNI, before[0])
            after: tuple[Tensor, ...] = (hidden,)
        else:
            seen_TNH, after = self.cell(inputs_TNI, before)
        return seen_TNH, tuple(part.squeeze(0) for part in after)


class Product:
    """x @ weights + bias, of rows in multiples of eight."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self.weight = weight.t().contiguous()
        self.bias = bias.contiguous()

    def __call__(self, x: Tensor, out: Tensor) -> Tensor:
        """The product, in ``out``."""
        return torch.addmm(self.bias, x, self.weight, out=out)


class Work:
    """Work space for one count of rows, filled up to whole groups of eight.

    Views are cut once, not at each tick.
    """

    def __init__(self, rows: int, channels: int, hidden: int, gates: int, device: str) -> None:
        padded = whole(rows)
        self.inputs = torch.zeros(padded, 2 * channels + hidden, device=device)
        self.seen = self.inputs[:, : 2 * channels]
        self.hidden = self.inputs[:, 2 * channels :]
        self.cell = torch.zeros(padded, hidden, device=device)
        self.put_value = self.inputs[:rows, :channels]
        self.put_valid = self.inputs[:rows, channels : 2 * channels]
        self.put_states = (self.hidden[:rows], self.cell[:rows])
        self.main = torch.empty(padded, gates * hidden + 2 * channels, device=device)
        self.one = torch.empty(padded, hidden, device=device)
        self.two = torch.empty(padded, hidden, device=device)
        parts = torch.split_with_sizes(self.main, [hidden] * gates + [channels] * 2, 1)
        # all gates together, each gate [P, H], then mean and log spread [P, C]
        self.views: tuple[Tensor, ...] = (self.main[:, : gates * hidden], *parts)


class Forecaster(ABC):
    """The step on a table of states: what GRU and LSTM share."""

    network: Network
    warmup_ticks = WARMUP_TICKS
    forecasts = True
    states: tuple[str, ...]
    _gates: int  # of H columns each in the main product
    _reads: Product  # what is said of all channels, off the state
    _start: float  # a state that has seen nothing, in the step's own form

    def __init__(self, kind: type[nn.GRU] | type[nn.LSTM], channels: int, hidden: int) -> None:
        self.network = self._network(kind, channels, hidden)
        self.channels = channels
        self.hidden = hidden
        self.device = "cpu"
        self.refresh()

    def _network(self, kind: type[nn.GRU] | type[nn.LSTM], channels: int, hidden: int) -> Network:
        return Network(kind, channels, hidden)

    @abstractmethod
    def _pack(self) -> None:
        """Fold the network's weights into what the step uses."""

    @abstractmethod
    def _tile(self, work: Work, out: list[Tensor]) -> tuple[Tensor, Tensor]:
        """One tick of what ``work`` holds: new states into ``out``, mean and log spread back."""

    def prepare(
        self,
        values: Sequence[NDArray[np.float32]],  # noqa: ARG002 - a forecaster sees every channel
        valid: Sequence[NDArray[np.bool_]],  # noqa: ARG002 - as above
        floor: Tensor,
    ) -> None:
        """Look at what it is to learn from, before the first epoch: runs of [T, C], scaled units.

        ``floor`` [C]: the sensors' resolution, which bounds the spread from below.
        """
        self.network.floor.copy_(floor.clamp(LEAST_FLOOR, 1.0))
        self.refresh()

    def refresh(self) -> None:
        """Take the network's weights as they are now into the step."""
        with torch.no_grad():
            self._pack()
        self._log_floor = self.network.floor.log()
        self._zero = torch.zeros((), device=self.device)
        self._work: dict[int, Work] = {}

    def read(self, state: State) -> tuple[Tensor, Tensor]:
        """Mean and log spread [N, C] of whatever is said of a tick by the state [N, H] after it."""
        hidden = state[self.states[0]]
        rows = len(hidden)
        padded = hidden.new_zeros(whole(rows), self.hidden)
        padded[:rows] = hidden
        out = hidden.new_empty(len(padded), len(self._reads.bias))
        said = self._reads(padded, out)[:rows, : 2 * self.channels]
        return said[:, : self.channels], said[:, self.channels :]

    def _learnt(self) -> dict[str, Tensor]:
        """The network's weights in float64, so that folding rounds once."""
        return {name: tensor.double() for name, tensor in self.network.state_dict().items()}

    def initial(self, rows: int) -> State:
        """States that have seen nothing: h = c = 0, in the step's own form."""
        return {
            name: torch.full((rows, self.hidden), self._start, device=self.device)
            for name in self.states
        }

    def step(
        self, value_NC: Tensor, valid_NC: Tensor, state: State
    ) -> tuple[Tensor, Tensor, State]:
        """Forecast and spread [N, C] of this tick, made before it is seen; then the new state."""
        rows, padded = len(value_NC), whole(len(value_NC))
        given = [value_NC, valid_NC, *(state[name] for name in self.states)]
        after = [value_NC.new_empty(padded, self.hidden) for _ in self.states]
        expected = value_NC.new_empty(padded, self.channels)
        # exp runs over whole registers: a ragged end may take another path, with other bits
        flat = value_NC.new_empty(whole(padded * self.channels, REGISTERS))
        log_spread = flat[: padded * self.channels].view(padded, self.channels)
        tables = [expected, log_spread, *after]
        tile = TILE if self.device == "cpu" else GPU_TILE
        if rows <= tile:
            self._rows(given, tables)
        else:
            for start in range(0, rows, tile):
                pick = slice(start, start + tile)
                self._rows([table[pick] for table in given], [table[pick] for table in tables])
        flat.exp_()
        tables = [table[:rows] for table in tables] if rows != padded else tables
        return tables[0], tables[1], dict(zip(self.states, tables[2:], strict=True))

    def sequence(
        self, value_TNC: Tensor, valid_TNC: Tensor, state: State
    ) -> tuple[Tensor, Tensor, State]:
        """Forecast and spread [T, N, C] as the step gives them, but for rounding; the new state."""
        # the step keeps h / 2 + start: see the head of this file
        now = tuple(2.0 * (state[name] - self._start) for name in self.states)
        ticks = max(SEQUENCE_FLOATS // max(now[0].numel(), 1), 1)
        means, log_spreads = [], []
        for value, valid in zip(
            torch.split(value_TNC, ticks), torch.split(valid_TNC, ticks), strict=True
        ):
            known = torch.where(valid, value, self._zero)
            mean, log_spread, now = self.network(known, valid.to(known.dtype), now)
            means.append(mean)
            log_spreads.append(log_spread)
        after = (0.5 * part + self._start for part in now)
        return (
            torch.cat(means),
            torch.cat(log_spreads).exp_(),
            dict(zip(self.states, after, strict=True)),
        )

    def _rows(self, given: list[Tensor], tables: list[Tensor]) -> None:
        """One tile: value, valid, states [n, ...] in; mean, log spread, new states [P, ...] out."""
        rows = len(given[0])
        work = self._work.get(rows)
        if work is None:
            if sum(self._work) + rows > WORK_ROWS:
                self._work.clear()
            work = Work(rows, self.channels, self.hidden, self._gates, self.device)
            self._work[rows] = work
        torch.where(given[1], given[0], self._zero, out=work.put_value)
        work.put_valid.copy_(given[1])
        for held, part in zip(work.put_states, given[2:], strict=False):
            held.copy_(part)
        mean, log_spread = self._tile(work, tables[2:])
        tables[0].copy_(mean)
        torch.maximum(log_spread, self._log_floor, out=tables[1])

    def tensors(self) -> dict[str, Tensor]:
        """The network's weights, by name."""
        return dict(self.network.state_dict())

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what tensors() gave."""
        self.network.load_state_dict(tensors)
        self.refresh()

    def to(self, device: str) -> None:
        """Move to a torch device."""
        self.device = device
        self.network.to(device)
        self.refresh()


class GruForecaster(Forecaster):
    """h' = (1 - z) n + z h with n = tanh(n_x + r n_h) and r, z = sigmoid(...).

    Cho et al., 2014, as cuDNN has it.

    n_x and n_h stay apart because r multiplies only one of them; each sees only the inputs it
    needs.
    """

    states = ("hidden",)
    _gates = 2
    _start = 0.5

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__(nn.GRU, channels, hidden)

    def _pack(self) -> None:
        H, learnt = self.hidden, self._learnt()
        W_x, b_x = learnt["cell.weight_ih_l0"], learnt["cell.bias_ih_l0"]  # r, z, n
        W_h, b_h = _of_shifted(learnt["cell.weight_hh_l0"], learnt["cell.bias_hh_l0"])
        W_o, b_o = _of_shifted(learnt["head.weight"], learnt["head.bias"])
        gates = torch.cat([W_x[: 2 * H], W_h[: 2 * H]], 1)
        reads = torch.cat([W_o.new_zeros(len(W_o), 2 * self.channels), W_o], 1)
        self._main = Product(
            torch.cat([gates, reads]).float(),
            torch.cat([b_x[: 2 * H] + b_h[: 2 * H], b_o]).float(),
        )
        self._reads = Product(_widened(W_o).float(), _widened(b_o).float())
        # twice: sigmoid(2a) stands for tanh(a)
        self._new_x = Product((2 * W_x[2 * H :]).float(), (2 * b_x[2 * H :]).float())
        self._new_h = Product((2 * W_h[2 * H :]).float(), (2 * b_h[2 * H :]).float())

    def _tile(self, work: Work, out: list[Tensor]) -> tuple[Tensor, Tensor]:
        self._main(work.inputs, work.main)
        gates, reset, keep, mean, log_spread = work.views
        gates.sigmoid_()
        new = self._new_x(work.seen, work.one)
        new.addcmul_(reset, self._new_h(work.hidden, work.two)).sigmoid_()
        torch.lerp(new, work.hidden, keep, out=out[0])
        return mean, log_spread


class LstmForecaster(Forecaster):
    """c' = f c + i tanh(g), h' = o tanh(c') with i, f, o = sigmoid(...).

    Gers, Schmidhuber and Cummins, 2000.
    """

    states = ("hidden", "cell")
    _gates = 4
    _start = 0.0

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__(nn.LSTM, channels, hidden)

    def _pack(self) -> None:
        H, learnt = self.hidden, self._learnt()
        bias = learnt["cell.bias_ih_l0"] + learnt["cell.bias_hh_l0"]  # i, f, g, o
        gates = torch.cat([learnt["cell.weight_ih_l0"], 2 * learnt["cell.weight_hh_l0"]], 1)
        gates[2 * H : 3 * H] *= 2  # sigmoid(2a) stands for tanh(a)
        bias[2 * H : 3 * H] *= 2
        W_o = 2 * learnt["head.weight"]  # of h / 2
        reads = torch.cat([W_o.new_zeros(len(W_o), 2 * self.channels), W_o], 1)
        self._main = Product(
            torch.cat([gates, reads]).float(), torch.cat([bias, learnt["head.bias"]]).float()
        )
        self._reads = Product(_widened(W_o).float(), _widened(learnt["head.bias"]).float())

    def _tile(self, work: Work, out: list[Tensor]) -> tuple[Tensor, Tensor]:
        self._main(work.inputs, work.main)
        gates, enter, forget, new, leave, mean, log_spread = work.views
        gates.sigmoid_()
        cell = torch.mul(forget, work.cell, out=out[1])  # c / 2 throughout
        cell.addcmul_(enter, new.sub_(0.5))
        shown = torch.mul(cell, 4.0, out=work.one).sigmoid_().sub_(0.5)  # tanh(c) / 2
        torch.mul(leave, shown, out=out[0])
        return mean, log_spread


def detector(settings: RecurrentSettings, forecaster: Forecaster) -> ResidualDetector:
    """A forecaster that has learnt nothing yet, with its judge."""
    return ResidualDetector(
        channels=forecaster.channels,
        predictor=forecaster,
        judge=judge_of(settings, forecaster.channels),
        warmup_ticks=settings.warmup_ticks,
    )


def _of_shifted(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """W h + b written in g = (h + 1) / 2."""
    return 2 * weight, bias - weight.sum(1)


def _widened(weight: Tensor) -> Tensor:
    """With outputs of zero up to whole groups: of 9 to 11, bits depend on where a row stands."""
    return torch.cat(
        [weight, weight.new_zeros(whole(len(weight)) - len(weight), *weight.shape[1:])]
    )


def whole(count: int, group: int = ROWS) -> int:
    """The count filled up to whole groups."""
    return math.ceil(count / group) * group

"""Masked estimators: each group of channels estimated from the other channels, now and before.

A forecaster that sees the channel it judges follows a lasting fault after a few ticks, and goes
quiet. Here the channels are dealt into K groups, and the memory is kept K times, each without the
sight of one group: what it says of that group comes from the rest of the machine alone, however
long a fault lasts. One set of weights serves all groups; which is hidden shows in the validity.

Sits beside the forecasters in models/recurrent.py, whose cells and steps these are: N assets are
N * K rows there. Channels that are copies of each other share a group, or each would give the other
away; otherwise those that go together are dealt apart, so that each has its kin to be estimated
from.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, leaves_list, linkage
from scipy.spatial.distance import squareform
from torch import Tensor, nn

from models.contract import State
from models.recurrent import (
    REGISTERS,
    Forecaster,
    GruForecaster,
    LstmForecaster,
    Network,
    whole,
)

# T ticks, N rows, C channels, K groups, H hidden

COPIES = 0.98  # correlation from which on two channels are taken for one


class MaskedNetwork(Network):
    """The weights, and their form over whole sequences. ``group`` [C]: which each channel is in."""

    group: Tensor

    def __init__(
        self, kind: type[nn.GRU] | type[nn.LSTM], channels: int, hidden: int, groups: int
    ) -> None:
        super().__init__(kind, channels, hidden)
        self.groups = groups
        self.register_buffer("group", torch.arange(channels) % groups)

    @property
    def shown(self) -> Tensor:
        """Which channels the memory of each group is shown, bool [K, C]."""
        return self.group != torch.arange(self.groups, device=self.group.device)[:, None]

    def own(self, of_all_NKC: Tensor) -> Tensor:
        """Of what is said of all channels [..., K, C], what each group's memory says of its own."""
        index = self.group.expand(*of_all_NKC.shape[:-2], 1, -1)
        return of_all_NKC.gather(-2, index).squeeze(-2)

    def forward(
        self, value_TNC: Tensor, valid_TNC: Tensor, state: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
        """Estimate of every tick from the other channels then and before, as Network forecasts.

        States are [N, K, H].
        """
        ticks, rows, channels = value_TNC.shape
        shown_KC = self.shown.to(value_TNC.dtype)
        given = [(part.unsqueeze(2) * shown_KC).flatten(1, 2) for part in (value_TNC, valid_TNC)]
        seen_TRH, after = self.run(torch.cat(given, 2), tuple(part.flatten(0, 1) for part in state))
        said = self.head(seen_TRH).view(ticks, rows, self.groups, 2 * channels)
        mean_TNC, log_spread_TNC = (self.own(part) for part in said.chunk(2, 3))
        log_spread_TNC = torch.maximum(log_spread_TNC, self.floor.log())
        return (
            mean_TNC,
            log_spread_TNC,
            tuple(part.view(rows, self.groups, part.shape[1]) for part in after),
        )


class Masked(Forecaster):
    """The step on a table of states [N, K, H]: what the masked estimators share."""

    network: MaskedNetwork

    def __init__(self, channels: int, hidden: int, groups: int) -> None:
        self.groups = min(groups, channels)
        super().__init__(channels, hidden)  # type: ignore[call-arg]  # a mixin: the cell's own

    def _network(
        self, kind: type[nn.GRU] | type[nn.LSTM], channels: int, hidden: int
    ) -> MaskedNetwork:
        return MaskedNetwork(kind, channels, hidden, self.groups)

    def prepare(
        self,
        values: Sequence[NDArray[np.float32]],
        valid: Sequence[NDArray[np.bool_]],
        floor: Tensor,
    ) -> None:
        """Bound the spread, and deal the channels."""
        group = dealt(np.concatenate(values), np.concatenate(valid), self.groups)
        self.network.group.copy_(torch.from_numpy(group))
        super().prepare(values, valid, floor)

    def refresh(self) -> None:
        """Take the network's weights as they are now into the step."""
        super().refresh()
        self._shown = self.network.shown

    def initial(self, rows: int) -> State:
        """States that have seen nothing, in the step's own form."""
        flat = super().initial(rows * self.groups)
        return {name: part.view(rows, self.groups, self.hidden) for name, part in flat.items()}

    def step(
        self, value_NC: Tensor, valid_NC: Tensor, state: State
    ) -> tuple[Tensor, Tensor, State]:
        """Estimate and spread [N, C], each channel's without its group; then the new state."""
        rows = len(value_NC)
        shape = (rows, self.groups, self.channels)
        _, _, flat = super().step(
            value_NC.unsqueeze(1).expand(shape).flatten(0, 1),
            (valid_NC.unsqueeze(1) & self._shown).flatten(0, 1),
            {name: part.flatten(0, 1) for name, part in state.items()},
        )
        mean, log_spread = (part.reshape(shape) for part in self.read(flat))
        # exp runs over whole registers, as in Forecaster.step
        spread = value_NC.new_zeros(whole(rows * self.channels, REGISTERS))
        spread_NC = spread[: rows * self.channels].view(rows, self.channels)
        torch.maximum(self.network.own(log_spread), self._log_floor, out=spread_NC)
        spread.exp_()
        after = {name: part.view(rows, self.groups, self.hidden) for name, part in flat.items()}
        return self.network.own(mean), spread_NC, after


class MaskedGru(Masked, GruForecaster):
    """With the memory of a GRU."""


class MaskedLstm(Masked, LstmForecaster):
    """With the memory of an LSTM."""


def dealt(value: NDArray[np.float32], valid: NDArray[np.bool_], groups: int) -> NDArray[np.int64]:
    """The group [C] of each channel, by how the values [M, C] go together (average linkage).

    Copies stay together, the most of them first; then, kin by kin, each goes to the emptiest group.
    """
    channels = value.shape[1]
    group = np.zeros(channels, np.int64)
    if channels == 1:
        return group
    likeness = np.abs(_correlations(value, valid))
    tree = linkage(squareform(1.0 - likeness, checks=False), "average")
    same = fcluster(tree, 1.0 - COPIES, "distance")
    sizes = np.zeros(groups, np.int64)
    kin = [np.flatnonzero(same == one) for one in dict.fromkeys(same[leaves_list(tree)].tolist())]
    for members in sorted(kin, key=len, reverse=True):
        group[members] = sizes.argmin()
        sizes[sizes.argmin()] += len(members)
    return group


def _correlations(value: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float64]:
    """[C, C], over the frames in which both channels are valid; 0 with a channel that is still."""
    seen = valid.astype(np.float64)
    count = np.maximum(seen.sum(0), 1.0)
    centred = np.where(valid, value - np.where(valid, value, 0.0).sum(0) / count, 0.0)
    products = centred.T @ centred
    squares = np.square(centred).T @ seen  # of the row's channel, where the column's is valid
    scale = np.sqrt(squares * squares.T)
    found = np.divide(products, scale, out=np.zeros_like(products), where=scale > 0)
    clipped: NDArray[np.float64] = np.clip(found, -1.0, 1.0)
    return clipped

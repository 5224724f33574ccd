"""Several processes that train one model: started by torchrun, each with its part of every batch.

Data-parallel training (torch's DistributedDataParallel): gradients are averaged, so that all hold
the same weights at all times. Everything else each does for itself, in the same order; the first
alone writes. Without torchrun there is one process, and none of this.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel


class WorkersError(Exception):
    """The processes cannot train together as they were started."""


@dataclass(frozen=True, slots=True)
class Workers:
    """This process among those that train together."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0

    def total(self, *numbers: float) -> list[float]:
        """The sum over all processes of each number."""
        if not distributed.is_initialized():
            return list(numbers)
        together = torch.tensor(numbers, dtype=torch.float64)
        distributed.all_reduce(together)
        return [float(number) for number in together]

    def wait(self) -> None:
        """Until all have come here: what one removes, another must not look for any more."""
        self.total(0.0)

    def agreed(self, says: Callable[[], bool]) -> Callable[[], bool]:
        """True in all processes as soon as it is in one: they ask equally often."""
        return (lambda: self.total(says())[0] > 0) if self.count > 1 else says

    def parallel(self, network: nn.Module) -> nn.Module:
        """The network whose gradients are the mean over all processes."""
        if not distributed.is_initialized():
            return network
        return DistributedDataParallel(network)


def workers() -> Workers:
    """This process among those that joined."""
    if not distributed.is_initialized():
        return Workers()
    return Workers(distributed.get_rank(), distributed.get_world_size())


@contextmanager
def joined() -> Iterator[Workers]:
    """Join the processes that torchrun started, if it did: NCCL between GPUs, else Gloo.

    Raises WorkersError where there are fewer GPUs here than processes, and any.
    """
    if not distributed.is_torchelastic_launched():
        yield Workers()
        return
    local, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    if 0 < gpus < here:
        raise WorkersError(
            f"torchrun: {here} processes on this machine, but {gpus} GPUs. Start one a GPU "
            f"(--nproc-per-node {gpus}), or hide the GPUs (CUDA_VISIBLE_DEVICES=) to train on CPUs."
        )
    if gpus:
        torch.cuda.set_device(local)  # what "cuda" means from now on
    distributed.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo")
    try:
        yield workers()
    finally:
        distributed.destroy_process_group()

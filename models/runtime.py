"""How torch is set up for a whole program: by its entry points, not by an import."""

import torch


def use_one_thread() -> None:
    """Small matrices gain nothing from a second thread, and lose tenfold on shared cores."""
    torch.set_num_threads(1)

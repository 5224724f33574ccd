"""How torch is set up for a whole program.

The thread count by its entry points, not by an import; the precision by whatever first works on a
GPU.
"""

import torch


def use_one_thread() -> None:
    """Small matrices gain nothing from a second thread, and lose tenfold on shared cores."""
    torch.set_num_threads(1)


def use_whole_floats() -> None:
    """No TF32 on a GPU: its ten bits of mantissa move scores by about 1e-3, and with them alarms.

    cuDNN would use it unasked.
    """
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False

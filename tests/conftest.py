"""What all tests share."""

import sys

import pytest


@pytest.fixture(autouse=True, scope="session")
def one_torch_thread() -> None:
    """As the program sets it: two threads are slower, and sums may be split elsewhere."""
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(1)

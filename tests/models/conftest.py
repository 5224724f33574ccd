import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """As the program sets it: two threads are slower, and sums may be split elsewhere."""
    torch.set_num_threads(1)

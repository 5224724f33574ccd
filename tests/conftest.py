"""What all tests share."""

import sys

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says how busy the machine is.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture(autouse=True, scope="session")
def one_torch_thread() -> None:
    """As the program sets it: two threads are slower, and sums may be split elsewhere."""
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(1)

"""What all tests share."""

import sys
from collections import Counter

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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with many slow tests come first: what is left in the end ends everywhere at once."""
    slow = Counter(
        item.path for item in items if any(map(item.get_closest_marker, ("slow", "broker")))
    )
    items.sort(key=lambda item: -slow[item.path])

import pytest
from support.bars import FIT, SETTINGS, bars

from models.vision.training import Examples, Trained, train


@pytest.fixture(scope="session")
def examples() -> Examples:
    return bars(60)


@pytest.fixture(scope="session")
def trained(examples: Examples) -> Trained:
    return train(examples, SETTINGS, FIT, good="good")

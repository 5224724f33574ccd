"""Small trained models of the rich kind, one of each type that remembers in its own way."""

import numpy as np
import pytest
from support.building import rich_kind
from support.machines import healthy, stretch

import models
from models.bundle import Bundle, Channel
from models.settings import TrainingSettings
from models.training import train

CHANNELS = tuple(
    Channel(name=name, unit=None, aggregate=channel.aggregate)
    for name, channel in rich_kind().channels.items()
    if channel.model
)


@pytest.fixture(scope="session")
def bundles() -> dict[str, Bundle]:
    """By type; they alarm at a surprise of 1.5, so that ordinary noise raises alarms."""
    return {name: _trained(name) for name in ("ewma", "gru", "lstm")}


def _trained(name: str) -> Bundle:
    settings = models.discover()[name]
    small = {"hidden": 4} if "hidden" in settings.model_fields else {}
    level = np.array([50.0 if channel.name == "y_std" else 0.0 for channel in CHANNELS])
    runs = [healthy(200, seed, len(CHANNELS)) - level for seed in range(2)]
    trained = train(
        [stretch(value, asset=f"a{seed}") for seed, value in enumerate(runs)],
        CHANNELS,
        settings(spans=(1, 4), warmup_ticks=3, **small),
        TrainingSettings(epochs=1, learning_rate=1e-2, chunk_ticks=50, device="cpu"),
    )
    return trained.bundle.with_threshold(1.5, provisional=True)

"""A small coupled process to learn from: all channels follow one load, each with noise."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.bundle import Channel
from models.contract import Judgement, Stretch
from models.settings import TrainingSettings

F64 = NDArray[np.float64]

SECOND = 1_000_000_000
CHANNELS = tuple(Channel(name=f"c{n}", unit="bar", aggregate="last") for n in range(4))
QUICK = TrainingSettings(epochs=2, learning_rate=1e-2, chunk_ticks=50, device="cpu")


def healthy(ticks: int, seed: int, channels: int = 4) -> F64:
    """Values [T, C] around 50, in the channels' units."""
    random = np.random.default_rng(seed)
    load = np.zeros(ticks)
    for t in range(1, ticks):
        load[t] = 0.95 * load[t - 1] + 0.3 * random.normal()
    sign = np.where(np.arange(channels) % 2, -1.0, 1.0)
    mix = sign * np.linspace(3.0, 1.5, channels)
    return 50.0 + load[:, None] * mix + 0.5 * random.normal(size=(ticks, channels))


def stretch(
    value: F64, *, asset: str = "a", valid: NDArray[np.bool_] | None = None, start: int = 0
) -> Stretch:
    """One run, a second a tick."""
    seen = np.ones(value.shape, np.bool_) if valid is None else valid
    tick = (start + np.arange(len(value), dtype=np.int64)) * SECOND
    return Stretch(asset=asset, tick=tick, value=np.where(seen, value, np.nan), valid=seen)


def fleet(ticks: int, *, assets: int = 3, start: int = 0) -> list[Stretch]:
    """One healthy run of each of several machines."""
    return [stretch(healthy(ticks, n), asset=f"a{n}", start=start) for n in range(assets)]


def column(judged: Sequence[Judgement], name: str) -> NDArray[np.float32]:
    """One column of many judgements, [T, N, ...]."""
    return np.stack([getattr(judgement, name) for judgement in judged])

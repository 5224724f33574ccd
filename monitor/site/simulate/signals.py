"""What the simulated machines measure: slow waves and noise, in whole numbers.

A value is a function of seed, asset, channel and sample number, and of nothing else: whoever knows
these four can tell what was sent. Whole numbers all the way, so that every machine agrees to the
bit; the one division at the end is exact to the last place wherever it is done.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitor.site.simulate.chance import bits, mixed, seeded, unsigned

# Everything broadcasts: shapes are those of the arguments.

I64 = NDArray[np.int64]

CENTRE, HIGHEST = 5000, 10_000  # counts around which a channel moves, and which it never reaches
PER_UNIT = 100  # counts of one unit: two decimals, as a display shows them
PER_UNIT_BLOCK = 64  # the same in blocks: a power of two, exact in float32
WAVES = ((900, 40, 200), (700, 200, 2_000), (600, 2_000, 20_000))  # counts, period from, to
NOISE_BITS = 6  # of each of the four numbers whose sum is the noise

_ANGLES = 4096
_SINE: I64 = np.rint(np.sin(np.arange(_ANGLES) * (2 * np.pi / _ANGLES)) * 32_767).astype(np.int64)
_MASK = np.uint64((1 << NOISE_BITS) - 1)


def values(seed: int, asset: Any, channel: Any, sample: Any) -> NDArray[np.float64]:
    """What a channel of an asset shows at a sample number; int64 arrays that broadcast."""
    return _counts(seed, asset, channel, sample) / np.float64(PER_UNIT)


def block(seed: int, asset: Any, channel: Any, tick: Any, length: int) -> NDArray[np.float32]:
    """The samples of a waveform block: one axis of ``length`` more than the arguments have."""
    asset, channel, tick = (np.asarray(one)[..., None] for one in (asset, channel, tick))
    counts = _counts(seed, asset, channel, tick * length + np.arange(length)) - CENTRE
    return (counts / PER_UNIT_BLOCK).astype(np.float32)


def _counts(seed: int, asset: Any, channel: Any, sample: Any) -> I64:
    key = mixed(mixed(seeded(seed) ^ unsigned(asset)) ^ unsigned(channel))
    at = np.asarray(sample, np.int64)
    total = np.full(np.broadcast_shapes(key.shape, at.shape), CENTRE, np.int64)
    for number, (height, shortest, longest) in enumerate(WAVES):
        own = mixed(key + np.uint64(number)).astype(np.int64) & 0x7FFF_FFFF
        period = shortest + own % (longest - shortest)
        angle = (at + own) % period * _ANGLES // period
        total += _SINE[angle] * height >> 15
    chance = bits(key, at)
    noise = sum(
        ((chance >> np.uint64(shift)) & _MASK).astype(np.int64) for shift in (8, 20, 32, 44)
    )
    return total + noise - 2 * int(_MASK)

"""Waveform blocks to values: a block's samples one by one, or one number of each block.

Between the journal and the frames. A channel that names a ``feature`` gets that number, stamped
with the block's last sample: it is known then, and not before. Any other channel of the tag gets
the samples as if they had come one by one, so a block and its samples give the same frames.

Features are of the block less its mean: where a sensor's zero stands is no vibration. Peak is the
largest deflection, crest is peak / r.m.s., kurtosis the fourth standardised moment, 3 for noise
that is Gaussian (Randall, Vibration-based Condition Monitoring, 2nd ed. 2021, chapter 3).
"""

from collections.abc import Callable, Mapping

import numpy as np

from connectors.batch import F64, I64, Samples, Waveforms, with_bad_numbers_marked
from monitor.core.plan import SECOND, Feature

# N blocks, M samples of each


def samples_of(blocks: Waveforms) -> Samples:
    """Every sample of the blocks [N * M], block after block, with the status of its block."""
    count = blocks.block.shape[1]
    value = blocks.block.astype(np.float64).ravel()
    return Samples(
        source=blocks.source,
        tag=np.repeat(blocks.tag, count),
        time=(blocks.time[:, None] + _offsets(blocks, np.arange(count))).ravel(),
        value=value,
        status=with_bad_numbers_marked(value, np.repeat(blocks.status, count)),
        flags=np.zeros(len(value), np.uint8),
    )


def feature_of(blocks: Waveforms, feature: Feature) -> Samples:
    """One value of each block [N]; bad where a sample is no number or the block does not move."""
    value = _FEATURES[feature](_deflection(blocks))
    last = np.array([max(blocks.block.shape[1] - 1, 0)])
    return Samples(
        source=blocks.source,
        tag=blocks.tag,
        time=blocks.time + _offsets(blocks, last)[:, 0],
        value=value,
        status=with_bad_numbers_marked(value, blocks.status),
        flags=np.zeros(len(blocks), np.uint8),
    )


def _offsets(blocks: Waveforms, number: I64) -> I64:
    """How long after its block's first the samples of these numbers [K] were taken, ns [N, K]."""
    offsets: I64 = np.rint(number * float(SECOND) / blocks.rate[:, None]).astype(np.int64)
    return offsets


def _deflection(blocks: Waveforms) -> F64:
    """Each block less its mean [N, M]; NaN all over where one sample is no finite number."""
    value = blocks.block.astype(np.float64)
    value[~np.isfinite(value).all(axis=1)] = np.nan
    if value.shape[1] == 0:
        return np.full((len(value), 1), np.nan)
    deflection: F64 = value - value.mean(axis=1, keepdims=True)
    return deflection


def _rms(deflection: F64) -> F64:
    rms: F64 = np.sqrt(np.square(deflection).mean(axis=1))
    return rms


def _peak(deflection: F64) -> F64:
    peak: F64 = np.abs(deflection).max(axis=1)
    return peak


def _crest(deflection: F64) -> F64:
    return _ratio(_peak(deflection), _rms(deflection))


def _kurtosis(deflection: F64) -> F64:
    square = np.square(deflection)
    return _ratio(np.square(square).mean(axis=1), np.square(square.mean(axis=1)))


def _ratio(above: F64, below: F64) -> F64:
    """NaN where there is nothing to divide by: a block that does not move has no shape."""
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)


_FEATURES: Mapping[Feature, Callable[[F64], F64]] = {
    Feature.RMS: _rms,
    Feature.PEAK: _peak,
    Feature.CREST: _crest,
    Feature.KURTOSIS: _kurtosis,
}

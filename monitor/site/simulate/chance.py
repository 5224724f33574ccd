"""Chance that is a function of what it is asked for: the same key and number, the same answer.

No generator has a state, so any stretch of time can be worked out by itself, in any order.
"""

from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

# Everything broadcasts: shapes are those of the arguments.

F64 = NDArray[np.float64]
U64 = NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E37_79B9_7F4A_7C15)  # SplitMix64: Steele, Lea and Flood, OOPSLA 2014
_UNIT = 2.0**-53
_SIXTEEN_BITS = np.uint64(0xFFFF)
_SPREAD_OF_FOUR = 65_536 / 3**0.5  # of the sum of four even 16-bit numbers


def mixed(number: U64) -> U64:
    """SplitMix64's finisher: every bit of what comes in moves half of what goes out."""
    z = number + _GOLDEN
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58_476D_1CE4_E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D0_49BB_1331_11EB)
    return z ^ (z >> np.uint64(31))


def seeded(seed: Any) -> U64:
    """Where a chain of keys begins; at least one axis."""
    return unsigned(seed) * _GOLDEN


def unsigned(number: Any) -> U64:
    """Whole numbers as they are mixed; at least one axis."""
    return np.atleast_1d(np.asarray(number, np.int64)).astype(np.uint64)


def key(seed: int, *names: str | int) -> U64:
    """A key of its own, [1], for whatever these names stand for."""
    found = seeded(seed)
    for name in names:
        found = mixed(found ^ unsigned(crc32(name.encode()) if isinstance(name, str) else name))
    return found


def bits(of: U64, number: Any) -> U64:
    """64 bits for each number."""
    return mixed(of ^ np.asarray(number, np.int64).astype(np.uint64) * _GOLDEN)


def even(of: U64, number: Any) -> F64:
    """Evenly spread from 0 up to 1."""
    return (bits(of, number) >> np.uint64(11)).astype(np.float64) * _UNIT


def normal(of: U64, number: Any) -> F64:
    """Mean 0, spread 1: the sum of four even numbers, so never beyond 3.5."""
    drawn = bits(of, number)
    total = drawn & _SIXTEEN_BITS
    for shift in (16, 32, 48):
        total = total + ((drawn >> np.uint64(shift)) & _SIXTEEN_BITS)
    centred: F64 = total.astype(np.float64) - 2 * 65_535
    return centred / _SPREAD_OF_FOUR

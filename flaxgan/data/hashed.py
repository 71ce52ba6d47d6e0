"""Random numbers that are a function of (seed, name, counter), for many counters at once.

Each counter has a stream of its own, so that nothing depends on what was drawn before, on the
number of processes, or on the version of NumPy.
Reference: SplitMix64 (Steele et al. 2014, "Fast splittable pseudorandom number generators").
"""

import zlib

import numpy as np

GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio


def bits(seed: int, name: str, counters: np.ndarray, count: int, *, start: int = 0) -> np.ndarray:
    """Random bits.

    Args:
      seed: of everything.
      name: of the purpose; different names are independent.
      counters: `[b]` non-negative integers.
      count: numbers for each counter.
      start: how many numbers of each stream are skipped.

    Returns:
      `[b, count]` uint64.
    """
    key = _mix(_mix(np.uint64([seed])) ^ np.uint64(zlib.crc32(name.encode())))
    streams = _mix(key + _mix(counters.astype(np.uint64)))
    steps = np.arange(start + 1, start + count + 1, dtype=np.uint64) * GOLDEN
    return _mix(streams[:, None] + steps)


def uniforms(seed: int, name: str, counters: np.ndarray, count: int) -> np.ndarray:
    """Uniform in [0, 1), of 53 bits: `[b, count]` float64; see `bits`."""
    return (bits(seed, name, counters, count) >> np.uint64(11)) * 2.0**-53


def _mix(x: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64, applied to x plus one step."""
    z = x + GOLDEN
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))

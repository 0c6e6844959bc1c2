"""Smooth noise from integer hashes: the same numbers on every machine and in every process."""

import numpy as np

_PRIMES = (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D)


def hashed(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Independent numbers in [0, 1) for each place of a grid of up to three dimensions, float64."""
    value = np.full((1,) * len(shape), (seed * 0x27D4EB2F + 0x165667B1) & 0xFFFFFFFF, dtype=np.uint32)
    for axis, length in enumerate(shape):
        index = np.arange(length, dtype=np.uint32).reshape(
            [-1 if a == axis else 1 for a in range(len(shape))]
        )
        value = _mixed(value ^ (index * np.uint32(_PRIMES[axis])))
    return value.astype(np.float64) / 2.0**32


def _mixed(value: np.ndarray) -> np.ndarray:
    """A 32-bit finaliser: every input bit changes about half of the output bits. uint32 -> uint32."""
    value = (value ^ (value >> np.uint32(16))) * np.uint32(0x7FEB352D)
    value = (value ^ (value >> np.uint32(15))) * np.uint32(0x846CA68B)
    return value ^ (value >> np.uint32(16))


def value_noise(shape: tuple[int, ...], period: float | tuple[float, ...], seed: int) -> np.ndarray:
    """Hashed numbers at every `period`-th place, blended in between; [*shape] float64 in [0, 1)."""
    periods = period if isinstance(period, tuple) else (period,) * len(shape)
    values = hashed(
        tuple(int((length - 1) / step) + 2 for length, step in zip(shape, periods, strict=True)), seed
    )
    for axis, (length, step) in enumerate(zip(shape, periods, strict=True)):
        position = np.arange(length) / step
        low = position.astype(np.int64)
        part = position - low
        weight = (part * part * (3 - 2 * part)).reshape([-1 if a == axis else 1 for a in range(len(shape))])
        values = np.take(values, low, axis) * (1 - weight) + np.take(values, low + 1, axis) * weight
    return values

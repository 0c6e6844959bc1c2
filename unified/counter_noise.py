"""Counter-based random bits: a hash of a key, a place and a counter, in 64-bit integers of torch or NumPy.

The function is a chain of finalisers of SplitMix64 (Steele et al., OOPSLA 2014); torch has no unsigned
integers to multiply or shift, so products wrap around in int64 and a right shift is masked.
"""

from __future__ import annotations

import hashlib
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

_ROW, _START, _COUNTER = 0x9E3779B97F4A7C15, 0x632BE59BD9B4E019, 0xD1B54A32D192ED03
_FACTORS = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB

Array = TypeVar("Array", Tensor, np.ndarray)


def row_keys(seeds: Tensor) -> Tensor:
    """int64 seeds [B] -> keys [B]."""
    return mixed(seeds * _signed(_ROW) + _signed(_START))


def hashed(keys: Array, places: Array, counters: Array) -> Array:
    """keys [B, 1, 1], places [B, n], counters [count], all int64 of torch or of NumPy -> hash [B, n,
    count]."""
    return mixed(mixed(keys + places[..., None]) + counters * _signed(_COUNTER))


def fractions(bits: Tensor, dtype: torch.dtype) -> Tensor:
    """The upper 53 bits of int64 as float64 in [0, 1); the upper 24 as float32."""
    kept = 53 if dtype == torch.float64 else 24
    return _shifted(bits, 64 - kept).to(dtype) * 2.0**-kept


def normal_of(uniform: Tensor) -> Tensor:
    """Standard normal numbers of uniform ones, by the inverse of the distribution function."""
    smallest = torch.finfo(uniform.dtype).eps / 4  # in place of 0, which would give minus infinity
    return torch.erfinv(2 * uniform.clamp(min=smallest) - 1) * 2**0.5


def mixed(x: Array) -> Array:
    """The finaliser of SplitMix64."""
    x = (x ^ _shifted(x, 30)) * _signed(_FACTORS[0])
    x = (x ^ _shifted(x, 27)) * _signed(_FACTORS[1])
    return x ^ _shifted(x, 31)


def named(purpose: str) -> int:
    """A 64-bit hash of a name that is the same in every process."""
    return int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:8], "little", signed=True)


def float_of(device: torch.device) -> torch.dtype:
    """float64, or float32 on devices without it."""
    return torch.float32 if device.type == "mps" else torch.float64


def _shifted(x: Array, bits: int) -> Array:
    """Logical right shift of int64."""
    return (x >> bits) & (1 << (64 - bits)) - 1


def _signed(unsigned: int) -> int:
    return unsigned - (1 << 64) if unsigned >> 63 else unsigned

"""Counter-based random numbers: functions of the row's seed, the stream index, the purpose and a counter.

No state is advanced, so a row gets the same numbers alone or in a batch, in whatever order and number of
steps it is decoded. The function is a chain of finalisers of SplitMix64 (Steele et al., OOPSLA 2014), in
64-bit integers on the device of the values; torch has no unsigned integers to multiply or shift, so products
wrap around in int64 and a right shift is masked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from unified.decoding.pieces import pieces

SAMPLE, NORMAL = "sample", "normal"  # purposes of draws of codes, and of continuous values
_ROW, _START, _COUNTER = 0x9E3779B97F4A7C15, 0x632BE59BD9B4E019, 0xD1B54A32D192ED03
_FACTORS = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB

Array = TypeVar("Array", Tensor, np.ndarray)


class Noise(Protocol):
    """A source of random numbers. `places` [B, n]: indices in the stream of ids, on any device; `purpose`:
    names an independent sequence of numbers."""

    def uniform(
        self, places: Tensor, count: int, purpose: str = ..., device: torch.device | None = None
    ) -> Tensor:
        """[B, n, count] in [0, 1), on `device` (None: where it is cheapest)."""
        ...

    def normal(
        self, places: Tensor, count: int, purpose: str = ..., device: torch.device | None = None
    ) -> Tensor:
        """[B, n, count] from the standard normal distribution."""
        ...

    def draw(self, probs: Tensor, places: Tensor, purpose: str = ...) -> Tensor:
        """[B, n, S, V], sums 1 -> [B, n, S] int64."""
        ...


class PositionNoise:
    """Numbers as a function of (seed of the row, index in the stream, purpose, counter): the same sample
    whatever the batch or the number of steps. Row b of the batch uses `seeds[b]`; a single seed serves all
    rows. Purposes are any names. Numbers are float64, on devices without it float32 (which may differ in the
    last bit)."""

    def __init__(self, seeds: Sequence[int]) -> None:
        integers = torch.tensor(list(seeds), dtype=torch.int64, device="cpu")
        self._rows = _mix(integers * _signed(_ROW) + _signed(_START))[:, None, None]
        self._keys: dict[tuple[str, torch.device], Tensor] = {}

    def reseed(self, row: int, seed: int) -> None:
        """Another seed for one row."""
        self._rows[row] = PositionNoise([seed])._rows[0]
        self._keys.clear()

    def uniform(
        self, places: Tensor, count: int, purpose: str = SAMPLE, device: torch.device | None = None
    ) -> Tensor:
        """[B, n, count] uniform in [0, 1). `device`: None for that of the places."""
        device = device or places.device
        if len(self._rows) not in (1, len(places)):
            raise ValueError(f"{len(places)} rows need as many seeds, or one for all, got {len(self._rows)}")
        # Copied without waiting: what is pageable on the host is staged before the call returns.
        places = places.to(device, torch.int64, non_blocking=device.type != "cpu")
        key = self._key(purpose, device)
        if device.type == "cpu":  # NumPy does the same in half the time where there are few numbers
            bits = hashed(key.numpy(), places.numpy(), np.arange(count, dtype=np.int64))
            return torch.from_numpy((bits.view(np.uint64) >> np.uint64(11)) * 2.0**-53)
        return fractions(hashed(key, places, torch.arange(count, device=device)), _float(device))

    def normal(
        self, places: Tensor, count: int, purpose: str = NORMAL, device: torch.device | None = None
    ) -> Tensor:
        """[B, n, count] standard normal, by the inverse of the distribution function."""
        uniform = self.uniform(places, count, purpose, device)
        smallest = torch.finfo(uniform.dtype).eps / 4  # in place of 0, which would give minus infinity
        return torch.erfinv(2 * uniform.clamp(min=smallest) - 1) * 2**0.5

    def draw(self, probs: Tensor, places: Tensor, purpose: str = SAMPLE) -> Tensor:
        """Categorical samples by inverse transform sampling."""
        uniform = self.uniform(places, probs.shape[-2], purpose, probs.device).to(probs).reshape(-1, 1)
        flat = probs.reshape(-1, probs.shape[-1])
        drawn = [_inverse(flat[part], uniform[part]) for part in pieces(flat)]
        return torch.cat(drawn).view(probs.shape[:-1]).clamp(max=probs.shape[-1] - 1)

    def _key(self, purpose: str, device: torch.device) -> Tensor:
        """[B, 1, 1]: one key for every row."""
        if (purpose, device) not in self._keys:
            rows = self._rows if purpose == SAMPLE else _mix(self._rows + _named(purpose))
            self._keys[purpose, device] = rows.to(device)
        return self._keys[purpose, device]


class GeneratorNoise:
    """Numbers of one `torch.Generator` in the order of the calls, as published samplers draw them: samples
    depend on the batch. All purposes share one sequence."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def uniform(
        self, places: Tensor, count: int, purpose: str = SAMPLE, device: torch.device | None = None
    ) -> Tensor:
        own = self.generator.device
        return torch.rand(*places.shape, count, generator=self.generator, device=own).to(device or own)

    def normal(
        self, places: Tensor, count: int, purpose: str = NORMAL, device: torch.device | None = None
    ) -> Tensor:
        own = self.generator.device
        return torch.randn(*places.shape, count, generator=self.generator, device=own).to(device or own)

    def draw(self, probs: Tensor, places: Tensor, purpose: str = SAMPLE) -> Tensor:
        """Categorical samples by one `torch.multinomial`."""
        flat = probs.reshape(-1, probs.shape[-1])
        return torch.multinomial(flat, 1, replacement=True, generator=self.generator).view(probs.shape[:-1])


def _inverse(probs: Tensor, uniform: Tensor) -> Tensor:
    """[N, 1]: where numbers [N, 1] in [0, 1) fall among the sums of probs [N, V]."""
    ladder = probs.cumsum(dim=-1)
    return torch.searchsorted(ladder, uniform * ladder[:, -1:], right=True)


def hashed(keys: Array, places: Array, counters: Array) -> Array:
    """keys [B, 1, 1], places [B, n], counters [count], all int64 of torch or of NumPy -> hash [B, n,
    count]."""
    return _mix(_mix(keys + places[..., None]) + counters * _signed(_COUNTER))


def fractions(bits: Tensor, dtype: torch.dtype) -> Tensor:
    """The upper 53 bits of int64 as float64 in [0, 1); the upper 24 as float32."""
    kept = 53 if dtype == torch.float64 else 24
    return _shifted(bits, 64 - kept).to(dtype) * 2.0**-kept


def _mix(x: Array) -> Array:
    """The finaliser of SplitMix64."""
    x = (x ^ _shifted(x, 30)) * _signed(_FACTORS[0])
    x = (x ^ _shifted(x, 27)) * _signed(_FACTORS[1])
    return x ^ _shifted(x, 31)


def _shifted(x: Array, bits: int) -> Array:
    """Logical right shift of int64."""
    return (x >> bits) & (1 << (64 - bits)) - 1


def _signed(unsigned: int) -> int:
    return unsigned - (1 << 64) if unsigned >> 63 else unsigned


def _named(purpose: str) -> int:
    """A 64-bit hash of a name that is the same in every process."""
    return int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:8], "little", signed=True)


def _float(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64

"""Counter-based random numbers: functions of the row's seed, the stream index, the purpose and a counter.

No state is advanced, so a row gets the same numbers alone or in a batch, in whatever order and number of
steps it is decoded. The hash is that of `unified/counter_noise.py`, on the device of the values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from unified.counter_noise import float_of, fractions, hashed, mixed, named, normal_of, row_keys
from unified.decoding.pieces import pieces

SAMPLE, NORMAL = "sample", "normal"  # purposes of draws of codes, and of continuous values


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
        self._rows = row_keys(integers)[:, None, None]
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
        return fractions(hashed(key, places, torch.arange(count, device=device)), float_of(device))

    def normal(
        self, places: Tensor, count: int, purpose: str = NORMAL, device: torch.device | None = None
    ) -> Tensor:
        """[B, n, count] standard normal, by the inverse of the distribution function."""
        uniform = self.uniform(places, count, purpose, device)
        return normal_of(uniform)

    def draw(self, probs: Tensor, places: Tensor, purpose: str = SAMPLE) -> Tensor:
        """Categorical samples by inverse transform sampling."""
        uniform = self.uniform(places, probs.shape[-2], purpose, probs.device).to(probs).reshape(-1, 1)
        flat = probs.reshape(-1, probs.shape[-1])
        drawn = [_inverse(flat[part], uniform[part]) for part in pieces(flat)]
        return torch.cat(drawn).view(probs.shape[:-1]).clamp(max=probs.shape[-1] - 1)

    def _key(self, purpose: str, device: torch.device) -> Tensor:
        """[B, 1, 1]: one key for every row."""
        if (purpose, device) not in self._keys:
            rows = self._rows if purpose == SAMPLE else mixed(self._rows + named(purpose))
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

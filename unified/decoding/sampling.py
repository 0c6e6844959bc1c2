"""From logits to symbols: temperature, top-k, top-p, and noise that is indexed by position.

The filter is VAR's (top-k keeps ties with the k-th largest; then entries whose ascending cumulative
probability is at most 1 - p go, never the largest); ties with the smallest that stays also stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

TIES = 64  # values beside the `top_k` largest that are looked at: most often all that tie with the last


class Noise(Protocol):
    """Where randomness comes from. `probs` [B, n, S, V] sum to one; `places` [B, n] are positions in the
    stream."""

    def draw(self, probs: Tensor, places: Tensor) -> Tensor: ...  # -> [B, n, S] int64


class PositionNoise:
    """A uniform number for every (seed of the row, position, symbol): the same sample whatever the batch, the
    device or the number of steps. Row b of the batch uses `seeds[b]`."""

    def __init__(self, seeds: Sequence[int]) -> None:
        self.seeds = np.asarray(seeds, dtype=np.int64).astype(np.uint64)

    def uniform(self, places: Tensor, symbols: int) -> Tensor:
        """[B, n, S] float64 in [0, 1)."""
        positions = places.cpu().numpy().astype(np.uint64)[:, :, None]
        keys = self.seeds[:, None, None] * np.uint64(0x9E3779B97F4A7C15)
        keys = _mix(_mix(keys + np.uint64(0x632BE59BD9B4E019)) + positions)
        mixed = _mix(keys + np.arange(symbols, dtype=np.uint64) * np.uint64(0xD1B54A32D192ED03))
        return torch.from_numpy((mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53)

    def draw(self, probs: Tensor, places: Tensor) -> Tensor:
        ladder = probs.cumsum(dim=-1)
        uniform = self.uniform(places, probs.shape[-2]).to(probs)[..., None]
        drawn = torch.searchsorted(ladder, (uniform * ladder[..., -1:]).contiguous(), right=True)
        return drawn.squeeze(-1).clamp(max=probs.shape[-1] - 1)


class GeneratorNoise:
    """One `torch.multinomial` per step from one generator, as the published samplers draw: depends on the
    batch."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def draw(self, probs: Tensor, places: Tensor) -> Tensor:
        flat = probs.reshape(-1, probs.shape[-1])
        return torch.multinomial(flat, 1, replacement=True, generator=self.generator).view(probs.shape[:-1])


def _mix(x: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


class Drawn(NamedTuple):
    """`symbols` [B, n, S] and the log-probability [B, n] with which they were drawn."""

    symbols: Tensor
    log_probs: Tensor


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """`temperature` 0 takes the likeliest. `top_k` 0 and `top_p` 0 or 1 leave everything in."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 0.0

    def __post_init__(self) -> None:
        if not (self.temperature >= 0 and self.top_k >= 0 and 0 <= self.top_p <= 1):
            raise ValueError(
                "temperature and top_k must not be negative and top_p must lie in 0..1, got "
                f"{self.temperature}, {self.top_k}, {self.top_p}"
            )

    def filter(self, logits: Tensor) -> Tensor:
        """Logits [..., V] at this temperature with everything dropped set to -inf."""
        if self.temperature not in (0, 1):
            logits = logits / self.temperature
        count, top_k = logits.shape[-1], self.top_k
        nucleus = 0 < self.top_p < 1
        if not nucleus and not 0 < top_k < count:
            return logits
        ascending = _largest(logits, top_k)
        floor = ascending[..., -top_k, None] if 0 < top_k < count else ascending[..., :1]
        if nucleus:
            kept = ascending.masked_fill_(ascending < floor, float("-inf")).softmax(dim=-1)
            drop = kept.cumsum_(dim=-1) <= 1 - self.top_p
            drop[..., -1] = False
            floor = ascending.gather(-1, drop.sum(dim=-1, keepdim=True))
        return logits.masked_fill(logits < floor, float("-inf"))

    def draw(self, logits: Tensor, noise: Noise, places: Tensor) -> Drawn:
        """Draw one symbol per row of logits [B, n, S, V]; `places` [B, n] index the noise."""
        if self.temperature == 0:
            symbols = logits.argmax(dim=-1)
            return Drawn(symbols, torch.zeros(symbols.shape[:2], device=logits.device))
        probs = self.filter(logits.float()).softmax(dim=-1)
        symbols = noise.draw(probs, places)
        chosen = probs.gather(-1, symbols[..., None]).squeeze(-1)
        return Drawn(symbols, chosen.log().sum(dim=-1))


def _largest(logits: Tensor, top_k: int) -> Tensor:
    """Values alone, ascending: the `top_k` largest, all that tie with them, and perhaps more (0: all)."""
    count, most = logits.shape[-1], top_k + TIES
    if not top_k or most >= count or logits.device.type != "cpu" or logits.dtype != torch.float32:
        return _sorted(logits)
    ranked = np.partition(logits.detach().numpy(), count - most, axis=-1)[..., count - most :]
    ranked = np.sort(ranked, axis=-1)
    if (ranked[..., 0] >= ranked[..., TIES]).any():  # there may be more ties than these
        return _sorted(logits)
    return torch.from_numpy(ranked)


def _sorted(logits: Tensor) -> Tensor:
    """Values alone, ascending. NumPy sorts float32 on a processor some twenty times as fast as PyTorch."""
    if logits.device.type == "cpu" and logits.dtype == torch.float32:
        return torch.from_numpy(np.sort(logits.detach().numpy(), axis=-1))
    return logits.sort(dim=-1).values

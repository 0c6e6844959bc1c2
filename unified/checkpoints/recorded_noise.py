"""Random numbers that were stored beside a published run, in the order in which it used them."""

from __future__ import annotations

import torch
from torch import Tensor


class RecordedNoise:
    """A source of noise (`unified.decoding.noise.Noise`) of stored normal numbers [n, C] and uniform
    numbers: each call takes the next rows. ValueError when they are used up or have another width."""

    def __init__(self, normal: Tensor | None = None, uniform: Tensor | None = None) -> None:
        self._normal, self._uniform = normal, uniform
        self._used = {"normal": 0, "uniform": 0}

    def normal(
        self, places: Tensor, count: int, purpose: str = "normal", device: torch.device | None = None
    ) -> Tensor:
        """[B, n, count]: the next B * n rows."""
        rows = self._next("normal", self._normal, places.numel())
        if rows.flatten(1).shape[1] != count:
            raise ValueError(
                f"stored noise has {rows.flatten(1).shape[1]} numbers a token, {count} are needed"
            )
        return rows.reshape(*places.shape, count)

    def uniform(
        self, places: Tensor, count: int, purpose: str = "sample", device: torch.device | None = None
    ) -> Tensor:
        """[B, n, count]: the next numbers."""
        return self._next("uniform", self._uniform, places.numel() * count).view(*places.shape, count)

    def draw(self, probs: Tensor, places: Tensor, purpose: str = "sample") -> Tensor:
        """[B, n, S, V] -> [B, n, S] by inverse transform sampling."""
        numbers = self.uniform(places, probs.shape[-2])[..., None].to(probs)
        return (probs.cumsum(dim=-1) < numbers).sum(dim=-1).clamp(max=probs.shape[-1] - 1)

    def _next(self, kind: str, stored: Tensor | None, count: int) -> Tensor:
        start = self._used[kind]
        self._used[kind] = start + count
        held = 0 if stored is None else len(stored)
        if stored is None or start + count > held:
            raise ValueError(f"{held} rows of {kind} noise are stored, {start + count} are needed")
        return stored[start : start + count]


def of_steps(start: Tensor, steps: Tensor, count: int) -> Tensor:
    """Noise of a diffusion head as its distribution takes it, from a start [n, C] and what each of K steps
    adds [K, n, C]: [n, count, C], row 0 the start, row i that of step i. ValueError for less than `count`
    steps."""
    if len(steps) < count:
        raise ValueError(f"noise of {len(steps)} diffusion steps is stored, {count} are needed")
    return torch.cat([start[None], steps[1:count]]).transpose(0, 1)

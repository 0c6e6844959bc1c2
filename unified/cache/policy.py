"""Cache policies: which entries stay. To add one, write a class with the members of `CachePolicy` and give
it a line in `POLICIES` (docs/add_a_part.md); the tests of policies run on it by themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor

from unified.cache.entries import Entries
from unified.layout.attention import Index
from unified.orders import Plan
from unified.stream.segments import Kind


@dataclass(frozen=True)
class Held:
    """What a policy is shown of one layer (of all layers that share entries, for a policy that does not ask
    by step): `index` [R, K], padding beyond a row's `lengths` [R]. After a step of an image also its `plan`
    and `step`, how many of a row's first entries are not the image's own (`before` [R]), the `keys` held
    [R, K, G, D], and the step's `queries` [R, H, n, D], as they attended."""

    index: Index
    lengths: np.ndarray
    layer: int = 0
    layers: int = 1
    plan: Plan | None = None
    step: int = -1
    before: np.ndarray | None = None
    keys: Tensor | None = None
    queries: Tensor | None = None


class CachePolicy(Protocol):
    """Asked after everything that was read or written. `keeps_writes`: entries of WRITE segments stay when
    their image is done. `by_step`: asked after every step of an image too, layer by layer, with the step's
    queries, whether entries of that image go."""

    keeps_writes: bool
    by_step: bool

    def stays(self, held: Held) -> np.ndarray | None:
        """[R, K] bool or, by head, [R, K, G]: entries that stay; None: all."""
        ...


class Full:
    """Every entry stays, those of WRITE segments too (the attention rule hides them from later segments)."""

    keeps_writes = True
    by_step = False

    def stays(self, held: Held) -> np.ndarray | None:
        return None


class DropWrite:
    """The entries of a WRITE segment are dropped as soon as its image is done: no later segment sees them."""

    keeps_writes = False
    by_step = False

    def stays(self, held: Held) -> np.ndarray | None:
        write = held.index.kind.numpy() == Kind.WRITE
        return ~write if write.any() else None


class Window:
    """DropWrite with a sliding window: of each row the first `keep` entries and the latest stay, at most
    `size` in all, so the cost of a frame does not grow with the length of an episode. Whole segments are
    dropped, the oldest first. ValueError unless 0 <= `keep` < `size`."""

    keeps_writes = False
    by_step = False

    def __init__(self, size: int = 1024, keep: int = 1) -> None:
        if not 0 <= keep < size:
            raise ValueError(f"a window of {size} entries cannot keep the first {keep}")
        self.size, self.keep = size, keep

    def stays(self, held: Held) -> np.ndarray | None:
        stays = held.index.kind.numpy() != Kind.WRITE
        segment = held.index.segment.numpy()
        for row, length in enumerate(held.lengths.tolist()):
            if length > self.size:
                first = length - (self.size - self.keep)
                begins = segment[row, first:length] != segment[row, first - 1 : length - 1]
                stays[row, self.keep : first + (int(begins.argmax()) if begins.any() else 0)] = False
        return None if stays.all() else stays


POLICIES: dict[str, Callable[..., CachePolicy]] = {"full": Full, "drop_write": DropWrite, "window": Window}

__all__ = ["POLICIES", "CachePolicy", "DropWrite", "Entries", "Full", "Held", "Window"]

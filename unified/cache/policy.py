"""Cache policies: which entries stay. To add one, write a class with the members of `CachePolicy` and give
it a line in `POLICIES` (docs/add_a_part.md); the tests of policies run on it by themselves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from unified.cache.entries import Entries
from unified.cache.hack import HACK
from unified.cache.held import CachePolicy, Held, without_writes
from unified.cache.scalekv import ScaleKV
from unified.stream.segments import Kind


class Full:
    """Everything stays, WRITE segments too (the attention rule hides them)."""

    keeps_writes = True
    by_step = False

    def stays(self, held: Held) -> np.ndarray | None:
        return None


class DropWrite:
    """WRITE segments go as soon as their image is done: nothing later sees them."""

    keeps_writes = False
    by_step = False

    def stays(self, held: Held) -> np.ndarray | None:
        return without_writes(held)


class Window:
    """DropWrite, and of the rest the first `keep` entries of each row and the latest that fit in `size`: cost
    per step does not grow with the length of an episode. Whole segments go, the oldest first."""

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


POLICIES: dict[str, Callable[..., CachePolicy]] = {
    "full": Full,
    "drop_write": DropWrite,
    "window": Window,
    "scalekv": ScaleKV,
    "hack": HACK,
}

__all__ = ["POLICIES", "CachePolicy", "DropWrite", "Entries", "Full", "Held", "Window"]

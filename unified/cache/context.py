"""What a batch of rows has read so far: keys and values, and for each of their slots the index of the
attention rule.

Rows share slot numbers; a row that has nothing to say in a slot holds padding there, which nobody sees.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from unified.cache.kv_cache import KVCache
from unified.layout.attention import Index, visible
from unified.layout.layout import Cursor
from unified.stream.segments import Kind

if TYPE_CHECKING:
    from unified.decoding.drawing import Generator


class Context:
    """`cursors`: where each row stands. `condition`: what a model keeps besides its keys (class-conditional
    models: all that depends on the class); it must have `stack(below)`. `held`: what is to be run together
    with what comes next, one pass for both."""

    def __init__(self, cache: KVCache, rows: int) -> None:
        self.cache = cache
        self.index = Index.padding(rows, 0)
        self.cursors = [Cursor()] * rows
        self.condition: Any = None
        self.held: list[tuple[Tensor, Index, Tensor]] = []

    @property
    def rows(self) -> int:
        return len(self.cursors)

    @property
    def ahead(self) -> int:
        """How many positions are held."""
        return sum(embeds.shape[1] for embeds, _, _ in self.held)

    @property
    def length(self) -> int:
        return self.index.sample.shape[1] + self.ahead

    def hold(self, embeds: Tensor, index: Index, positions: Tensor) -> None:
        self.held.append((embeds, index.to(embeds.device), positions))

    def run(self, model: Generator, embeds: Tensor, index: Index, positions: Tensor) -> Tensor:
        """Run embeddings [R, n, D] through the model after everything read so far, and remember them. The
        states of what was held come first: [R, ahead + n, D]."""
        before, length = self.index.to(embeds.device), self.cache.length
        for held, own, places in reversed(self.held):
            embeds, index = torch.cat([held, embeds], dim=1), own.cat(index)
            positions = torch.cat([places, positions], dim=2)
        self.index = before.cat(index)
        try:
            hidden = model.hidden(embeds, positions, visible(index, self.index), self.cache, self.condition)
            self.held = []
            return hidden
        except BaseException:  # an interruption too: half a pass must not stay
            self.index = before
            self.cache.truncate(length)
            raise

    def keep(self, slots: Tensor) -> None:
        """Keep only these slots [k], ascending."""
        self.cache.keep(slots)
        self.index = self.index.map(lambda field: field[:, slots])

    def stack(self, below: Context, room: int = 0) -> Context:
        """A copy whose rows are these and then those of `below`, padded on the left to one length, with room
        for more slots."""
        stacked = Context(self.cache.stack(below.cache, room), 0)
        length = max(self.index.sample.shape[1], below.index.sample.shape[1])
        upper, lower = self._padded(length), below._padded(length)
        pairs = zip(upper.fields(), lower.fields(), strict=True)
        stacked.index = Index(*(torch.cat(pair) for pair in pairs))
        stacked.cursors = [*self.cursors, *below.cursors]
        stacked.condition = self.condition.stack(below.condition) if self.condition is not None else None
        return stacked

    def first(self, rows: int) -> Context:
        """A copy of the first rows alone (without their condition)."""
        part = Context(self.cache.first(rows), 0)
        part.index = self.index.map(lambda field: field[:rows])
        part.cursors = self.cursors[:rows]
        return part

    def _padded(self, length: int) -> Index:
        missing = length - self.index.sample.shape[1]
        return Index.padding(self.rows, missing).to(self.index.sample.device).cat(self.index)


class CachePolicy(Protocol):
    """Which slots stay. Asked after everything that was read or written; None keeps all."""

    keeps_writes: bool

    def slots(self, index: Index) -> Tensor | None: ...


class Full:
    """Everything stays, WRITE segments too (the attention rule hides them)."""

    keeps_writes = True

    def slots(self, index: Index) -> Tensor | None:
        return None


class DropWrite:
    """WRITE segments go as soon as their image is done: nothing later sees them."""

    keeps_writes = False

    def slots(self, index: Index) -> Tensor | None:
        write = (index.kind == Kind.WRITE).any(dim=0)
        return (~write).nonzero().flatten() if bool(write.any()) else None


class Window:
    """DropWrite, and of the rest the first `keep` slots and the latest that fit in `size`: cost per step does
    not grow with the length of an episode. Whole segments go, the oldest first."""

    keeps_writes = False

    def __init__(self, size: int, keep: int = 1) -> None:
        if not 0 <= keep < size:
            raise ValueError(f"a window of {size} slots cannot keep the first {keep}")
        self.size, self.keep = size, keep

    def slots(self, index: Index) -> Tensor | None:
        length = index.sample.shape[1]
        stays = ~(index.kind == Kind.WRITE).any(dim=0)
        if length > self.size:
            first = length - (self.size - self.keep)
            whole = (index.segment[:, first:] != index.segment[:, first - 1 : first]).all(dim=0)
            first += int(whole.int().argmax()) if bool(whole.any()) else 0
            stays[self.keep : first] = False
        return stays.nonzero().flatten() if not bool(stays.all()) else None

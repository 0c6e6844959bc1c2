"""The buffer of one layer's keys and values, and where in it a pass writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from unified.layout.attention import Seen


@dataclass(frozen=True)
class Places:
    """Where a pass puts its positions in layers that share entries, and what they see there: as `slots` (rows
    [r, 1], entries [r, n]), or from entry `start` on in every row. `room`: entries needed. The first `keys`
    entries are attended to, as `seen` says."""

    start: int
    room: int
    keys: int
    seen: Seen
    slots: tuple[Tensor, Tensor] | None = None


class Block:
    """Memory for the first buffers of `layers` layers: one large block goes back to the system when it is
    freed, where many small ones stay with the process."""

    def __init__(self, layers: int) -> None:
        self.left = layers
        self.memory: Tensor | None = None

    def take(self, like: Tensor, shape: tuple[int, ...]) -> Tensor:
        """The buffer of one more layer; of its own memory where it differs from the first one."""
        if self.memory is None and self.left:
            self.memory = like.new_empty(self.left, *shape)
        memory, self.left = self.memory, max(self.left - 1, 0)
        if not self.left:
            self.memory = None  # from here on its layers alone hold it
        if memory is None or memory.shape[1:] != shape or memory.dtype != like.dtype:
            return like.new_empty(shape)
        return memory[self.left] if memory.device == like.device else like.new_empty(shape)


class LayerStore:
    """Keys and values of one layer, each [R, capacity, G, D] (the layout of `flash_attn_with_kvcache`). In
    memory heads come first where the buffer grows, which suits processors; a static one is contiguous."""

    def __init__(self, rows: int, capacity: int, static: bool, block: Block | None = None) -> None:
        self.rows, self.capacity, self.static = rows, capacity, static
        self.block = block or Block(0)
        self.both: Tensor | None = None  # [2, R, capacity, G, D]

    def _buffer(self, like: Tensor, used: int = 0) -> Tensor:
        """A buffer for keys like [r, G, n, D], zeros from entry `used` on: what lies in memory may be no
        number, and a masked key must be one."""
        groups, width = like.shape[1], like.shape[3]
        if self.static:
            made = self.block.take(like, (2, self.rows, self.capacity, groups, width))
        else:
            made = self.block.take(like, (2, self.rows, groups, self.capacity, width)).transpose(2, 3)
        self.block = Block(0)  # a buffer that takes the place of this one has memory of its own
        made[:, :, used:].zero_()
        return made

    def reserve(self, like: Tensor, length: int) -> Tensor:
        """The buffer, with room for `length` entries in every row."""
        if self.both is None:
            self.capacity = max(self.capacity, length)
            self.both = self._buffer(like)
        elif length > self.capacity:
            self.resize(max(length, self.capacity + self.capacity // 2))
        return self.both

    def resize(self, capacity: int) -> None:
        old, used = self.both, min(capacity, self.capacity)
        self.capacity = capacity
        if old is not None:
            self.both = self._buffer(old[0].transpose(1, 2), used)
            self.both[:, :, :used] = old[:, :, :used]

    def write(self, key: Tensor, value: Tensor, rows: slice, places: Places) -> None:
        """Put key and value [r, G, n, D] where they belong in some rows."""
        both = self.both
        assert both is not None
        key, value = (x.transpose(1, 2).to(both.dtype) for x in (key, value))
        if places.slots is None:
            span = slice(places.start, places.start + key.shape[1])
            both[0, rows, span], both[1, rows, span] = key, value
        else:
            both[0].index_put_(places.slots, key)
            both[1].index_put_(places.slots, value)

    def move(self, source: np.ndarray) -> None:
        """Entry j of each row becomes what entry `source` [R, k] (or, by head, [R, k, G]) was."""
        if self.both is None or not source.shape[1]:
            return
        taken = torch.from_numpy(source).to(self.both.device)
        taken = taken if taken.ndim == 3 else taken[..., None]
        taken = taken[None, ..., None].expand(2, -1, -1, self.both.shape[3], self.both.shape[4])
        self.both[:, :, : source.shape[1]] = self.both.gather(2, taken)

    def copy(self, places: np.ndarray, source: np.ndarray) -> None:
        """The entries at `places` [R, k] become those at `source` [R, k]."""
        if self.both is None:
            return
        places, source = (x.clip(max=self.both.shape[2] - 1) for x in (places, source))
        to, start = (torch.from_numpy(x).to(self.both.device) for x in (places, source))
        rows = torch.arange(self.both.shape[1], device=self.both.device)[:, None]
        self.both[:, rows, to] = self.both[:, rows, start]

    def take(self, rows: np.ndarray) -> LayerStore:
        other = LayerStore(len(rows), self.capacity, self.static)
        if self.both is not None:
            other.both = other._buffer(self.both[0].transpose(1, 2), self.capacity)
            other.both.copy_(self.both[:, torch.from_numpy(rows).to(self.both.device)])
        return other

    @staticmethod
    def joined(parts: Sequence[LayerStore]) -> LayerStore:
        """A copy of the rows of several, one after the other."""
        most = max(part.capacity for part in parts)
        other = LayerStore(sum(part.rows for part in parts), most, parts[0].static)
        held = [part.both for part in parts if part.both is not None]
        if held:
            other.both = other._buffer(held[0][0].transpose(1, 2))
            start = 0
            for part in parts:
                if part.both is not None:
                    other.both[:, start : start + part.rows, : part.capacity] = part.both
                start += part.rows
        return other

    def add_rows(self, count: int) -> None:
        old, self.rows = self.both, self.rows + count
        if old is not None:
            self.both = self._buffer(old[0].transpose(1, 2))
            self.both[:, : old.shape[1]] = old

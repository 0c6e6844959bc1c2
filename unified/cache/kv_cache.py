"""Keys and values of what has been read, in buffers allocated once and grown by half.

`KVCache` is a `transformers` cache, so any decoder of that library writes into it; the published transformers
use it through the same `update`. Concatenating at every step, as the usual dynamic cache does, copies
everything that was ever said for each token said.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin


class _Block:
    """Memory for the first buffers of all layers at once: one large block goes back to the system when it is
    freed, where many small ones stay with the process."""

    def __init__(self, layers: int) -> None:
        self.layers, self.taken = layers, 0
        self.memory: Tensor | None = None

    def take(self, like: Tensor, capacity: int) -> Tensor:
        """Keys and values [2, B, H, capacity, D] of one more layer."""
        rows, heads, _, width = like.shape
        if self.memory is None and self.taken == 0:
            self.memory = like.new_empty(self.layers, 2, rows, heads, capacity, width)
        shape, where = (2, rows, heads, capacity, width), (like.dtype, like.device)
        memory, self.taken = self.memory, self.taken + 1
        if self.taken >= self.layers:
            self.memory = None  # from here on its layers alone hold it
        if memory is None or memory.shape[1:] != shape or (memory.dtype, memory.device) != where:
            return like.new_empty(shape)  # a layer of its own kind
        return memory[self.taken - 1]


class BufferLayer(CacheLayerMixin):
    """One layer's keys and values: the first `length` slots of a buffer [B, H, capacity, D]."""

    is_sliding = False
    is_croppable = True
    keys: Tensor
    values: Tensor

    def __init__(self, capacity: int, block: _Block) -> None:
        super().__init__()
        self.capacity, self.length, self.block = capacity, 0, block

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.keys, self.values = self.block.take(key_states, self.capacity)
        self.dtype, self.device = key_states.dtype, key_states.device
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Append [B, H, n, D] and return all keys and values so far [B, H, length, D]."""
        end = self.length + key_states.shape[-2]
        if not self.is_initialized:
            self.capacity = max(self.capacity, end)
            self.lazy_initialization(key_states, value_states)
        elif end > self.capacity:
            self._grow(max(end, self.capacity + self.capacity // 2))
        self.keys[:, :, self.length : end] = key_states
        self.values[:, :, self.length : end] = value_states
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def _buffer(self, like: Tensor) -> Tensor:
        rows, heads, _, width = like.shape
        return like.new_empty(rows, heads, self.capacity, width)

    def _grow(self, capacity: int) -> None:
        self.capacity = capacity
        for name in ("keys", "values"):
            old = getattr(self, name)
            new = self._buffer(old)
            new[:, :, : self.length] = old[:, :, : self.length]
            setattr(self, name, new)

    def keep(self, slots: Tensor) -> None:
        """Keep only these slots (ascending), in order."""
        if not self.is_initialized or len(slots) == 0 or int(slots[-1]) == len(slots) - 1:
            self.length = len(slots)  # a prefix: nothing moves
            return
        self.keys[:, :, : len(slots)] = self.keys[:, :, slots]
        self.values[:, :, : len(slots)] = self.values[:, :, slots]
        self.length = len(slots)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.length + query_length, 0

    def get_seq_length(self) -> int:
        return self.length

    def get_max_length(self) -> int:
        return -1


class KVCache(Cache):
    """Keys and values of all layers, for a batch of rows that share slot numbers.

    `capacity` is the number of slots to allocate at first; more are added when needed."""

    def __init__(self, layers: int, capacity: int = 256) -> None:
        block = _Block(layers)
        self.buffers = [BufferLayer(capacity, block) for _ in range(layers)]
        super().__init__(layers=list(self.buffers))

    @property
    def length(self) -> int:
        return self.buffers[0].length

    def truncate(self, length: int) -> None:
        """Forget every slot from `length` on."""
        if not 0 <= length <= self.length:
            raise ValueError(f"cannot truncate a cache of {self.length} slots to {length}")
        for layer in self.buffers:
            layer.length = min(layer.length, length)  # after half a pass later layers are behind

    def keep(self, slots: Tensor) -> None:
        for layer in self.buffers:
            layer.keep(slots)

    def stack(self, below: KVCache, room: int = 0) -> KVCache:
        """A new cache whose rows are this cache's and then those of `below`, with room for more slots; the
        shorter is padded on the left with zeros (those slots must be masked)."""
        length = max(self.length, below.length)
        stacked = KVCache(len(self.buffers), length + room)
        for mine, other, new in zip(self.buffers, below.buffers, stacked.buffers, strict=True):
            if mine.is_initialized and other.is_initialized:
                keys = torch.cat([_padded(mine, "keys", length), _padded(other, "keys", length)])
                values = torch.cat([_padded(mine, "values", length), _padded(other, "values", length)])
                new.update(keys, values)
        return stacked

    def first(self, rows: int) -> KVCache:
        """A copy of the first rows."""
        part = KVCache(len(self.buffers), self.length)
        for mine, new in zip(self.buffers, part.buffers, strict=True):
            if mine.is_initialized:
                new.update(mine.keys[:rows, :, : mine.length], mine.values[:rows, :, : mine.length])
        return part

    def nbytes(self) -> int:
        """Bytes held by the slots in use."""
        used = [layer for layer in self.buffers if layer.is_initialized]
        return sum(2 * layer.keys[:, :, : layer.length].numel() * layer.keys.element_size() for layer in used)


def _padded(layer: BufferLayer, name: str, length: int) -> Tensor:
    used = getattr(layer, name)[:, :, : layer.length]
    return torch.nn.functional.pad(used, (0, 0, length - layer.length, 0))
